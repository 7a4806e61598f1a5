-- SPDX-License-Identifier: MIT
--- record: what an object is, but for its key, so that it can be written down and compared.
--
-- A record is a table of attributes by name, "CKA_LABEL"; `unread` is an array of the names
-- of those that the object has and the token would not give. Key material is in none, nor is
-- the value of a data object, which may be somebody's secret: endpoint:digest tells those.
-- @module keyferry.record

local core = require "keyferry.core"
local hex = require "keyferry.hex"

local M = {}

-- Two objects never share these; a handle is none of the attributes.
local OWN = { CKA_UNIQUE_ID = true, CKA_TOKEN = true, ["CKA_0x4"] = true }

local BIG = {} -- tokens differ in whether they keep leading zeros
for _, name in ipairs{ "MODULUS", "PUBLIC_EXPONENT", "PRIME", "SUBPRIME", "BASE" } do
    BIG["CKA_" .. name] = true
end

-- What the value of a flag is that takes a right away (c/clone/change.c has the same).
local STRICTER = {
    CKA_PRIVATE = true, CKA_SENSITIVE = true, CKA_ALWAYS_AUTHENTICATE = true,
    CKA_WRAP_WITH_TRUSTED = true, CKA_EXTRACTABLE = false, CKA_ENCRYPT = false,
    CKA_DECRYPT = false, CKA_SIGN = false, CKA_SIGN_RECOVER = false, CKA_VERIFY = false,
    CKA_VERIFY_RECOVER = false, CKA_WRAP = false, CKA_UNWRAP = false, CKA_DERIVE = false,
    CKA_TRUSTED = false, CKA_MODIFIABLE = false, CKA_COPYABLE = false,
    CKA_DESTROYABLE = false,
}

