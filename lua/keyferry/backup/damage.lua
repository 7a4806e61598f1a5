-- SPDX-License-Identifier: MIT
--- What a partition has and its listing does not show, or not as it is.
--
-- What a program that was killed has left half written in a SoftHSM's store: at the first look
-- SoftHSM makes up what is missing, and writes it. So it is found before, and not looked at.
local core = require "keyferry.core"
local stopping = require "keyferry.backup.stop"

local check = stopping.check

local M = {}

--- What the store holds and nobody can read: an array of errors. No other HSM tells.
function M.of(session)
    return session:probe("softhsm") and check(core.softhsm.damaged(session)) or {}
end

--- The searches that together give every object, and look at none that is damaged: those have
-- no CKA_MODIFIABLE yet.
function M.filters(damaged)
    if #damaged == 0 then
        return { { token = true } }
    end
    return { { token = true, modifiable = true }, { token = true, modifiable = false } }
end

--- All objects that an end shows but the damaged ones.
function M.find_whole(there, damaged)
    local objects = {}
    for _, filter in ipairs(M.filters(damaged)) do
        local some = check(there:find(filter))
        table.move(some, 1, #some, #objects + 1, objects)
    end
    return objects
end

--- Of the errors of two endpoint:unlisted those that are in both.
function M.still(first, second)
    local told, both = {}, {}
    for _, err in ipairs(first) do
        told[err.what] = true
    end
    for _, err in ipairs(second) do
        both[#both + 1] = told[err.what] and err or nil
    end
    return both
end

--- The same, and an array of errors: what the store holds and the module does not list. It is
-- listed once more before that is believed, since other programs make and remove objects.
function M.find_all(there, damaged)
    local objects = M.find_whole(there, damaged)
    local unlisted = check(there:unlisted())
    if #unlisted > 0 then
        objects = M.find_whole(there, damaged)
        unlisted = M.still(unlisted, check(there:unlisted()))
    end
    return objects, unlisted
end

return M
