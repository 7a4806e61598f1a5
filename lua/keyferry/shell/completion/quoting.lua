-- SPDX-License-Identifier: MIT
--- Words as shells quote them: read up to a cursor, and written so that they are read back.
--
-- Two dialects: "posix" (the prompt: quotes and backslashes only) and "bash" (also $'...',
-- operators between words, history's `!`; zsh reads the same).
local text = require("keyferry.shell.text")

local M = {}

local ANSI = { a = "\a", b = "\b", e = "\27", E = "\27", f = "\f", n = "\n", r = "\r",
    t = "\t", v = "\v" }

-- An escape of $'...' at i, behind its backslash: what it stands for, and what follows.
local function ansi_escape(line, i)
    local digits = line:match("^x(%x%x?)", i)
    if digits then
        return string.char(tonumber(digits, 16)), i + 1 + #digits
    end
    digits = line:match("^[0-7][0-7]?[0-7]?", i)
    if digits then
        return string.char(tonumber(digits, 8) & 0xFF), i + #digits
    end
    digits = line:match("^[uU](%x%x?%x?%x?)", i)
    if digits then
        return utf8.char(tonumber(digits, 16)), i + 1 + #digits
    end
    local char = line:sub(i, i)
    return ANSI[char] or char, i + 1
end

-- What stands at i in each state: its value, the position after it, the state there. A
-- backslash at the end stands for nothing yet.
local step = {
    ["'"] = function(line, i)
        local char = line:sub(i, i)
        if char == "'" then
            return "", i + 1, ""
        end
        return char, i + 1, "'"
    end,
    ['"'] = function(line, i)
        local char, after = line:sub(i, i), line:sub(i + 1, i + 1)
        if char == '"' then
            return "", i + 1, ""
        elseif char == "\\" and after == "" then
            return "", i + 1, '"'
        elseif char == "\\" and after:find('[$`"\\\n]') then
            return after, i + 2, '"'
        end
        return char, i + 1, '"'
    end,
    ["$'"] = function(line, i)
        local char = line:sub(i, i)
        if char == "'" then
            return "", i + 1, ""
        elseif char == "\\" and i == #line then
            return "", i + 1, "$'"
        elseif char == "\\" then
            char, i = ansi_escape(line, i + 1)
            return char, i, "$'"
        end
        return char, i + 1, "$'"
    end,
    [""] = function(line, i, dialect)
        local char = line:sub(i, i)
        if char == "'" or char == '"' then
            return "", i + 1, char
        elseif char == "\\" then
            return line:sub(i + 1, i + 1), i + 2, ""
        elseif dialect == "bash" and line:sub(i, i + 1) == "$'" then
            return "", i + 2, "$'"
        end
        return char, i + 1, ""
    end,
}

local BREAKS = { posix = "^[ \t\r\n]", bash = "^[ \t\r\n;&|<>()]" }

-- One word from i on: its value, the position after it, the quote that is still open there
-- (""), the position behind the last quote that was opened.
local function read(line, i, dialect)
    local parts, state, opened = {}, "", nil
    while i <= #line and not (state == "" and line:find(BREAKS[dialect], i)) do
        local before = state
        local value
        value, i, state = step[state](line, i, dialect)
        if before == "" and state ~= "" then
            opened = i
        end
        parts[#parts + 1] = value
    end
    return table.concat(parts), math.min(i, #line + 1), state, opened
end

--- The words of a line that ends at the cursor.
-- @string line
-- @string dialect
-- @treturn table array of the values of the words before the last
-- @treturn table the last word, which the cursor is in (maybe empty): `value`, `raw` (as
--   typed), `first` (where it begins), `opened` (where in raw the part in quotes begins that
--   is not closed; nil when all are)
function M.words(line, dialect)
    local words, i = {}, 1
    while true do
        while line:find(BREAKS[dialect], i) do
            i = i + 1
        end
        local value, after, state, opened = read(line, i, dialect)
        if after > #line then
            return words, { value = value, raw = line:sub(i), first = i,
                opened = state ~= "" and opened - i + 1 or nil }
        end
        words[#words + 1] = value
        i = after
    end
end

local function ansi_bytes(piece)
    return (piece:gsub(".", function(byte)
        return ("\\x%02x"):format(byte:byte())
    end))
end

-- How one character is written in each state; `hidden`: it moves a cursor or is no text.
local write = {
    ["'"] = function(piece, hidden)
        if hidden then
            return "'$'" .. ansi_bytes(piece) .. "''"
        end
        return piece == "'" and "'\\''" or piece
    end,
    ['"'] = function(piece, hidden, dialect)
        if hidden then
            return "\"$'" .. ansi_bytes(piece) .. "'\""
        elseif piece == "!" and dialect == "bash" then
            return '"\\!"' -- history is expanded between double quotes, too
        end
        return piece:find('[$`"\\]') and "\\" .. piece or piece
    end,
    ["$'"] = function(piece, hidden)
        return (hidden or piece:find("['\\!]")) and ansi_bytes(piece) or piece
    end,
    [""] = function(piece, hidden)
        if hidden then
            return "$'" .. ansi_bytes(piece) .. "'"
        end
        return piece:find("^[%w_@%%+=:,./\128-\255-]") and piece or "\\" .. piece
    end,
}

-- The characters of a value, bytes where it is no UTF-8; each with whether it is hidden.
local function each_piece(value)
    local i = 1
    return function()
        if i > #value then
            return nil
        end
        local last = i
        for length = 1, 4 do
            if utf8.len(value:sub(i, i + length - 1)) == 1 then
                last = i + length - 1
                break
            end
        end
        local piece = value:sub(i, last)
        i = last + 1
        return piece, #piece > 1 and text.clean(piece) ~= piece
            or #piece == 1 and piece:find("[%c\127-\255]") ~= nil
    end
end

--- Whether a dialect can write a value at all.
function M.can_write(value, dialect)
    return not value:find("\0") and (dialect == "bash" or text.clean(value) == value)
end

--- What to put from a place in a typed word to its end, so that the word becomes a value.
-- @tparam table word as M.words gives it
-- @tparam integer start the place in word.raw
-- @string value
-- @string dialect
-- @tparam[opt] boolean close whether a quote open at the cursor is to be closed
-- @treturn string|nil nil: what stands before start is no beginning of the value
function M.ending(word, start, value, dialect, close)
    local before, _, state = read(word.raw:sub(1, start - 1), 1, dialect)
    local parts = {}
    if value:sub(1, #before) ~= before or not M.can_write(value, dialect) then
        return nil
    end
    for piece, hidden in each_piece(value:sub(#before + 1)) do
        parts[#parts + 1] = write[state](piece, hidden, dialect)
    end
    if state ~= "" and (close or not word.opened) then
        parts[#parts + 1] = state:sub(-1)
    end
    return table.concat(parts)
end

return M