-- What an object is that does not say so (PKCS#11 v2.40, 4.4).
local BY_DEFAULT = { CKA_MODIFIABLE = true, CKA_COPYABLE = true, CKA_DESTROYABLE = true }

-- An empty one allows everything.
local LIMITS = { CKA_ALLOWED_MECHANISMS = true, CKA_WRAP_TEMPLATE = true,
                 CKA_UNWRAP_TEMPLATE = true, CKA_DERIVE_TEMPLATE = true }

local names = {} -- nick -> name, as they come

local function name_of(nick)
    local name = names[nick]
    if not name then
        local number = math.type(nick) == "integer" and nick or core.value("CKA", nick)
        name = number and core.name("CKA", number) or nick
        names[nick] = name
    end
    return name
end

local canonical

local function canonical_table(value)
    local copy = {}
    if value[1] ~= nil then
        table.move(value, 1, #value, 1, copy)
        table.sort(copy)
        return copy
    end
    for nick, inner in pairs(value) do
        copy[name_of(nick)] = canonical(name_of(nick), inner)
    end
    return copy
end

function canonical(name, value)
    if type(value) == "table" then
        return canonical_table(value)
    elseif BIG[name] then
        return (value:gsub("^\0+", ""))
    end
    return value
end

local function make(attributes, unread)
    local record = { unread = unread }
    local hidden = attributes.class == "data" and "CKA_VALUE" or nil
    for nick, value in pairs(attributes) do
        local name = name_of(nick)
        if not OWN[name] and name ~= hidden then
            record[name] = canonical(name, value)
        end
    end
    return record
end

--- The record of an object.
-- @tparam object object
-- @treturn record
function M.of(object)
    return make(object:attributes(), object:unread())
end

--- The record of attributes that are written down elsewhere: the open ones of a sealed object.
-- @tparam table attributes by nick, as object:attributes() gives them
-- @treturn record
function M.of_attributes(attributes)
    return make(attributes, {})
end

-- Written down ------------------------------------------------------------------------

local LARGEST = 1 << 53 -- what every reader of JSON keeps

local function is_plain(text)
    return not text:find("^hex:") and not text:find("^int:") and not text:find("%c")
        and utf8.len(text) ~= nil
end

local encoders

local function encode_table(value)
    local copy = {}
    for key, inner in pairs(value) do
        copy[key] = encoders[type(inner)](inner)
    end
    return copy
end

encoders = {
    boolean = function(value) return value end,
    number = function(value)
        return value > -LARGEST and value < LARGEST and value or ("int:%d"):format(value)
    end,
    string = function(value)
        return is_plain(value) and value or "hex:" .. hex.of(value)
    end,
    table = encode_table,
}

--- A record as a table for JSON: nothing in it but booleans, numbers that every reader keeps,
-- texts, and tables of those. Bytes that are no text are "hex:" and their digits; a text that
-- begins so is written like that, too.
-- @tparam record record
-- @treturn table
function M.encode(record)
    return encode_table(record)
end

--- One value in the same way.
-- @param value boolean, integer, text or a table of those
-- @return what record.decode_value makes a value of again
function M.encode_value(value)
    return encoders[type(value)](value)
end

local decoders

local function decode(value)
    local decoder = decoders[type(value)]
    if not decoder then
        error(("no attribute is a %s"):format(type(value)), 0)
    end
    return decoder(value)
end

local function whole(value)
    return math.tointeger(value) or error("a whole number is expected", 0)
end

decoders = {
    boolean = function(value) return value end,
    number = whole,
    string = function(value)
        local kind, rest = value:match("^(%a+):(.*)$")
        if kind == "hex" then
            return hex.bytes(rest) or error("hex digits are expected", 0)
        elseif kind == "int" then
            return whole(tonumber(rest:match("^%-?%d+$")))
        end
        return value
    end,
    table = function(value)
        local copy = {}
        for key, inner in pairs(value) do
            copy[key] = decode(inner)
        end
        return copy
    end,
}

--- The value of one that record.encode_value has written. What is none raises.
-- @param written
-- @return value
function M.decode_value(written)
    return decode(written)
end

local function check_unread(unread)
    for key, name in pairs(unread) do
        if math.type(key) ~= "integer" or type(name) ~= "string" then
            error("what could not be read is a list of names", 0)
        end
    end
    return unread
end

--- A record from such a table. What is none raises, with a sentence and no position.
-- @tparam table written
-- @treturn record
function M.decode(written)
    if type(written) ~= "table" then
        error("a record is a table", 0)
    end
    local record = decoders.table(written)
    for name in pairs(record) do
        if type(name) ~= "string" or not name:find("^CKA_") and name ~= "unread" then
            error(("'%s' is not the name of an attribute"):format(tostring(name)), 0)
        end
    end
    record.unread = check_unread(type(record.unread) == "table" and record.unread or {})
    return record
end

-- Compared ----------------------------------------------------------------------------

local function same(a, b)
    if type(a) ~= "table" or type(b) ~= "table" then
        return a == b
    end
    for key, value in pairs(a) do
        if not same(value, b[key]) then
            return false
        end
    end
    for key in pairs(b) do
        if a[key] == nil then
            return false
        end
    end
    return true
end

--- Whether a value says nothing that a token that leaves it out would not: empty, or the
-- default.
-- @string name
-- @param value
-- @treturn boolean
function M.is_blank(name, value)
    if value == nil or value == "" or value == 0 or value == "unavailable" then
        return true
    elseif type(value) == "table" then
        return next(value) == nil
    end
    return type(value) == "boolean" and value == (BY_DEFAULT[name] or false)
end

local is_blank = M.is_blank

local function has(list, wanted)
    for _, value in ipairs(list) do
        if value == wanted then
            return true
        end
    end
    return false
end

-- Whether a list of mechanisms lets the copy do what its original may not.
local function allows_more(original, copy)
    if is_blank(nil, original) then
        return false
    end
    for _, mechanism in ipairs(copy or {}) do
        if not has(original, mechanism) then
            return true
        end
    end
    return is_blank(nil, copy)
end

local function gives_more(name, original, copy)
    local stricter = STRICTER[name]
    if name == "CKA_ALLOWED_MECHANISMS" then
        return allows_more(original, copy)
    elseif LIMITS[name] then
        return not is_blank(name, original)
    elseif stricter == nil then
        return false
    end
    if original == nil then
        original = BY_DEFAULT[name] or false
    end
    if copy == nil then
        copy = BY_DEFAULT[name] or false
    end
    return original ~= copy and original == stricter
end

local function unread_in(...)
    local skip = {}
    for _, record in ipairs{ ... } do
        for _, name in ipairs(record.unread) do
            skip[name] = true
        end
    end
    return skip
end

local function note(found, name, original, copy)
    if same(original, copy) or (original == nil or copy == nil)
        and is_blank(name, original) and is_blank(name, copy) then
        return
    end
    found[#found + 1] = { name = name, original = original, copy = copy,
                          more_rights = gives_more(name, original, copy) }
end

--- In what two records differ, by name; what either side could not read is passed over.
-- @tparam record original
-- @tparam record copy
-- @treturn table array of { name=, original=, copy=, more_rights= }; original or copy nil:
--   that one has no such attribute; more_rights: the copy may do what its original may not
function M.differences(original, copy)
    local found, skip = {}, nil
    if original.unread[1] or copy.unread[1] then
        skip = unread_in(original, copy)
    end
    for name, value in pairs(original) do
        if name ~= "unread" and not (skip and skip[name]) and value ~= copy[name] then
            note(found, name, value, copy[name])
        end
    end
    for name, value in pairs(copy) do
        if original[name] == nil and not (skip and skip[name]) then
            note(found, name, nil, value)
        end
    end
    table.sort(found, function(a, b) return a.name < b.name end)
    return found
end

return M
