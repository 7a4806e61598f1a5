-- SPDX-License-Identifier: MIT
--- backup: one partition's objects to another, by a policy.
--
-- The way of one object: find -> `select` -> seal at the source -> stage at the target ->
-- commit -> `on_result`. Results come in the order of the source's objects, each after its
-- clone is durable.
-- @module keyferry.backup

local core = require "keyferry.core"

local M = {}

local FIRST_BATCH, LARGEST_BATCH = 64, 8192

local hooks = { "select", "on_exists", "on_mismatch", "on_error", "on_result", "on_progress" }

local fields = {
    source = true, target = true, domain = true, mode = true, engine = true,
    source_engine = true, target_engine = true, verify = true, plan = true, select = true,
    on_exists = true, on_mismatch = true, on_error = true, on_result = true,
    on_progress = true, create = true, discard = true, changes = true,
}

-- Thrown inside a run and caught at its door: a refusal that ends it.
local Stop = {}
Stop.__index = Stop

local function stop(err)
    error(setmetatable({ err = err }, Stop), 0)
end

local function check(value, err)
    if value == nil or value == false then
        stop(err)
    end
    return value
end

local function failure(code, what, hint)
    return core.error{ code = code, what = what, hint = hint }
end

local Run = {}
Run.__index = Run

-- Wrong use of backup{...} raises, before anything is touched.
local function check_options(options)
    for name in pairs(options) do
        if not fields[name] then
            error(("backup has no option '%s'"):format(tostring(name)), 3)
        end
    end
    for _, name in ipairs(hooks) do
        if options[name] ~= nil and type(options[name]) ~= "function" then
            error(("backup: %s must be a function"):format(name), 3)
        end
    end
    if not options.source then
        error("backup needs a source", 3)
    elseif not options.target and not options.create and not options.plan then
        error("backup needs a target, or a function create that makes one", 3)
    elseif options.target and options.mode ~= "add" and options.mode ~= "replace" then
        error("backup needs mode = \"add\" or \"replace\"", 3)
    end
end

local function new_run(options)
    return setmetatable({
        options = options, source = options.source, target = options.target,
        given = options.domain, mode = options.target and options.mode or "create",
        queue = {}, batch = FIRST_BATCH, damaged = {}, doubts = {},
        report = { cloned = 0, exists = 0, failed = 0, skipped = 0, removed = 0,
                   unproved = 0, lossy = 0, created = false,
                   planned = options.plan and 0 or nil },
    }, Run)
end

-- The engine for an end: the one asked for, else the first that can work it.
local function choose_engine(session, wanted)
    if wanted then
        local known = {}
        for _, name in ipairs(core.engines()) do
            known[name] = true
        end
        if not known[wanted] then
            stop(failure("KFR_ARGUMENT", ("there is no engine '%s'"):format(wanted),
                         "there are: " .. table.concat(core.engines(), ", ")))
        end
        check(session:probe(wanted))
        return wanted
    end
    local last
    for _, name in ipairs(core.engines()) do
        local ok, err = session:probe(name)
        if ok then
            return name
        end
        last = err
    end
    stop(last)
end

-- The domain of a partition: its own (the given one when that is the same, since it may know
-- more), or nil.
local function own_domain(session, engine, given)
    local own, err = session:find_domain(engine)
    if not own and err.code ~= "KFR_NOT_FOUND" then
        stop(err)
    end
    return own and given and own == given and given or own
end

function Run:open_source()
    local options = self.options
    self.source_engine = choose_engine(self.source, options.source_engine or options.engine)
    self.source_own = own_domain(self.source, self.source_engine, self.given)
    self:attach_source()
end

-- A source without a domain of its own takes the one given, for this run.
function Run:attach_source()
    local domain = self.source_own or self.given
    if not domain then
        stop(failure("KFR_NO_SECRET", "the source partition has no cloning domain of its own "
                     .. "and none was given", "give one with -domain"))
    end
    if self.source_end then
        self.source_end:close()
    end
    self.source_domain = domain
    self.source_end = check(self.source:endpoint(self.source_engine, domain))
