-- SPDX-License-Identifier: MIT
--- config: the configuration file, which is Lua and returns a table.
--
--     return {
--         softhsm = "/opt/softhsm/libsofthsm2.so",      -- the library of soft HSMs
--         hsms = {
--             { name = "vault", serial = "496771", module = "/usr/lib/libvendor.so",
--               env = { VENDOR_CONF = "/etc/vendor.conf" }, engine = "wrap" },
--         },
--         defaults = { onerror = "stop" },
--         roles = {
--             admin = { users = { "root" }, groups = { "hsm" } },
--             operator = { groups = { "backup" } },
--         },
--     }
--
-- `env` is in force while the module is loaded and C_Initialize runs, and not later: what a
-- module reads later (NSS: NSS_MAX_MP_PBE_ITERATION_COUNT) is to be set for keyferry itself.
--
-- What else an entry of `hsms` takes: `init_args`, the pReserved of C_Initialize (NSS);
-- `functions`, the symbol that gives the function list, when it is another than
-- C_GetFunctionList (FC_GetFunctionList: NSS in FIPS mode); `slots`, a list of the slots that
-- belong to it: numbers, and tables of globs, as { label = "prod-*" } (label, serial,
-- description, manufacturer), of which all must match; `private_copy`, so that the library is
-- there once for each entry. Entries of the same module, env, init_args and functions, and no
-- private_copy, share what is loaded.
--
-- With `roles`, a script that lists `privileges` runs for whoever has one of these roles, as
-- one of its users or through one of its groups; without them, for everybody. They are a
-- guard rail and no security boundary: who may run the program may also run another one, or
-- another configuration (`--config`). What keeps people out are the passwords, and the rights
-- to the files.
--
-- It runs in an empty environment, and not at all when others may write it.
-- @module keyferry.config

local core = require "keyferry.core"

local M = {}

local MAX_BYTES = 1024 * 1024
local MAX_STEPS = 10000000

local hsm_fields = {
    name = "string", serial = "string", module = "string", env = "table",
    init_args = "string", authentication = "string", engine = "string",
    functions = "string", slots = "table", private_copy = "boolean", challenge = "boolean",
}

local fields = {
    softhsm = "string", system = "boolean", hsms = "table", defaults = "table",
    roles = "table",
}

local default_fields = { engine = "string", onerror = "string" }

local role_fields = { users = "table", groups = "table" }

local choices = { engine = core.engines(), onerror = { "continue", "stop" },
                  authentication = { "password", "ped" } }

local function refuse(path, what)
    return nil, core.error{
        code = "KFR_ARGUMENT", what = path .. ": " .. what,
        hint = "mend the configuration file; README.md says what may stand in it",
    }
end

-- What is wrong with the table, or nil.
local function complaint(value, allowed, name)
    if type(value) ~= "table" then
        return name .. " is not a table"
    end
    for key, item in pairs(value) do
        if not allowed[key] then
            return ("%s has no field '%s'"):format(name, tostring(key))
        elseif type(item) ~= allowed[key] then
            return ("%s.%s must be a %s"):format(name, key, allowed[key])
        end
    end
    return nil
end

-- A word that is none of those there are, or nil.
local function choice_complaint(value, name)
    for field, words in pairs(choices) do
        local known = value[field] == nil
        for _, word in ipairs(words) do
            known = known or word == value[field]
        end
        if not known then
            return ("%s.%s is one of %s"):format(name, field, table.concat(words, ", "))
        end
    end
    return nil
end

local slot_fields = { label = "string", serial = "string", description = "string",
                      manufacturer = "string" }

local function slots_complaint(hsm)
    local slots, of = hsm.slots, ("slots of '%s'"):format(tostring(hsm.name))
    for key, slot in pairs(slots or {}) do
        local what
        if math.type(key) ~= "integer" or key < 1 or key > #slots then
            what = of .. " is a list"
        elseif type(slot) == "table" then
            what = complaint(slot, slot_fields, "a table in " .. of)
                or not next(slot) and ("a table in %s is empty"):format(of)
        elseif math.type(slot) ~= "integer" or slot < 0 then
            what = of .. " takes slot numbers and tables"
        end
        if what then
            return what
        end
    end
    return slots and #slots == 0 and of .. " names none" or nil
end

