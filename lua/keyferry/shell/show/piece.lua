-- SPDX-License-Identifier: MIT
--- What every sheet and list of show is made of: foreign values looked at safely, text cleaned.
local text = require("keyferry.shell.text")

local ROWS_MAX = 1000 -- of a list
local TEXT_MAX = 200  -- bytes of a text inside something else
local CELL_MAX = 40   -- of a label in a list
local LINE_MAX = 2000 -- of what tostring gives

-- What a function gives, or nil and what it threw; the user's Ctrl-C goes on.
local function attempt(run, ...)
    local ok, value = pcall(run, ...)
    if ok then
        return value
    end
    if type(value) == "table" and rawget(value, "code") == "KFR_INTERRUPTED" then
        error(value, 0)
    end
    return nil, value
end

local function shortened(bytes, most)
    if #bytes <= most then
        return bytes
    end
    local cut = most
    while cut > most - 4 and (bytes:byte(cut + 1) & 0xC0) == 0x80 do
        cut = cut - 1
    end
    return bytes:sub(1, cut) .. "..."
end

local function clean(bytes, most)
    return text.clean(shortened(bytes, most or TEXT_MAX))
end

local function quoted(bytes)
    return '"' .. clean(bytes) .. '"'
end

-- tostring of anything, as one clean line.
local function line_of(value)
    local line, problem = attempt(tostring, value)
    if line then
        return clean(line, LINE_MAX)
    end
    return ("%s (it cannot be shown: %s)"):format(type(value),
        type(problem) == "string" and clean(problem) or type(problem))
end

local function field(value, name)
    return (attempt(function() return value[name] end))
end

-- The name of a userdata's kind, as C registered it; a table cannot claim to be one.
local function kind_of(value)
    if type(value) ~= "userdata" then
        return nil
    end
    local meta = debug.getmetatable(value)
    local name = type(meta) == "table" and rawget(meta, "__name")
    return type(name) == "string" and name:match("^keyferry%.(%a+)$") or nil
end

local function is_object(value)
    return kind_of(value) == "object"
end

local function is_a(value, class)
    return type(value) == "table" and debug.getmetatable(value) == class
end

local function string_or_nil(value)
    return type(value) == "string" and value or nil
end

local function text_field(value, name)
    local found = type(value) == "table" and rawget(value, name)
    return type(found) == "string" and clean(found) or nil
end

local function yes(value)
    return value and "yes" or "no"
end

local function hex(bytes, most)
    local shown = text.hex(bytes:sub(1, most))
    if #bytes <= most then
        return shown
    end
    return ("%s... (%d bytes)"):format(shown, #bytes)
end

-- A title, and its fields below; how is what show.value was given.
local function sheet(how, title, rows)
    local lines = { how.brush("title", title) }
    for _, line in ipairs(text.fields(rows)) do
        local name, value = line:match("^([^:]+:)(.*)$")
        lines[#lines + 1] = "  " .. how.brush("name", name) .. value
    end
    return table.concat(lines, "\n")
end

local function fitted(line, width)
    if #line <= width or (utf8.len(line) or #line) <= width then
        return line
    end
    local last = utf8.len(line) and utf8.offset(line, width - 2) or width - 2
    return line:sub(1, last - 1) .. "..."
end

local function columns(how, head, values, row_of, width)
    local rows = {}
    for i = 1, math.min(#values, ROWS_MAX) do
        rows[i] = row_of(values[i])
    end
    local lines = text.columns(head, rows)
    for i, line in ipairs(lines) do
        line = fitted(line, width or how.width)
        lines[i] = i == 1 and how.brush("title", line) or line
    end
    if #values > ROWS_MAX then
        lines[#lines + 1] = ("... and %d more"):format(#values - ROWS_MAX)
    end
    return table.concat(lines, "\n")
end

return {
    CELL_MAX = CELL_MAX, TEXT_MAX = TEXT_MAX,
    attempt = attempt, clean = clean, quoted = quoted, line_of = line_of, field = field,
    kind_of = kind_of, is_object = is_object, is_a = is_a, string_or_nil = string_or_nil,
    text_field = text_field, yes = yes, hex = hex, sheet = sheet, columns = columns,
}
