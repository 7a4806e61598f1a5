-- SPDX-License-Identifier: MIT
--- archived: an object of a sealed stream, looked at like an object of a session.
--
-- What it shows is what the stream vouches for when it was read under its domain, and what
-- somebody wrote there otherwise (sealed:head).
-- @classmod keyferry.archived

local core = require "keyferry.core"
local stopping = require "keyferry.backup.stop"

local M = {}
local Archived = {}

--- An archived object's fields, beside one for each of its attributes (`label`, `class`, ...).
-- @table archived
-- @tfield int handle its place in the stream, from 1
-- @tfield sealed sealed
-- @tfield[opt] string digest of its key material, as endpoint:digest gives it
-- @tfield[opt] err trouble why its attributes cannot be shown

-- What stays in memory of an object that waits: what it is told by.
local BRIEF = { "label", "id", "class", "key_type", "certificate_type" }

-- All attributes, read again when they were forgotten.
local function known_of(self)
    local known = rawget(self, "known")
    if not known then
        local head = rawget(self, "sealed"):head()
        known = head and head.attributes or {}
        rawset(self, "known", known)
    end
    return known
end

local MAY_LACK = { digest = true, trouble = true }

-- Fields that are no attributes are raw; a name that is no attribute is a slip.
local function index(self, name)
    if Archived[name] or MAY_LACK[name] then
        return Archived[name]
    end
    local brief = rawget(self, "brief")
    local value = brief and brief[name]
    if value == nil then
        value = known_of(self)[name]
    end
    if value == nil and not core.value("CKA", name) then
        error(("an object has no field '%s'"):format(tostring(name)), 2)
    end
    return value
end

local meta = { __index = index, __name = "archived object" }

function meta:__tostring()
    return ('%s%s "%s" (object %d of the stream)'):format(
        tostring(self.class or "object"), self.key_type and " " .. tostring(self.key_type) or "",
        (tostring(self.label or "")):gsub("%c", "?"), self.handle)
end

--- An object of a stream.
-- @tparam sealed sealed as reader:next gives it
-- @tparam ?string digest as reader:next gives it
-- @int number its place
-- @treturn archived
-- @local
function M.new(sealed, digest, number)
    local head, err = sealed:head()
    return setmetatable({
        sealed = sealed, digest = digest, handle = number, trouble = not head and err or nil,
        known = head and head.attributes or {},
    }, meta)
end

--- What the end of a stream says, when all of it was read.
-- @param reader
-- @int count how many objects it gave: what was read before from a pipe does not come again
-- @treturn[1] table as reader:finished() gives it
-- @treturn[2] nil
-- @treturn[2] err KFR_ARGUMENT
-- @local
function M.finished(reader, count)
    local last = reader:finished()
    if last.objects ~= count then
        return nil, stopping.failure("KFR_ARGUMENT", ("%d objects of the stream had been read "
            .. "before"):format(last.objects - count), "open it again")
    end
    return last
end

--- Why a stream that came to its end is no whole backup: nil, it is.
-- @tparam table last as reader:finished() gives it
-- @treturn ?err
-- @local
function M.lack(last)
    return last.failed > 0 and stopping.failure("KFR_NOT_CLONABLE", ("%d objects of the partition "
        .. "could not be put into the stream"):format(last.failed),
        "look at what 'keyferry partition send' said") or nil
end

--- All attributes but those that only the domain opens.
-- @treturn table by nick
function Archived:attributes()
    return known_of(self)
end

--- Keeps in memory only what an object is told by; the rest is read again when it is asked for.
-- @local
function Archived:forget()
    local known, brief = known_of(self), {}
    for _, name in ipairs(BRIEF) do
        brief[name] = known[name]
    end
    rawset(self, "brief", brief)
    rawset(self, "known", nil)
end

--- Whether a boolean attribute is there and true.
-- @string name
-- @treturn boolean
function Archived:has(name)
    local number = core.value("CKA", name)
    return number ~= nil and known_of(self)[core.nick("CKA", number)] == true
end

--- What could not be read: nothing, once it is sealed.
-- @treturn table an empty array
function Archived.unread()
    return {}
end

return M
