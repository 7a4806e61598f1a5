-- SPDX-License-Identifier: MIT
--- A value as a person reads it.
--
-- Nothing here logs in, opens or changes anything; whatever a value does when it is looked
-- at (a metamethod that throws, a token that is gone) ends as a line about it. All text that
-- comes from elsewhere is cleaned: only the colours are control sequences.
local Hsm = require("keyferry.hsm")
local Partition = require("keyferry.partition")

local colour = require("keyferry.shell.colour")
local object_sheet = require("keyferry.shell.show.object")
local outcome = require("keyferry.shell.show.outcome")
local piece = require("keyferry.shell.show.piece")
local place = require("keyferry.shell.show.place")
local text = require("keyferry.shell.text")

local attempt, clean, quoted = piece.attempt, piece.clean, piece.quoted
local line_of, kind_of, is_object = piece.line_of, piece.kind_of, piece.is_object
local is_a, text_field, yes = piece.is_a, piece.text_field, piece.yes
local columns = piece.columns
local where_of, show_hsm, space = place.where_of, place.show_hsm, place.space
local hsm_name, show_partition = place.hsm_name, place.show_partition
local id_of, label_of, is_secret = object_sheet.id_of, object_sheet.label_of, object_sheet.is_secret
local is_attributes, show_attributes = object_sheet.is_attributes, object_sheet.show_attributes
local is_error, show_error, is_report = outcome.is_error, outcome.show_error, outcome.is_report
local show_report, is_plan, show_plan = outcome.show_report, outcome.is_plan, outcome.show_plan

local M = {}

local WIDTH = 80
local ITEMS_MAX = 100     -- of one plain table
local ALL_ITEMS_MAX = 1000
local DEPTH_MAX = 5
local TEXT_MAX, CELL_MAX = piece.TEXT_MAX, piece.CELL_MAX
local BINARY_MAX = 256    -- bytes of a result that is no text
local ODD_TEXT_MAX = 4096 -- bytes of a result that is text with control characters in it

local show_plain

local USERDATA = {
    session = place.show_session, object = object_sheet.show_object,
    sealed = object_sheet.show_sealed,
}

-- Lists ------------------------------------------------------------------------------------

local LISTS = {
    {
        is = is_object,
        head = { "Class", "Key type", "Label", "Id", "Handle" },
        row = function(object)
            local known = object:attributes()
            return { known.class, known.key_type or known.certificate_type,
                label_of(known, CELL_MAX), id_of(known), object.handle }
        end,
    },
    {
        is = function(value) return is_a(value, Partition) end,
        head = { "Partition", "Serial", "HSM", "Free space" },
        row = function(partition)
            local token = rawget(partition, "token")
            return { text_field(partition, "label"), text_field(partition, "serial"),
                hsm_name(partition), type(token) == "table" and space(token) or nil }
        end,
    },
    {
        is = function(value) return is_a(value, Hsm) end,
        head = { "HSM", "Serial", "Kind", "Where" },
        row = function(hsm)
            return { text_field(hsm, "name"), text_field(hsm, "serial"),
                rawget(hsm, "kind") == "soft" and "soft" or "module", where_of(hsm) }
        end,
    },
    {
        is = function(value) -- module:slots()
            return type(value) == "table" and not debug.getmetatable(value)
                and math.type(value.slot) == "integer" and value.present ~= nil
        end,
        head = { "Slot", "Token", "Serial", "Model", "Initialised" },
        row = function(token)
            return { token.slot, text_field(token, "label"), text_field(token, "serial"),
                text_field(token, "model"), yes(token.initialized) }
        end,
    },
}

-- The kind of list of which every element is one; nil for anything else.
local function list_kind(value)
    if type(value) ~= "table" or debug.getmetatable(value) or value[1] == nil then
        return nil
    end
    local size = 0
    for name in next, value do
        size = size + 1
        if math.type(name) ~= "integer" then
            return nil
        end
    end
    for _, kind in ipairs(LISTS) do
        if kind.is(value[1]) then
            for i = 1, size do
                if not kind.is(value[i]) then
                    return nil
                end
            end
            return kind
        end
    end
    return nil
end

-- Plain tables ---------------------------------------------------------------------------------

local function function_line(value)
    local info = debug.getinfo(value, "S")
    if info.what == "C" then
        return "function (built in)"
    end
    return ("function (%s:%d)"):format(clean(info.short_src), info.linedefined)
end

local function name_of(name)
    if type(name) == "string" and name:find("^[%a_][%w_]*$") and #name <= TEXT_MAX then
        return name
    elseif type(name) == "string" then
        return "[" .. quoted(name) .. "]"
    elseif type(name) == "number" then
        return ("[%s]"):format(name)
    end
    return "[" .. line_of(name) .. "]"
end

local function before(a, b)
    local x, y = type(a), type(b)
    if x == y and (x == "number" or x == "string") then
        return a < b
    end
    return x < y
end