end

-- The domain that opens at the target. The one given is applied to the target, as the
-- reference page has it; a partition that has its own takes nothing but that one.
function Run:target_domain()
    local own, given = self.target_own, self.given
    if own and (not given or given == self.source_domain) then
        return own
    end
    return given or self.source_domain
end

-- Nobody else of us changes the target from here on, so what is found there stays true.
function Run:lock_target()
    if not self.lock and not self.options.plan and self.target:probe("softhsm") then
        self.lock = check(core.softhsm.lock_token(self.target))
    end
end

function Run:open_target()
    local options = self.options
    self:lock_target()
    self.target_engine = choose_engine(self.target, options.target_engine or options.engine)
    self.target_own = own_domain(self.target, self.target_engine, self.given)
    self.report.target_without_domain = not self.target_own
end

function Run:attach_target()
    if self.target_end then
        self.target_end:close()
    end
    self.target_end = check(self.target:endpoint(self.target_engine, self:target_domain()))
end

-- What the source has and no listing shows (core.softhsm.damaged): it may be the key that
-- matters, so a run without it is no success.
function Run:find_damage()
    if self.source:probe("softhsm") then
        self.damaged = check(core.softhsm.damaged(self.source))
    end
end

-- The objects of the source. Where some are damaged only those that have all attributes: at
-- the first look SoftHSM makes up what is missing, and writes it.
function Run:find_objects()
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

-- Why it cannot be told whether an object is wanted that the policy did not choose: what it
-- is chosen by could not be read.
local function doubt_of(object)
    if object.trouble then
        return object.trouble
    end
    for _, name in ipairs(object:unread()) do
        if name == "CKA_LABEL" or name == "CKA_ID" then
            return failure("KFR_MODULE", ("its %s could not be read, so it cannot be told "
                           .. "whether it is wanted"):format(name))
        end
    end
    return nil
end

