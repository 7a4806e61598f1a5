-- SPDX-License-Identifier: MIT
--- What the program writes: text or JSON lines on standard output, the rest on standard error.
--
-- A write to standard output that fails (a closed pipe, a full disk) is remembered, not
-- thrown: a run in progress is worth more than its report. The exit status tells.
local cjson = require("cjson").new()
local core = require("keyferry.core")

local colour = require("keyferry.shell.colour")
local status = require("keyferry.shell.status")
local text = require("keyferry.shell.text")

local M = {}
local Output = {}
Output.__index = Output

cjson.encode_invalid_numbers("null")

-- The order of the keys on a JSON line; others follow by name.
local ORDER = {}
for place, name in ipairs({
    "event", "command", "status", "name", "label", "class", "key_type", "id", "handle",
    "target_handle", "uri", "serial", "reason", "code", "hint", "exit", "cloned", "exists",
    "failed", "skipped", "removed",
}) do
    ORDER[name] = place
end

local COUNTS = {
    { "cloned", "cloned" }, { "sealed", "sealed" },
    { "exists", "already there" }, { "failed", "not cloned" }, { "skipped", "skipped" },
    { "removed", "removed" }, { "planned", "would be cloned" },
    { "to_remove", "would be removed" },
    { "same", "the same" }, { "differing", "different" }, { "missing", "missing" },
    { "extra", "without original" }, { "uncompared", "not compared" },
    { "unproved", "not proved" }, { "challenged", "challenged" },
}

-- Told also when they are none.
local ALWAYS = { planned = true, cloned = true, sealed = true, same = true, challenged = true }

-- Seconds: between two drawings of the progress line; before it tells a rate.
local REDRAW = 0.1
local SETTLED = 1

local WIPE = "\r\27[K"

local STATUS_WORD = { [0] = "success", [1] = "partial" }

local encode

local function before(a, b)
    local x, y = ORDER[a] or math.huge, ORDER[b] or math.huge
    if x ~= y then
        return x < y
    end
    return a < b
end

