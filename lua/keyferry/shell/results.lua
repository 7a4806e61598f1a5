-- SPDX-License-Identifier: MIT
--- What a command says of the objects of a backup, and of its end.
local foreseen = require("keyferry.shell.foreseen")
local statuses = require("keyferry.shell.status")
local text = require("keyferry.shell.text")

local M = {}

local LINES = {
    cloned = 'Object "%s" (handle %d) cloned to handle %d on target%s',
    planned = 'Object "%s" (handle %d) would be cloned%s',
    sealed = 'Object "%s" (handle %d) sealed%s',
    exists = 'Object "%s" (handle %d) already exists on target (handle %d)',
    failed = 'Object "%s" (handle %d) not cloned: %s',
    impossible = 'Object "%s" (handle %d) cannot be cloned: %s',
}

local function lost_of(result)
    return result.lost ~= "" and result.lost or nil
end

-- Why not, and what to do about it, where the sentence does not say that already.
local function reason_and_hint(err)
    local hint = err and err.hint
    if not hint or hint == "" or err.what:find(hint, 1, true) then
        return tostring(err)
    end
    return tostring(err) .. "; " .. hint
end

local function planned(result, lost)
    if result.untold then
        return lost .. ", as far as can be told without the target"
    end
    return lost == "" and " exactly" or lost
end

local function print_line(ctx, result, label)
    local lost = lost_of(result) and "; not kept: " .. result.lost or ""
    local status = result.status == "failed" and ctx.options.plan and "impossible"
        or result.status
    local last = {
        cloned = { result.target_handle, lost }, sealed = { lost },
        planned = { planned(result, lost) },
        exists = { result.target_handle }, failed = { tostring(result.err) },
        impossible = { reason_and_hint(result.err) },
    }
    if LINES[status] then
        ctx:print(LINES[status], label, result.handle, table.unpack(last[status]))
    end
end

local function event(result, partition)
    local object, err = result.object, result.err
    return {
        event = "object", status = result.status, label = object.label,
        class = object.class, key_type = object.key_type,
        id = object.id and text.hex(object.id), handle = result.handle,
        target_handle = result.target_handle, uri = partition:object_uri(object),
        reason = err and tostring(err), code = err and err.code, hint = err and err.hint,
        lost = lost_of(result), untold = result.untold,
        verified = result.verified, differs = result.differs,
    }
end

--- The line of one object and its JSON event.
-- @param ctx the context
-- @tparam table result as keyferry.backup's on_result gets it
-- @tparam partition partition the source
function M.tell(ctx, result, partition)
    local label = result.object.label or ""
    print_line(ctx, result, label)
    if result.differs then
        ctx:warn('object "%s" (handle %d) and its copy on the target differ in %s; '
            .. '-replace makes them alike', label, result.handle, result.differs)
    end
    if ctx.json then
        ctx:event(event(result, partition))
    end
end

local function warn(ctx, report, target)
    if report.unwritten and report.status ~= "success" then
        ctx:warn("the report could not be written: %s", tostring(report.unwritten))
    end
    if report.unfinished then
        ctx:warn('partition "%s" is an unfinished backup of %d objects: the same command goes on',
            target, report.cloned + report.exists)
    end
    if report.domain_ignored then
        ctx:warn("the cloning domain that was given is ignored: the HSM keeps that of its "
            .. "partitions itself")
    end
    if report.target_without_domain and not report.sealed then
        ctx:warn('partition "%s" has no cloning domain of its own: any domain given fits it',
            target)
    end
    if report.held and report.held > 0 then
        ctx:warn('%d keys cannot leave partition "%s" again, since they are not extractable or '
            .. "want a trusted wrapping key: use them there; nothing restores them", report.held,
            target)
    end
    if report.target_damaged then
        ctx:warn('partition "%s" holds what nobody can read and no backup is, left by a program '
            .. "that was killed or a disk that failed: %s", target,
            tostring(report.target_damaged))
    end
    if report.status == "success" and report.selected == 0 and report.skipped > 0 then
        ctx:warn("no object was selected: all %d were skipped", report.skipped)
    end
    if report.unproved > 0 then
        ctx:warn("%d objects could not be challenged, since their flags allow no operation "
            .. "that could tell", report.unproved)
    end
end

local function counts_of(report)
    if report.sealed then
        return { sealed = report.sealed, failed = report.failed, skipped = report.skipped }
    end
    return {
        cloned = report.cloned, planned = report.planned, exists = report.exists,
        failed = report.failed, skipped = report.skipped, removed = report.removed,
        to_remove = report.to_remove,
    }
end

-- The exit status of a report and its reason; nil where the reason itself tells the status.
local function status_of(report)
    local reason = tostring(report.reason)
    if report.left then
        return 7, ("the new objects are on the target, but %d of the old ones could not be "
            .. "removed: %s"):format(report.left, reason)
    elseif report.partial and report.failed == 0 then
        return 1, report.reason
    elseif report.partial then
        return 1, ("%d of %d objects %s; the last: %s"):format(report.failed, report.selected,
            report.planned and "cannot be cloned" or report.sealed and "were not sealed"
            or "were not cloned", reason)
    elseif report.room and report.room.enough == false then
        return 1, "the target has not room enough for what would be cloned"
    elseif report.status == "success" and report.unwritten then
        return 7, ("all is done, but its report could not be written: %s")
            :format(tostring(report.unwritten))
    end
    return nil, report.reason
end

--- The exit status that a report comes to.
-- @tparam table report as keyferry.backup returns it
-- @treturn integer
function M.exit_of(report)
    local code, reason = status_of(report)
    return code or reason and statuses.of(reason) or statuses.SUCCESS
end

--- The end of a command that made a backup. Object by object it is partial, else what ended
-- the run tells the exit status.
-- @param ctx the context
-- @tparam table report as keyferry.backup returns it
-- @string target the name of the target partition, for the warnings
-- @treturn integer the exit status
function M.conclude(ctx, report, target)
    foreseen.tell(ctx, report)
    warn(ctx, report, target)
    local code, reason = status_of(report)
    return ctx:finish({ status = code, reason = reason, counts = counts_of(report),
        hint = report.partial and statuses.field(report.reason, "hint") or nil })
end

return M
