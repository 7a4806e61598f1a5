-- SPDX-License-Identifier: MIT
--- Staged clones become real: proved, told, and in place of the old ones. Methods of a run.
local core = require "keyferry.core"
local results = require "keyferry.backup.results"
local stopping = require "keyferry.backup.stop"

local stop = stopping.stop
local failure = stopping.failure
local check_interrupt = stopping.check_interrupt
local identity = results.identity

local M = {}

local LARGEST_BATCH = 8192

-- Those of a list that have a status.
local function having(list, status)
    local found = {}
    for _, result in ipairs(list) do
        if result.status == status then
            found[#found + 1] = result
        end
    end
    return found
end

-- Those of a list that the HSM had already, as it said when it was to clone them.
local function found_in(list)
    local found = {}
    for _, result in ipairs(list) do
        if result.found then
            found[#found + 1] = result
        end
    end
    return found
end

-- Gives each staged result what became of it.
local function spread(queue, planted)
    local i = 0
    for _, result in ipairs(queue) do
        if result.status == "staged" then
            i = i + 1
            local one = planted[i] or { err = failure("KFR_STORE", "not committed") }
            result.status = one.err and "failed" or one.exists and "exists" or "cloned"
            result.found = one.exists or nil
            result.err, result.target_handle, result.undone = one.err, one.handle, one.undone
            result.lost = results.join(result.lost, one.lost)
        end
    end
end

-- Whether a clone works like its original: true; false; nil, err when it cannot be told.
function M.use_both(_, object, clone)
    return core.challenge(object, clone)
end

-- Originals that only their key material tells apart are matched with their clones by use:
-- a token names them in no order. Swaps handles so that result and clone belong together.
function M:prove_against(result, others)
    local clone, err = self.target:object(result.target_handle)
    if not clone then
        return nil, err
    end
    local same
    same, err = self:use_both(result.object, clone)
    for _, other in ipairs(same == false and others or {}) do
        local candidate = not other.settled and other ~= result
            and self.target:object(other.target_handle)
        if candidate and self:use_both(result.object, candidate) then
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
        if result.found and result.status == "exists" then
            good = self:prove_found(result) and good
        elseif result.status == "cloned" and not result.settled then
            good = self:prove(result, groups[identity(result.object)]) and good
        end
    end
    return good
end

-- All are counted before one is told: the hook that is told may fail.
function M:flush()
    local queue = self.queue
    self.queue = {}
    for _, result in ipairs(queue) do
        if result.status == "failed" then
            self.last_error = result.err
        end
        self:count(result)
    end
    for _, result in ipairs(queue) do
        self:tell(result)
    end
end

-- Asks the policy about what failed at a commit. Gives those that it wants tried again, when
-- the longest pause that it wants is over.
function M:ask_again(failed)
    local again, longest = {}, 0
    for _, result in ipairs(failed) do
        local answer, seconds = self:decide(result.object, result.err, result.attempts)
        if answer == "stop" or stopping.is_last[result.err.code] then
            self.stopped = true
            return {}
        elseif answer == "retry" then
            again[#again + 1], longest = result, math.max(longest, seconds)
        end
    end
    if #again > 0 then
        stopping.pause(longest)
    end
    return again
end

-- Seals and stages once more.
function M:renew(list)
    for _, result in ipairs(list) do
        check_interrupt()
        for _, name in ipairs{ "err", "target_handle", "undone", "settled", "verified",
                               "found", "differs" } do
            result[name] = nil
        end
        self:attempt(result)
    end
end

-- Commits what is staged, each by itself; what fails may be staged again.
function M:commit_each()
    local fresh = having(self.queue, "staged")
    local planted, err = self.target_end:commit{ mode = "each" }
    if planted then
        spread(self.queue, planted)
        self:compare_found()
        if self.options.verify then
            self:prove_all()
        end
        return self:renew(self:ask_again(having(fresh, "failed")))
    end
    fresh[1].err = err
    if #self:ask_again{ fresh[1] } == 0 then
        stop(err)
    end
    self:renew(fresh)
end

-- Makes what is staged real and tells the results so far.
function M:commit()
    while self.target_end and self.target_end:staged() > 0 do
        self:commit_each()
    end
    self:flush()
end

function M:commit_when_full()
    if self.mode ~= "replace" and not self.options.plan
        and self.target_end:staged() >= self.batch then
        self:commit()
        self.batch = self.pair and 1 or math.min(self.batch * 4, LARGEST_BATCH)
    end
end

-- `incomplete`: what the stream lacks (nil: nothing; it is another object's fault).
local function left_as_it_was(incomplete)
    return failure("KFR_REFUSED", "the old backup was left as it was, because "
                   .. (incomplete and incomplete.what or "another object could not be cloned"))
end

-- The replacement cannot be whole: nothing of it stays, and every object says so.
function M:give_up_replacing()
    for _, result in ipairs(having(self.queue, "staged")) do
        result.status, result.err = "failed", left_as_it_was(self.incomplete)
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

-- What was planted beside the old backup goes again.
function M:take_back()
    self.tentative = false
    for _, clone in ipairs(self:clones()) do
        clone:destroy()
    end
    for _, result in ipairs(self.queue) do
        if result.status == "cloned" or result.status == "exists" then
            result.status, result.err, result.undone = "failed", left_as_it_was(), true
            result.target_handle = nil
        end
    end
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
        return self:give_up_replacing()
    end
    self.stopped = true
    self.report.removed = #self.existing - self:count_old()
    self.report.left = #self.existing - self.report.removed - #found_in(self.queue)
    self:flush()
end

-- A source that has lost its objects, or a pattern with a slip in it, must not cost the only
-- copy there is.
function M:refuse_replacing_by_nothing()
    local nothing = #self.objects == 0 and #self.damaged == 0
    if self.mode == "replace" and nothing and #self.existing > 0 then
        stop(failure("KFR_REFUSED", ("nothing is selected to replace the %d objects of the "
                     .. "target by"):format(#self.existing),
                     "look at the source; a backup that is no longer wanted is deleted with "
                     .. "'keyferry partition delete'"))
    end
end

-- The old objects that a replacement does not keep.
function M:unwanted()
    local kept, list = {}, {}
    for _, result in ipairs(found_in(self.queue)) do
        kept[result.target_handle] = true
    end
    for _, object in ipairs(self.existing) do
        if not kept[object.handle] then
            list[#list + 1] = object
        end
    end
    return list
end

-- Plants the new objects, proves them and then removes the old ones.
function M:replace_proved()
    local planted, err, each = self.target_end:commit{ mode = "all" }
    spread(self.queue, planted or each)
    if not planted then
        return err, false
    end
    self.tentative = true
    if not self:prove_all() then
        err = having(self.queue, "failed")[1].err
        self:take_back()
        return err, false
    end
    local removed, is_decided
    removed, err = self.target_end:commit{ mode = "all", remove = self:unwanted() }
    is_decided = removed or self:has_begun_removing()
    if not is_decided then
        self:take_back()
    end
    self.tentative = false
    return not removed and err or nil, is_decided
end

-- Plants the new objects and removes the old ones. nil; or why not, and whether the new ones
-- are the backup all the same.
function M:replace()
    if self.options.verify then
        return self:replace_proved()
    end
    local planted, err, each = self.target_end:commit{ mode = "all", remove = self.existing }
    spread(self.queue, planted or each)
    if not planted then
        return err, #self:clones() > 0
    end
    return nil
end

-- Those that a replacement failed by.
local function culprits(queue)
    local failed, own = having(queue, "failed"), {}
    for _, result in ipairs(failed) do
        if not result.undone then
            own[#own + 1] = result
        end
    end
    return #own > 0 and own or { failed[1] }
end

-- Whether the policy wants all of it staged again, which then has been done.
function M:renew_replacement()
    local failed = culprits(self.queue)
    if #failed == 0 or #self:ask_again(failed) < #failed then
        return false
    end
    self:renew(self.queue)
    return true
end

-- All or nothing: the old objects go only when every new one is in and checked.
function M:commit_replacement()
    local err, is_decided
    repeat
        if #having(self.queue, "failed") > 0 then
            return self:give_up_replacing()
        end
        err, is_decided = self:replace()
    until not err or is_decided or not self:renew_replacement()
    if err then
        return self:fail_replacing(err, is_decided)
    end
    self.report.removed = #self:unwanted()
    self:flush()
end

return M
