-- SPDX-License-Identifier: MIT
--- backup: one partition's objects to another, by a policy.
--
-- The way of one object: find -> `select` -> seal at the source -> stage at the target ->
-- commit -> `on_result`. Results come in the order of the source's objects, each after its
-- clone is durable.
-- @module keyferry.backup

local core = require "keyferry.core"
local arriving = require "keyferry.backup.arriving"
local choice = require "keyferry.backup.choice"
local commit = require "keyferry.backup.commit"
local ends = require "keyferry.backup.ends"
local existing = require "keyferry.backup.existing"
local given = require "keyferry.backup.options"
local guard = require "keyferry.guard"
local reporting = require "keyferry.backup.reporting"
local removal = require "keyferry.backup.removal"
local results = require "keyferry.backup.results"
local room = require "keyferry.backup.room"
local selection = require "keyferry.backup.selection"
local stopping = require "keyferry.backup.stop"

local stop = stopping.stop
local failure = stopping.failure
local check_interrupt = stopping.check_interrupt
local reason_of = stopping.reason_of
local result_of = results.result_of

local M = {}

local FIRST_BATCH = 64

local Run = {}
Run.__index = Run

-- A run whose source is a sealed stream.
local StreamRun = setmetatable({}, Run)
StreamRun.__index = StreamRun

for _, methods in ipairs{ ends, selection, results.methods, existing, commit, reporting, removal,
                        room } do
    for name, method in pairs(methods) do
        Run[name] = method
    end
end

for name, method in pairs(arriving) do
    StreamRun[name] = method
end

local function new_run(options)
    return setmetatable({
        options = given.copy(options, given.NAMES), source = options.source,
        target = options.target, given = options.domain,
        mode = options.target and options.mode or "create",
        queue = {}, batch = FIRST_BATCH, damaged = {}, doubts = {},
        report = { cloned = 0, exists = 0, failed = 0, skipped = 0, removed = 0,
                   unproved = 0, lossy = 0, held = 0, created = false,
                   planned = options.plan and 0 or nil },
    }, given.is_stream(options.source) and StreamRun or Run)
end

-- Seal and stage ------------------------------------------------------------------

local answers = { continue = true, retry = true, stop = true }

-- What the policy says to an error, and how long it would wait; the default is to go on.
function Run:decide(object, err, attempt)
    local answer, seconds
    if self.options.on_error then
        answer, seconds = guard.hook(self.options.on_error, object, err, attempt)
    end
    if answer ~= nil and not answers[answer] then
        error(("on_error returned '%s', not \"continue\", \"retry\" or \"stop\"")
              :format(tostring(answer)), 0)
    elseif seconds ~= nil and not (math.type(seconds) and seconds >= 0 and seconds <= 86400) then
        error(("on_error returned a pause of '%s', not 0 to 86400 seconds")
              :format(tostring(seconds)), 0)
    end
    return answer or "continue", seconds or 0
end

-- What the policy wants different on the clone of a result.
function Run:changes_of(result)
    result.changes = self.options.changes and guard.hook(self.options.changes, result.object)
        or nil
    return result.changes
end

-- sealed and what was lost; nil, err: also of which it cannot be told whether it is wanted.
function Run:seal(object)
    if self.doubts[object] then
        return nil, self.doubts[object]
    end
    return self.source_end:seal(object)
end

-- Seals an object and makes its clone ready. true and what was lost; nil, err.
function Run:ferry(result)
    local object = result.object
    local sealed <close>, lost = self:seal(object)
    if not sealed then
        return nil, lost
    end
    if self.options.plan then
        local foreseen, err = self:foresee(sealed, self:changes_of(result))
        if not foreseen then
            return nil, err
        end
        self:measure(object, sealed)
        return true, results.join(lost, foreseen)
    end
    local ok, err = self.target_end:stage(sealed, self:changes_of(result),
                                          self.options.more_rights)
    return ok, ok and lost or err
end

-- What the target would make of a sealed object: what would be lost; nil, err.
function Run:foresee(sealed, changes)
    local more_rights = self.options.more_rights
    if self.target_end then
        return self.target_end:foresee(sealed, changes, more_rights)
    end
    return core.foresee(self.target_engine, sealed, self:target_domain(), changes, more_rights)
end

