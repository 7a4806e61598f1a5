-- SPDX-License-Identifier: MIT
--- plan: a backup that is looked at, and narrowed, before it is run.
--
-- A plan is made by a run of keyferry.backup that changes nothing, and run by one that does.
-- @classmod plan

local core = require "keyferry.core"
local backup = require "keyferry.backup"
local given = require "keyferry.backup.options"
local matching = require "keyferry.matching"
local results = require "keyferry.backup.results"

local Plan = {}
Plan.__index = Plan
Plan.__name = "keyferry.plan"

-- The statuses of results, as a plan has them before it is run.
local BEFORE = { planned = "clone", exists = "exists", skipped = "skip", failed = "fail" }

local run_hooks = { on_result = true, on_error = true, on_progress = true, verify = true }

local function with(options, more)
    local all = {}
    for name, value in pairs(options) do
        all[name] = value
    end
    for name, value in pairs(more) do
        all[name] = value
    end
    return all
end

-- Why an object is where it is, in words.
local function reason_of(plan, item)
    if item.status == "clone" then
        return plan.mode == "add" and "it is not on the target" or "it is selected"
    elseif item.status == "exists" then
        local other = item.differs and ", but differs in " .. item.differs or ""
        return ("it is on the target, handle %d"):format(item.target_handle) .. other
    elseif item.status == "skip" then
        return "it is not selected"
    elseif item.status == "cloned" then
        return ("it is on the target now, handle %d"):format(item.target_handle)
    elseif item.status == "skipped" then
        return item.why
    end
    return tostring(item.err)
end

local function fill(plan, item, result, status)
    item.status, item.err, item.differs = status, result.err, result.differs
    item.lost = result.lost ~= "" and result.lost or nil
    item.target_handle, item.verified = result.target_handle, result.verified
    item.blocked = result.undone and result.err or nil
    item.why = reason_of(plan, item)
    return item
end

-- With "replace" an object that cannot be cloned keeps all others from it, as long as it is in
-- the plan.
local function unblock(plan)
    local blocked = false
    for _, item in ipairs(plan.items) do
        blocked = blocked or item.status == "fail" and not item.blocked
    end
    for _, item in ipairs(plan.items) do
        if item.blocked and item.status ~= "skip" then
            item.status, item.err = blocked and "fail" or "clone", blocked and item.blocked or nil
            item.why = reason_of(plan, item)
        end
    end
end

local function count(plan)
    if not plan.report then
        unblock(plan)
    end
    local counts = plan.report and { cloned = 0, exists = 0, skipped = 0, failed = 0 }
        or { clone = 0, exists = 0, skip = 0, fail = 0 }
    for _, item in ipairs(plan.items) do
        counts[item.status] = (counts[item.status] or 0) + 1
    end
    plan.counts = counts
    return plan
end

-- The domain that the policy gave when asked is that of the run, too.
local function remembering(plan, ask)
    return ask and function(...)
        local domain = ask(...)
        plan.domain = domain or plan.domain
        return domain
    end
end

--- What a plan holds; tostring counts it in one line.
-- @table plan
-- @tfield table items array of items, in the order of the source's objects
-- @tfield table counts how many items have which status
-- @tfield string mode "add", "replace" or "create"
-- @tfield table options what the plan was made with
-- @tfield[opt] int to_remove old objects that "replace" would remove
-- @tfield[opt] domain domain the one that `on_mismatch` gave
-- @tfield[opt] report report once it has been run
-- @tfield[opt] boolean running while it is run

--- One object of a plan.
-- @table item
-- @tfield object object the source's
-- @tfield int handle the object's handle; 0 for what nobody can read
-- @tfield string status "clone", "exists", "skip" or "fail"; after plan:run "cloned", "exists",
--   "skipped" or "failed"
-- @tfield string why in words
-- @tfield[opt] err err why it fails
-- @tfield[opt] string lost attributes that the clone will not keep
-- @tfield[opt] string differs as in a result
-- @tfield[opt] int target_handle of the clone, or of what is there
-- @tfield[opt] boolean verified as in a result
-- @tfield[opt] err blocked nothing is wrong with it: it fails as long as another one does
-- @tfield[opt] table before what plan:reset puts back

--- Plans a backup: the same run, without changing anything.
-- @tparam table options as for keyferry.backup, without `plan`; `on_result` and `on_error` are
--   for plan:run
-- @treturn[1] plan
-- @treturn[2] nil
-- @treturn[2] err
-- @usage
-- local plan = assert(keyferry.plan{ source = session, target = target, mode = "add" })
-- plan:narrow{ class = "secret_key" }
-- print(plan)  --> plan to add: 2 to be cloned, 0 there already, 2 left out, 0 that cannot be
-- for _, item in ipairs(plan.items) do
--     if item.object.label == "kek" then
--         print(item.status, item.why)  --> clone	it is not on the target
--     end
-- end
-- local report = assert(plan:run())
-- print(report.status, report.cloned)  --> success	2
function Plan.new(options)
    if options.plan ~= nil then
        error("a plan has no option 'plan'", 2)
    end
    backup.check(with(options, { plan = true }))
    if given.is_stream(options.source) then
        error("a stream is read once: back it up with plan = true to see what would be done", 2)
    end
    options = with(options, {}) -- what is looked at is what runs
    local plan = setmetatable({
        options = options, items = {}, mode = options.target and options.mode or "create",
    }, Plan)
    local report = backup.run(with(options, {
        plan = true, on_mismatch = remembering(plan, options.on_mismatch),
        on_error = function() return "continue" end,
        on_result = function(result)
            table.insert(plan.items, fill(plan, { object = result.object, handle = result.handle },
                                          result, BEFORE[result.status]))
        end,
    }))
    if report.status ~= "success" and not report.partial then
        return nil, report.reason
    end
    plan.to_remove = report.to_remove
    return count(plan)
