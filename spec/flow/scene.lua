-- SPDX-License-Identifier: MIT
-- scene: a production HSM and a backup HSM in a home of their own, and the program that is
-- run on them as people run it.
--
--   local s = scene.new()                 -- "payments" on prod; vault is empty
--   local s = scene.new("backed")         -- ... and a backup of it, "backup", on vault
--   local done = s:backup { "-add" }      -- partition, tokenpar, serial given; secrets in env
--   s:source():user_contents()            -- what a token holds, our domain keys left out
--
--   local s = scene.new("open")           -- ... and four keys that C_WrapKey takes, not in it
--   local s = scene.new("awkward")        -- as new, with all that is hard to clone in "payments"
--
-- A scene is a copy of one made before: partitions cost a scrypt each.
local awkward = require("support.awkward")
local build = require("support.build")
local liar = require("support.liar")
local process = require("support.process")
local shell = require("support.shell")
local softhsm = require("support.softhsm")
local store = require("support.store")
local tmp = require("support.tmp")
local zoo = require("support.zoo")

local M = {
  password = "user pin 7", tokenpw = "token pin 8", sopw = "token so 9",
  domain = "river of stones", serial = "496771",
}
local Scene = {}
Scene.__index = Scene

local CKA_LABEL, CKA_VALUE, CKA_ID = 0x3, 0x11, 0x102
M.CKA_LABEL, M.CKA_VALUE, M.CKA_ID = CKA_LABEL, CKA_VALUE, CKA_ID

-- Everything a user's source would hold, from keys nobody may take out to a note.
local make = [[
local secret = keyferry.secret
local domain = assert(keyferry.domain(secret(%q)))
local prod = assert(keyferry.create_hsm{ name = "prod", serial = "100001" })
assert(keyferry.create_hsm{ name = "vault", serial = %q })
local pin = secret(%q)
local partition = assert(prod:create_partition{ label = "payments", password = pin,
  so_password = secret("prod so pin"), domain = domain })
local session <close> = assert(partition:login(pin, { writable = true }))
local safe = { token = true, private = true, sensitive = true, extractable = false }
local function with(more)
  for name, value in pairs(safe) do
    if more[name] == nil then more[name] = value end
  end
  return more
end
assert(session:generate(with{ mechanism = "aes_key_gen", value_len = 32, label = "kek",
  id = "\1", encrypt = true, decrypt = true, wrap = true, unwrap = true }))
assert(session:generate_pair{ mechanism = "ec_key_pair_gen",
  public = { label = "sign", id = "\2", token = true, verify = true,
    ec_params = "\6\8\42\134\72\206\61\3\1\7" },
  private = with{ label = "sign", id = "\2", sign = true } })
assert(session:create(with{ class = "secret_key", key_type = "generic_secret",
  label = "mac", id = "\4", value = ("m"):rep(32), sign = true, verify = true,
  extractable = true }))
assert(session:create{ class = "data", label = "note", value = "the safe is behind the picture",
  application = "spec", token = true, private = true })
]]

