-- SPDX-License-Identifier: MIT
--- The results of a run, and what an object is told by.
local core = require "keyferry.core"
local guard = require "keyferry.guard"

local M = { methods = {} }

--- What tells one object from another, but for its key material.
function M.identity(object)
    return table.concat({ tostring(object.class), tostring(object.key_type),
                          tostring(object.certificate_type), ("%q"):format(object.id or ""),
                          ("%q"):format(object.label or "") }, "\0")
end

--- Two lists of attributes that were lost, as one.
function M.join(a, b)
    if a == nil or a == "" then
        return b
    elseif b == nil or b == "" then
        return a
    end
    return a .. ", " .. b
end

--- What became of one object, as `on_result` gets it. The table is the hook's to keep.
-- @table result
-- @tfield string status "cloned" ("planned" in a plan, "sealed" in a stream), "exists",
--   "failed" or "skipped"
-- @tfield object object the source's; a table without label and class for what the source's
--   store holds and nobody can read
-- @tfield int handle the object's handle; 0 for what nobody can read
-- @tfield[opt] int target_handle of the clone, or of what was there
-- @tfield[opt] err err why it failed
-- @tfield[opt] string lost attributes that the clone could not keep ("" when none)
-- @tfield[opt] string differs rights in which what was on the target already is another than its
--   original: "CKA_EXTRACTABLE, CKA_SIGN"
-- @tfield[opt] boolean verified with `verify`: whether the clone was seen to work like its original
-- @tfield[opt] string unproved why it could not be seen
-- @tfield[opt] int attempts how often it was sealed and staged
-- @tfield[opt] boolean undone nothing was wrong with it, but it could not stay without another
-- @tfield[opt] boolean untold in a plan without a target: what its HSM makes of it may be less
-- @tfield[opt] table changes what `changes` gave for it
-- @tfield[opt] boolean found "exists": the HSM said so, when it was to clone it
-- @tfield[opt] boolean settled it has been told from its like

--- What a run came to.
-- @table report
-- @tfield string status "success"; "partial": some objects are there and others failed, or the run
--   was stopped; "failed"
-- @tfield[opt] err reason the last error, when it is no success
-- @tfield int selected objects that the policy chose
-- @tfield int cloned
-- @tfield int exists were there already
-- @tfield int failed
-- @tfield int skipped were not selected
-- @tfield int removed old objects that "replace" took away
-- @tfield[opt] int left old objects that it could not take away
-- @tfield int lossy clones that could not keep an attribute
-- @tfield int held keys on the target that may not leave it by C_WrapKey: to be used there, not to
--   be restored
-- @tfield int unproved with `verify`: clones of which nothing could be seen
-- @tfield boolean created `create` made the target, and it stays
-- @tfield[opt] boolean resumed the target was the unfinished backup of this source, and the run
--   went on with it
-- @tfield[opt] boolean unfinished the target holds a part of what was selected and is marked as
--   unfinished: the same run, in the mode "add", goes on
-- @tfield[opt] err unwritten why `report` could not be written
-- @tfield[opt] boolean domain_ignored a domain was given, and the HSM cloned under its own
-- @tfield[opt] boolean target_without_domain the target has no cloning domain of its own
-- @tfield[opt] err target_damaged what the target's store holds and nobody can read
-- @tfield[opt] int sealed of keyferry.send: what is in the stream
-- @tfield[opt] int planned in a plan: what would be cloned
-- @tfield[opt] int to_remove in a plan: what "replace" would remove
-- @tfield[opt] table removals in a plan: array of what "replace" would remove, each a removal
-- @tfield[opt] room room in a plan: what it needs and what the target has
-- @tfield[opt] boolean partial it went object by object to its end, or to where it was stopped

--- The result of one object.
function M.result_of(object, status, more)
    local result = { object = object, handle = object.handle, status = status }
    for name, value in pairs(more or {}) do
        result[name] = value
    end
    return result
end

local counters = { cloned = "cloned", sealed = "sealed", exists = "exists", failed = "failed",
                   skipped = "skipped", planned = "planned" }

local ON_TARGET = { cloned = true, exists = true, planned = true }
local KEYS = { private_key = true, secret_key = true }

-- Whether the target keeps this key for itself: one that came out of a soft HSM's store by the
-- engine softhsm, and that no C_WrapKey takes out of there again. An HSM that clones by itself can.
local function is_held(run, result)
    if not ON_TARGET[result.status] or not KEYS[result.object.class]
        or run.target_engine ~= "wrap" or not run.target then
        return false
    elseif run.holds == nil then
        run.holds = not run.target:probe("softhsm")
            and not core.domain_in_hardware(run.target:module())
    end
    return run.holds and (result.object.extractable == false
                                        or result.object.wrap_with_trusted == true)
end

function M.methods:count(result)
    local report = self.report
    local counter = counters[result.status]
    report[counter] = report[counter] + 1
    report.held = report.held + (is_held(self, result) and 1 or 0)
    if result.lost and result.lost ~= "" then
        report.lossy = report.lossy + 1
    end
end

function M.methods:tell(result)
    if self.options.report then
        self:note_result(result)
    end
    if self.options.on_result then
        guard.hook(self.options.on_result, result)
    end
end

function M.methods:emit(result)
    self:count(result)
    self:tell(result)
end

-- Results wait in the queue until those before them are durable.
function M.methods:queue_result(result)
    self.queue[#self.queue + 1] = result
end

function M.methods:fail_object(object, err)
    self.last_error = err
    self:queue_result(M.result_of(object, "failed", { err = err }))
end

return M
