-- SPDX-License-Identifier: MIT
--- glob: a shell's pattern, asked of a text.
-- @module keyferry.glob

local function literal(text)
    return (text:gsub("%W", "%%%0"))
end

-- The same as a pattern of Lua. A bracket that nothing closes is a bracket.
local function translate(pattern)
    local out, at = {}, 1
    while at <= #pattern do
        local char, piece, past = pattern:sub(at, at), nil, at + 1
        local no, set, last = pattern:match("^%[([!^]?)(%]?[^%]]*)%]()", at)
        if char == "*" then
            piece = ".*"
        elseif char == "?" then
            piece = "[^\128-\191][\128-\191]*" -- one character of UTF-8
        elseif char == "[" and set and set ~= "" then
            set = set:gsub("[%]%[%^%%]", "%%%0")
            piece, past = ("[%s%s]"):format(no ~= "" and "^" or "", set), last
        elseif char == "\\" and at < #pattern then
            piece, past = literal(pattern:sub(at + 1, at + 1)), at + 2
        end
        out[#out + 1] = piece or literal(char)
        at = past
    end
    return "^" .. table.concat(out) .. "$"
end

--- A pattern as a shell has it: `*`, `?`, `[a-z]`, `[!a-z]`, and `\` before what stands for
-- itself. It is for the whole text.
-- @string pattern
-- @treturn function of a text (nil is the empty one), which gives a boolean
-- @usage
-- local is_web = keyferry.glob("tls-[!.]*")
-- print(is_web("tls-www"), is_web("tls-.old"), is_web("TLS-www"))  --> true	false	false
return function(pattern)
    if type(pattern) ~= "string" then
        error("a glob is a string, not a " .. type(pattern), 2)
    end
    local translated = translate(pattern)
    return function(text)
        return (text or ""):find(translated) ~= nil
    end
end
