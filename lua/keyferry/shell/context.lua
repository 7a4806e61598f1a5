-- SPDX-License-Identifier: MIT
--- The `ctx` that a script's run gets; the same for stock scripts and a user's own.
local core = require("keyferry.core")

local ask = require("keyferry.shell.ask")
local cloning = require("keyferry.shell.cloning")
local comparison = require("keyferry.shell.comparison")
local keys = require("keyferry.shell.ped")
local reporting = require("keyferry.shell.reporting")
local results = require("keyferry.shell.results")
local secrets = require("keyferry.shell.secrets")
local status = require("keyferry.shell.status")
local text = require("keyferry.shell.text")

local M = {}
local Context = {}
Context.__index = Context

-- Wrong use is told at the line of the script.
local function expect(ok, what)
    if not ok then
        error(what, 3)
    end
end

local function is_table(value)
    return type(value) == "table"
end

--- What there is besides the methods.
-- @table ctx
-- @tfield string name the command's: "partition backup"
-- @tfield table options its option values by name; true for a flag, a secret for a secret
-- @tfield table script the table that the script returned
-- @tfield boolean json whether --json was given: events and no lines
-- @field null what is null in an event's JSON (a nil is left out)
-- @field output what the methods write to
-- @tfield[opt] function call what ctx:run runs commands with
-- @tfield[opt] int finished the exit status, once ctx:finish has told it
-- @tfield[opt] paper paper what ctx:report has given

--- A context.
-- @tparam table script the script's table
-- @tparam table options its option values by name
-- @param out the output
-- @tparam[opt] function call runs another command: function(name, options) -> status
function M.new(script, options, out, call)
    return setmetatable({
        name = script.name, options = options, script = script, output = out,
        json = out.json, null = require("keyferry.shell.output").null, call = call,
    }, Context)
end

--- A line on standard output; nothing under --json or --quiet.
-- @string fmt as for string.format
-- @param ... its values
function Context:print(fmt, ...)
    self.output:print(fmt, ...)
end

--- A line that is the answer itself: also under --quiet.
-- @string fmt
-- @param ...
function Context:result(fmt, ...)
    self.output:result(fmt, ...)
end

--- "warning: ..." on standard error.
-- @string fmt
-- @param ...
function Context:warn(fmt, ...)
    self.output:warn(fmt, ...)
end

--- A line on standard error, not under --quiet.
-- @string fmt
-- @param ...
function Context:note(fmt, ...)
    self.output:note(fmt, ...)
end

--- One JSON line under --json; `command` is added. Nothing otherwise.
-- @tparam table fields
function Context:event(fields)
    expect(is_table(fields), "event takes a table of fields")
    local event = { command = self.name }
    for name, value in pairs(fields) do
        event[name] = value
    end
    self.output:event(event)
end

--- Aligned columns as lines, the title first; see ctx:columns.
-- @tparam table head column titles
-- @tparam table rows arrays of cells
-- @treturn table
function Context.aligned(_, head, rows)
    return text.columns(head, rows)
end

--- Aligned columns for people; nothing under --json.
-- @tparam table head column titles
-- @tparam table rows arrays of cells
function Context:columns(head, rows)
    expect(is_table(head) and is_table(rows), "columns takes the titles and the rows, two tables")
    for _, line in ipairs(text.columns(head, rows)) do
        self.output:result("%s", line)
    end
end

--- "Name:  value" lines for people; nothing under --json.
-- @tparam table rows { { name, value }, ... }
function Context:fields(rows)
    expect(is_table(rows), "fields takes rows, a table")
    for _, line in ipairs(text.fields(rows)) do
        self.output:result("%s", line)
    end
end

--- The progress line at a terminal (count, rate, time left); nothing elsewhere.
-- @int done
-- @int total
function Context:progress(done, total)
    self.output:progress(done, total)
end

-- What the script's option of that name declares of its question.
local function declared(script, name)
    for _, option in ipairs(script.options or {}) do
        if option.name == name and option.kind == "secret" then
            return {
                option = name, env = option.env or "KEYFERRY_" .. name:upper(),
                prompt = option.prompt or ("Please enter the %s:"):format(name),
                again = option.again, shares = option.shares,
            }
        end
    end
    error(("the script has no option %q of the kind secret"):format(tostring(name)), 3)
end

