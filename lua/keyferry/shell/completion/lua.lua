-- SPDX-License-Identifier: MIT
--- Completion of Lua at the prompt: globals, fields, methods, and the names inside strings.
--
-- Values are only looked at: no function that a user wrote is called, nothing is opened but
-- what lists the partitions.
local backup = require("keyferry.backup")
local send = require("keyferry.send")
local verify = require("keyferry.verify")
local names = require("keyferry.shell.completion.names")
local text = require("keyferry.shell.text")

local M = {}

local MAX_DEPTH = 32
local MAX_CHAIN = 256 -- bytes of an expression such as a.b.c

--- Lua's own words.
M.KEYWORDS = {
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if",
    "in", "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
}

-- The fields that tables given to these functions may have.
M.FIELDS = {
    backup = backup.OPTIONS, plan = backup.OPTIONS, verify = verify.OPTIONS,
    send = send.OPTIONS,
    configure = { "home", "config", "ask", "attend", "traceback" },
    create_hsm = { "name", "serial", "path", "blue_key" },
    can_create_hsm = { "name", "serial", "path" },
    error = { "code", "what", "hint", "call", "sys" },
    create_partition = { "label", "password", "so_password", "domain", "unfinished" },
}

-- Looking ------------------------------------------------------------------------------

-- The tables in which a value's fields are looked for, nearest first. Those of an object of
-- the core are what its __index, written in C, holds.
local function places(value)
    local list = {}
    while value ~= nil and #list < MAX_DEPTH do
        local meta = debug.getmetatable(value)
        local index = meta and rawget(meta, "__index")
        if type(value) == "table" then
            list[#list + 1] = value
        end
        if type(index) == "function" and debug.getinfo(index, "S").what == "C" then
            for i = 1, 2 do
                local _, held = debug.getupvalue(index, i)
                list[#list + 1] = type(held) == "table" and held or nil
            end
        end
        value = type(index) == "table" and index or nil
    end
    return list
end

local function peek(value, key)
    for _, place in ipairs(type(value) == "userdata" and {} or places(value)) do
        local found = rawget(place, key)
        if found ~= nil then
            return found
        end
    end
    return nil
end

-- A method, which a userdata has, too.
local function peek_method(value, key)
    for _, place in ipairs(places(value)) do
        local found = rawget(place, key)
        if type(found) == "function" then
            return found
        end
    end
    return nil
end

-- The value of a chain such as "a.b.c", or nil.
local function look(env, chain)
    local value = env
    for name in chain:gmatch("[^.]+") do
        value = peek(value, name)
        if value == nil then
            return nil
        end
    end
    return value
end

local function is_name(key)
    return type(key) == "string" and key:find("^[%a_][%w_]*$") ~= nil
end

-- Whether the functions in that place are methods of the value, which want a colon.
local function holds_methods(value, place, depth)
    return type(value) ~= "table" or depth > 1 and rawget(place, "__index") == place
end

-- What makes the values stands among their methods.
local NO_METHOD = { new = true, one_of = true }

-- The names behind a value: after a colon its methods, after a dot the rest.
local function members(value, separator, typed)
    local list, seen = {}, {}
    for depth, place in ipairs(places(value)) do
        local methods = holds_methods(value, place, depth)
        for key, field in next, place do
            local fits = type(field) == "function"
            if separator == "." then
                fits = not (fits and methods)
            elseif NO_METHOD[key] then
                fits = false
            end
            if fits and is_name(key) and not seen[key] and key:sub(1, #typed) == typed
                and (key:sub(1, 1) ~= "_" or typed ~= "") then
                seen[key] = true
                list[#list + 1] = key
            end
        end
    end
    table.sort(list)
    return list
end

-- Where the cursor is ------------------------------------------------------------------

-- Walks over code: gives the quote and the position of a string that is still open (nil:
-- code), whether it is in a comment, and the brackets that are open with their positions.
local function scan(code)
    local i, open = 1, {}
    while i <= #code do
        local char = code:sub(i, i)
        local level = code:match("^%[(=*)%[", i) or code:match("^%-%-%[(=*)%[", i)
        if level then
            local _, last = code:find("]" .. level .. "]", i, true)
            if not last then
                return "[", i, open
            end
            i = last
        elseif code:find("^%-%-", i) then
            local last = code:find("\n", i, true)
            if not last then
                return "-", i, open
            end
            i = last
        elseif char == '"' or char == "'" then
            local start = i
            repeat
                i = i + (code:sub(i, i) == "\\" and 2 or 1)
            until i > #code or code:sub(i, i) == char
            if i > #code then
                return char, start, open
            end
        elseif char == "{" or char == "(" or char == "[" then
            open[#open + 1] = i
        elseif char == "}" or char == ")" or char == "]" then
            open[#open] = nil
        end
        i = i + 1
    end
    return nil, nil, open
end

-- What a pattern finds at the end of a text, the pattern read from the end: it is anchored,
-- so that a long line takes no longer than it is.
local function at_end(code, pattern)
    local found = code:reverse():match(pattern)
    return found and found:reverse()
end

-- Strings ------------------------------------------------------------------------------

local function escape(value, quote)
    local doubled = value:gsub("\\", "\\\\")
    return (text.clean(doubled):gsub(quote, "\\" .. quote))
end

local function labels(hsm)
    local list = {}
    for _, partition in ipairs(names.partitions(hsm)) do
        list[#list + 1] = partition.label
    end
    return list
end

local function labels_and_uris(typed)
    local list = labels()
    if #typed > 1 and ("pkcs11:"):find(typed:sub(1, 7), 1, true) == 1 then
        for _, partition in ipairs(names.partitions()) do
            list[#list + 1] = partition.uri
        end
    end
    return list
end

local function hsm_names()
    local list = {}
    for _, hsm in ipairs(names.hsms()) do
        list[#list + 1] = hsm.name
        list[#list + 1] = hsm.serial
    end
    return list
end

local function serials()
    local list = {}
    for _, hsm in ipairs(names.hsms()) do
        list[#list + 1] = hsm.serial
    end
    for _, partition in ipairs(names.partitions()) do
        list[#list + 1] = partition.serial
    end
    return list
end

-- What the string may be that the called function is given; nil when nothing is known.
local function arguments(env, receiver, separator, name, typed)
    local library = require("keyferry")
    if separator == ":" then
        local value = look(env, receiver)
        local class = require("keyferry.hsm")
        if name ~= "partition" and name ~= "find_partitions" then
            return nil
        elseif value == nil then
            return labels_and_uris(typed) -- of an expression that nobody has evaluated
        end
        return peek_method(value, name) == class[name] and labels(value) or nil
    end
    local called = look(env, receiver == "" and name or receiver .. "." .. name)
    if called == nil then
        return nil
    elseif called == library.hsm then
        return hsm_names()
    elseif called == library.partition then
        return labels_and_uris(typed)
    elseif called == library.backup_hsm then
        return serials()
    end
    return nil
end

local function in_string(env, code, start, quote, after)
    local typed = code:sub(start + 1)
    local called = at_end(code:sub(1, start - 1), "^%s*%(?%s*([%w_.:)\"']*)")
    local texts, seen = {}, {}
    if #called > MAX_CHAIN then
        return start + 1, texts
    end
    local receiver, separator, name = called:match("^(.-)([.:]?)([%a_][%w_]*)$")
    if not name then
        return start + 1, texts
    end
    local close = after:sub(1, 1) == quote and "" or quote
    for _, value in ipairs(arguments(env, receiver, separator, name, typed) or {}) do
        local written = escape(value, quote)
        if written:sub(1, #typed) == typed and not seen[written] then
            seen[written] = true
            texts[#texts + 1] = written .. close
        end
    end
    table.sort(texts)
    return start + 1, texts
end

-- Code -----------------------------------------------------------------------------------

-- The fields for a table that is given to a function we know, where a field's name stands.
local function fields_of_call(code, bracket, before)
    local head = bracket and code:sub(bracket, bracket) == "{" and code:sub(1, bracket - 1)
    local name = head and at_end(head, "^%s*%(?%s*([%w_]+)[.:]")
    if not name or not at_end(before, "^%s*[{,;]") then
        return nil
    end
    return M.FIELDS[name]
end

local function beginning_with(typed, ...)
    local list, seen = {}, {}
    for _, words in ipairs({ ... }) do
        for _, word in ipairs(words) do
            if word:sub(1, #typed) == typed and not seen[word] then
                seen[word] = true
                list[#list + 1] = word
            end
        end
    end
    table.sort(list)
    return list
end

local function in_code(env, code, open)
    local chain = at_end(code, "^[%w_.:]*")
    if #chain > MAX_CHAIN then
        return #code + 1, {}
    end
    local past = chain:match(".*%.%.()") -- behind a concatenation
    chain = past and chain:sub(past) or chain
    local receiver, separator, typed = chain:match("^(.-)([.:]?)([%w_]*)$")
    local first = #code - #typed + 1
    local before = code:sub(1, #code - #chain)
    if chain:find("^%d") or typed:find("^%d") then
        return first, {}
    elseif separator ~= "" then
        if not receiver:find("^[%a_][%w_.]*$") then
            return first, {}
        end
        return first, members(look(env, receiver), separator, typed)
    end
    local fields = fields_of_call(code, open[#open], before)
    if fields then
        return first, beginning_with(typed, fields)
    end
    return first, beginning_with(typed, members(env, ".", typed),
        typed ~= "" and M.KEYWORDS or {})
end

--- What may come next in Lua.
-- @tparam table env the globals
-- @string code the line up to the cursor
-- @string after what is behind it
-- @treturn integer the index where the text that is completed begins
-- @treturn table array of texts
function M.line(env, code, after)
    local quote, start, open = scan(code)
    if quote == '"' or quote == "'" then
        return in_string(env, code, start, quote, after)
    elseif quote then
        return #code + 1, {}
    end
    return in_code(env, code, open)
end

return M