-- Asks the policy about an object that could not be made ready. True: try again.
function Run:again(result, err)
    local answer, seconds = self:decide(result.object, err, result.attempts)
    if answer == "retry" and not stopping.is_last[err.code] then
        stopping.pause(seconds)
        return true
    end
    result.status, result.err, self.last_error = "failed", err, err
    self.stopped = self.stopped or answer == "stop" or stopping.is_last[err.code]
    return false
end

-- Makes the clone of a result ready, as often as the policy wants it tried.
function Run:attempt(result)
    local ok, err
    repeat
        result.attempts = result.attempts + 1
        ok, err = self:ferry(result)
    until ok or not self:again(result, err)
    if ok then
        result.status, result.lost = self.options.plan and "planned" or "staged", err
    end
end

function Run:take(object)
    local result = result_of(object, "waiting", { attempts = 0 })
    self:attempt(result)
    self:queue_result(result)
end

-- The run -----------------------------------------------------------------------------

-- Every object fails by its own blob at the target's domain, to the end of the list.
function Run:report_mismatch()
    self.last_error = self.mismatch
    for object in self:each_object() do
        check_interrupt()
        local sealed <close>, err = self.source_end:seal(object)
        local ok
        if sealed then
            ok, err = sealed:opens(self:target_domain())
        end
        self:emit(result_of(object, "failed", { err = not ok and err or self.mismatch }))
    end
    local source = self.head and "stream" or "source partition"
    self.report.reason = failure("KFR_DOMAIN_MISMATCH", "nothing was cloned, since the cloning "
                                 .. "domain is not that of the " .. source,
                                 "give the domain that the " .. source .. " was made with")
    self.report.status = "failed"
end

function Run:make_target()
    local target, err = guard.hook(self.options.create, self.given or self.source_domain,
                                   self:mark())
    if not target then
        stop(err)
    end
    self.report.created = true
    self.target = target
    self:open_target()
end

function Run:progress(done, total)
    if self.options.on_progress and total then
        guard.hook(self.options.on_progress, done, total)
    end
end

function Run:ferry_all()
    for object, i, total in self:each_object() do
        check_interrupt()
        local known = self.mode == "add" and self:settle_existing(object)
        if not known then
            self:take(object)
        end
        if not self.stopped then
            self:progress(i, total)
        end
        self:commit_when_full()
        if self.stopped then
            break
        end
    end
    for _, err in ipairs(self.stopped and {} or self.damaged) do
        self:fail_object({ handle = 0 }, err)
    end
end

function Run:finish_commit()
    if self.options.plan then
        self:finish_plan()
    elseif self.mode ~= "replace" then
        self:commit()
    elseif self.stopped or self.incomplete then
        self:give_up_replacing()
    else
        self:refuse_replacing_by_nothing()
        self:commit_replacement()
    end
end

function Run:conclude()
    local report = self.report
    local lacking = self.incomplete or self.cut_off
    if report.failed == 0 and not self.stopped and not lacking then
        report.status = "success"
        return
    end
    report.reason = self.last_error or lacking
    local there = report.cloned + report.exists + (report.planned or report.sealed or 0)
    report.status = there > 0 and "partial" or "failed"
    report.partial = true -- object by object, whatever the count
end

-- Both sides show all that they have.
function Run:check_logins()
    for _, session in ipairs{ self.source, self.target } do
        if given.is_session(session) then
            choice.require_user(session)
        end
    end
end

function Run:work()
    self:check_logins()
    self:find_damage()
    self:open_source()
    self:select_objects()
    if self.target then
        self:open_target()
    end
    local fits = self:settle_domain()
    if fits then
        self:look_through()
    end
    if fits and not self.target and not self.options.plan then
        self:make_target()
    end
    self:begin_report()
    for _, object in ipairs(self.skipped) do
        self:emit(result_of(object, "skipped"))
    end
    if not fits then
        return self:report_mismatch()
    end
    if self.target then
        self:complete_target()
        self:attach_target()
    else
        self.target_engine = self:engine_without_target() or core.engines()[1]
    end
    if self.mode ~= "create" then
        self:index_target()
    end
    self:check_logins() -- while it was listed, too
    self:refuse_replacing_by_nothing()
    self:ferry_all()
    self:finish_commit()
    if self.target and not self.stopped then
        self:finish_target()
    end
    self:conclude()
end

-- Undoes what a run that did not come to its end has begun.
function Run:undo()
    if self.tentative then
        self:take_back()
    end
    self:finish_report()
    self:close_ends()
    local report = self.report
    if report.created and report.status ~= "success" and report.cloned == 0 then
        guard.hook(self.options.discard)
        report.created = false
    end
    report.unfinished = self.target and self.target:is_open()
        and report.status ~= "success" and self.target:unfinished() ~= nil or nil