end

function Plan:__tostring()
    local n = self.counts
    if self.report then
        return ("plan that was run (%s): %d cloned, %d there already, %d left out, %d failed")
            :format(self.report.status, n.cloned, n.exists, n.skipped, n.failed)
    end
    local removed = self.to_remove and (", %d old ones to be removed"):format(self.to_remove) or ""
    return ("plan to %s: %d to be cloned, %d there already, %d left out, %d that cannot be%s")
        :format(self.mode, n.clone, n.exists, n.skip, n.fail, removed)
end

local function check_waiting(plan)
    if plan.report then
        error("this plan has been run; make another", 3)
    elseif plan.running then
        error("this plan is being run", 3)
    end
end

--- Takes out of the plan what does not match. What could not be read stays in, since it may
-- be what is wanted.
-- @param what function(object) -> boolean; a glob for the label; or a table of attributes that
--   have to be so, `{ class = "private_key", label = "tls-*", sign = true }`
-- @treturn plan the same one
function Plan:narrow(what)
    check_waiting(self)
    local ok, test = pcall(matching.of, what)
    if not ok then
        error(test, 2)
    end
    for _, item in ipairs(self.items) do
        local sure = item.handle ~= 0 and not matching.doubt_of(item.object)
        if item.status ~= "skip" and sure and not test(item.object) then
            item.before = { status = item.status, why = item.why }
            item.status, item.why = "skip", "it was taken out of the plan"
        end
    end
    return count(self)
end

--- Puts back what narrow took out.
-- @treturn plan the same one
function Plan:reset()
    check_waiting(self)
    for _, item in ipairs(self.items) do
        if item.before then
            item.status, item.why, item.before = item.before.status, item.before.why, nil
        end
    end
    return count(self)
end

local function refuse(what, hint)
    return nil, core.error{ code = "KFR_REFUSED", what = what, hint = hint }
end

-- Whether the plan still holds: its sessions are open and its objects are there.
local function check_ends(plan)
    local options = plan.options
    for _, name in ipairs{ "source", "target" } do
        if options[name] and not options[name]:is_open() then
            return refuse(("the session of the plan's %s has been closed"):format(name),
                          "log in again and make a new plan")
        end
    end
    if not options.target and not options.create then
        return refuse("the plan has no target", "make one with target = a session, and mode")
    end
    for _, item in ipairs(plan.items) do
        if item.status ~= "skip" and item.handle ~= 0 then
            local object, err = options.source:object(item.handle)
            if not object and err.code ~= "KFR_VANISHED" then
                return nil, err
            elseif not object or results.identity(object) ~= results.identity(item.object) then
                return refuse(("%s has changed since the plan was made")
                              :format(tostring(item.object)), "make a new plan")
            end
        end
    end
    return true
end

-- The handles of those that stay in, and a function that gives the items of a handle one after
-- the other (what nobody can read has handle 0).
local function by_handle(plan)
    local chosen, waiting = {}, {}
    for _, item in ipairs(plan.items) do
        waiting[item.handle] = waiting[item.handle] or {}
        table.insert(waiting[item.handle], item)
        chosen[item.handle] = item.status ~= "skip" or nil
    end
    return chosen, function(handle)
        return waiting[handle] and table.remove(waiting[handle], 1)
    end
end

-- What keyferry.backup is given for the run of a plan.
local function run_options(plan, hooks)
    local chosen, next_item = by_handle(plan)
    local options = with(plan.options, hooks)
    local tell = options.on_result
    return with(options, {
        domain = plan.domain or options.domain,
        select = function(object) return chosen[object.handle] or false end,
        on_result = function(result)
            local item = next_item(result.handle)
            if item then
                item.before, item.done = nil, true
                fill(plan, item, result, result.status)
            end
            if tell then
                tell(result)
            end
        end,
    })
end

-- Wrong use of plan:run{...} raises, and leaves the plan to be run.
local function check_hooks(hooks)
    for name, hook in pairs(hooks) do
        if not run_hooks[name] then
            error(("plan:run has no option '%s'"):format(tostring(name)), 3)
        elseif name ~= "verify" and type(hook) ~= "function" then
            error(("plan:run: %s must be a function"):format(name), 3)
        end
    end
end

--- Runs what the plan says now. Afterwards its items say what happened: status "cloned",
-- "exists", "skipped" or "failed", and why. What has come to the source since it was made is
-- left alone.
-- @tparam[opt] table hooks `on_result`, `on_error`, `on_progress`, `verify`, as for keyferry.backup
-- @treturn[1] report
-- @treturn[2] nil
-- @treturn[2] err the plan does not hold any more
function Plan:run(hooks)
    check_waiting(self)
    check_hooks(hooks or {})
    local ok, err = check_ends(self)
    if not ok then
        return nil, err
    end
    local report
    self.running = true
    ok, report = pcall(backup.run, run_options(self, hooks or {}))
    self.running, self.report = nil, ok and report or { status = "failed", reason = report }
    for _, item in ipairs(self.items) do
        if not item.done then
            item.status, item.why, item.before = "skipped", "the run had ended before", nil
        end
        item.done = nil
    end
    count(self)
    if not ok then
        error(report, 0) -- a hook's; the items say what was done before
    end
    return report
end

return Plan
