-- SPDX-License-Identifier: MIT
--- One object of one side of a comparison, and what is known of it; asked for when it is
-- needed, and once.
local record = require "keyferry.record"
local results = require "keyferry.backup.results"

local Item = {}
Item.__index = Item

--- An object of a session.
-- @tparam object object
-- @tparam endpoint there the end that it is seen through
function Item.live(object, there)
    return setmetatable({ object = object, handle = object.handle, there = there,
                          trouble = object.trouble }, Item)
end

--- An object that was written down: of a stream, of a report.
-- @tparam table object what it looks like
-- @tparam table known `record`; `digest`; `exact`: as the token's store had it
function Item.written(object, known)
    return setmetatable({ object = object, handle = object.handle, known = known.record,
                          known_digest = known.digest or false, is_exact = known.exact,
                          trouble = object.trouble }, Item)
end

--- Whether it is an object that can be used.
function Item:is_live()
    return self.there ~= nil
end

--- The digest of its key material; false: cannot be told, and `doubt` is why, when it is no rule
-- but a failure.
function Item:digest()
    if self.known_digest == nil then
        local digest, err = self.there:digest(self.object)
        self.known_digest = digest or false
        self.doubt = not digest and err.code ~= "KFR_NOT_FOUND" and err or nil
    end
    return self.known_digest
end

--- The digests of all there is to it; false: cannot be told.
function Item:whole()
    if self.known_whole == nil then
        self.known_whole = self.there and self.there:whole(self.object) or false
    end
    return self.known_whole
end

--- What the HSM itself knows it and its clones by; false: it does not tell.
function Item:origin()
    if self.known_origin == nil then
        self.known_origin = self.there and self.there:origin(self.object) or false
    end
    return self.known_origin
end

--- What it is told by without its key.
function Item:identity()
    self.known_identity = self.known_identity or results.identity(self.object)
    return self.known_identity
end

--- Whether the record can be had as the token's store has it, with what no token shows.
function Item:has_store_record()
    return self.is_exact or self.there ~= nil and self.there:engine() == "softhsm"
end

--- Its record as a token shows it, or as the store has it.
-- @bool exact as the store has it
-- @treturn[1] record
-- @treturn[2] nil
-- @treturn[2] err
function Item:record(exact)
    if self.known then
        return self.known
    elseif not exact then
        return record.of(self.object)
    end
    local sealed <close>, err = self.there:seal(self.object)
    local head = sealed
    if sealed then
        head, err = sealed:head()
    end
    if not head then
        return nil, err
    end
    return record.of_attributes(head.attributes)
end

return Item