end

function Run:close_ends()
    if self.target_end then
        self.target_end:close()
        self.target_end = nil
    end
    if self.source_end then
        self.source_end:close()
        self.source_end = nil
    end
    if self.lock then
        self.lock:close()
        self.lock = nil
    end
end

local running = {} -- runs that have begun, the innermost last
local cut_off -- the counts of the last one whose caller got no report

local counted = { "cloned", "sealed", "planned", "exists", "failed", "skipped", "removed" }

local function keep_counts(report)
    cut_off = {}
    for _, name in ipairs(counted) do
        cut_off[name] = report[name]
    end
end

local perform = guard.whole(function(run)
    local report = run.report
    running[#running + 1] = run
    local ok, thrown = xpcall(run.work, guard.handler, run)
    table.remove(running)
    if not ok then
        report.status = "failed"
        report.reason = reason_of(thrown) or thrown
    end
    local undone, problem = xpcall(run.undo, guard.handler, run)
    run:close_ends()
    if not undone or not ok and not reason_of(thrown) then
        keep_counts(report)
    end
    if not ok and not reason_of(thrown) then
        error(thrown, 0)
    elseif not undone then
        error(problem, 0)
    end
    return report
end)

M.OPTIONS = given.NAMES
M.check = given.check
M.Run = Run -- for a run of another kind (keyferry.send)
M.perform = perform

--- Undoes what the runs that are going on have begun: the program ends inside a hook, and no
-- error will pass through them.
-- @local
M.abandon = guard.whole(function()
    while #running > 0 do
        local run = table.remove(running)
        xpcall(run.undo, guard.handler, run)
        run:close_ends()
        keep_counts(run.report)
    end
end)

--- What the last run has done that ended with an error of its policy, or with the program; nil
-- when there was none since this was asked.
-- @treturn table|nil counts
-- @local
function M.take_counts()
    local counts = cut_off
    cut_off = nil
    return counts
end

--- Backs up a partition.
-- @tparam table options
--
--   * `source`: a session logged in as the Crypto Officer; read-only is enough. Or a sealed
--     stream (keyferry.archive.open)
--   * `target`: a read/write session logged in as the Crypto Officer
--   * `mode`: with a target: "add" (what is there is neither duplicated nor overwritten) or
--     "replace" (afterwards the target holds exactly what was selected; all or nothing)
--   * `create`: instead of a target: function(domain, of) -> session, or nil, err, called when
--     the first blob has been seen to open; `of` is for hsm:create_partition's `unfinished`
--   * `discard`: function() that removes what `create` made, when nothing came of it
--   * `domain`: the cloning domain for a source that has none and for the target
--   * `engine`, `source_engine`, `target_engine`: instead of the one that fits best
--   * `verify`: true: challenge every clone, and what was there already, with a real operation
--   * `plan`: true: change nothing. Without a target it is what the engines make of the source
--   * `spare`: in a plan without a target: the token of the slot that it would be made in, for
--     what it says of its room
--   * `select`: function(object) -> boolean; or a glob for the label; or a table of attributes
--     that have to be so, `{ class = "private_key", label = "tls-*", sign = true }`, where an
--     array stands for any of its values
--   * `changes`: function(object) -> attributes that its clone gets instead, or nil; they may
--     describe it differently and take rights away
--   * `more_rights`: true: `changes` may also give rights that the original has not
--   * `on_exists`: function(object, existing) -> "skip" (default) or "clone"
--   * `on_mismatch`: function(attempt, err) -> another domain, or nil to give up
--   * `on_error`: function(object, err, attempt) -> "continue" (default), "stop", or "retry" and
--     how many seconds to wait before; asked about an object that could not be sealed, staged
--     or committed. With "replace" a failed commit is tried again as a whole, or not at all
--   * `on_result`: function(result), when what became of an object is settled and durable
--   * `on_progress`: function(done, total), after each object that was tried, before its result
--
--   * `report`: what keyferry.report.create gave: the run writes it
--   * `unfinished`: true: also from a source that is itself an unfinished backup
--
--   A hook that fails ends the run safely and the error goes on to the caller; one that is
--   interrupted is the report's reason. Hooks cannot yield.
-- @treturn report
function M.run(options)
    given.check(options)
    return perform(new_run(options))
end

return M
