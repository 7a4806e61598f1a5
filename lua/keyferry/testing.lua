-- SPDX-License-Identifier: MIT
--- testing: policies tested without an HSM of one's own.
--
--     local testing = require "keyferry.testing"
--     local scene <close> = testing.scene{
--         prod = { payments = { { rsa = "tls-web" }, { aes = "kek" } } },
--         vault = { serial = "496771", backup = {} },
--     }
--     local done = scene:run("my_policy.lua", { password = scene.password })
--     assert(done.status == 0 and done.result.cloned == 3)
--     assert(scene:same("payments", "backup"))
--
-- The soft HSMs of a scene are new, lie in a folder of their own and are gone when it is
-- closed. One scene is open at a time; `configure` of the library is the scene's meanwhile.
-- @module keyferry.testing

local core = require("keyferry.core")
local keyferry = require("keyferry")
local objects = require("keyferry.testing.objects")
local place = require("keyferry.testing.place")
local running = require("keyferry.testing.running")

local M = {}

local Scene = {}
Scene.__index = Scene
Scene.__name = "keyferry.testing.scene"

local PASSWORD, SO_PASSWORD, DOMAIN = "user-pin-1", "so-pin-1", "river of stones"

-- Deriving one takes half a second.
local domains = {}
local current -- the scene that is open

local function domain_of(text)
    domains[text] = domains[text] or assert(keyferry.domain(keyferry.secret(text)))
    return domains[text]
end

-- Everything is closed and the library knows the scene's HSMs only, as a new process would.
local function start_over(scene)
    keyferry.configure({ home = scene.home, config = scene.home .. "/config.lua",
        ask = function(partition) return running.password_of(partition) end })
end

