-- SPDX-License-Identifier: MIT
--- verify: whether a backup is its source, object by object. Nothing is changed on either side.
--
-- The way of one object: its key material is looked for on the target, by a digest under a
-- domain that both sides are seen through; then its label and id. What is found is compared
-- in every attribute.
-- @module keyferry.verify

local comparing = require "keyferry.verify.comparing"
local given = require "keyferry.backup.options"
local guard = require "keyferry.guard"
local matching = require "keyferry.matching"
local pairing = require "keyferry.verify.pairing"
local sides = require "keyferry.verify.sides"
local stopping = require "keyferry.backup.stop"

local reason_of = stopping.reason_of

local M = {}

--- All that verify{...} takes; the prompt completes them, too.
M.OPTIONS = { "source", "target", "domain", "engine", "source_engine", "target_engine",
              "challenge", "select", "on_result", "on_progress" }

local known = given.set(M.OPTIONS)

local Run = {}
Run.__index = Run

for _, methods in ipairs{ sides, pairing, comparing } do
    for name, method in pairs(methods) do
        Run[name] = method
    end
end

local function kind_of(source)
    if given.is_session(source) then
        return "session"
    elseif given.is_stream(source) then
        return "stream"
    elseif type(source) == "table" and type(source.objects) == "table" then
        return "report"
    end
    error("verify: the source must be a session, a stream, or a report that was read", 3)
end

local function no_ends(options)
    return options.source == nil and "verify needs a source"
        or not given.is_session(options.target) and "verify needs a target, a session" or nil
end

-- Wrong use of verify{...} raises, before anything is looked at.
local function check_options(options)
    local problem = given.unknown("verify", options, known)
        or given.no_function("verify", options, { "on_result", "on_progress" })
        or given.no_selection("verify", options) or no_ends(options)
        or given.closed("verify", options)
    if problem then
        error(problem, 3)
    end
end

-- Results ------------------------------------------------------------------------------

local counters = { same = "same", differs = "differing", missing = "missing", extra = "extra",
                   failed = "failed" }

function Run:tell(result)
    local outcome = self.outcome
    outcome[counters[result.status]] = outcome[counters[result.status]] + 1
    outcome.unproved = outcome.unproved + (result.unproved and 1 or 0)
    if self.options.challenge then
        outcome.challenged = (outcome.challenged or 0) + (result.verified and 1 or 0)
    end
    outcome.lossy = outcome.lossy + ((result.lost or "") ~= "" and 1 or 0)
    if self.options.on_result then
        guard.hook(self.options.on_result, result)
    end
end