-- The keys of a table: its array part first, then the others sorted; at most ITEMS_MAX, and
-- how many there are besides.
local function keys_of(value)
    local array, others, all = rawlen(value), {}, 0
    for name in next, value do
        all = all + 1
        if not (math.type(name) == "integer" and name >= 1 and name <= array)
            and #others < ALL_ITEMS_MAX then
            others[#others + 1] = name
        end
    end
    table.sort(others, before)
    local keys = {}
    for i = 1, math.min(array, ITEMS_MAX) do
        keys[i] = i
    end
    table.move(others, 1, math.max(0, ITEMS_MAX - #keys), #keys + 1, keys)
    return keys, array, all - #keys
end

local show_nested

local function one_item(value, name, array, state, depth)
    local shown
    if is_secret(value, name) then
        shown = "(secret)"
    else
        shown = show_nested(rawget(value, name), state, depth + 1)
    end
    if math.type(name) == "integer" and name >= 1 and name <= array then
        return shown
    end
    return name_of(name) .. " = " .. shown
end

local function items_of(value, state, depth)
    local items = {}
    local keys, array, more = keys_of(value)
    for _, name in ipairs(keys) do
        if state.left <= 0 then
            break
        end
        state.left = state.left - 1
        items[#items + 1] = one_item(value, name, array, state, depth)
    end
    more = more + #keys - #items
    if more > 0 then
        items[#items + 1] = ("... %d more"):format(more)
    end
    return items
end

-- On one line when it fits, else an item a line.
local function laid_out(items, width, depth)
    local line = "{ " .. table.concat(items, ", ") .. " }"
    if #items == 0 then
        return "{}"
    elseif #line + 4 * depth <= width and not line:find("\n", 1, true) then
        return line
    end
    local indent = ("    "):rep(depth + 1)
    return ("{\n%s%s,\n%s}"):format(indent, table.concat(items, ",\n" .. indent),
        ("    "):rep(depth))
end

local function nested_table(value, state, depth)
    if state.open[value] then
        return "{ ... itself }"
    elseif depth > DEPTH_MAX then
        return next(value) == nil and "{}" or "{ ... }"
    end
    state.open[value] = true
    local items = items_of(value, state, depth)
    state.open[value] = nil
    return laid_out(items, state.width, depth)
end

local function has_own_line(value)
    local meta = debug.getmetatable(value)
    return type(meta) == "table"
        and (rawget(meta, "__tostring") ~= nil or rawget(meta, "__name") ~= nil)
end

local NESTED = {
    string = function(value)
        local note = #value > TEXT_MAX and (" (%d bytes)"):format(#value) or ""
        return quoted(value) .. note
    end,
    ["function"] = function_line,
    table = function(value, state, depth)
        if has_own_line(value) then
            return line_of(value)
        end
        return nested_table(value, state, depth)
    end,
}

function show_nested(value, state, depth)
    return (NESTED[type(value)] or line_of)(value, state, depth)
end

local function one_line(value)
    return show_plain(value, { brush = colour.brush(false), width = math.huge })
end

function show_plain(value, how)
    return nested_table(value, { open = {}, left = ALL_ITEMS_MAX, width = how.width }, 0)
end

-- Strings that are the result -----------------------------------------------------------------

local function show_string(value)
    local is_text = utf8.len(value) and not value:find("[\0-\8\14-\31\127]")
    local odd_text = utf8.len(value) and not value:find("\0", 1, true)
    if is_text or #value <= (odd_text and ODD_TEXT_MAX or BINARY_MAX) then
        return text.clean(value, "\n\t")
    end
    return ("%s... (%d bytes)"):format(text.clean(value:sub(1, BINARY_MAX)), #value)
end

-- All together ---------------------------------------------------------------------------------

local TABLES = {
    { function(value) return is_a(value, Hsm) end, show_hsm },
    { function(value) return is_a(value, Partition) end, show_partition },
    { is_error, show_error },
    { is_plan, show_plan },
    { has_own_line, line_of },
    { is_report, show_report },
    { is_attributes, show_attributes },
}

local function show_table(value, how)
    for _, kind in ipairs(TABLES) do
        if kind[1](value) then
            return kind[2](value, how)
        end
    end
    local list = list_kind(value)
    if list then
        return columns(how, list.head, value, list.row)
    end
    return show_plain(value, how)
end

local SHOW = {
    string = show_string,
    ["function"] = function_line,
    table = show_table,
    userdata = function(value, how)
        return (USERDATA[kind_of(value)] or line_of)(value, how)
    end,
}

--- A value as a person reads it: what matters of a keyferry value, other values as Lua.
-- @param value anything
-- @tparam[opt] table how `colour` (boolean), `width` (columns of the terminal)
-- @treturn string clean text, perhaps of several lines
function M.value(value, how)
    how = {
        brush = colour.brush(how and how.colour), width = how and how.width or WIDTH,
        nested = one_line,
    }
    return attempt(SHOW[type(value)] or line_of, value, how) or line_of(value)
end

--- Several values: on one line, or each from a line of its own when one has several. The
-- nil of `value, nil` (no error) is not one.
-- @tparam table how as for value
-- @param ... the values
-- @treturn string
function M.values(how, ...)
    local parts = table.pack(...)
    while parts.n > 1 and parts[parts.n] == nil do
        parts.n = parts.n - 1
    end
    for i = 1, parts.n do
        parts[i] = M.value(parts[i], how)
    end
    local between = table.concat(parts):find("\n", 1, true) and "\n" or "\t"
    return table.concat(parts, between, 1, parts.n)
end

return M