local function encode_object(value)
    local names, parts = {}, {}
    for name in pairs(value) do
        assert(type(name) == "string", "the keys of a JSON object are strings")
        names[#names + 1] = name
    end
    table.sort(names, before)
    for i, name in ipairs(names) do
        parts[i] = encode(name) .. ":" .. encode(value[name])
    end
    return "{" .. table.concat(parts, ",") .. "}"
end

local function encode_array(value)
    local parts = {}
    for i = 1, #value do
        parts[i] = encode(value[i])
    end
    return "[" .. table.concat(parts, ",") .. "]"
end

local ENCODERS = {
    string = function(value)
        return (cjson.encode(text.utf8(value)):gsub("\\/", "/"))
    end,
    number = function(value)
        return math.type(value) == "integer" and ("%d"):format(value) or cjson.encode(value)
    end,
    boolean = tostring,
    table = function(value) -- an empty table is an empty array
        if next(value) == nil or value[1] ~= nil then
            return encode_array(value)
        end
        return encode_object(value)
    end,
}

function encode(value)
    local encoder = ENCODERS[type(value)]
    if encoder then
        return encoder(value)
    end
    if value == cjson.null then
        return "null"
    end
    -- tostring of a secret is "secret", of an error its line: nothing to hide, nothing lost
    return ENCODERS.string(tostring(value))
end

--- One JSON value as text, without line breaks; object keys in the fixed order.
M.encode = encode
M.null = cjson.null

-- Called by an Output's method, which a ctx's calls: a script's mistake is told at its line.
local function format(fmt, ...)
    local n, args, ok, line
    n = select("#", ...)
    if n == 0 then
        return text.clean(tostring(fmt), "\n\t")
    end
    args = { ... }
    for i = 1, n do
        if type(args[i]) == "string" then
            args[i] = text.clean(args[i])
        elseif type(args[i]) ~= "number" then
            args[i] = text.clean(tostring(args[i]))
        end
    end
    ok, line = pcall(string.format, fmt, table.unpack(args, 1, n))
    if not ok then
        error(line, 4)
    end
    return line
end

--- An output.
-- @tparam table how `json`, `quiet`; `stdout`, `stderr` (files); `terminal(fd)` -> boolean,
--   `colour(terminal)` -> boolean (keyferry.shell.colour); `now()` -> seconds, `columns(fd)`
function M.new(how)
    local terminal = how.terminal or function() return false end
    local coloured = how.colour or function() return false end
    return setmetatable({
        json = how.json or false,
        quiet = how.quiet or false,
        stdout = how.stdout or io.stdout,
        stderr = how.stderr or io.stderr,
        stdout_terminal = terminal(1),
        stderr_terminal = terminal(2),
        colour = coloured(terminal(1)),
        out_brush = colour.brush(coloured(terminal(1))),
        brush = colour.brush(coloured(terminal(2))),
        now = how.now or core.now,
        columns = how.columns or core.terminal.columns,
        start = nil, -- of what progress tells
        failure = nil, -- why standard output took no more
    }, Output)
end

-- Takes the progress line off the terminal; what a terminal echoed behind it (^C), too.
function Output:wipe()
    if self.drawn then
        self.drawn = false
        self.stderr:write(WIPE)
        self.stderr:flush()
    end
end

-- Also ends a question that was answered at the terminal; a next question brings its own
-- empty line.
function Output:settle(question)
    self:wipe()
    if self.asked then
        self.asked = false
        if self.stderr_terminal and not question then
            self.stderr:write(" \n")
        end
    end
end

function Output:out(line)
    local ok, problem
    if self.stdout_terminal or self.asked then -- else it goes elsewhere, and progress stays
        self:settle()
    end
    if self.failure then
        return
    end
    ok, problem = self.stdout:write(line, "\n")
    if ok then
        ok, problem = self.stdout:flush()
    end
    if not ok then
        self.failure = problem or "write error"
    end
end

--- The same output with nothing on standard output, where something else is written: all goes
-- to standard error.
-- @treturn output
function Output:aside()
    return setmetatable({ stdout = self.stderr, stdout_terminal = self.stderr_terminal },
        { __index = self })
end

function Output:err(line)
    self:settle()
    self.stderr:write(line, "\n")
    self.stderr:flush()
end

--- A line on standard output; nothing under --json or --quiet. Strings among the arguments
-- are cleaned: what a token answers cannot move the cursor.
function Output:print(fmt, ...)
    if not self.json and not self.quiet then
        self:out(format(fmt, ...))
    end
end

--- A line that is the result itself: also printed under --quiet.
function Output:result(fmt, ...)
    if not self.json then
        self:out(format(fmt, ...))
    end
end

--- A value that keyferry.shell.show has made into text: clean, perhaps with colours.
function Output:value(shown)
    if not self.json then
        self:out(shown)
    end
end

--- A warning on standard error.
function Output:warn(fmt, ...)
    self:err(self.brush("warning", "warning:") .. " " .. format(fmt, ...))
end

--- A line on standard error, not under --quiet.
function Output:note(fmt, ...)
    if not self.quiet then
        self:err(format(fmt, ...))
    end
end

--- One JSON line under --json, else nothing.
function Output:event(fields)
    if self.json then
        self:out(encode(fields))
    end
end

local function grouped(n)
    local digits = ("%d"):format(n)
    local head = #digits % 3
    digits = digits:sub(1, head) .. digits:sub(head + 1):gsub("%d%d%d", " %0")
    return (digits:gsub("^ ", ""))
end

local function speed(rate)
    if rate >= 9.5 then
        return grouped(math.floor(rate + 0.5)) .. "/s"
    elseif rate >= 1 then
        return ("%.1f/s"):format(rate)
    end
    return ("%d/min"):format(math.floor(rate * 60 + 0.5))
end

local function duration(seconds)
    seconds = math.ceil(seconds)
    if seconds < 100 then
        return ("%d s"):format(seconds)
    elseif seconds < 100 * 60 then
        return ("%d min"):format((seconds + 59) // 60)
    end
    return ("%s h %d min"):format(grouped(seconds // 3600), seconds % 3600 // 60)
end

-- The rate is the mean since the first call: it does not jump when results come in batches.
local function progress_line(done, total, start, now)
    local line = ("%s of %s (%d %%)"):format(grouped(done), grouped(total), done * 100 // total)
    local gone, passed = done - start.done, now - start.time
    if gone > 0 and passed >= SETTLED then
        line = ("%s, %s, %s left"):format(line, speed(gone / passed),
            duration((total - done) * passed / gone))
    end
    return line
end

-- Far more than any HSM holds, and done * 100 still is a number.
local function is_count(n)
    return math.type(n) ~= nil and n >= 0 and n <= 1e12 and n == math.floor(n)
end

--- How far the run is: one line redrawn about ten times a second, only at a terminal. It is
-- gone when done is total.
-- @tparam integer done
-- @tparam integer total
function Output:progress(done, total)
    local now, size, start
    if not is_count(done) or not is_count(total) then
        error("progress takes two whole numbers: how many are done, of how many", 3)
    elseif not self.stderr_terminal or self.quiet then
        return
    end
    start = self.start
    if done >= total then
        self.start = nil
        self:wipe()
        return
    end
    now = self.now()
    if not start or start.total ~= total or done < start.last then
        start = { total = total, done = done, time = now, drawn = -math.huge }
        self.start = start
    end
    start.last = done
    if now - start.drawn < REDRAW then
        return
    end
    start.drawn = now
    size = math.max((self.columns(2) or 80) - 1, 1) -- in the last column the cursor would wrap
    self.drawn = true -- before: Ctrl-C may come in between
    self.stderr:write(WIPE, progress_line(done, total, start, now):sub(1, size))
    self.stderr:flush()
end

-- The code of an interrupt tells nobody anything.
local function sentence(reason)
    if status.code(reason) == "KFR_INTERRUPTED" then
        reason = status.field(reason, "what") or reason
    end
    return tostring(reason)
end

--- What failed and what to do, on standard error.
-- @param reason an error object or a sentence
-- @string[opt] hint the second line, when the reason brings none
function Output:problem(reason, hint)
    hint = status.field(reason, "hint") or hint
    self:err(self.brush("error", "error:") .. " " .. text.clean(sentence(reason)))
    if hint and hint ~= "" then
        self:err("  " .. text.clean(hint))
    end
end

local function counts_line(counts)
    local parts = {}
    for _, count in ipairs(COUNTS) do
        local n = counts[count[1]]
        local never = counts.planned and count[1] == "cloned" -- a plan clones nothing
        if n and (n > 0 or ALWAYS[count[1]]) and not never then
            parts[#parts + 1] = ("%d %s"):format(n, count[2])
        end
    end
    return table.concat(parts, ", ")
end

-- Where nobody watches standard output the reason goes to standard error as well, so that
-- `>/dev/null` in a crontab hides no failure.
function Output:failed(result)
    local hint = status.field(result.reason, "hint") or result.hint
    local reason = text.clean(sentence(result.reason or status.text(result.status)))
    if self.json or not self.stdout_terminal then
        self:problem(result.reason or reason, result.hint)
    end
    self:value(self.out_brush("error", ("'%s' failed:"):format(text.clean(result.command)))
        .. " " .. reason)
    if hint and hint ~= "" and self.stdout_terminal then
        self:result("  %s", hint)
    end
end

--- The end of a command: counts, its last line and the command result.
-- @tparam table result `command`, `status`; `reason` (error or sentence), `hint`, `counts`,
--   `silent` (no "successful" line), `bare` (nothing at all on success)
-- @treturn integer the status
function Output:finish(result)
    local event = {
        event = "result", command = result.command,
        status = STATUS_WORD[result.status] or "failed", exit = result.status,
    }
    self.start = nil
    if result.counts and next(result.counts) then
        self:print("%s", counts_line(result.counts))
        for name, n in pairs(result.counts) do
            event[name] = n
        end
    end
    if result.status ~= 0 then
        event.reason = sentence(result.reason or status.text(result.status))
        event.code = status.code(result.reason) or result.code
        event.hint = status.field(result.reason, "hint") or result.hint
        self:failed(result)
    elseif not result.silent and not result.bare then
        self:result("'%s' successful.", result.command)
    end
    if result.status ~= 0 or not result.bare then
        self:result("")
        self:result("Command Result : %d (%s)", result.status, status.text(result.status))
    end
    self:event(event)
    return result.status
end

--- The last word: a report that could not be written makes the run a failure.
-- @tparam integer code the exit status so far
-- @treturn integer the exit status
function Output:close(code)
    local ok, problem
    self:settle()
    if not self.failure then
        ok, problem = self.stdout:flush()
        if not ok then
            self.failure = problem or "write error"
        end
    end
    if not self.failure then
        return code
    end
    self.stderr:write("error: standard output: ", self.failure, "\n")
    return code == 0 and status.SYSTEM or code
end

return M