-- The objects that the policy selects; the others are told as skipped. One that could not be
-- read may be the one that is wanted: it is never passed over.
function Run:select_objects()
    local select = self.options.select
    local chosen, skipped = {}, {}
    for _, object in ipairs(self:find_objects()) do
        local wanted = not object.trouble and (not select or select(object))
        self.doubts[object] = not wanted and doubt_of(object) or nil
        if wanted or self.doubts[object] then
            chosen[#chosen + 1] = object
        else
            skipped[#skipped + 1] = object
        end
    end
    self.objects, self.skipped = chosen, skipped
    self.report.selected = #chosen + #self.damaged
end

local function check_interrupt()
    if core.interrupted() then
        stop(failure("KFR_INTERRUPTED", "interrupted"))
    end
end

-- Whether a blob of this source opens at the target's domain. Without an object that can be
-- sealed only the check values can be compared.
function Run:domain_fits()
    for _, object in ipairs(self.objects) do
        check_interrupt()
        local sealed <close> = not object.trouble and self.source_end:seal(object) or nil
        if sealed then
            local ok, err = sealed:opens(self:target_domain())
            if not ok and err.code ~= "KFR_DOMAIN_MISMATCH" then
                stop(err)
            end
            return ok, err
        end
    end
    if self.source_domain == self:target_domain() then
        return true
    end
    return nil, failure("KFR_DOMAIN_MISMATCH",
                        "the cloning domain is not that of the source partition")
end

-- Asks the policy for another domain until one fits. False: it has none.
function Run:settle_domain()
    local attempt = 1
    local ok, err = self:domain_fits()
    while not ok do
        local another = self.options.on_mismatch and self.options.on_mismatch(attempt)
        if not another then
            self.mismatch = err
            return false
        end
        self.given, attempt = another, attempt + 1
        self:attach_source()
        ok, err = self:domain_fits()
    end
    return true
end

-- Results ------------------------------------------------------------------

local counters = { cloned = "cloned", exists = "exists", failed = "failed",
                   skipped = "skipped", planned = "planned" }

function Run:emit(result)
    local report = self.report
    local counter = counters[result.status]
    report[counter] = report[counter] + 1
    if result.lost and result.lost ~= "" then
        report.lossy = report.lossy + 1
    end
    if self.options.on_result then
        self.options.on_result(result)
    end
end

local function result_of(object, status, more)
    local result = { object = object, handle = object.handle, status = status }
    for name, value in pairs(more or {}) do
        result[name] = value
    end
    return result
end

-- Results wait in the queue until those before them are durable.
function Run:queue_result(result)
    self.queue[#self.queue + 1] = result
end

function Run:fail_object(object, err)
    self.last_error = err
    self:queue_result(result_of(object, "failed", { err = err }))
end

-- One that the target already has ----------------------------------------------

local function identity(object)
    return table.concat({ tostring(object.class), tostring(object.key_type),
                          tostring(object.certificate_type), ("%q"):format(object.id or ""),
                          ("%q"):format(object.label or "") }, "\0")
end

-- What the target holds, by identity without key material.
function Run:index_target()
    local index = {}
    self.existing = check(self.target_end:find{ token = true })
    for _, object in ipairs(self.existing) do
        self.unread = self.unread or object.trouble
        local key = identity(object)
        index[key] = index[key] or {}
        table.insert(index[key], object)
    end
    self.index = index
end

-- Same key material: by keyed digest, else by using both. nil, err: cannot be told.
function Run:is_same(object, candidate)
    local a, b = self.source_end:digest(object), self.target_end:digest(candidate)
    if a and b then
        return a == b
    end
    return core.challenge(object, candidate)
end

-- The object of the target that this one is, taken out of the index: each stands for one.
function Run:find_existing(object)
    local candidates = self.index and self.index[identity(object)] or {}
    local doubt
    for i, candidate in ipairs(candidates) do
        local same, err = self:is_same(object, candidate)
        if same then
            return table.remove(candidates, i)
        elseif same == nil then
            doubt = err
        end
    end
    if self.unread then
        return nil, failure("KFR_CONFLICT", "it may be there already: an object of the target "
            .. "cannot be read: " .. tostring(self.unread),
            "look at the target with 'keyferry partition contents'")
    elseif doubt then
        return nil, failure("KFR_CONFLICT",
            "the target has an object of the same label and id, and the keys cannot be "
            .. "compared: " .. doubt.what,
            "remove the one on the target, or use -replace")
    end
    return nil
end

local rights = { "private", "sensitive", "extractable", "wrap_with_trusted", "trusted",
                 "always_authenticate", "modifiable", "encrypt", "decrypt", "sign",
                 "sign_recover", "verify", "verify_recover", "wrap", "unwrap", "derive" }

-- The flags in which a key on the target is another than its original: "CKA_EXTRACTABLE,
-- CKA_SIGN", or nil.
local function differences(object, existing)
    local names = {}
    if object.class == "data" or object.class == "certificate" then
        return nil
    end
    for _, right in ipairs(rights) do
        if object:has(right) ~= existing:has(right) then
            names[#names + 1] = "CKA_" .. right:upper()
        end
    end
    return names[1] and table.concat(names, ", ")
end

-- True when the object is there already and the policy leaves it so.
function Run:settle_existing(object)
    local existing, err = self:find_existing(object)
    if err then
        self:fail_object(object, err)
        return true
    elseif not existing then
        return false
    end
    local answer = self.options.on_exists and self.options.on_exists(object, existing)
    if answer == "clone" then
        return false
    end
    self:queue_result(result_of(object, "exists", { target_handle = existing.handle,
                                                    differs = differences(object, existing) }))
    return true
end

-- Seal and stage ------------------------------------------------------------------

-- What the policy says to an error; the default is to go on.
function Run:decide(object, err, attempt)
    local answer = self.options.on_error and self.options.on_error(object, err, attempt)
    if answer == nil or answer == "continue" or answer == "retry" or answer == "stop" then
        return answer or "continue"
    end
    error(("on_error returned '%s', not \"continue\", \"retry\" or \"stop\"")
          :format(tostring(answer)), 0)
end

function Run:changes_of(object)
    return self.options.changes and self.options.changes(object) or nil
end

-- Seals an object and makes its clone ready. true and what was lost; nil, err.
function Run:ferry(object)
    if self.doubts[object] then
        return nil, self.doubts[object]
    end
    local sealed <close>, lost = self.source_end:seal(object)
    if not sealed then
        return nil, lost
    end
    local ok, err
    if self.target_end and not self.options.plan then
        ok, err = self.target_end:stage(sealed, self:changes_of(object))
    else
        ok, err = sealed:opens(self:target_domain())
    end
    if not ok then
        return nil, err
    end
    return true, lost
end

-- One object, as often as the policy wants it tried. False: the policy stops the run.
function Run:take(object)
    local attempt = 1
    while true do
        local ok, err = self:ferry(object)
        if ok then
            self:queue_result(result_of(object, self.options.plan and "planned" or "staged",
                                        { lost = err }))
            return true
        end
        local answer = self:decide(object, err, attempt)
        if answer ~= "retry" then
            self:fail_object(object, err)
            return answer == "continue"
        end
        attempt = attempt + 1
    end
end

-- Commit ------------------------------------------------------------------------------

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
function Run:prove_against(result, others)
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
function Run:prove(result, others)
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

function Run:prove_all()
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

function Run:flush()
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
function Run:commit()
    if self.target_end and self.target_end:staged() > 0 then
        spread(self.queue, check(self.target_end:commit{ mode = "each" }))
        if self.options.verify then
            self:prove_all()
        end
    end
    self:flush()
end

function Run:commit_when_full()
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
function Run:give_up_replacing(clones)
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
function Run:clones()
    local list = {}
    for _, result in ipairs(self.queue) do
        if result.status == "cloned" and result.target_handle then
            list[#list + 1] = self.target:object(result.target_handle)
        end
    end
    return list
end

function Run:count_old()
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
function Run:has_begun_removing()
    return self.lock and self.lock:is_pending() or self:count_old() < #self.existing
end

function Run:fail_replacing(err, is_decided)
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
function Run:refuse_replacing_by_nothing()
    if self.mode == "replace" and #self.objects == 0 and #self.existing > 0 then
        stop(failure("KFR_REFUSED", ("nothing is selected to replace the %d objects of the "
                     .. "target by"):format(#self.existing),
                     "look at the source; a backup that is no longer wanted is deleted with "
                     .. "'keyferry partition delete'"))
    end
end

-- All or nothing: the old objects go only when every new one is in and checked.
function Run:commit_replacement()
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

-- The run -----------------------------------------------------------------------------

-- Every object fails by its own blob at the target's domain, to the end of the list.
function Run:report_mismatch()
    self.last_error = self.mismatch
    for _, object in ipairs(self.objects) do
        check_interrupt()
        local sealed <close>, err = self.source_end:seal(object)
        local ok
        if sealed then
            ok, err = sealed:opens(self:target_domain())
        end
        self:emit(result_of(object, "failed", { err = not ok and err or self.mismatch }))
    end
    self.report.reason = self.mismatch
    self.report.status = "failed"
end

function Run:make_target()
    local target, err = self.options.create(self.given or self.source_domain)
    if not target then
        stop(err)
    end
    self.report.created = true
    self.target = target
    self:open_target()
end

function Run:ferry_all()
    local progress = self.options.on_progress
    for i, object in ipairs(self.objects) do
        check_interrupt()
        local known = self.mode == "add" and self:settle_existing(object)
        if not known and not self:take(object) then
            self.stopped = true
            break
        end
        if progress then
            progress(i, #self.objects)
        end
        self:commit_when_full()
    end
    for _, err in ipairs(self.stopped and {} or self.damaged) do
        self:fail_object({ handle = 0 }, err)
    end
end

function Run:finish_commit()
    if self.options.plan then
        self.report.to_remove = self.mode == "replace" and #self.existing or nil
        self:flush()
    elseif self.mode ~= "replace" then
        self:commit()
    elseif self.stopped then
        self:give_up_replacing()
    else
        self:commit_replacement()
    end
end

function Run:conclude()
    local report = self.report
    if report.failed == 0 and not self.stopped then
        report.status = "success"
        return
    end
    report.reason = self.last_error
    local there = report.cloned + report.exists + (report.planned or 0)
    report.status = there > 0 and "partial" or "failed"
    report.partial = true -- object by object, whatever the count
end

function Run:work()
    self:find_damage()
    self:open_source()
    self:select_objects()
    if self.target then
        self:open_target()
    end
    for _, object in ipairs(self.skipped) do
        self:emit(result_of(object, "skipped"))
    end
    if not self:settle_domain() then
        return self:report_mismatch()
    end
    if not self.target and not self.options.plan then
        self:make_target()
    end
    if self.target then
        self:attach_target()
    end
    if self.mode ~= "create" then
        self:index_target()
    end
    self:refuse_replacing_by_nothing()
    self:ferry_all()
    self:finish_commit()
    self:conclude()
end

-- Undoes what a run that did not come to its end has begun.
function Run:undo()
    if self.target_end then
        self.target_end:abort()
    end
    local report = self.report
    if report.created and report.status ~= "success" and report.cloned == 0 then
        self:close_ends()
        self.options.discard()
        report.created = false
    end
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

--- Backs up a partition.
-- @tparam table options
--
--   * `source`: a session logged in as the Crypto Officer; read-only is enough
--   * `target`: a read/write session logged in as the Crypto Officer, with `mode` = "add" (what
--     is there is neither duplicated nor overwritten) or "replace" (afterwards the target holds
--     exactly what was selected; all or nothing)
--   * `create`: without a target: function(domain) -> session, called when the first blob has
--     been seen to open; `discard`: function() that removes what create made
--   * `domain`: the cloning domain for a source that has none and for the target
--   * `engine`, `source_engine`, `target_engine`: instead of the one that fits best
--   * `verify`: challenge every clone with a real operation; `plan`: change nothing
--   * `select`: function(object) -> boolean
--   * `changes`: function(object) -> attributes that its clone gets instead, or nil
--   * `on_exists`: function(object, existing) -> "skip" (default) or "clone"
--   * `on_mismatch`: function(attempt) -> another domain, or nil to give up
--   * `on_error`: function(object, err, attempt) -> "continue" (default), "retry" or "stop"
--   * `on_result`: function(result); status "cloned" ("planned" in a plan), "exists", "failed"
--     or "skipped"; object, handle, target_handle, err, lost, verified. What the source's
--     store holds and nobody can read fails as an object without label and class, handle 0
--   * `on_progress`: function(done, total), after each object that was tried, before its result
-- @treturn table report: status "success", "partial" or "failed"; cloned, exists, failed,
--   skipped, removed, selected, lossy, unproved; created; target_without_domain; in a plan
--   planned and to_remove; reason (an err) when not a success.
--   A hook that fails ends the run safely and the error goes on to the caller.
function M.run(options)
    check_options(options)
    local run = new_run(options)
    local ok, thrown = pcall(run.work, run)
    local report = run.report
    if not ok then
        report.status = "failed"
        report.reason = getmetatable(thrown) == Stop and thrown.err or thrown
    end
    run:undo()
    run:close_ends()
    if not ok and getmetatable(thrown) ~= Stop then
        error(thrown, 0)
    end
    return report
end

return M
