-- SPDX-License-Identifier: MIT
--- Text for people: cleaning, columns, paragraphs, shell words, likely misspellings.
-- Nothing here knows of tokens, options or files.
local M = {}

-- Characters that reorder what follows them; a label that holds one can lie about itself.
local BIDI = { { 0x200E, 0x200F }, { 0x2028, 0x202E }, { 0x2066, 0x2069 } }

local function hidden(code)
    if code < 0x20 or (code >= 0x7F and code < 0xA0) then
        return true
    end
    for _, range in ipairs(BIDI) do
        if code >= range[1] and code <= range[2] then
            return true
        end
    end
    return false
end

local function escaped(bytes)
    return (bytes:gsub(".", function(byte)
        return ("\\x%02X"):format(byte:byte())
    end))
end

-- The length of the UTF-8 character at position i, or nil when there is none.
local function character(text, i)
    for length = 1, 4 do
        if utf8.len(text:sub(i, i + length - 1)) == 1 then
            return length
        end
    end
    return nil
end

--- A text that is safe to print: what moves a cursor, hides or is no UTF-8 becomes \xNN.
-- @string text anything, also what a token answered
-- @string[opt] keep characters that stay as they are ("\n")
-- @treturn string
function M.clean(text, keep)
    local parts, i = {}, 1
    if not text:find("[^\32-\126]") then
        return text
    end
    while i <= #text do
        local length = character(text, i)
        local piece = text:sub(i, i + (length or 1) - 1)
        if keep and #piece == 1 and keep:find(piece, 1, true) then
            parts[#parts + 1] = piece
        elseif not length or hidden(utf8.codepoint(piece)) then
            parts[#parts + 1] = escaped(piece)
        else
            parts[#parts + 1] = piece
        end
        i = i + #piece
    end
    return table.concat(parts)
end

--- UTF-8 for JSON: a text that is none becomes the escaped one.
function M.utf8(text)
    if utf8.len(text) then
        return text
    end
    return M.clean(text, "\n\r\t")
end

local function width(text)
    return utf8.len(text) or #text
end

local function padded(text, size)
    return text .. (" "):rep(size - width(text))
end

--- Aligned columns, each as wide as its content.
-- @tparam table head column titles
-- @tparam table rows arrays of cells; nil and "" print as "-"
-- @treturn table lines
function M.columns(head, rows)
    local sizes, lines, cells = {}, {}, { head }
    for _, row in ipairs(rows) do
        local line = {}
        for i = 1, #head do
            local cell = row[i]
            line[i] = (cell == nil or cell == "") and "-" or M.clean(tostring(cell))
        end
        cells[#cells + 1] = line
    end
    for _, line in ipairs(cells) do
        for i, cell in ipairs(line) do
            sizes[i] = math.max(sizes[i] or 0, width(cell))
        end
    end
    for _, line in ipairs(cells) do
        local parts = {}
        for i, cell in ipairs(line) do
            parts[i] = padded(cell, sizes[i])
        end
        lines[#lines + 1] = (table.concat(parts, "  "):gsub("%s+$", ""))
    end
    return lines
end

--- "Name:  value" lines with the values under each other; a row without a value is left out.
-- @tparam table rows { { name, value }, ... }
-- @treturn table lines
function M.fields(rows)
    local size, lines = 0, {}
    for _, row in ipairs(rows) do
        if row[2] ~= nil then
            size = math.max(size, width(row[1]) + 1)
        end
    end
    for _, row in ipairs(rows) do
        if row[2] ~= nil then
            lines[#lines + 1] = padded(row[1] .. ":", size) .. "  "
                .. M.clean(tostring(row[2]))
        end
    end
    return lines
end

--- Breaks a text into lines of at most size characters, at blanks.
-- @treturn table lines (one empty line for an empty text)
function M.wrap(text, size)
    local lines, line = {}, ""
    for word in text:gmatch("%S+") do
        if line == "" then
            line = word
        elseif width(line) + 1 + width(word) <= size then
            line = line .. " " .. word
        else
            lines[#lines + 1] = line
            line = word
        end
    end
    lines[#lines + 1] = line
    return lines
end

--- Bytes as hex digits.
M.hex = require("keyferry.hex").of

--- A text as one word of a POSIX shell.
function M.shell_word(text)
    if text:find("^[%w@%%+=:,./_-]+$") then
        return text
    end
    return "'" .. text:gsub("'", "'\\''") .. "'"
end

-- The optimal string alignment distance: insertions, deletions, changes, swapped neighbours.
local function distance(a, b)
    local last = {}
    local before, row
    for j = 0, #b do
        last[j] = j
    end
    for i = 1, #a do
        row = { [0] = i }
        for j = 1, #b do
            local cost = a:byte(i) == b:byte(j) and 0 or 1
            row[j] = math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + cost)
            if before and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
                row[j] = math.min(row[j], before[j - 2] + 1)
            end
        end
        before, last = last, row
    end
    return last[#b]
end

--- The name that was probably meant, or nil when none is near.
-- @string word what was typed
-- @tparam table names what there is
function M.nearest(word, names)
    local best, least
    if #word > 64 then
        return nil
    end
    least = 2 + #word // 4
    for _, name in ipairs(names) do
        local d = distance(word:lower(), name)
        if d < least and d < #name then
            best, least = name, d
        end
    end
    return best
end

--- Every name that begins with word; only itself when word is one of them.
function M.matching(word, names)
    local found = {}
    for _, name in ipairs(names) do
        if name == word then
            return { name }
        end
        if name:sub(1, #word) == word then
            found[#found + 1] = name
        end
    end
    return found
end

return M
