-- SPDX-License-Identifier: MIT
--- The two sides of a comparison: who is asked, under which domain, and what they have.
-- Methods of a run.
local core = require "keyferry.core"
local archived = require "keyferry.archived"
local choice = require "keyferry.backup.choice"
local damage = require "keyferry.backup.damage"
local described = require "keyferry.verify.described"
local Item = require "keyferry.verify.item"
local record = require "keyferry.record"
local stopping = require "keyferry.backup.stop"

local check = stopping.check
local failure = stopping.failure

local M = {}

function M:find_damage(session, where)
    local damaged = damage.of(session)
    for _, err in ipairs(damaged) do
        self:find_fault(err, where)
    end
    return damaged
end

function M:find_unfinished(session, where)
    local of, err = session:unfinished()
    if err then
        stopping.stop(err)
    elseif of then
        self:find_fault(failure("KFR_DIFFERS", "the partition is an unfinished backup: the run "
            .. "that made it was cut off", "finish it with the same command that began it"), where)
    end
end

local function live_items(objects, there)
    local items = {}
    for i, object in ipairs(objects) do
        items[i] = Item.live(object, there)
    end
    return items
end

-- A session's partition as a side: its end, under a domain, and its items.
function M:open_side(session, engine, domain, where)
    choice.require_user(session)
    local damaged = self:find_damage(session, where)
    self:find_unfinished(session, where)
    local there = check(session:endpoint(engine, domain))
    self.ends[#self.ends + 1] = there
    local objects, unlisted = damage.find_all(there, damaged)
    local items = live_items(objects, there)
    choice.require_user(session) -- while they were listed, too
    for _, err in ipairs(unlisted) do
        self:find_fault(err, where)
    end
    return items
end

-- The source ---------------------------------------------------------------------------

-- Two partitions that cannot exchange an object are no original and backup of it.
function M:compare_domains(engine)
    local ours = choice.domain(self.options.source, engine)
    local theirs = choice.domain(self.options.target, self.target_engine)
    if ours and theirs and ours ~= theirs then
        self:find_fault(failure("KFR_DOMAIN_MISMATCH", ("the cloning domains differ: check value "
            .. "%s, on the target %s"):format(ours:check(), theirs:check()),
            "no object can be cloned between the two"), "target")
    end
end

-- One domain for both sides that nobody knows: what is compared under it is compared with
-- nothing else.
local function session_source(self)
    local options = self.options
    local engine = self.pair
        or choice.engine(options.source, options.source_engine or options.engine)
    local domain = core.random_domain()
    self:compare_domains(engine)
    self.sources = self:open_side(options.source, engine, domain, "source")
    self.targets = self:open_side(options.target, self.target_engine, domain, "target")
end

-- The domain that a stream or a report was made under: the one given, else the target's own.
function M:written_domain(of, what)
    local given = self.options.domain
    local own = choice.domain(self.options.target, self.target_engine)
    local domain = given or own
    if own and given and own ~= given then
        self:find_fault(failure("KFR_DOMAIN_MISMATCH", ("the cloning domain of the partition is "
            .. "another than that of the %s"):format(what)), "target")
    end
    if not domain then
        stopping.stop(failure("KFR_NO_SECRET", "neither has the partition a cloning domain of its "
            .. "own nor was one given", "give the domain of the " .. what .. " with -domain"))
    elseif of and domain:check() ~= of then
        stopping.stop(failure("KFR_DOMAIN_MISMATCH", ("the cloning domain is not that of the %s")
            :format(what), "give the domain that it was made with"))
    end
    return domain
end

local function streamed(sealed, digest, number, domain)
    local head = check(sealed:head())
    local object = archived.new(sealed, digest or sealed:digest(domain), number)
    object.sealed = nil
    sealed:close()
    return Item.written(object, {
        record = record.of_attributes(head.attributes), digest = rawget(object, "digest"),
        exact = head.exact,
    })
end

local function read_stream(self, reader, domain)
    local items = {}
    if reader:seekable() then
        check(reader:rewind())
    end
    local sealed, digest = reader:next(domain)
    while sealed do
        stopping.check_interrupt()
        items[#items + 1] = streamed(sealed, digest, #items + 1, domain)
        sealed, digest = reader:next(domain)
    end
    if digest then
        stopping.stop(digest)
    end
    local lack = archived.lack(check(archived.finished(reader, #items)))
    if lack then
        self:find_fault(lack, "source")
    end
    return items
end

local function stream_source(self)
    local reader = self.options.source
    local domain = self:written_domain(check(reader:head()).check, "stream")
    self.sources = read_stream(self, reader, domain)
    self.targets = self:open_side(self.options.target, self.target_engine, domain, "target")
end

-- What the run could not read was told then, and is told now.
local function reported(self, line)
    if not next(line.record, next(line.record)) then
        self:find_fault(failure("KFR_DIFFERS", "the backup did not hold all of its source: "
            .. (line.reason or "an object could not be read")), "source")
        return nil
    end
    local object = described(line)
    local item = Item.written(object, { record = rawget(object, "record"), digest = line.digest })
    item.is_optional = line.status == "skipped"
    item.reason = line.status == "failed" and line.reason or nil
    return item
end

-- A run that was cut off, or stopped, told of a part of what it was to clone. The failures that
-- it did tell of are looked at object by object.
local function find_end(self, report)
    local counts = report.counts
    local told, failed = #report.objects, counts.failed or 0
    local lacks = (counts.selected or 0) + (counts.skipped or 0) - told
    if report.status == "success" and lacks <= 0 or report.status == "partial" and failed > 0
        and lacks <= 0 then
        return
    end
    self:find_fault(failure("KFR_DIFFERS", ("the run that the report is of %s, and told of %d of "
        .. "its objects%s"):format(report.status == "failed" and "failed" or "was not whole", told,
        report.reason and ": " .. report.reason or ""), "run the backup again, with a new report"),
        "source")
end

local function report_source(self)
    local report = self.options.source
    local domain = self:written_domain(report.domain, "report")
    find_end(self, report)
    self.sources = {}
    for _, line in ipairs(report.objects) do
        self.sources[#self.sources + 1] = reported(self, line)
    end
    self.targets = self:open_side(self.options.target, self.target_engine, domain, "target")
end

M.kinds = { session = session_source, stream = stream_source, report = report_source }

--- Opens both sides.
function M:open_sides()
    local options = self.options
    self.pair = self.kind == "session" and choice.pair(options.source, options.target,
        options.source_engine or options.engine, options.target_engine or options.engine) or nil
    self.target_engine = self.pair
        or choice.engine(options.target, options.target_engine or options.engine)
    self.kinds[self.kind](self)
end

return M
