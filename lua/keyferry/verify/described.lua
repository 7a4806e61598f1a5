-- SPDX-License-Identifier: MIT
--- An object that only a report tells of, looked at like an object of a session.
local core = require "keyferry.core"

local Described = {}

local names = {} -- name or nick -> name

local function name_of(what)
    if names[what] == nil then
        local number = core.value("CKA", what)
        names[what] = number and core.name("CKA", number) or false
    end
    return names[what]
end

local meta = { __name = "object of a report" }

function meta.__index(self, what)
    if Described[what] then
        return Described[what]
    end
    local name = name_of(what)
    return name and rawget(self, "record")[name]
end

function meta:__tostring()
    return ('%s%s "%s" (handle %d in the report)'):format(self.class or "object",
        self.key_type and " " .. self.key_type or "", (self.label or ""):gsub("%c", "?"),
        self.handle)
end

--- All attributes that the report has.
function Described:attributes()
    local all = {}
    for name, value in pairs(rawget(self, "record")) do
        local number = core.value("CKA", name)
        if number then
            all[core.nick("CKA", number) or name] = value
        end
    end
    return all
end

function Described:has(what)
    return name_of(what) and rawget(self, "record")[name_of(what)] == true or false
end

function Described:unread()
    return rawget(self, "record").unread
end

-- A clone is what it was made to be, and claims no past that this belies
-- (kf_change_denies in c/clone/change.c).
local function change(known, changes)
    for name, value in pairs(changes) do
        known[name] = value
    end
    if changes.CKA_EXTRACTABLE then
        known.CKA_NEVER_EXTRACTABLE = false
    end
    if changes.CKA_SENSITIVE == false then
        known.CKA_ALWAYS_SENSITIVE = false
    end
end

--- An object of a line of a report.
-- @tparam table line as keyferry.report.read gives it
return function(line)
    local known = {}
    for name, value in pairs(line.record) do
        known[name] = value
    end
    change(known, line.changes or {})
    known.unread = line.record.unread
    return setmetatable({ handle = line.handle, record = known }, meta)
end
