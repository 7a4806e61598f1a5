-- SPDX-License-Identifier: MIT
--- keyferry: HSMs, their partitions, and backing one up to another.
--
-- A refusal by a token, a file or a policy is `nil, err`; `err` has `code`, `rv`, `call`,
-- `what`, `hint` and prints as one line. Wrong use raises. Nothing here prints, asks or
-- exits.
-- @module keyferry

local core = require "keyferry.core"
local archive = require "keyferry.archive"
local backup = require "keyferry.backup"
local config = require "keyferry.config"
local glob = require "keyferry.glob"
local guard = require "keyferry.guard"
local home = require "keyferry.home"
local Hsm = require "keyferry.hsm"
local option = require "keyferry.option"
local ped = require "keyferry.ped"
local Plan = require "keyferry.plan"
local report = require "keyferry.report"
local scratch = require "keyferry.scratch"
local send = require "keyferry.send"
local verify = require "keyferry.verify"
require "keyferry.sealing"

local M = {
    version = core.version,
    secret = core.secret,
    random_secret = core.random_secret,
    domain = core.domain,
    sealed = core.sealed,
    glob = glob,
    challenge = core.challenge,
    engines = core.engines,
    error = core.error,
    backup = backup.run,
    plan = Plan.new,
    option = option.new,
    ped = ped,
    report = report,
    send = send.run,
    verify = verify.run,
    archive = archive,
}

local DEFAULT_DOMAIN = "keyferry default domain"

local softhsm_libraries = {
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
}

-- settings: the configuration as read; hsms: the list, made once.
local state = { settings = nil, hsms = nil, home = nil, config = nil, ask = nil, attend = nil }

local function fail(code, what, hint)
    return nil, core.error{ code = code, what = what, hint = hint }
end

--- Where the soft HSMs and the configuration are. Before the first use of anything else, or
-- to start over: every open HSM is closed.
-- @tparam[opt] table options
--
--   * `home`: a folder; $KEYFERRY_HOME when left out, else keyferry below $XDG_DATA_HOME
--   * `config`: a file, which must be there; keyferry/config.lua below $XDG_CONFIG_HOME, when it
--     is there, when left out
--   * `ask`: function(partition) -> secret, or nil, err: where partition:login() has its password
--     from when none is given; of one that takes PED keys (partition:takes_keys) what
--     keyferry.ped makes of its black key
--   * `attend`: function(partition, role): called before each call that waits for an operator at
--     the PED of the HSM itself; role is "so" or "user"
--   * `traceback`: true: an error in a hook says where it came from
function M.configure(options)
    for _, hsm in ipairs(state.hsms or {}) do
        hsm:close()
    end
    options = options or {}
    state = { home = options.home, config = options.config, ask = options.ask,
              attend = options.attend }
    guard.traceback = options.traceback or false
end

local function settings()
    if state.settings then
        return state.settings
    end
    local path = state.config or config.default_path()
    if not state.config and not core.file.exists(path) then
        state.settings = {}
        return state.settings
    end
    local read, err = config.read(path)
    if not read then
        return nil, err
    end
    state.settings = read
    return read
end

--- The defaults of the configuration: its table `defaults`.
-- @treturn[1] table empty when it has none
-- @treturn[2] nil
-- @treturn[2] err
function M.defaults()
    local read, err = settings()
    if not read then
        return nil, err
    end
    return read.defaults or {}
end

--- The roles of the configuration: `{ admin = { users = {...}, groups = {...} }, ... }`.
-- @treturn[1] table|boolean false when the configuration has none: everybody may do all
-- @treturn[2] nil
-- @treturn[2] err
function M.roles()
    local read, err = settings()
    if not read then
        return nil, err
    end
    return read.roles or false
end

local function softhsm_library(read)
    if read.softhsm then
        return read.softhsm
    end
    for _, path in ipairs(softhsm_libraries) do
        if core.file.exists(path) then
            return path
        end
    end
    return softhsm_libraries[1]
end