--- A secret: from the option, the environment (NAME, or the file that NAME_FILE names), else
-- asked for at the terminal, echoed as asterisks.
-- @tparam string|table what the name of an option of the kind secret, whose `prompt`, `again`
--   and `env` (KEYFERRY_<NAME>) are used; or a table with `option`, `env`, `prompt`, `again`,
--   `new`, `quiet`
-- @tparam[opt] table how with a name: `new` true: a new secret, asked for twice; `quiet` true:
--   never asked for (nil without an error when it was not given)
-- @treturn[1] secret
-- @treturn[2] nil
-- @treturn[2] err KFR_NO_SECRET when there is no terminal to ask on
function Context:secret(what, how)
    if type(what) == "string" then
        what = declared(self.script, what)
        for name, value in pairs(how or {}) do
            what[name] = value
        end
    end
    return ask.secret(what, self.options, self.output)
end

--- Logs in to a partition as its Crypto Officer, with a secret as ctx:secret has it; with its
-- black key where it takes PED keys; and where the HSM has a PED itself, the operator is asked
-- to attend to it.
-- @tparam partition partition
-- @tparam[opt] table how `secret`: what ctx:secret takes ("password" when left out), or a
--   secret; `writable` true: a session that can write
-- @treturn[1] session
-- @treturn[2] nil
-- @treturn[2] err
function Context:login(partition, how)
    local secret, err
    how = how or {}
    if type(partition) ~= "table" or not partition.token then
        error(("ctx:login takes a partition, not a %s"):format(type(partition)), 2)
    end
    for name in pairs(how) do
        if name ~= "secret" and name ~= "writable" then
            error(("ctx:login has no option '%s'"):format(tostring(name)), 2)
        end
    end
    secret, err = secrets.opener(self, partition, how.secret)
    if err then
        return nil, err
    end
    return partition:login(secret, { writable = how.writable })
end

-- What an option of a command can be given.
local function is_value(value)
    local kind = type(value)
    if kind == "table" then
        for _, item in pairs(value) do
            if type(item) ~= "string" and type(item) ~= "number" then
                return false
            end
        end
        return #value > 0
    end
    return kind == "string" or kind == "number" or kind == "boolean" or ask.is_secret(value)
end

--- Runs another command, stock or own, and prints what it prints, its result too.
-- @string name "partition backup"
-- @tparam[opt] table options its options by name: true for a flag, a secret for a secret, an
--   array for a list
-- @treturn integer its exit status
function Context:run(name, options)
    expect(type(name) == "string", "run takes the name of a command, a string")
    expect(options == nil or is_table(options), "run takes options by name, a table")
    for option, value in pairs(options or {}) do
        expect(type(option) == "string", "run takes options by name, not one after another")
        expect(is_value(value), ("run: what is given for the option '%s' is none of text, "
            .. "number, boolean, secret, array"):format(option))
    end
    return self.call(name, options or {})
end

--- Says what became of one object, as `partition backup` does: its line, or its JSON event.
-- @tparam result result as keyferry.backup's on_result gets it
-- @tparam partition partition the source
function Context:tell(result, partition)
    expect(is_table(result) and result.object and result.status,
        "tell takes a result, as on_result gets it")
    expect(is_table(partition) and partition.token, "tell takes the partition of the object, too")
    self.told = self.told or { cloned = 0 } -- for the end, should the script fail
    self.told[result.status] = (self.told[result.status] or 0) + 1
    results.tell(self, result, partition)
end

--- Says what became of one object in a comparison, as `partition verify` does: its line, or its
-- JSON event. The end is ctx:conclude(outcome).
-- @tparam comparison result as keyferry.verify's on_result gets it
-- @tparam table partitions `target`, and `source` where there is one
function Context:compare(result, partitions)
    expect(is_table(result) and result.status, "compare takes a result, as on_result gets it")
    expect(is_table(partitions) and is_table(partitions.target),
        "compare takes the partitions, { source =, target = }, too")
    comparison.tell(self, result, partitions)
end

--- The end of a script that made a backup, or compared one: warnings, counts, the last line and
-- the exit status (what it returns is what `run` returns).
-- @tparam report report as keyferry.backup returns it; or the outcome of keyferry.verify
-- @string[opt] target the name of the target partition, for the warnings
-- @treturn integer the exit status
function Context:conclude(report, target)
    expect(is_table(report) and report.unproved, "conclude takes the report of a backup")
    if self.keys_only and status.code(report.reason) == "KFR_DOMAIN_MISMATCH" then
        report.reason.hint = "the red key used for the source must be used for the backup"
    end
    if report.differing then
        return comparison.conclude(self, report)
    end
    return results.conclude(self, report, target or "the target")
