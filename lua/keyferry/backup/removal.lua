-- SPDX-License-Identifier: MIT
--- What a plan says of the old objects of its target, and its end. Methods of a run.
local core = require "keyferry.core"
local results = require "keyferry.backup.results"
local stopping = require "keyferry.backup.stop"

local failure = stopping.failure

local M = {}

--- An old object of the target that "replace" would remove.
-- @table removal
-- @tfield object object the target's
-- @tfield int handle its handle there
-- @tfield[opt] int replaced_by the handle of the source's object that is the same key, and is
--   cloned in its place

-- The engines that work through PKCS#11 refuse as a whole what they could not finish
-- (c/clone/wrap_plant.c, luna_plant.c).
local function first_that_stays(run)
    if run.target_engine == "softhsm" then
        return nil
    end
    for _, old in ipairs(run:unwanted()) do
        if old.destroyable == false then
            return core.error{
                code = "CKR_ACTION_PROHIBITED", call = "C_DestroyObject",
                what = ("the old object %d cannot be removed: CKA_DESTROYABLE is false")
                    :format(old.handle),
                hint = run.target_engine == "wrap" and "the engine softhsm can remove it" or nil,
            }
        end
    end
    return nil
end

-- Why nothing would be replaced; nil: it would.
local function obstacle(run)
    local failed = run.stopped or run.incomplete
    for _, result in ipairs(run.queue) do
        failed = failed or result.status == "failed"
    end
    return failed and failure("KFR_REFUSED", "the old backup would be left as it is, because "
                              .. "another object cannot be cloned") or first_that_stays(run)
end

-- The old object that is the same key; each stands for one. Where no digest tells there is
-- none: using the keys to find out would take longer than the backup.
local function like_of(run, object)
    local candidates = run.index[results.identity(object)] or {}
    local digest = candidates[1] and run.source_end:digest(object)
    for i, candidate in ipairs(digest and candidates or {}) do
        if run.target_end:digest(candidate) == digest then
            return table.remove(candidates, i)
        end
    end
    return nil
end

local function removals(run)
    local by, list = {}, {}
    for _, result in ipairs(run.queue) do
        local old = result.status == "planned" and like_of(run, result.object)
        if old then
            by[old.handle] = result.handle
        end
    end
    for i, old in ipairs(run:unwanted()) do
        list[i] = { object = old, handle = old.handle, replaced_by = by[old.handle] }
    end
    return list
end

-- An HSM that clones by itself keeps what it has of an object, and takes no second one.
local function keep_found(run)
    for _, result in ipairs(run.pair and run.queue or {}) do
        local there = result.status == "planned" and run:find_by_origin(result.object)
        if there then
            result.status, result.found, result.lost = "exists", true, nil
            result.target_handle = there.handle
        end
    end
end

-- All or nothing: what a replacement would be, or that it would be none.
local function foresee_replacing(run)
    keep_found(run)
    local why = obstacle(run)
    run.report.removals = why and {} or removals(run)
    run.report.to_remove = #run.report.removals
    for _, result in ipairs(why and run.queue or {}) do
        if result.status == "planned" or result.found then
            result.status, result.err, result.lost, result.undone = "failed", why, nil, true
            result.target_handle = nil
        end
    end
end

-- By the rules of an engine that works through PKCS#11 little can be told of an HSM.
local function mark_untold(run)
    for _, result in ipairs(run.queue) do
        result.untold = result.status == "planned" or nil
    end
end

--- The end of a run that changes nothing.
function M:finish_plan()
    if self.mode == "replace" then
        foresee_replacing(self)
    elseif not self.target_end and self.target_engine ~= "softhsm" then
        mark_untold(self)
    end
    self:judge_room()
    self:flush()
end

return M