local function soft_hsm(entry, library)
    local conf = entry.path .. "/softhsm2.conf"
    return Hsm.new{
        name = entry.name, serial = entry.serial, kind = "soft", path = entry.path,
        conf = conf, module_path = library, private_copy = true,
        env = { SOFTHSM2_CONF = conf },
        authentication = entry.authentication, blue_check = entry.blue_check,
    }
end

-- The store behind a softhsm2.conf: two copies of SoftHSM must never open the same one.
local function store_of(conf)
    local found = core.softhsm.configuration(conf)
    return found and (core.file.realpath(found.tokendir) or found.tokendir)
end

local function system_hsm(library, taken)
    local conf = core.softhsm.configuration(os.getenv("SOFTHSM2_CONF"))
    if not conf or not core.file.exists(library) then
        return nil
    end
    local store = core.file.realpath(conf.tokendir) or conf.tokendir
    if taken[store] then
        return nil
    end
    return Hsm.new{
        name = "softhsm", serial = nil, kind = "soft", path = store, conf = conf.path,
        module_path = library, private_copy = true, env = { SOFTHSM2_CONF = conf.path },
    }
end

-- The softhsm2.conf of an entry of the configuration; nil for a module that is no SoftHSM.
local function conf_of(entry)
    local value = entry.env and entry.env.SOFTHSM2_CONF
    if value or not entry.module:find("softhsm", 1, true) then
        return value or nil
    elseif value == nil then
        value = os.getenv("SOFTHSM2_CONF")
    end
    local found = core.softhsm.configuration(value or nil)
    return found and found.path
end

local function configured_hsm(entry)
    local conf = conf_of(entry)
    return Hsm.new{
        name = entry.name, serial = entry.serial, kind = "module", conf = conf,
        module_path = entry.module, env = entry.env, init_args = entry.init_args,
        functions = entry.functions, slots_wanted = entry.slots,
        authentication = entry.authentication, challenge = entry.challenge,
        engine = entry.engine,
        private_copy = entry.private_copy or conf ~= nil,
    }
end