end

--- Asks for "proceed" or "quit"; the option -force answers.
-- @tparam table lines what is said before
-- @treturn[1] true
-- @treturn[2] nil
-- @treturn[2] err KFR_REFUSED: "quit", or there is no terminal
function Context:confirm(lines)
    expect(is_table(lines) and type(lines[1]) == "string", "confirm takes lines, a table")
    return ask.confirm(lines, self.options, self.output)
end

--- Asks for one line of text, at the terminal and nowhere else. Nothing secret: it is shown.
-- @string question
-- @treturn[1] string
-- @treturn[2] nil
-- @treturn[2] err KFR_REFUSED when there is no terminal to ask on
function Context:ask(question)
    if type(question) ~= "string" then
        error("ask takes a question, a string", 2)
    end
    return ask.line(question, self.output)
end

--- Waits; Ctrl-C ends it.
-- @tparam number seconds
-- @treturn[1] true
-- @treturn[2] nil
-- @treturn[2] err KFR_INTERRUPTED
function Context.pause(_, seconds)
    if type(seconds) ~= "number" or not (seconds >= 0 and seconds <= 86400) then
        error("pause takes a number of seconds, a day's at most", 2)
    end
    if not core.sleep(seconds) then
        return nil, core.error({ code = "KFR_INTERRUPTED", what = "interrupted" })
    end
    return true
end

--- A text as one word of a POSIX shell.
-- @string value
-- @treturn string
function Context.shell_word(_, value)
    return text.shell_word(value)
end

--- The kind of an HSM for people: "soft", "module", "soft, PED keys", "module, PED".
-- @tparam hsm hsm
-- @treturn string
function Context.kind_of(_, hsm)
    local how = hsm.authentication == "ped" and (hsm.conf and ", PED keys" or ", PED") or ""
    return hsm.kind .. how
end

--- Bytes, such as an object's id, as hex digits.
-- @string bytes
-- @treturn string
function Context.hex(_, bytes)
    return text.hex(bytes)
end

--- Says how the command ended; what it returns is what `run` returns.
-- @tparam[opt] table result `status`, `reason` (an error or a sentence), `code` and
--   `hint` of a sentence, `counts`
-- @treturn integer the exit status
function Context:finish(result)
    local last = {}
    expect(result == nil or is_table(result), "finish takes a table")
    for name, value in pairs(result or {}) do
        last[name] = value
    end
    last.command = self.name
    if not last.status then
        last.status = not (last.reason or last.code) and status.SUCCESS
            or status.of(last.code and last or last.reason)
    end
    last.silent = self.script.category == "reads"
    last.bare = self.script.bare
    reporting.finish(self, last)
    self.finished = last.status
    return self.output:finish(last)
end

--- The end of a command that looked at several HSMs, some of which could not be read.
-- @tparam integer unreadable how many
-- @tparam integer total of how many
-- @tparam err last the error of the last of them
-- @treturn[1] integer the exit status
-- @treturn[2] nil
-- @treturn[2] err when none could be read
function Context:finish_looking(unreadable, total, last)
    if unreadable == 0 then
        return 0
    elseif unreadable == total then
        return nil, last
    end
    return self:finish({ status = 1,
        reason = ("%d of %d HSMs could not be read"):format(unreadable, total) })
end

--- Whether standard "input", "output" or "error" is a terminal.
-- @string stream
-- @treturn boolean
function Context.is_terminal(_, stream)
    local number = ({ input = 0, output = 1, error = 2 })[stream]
    expect(number, 'is_terminal takes "input", "output" or "error"')
    return core.terminal.is(number)
end

--- Standard output is for something else from here on: lines and events go to standard error.
function Context:leave_output()
    self.output = self.output:aside()
end

Context.report = reporting.report
Context.secrets, Context.ignore_text = secrets.secrets, secrets.ignore_text
for _, methods in ipairs({ cloning, keys }) do
    for name, method in pairs(methods) do
        Context[name] = method
    end
end

-- ctx.print("x") would take "x" for the ctx.
local function with_colon(name, method)
    return function(self, ...)
        if not is_table(self) or self.output == nil and self.script == nil then
            error(("write ctx:%s, with a colon"):format(name), 2)
        end
        return method(self, ...) -- a tail call: what the method raises is told at the caller
    end
end

for name, method in pairs(Context) do
    if type(method) == "function" then
        Context[name] = with_colon(name, method)
    end
end

return M
