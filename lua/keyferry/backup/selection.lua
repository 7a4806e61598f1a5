-- SPDX-License-Identifier: MIT
--- What of the source a run is about. Methods of a run.
local core = require "keyferry.core"
local guard = require "keyferry.guard"
local matching = require "keyferry.matching"
local stopping = require "keyferry.backup.stop"

local check = stopping.check

local M = {}

-- What the source has and no listing shows (core.softhsm.damaged): it may be the key that
-- matters, so a run without it is no success.
function M:find_damage()
    if self.source:probe("softhsm") then
        self.damaged = check(core.softhsm.damaged(self.source))
    end
end

-- The objects of the source. Where some are damaged only those that have all attributes: at
-- the first look SoftHSM makes up what is missing, and writes it.
function M:find_objects()
    if #self.damaged == 0 then
        return check(self.source_end:find{ token = true })
    end
    local objects = {}
    for _, modifiable in ipairs{ true, false } do
        local some = check(self.source_end:find{ token = true, modifiable = modifiable })
        table.move(some, 1, #some, #objects + 1, objects)
    end
    return objects
end

function M:make_test()
    return self.options.select and matching.of(self.options.select)
end

-- Whether an object is part of the run. One that could not be read may be the one that is
-- wanted: it is never passed over.
function M:is_chosen(object)
    local wanted = not object.trouble and (not self.test or guard.hook(self.test, object))
    self.doubts[object] = not wanted and matching.doubt_of(object) or nil
    return wanted or self.doubts[object] ~= nil
end

-- The objects that the policy selects; the others are told as skipped.
function M:select_objects()
    local chosen, skipped = {}, {}
    self.test = self:make_test()
    for _, object in ipairs(self:find_objects()) do
        local list = self:is_chosen(object) and chosen or skipped
        list[#list + 1] = object
    end
    self.objects, self.skipped = chosen, skipped
    self.report.selected = #chosen + #self.damaged
end

-- A source that can be read twice is (keyferry.backup.arriving).
function M.look_through() end

-- Gives each selected object, its number, and of how many (nil: nobody knows yet).
function M:each_object()
    local i, objects = 0, self.objects
    return function()
        i = i + 1
        if objects[i] then
            return objects[i], i, #objects
        end
    end
end

return M
