-- SPDX-License-Identifier: MIT
--- matching: which objects are meant, by a function, a glob or a table of attributes.
local core = require "keyferry.core"
local glob = require "keyferry.glob"

local M = {}

-- Attributes whose value is the name of a constant: a slip in it must not mean "none".
local families = { class = "CKO", key_type = "CKK", certificate_type = "CKC" }

local function nick_of(name)
    local number = math.type(name) == "integer" and name
        or type(name) == "string" and core.value("CKA", name)
    local nick = number and core.nick("CKA", number)
    if not nick then
        error(("'%s' is not an attribute"):format(tostring(name)), 0)
    end
    return nick
end

local function constant(family, value)
    local number = type(value) == "string" and core.value(family, value)
    if not number then
        error(("there is no %s '%s'"):format(family, tostring(value)), 0)
    end
    return core.nick(family, number)
end

-- A test for the value of one attribute; an array is any of its values.
local function value_test(nick, wanted)
    if type(wanted) == "table" then
        local tests = {}
        for i, one in ipairs(wanted) do
            tests[i] = value_test(nick, one)
        end
        return function(value)
            for _, test in ipairs(tests) do
                if test(value) then
                    return true
                end
            end
            return false
        end
    elseif nick == "label" then
        return glob(wanted)
    end
    wanted = families[nick] and constant(families[nick], wanted) or wanted
    return function(value)
        return value == wanted
    end
end

local function value_of(object, nick)
    local value = object[nick]
    if type(value) == "function" then -- sign, verify: methods, too
        return object:attributes()[nick]
    end
    return value
end

local function by_attributes(wanted)
    local tests = {}
    for name, value in pairs(wanted) do
        local nick = nick_of(name)
        if tests[nick] then
            error(("%s is given twice, by two of its names"):format(nick), 0)
        end
        tests[nick] = value_test(nick, value)
    end
    return function(object)
        for nick, test in pairs(tests) do
            if not test(value_of(object, nick)) then
                return false
            end
        end
        return true
    end
end

local makers = {
    ["function"] = function(what) return what end,
    string = function(what) return by_attributes{ label = what } end,
    table = by_attributes,
}

--- A test for objects.
-- @param what a function of an object; a glob for the label; or a table of attributes that all
--   have to be as given: { class = "private_key", label = "tls-*", sign = true }. An array
--   stands for any of its values.
-- @treturn function of an object
function M.of(what)
    local maker = makers[type(what)]
    if not maker then
        error("objects are chosen by a function, a glob or a table, not by a " .. type(what), 0)
    end
    return maker(what)
end

--- Why it cannot be told whether an object is meant: what it is chosen by could not be read.
-- @treturn ?err nil when it can
function M.doubt_of(object)
    if object.trouble then
        return object.trouble
    end
    for _, name in ipairs(object:unread()) do
        if name == "CKA_LABEL" or name == "CKA_ID" then
            return core.error{ code = "KFR_MODULE", what = ("its %s could not be read, so it "
                .. "cannot be told whether it is wanted"):format(name) }
        end
    end
    return nil
end

return M
