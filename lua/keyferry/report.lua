-- SPDX-License-Identifier: MIT
--- report: what a run did, written down, so that its backup can be checked months later.
--
-- A report is one JSON object in a file of its own (mode 0600), "keyferry_report" 1, with
--
--   * `keyferry`, `command`, `asked` (its options, no secrets), `user` (name, uid), `host`,
--     `start` and `end` (UTC)
--   * `source` and `target`: `hsm` (name, serial), `label`, `serial`, `model`,
--     `manufacturer` of the token, `module` (description, manufacturer, version, Cryptoki
--     version), `check` (the check value of its domain)
--   * `domain`: the check value of the domain that it is authenticated under, and its digests
--   * `objects`, one a line: `status`, `class`, `key_type`, `label`, `id` (hex), `handle`,
--     `target_handle`, `digest` (of the key, keyed by the domain), `reason`, `code`, `hint`,
--     `lost`, `verified`, `unproved`, `differs`, `attributes` (keyferry.record), `changes`
--   * `counts`, `status`, `exit`, `reason`, `code`, `hint`
--   * `sha256` over all before it, and `mac` over all before that, under the domain
--
-- There is no secret in it: no CKA_VALUE of anything, no check value of a key (three bytes of
-- a hash that anybody can compute are enough to try passwords), and no private number. Bytes
-- that are no text, and a text that begins like that, are "hex:" and their digits; a number of
-- more than 53 bits is "int:" and its digits.
-- @module keyferry.report

local core = require "keyferry.core"
local form = require "keyferry.report.form"
local hex = require "keyferry.hex"
local reading = require "keyferry.report.reading"
local record = require "keyferry.record"

local M = {}

local Paper = {}
Paper.__index = Paper
Paper.__name = "keyferry.report"

local MEMBERS = { "keyferry", "command", "asked", "user", "host", "start", "end", "source",
                  "target", "domain" }
local LAST = { "counts", "status", "exit", "reason", "code", "hint" }

local COUNTS = { "selected", "cloned", "sealed", "planned", "exists", "failed", "skipped",
                 "removed", "to_remove", "left", "lossy", "unproved" }

-- What a line has from its result.
local OF_RESULT = { "status", "handle", "target_handle", "lost", "verified", "unproved", "differs",
                "undone" }

-- What goes into no report. The digest says all that they would.
local HIDDEN = { "CKA_VALUE", "CKA_CHECK_VALUE" }

local function now()
    return os.date("!%Y-%m-%dT%H:%M:%SZ")
end

local fields = { force = "boolean", command = "string", asked = "table", exit = "function" }

local function check_options(options)
    for name, value in pairs(options) do
        if not fields[name] then
            error(("report.create has no option '%s'"):format(tostring(name)), 3)
        elseif type(value) ~= fields[name] then
            error(("report.create: %s must be a %s"):format(name, fields[name]), 3)
        end
    end
end

--- A report to be. Nothing is written before its end, but whether that will be possible is
-- seen now.
-- @string path
-- @tparam[opt] table options
--
--   * `force`: true: one that is there is overwritten
--   * `command`: what is run: "partition backup"
--   * `asked`: its options by name: texts, numbers, true, and arrays of those; no secrets
--   * `exit`: function(report) -> the exit status that it will come to
-- @treturn[1] paper for the `report` of keyferry.backup
-- @treturn[2] nil
-- @treturn[2] err KFR_EXISTS, KFR_ARGUMENT (a folder), KFR_NOT_FOUND (no folder), KFR_SYSTEM
function M.create(path, options)
    if type(path) ~= "string" then
        error("report.create takes the name of a file", 2)
    end
    options = options or {}
    check_options(options)
    local ok, err = core.file.can_create(path, options.force or false)
    if not ok then
        return nil, err
    end
    local user = core.user()
    return setmetatable({
        path = path, force = options.force or false, exit = options.exit,
        lines = {}, size = 0, hsms = {},
        members = {
            keyferry = core.version, command = options.command, asked = options.asked,
            user = { name = user.name, uid = user.uid }, host = core.host(), start = now(),
        },
    }, Paper)
end

local function hsm_facts(hsm)
    return hsm and { name = hsm.name, serial = hsm.serial } or nil
end

--- Says in which HSMs the two partitions are.
-- @tparam table hsms `source`, `target`: an HSM each, or nil
function Paper:name_hsms(hsms)
    self.hsms = { source = hsm_facts(hsms.source), target = hsm_facts(hsms.target) }
end

local function end_facts(facts, hsm)
    local copy = {}
    for name, value in pairs(facts or {}) do
        copy[name] = value
    end
    copy.hsm = hsm_facts(copy.hsm) or hsm
    return next(copy) and copy
end

--- Says what the run is about.
-- @tparam table ends `source`, `target`: `label`, `serial`, `model`, `manufacturer` of the
--   token, `module` (as module:info() gives it), `check` (of the domain); target may be nil
function Paper:begin(ends)
    self.members.source = end_facts(ends.source, self.hsms.source)
    self.members.target = end_facts(ends.target, self.hsms.target)
end

-- A template may hold others.
local function hide_within(template)
    for _, name in ipairs(HIDDEN) do
        template[name] = nil
    end
    for _, value in pairs(template) do
        if type(value) == "table" then
            hide_within(value)
        end
    end
end