local function program(home, command)
  local all = { build.keyferry, "--home", home }
  table.move(command, 1, #command, #all + 1, all)
  all.env = { KEYFERRY_PASSWORD = false, KEYFERRY_TOKENPW = false, KEYFERRY_TOKENSOPWD = false,
    KEYFERRY_DOMAIN = false, SOFTHSM2_CONF = "/nonexistent",
    HOME = home, XDG_CONFIG_HOME = home .. "/config", XDG_DATA_HOME = false }
  for name, value in pairs(command.env or {}) do all.env[name] = value end
  all.input, all.timeout, all.cwd = command.input, command.timeout, command.cwd
  all.width, all.height = command.width, command.height
  return all
end

local templates = {}

local function fresh()
  local home = tmp.memory("home")
  process.must(program(home, { "-e", make:format(M.domain, M.serial, M.password) }))
  local self = setmetatable({ home = home }, Scene)
  self:source():rsa("tls-web", "03")
  return home
end

-- hsm.json and softhsm2.conf name their folder by its whole path.
local function move(home, from)
  for _, name in ipairs { "prod", "vault" } do
    local dir = ("%s/hsms/%s"):format(home, name)
    shell.write(dir .. "/hsm.json", ('{"name":%q,"serial":%q,"path":%q}'):format(name,
      name == "vault" and M.serial or "100001", dir))
    local conf = shell.read(dir .. "/softhsm2.conf")
    local at, last = conf:find(from, 1, true)
    shell.write(dir .. "/softhsm2.conf", conf:sub(1, at - 1) .. home .. conf:sub(last + 1))
  end
end

local function copy(from)
  local home = tmp.memory("home")
  process.must { "cp", "-a", from .. "/.", home }
  move(home, from)
  return home
end

local builders = {
  fresh = fresh,
  backed = function()
    local self = M.new()
    local done = self:backup {}
    assert(done.status == 0, done.out .. done.err)
    return self.home
  end,
  open = function()
    local self = M.new("backed")
    self:inside("payments", [[
      for i = 1, 4 do
        assert(session:create{ class = "secret_key", key_type = "generic_secret", sign = true,
          label = "open " .. i, id = string.pack(">I2", i), verify = true, token = true,
          value = ("%032d"):format(i), private = true, sensitive = true, extractable = true })
      end]])
    return self.home
  end,
  awkward = function()
    local self = M.new()
    local token = self:source()
    awkward.stock(zoo.session(token))
    zoo.close(token)
    awkward.bend(token)
    awkward.damage(token)
    return self.home
  end,
}

function M.new(kind)
  kind = kind or "fresh"
  templates[kind] = templates[kind] or builders[kind]()
  return setmetatable({ home = copy(templates[kind]) }, Scene)
end

-- The same once more, as it is now, for one test to spoil.
function Scene:copy()
  return setmetatable({ home = copy(self.home) }, Scene)
end

function Scene:hsm(name)
  return softhsm.at(self.home .. "/hsms/" .. name)
end

local function only(list, what)
  assert(#list == 1, ("%d tokens %s"):format(#list, what))
  return list[1]
end

function Scene:source(label)
  return only(self:hsm("prod"):tokens(label or "payments",
    { pin = M.password, so_pin = "prod so pin" }), label or "payments")
end

function Scene:target(label)
  return only(self:hsm("vault"):tokens(label or "backup",
    { pin = M.tokenpw, so_pin = M.sopw }), label or "backup")
end

-- The secrets as a careful user gives them; `without` names those left out.
function M.secrets(without)
  local env = { KEYFERRY_PASSWORD = M.password, KEYFERRY_TOKENPW = M.tokenpw,
    KEYFERRY_TOKENSOPWD = M.sopw, KEYFERRY_DOMAIN = M.domain }
  for _, name in ipairs(without or {}) do env["KEYFERRY_" .. name] = nil end
  return env
end

-- The words of a backup (or another `verb`): options of the command in the list part; partition,
-- tokenpar, serial (false: left out), secrets, env, globals (options before the noun).
local function backup_command(self, how)
  local words = {}
  for _, word in ipairs(how.globals or {}) do table.insert(words, word) end
  table.insert(words, "partition")
  table.insert(words, how.verb or "backup")
  for _, pair in ipairs { { "partition", "payments" }, { "tokenpar", "backup" },
    { "serial", M.serial } } do
    local value = how[pair[1]]
    if value == nil then value = pair[2] end
    if value then
      table.insert(words, "-" .. pair[1])
      table.insert(words, value)
    end
  end
  table.move(how, 1, #how, #words + 1, words)
  words.env = how.secrets or M.secrets()
  for name, value in pairs(how.env or {}) do words.env[name] = value end
  words.timeout = how.timeout
  return program(self.home, words)
end

Scene.command = backup_command

function Scene:backup(how)
  return process.run(backup_command(self, how))
end

-- "backup" back into "payments": both have the domain.
function Scene:restore(how)
  how.verb, how.secrets = "restore", how.secrets or M.secrets { "DOMAIN", "TOKENSOPWD" }
  return self:backup(how)
end

function Scene:run(command)
  return process.run(program(self.home, command))
end

function Scene:program(command)
  return program(self.home, command)
end

-- Lua inside the program, to arrange things; must succeed.
function Scene:lua(code)
  return process.must(program(self.home, { "-e", code }))
end

-- Lua with `session`, a read/write session of the Crypto Officer, and `partition`.
function Scene:inside(label, code)
  local pin = #self:hsm("prod"):tokens(label) > 0 and M.password or M.tokenpw
  return self:lua(([[local partition = assert(keyferry.partition(%q))
    local session <close> = assert(partition:login(keyferry.secret(%q), { writable = true }))
    %s]]):format(label, pin, code))
end

-- Both HSMs, byte for byte; compare with Scene:changes.
function Scene:snapshot()
  return { prod = store.snapshot(self.home .. "/hsms/prod"),
    vault = store.snapshot(self.home .. "/hsms/vault") }
end

-- Puts the HSM of that name behind the module that lies (support/liar), by a configuration
-- file; gives the lying HSM, and the options to put before the noun.
function Scene:lying(name, script)
  local hsm = liar.over(self:hsm(name), script)
  local env = {}
  for key, value in pairs(hsm.env) do table.insert(env, ("%s = %q"):format(key, value)) end
  shell.write(self.home .. "/config.lua", ([[return { system = false, hsms = {
    { name = %q, serial = %q, module = %q, env = { %s } } } }]]):format(name,
    name == "vault" and M.serial or "100001", hsm.module, table.concat(env, ", ")))
  return hsm, { "--config", self.home .. "/config.lua" }
end

-- What differs since, logins aside, in "prod" or "vault" (both when nil).
function Scene:changes(before, name)
  local lines = {}
  local now = self:snapshot()
  for _, hsm in ipairs { "prod", "vault" } do
    if not name or name == hsm then
      for _, line in ipairs(store.compare(before[hsm], now[hsm], { ignore_logins = true })) do
        table.insert(lines, hsm .. ": " .. line)
      end
    end
  end
  return lines
end

-- The contents of a token without the keys of its domain: "class label id" lines and all
-- attributes. Two tokens with equal lists hold the same objects.
function M.contents(token)
  local list = {}
  local mark = ("%010x 3 encrypted %s"):format(CKA_LABEL, shell.hex("keyferry domain"))
  for _, text in ipairs(token:contents()) do
    if not text:find(mark, 1, true) then table.insert(list, text) end
  end
  return list
end

-- Sorted labels of a token's objects, the domain's left out.
function M.labels(token)
  local list = {}
  for _, object in pairs(token:objects()) do
    local label = object[CKA_LABEL] and object[CKA_LABEL].value
    if label ~= "keyferry domain" then table.insert(list, label) end
  end
  table.sort(list)
  return list
end

-- { [status] = N } of the object lines of a text report, and the lines.
function M.counts(out)
  local counts = { cloned = 0, exists = 0, failed = 0 }
  for line in out:gmatch("[^\n]+") do
    if line:find("^Object .* cloned to handle %d+ on target") then
      counts.cloned = counts.cloned + 1
    elseif line:find("^Object .* already exists on target %(handle %d+%)$") then
      counts.exists = counts.exists + 1
    elseif line:find("^Object .* not cloned: .") or line:find("^Object .* cannot be cloned: .") then
      counts.failed = counts.failed + 1
    end
  end
  return counts
end

return M
