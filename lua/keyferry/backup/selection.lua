-- SPDX-License-Identifier: MIT
--- What of the source a run is about. Methods of a run.
local damage = require "keyferry.backup.damage"
local guard = require "keyferry.guard"
local matching = require "keyferry.matching"

local M = {}

-- What the source has and no listing shows (core.softhsm.damaged): it may be the key that
-- matters, so a run without it is no success.
function M:find_damage()
    self.damaged = damage.of(self.source)
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
    local objects, unlisted = damage.find_all(self.source_end, self.damaged)
    self.test = self:make_test()
    for _, object in ipairs(objects) do
        local list = self:is_chosen(object) and chosen or skipped
        list[#list + 1] = object
    end
    self.objects, self.skipped = chosen, skipped
    table.move(unlisted, 1, #unlisted, #self.damaged + 1, self.damaged)
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
