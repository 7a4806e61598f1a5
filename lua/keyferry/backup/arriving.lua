-- SPDX-License-Identifier: MIT
--- A sealed stream as the source of a run. Methods that stand in for those that work a session.
--
-- A file is read to its end before anything of it is planted. A pipe is read once: each object
-- is authenticated, with all that came before it, when it is planted; what came to the target
-- before a stream turned out to be cut off or damaged is whole and is the stream's.
local core = require "keyferry.core"
local archived = require "keyferry.archived"
local commit = require "keyferry.backup.commit"
local results = require "keyferry.backup.results"
local stopping = require "keyferry.backup.stop"

local stop = stopping.stop
local check = stopping.check
local failure = stopping.failure
local check_interrupt = stopping.check_interrupt

local M = {}

-- What a run asks of the end of a source.
local End = {}
End.__index = End

function End:seal(object) -- luacheck: ignore self
    if object.trouble then
        return nil, object.trouble
    end
    return core.sealed(object.sealed:bytes()), ""
end

function End:digest(object)
    if object.digest then
        return object.digest
    end
    return object.sealed:digest(self.domain)
end

function End.close() end

function M.find_damage() end

function M:open_source()
    self.head = check(self.source:head())
    self:attach_source()
end

function M:attach_source()
    self.source_domain = self.given
    self.source_end = setmetatable({ domain = self.given }, End)
end

-- The domain is the target's own, or the one given.
function M:settle_source_domain()
    self.source_domain = self:target_domain()
    if not self.source_domain then
        stop(failure("KFR_NO_SECRET", "neither has the target a cloning domain of its own nor was "
                     .. "one given", "give the domain of the stream with -domain"))
    end
    self.source_end.domain = self.source_domain
end

function M:domain_fits()
    self:settle_source_domain()
    local of = self.head.check
    if self.source_domain:check() == of and (not self.given or self.given:check() == of) then
        return true
    end
    return nil, failure("KFR_DOMAIN_MISMATCH",
                        "the cloning domain is not that of the stream")
end

function M:select_objects()
    self.test = self:make_test()
    self.objects, self.skipped = {}, {}
    self.report.selected = 0
end

-- The next object, authenticated unless its domain is not at hand anyhow.
function M:next_object(number)
    check_interrupt()
    local sealed, digest = self.source:next(not self.mismatch and self.source_domain or nil)
    if sealed then
        return archived.new(sealed, digest, number)
    elseif digest then
        stop(digest)
    end
    return nil
end

function M:each_object()
    local number = 0
    return function()
        while true do
            local object = self:next_object(number + 1)
            if not object then
                return self:see_end(number)
            end
            number = number + 1
            if self:is_chosen(object) then
                self.report.selected = self.report.selected + 1
                return object, number, self.head.expected
            end
            self:emit(results.result_of(object, "skipped"))
        end
    end
end

-- A stream is taken in with little memory, however long it is.
function M:queue_result(result)
    results.methods.queue_result(self, result)
    result.object:forget()
end

-- A stream that says that objects of its source are not in it is no whole backup; nor is what is
-- left of a pipe that somebody has read from.
function M:see_end(count)
    self.incomplete = archived.lack(check(archived.finished(self.source, count)))
    return nil
end

-- Reads a file to its end before anything of it counts.
function M:look_through()
    if not self.source:seekable() or self.mismatch then
        return
    end
    local sealed, err
    check(self.source:rewind())
    repeat
        check_interrupt()
        sealed, err = self.source:next(self.source_domain)
    until not sealed
    if err then
        stop(err)
    end
    check(self.source:rewind())
end

-- What there is to replace by is known when all has been read.
function M:refuse_replacing_by_nothing()
    if self.source:finished() and self.report.selected == 0 then
        commit.refuse_replacing_by_nothing(self)
    end
end

-- The source is not here: its digest says whether it is the same key, and the clone by itself
-- whether it works.
function M:use_both(object, clone)
    local a, b = self.source_end:digest(object), self.target_end:digest(clone)
    if a and b and a ~= b then
        return false
    elseif not (a and b) then
        return nil, failure("KFR_NOT_FOUND", "the stream holds no digest of its key that this "
                            .. "engine can compare")
    end
    return core.challenge(clone, clone)
end

function M:source_name()
    return self.head.serial .. " " .. self.head.label
end

function M:source_facts()
    local facts = { stream = true }
    for _, name in ipairs{ "label", "serial", "model", "manufacturer", "check" } do
        facts[name] = self.head[name]
    end
    return facts
end

return M