local function sorted(map)
    local names = {}
    for name in pairs(map) do
        if type(name) ~= "string" then
            error("a scene is { HSM = { PARTITION = { objects } } }", 0)
        end
        names[#names + 1] = name
    end
    table.sort(names)
    return names
end

local function fill(partition, password, list)
    local session <close> = assert(partition:login(password, { writable = true }))
    for number, wanted in ipairs(list) do
        assert(objects.make(session, wanted, number))
    end
end

local function make_partition(scene, hsm, label, wanted)
    local password = wanted.password or PASSWORD
    local text = wanted.domain == nil and scene.domain or wanted.domain
    local partition = assert(hsm:create_partition({
        label = label, password = keyferry.secret(password),
        so_password = keyferry.secret(wanted.so_password or SO_PASSWORD),
        domain = text and domain_of(text) or nil,
    }))
    scene.passwords[label] = password
    fill(partition, keyferry.secret(password), wanted)
end

local function make_hsm(scene, name, wanted)
    local hsm = assert(keyferry.create_hsm({ name = name, serial = wanted.serial }))
    scene.serials[name] = hsm.serial
    for _, label in ipairs(sorted(wanted)) do
        if type(wanted[label]) == "table" then
            make_partition(scene, hsm, label, wanted[label])
        end
    end
end

local function fill_home(scene, wanted)
    local config = ("return { system = false, %s }\n"):format(wanted.config or "")
    assert(core.file.write(scene.home .. "/config.lua", config, 384))
    start_over(scene)
    for _, name in ipairs(sorted(wanted)) do
        if type(wanted[name]) == "table" then
            make_hsm(scene, name, wanted[name])
        end
    end
end

--- Makes soft HSMs.
-- @tparam table wanted by the name of each HSM a table: by the label of each partition its
--   objects (see above); `serial` of the HSM. A partition may have `password`,
--   `so_password` and `domain` (a text; false: none) beside its objects. `config`: more fields
--   of a configuration file, as text (`roles = {...}`)
-- @treturn scene with `home`, `serials` (by name) and the texts `password`, `so_password`,
--   `domain` that were used
function M.scene(wanted)
    if current then
        error("a scene is open: close it first, or keep it in a <close> variable", 2)
    end
    local scene = setmetatable({
        home = place.make(), password = PASSWORD, so_password = SO_PASSWORD, domain = DOMAIN,
        passwords = {}, serials = {},
    }, Scene)
    current = scene
    local ok, problem = pcall(fill_home, scene, wanted or {})
    if not ok then
        scene:close()
        error(problem, 0)
    end
    return scene
end

local function check_open(scene)
    if scene ~= current then
        error("this scene is closed", 3)
    end
end

--- Runs a policy as `keyferry run` does, in this process, with nobody at a terminal. All
-- sessions are closed before and after.
-- @param policy the path of its file, or its table
-- @tparam[opt] table options its options by name; secrets as text
-- @tparam[opt] table how `answers`: what is said to a question, by a part of it
--   (`{ ["password for"] = "1234" }`; an array of texts is used up one by one), or
--   function(question) -> text (to the question for a share its words, or the path of its file;
--   to one that is shown, by its title, "yes": it has been written down, or "no"); `env`:
--   variables for secrets,
--   `{ KEYFERRY_PASSWORD = "1234" }`; `quiet`
-- @treturn table `status`, `out` and `err` (texts), `events` (of --json), `result` (the last
--   of them), `asked` (the questions), `pauses` (seconds; nobody waited)
function Scene:run(policy, options, how)
    check_open(self)
    start_over(self)
    local done = running.run(function(shell, command)
        return command.policy(shell, policy, options or {})
    end, how)
    start_over(self)
    return done
end

--- Runs a command, stock or own, such as "partition backup"; see scene:run.
-- @string name
-- @tparam[opt] table options
-- @tparam[opt] table how
-- @treturn table as scene:run gives it
function Scene:command(name, options, how)
    check_open(self)
    start_over(self)
    local done = running.run(function(shell, command)
        return command.call(shell, name, options or {})
    end, how)
    start_over(self)
    return done
end

--- A partition, by its label; it has to be there.
-- @string label
-- @treturn partition
function Scene:partition(label)
    check_open(self)
    return assert(keyferry.partition(label))
end

--- A writable session with a partition, open until the next run.
-- @string label
-- @string[opt] password of a partition that the policy made
-- @treturn session
function Scene:session(label, password)
    password = password or self.passwords[label] or self.password
    return assert(self:partition(label):login(keyferry.secret(password), { writable = true }))
end

--- The objects of a partition.
-- @string label
-- @tparam[opt] table filter as session:find takes it, `{ class = "private_key" }`
-- @treturn table array of objects
function Scene:objects(label, filter)
    return assert(self:session(label):find(filter))
end

--- Their labels, sorted; a pair is two objects.
-- @string label
-- @tparam[opt] table filter
-- @treturn table
function Scene:labels(label, filter)
    local list = {}
    for i, object in ipairs(self:objects(label, filter)) do
        list[i] = object.label or ""
    end
    table.sort(list)
    return list
end

--- The one object that a filter finds.
-- @string label
-- @param filter a table, or the label of the object
-- @treturn object
function Scene:object(label, filter)
    local found = self:objects(label, type(filter) == "string" and { label = filter } or filter)
    if #found ~= 1 then
        error(('%d objects of "%s" are so, not one'):format(#found, label), 2)
    end
    return found[1]
end

-- Two objects of two partitions: keys by a challenge, the rest by its value.
local function is_same(a, b)
    if a.class ~= b.class or a.label ~= b.label or a.id ~= b.id then
        return false
    elseif a.class == "data" or a.class == "certificate" then
        return a.value == b.value
    end
    return assert(keyferry.challenge(a, b) ~= nil, "keys that cannot be compared")
        and keyferry.challenge(a, b)
end

--- Whether every object of one partition has its like in another one: same class, label, id,
-- and for a key the proof that both are the same one (keyferry.challenge).
-- @string from
-- @string to
-- @tparam[opt] table filter which objects of the first
-- @treturn boolean
-- @treturn ?object the first one that has none
function Scene:same(from, to, filter)
    local there = self:objects(to)
    for _, object in ipairs(self:objects(from, filter)) do
        local found = false
        for _, other in ipairs(there) do
            found = found or is_same(object, other)
        end
        if not found then
            return false, object
        end
    end
    return true
end

--- Closes every session and removes the folder.
function Scene:close()
    if self == current then
        current = nil
        keyferry.configure({})
        assert(core.file.remove_tree(self.home))
    end
end

Scene.__close, Scene.__gc = Scene.close, Scene.close

return M