-- What is wrong with a side as a whole, or with what of it nobody can read.
function Run:find_fault(err, where)
    self.faults[#self.faults + 1] = { status = "failed", err = err, where = where }
end

function Run:advance()
    self.done = self.done + 1
    if self.options.on_progress then
        guard.hook(self.options.on_progress, math.min(self.done, self.total), self.total)
    end
end

-- Whether an object is part of the comparison. One of which that cannot be told is.
function Run:is_chosen(object)
    return not self.test or matching.doubt_of(object) ~= nil or guard.hook(self.test, object)
end

-- What is left of the source without a partner, or with one that cannot be read.
function Run:result_of_source(item)
    if item.trouble then
        return { status = "failed", object = item.object, handle = item.handle,
                 err = item.trouble, where = "source" }
    elseif not item.partner then
        return { status = "missing", object = item.object, handle = item.handle,
                 reason = item.reason }
    end
    return self:compare(item, item.partner)
end

local function result_of_target(item)
    return { status = item.trouble and "failed" or "extra", copy = item.object,
             target_handle = item.handle, err = item.trouble, where = "target" }
end

function Run:tell_all()
    for _, item in ipairs(self.sources) do
        stopping.check_interrupt()
        if self:is_chosen(item.object) and not (item.is_optional and not item.partner) then
            self.compared = self.compared + 1
            self:tell(self:result_of_source(item))
        end
        self:advance()
    end
    for _, item in ipairs(self.targets) do
        if not item.partner and self:is_chosen(item.object) then
            self.compared = self.compared + 1
            self:tell(result_of_target(item))
        end
    end
end

function Run:conclude()
    local outcome = self.outcome
    local wrong = outcome.differing + outcome.missing + outcome.extra + outcome.failed
    if self.test and self.compared == 0 then
        stopping.stop(stopping.failure("KFR_NOT_FOUND", "no object of either side is selected, so "
            .. "nothing was compared", "look at what there is with 'keyferry partition contents'"))
    end
    outcome.status = wrong == 0 and "success" or "partial"
end

function Run:work()
    local select = self.options.select
    if type(select) ~= "table" or next(select) ~= nil then
        self.test = select and matching.of(select)
    end
    self:open_sides()
    self.total = 2 * #self.sources + #self.targets
    for _, fault in ipairs(self.faults) do
        self:tell(fault)
    end
    self:look_at(self.sources)
    self:look_at(self.targets)
    self:join_all()
    self:tell_all()
    self:conclude()
end

function Run:close_ends()
    for _, there in ipairs(self.ends) do
        there:close()
    end
    self.ends = {}
end

local perform = guard.whole(function(run)
    local ok, thrown = xpcall(run.work, guard.handler, run)
    run:close_ends()
    if not ok and not reason_of(thrown) then
        error(thrown, 0)
    elseif not ok then
        run.outcome.status, run.outcome.reason = "failed", reason_of(thrown)
    end
    return run.outcome
end)

--- What became of one object in a comparison, as `on_result` gets it.
-- @table comparison
-- @tfield string status "same"; "differs"; "missing" on the target; "extra": on the target
--   alone; "failed": it cannot be told, and `err` says why
-- @tfield[opt] object object the source's: an object of its session, or what a stream or a
--   report says of it
-- @tfield[opt] object copy the target's; neither: what is wrong with a side as a whole
-- @tfield[opt] int handle the object's handle; its place in a stream
-- @tfield[opt] int target_handle the copy's
-- @tfield[opt] table differences array of { name=, original=, copy=, more_rights= }: "CKA_SIGN",
--   true, false, false; "key material"; "work", when the copy does not work like its original
-- @tfield[opt] string lost attributes that the engine wrap cannot keep, and the copy has not
-- @tfield[opt] boolean verified with `challenge`: whether both were seen to work alike
-- @tfield[opt] string unproved why it could not be seen whether it is the same key
-- @tfield[opt] err err
-- @tfield[opt] string where "source" or "target": the side that `err` is about
-- @tfield[opt] string reason why the backup had failed, as its report says

--- What a comparison came to.
-- @table outcome
-- @tfield string status "success": the target is the source; "partial": it is not; "failed": it
--   could not be told, and `reason` says why
-- @tfield[opt] err reason
-- @tfield int same
-- @tfield int differing
-- @tfield int missing
-- @tfield int extra
-- @tfield int failed
-- @tfield int unproved
-- @tfield int lossy
-- @tfield[opt] int challenged with `challenge`: keys that were seen to work

--- Compares a backup with its source. Both sessions may be read-only.
-- @tparam table options
--
--   * `source`: a session logged in as the Crypto Officer; or a sealed stream
--     (keyferry.archive.open), or what keyferry.report.read gave
--   * `target`: a session logged in as the Crypto Officer
--   * `domain`: of a stream or a report, for a target that has none of its own
--   * `engine`, `source_engine`, `target_engine`: instead of the one that fits best
--   * `challenge`: true: every private and secret key is used on one side and checked on the
--     other; without a session of the source, the copy is used and checked by itself
--   * `select`: as for keyferry.backup: what else there is is not told
--   * `on_result`: function(comparison), of each object
--   * `on_progress`: function(done, total)
-- @treturn outcome
-- @usage
-- local outcome = keyferry.verify{
--     source = session, target = target, select = { class = "secret_key" },
--     on_result = function(found)
--         if found.object.label == "kek" then
--             print(found.status)  --> missing
--         end
--     end,
-- }
-- print(outcome.status, outcome.same, outcome.missing)  --> partial	0	2
function M.run(options)
    check_options(options)
    return perform(setmetatable({
        options = given.copy(options, M.OPTIONS), kind = kind_of(options.source), ends = {},
        faults = {}, done = 0, compared = 0,
        outcome = { same = 0, differing = 0, missing = 0, extra = 0, failed = 0, unproved = 0,
                    lossy = 0 },
    }, Run))
end

return M