-- Takes out what is to be in no report; who compares passes over it.
local function hide(rec)
    local unread = table.move(rec.unread, 1, #rec.unread, 1, {})
    for _, name in ipairs(HIDDEN) do
        if rec[name] ~= nil then
            unread[#unread + 1] = name
        end
    end
    rec.unread = nil
    hide_within(rec)
    rec.unread = unread[1] and unread or nil
    return rec
end

-- Nil for what nobody can read.
local function attributes_of(object)
    local is_readable = type(object) == "userdata" or object.attributes
    return is_readable and hide(record.of(object)) or nil
end

local function changes_of(changes)
    local rec = changes and hide(record.of_attributes(changes))
    if rec then
        rec.unread = nil
    end
    return rec and next(rec) and record.encode(rec)
end

local function error_fields(line, err)
    if type(err) == "table" and err.what then
        line.reason, line.code, line.hint = tostring(err), err.code, err.hint
    elseif err ~= nil then
        line.reason = tostring(err)
    end
    return line
end

-- What comes from elsewhere: any byte may be in it, and any number.
local function encode_members(members)
    for _, name in ipairs(reading.ENCODED) do
        if members[name] ~= nil then
            members[name] = record.encode_value(members[name])
        end
    end
    return members
end

--- Adds what became of one object.
-- @tparam result result as on_result of keyferry.backup gets it
-- @tparam ?string digest of its key: endpoint:digest under the domain of paper:finish
function Paper:add(result, digest)
    local rec = attributes_of(result.object)
    local line = error_fields({}, result.err)
    for _, name in ipairs(OF_RESULT) do
        line[name] = result[name]
    end
    line.lost = line.lost ~= "" and line.lost or nil
    encode_members(line)
    if rec then
        local encoded = record.encode(rec)
        line.attributes = encoded
        line.class, line.key_type = encoded.CKA_CLASS, encoded.CKA_KEY_TYPE
        line.label = encoded.CKA_LABEL
        line.id = rec.CKA_ID and hex.of(rec.CKA_ID) or nil
    end
    line.digest = digest and hex.of(digest) or nil
    line.changes = changes_of(result.changes)
    line = form.encode(line)
    self.size = self.size + #line + 2
    self.lines[#self.lines + 1] = self.size <= reading.LARGEST and line or nil
end

local function counts_of(report)
    local counts = {}
    for _, name in ipairs(COUNTS) do
        counts[name] = report[name]
    end
    return counts
end

-- All that is vouched for.
local function body_of(paper, report, domain)
    local members = encode_members(paper.members)
    members.domain, members["end"] = domain and domain:check() or nil, now()
    local last = error_fields({
        counts = counts_of(report), status = report.status, code = report.code,
        hint = report.hint, exit = report.exit or paper.exit and paper.exit(report) or nil,
    }, report.reason)
    encode_members(last)
    return form.head() .. form.lines(MEMBERS, members) .. '"objects":[\n'
        .. table.concat(paper.lines, ",\n") .. (paper.lines[1] and "\n" or "") .. "],\n"
        .. form.lines(LAST, last)
end

--- Writes it: all of it or nothing. The second time nothing is done.
-- @tparam report report what the run came to: `status`, `reason`, counts, perhaps `exit`
-- @tparam ?domain domain what it is authenticated under; nil: a run that came to nothing, or
--   whose HSM keeps the domain itself, for which nobody vouches
-- @treturn[1] true
-- @treturn[2] nil
-- @treturn[2] err
function Paper:finish(report, domain)
    if self.finished then
        return true
    end
    self.finished = true
    if self.size > reading.LARGEST then
        return nil, core.error{ code = "KFR_LIMIT", what = ("a report of more than %d bytes "
            .. "cannot be read again"):format(reading.LARGEST),
            hint = "back up in parts: -match, -class" }
    end
    local bytes, err = form.seal(body_of(self, report, domain), domain)
    if not bytes then
        return nil, err
    end
    self.lines = {}
    return core.file.create(self.path, bytes, 384, self.force) -- 0600
end

--- What a report says that was read. `key_type`, `class`, `label` and `id` of an object are
-- those of its record, as fields of an object have them.
-- @table written_report
-- @tfield int version of the form: 1
-- @tfield string path
-- @tfield boolean authenticated whether the domain vouches for it (keyferry.report.read)
-- @tfield string keyferry the version that wrote it
-- @tfield[opt] string command
-- @tfield[opt] table asked
-- @tfield table user name, uid
-- @tfield string host
-- @tfield string start UTC, as ISO 8601 has it
-- @tfield string finish
-- @tfield[opt] table source
-- @tfield[opt] table target
-- @tfield[opt] string domain the check value
-- @tfield table counts
-- @tfield string status
-- @tfield[opt] int exit
-- @tfield[opt] string reason
-- @tfield[opt] string code
-- @tfield[opt] string hint
-- @tfield int count how many objects there are
-- @tfield[opt] table objects (keyferry.report.read) array of tables with the fields of an object
--   above; `label`, `id` and `digest` are bytes, `record` and `changes` records

--- Reads a report.
-- @string path
-- @tparam domain domain
-- @treturn[1] written_report
-- @treturn[2] nil
-- @treturn[2] err KFR_DAMAGED: it has been changed; KFR_DOMAIN_MISMATCH: it is of another
--   domain; KFR_NEWER_VERSION; KFR_REFUSED: nobody vouches for it; KFR_ARGUMENT: it is no report;
--   KFR_LIMIT; KFR_SYSTEM
function M.read(path, domain)
    if type(domain) ~= "userdata" then
        error("report.read needs the domain; report.head tells what can be told without", 2)
    end
    return reading.read(path, domain)
end

--- What a report says of itself, as long as nobody vouches for it: all but its objects.
-- @string path
-- @treturn[1] written_report
-- @treturn[2] nil
-- @treturn[2] err
function M.head(path)
    return reading.head(path)
end

return M
