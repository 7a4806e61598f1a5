-- SPDX-License-Identifier: MIT
--- Whether the target has room for what a plan would put there. Methods of a run.
local M = {}

--- What a plan needs, and what the target's token says it has left. A replacement needs it
-- beside the old objects: they go last.
-- @table room
-- @tfield int needs_private bytes for private objects
-- @tfield int needs_public bytes for the others
-- @tfield[opt] int free_private what the target has left for private objects; nil: unknown
-- @tfield[opt] int free_public and for the others
-- @tfield boolean shared both are the same memory
-- @tfield boolean estimated some of the source's objects tell no size: that of the sealed object
--   was taken
-- @tfield boolean has_target there is an HSM to be asked
-- @tfield[opt] boolean enough nil: unknown

local function new_room()
    return { needs_private = 0, needs_public = 0, estimated = false, shared = false }
end

--- Adds what the clone of an object would take.
function M:measure(object, sealed)
    local size = type(object) == "userdata" and object:size() or nil
    local kind = object.private == false and "needs_public" or "needs_private"
    local room = self.room or new_room()
    self.room = room
    room.estimated = room.estimated or not size
    room[kind] = room[kind] + (size or #sealed)
end

-- Tokens with one memory tell the same figures twice.
local function is_shared(token)
    return token.free_private ~= nil and token.free_private == token.free_public
        and token.total_private == token.total_public
end

-- true, false, or nil where the token tells too little.
local function is_enough(room)
    if room.shared then
        return room.needs_private + room.needs_public <= room.free_private
    end
    local unknown = false
    for _, kind in ipairs{ "private", "public" } do
        local free, needs = room["free_" .. kind], room["needs_" .. kind]
        if free and needs > free then
            return false
        end
        unknown = unknown or not free and needs > 0
    end
    return not unknown or nil
end

--- Puts the answer into the report.
function M:judge_room()
    local room = self.room or new_room()
    local token = self.target and self.target:token() or self.options.spare
    room.has_target = token ~= nil
    if token then
        room.free_private, room.free_public = token.free_private, token.free_public
        room.shared = is_shared(token)
        room.enough = is_enough(room)
    end
    self.report.room = room
end

return M
