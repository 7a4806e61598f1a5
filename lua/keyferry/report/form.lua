-- SPDX-License-Identifier: MIT
--- The form of a report: how its JSON is written, and how its end vouches for the rest.
--
-- The bytes of a report are fixed, not only what they mean: one member a line, one object a
-- line, names in a fixed order. So two reports can be compared with diff, and every byte is
-- either under the mac or can be nothing else. The last two members, of every version, are
--
--     "sha256":"..."   SHA-256 of all bytes before this line: tells damage from another domain
--     "mac":"..."      domain:authenticate of all bytes before this line; null without a domain
local cjson = require("cjson").new()
local core = require "keyferry.core"
local hex = require "keyferry.hex"

local M = { VERSION = 1 }

-- Far above what is written: an attribute that is a template of templates is 5 deep.
cjson.decode_max_depth(32)
cjson.decode_invalid_numbers(false)

-- The order of names on a line; others follow by themselves, sorted.
local ORDER = {}
for place, name in ipairs{
    "name", "hsm", "status", "class", "key_type", "label", "id", "handle", "target_handle",
    "serial", "digest", "reason", "code", "hint", "lost", "verified", "unproved", "differs",
} do
    ORDER[name] = place
end
ORDER.attributes, ORDER.changes = 1000, 1001

local function before(a, b)
    local x, y = ORDER[a] or 999, ORDER[b] or 999
    if x ~= y then
        return x < y
    end
    return a < b
end

local encode

-- cjson looks at every byte; most texts need nothing.
local function quote(text)
    if not text:find('[%c"\\\127]') then
        return '"' .. text .. '"'
    end
    return (cjson.encode(text):gsub("\\/", "/"))
end

local keys = setmetatable({}, { -- the few hundred names that there are, with their colon
    __index = function(self, name)
        local key = quote(name) .. ":"
        rawset(self, name, key)
        return key
    end,
})

-- Attributes are many, and need no order but that of their names: that sorts faster.
local function encode_object(value)
    local names, n, ordered = {}, 0, nil
    for name in pairs(value) do
        n = n + 1
        names[n] = name
        ordered = ordered or ORDER[name]
    end
    table.sort(names, ordered and before or nil)
    for i = 1, n do
        local name = names[i]
        names[i] = keys[name] .. encode(value[name])
    end
    return "{" .. table.concat(names, ",") .. "}"
end

local function encode_array(value)
    local parts = {}
    for i, item in ipairs(value) do
        parts[i] = encode(item)
    end
    return "[" .. table.concat(parts, ",") .. "]"
end

local encoders = {
    string = quote,
    number = function(value) return ("%d"):format(value) end,
    boolean = tostring,
    table = function(value)
        return value[1] ~= nil and encode_array(value) or encode_object(value)
    end,
}

--- A value as JSON on one line. An empty table is an empty object.
function encode(value)
    return encoders[type(value)](value)
end

M.encode = encode

--- Members as the lines of a report, those that are nil left out.
-- @tparam table names in their order
-- @tparam table members by name
function M.lines(names, members)
    local list = {}
    for _, name in ipairs(names) do
        if members[name] ~= nil then
            list[#list + 1] = quote(name) .. ":" .. encode(members[name]) .. ",\n"
        end
    end
    return table.concat(list)
end

local HEAD = '{\n"keyferry_report":%d,\n'
local HEAD_PATTERN = '^{\n"keyferry_report":(%d+),\n'
local MAC_LINE = #'"mac":""\n}\n' + 64
local NEAR = 64 -- where an editor leaves the first name
local HASH_LINE = #'"sha256":"",\n' + 64

--- The first line or two.
function M.head()
    return HEAD:format(M.VERSION)
end

--- A whole report: what is vouched for, and the two members that do.
-- @string body
-- @tparam ?domain domain
-- @treturn[1] string
-- @treturn[2] nil
-- @treturn[2] err
function M.seal(body, domain)
    local hash, err = core.sha256(body)
    if not hash then
        return nil, err
    end
    local vouched = body .. ('"sha256":"%s",\n'):format(hex.of(hash))
    local mac = nil
    if domain then
        mac, err = domain:authenticate(vouched)
        if not mac then
            return nil, err
        end
    end
    return vouched .. ('"mac":%s\n}\n'):format(mac and '"' .. hex.of(mac) .. '"' or "null")
end

-- What is before the last line, and the digits of its mac; false for null.
local function split_mac(bytes)
    local digits = bytes:sub(-MAC_LINE):match('^"mac":"([0-9a-f]+)"\n}\n$')
    if digits and #digits == 64 then
        return bytes:sub(1, -MAC_LINE - 1), digits
    elseif bytes:sub(-#'"mac":null\n}\n') == '"mac":null\n}\n' then
        return bytes:sub(1, -#'"mac":null\n}\n' - 1), false
    end
    return nil
end

--- Takes the bytes of a report apart.
-- @string bytes
-- @treturn table `version`: what its first line says, nil when that is none; `is_report`:
--   whether it can have been one; and when its end is there: `vouched`, `mac` (32 bytes, false:
--   null), `is_whole`: whether the hash is right
function M.split(bytes)
    local parts = { version = math.tointeger(tonumber(bytes:match(HEAD_PATTERN))) }
    local vouched, mac = split_mac(bytes)
    local hash = vouched and vouched:sub(-HASH_LINE):match('^"sha256":"([0-9a-f]+)",\n$')
    parts.is_report = parts.version ~= nil or hash ~= nil
        or bytes:sub(1, NEAR):find('"keyferry_report"%s*:') ~= nil
        or #bytes > 4 and HEAD:sub(1, #bytes) == bytes
    if hash and #hash == 64 then
        parts.vouched, parts.mac = vouched, mac and hex.bytes(mac)
        parts.is_whole = core.sha256(vouched:sub(1, -HASH_LINE - 1)) == hex.bytes(hash)
    end
    return parts
end

-- Numbers come as floats, and all of ours are whole.
local function settle(value)
    local kind = type(value)
    if kind == "number" then
        return math.tointeger(value) or error("a number is not whole", 0)
    elseif kind == "table" then
        for key, inner in pairs(value) do
            value[key] = settle(inner)
            if value[key] == nil and math.type(key) then
                error("null is in a list", 0)
            end
        end
    elseif value == cjson.null then
        return nil
    end
    return value
end

--- The JSON of a report as a table; null is nil. Raises what is wrong with it.
function M.decode(bytes)
    if not utf8.len(bytes) then
        error("it is no UTF-8", 0)
    end
    return settle(cjson.decode(bytes))
end

return M
