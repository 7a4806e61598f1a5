-- SPDX-License-Identifier: MIT
--- hsm: a PKCS#11 module with its settings, known by a name and a serial number.
--
-- A soft HSM is a folder (softhsm2.conf and a token store); each gets a private copy of the
-- library's image, so that several are open in one process at once.
-- @classmod keyferry.hsm

local check = require "keyferry.hsm.check"
local core = require "keyferry.core"
local guard = require "keyferry.guard"
local identity = require "keyferry.hsm.identity"
local loading = require "keyferry.hsm.loading"
local making = require "keyferry.hsm.making"
local Partition = require "keyferry.partition"

local Hsm = {}
Hsm.__index = Hsm

-- Its label, serial number and flags alone are more than this in a token.object.
local SMALLEST_TOKEN = 128

local function fail(code, what, hint)
    return nil, core.error{ code = code, what = what, hint = hint }
end

--- An HSM's fields.
-- @table hsm
-- @tfield string name how it is called: `keyferry.hsm "backup"`
-- @tfield[opt] string serial nil when nobody gave it one (the system's SoftHSM)
-- @tfield string kind "soft" (a folder with a SoftHSM store) or "module" (of the configuration)
-- @tfield string module_path the PKCS#11 library
-- @tfield[opt] string path the folder of a soft HSM
-- @tfield[opt] string conf the softhsm2.conf, when it is a SoftHSM
-- @tfield[opt] table env what the library finds in its environment: names to strings, or false
-- @tfield[opt] string init_args pReserved of C_Initialize
-- @tfield[opt] string functions the symbol of the library that gives its function list
-- @tfield[opt] table slots_wanted the slots of the module that belong to it: the configuration's
-- @tfield[opt] boolean private_copy each such HSM has its own copy of the library in memory
-- @tfield[opt] string engine how it is worked, when the configuration says
-- @tfield[opt] string authentication "ped": its secrets are PED keys; "password" or nil: text, but
--   for a token that has a protected authentication path
-- @tfield[opt] string blue_check the check value of the blue key of a soft HSM with PED keys
-- @tfield[opt] boolean challenge the Crypto Officers behind its PED have challenges, which are
--   given as passwords
-- @tfield[opt] function ask what keyferry.configure was given
-- @tfield[opt] function attend what keyferry.configure was given
-- @tfield[opt] module loaded the module, as long as it is loaded

--- Made by the library from the configuration and the home.
-- @local
-- @tparam table fields see the table above
-- @treturn hsm
function Hsm.new(fields)
    return setmetatable(fields, Hsm)
end

function Hsm:__tostring()
    return ('HSM "%s" (serial %s)'):format(self.name, self.serial or "unknown")
end

-- SoftHSM goes to the system's store when its configuration names none, and ends the whole
-- program at an object file with an absurd length in it: both are seen to before it starts.
local function check_store(hsm)
    if not hsm.conf then
        return true
    end
    local conf, err = core.softhsm.configuration(hsm.conf)
    if not conf then
        return fail(err.code == "KFR_ARGUMENT" and "KFR_STORE" or err.code, err.what,
                    "restore the HSM's softhsm2.conf, or correct its SOFTHSM2_CONF")
    elseif hsm.kind == "soft" and hsm.serial and not conf.names_tokendir then
        return fail("KFR_STORE", hsm.conf .. " names no directories.tokendir",
                    "restore the file; 'keyferry hsm env' shows where each soft HSM is")
    end
    return core.softhsm.check(hsm.conf)
end

--- The module, loaded at the first call.
-- @treturn[1] module
-- @treturn[2] nil
-- @treturn[2] err
function Hsm:module()
    if self.loaded then
        return self.loaded
    end
    local module
    local ok, err = check_store(self)
    if ok then
        module, err = loading.load(self)
    end
    if not module then
        err.what = ('HSM "%s": %s'):format(self.name, err.what)
        return nil, err
    end
    self.loaded = module
    return module
end

--- Unloads the module; sessions with it are closed. The next call loads it again. A module that
-- another HSM of the same library uses, too, stays until that one is closed.
function Hsm:close()
    local module = self.loaded
    self.loaded = nil
    if module then
        loading.unload(self, module)
    end
end

--- What its module is known to do otherwise than PKCS#11 says: module:quirks.
-- @string name
-- @treturn ?string the reason; nil: it is not known to
function Hsm:quirk(name)
    local module = self:module()
    for _, quirk in ipairs(module and module:quirks() or {}) do
        if quirk.name == name then
            return quirk.reason
        end
    end
end

--- What the module says of itself.
-- @treturn[1] table as module:info() gives it
-- @treturn[2] nil
-- @treturn[2] err
function Hsm:info()
    local module, err = self:module()
    if not module then
        return nil, err
    end
    return module:info()
end

--- The mechanisms of a slot (the first one when none is given).
-- @int[opt] slot
-- @treturn[1] table as module:mechanisms() gives it
-- @treturn[2] nil
-- @treturn[2] err
function Hsm:mechanisms(slot)
    local module, err = self:module()
    if not module then
        return nil, err
    end
    if not slot then
        local slots
        slots, err = self:slots()
        if not slots then
            return nil, err
        elseif #slots == 0 then
            return fail("KFR_NOT_FOUND", ('HSM "%s" has no slot'):format(self.name))
        end
        slot = slots[1].slot
    end
    return module:mechanisms(slot)
end

--- The environment in which other programs use a soft HSM.
-- @treturn table names to strings
function Hsm:environment()
    local env = {}
    for name, value in pairs(self.env or {}) do
        env[name] = value or nil
    end
    return env
end

-- The folder of a SoftHSM token that a program was killed in the making of, before there was
-- anything in it but the begin of its description; nil: there is none.
local function begun_token(conf)
    local found = core.softhsm.configuration(conf)
    for _, name in ipairs(found and core.file.list(found.tokendir) or {}) do
        local folder = found.tokendir .. "/" .. name
        local objects = 0
        for _, file in ipairs(core.file.list(folder) or {}) do
            objects = objects + (file:find("%.object$") and 1 or 0)
        end
        local bytes = objects == 1 and core.file.read(folder .. "/token.object", 65536)
        if bytes and #bytes < SMALLEST_TOKEN then
            return folder
        end
    end
end

--- The slots, as the module lists them now. One token that cannot be read hides the others.
-- @local
-- @treturn[1] table array of token tables
-- @treturn[2] nil
-- @treturn[2] err
function Hsm:slots()
    local all, err = self:all_slots()
    return all and identity.select(all, self.slots_wanted), err
end

--- The same, with the slots that the configuration's `slots` leaves out.
-- @local
-- @treturn[1] table array of token tables
-- @treturn[2] nil
-- @treturn[2] err
function Hsm:all_slots()
    local module, slots, err
    module, err = self:module()
    if not module then
        return nil, err
    end
    slots, err = module:slots()
    local folder = not slots and self.conf and err.call == "C_GetTokenInfo"
        and begun_token(self.conf)
    if folder then
        err.what = ("%s: a program was killed while it made a token, and nothing is in it yet: %s")
            :format(folder, err.what)
        err.hint = "remove that folder, then run again"
    end
    return slots, err
end

--- The partitions: the initialised tokens.
-- @treturn[1] table array of partitions
-- @treturn[2] nil
-- @treturn[2] err
-- @usage
-- for _, one in ipairs(assert(hsm:partitions())) do
--     print(one.label, one.token.user_pin_locked)  --> payments	false
-- end
function Hsm:partitions()
    local slots, err = self:all_slots()
    if not slots then
        return nil, err
    end
    local list = {}
    for _, token in ipairs(identity.select(slots, self.slots_wanted)) do
        if token.present and token.initialized then
            list[#list + 1] = Partition.new(self, token, identity.is_repeated(token, slots))
        end
    end
    return list
end

--- The partition with that label, or the one that a PKCS#11 URI names.
-- @string name
-- @treturn[1] partition
-- @treturn[2] nil
-- @treturn[2] err KFR_NOT_FOUND, KFR_AMBIGUOUS
function Hsm:partition(name)
    guard.text(name)
    local found, err = self:find_partitions(name)
    if not found then
        return nil, err
    end
    return Hsm.one_of(found, name, ('on HSM "%s"'):format(self.name))
end

--- All partitions that a label or a PKCS#11 URI names.
-- @string name
-- @treturn[1] table array of partitions, which may be empty
-- @treturn[2] nil
-- @treturn[2] err
function Hsm:find_partitions(name)
    guard.text(name)
    local list, err = self:partitions()
    if not list then
        return nil, err
    end
    local uri
    if name:find("^pkcs11:") then
        uri, err = core.uri_parse(name)
        if not uri then
            return nil, err
        end
    end
    local found = {}
    for _, partition in ipairs(list) do
        if uri and partition:matches(uri) or not uri and partition.label == name then
            found[#found + 1] = partition
        end
    end
    return found
end

--- The only one of some partitions, or the refusal that names the candidates.
-- @local
-- @tparam table found
-- @string name what was asked for
-- @string where for the sentence
-- @treturn[1] partition
-- @treturn[2] nil
-- @treturn[2] err
function Hsm.one_of(found, name, where)
    local several = false -- one that is seen through two HSMs is one
    for i = 2, #found do
        several = several or not found[i]:is_same(found[1])
    end
    if #found >= 1 and not several then
        return found[1]
    elseif #found == 0 then
        return fail("KFR_NOT_FOUND", ('there is no partition "%s" %s'):format(name, where),
                    "'keyferry partition list' shows what there is")
    end
    local times, uris = {}, {}
    for _, partition in ipairs(found) do
        times[partition.uri] = (times[partition.uri] or 0) + 1
    end
    for i, partition in ipairs(found) do
        local uri = times[partition.uri] > 1 and partition:exact_uri() or partition.uri
        uris[i] = ('%s on HSM "%s"'):format(uri, partition.hsm.name)
    end
    return fail("KFR_AMBIGUOUS",
                ('%d partitions are named "%s": %s'):format(#found, name,
                                                            table.concat(uris, ", ")),
                "name one by its URI")
end

--- Reads a partition's token afresh.
-- @tparam partition partition
function Hsm:refresh(partition)
    local slots = self:module():slots()
    for _, token in ipairs(slots or {}) do
        if token.slot == partition.slot then
            partition.token = token
        end
    end
end

for _, methods in ipairs{ making, check } do
    for name, method in pairs(methods) do
        Hsm[name] = method
    end
end

return Hsm
