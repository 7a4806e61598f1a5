-- SPDX-License-Identifier: MIT
--- identity: which slots belong to an HSM, and when two partitions are one. Most tokens have a
-- serial number of their own; those of NSS have none, and any maker may give all the same.
-- @module keyferry.hsm.identity

local core = require "keyferry.core"
local glob = require "keyferry.glob"
local loading = require "keyferry.hsm.loading"

local M = {}

local function fits(token, wanted)
    if type(wanted) ~= "table" then
        return token.slot == wanted
    end
    for field, pattern in pairs(wanted) do
        if not glob(pattern)(token[field] or "") then
            return false
        end
    end
    return true
end

--- The slots that a configuration's `slots` leaves.
-- @tparam table slots token tables
-- @tparam ?table wanted slot numbers and tables of globs; nil: all
-- @treturn table
function M.select(slots, wanted)
    if not wanted then
        return slots
    end
    local list = {}
    for _, token in ipairs(slots) do
        for _, one in ipairs(wanted) do
            if fits(token, one) then
                list[#list + 1] = token
                break
            end
        end
    end
    return list
end

local function same_names(a, b)
    return a.label == b.label and a.serial == b.serial and a.manufacturer == b.manufacturer
        and a.model == b.model
end

--- Whether another token of its module has the same names.
-- @tparam table token
-- @tparam table slots all of the module
-- @treturn boolean
function M.is_repeated(token, slots)
    for _, other in ipairs(slots) do
        if other.slot ~= token.slot and other.present and other.initialized
            and same_names(other, token) then
            return true
        end
    end
    return false
end

-- Whether a serial number says which token it is: not when the module is known to give all the
-- same, nor when another token of it has it too.
local function is_telling(partition)
    local serial = partition.serial
    local module = not serial:find("^0*$") and partition.hsm:module()
    if not module or partition.hsm:quirk("serial_shared") then
        return false
    end
    for _, token in ipairs(module:slots() or {}) do
        if token.serial == serial and token.slot ~= partition.slot and token.initialized then
            return false
        end
    end
    return true
end

-- What the argument of C_Initialize says of a name, as NSS reads it: a name in any case, a value
-- in quotes of any kind. The value, and the argument without it; nil: it says nothing.
local QUOTED = { "^%b<>", "^%b{}", "^%b[]", "^%b()", "^'[^']*'", '^"[^"]*"' }

local function parameter(args, name)
    local first, last = (" " .. args):lower():find("%s" .. name .. "=")
    if not first then
        return nil, args
    end
    local rest = args:sub(last)
    for _, pattern in ipairs(QUOTED) do
        local value = rest:match(pattern)
        if value then
            return value:sub(2, -2), args:sub(1, first - 1) .. rest:sub(#value + 1)
        end
    end
    local value = rest:match("^%S*")
    return value, args:sub(1, first - 1) .. rest:sub(#value + 1)
end

-- The folder of a database of NSS, which the argument of C_Initialize names: `configdir` is that
-- of the module's own slots (2; 3 in FIPS mode), and `tokens=<0x0a=[configdir=...] ...>` names
-- those of others. nil: it names none.
local function folder_of(partition)
    local others, own = parameter(partition.hsm.init_args or "", "tokens")
    local text = partition.slot <= 3 and own or nil
    for number, inner in (others or ""):gmatch("(%w+)=(%b[])") do
        if math.tointeger(tonumber(number)) == partition.slot then
            text = inner:sub(2, -2)
        end
    end
    local dir = text and parameter(text, "configdir")
    dir = dir and dir:gsub("^%a+:", "")
    return dir and (core.file.realpath(dir) or dir)
end

--- Whether two partitions are one token: of one HSM, or seen through two.
-- @tparam partition a
-- @tparam partition b
-- @treturn boolean
function M.is_same(a, b)
    if a.hsm == b.hsm or not a.hsm.private_copy and not b.hsm.private_copy
        and loading.key(a.hsm) == loading.key(b.hsm) then
        return a.slot == b.slot
    elseif is_telling(a) or is_telling(b) then
        return a.serial == b.serial and a.label == b.label
            and a.token.manufacturer == b.token.manufacturer
    end
    local one, other = folder_of(a), folder_of(b)
    if one and other then
        return one == other
    end
    return a.hsm.module_path == b.hsm.module_path and same_names(a.token, b.token)
end

return M
