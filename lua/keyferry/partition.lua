-- SPDX-License-Identifier: MIT
--- partition: one token in an HSM.
-- @classmod keyferry.partition

local authentication = require "keyferry.authentication"
local core = require "keyferry.core"
local identity = require "keyferry.hsm.identity"

local Partition = {}
Partition.__index = Partition

--- A partition's fields.
-- @table partition
-- @tfield hsm hsm the HSM it is in
-- @tfield string label
-- @tfield string serial the token's serial number
-- @tfield int slot the number of its slot
-- @tfield token token the token as it was when the partition was listed; hsm:refresh reads it again
-- @tfield string uri its PKCS#11 URI (RFC 7512), which keyferry.partition takes
-- @tfield ?boolean is_repeated another token of the HSM has the same names: its slot is in the URI

-- What its URI says. The slot only where nothing else tells it from another token.
local function uri_fields(partition)
    return {
        token = partition.label, serial = partition.serial, model = partition.token.model,
        manufacturer = partition.token.manufacturer,
        slot_id = partition.is_repeated and partition.slot or nil,
    }
end

--- Made by an HSM; see hsm:partitions().
-- @local
-- @tparam table hsm
-- @tparam table token as module:slots() gives it
-- @bool[opt] is_repeated another token of the HSM has the same names
-- @treturn partition with fields hsm, label, serial, slot, token, uri
function Partition.new(hsm, token, is_repeated)
    local self = setmetatable({
        hsm = hsm, token = token, label = token.label, serial = token.serial,
        slot = token.slot, is_repeated = is_repeated,
    }, Partition)
    self.uri = core.uri_format(uri_fields(self))
    return self
end

--- A URI that no other partition has, also where two HSMs have tokens of the same names: with
-- its slot, and with the name of its HSM as module-name.
-- @treturn string
function Partition:exact_uri()
    local fields = uri_fields(self)
    fields.slot_id, fields.module_name = self.slot, self.hsm.name
    return core.uri_format(fields)
end

function Partition:__tostring()
    return ('partition "%s" (serial %s) on HSM "%s"'):format(self.label, self.serial,
                                                             self.hsm.name)
end

--- Whether a parsed PKCS#11 URI names this partition (RFC 7512: what it leaves out matches).
-- @tparam table uri any of token, serial, model, manufacturer, slot_id, module_name (the HSM's
--   name, or its library's: "softhsm2" of libsofthsm2.so)
-- @treturn boolean
function Partition:matches(uri)
    local mine = {
        token = self.label, serial = self.serial, model = self.token.model,
        manufacturer = self.token.manufacturer, slot_id = self.slot,
    }
    for name, value in pairs(mine) do
        if uri[name] ~= nil and uri[name] ~= value then
            return false
        end
    end
    local library = (self.hsm.module_path or ""):match("([^/]*)$"):gsub("%.so.*$", "")
    return uri.module_name == nil or uri.module_name == self.hsm.name
        or uri.module_name == library or "lib" .. uri.module_name == library
end

for name, method in pairs(authentication) do
    Partition[name] = method
end

-- The password or key that was not given: asked for where somebody is there to ask.
local function ask(partition)
    if not (partition:takes_password() or partition:takes_keys()) or not partition.hsm.ask then
        return true, nil
    end
    local password, err = partition.hsm.ask(partition)
    return password and true, password or err
end

local function check_options(name, options)
    for field in pairs(options or {}) do
        if field ~= "writable" then
            error(("%s has no option '%s'"):format(name, tostring(field)), 3)
        end
    end
end

--- Opens a session and logs in as the Crypto Officer.
-- @tparam ?secret password nil: by the protected authentication path, else what the `ask` of
--   keyferry.configure gives; of a partition that takes PED keys what keyferry.ped makes of its
--   black key
-- @tparam[opt] table options `writable`: a read/write session
-- @treturn[1] session
-- @treturn[2] nil
-- @treturn[2] err CKR_PIN_INCORRECT, CKR_PIN_LOCKED, ...
-- @usage
-- local there <close> = assert(partition:login(password))
-- print(there:user(), there:is_writable())  --> user	false
function Partition:login(password, options)
    if type(password) == "string" then
        error("login takes a secret: keyferry.secret(\"...\")", 2)
    end
    check_options("login", options)
    local session, err = self:open(options)
    if not session then
        return nil, err
    end
    local ok = true
    if not password then
        ok, err = ask(self)
        password = err
    end
    if ok then
        self:attend(password, "user")
        ok, err = session:login(password, "user")
        err = not ok and self:explain(err, password, "user") or nil
    end
    if not ok then
        session:close()
        return nil, err
    end
    return session
end

--- Opens a session without logging in.
-- @tparam[opt] table options `writable`
-- @treturn[1] session
-- @treturn[2] nil
-- @treturn[2] err
function Partition:open(options)
    check_options("open", options)
    if options and options.writable and self.token.write_protected then
        return nil, core.error{
            code = "CKR_TOKEN_WRITE_PROTECTED", call = "C_GetTokenInfo",
            what = tostring(self) .. " cannot be written",
            hint = "take the write protection off with the HSM's own tool",
        }
    end
    local module, err = self.hsm:module()
    if not module then
        return nil, err
    end
    return module:session(self.slot, { writable = options and options.writable or false })
end

--- What the partition is the unfinished backup of: session:unfinished, without a login.
-- @treturn[1] ?string nil: it is none
-- @treturn[2] nil
-- @treturn[2] err it cannot be told
function Partition:unfinished()
    local session <close>, err = self:open()
    if not session then
        return nil, err
    end
    return session:unfinished()
end

--- The PKCS#11 URI of an object in this partition.
-- @tparam object object
-- @treturn string
-- @usage
-- print(partition:object_uri(key):match("object=[%w-]+"))  --> object=kek
function Partition:object_uri(object)
    local id = object.id
    local fields = uri_fields(self)
    fields.object, fields.type = object.label, object.class
    fields.id = id ~= "" and id or nil
    return core.uri_format(fields)
end

--- Whether its HSM itself keeps the cloning domain, where no program can name it (Luna).
-- @tparam[opt] partition other whether the HSM clones from one to the other under it, so that
--   no domain is to be given
-- @treturn boolean
function Partition:domain_in_hardware(other)
    local module = self.hsm:module()
    if not module or not core.domain_in_hardware(module) then
        return false
    end
    return other == nil or other.hsm:module() == module
end

--- Whether two partitions are one token.
-- @tparam partition other
-- @treturn boolean
function Partition:is_same(other)
    return identity.is_same(self, other)
end

return Partition
