-- SPDX-License-Identifier: MIT
--- Who may run which script: its privileges against the roles of the configuration.
--
-- A guard rail, not a security boundary (keyferry.config).
local core = require("keyferry.core")

local text = require("keyferry.shell.text")

local M = {}

local function one_of(list, name)
    for _, item in ipairs(list or {}) do
        if item == name then
            return true
        end
    end
    return false
end

local function has_role(user, role)
    if user.name and one_of(role.users, user.name) then
        return true
    end
    for _, group in ipairs(user.groups) do
        if one_of(role.groups, group) then
            return true
        end
    end
    return false
end

local function is_configured(roles, names)
    for _, name in ipairs(names) do
        if roles[name] then
            return true
        end
    end
    return false
end

local function refusal(script, roles, user)
    local wanted = script.privileges
    local hint = "ask one who has it, or who keeps the configuration's roles"
    if not is_configured(roles, wanted) then
        hint = "the roles of the configuration have no such name"
    end
    return core.error({
        code = "KFR_REFUSED", hint = hint,
        what = ("'%s' takes the role %s, which %s (%s) has not"):format(text.clean(script.name),
            text.clean(table.concat(wanted, " or ")), user.name or "uid " .. user.uid,
            #user.groups > 0 and "groups " .. table.concat(user.groups, ", ")
                or "no groups"),
    })
end

--- Whether the user who started the program may run a script.
-- @tparam table script
-- @tparam table|boolean roles as keyferry.roles gives them
-- @tparam[opt] table user as core.user gives it
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] err KFR_REFUSED
function M.check(script, roles, user)
    local wanted = script.privileges
    if not roles or not wanted then
        return true
    end
    user = user or core.user()
    for _, name in ipairs(wanted) do
        if roles[name] and has_role(user, roles[name]) then
            return true
        end
    end
    return nil, refusal(script, roles, user)
end

return M
