-- SPDX-License-Identifier: MIT
--- send: the objects of a partition as one sealed stream.
--
-- The other half is keyferry.backup with a stream as its source.
-- @module keyferry.send

local core = require "keyferry.core"
local backup = require "keyferry.backup"
local damage = require "keyferry.backup.damage"
local given = require "keyferry.backup.options"
local results = require "keyferry.backup.results"
local stopping = require "keyferry.backup.stop"

local check = stopping.check
local check_interrupt = stopping.check_interrupt
local result_of = results.result_of

local M = {}

-- All that send{...} takes.
M.OPTIONS = {
    "source", "to", "force", "domain", "engine", "source_engine", "select", "on_error",
    "on_result", "on_progress", "report", "unfinished",
}

local known = given.set(M.OPTIONS)

local DOMAIN_KEYS = 3 -- in a partition that has a domain of its own; never among its objects

-- A run of a backup whose target is a stream: what is sealed is there.
local Sending = setmetatable({}, backup.Run)
Sending.__index = Sending

-- Objects are read one by one: a partition may have many, and a stream takes no more memory
-- for them. The number of those that there are is the most that the stream can hold.
function Sending:select_objects()
    self.iterators, self.expected, self.report.selected = {}, 0, #self.damaged
    for i, filter in ipairs(damage.filters(self.damaged)) do
        local iterator, count = self.source_end:each(filter)
        self.iterators[i] = check(iterator, count)
        self.expected = self.expected + count
    end
    if self.source_own then
        self.expected = math.max(self.expected - DOMAIN_KEYS, 0)
    end
    self.test = self:make_test()
end

function Sending:each_object()
    local number, i = 0, 1
    return function()
        while self.iterators[i] do
            local object = self.iterators[i]()
            if object then
                number = number + 1
                return object, number, self.expected
            end
            i = i + 1
        end
    end
end

function Sending:open_stream()
    local token = self.source:token()
    self.stream = check(core.stream.create(self.options.to, self.source_domain, {
        label = token.label, serial = token.serial, model = token.model,
        manufacturer = token.manufacturer, keyferry = core.version, created = os.time(),
        expected = self.expected, force = self.options.force,
    }))
end

-- What cannot be written is the end of the stream, and no fault of the object.
function Sending:ferry(result)
    local object = result.object
    local sealed <close>, lost = self:seal(object)
    if not sealed then
        return nil, lost
    end
    check(self.stream:add(sealed, (self.source_end:digest(object))))
    return true, lost
end

function Sending:send_one(object)
    local result = result_of(object, "waiting", { attempts = 0 })
    self.told[object.handle] = true
    self.report.selected = self.report.selected + 1
    self:attempt(result)
    if result.status == "staged" then
        result.status = "sealed"
    end
    self:emit(result)
end

function Sending:send_or_skip(object)
    check_interrupt()
    if self:is_chosen(object) then
        self:send_one(object)
    else
        self.told[object.handle] = true
        self:emit(result_of(object, "skipped"))
    end
end

-- Objects that the first listing did not show and a second one does are sent, too.
function Sending:send_rest()
    local sent = 0
    for _, object in ipairs(damage.find_whole(self.source_end, self.damaged)) do
        if not self.told[object.handle] and not self.stopped then
            self:send_or_skip(object)
            sent = sent + 1
        end
    end
    return sent
end

-- Those that it does not show either are damage of the source. So are all when handles changed
-- their objects: what was sent by them is not what it was taken for.
function Sending:send_unlisted()
    local unlisted = check(self.source_end:unlisted())
    if #unlisted == 0 then
        return
    end
    if unlisted[1].code ~= "KFR_CONFLICT" then
        local sent = self:send_rest()
        local still = damage.still(unlisted, check(self.source_end:unlisted()))
        unlisted = sent < #unlisted - #still and unlisted or still
    end
    table.move(unlisted, 1, #unlisted, #self.damaged + 1, self.damaged)
    self.report.selected = self.report.selected + #unlisted
end

function Sending:send_all()
    for object, number, total in self:each_object() do
        self:send_or_skip(object)
        self:progress(number, total)
        if self.stopped then
            return
        end
    end
    self:check_logins() -- to who is logged out objects have vanished
    self:send_unlisted()
    for _, err in ipairs(self.damaged) do
        self.last_error = err
        self:emit(result_of({ handle = 0 }, "failed", { err = err }))
    end
end

function Sending:work()
    self:check_logins()
    self:find_damage()
    self:open_source()
    self:select_objects()
    self:open_stream()
    self:begin_report()
    self:send_all()
    if not self.stopped then
        -- What an unfinished backup lacks nobody can count: one object at least.
        local failed = self.report.failed + (self.cut_off and 1 or 0)
        check(self.stream:finish{ failed = failed, skipped = self.report.skipped })
    end
    self:conclude()
end

function Sending:undo()
    if self.stream then
        self.stream:close()
    end
    self:finish_report()
    self:close_ends()
end

local function check_options(options)
    local problem = given.unknown("send", options, known)
    if problem then
        error(problem, 3)
    end
    if options.to ~= 1 and type(options.to) ~= "string" then
        error("send needs to: the name of a file, or 1 for the standard output", 3)
    end
    backup.check{ source = options.source, plan = true, select = options.select,
                  on_error = options.on_error, on_result = options.on_result,
                  on_progress = options.on_progress }
end

--- Writes the objects of a partition as one sealed stream (its bytes are specified in
-- c/README.md). It holds nothing that could be read without the domain but labels, ids and the
-- like, and is read by keyferry.backup{ source = keyferry.archive.open(file), ... }.
-- @tparam table options
--
--   * `source`: a session logged in as the Crypto Officer; read-only is enough
--   * `to`: the name of a file, which is there when all is in it and not before; or 1, the
--     standard output
--   * `force`: true: a file of that name is replaced
--   * `domain`: the cloning domain of a source that has none
--   * `engine`, `source_engine`, `select`, `on_error`, `on_progress`, `report`, `unfinished`: as
--     for keyferry.backup
--   * `on_result`: function(result), when an object is in the stream (status "sealed") or is not
-- @treturn report as of keyferry.backup, with `sealed` for `cloned`
-- @usage
-- local done = keyferry.send{ source = session, to = "/dev/null" }
-- print(done.status, done.sealed)  --> success	4
function M.run(options)
    check_options(options)
    return backup.perform(setmetatable({
        options = given.copy(options, M.OPTIONS), source = options.source, given = options.domain,
        mode = "send", damaged = {}, doubts = {}, told = {},
        report = { sealed = 0, cloned = 0, exists = 0, failed = 0, skipped = 0, removed = 0,
                   unproved = 0, lossy = 0, held = 0, created = false },
    }, Sending))
end

return M
