-- SPDX-License-Identifier: MIT
--- What a command says of a backup that was only planned: old objects, and room.
local text = require("keyferry.shell.text")

local M = {}

local function tell_removal(ctx, removal)
    local object = removal.object
    ctx:print('Object "%s" (handle %d) on target would be %s', object.label or "",
        removal.handle, removal.replaced_by and "replaced by its like" or "removed")
    ctx:event({
        event = "object", status = "removes", label = object.label, class = object.class,
        key_type = object.key_type, id = object.id and text.hex(object.id),
        target_handle = removal.handle, replaced_by = removal.replaced_by,
    })
end

local function short_by(free, needs)
    return free and needs > free and ": not enough" or ""
end

local function line(what, free, needs, about)
    return ("Room on target%s: %s; %s%d bytes needed%s"):format(what,
        free and ("%d bytes free"):format(free) or "unknown, since its HSM does not say", about,
        needs, short_by(free, needs))
end

-- One line, or one for each of two memories.
local function room_lines(room)
    local about = room.estimated and "about " or ""
    local all = room.needs_private + room.needs_public
    if not room.has_target then
        return {}
    elseif room.shared or not room.free_private and not room.free_public then
        return { line("", room.free_private, all, about) }
    end
    return {
        line(" for private objects", room.free_private, room.needs_private, about),
        line(" for public objects", room.free_public, room.needs_public, about),
    }
end

--- The old objects of the target, and the room on it: lines, or JSON events.
-- @param ctx the context
-- @tparam table report as keyferry.backup returns it for a plan
function M.tell(ctx, report)
    local room = report.room
    for _, removal in ipairs(report.removals or {}) do
        tell_removal(ctx, removal)
    end
    if not room then
        return
    end
    for _, said in ipairs(room_lines(room)) do
        ctx:print("%s", said)
    end
    ctx:event({
        event = "room", enough = room.enough == nil and ctx.null or room.enough,
        free_private = room.free_private, free_public = room.free_public,
        needs_private = room.needs_private, needs_public = room.needs_public,
        estimated = room.estimated,
    })
end

return M
