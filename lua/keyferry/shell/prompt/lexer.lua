-- SPDX-License-Identifier: MIT
--- Lua source as tokens (manual, 3.1): enough to see what a line names, calls and quotes.
-- Text that is no Lua gives tokens all the same, and an unfinished string goes to the end.
local M = {}

local KEYWORDS = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or
    repeat return then true until while]]):gmatch("%a+") do
    KEYWORDS[word] = true
end

M.KEYWORDS = KEYWORDS

-- The index of the last byte of [[...]] or [=[...]=] at i, nil when there is none.
local function long_bracket(code, i)
    local level = code:match("^%[(=*)%[", i)
    if not level then
        return nil
    end
    local _, last = code:find("]" .. level .. "]", i + #level + 2, true)
    return last or #code
end

local function quoted(code, i)
    local quote = code:sub(i, i)
    local at = i + 1
    while at <= #code do
        local char = code:sub(at, at)
        if char == quote or char == "\n" then
            return at
        end
        at = at + (char == "\\" and 2 or 1)
    end
    return #code
end

local function comment(code, i)
    local last = long_bracket(code, i + 2)
    return last or (code:find("\n", i, true) or #code + 1) - 1
end

-- The kind of the token at i, which is no blank, and its last byte.
local function token(code, i)
    local _, last = code:find("^[%a_][%w_]*", i)
    if last then
        return KEYWORDS[code:sub(i, last)] and "keyword" or "name", last
    elseif code:find("^%-%-", i) then
        return "comment", comment(code, i)
    elseif code:find("^[\"']", i) then
        return "string", quoted(code, i)
    elseif long_bracket(code, i) then
        return "string", long_bracket(code, i)
    end
    _, last = code:find("^%.?%d[%w.]*", i)
    if last then
        return "number", last
    end
    _, last = code:find("^[.:=<>~/][.:=<>/]?%.?", i)
    local symbol = last and code:sub(i, last)
    for size = symbol and #symbol or 0, 2, -1 do
        if ({ ["..."] = 1, [".."] = 1, ["::"] = 1, ["=="] = 1, ["<="] = 1, [">="] = 1,
            ["~="] = 1, ["//"] = 1, ["<<"] = 1, [">>"] = 1 })[symbol:sub(1, size)] then
            return "symbol", i + size - 1
        end
    end
    return "symbol", i
end

--- The tokens of a text, comments left out.
-- @string code
-- @treturn table array of { kind = "name"|"keyword"|"string"|"number"|"symbol", text=,
--   first=, last= }
function M.tokens(code)
    local tokens, i = {}, code:find("%S")
    while i do
        local kind, last = token(code, i)
        if kind ~= "comment" then
            tokens[#tokens + 1] = { kind = kind, text = code:sub(i, last), first = i,
                last = last }
        end
        i = code:find("%S", last + 1)
    end
    return tokens
end

return M