local function hsm_complaint(hsm, seen)
    local what = complaint(hsm, hsm_fields, "an entry of hsms")
    if what then
        return what
    elseif not hsm.name or not hsm.module then
        return "an entry of hsms needs a name and a module"
    elseif seen[hsm.name] then
        return ("two entries of hsms have the name '%s'"):format(hsm.name)
    end
    what = choice_complaint(hsm, "an entry of hsms") or slots_complaint(hsm)
    if what then
        return what
    end
    for name, value in pairs(hsm.env or {}) do
        if type(name) ~= "string" or (type(value) ~= "string" and value ~= false) then
            return ("env of '%s' takes names with strings or false"):format(hsm.name)
        end
    end
    seen[hsm.name] = true
    return nil
end

-- Whether a table is a list of names, which may be empty.
local function is_list_of_names(value)
    for key, name in pairs(value) do
        if math.type(key) ~= "integer" or key < 1 or key > #value or type(name) ~= "string"
            or name == "" then
            return false
        end
    end
    return true
end

local function role_complaint(name, role)
    if type(name) ~= "string" or not name:find("^[%w_-]+$") then
        return "roles takes names, as in roles = { admin = { users = { \"root\" } } }"
    end
    local what = complaint(role, role_fields, "roles." .. name)
    local named = 0
    for _, field in ipairs{ "users", "groups" } do
        local list = not what and role[field] or {}
        if not is_list_of_names(list) then
            return ("roles.%s.%s is a list of names"):format(name, field)
        end
        named = named + #list
    end
    return what or named == 0 and ("roles.%s has no users and no groups"):format(name) or nil
end

local function roles_complaint(roles)
    local names = {}
    for name in pairs(roles) do
        names[#names + 1] = name
    end
    table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
    for _, name in ipairs(names) do
        local what = role_complaint(name, roles[name])
        if what then
            return what
        end
    end
    return #names == 0 and "roles names no role; without it everybody may run everything" or nil
end

local function config_complaint(config)
    local what = complaint(config, fields, "the configuration")
    if not what and config.defaults then
        what = complaint(config.defaults, default_fields, "defaults")
            or choice_complaint(config.defaults, "defaults")
    end
    if not what and config.roles then
        what = roles_complaint(config.roles)
    end
    if what then
        return what
    end
    local hsms, seen = config.hsms or {}, {}
    for key in pairs(hsms) do
        if math.type(key) ~= "integer" or key < 1 or key > #hsms then
            return "hsms is a list: its entries have no names before them"
        end
    end
    for _, hsm in ipairs(hsms) do
        what = what or hsm_complaint(hsm, seen)
    end
    return what
end

-- Runs a chunk that may not run for ever.
local function run(chunk)
    local thread = coroutine.create(chunk)
    debug.sethook(thread, function() error("it does not come to an end", 0) end, "",
                  MAX_STEPS)
    local ok, value = coroutine.resume(thread)
    debug.sethook(thread)
    if ok and coroutine.status(thread) ~= "dead" then
        return false, "it must return a table"
    end
    return ok, value
end

--- Reads a configuration file.
-- @string path
-- @treturn[1] table the configuration, checked
-- @treturn[2] nil
-- @treturn[2] err KFR_NOT_FOUND, KFR_REFUSED (others may write it), KFR_ARGUMENT
function M.read(path)
    local ok, err = core.file.trusted(path)
    if not ok then
        return nil, err
    end
    local text
    text, err = core.file.read(path, MAX_BYTES)
    if not text then
        err.hint = err.hint or "name a configuration file that this user can read"
        return nil, err
    end
    local chunk, message = load(text, "@" .. path, "t", {})
    if not chunk then
        return refuse(path, message)
    end
    local done, config = run(chunk)
    if not done then
        return refuse(path, tostring(config))
    end
    local what = config_complaint(config)
    if what then
        return refuse(path, what)
    end
    return config
end

--- Where the configuration is when nobody says: $XDG_CONFIG_HOME/keyferry/config.lua.
-- @treturn string
function M.default_path()
    local base = os.getenv("XDG_CONFIG_HOME")
    if not base or base:sub(1, 1) ~= "/" then
        base = (os.getenv("HOME") or "") .. "/.config"
    end
    return base .. "/keyferry/config.lua"
end

return M
