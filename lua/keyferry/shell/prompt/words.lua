-- SPDX-License-Identifier: MIT
--- A line as the words of a command: quotes and backslashes as in a POSIX shell (XCU 2.2).
-- Nothing is expanded but a `~/` that begins a word: no variables, no globs.
local M = {}

local ESCAPABLE = '["\\$`\n]' -- what a backslash escapes between double quotes

local READERS = {}

-- Each gives the text it stands for and the index behind it; nil: it does not end.
READERS["'"] = function(line, i)
    local last = line:find("'", i + 1, true)
    return last and line:sub(i + 1, last - 1), last and last + 1
end

READERS["\\"] = function(line, i)
    local char = line:sub(i + 1, i + 1)
    if char == "" then
        return nil
    end
    return char == "\n" and "" or char, i + 2
end

READERS['"'] = function(line, i)
    local parts = {}
    i = i + 1
    while i <= #line do
        local char, after = line:sub(i, i), line:sub(i + 1, i + 1)
        if char == '"' then
            return table.concat(parts), i + 1
        elseif char == "\\" and after:find(ESCAPABLE) then
            parts[#parts + 1] = after ~= "\n" and after or ""
            i = i + 2
        else
            parts[#parts + 1] = char
            i = i + 1
        end
    end
    return nil
end

local function at_home(line, i)
    local home = os.getenv("HOME")
    if line:find("^~/", i) and home and home ~= "" then
        return home, i + 1
    end
    return "", i
end

-- The word that begins at i.
local function word(line, i)
    local parts, piece = {}
    parts[1], i = at_home(line, i)
    while i <= #line and not line:find("^%s", i) do
        local reader = READERS[line:sub(i, i)]
        if reader then
            piece, i = reader(line, i)
        else
            piece = line:match("^[^%s'\"\\]+", i)
            i = i + #piece
        end
        if not piece then
            return nil
        end
        parts[#parts + 1] = piece
    end
    return table.concat(parts), i
end

--- Splits a line.
-- @string line
-- @treturn[1] table the words
-- @treturn[2] nil
-- @treturn[2] string what does not end
function M.split(line)
    local words, i = {}, (line:find("%S"))
    local piece
    while i do
        piece, i = word(line, i)
        if not piece then
            return nil, "a quote is not closed, or a backslash is the last character"
        end
        if piece ~= "" or line:find("^['\"]", i - 1) then
            words[#words + 1] = piece
        end
        i = line:find("%S", i)
    end
    return words
end

return M