-- The first of a name and the first of a store stays: an entry of the configuration takes the
-- place of the soft HSM that it describes. Two of one kind on one store are a mistake.
local function make_list(read, entries)
    local library = softhsm_library(read)
    local list, names, stores = {}, {}, {}
    local function add(hsm)
        local store = hsm.conf and (store_of(hsm.conf) or hsm.conf)
        local other = store and stores[store]
        if other and hsm.authentication == "ped" then -- its partitions take no passwords
            other.authentication, other.blue_check = "ped", hsm.blue_check
        end
        if names[hsm.name] or other and other.kind ~= hsm.kind then
            return true
        elseif other then
            return fail("KFR_STORE", ('the HSMs "%s" and "%s" are one token store, %s')
                        :format(other.name, hsm.name, store),
                        "take one of them away, or give each a store of its own")
        end
        hsm.ask, hsm.attend = state.ask, state.attend
        names[hsm.name] = true
        if store then
            stores[store] = hsm
        end
        list[#list + 1] = hsm
        return true
    end
    for _, entry in ipairs(read.hsms or {}) do
        local ok, err = add(configured_hsm(entry))
        if not ok then
            return nil, err
        end
    end
    for _, entry in ipairs(entries) do
        local ok, err = add(soft_hsm(entry, library))
        if not ok then
            return nil, err
        end
    end
    local system = read.system ~= false and system_hsm(library, stores)
    if system then
        add(system)
    end
    return list
end

local function home_path()
    return state.home or home.default_path()
end

--- Every HSM known: those of the configuration, the soft HSMs of the home, and the system's
-- SoftHSM as `softhsm` when it is there.
-- @treturn[1] table array of HSMs
-- @treturn[2] nil
-- @treturn[2] err
function M.hsms()
    if state.hsms then
        return state.hsms
    end
    local read, err = settings()
    if not read then
        return nil, err
    end
    local entries
    entries, err = home.list(home_path())
    if not entries then
        return nil, err
    end
    state.hsms, err = make_list(read, entries)
    return state.hsms, err
end

--- The HSM with that name, else the one with that serial number.
-- @string name
-- @treturn[1] hsm
-- @treturn[2] nil
-- @treturn[2] err KFR_NOT_FOUND, KFR_AMBIGUOUS
-- @usage
-- print(keyferry.hsm("100001"))  --> HSM "prod" (serial 100001)
-- local none, err = keyferry.hsm("prdo")
-- print(none, err.code, err)     --> nil	KFR_NOT_FOUND	there is no HSM "prdo"
function M.hsm(name)
    local list, err = M.hsms()
    if not list then
        return nil, err
    end
    for _, field in ipairs{ "name", "serial" } do
        local found = {}
        for _, hsm in ipairs(list) do
            if hsm[field] == name then
                found[#found + 1] = hsm
            end
        end
        if #found == 1 then
            return found[1]
        elseif #found > 1 then
            return fail("KFR_AMBIGUOUS", ('%d HSMs have the serial number %s')
                        :format(#found, name), "give each its own in the configuration")
        end
    end
    return fail("KFR_NOT_FOUND", ('there is no HSM "%s"'):format(name),
                "'keyferry hsm list' shows them")
end

--- The backup HSM of a serial number: the HSM that has it, else the HSM that holds the one
-- token with it.
-- @string serial
-- @treturn[1] hsm
-- @treturn[2] nil
-- @treturn[2] err
function M.backup_hsm(serial)
    local list, err = M.hsms()
    if not list then
        return nil, err
    end
    for _, hsm in ipairs(list) do
        if hsm.serial == serial then
            return M.hsm(serial)
        end
    end
    local found, trouble = {}, nil
    for _, hsm in ipairs(list) do
        local partitions, why = hsm:partitions()
        trouble = trouble or why
        for _, partition in ipairs(partitions or {}) do
            if partition.serial == serial then
                found[#found + 1] = partition
            end
        end
    end
    if #found == 0 and trouble then
        return nil, trouble
    elseif #found == 0 then
        return fail("KFR_NOT_FOUND", ("no HSM and no token has the serial number %s")
                    :format(serial), "'keyferry hsm list' and 'keyferry token list' show them")
    end
    local partition
    partition, err = Hsm.one_of(found, serial, "")
    return partition and partition.hsm, err
end

-- Adds what the HSMs of the list have by that name; troubles are collected, since an HSM
-- that cannot be opened may be the one that was meant.
local function search(list, name, found, troubles)
    for _, hsm in ipairs(list) do
        local some, err = hsm:find_partitions(name)
        for _, partition in ipairs(some or {}) do
            found[#found + 1] = partition
        end
        if not some then
            troubles[#troubles + 1] = err
        end
    end
end

--- The partition with that label, or that a PKCS#11 URI (RFC 7512) names, in any HSM.
-- @string name
-- @tparam[opt] table options `except`: an HSM that is looked into only when no other has it
-- @treturn[1] partition
-- @treturn[2] nil
-- @treturn[2] err KFR_NOT_FOUND, KFR_AMBIGUOUS (the candidates' URIs are named)
function M.partition(name, options)
    guard.text(name)
    local list, err = M.hsms()
    if not list then
        return nil, err
    end
    local except = options and options.except
    local others, found, troubles = {}, {}, {}
    for _, hsm in ipairs(list) do
        if hsm ~= except then
            others[#others + 1] = hsm
        end
    end
    search(others, name, found, troubles)
    if #found == 0 and except then
        search({ except }, name, found, troubles)
    end
    if #found == 0 and #troubles == 1 then
        return nil, troubles[1]
    elseif #found == 0 and #troubles > 1 then
        return fail("KFR_NOT_FOUND", ('there is no partition "%s" on the HSMs that can be '
                    .. 'opened; %s'):format(name, tostring(troubles[1])),
                    "'keyferry hsm list' shows the HSMs")
    end
    return Hsm.one_of(found, name, "on any HSM")
end

-- The description of a soft HSM that is to be made.
local function describe_hsm(options)
    local list, err = M.hsms()
    if not list then
        return nil, err
    end
    local taken = {}
    for _, hsm in ipairs(list) do
        if hsm.name == options.name then
            return fail("KFR_EXISTS", ('there is an HSM "%s" already'):format(options.name),
                        "choose another name; 'keyferry hsm list' shows them")
        end
        taken[hsm.serial or ""] = true
    end
    return home.describe(home_path(), options, taken)
end

--- Whether a soft HSM could be made: for a script, before it asks for a key.
-- @tparam table options as for keyferry.create_hsm
-- @treturn[1] true
-- @treturn[2] nil
-- @treturn[2] err KFR_EXISTS, KFR_ARGUMENT
-- @usage
-- print(keyferry.can_create_hsm{ name = "prod" })  --> nil	there is an HSM "prod" already
function M.can_create_hsm(options)
    local entry, err = describe_hsm(options)
    return entry and true, err
end

--- Makes a soft HSM in the home.
-- @tparam table options `name`; `serial`, chosen when left out; `path`, a folder, in the home when
--   left out; `blue_key`: what keyferry.ped makes of a blue key: its secrets are PED keys, and
--   its partitions are made with that one
-- @treturn[1] hsm
-- @treturn[2] nil
-- @treturn[2] err KFR_EXISTS, KFR_ARGUMENT, KFR_SYSTEM
-- @usage
-- local third = assert(keyferry.create_hsm{ name = "third" })
-- print(third.kind, #third.serial > 0, #assert(keyferry.hsms()))  --> soft	true	3
function M.create_hsm(options)
    local entry, err = describe_hsm(options)
    if entry and options.blue_key then
        entry.authentication = "ped"
        entry.blue_check, err = core.share.check(options.blue_key)
        entry = entry.blue_check and entry
    end
    if entry then
        entry, err = home.make(home_path(), entry)
    end
    if not entry then
        return nil, err
    end
    local hsm = soft_hsm(entry, softhsm_library(state.settings))
    hsm.ask, hsm.attend = state.ask, state.attend
    table.insert(state.hsms, hsm)
    return hsm
end
M.create_hsm = guard.whole(M.create_hsm)

--- Makes a soft HSM for a while, in no home and no list: in a folder of its own, in memory where
-- the system has such a place ($XDG_RUNTIME_DIR, /dev/shm, else $TMPDIR). It goes with
-- hsm:remove(), at the end of a `<close>` variable and with the program; what one that was
-- killed has left goes with the next.
-- @treturn[1] hsm
-- @treturn[2] nil
-- @treturn[2] err
-- @usage
-- local spare <close> = assert(keyferry.scratch_hsm())
-- print(spare.name, spare.kind, #assert(spare:partitions()))  --> scratch	soft	0
function M.scratch_hsm()
    local read, err = settings()
    if not read then
        return nil, err
    end
    return scratch.make(softhsm_library(read))
end
M.scratch_hsm = guard.whole(M.scratch_hsm)

--- Whether a new file can be put somewhere: for a script that is going to write one, before it
-- asks for anything.
-- @string path
-- @bool[opt] replace a file that is there is no reason against it
-- @treturn[1] true
-- @treturn[2] nil
-- @treturn[2] err KFR_EXISTS, KFR_ARGUMENT (a folder), KFR_NOT_FOUND (no folder to put it in),
--   KFR_SYSTEM
-- @usage
-- print(keyferry.can_create("/"))  --> nil	/ is a folder
function M.can_create(path, replace)
    guard.text(path)
    return core.file.can_create(path, replace)
end

--- The default domain, for those who have used it before. Deprecated: it is no secret.
-- @treturn[1] domain
-- @treturn[2] nil
-- @treturn[2] err
function M.default_domain()
    return core.domain(core.secret(DEFAULT_DOMAIN))
end

return M
