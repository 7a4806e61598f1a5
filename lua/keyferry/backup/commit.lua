-- SPDX-License-Identifier: MIT
--- Staged clones become real: proved, told, and in place of the old ones. Methods of a run.
local core = require "keyferry.core"
local results = require "keyferry.backup.results"
local stopping = require "keyferry.backup.stop"

local stop = stopping.stop
local check = stopping.check
local failure = stopping.failure
local identity = results.identity

local M = {}

local LARGEST_BATCH = 8192

local function join(a, b)
    if a == nil or a == "" then
        return b
    elseif b == nil or b == "" then
        return a
    end
    return a .. ", " .. b
end

-- Gives each staged result what became of it.
local function spread(queue, planted)
    local i = 0
    for _, result in ipairs(queue) do
        if result.status == "staged" then
            i = i + 1
            local one = planted[i] or { err = failure("KFR_STORE", "not committed") }
            result.status = one.err and "failed" or "cloned"
            result.err, result.target_handle = one.err, one.handle
            result.lost = join(result.lost, one.lost)
        end
    end
end

-- Originals that only their key material tells apart are matched with their clones by use:
-- a token names them in no order. Swaps handles so that result and clone belong together.
function M:prove_against(result, others)
    local clone, err = self.target:object(result.target_handle)
    if not clone then
        return nil, err
    end
    local same
    same, err = core.challenge(result.object, clone)
    for _, other in ipairs(same == false and others or {}) do
        local candidate = not other.settled and other ~= result
            and self.target:object(other.target_handle)
        if candidate and core.challenge(result.object, candidate) then
            result.target_handle, other.target_handle
                = other.target_handle, result.target_handle
            return true
        end
    end
    return same, err
end

-- A clone that does not work like its original is no backup: it goes again.
function M:prove(result, others)
    local same, err = self:prove_against(result, others)
    result.settled = true
    if same then
        result.verified = true
    elseif same == nil and err.code == "KFR_NOT_FOUND" then
        result.verified, result.unproved = false, err.what
        self.report.unproved = self.report.unproved + 1
    else
        local clone = self.target:object(result.target_handle)
        if clone then
            clone:destroy()
        end
        result.status = "failed"
        result.err = err or failure("KFR_DIFFERS", "the clone does not work like its original",
                                    "the clone has been removed again; look at the target")
    end
    return result.status == "cloned"
end

function M:prove_all()
    local good, groups = true, {}
    for _, result in ipairs(self.queue) do
        if result.status == "cloned" then
            local key = identity(result.object)
            groups[key] = groups[key] or {}
            table.insert(groups[key], result)
        end
    end
    for _, result in ipairs(self.queue) do
        if result.status == "cloned" then
            good = self:prove(result, groups[identity(result.object)]) and good
        end
    end
    return good
end

function M:flush()
    local queue = self.queue
    self.queue = {}
    for _, result in ipairs(queue) do
        if result.status == "failed" then
            self.last_error = result.err
        end
        self:emit(result)
    end
end

-- Makes what is staged real, each by itself, and tells the results so far.
function M:commit()
    if self.target_end and self.target_end:staged() > 0 then
        spread(self.queue, check(self.target_end:commit{ mode = "each" }))
        if self.options.verify then
            self:prove_all()
        end
    end
    self:flush()
end

function M:commit_when_full()
    if self.mode == "add" and not self.options.plan
        and self.target_end:staged() >= self.batch then
        self:commit()
        self.batch = math.min(self.batch * 4, LARGEST_BATCH)
    end
end

local function count_failed(queue)
    local n = 0
    for _, result in ipairs(queue) do
        n = n + (result.status == "failed" and 1 or 0)
    end
    return n
end

-- The replacement cannot be whole: nothing of it stays, and every object says so.
function M:give_up_replacing(clones)
    for _, clone in ipairs(clones or {}) do
        clone:destroy()
    end
    for _, result in ipairs(self.queue) do
        if result.status == "staged" or result.status == "cloned" then
            result.status, result.target_handle = "failed", nil
            result.err = failure("KFR_REFUSED", "the old backup was left as it was, because "
                                 .. "another object could not be cloned")
        end
    end
    self.target_end:abort()
    self:flush()
end

-- The clones of the queue as objects of the target.
function M:clones()
    local list = {}
    for _, result in ipairs(self.queue) do
        if result.status == "cloned" and result.target_handle then
            list[#list + 1] = self.target:object(result.target_handle)
        end
    end
    return list
end

function M:count_old()
    local there, n = {}, 0
    for _, object in ipairs(self.target:find{ token = true } or {}) do
        there[object.handle] = true
    end
    for _, object in ipairs(self.existing) do
        n = n + (there[object.handle] and 1 or 0)
    end
    return n
end

-- From here on the new objects are the backup: the old ones that are left go with the next
-- run.
function M:has_begun_removing()
    return self.lock and self.lock:is_pending() or self:count_old() < #self.existing
end

function M:fail_replacing(err, is_decided)
    self.last_error = err
    if not is_decided then
        return self:give_up_replacing(self:clones())
    end
    self.stopped = true
    self.report.removed = #self.existing - self:count_old()
    self.report.left = #self.existing - self.report.removed
    self:flush()
end

-- A source that has lost its objects, or a pattern with a slip in it, must not cost the only
-- copy there is.
function M:refuse_replacing_by_nothing()
    if self.mode == "replace" and #self.objects == 0 and #self.existing > 0 then
        stop(failure("KFR_REFUSED", ("nothing is selected to replace the %d objects of the "
                     .. "target by"):format(#self.existing),
                     "look at the source; a backup that is no longer wanted is deleted with "
                     .. "'keyferry partition delete'"))
    end
end

-- All or nothing: the old objects go only when every new one is in and checked.
function M:commit_replacement()
    if count_failed(self.queue) > 0 then
        return self:give_up_replacing()
    end
    local old = self.existing
    local planted, err, each = self.target_end:commit{
        mode = "all", remove = not self.options.verify and old or nil,
    }
    spread(self.queue, planted or each)
    if not planted then
        return self:fail_replacing(err, #self:clones() > 0)
    end
    if self.options.verify then
        if not self:prove_all() then
            return self:give_up_replacing(self:clones())
        end
        local removed
        removed, err = self.target_end:commit{ mode = "all", remove = old }
        if not removed then
            return self:fail_replacing(err, self:has_begun_removing())
        end
    end
    self.report.removed = #old
    self:flush()
end

return M
