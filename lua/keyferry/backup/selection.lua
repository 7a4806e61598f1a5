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

-- The objects that the policy selects; the others are told as skipped. One that could not be
-- read may be the one that is wanted: it is never passed over.
function M:select_objects()
    local select = self.options.select and matching.of(self.options.select)
    local chosen, skipped = {}, {}
    for _, object in ipairs(self:find_objects()) do
        local wanted = not object.trouble and (not select or guard.hook(select, object))
        self.doubts[object] = not wanted and matching.doubt_of(object) or nil
        if wanted or self.doubts[object] then
            chosen[#chosen + 1] = object
        else
            skipped[#skipped + 1] = object
        end
    end
    self.objects, self.skipped = chosen, skipped
    self.report.selected = #chosen + #self.damaged
end

return M
