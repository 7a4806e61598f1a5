-- SPDX-License-Identifier: MIT
--- Whether a line may hold a secret: a password as an option of a command, or as Lua text; words
-- of a share that were meant for a question which is over. When in doubt it does.
local core = require("keyferry.core")

local lexer = require("keyferry.shell.prompt.lexer")
local script = require("keyferry.shell.script")
local text = require("keyferry.shell.text")
local words = require("keyferry.shell.prompt.words")

local M = {}
local Discreet = {}
Discreet.__index = Discreet

-- What takes a secret in Lua, besides secret() itself: with a text behind it, it was tried.
local TAKES = { login = true, init_pin = true, init_token = true, domain = true }
local HOLDS = {
    password = true, passphrase = true, pin = true, so_password = true, so_pin = true,
    tokenpw = true, tokensopwd = true, domain = true, secret = true,
}

-- The secret options that every installation has; the others come from the scripts.
local SECRET_OPTIONS = { password = true, tokenpw = true, tokensopwd = true, domain = true }

--- A judge, who learns what secret() is called otherwise (`s = keyferry.secret`).
function M.new()
    return setmetatable({ makes = { secret = true } }, Discreet)
end

-- -- Lua ---------------------------------------------------------------------------------

local NONE = { kind = "", text = "" }

local function is_text(token)
    return token.kind == "string"
end

-- A token that names something: `secret`, or "secret" in brackets.
local function name_of(token)
    if token.kind == "name" then
        return token.text
    end
    return is_text(token) and token.text:match("^[\"'](.*)[\"']$") or nil
end

-- What stands behind the name at i, behind the bracket of ["name"], too.
local function behind(tokens, i)
    local at = is_text(tokens[i]) and (tokens[i + 1] or NONE).text == "]" and i + 2 or i + 1
    return tokens[at] or NONE, tokens[at + 1] or NONE
end

local function holds(self, tokens, i)
    local name = name_of(tokens[i])
    local after, next_after = behind(tokens, i)
    if not name then
        return false
    elseif self.makes[name] and (is_text(after) or after.text == "(") then
        return true
    elseif TAKES[name] and (is_text(after) or after.text == "(" and is_text(next_after)) then
        return true
    end
    return HOLDS[name] and after.text == "=" and is_text(next_after)
end

-- Names that become secret() in this line.
local function learn(self, tokens, i)
    local target = tokens[i - 1] and tokens[i - 1].text == "=" and (tokens[i - 2] or NONE)
        or tokens[i - 3] and tokens[i - 3].text == "=" and tokens[i - 1].text:find("^[.[]$")
        and (tokens[i - 4] or NONE)
    if self.makes[name_of(tokens[i]) or ""] and target and target.kind == "name" then
        self.makes[target.text] = true
    end
end

local function in_lua(self, line)
    local tokens = lexer.tokens(line)
    local found = line:find("secret%s*[(\"'[]") ~= nil
    for i = 1, #tokens do
        found = found or holds(self, tokens, i)
        learn(self, tokens, i)
    end
    return found
end

-- -- Commands ----------------------------------------------------------------------------

local function one_of(field, typed, entries)
    local names, seen = {}, {}
    for _, entry in ipairs(entries) do
        if not seen[entry[field]] then
            seen[entry[field]] = true
            names[#names + 1] = entry[field]
        end
    end
    names = text.matching(typed or "", names)
    return #names == 1 and names[1] or nil
end

--- The script that the words of a command mean, loaded; nil when there is none.
-- @tparam table list words
-- @treturn table|nil the script
-- @treturn[opt] integer the index of the first word behind its name
function M.script_of(list)
    local entries = script.all()
    local noun, of_noun, verb, entry
    if list[1] == "run" then
        return list[2] and script.peek({ path = list[2] }), 3
    end
    noun = one_of("noun", list[1], entries)
    of_noun = {}
    for _, candidate in ipairs(entries) do
        if candidate.noun == noun then
            of_noun[#of_noun + 1] = candidate
        end
    end
    verb = list[2] and one_of("verb", list[2], of_noun)
    entry = noun and verb and script.find(noun, verb)
    return entry and script.peek(entry) or nil, 3
end

-- Whether one typed option is known, and known to be none of the secret ones.
local function is_harmless(spec, name)
    local names, kinds = { "help" }, { help = "flag" }
    for _, option in ipairs(spec) do
        names[#names + 1], kinds[option.name] = option.name, option.kind
    end
    names = text.matching(name, names)
    return #names == 1 and kinds[names[1]] ~= "secret"
end

local function in_command(line)
    local list = words.split(line)
    local found, first
    if not line:find("-", 1, true) then
        return false
    elseif not list then
        return true
    end
    if list[1] == "keyferry" then
        table.remove(list, 1)
    end
    found, first = M.script_of(list)
    for i = 2, #list do
        local name = list[i]:match("^%-%-?([^=]*)")
        if name and (not found or i < first
            or name ~= "" and not is_harmless(found.options or {}, name)) then
            return true
        end
    end
    return false
end

-- -- Any line ----------------------------------------------------------------------------

local function secret_options()
    local names = {}
    for name in pairs(SECRET_OPTIONS) do
        names[name] = true
    end
    for _, entry in ipairs(script.all()) do
        local found = script.peek(entry)
        for _, option in ipairs(found and found.options or {}) do
            if option.kind == "secret" then
                names[option.name] = true
            end
        end
    end
    return names
end

-- A command typed where Lua was expected, or with something before it.
local function looks_like_option(line)
    local names
    for typed in line:gmatch("%f[%-]%-%-?([%a][%w_-]*)") do
        names = names or secret_options()
        for name in pairs(names) do
            if name:sub(1, #typed) == typed then
                return true
            end
        end
    end
    return false
end

-- core.share.parse has a hint when it looks as if a share was meant.
local function looks_like_share(line)
    local typed <close> = core.secret(line)
    local share, err = core.share.parse(typed)
    if share then
        share:close()
        return true
    end
    return err.hint ~= nil
end

--- Whether a line may hold a secret.
-- @string line perhaps of several lines
-- @tparam boolean is_command how the prompt understood it
-- @treturn boolean
function Discreet:may_hold_secret(line, is_command)
    local ok, found = pcall(function()
        if looks_like_share(line) then
            return true
        elseif is_command then
            return in_command(line)
        end
        return in_lua(self, line) or looks_like_option(line)
    end)
    return not ok or found
end


return M
