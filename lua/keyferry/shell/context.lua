-- SPDX-License-Identifier: MIT
--- The `ctx` that a script's run gets; the same for stock scripts and a user's own.
local ask = require("keyferry.shell.ask")
local status = require("keyferry.shell.status")
local text = require("keyferry.shell.text")

local M = {}
local Context = {}
Context.__index = Context

--- A context.
-- @tparam table script the script's table
-- @tparam table options its option values by name
-- @param out the output
function M.new(script, options, out)
    return setmetatable({
        name = script.name, options = options, script = script, output = out,
        json = out.json, null = require("keyferry.shell.output").null,
    }, Context)
end

--- A line on standard output; nothing under --json or --quiet.
function Context:print(fmt, ...)
    self.output:print(fmt, ...)
end

--- A line that is the answer itself: also under --quiet.
function Context:result(fmt, ...)
    self.output:result(fmt, ...)
end

--- "warning: ..." on standard error.
function Context:warn(fmt, ...)
    self.output:warn(fmt, ...)
end

--- A line on standard error, not under --quiet.
function Context:note(fmt, ...)
    self.output:note(fmt, ...)
end

--- One JSON line under --json; `command` is added.
function Context:event(fields)
    local event = { command = self.name }
    for name, value in pairs(fields) do
        event[name] = value
    end
    self.output:event(event)
end

--- Aligned columns as lines, the title first; see Context:columns.
-- @treturn table
function Context.aligned(_, head, rows)
    return text.columns(head, rows)
end

--- Aligned columns for people; nothing under --json.
-- @tparam table head column titles
-- @tparam table rows arrays of cells
function Context:columns(head, rows)
    for _, line in ipairs(text.columns(head, rows)) do
        self.output:result("%s", line)
    end
end

--- "Name:  value" lines for people; nothing under --json.
-- @tparam table rows { { name, value }, ... }
function Context:fields(rows)
    for _, line in ipairs(text.fields(rows)) do
        self.output:result("%s", line)
    end
end

--- "N of M" at a terminal.
function Context:progress(done, total)
    self.output:progress(done, total)
end

--- A secret from the option, the environment or the terminal (see keyferry.shell.ask).
function Context:secret(what)
    return ask.secret(what, self.options, self.output)
end

--- Asks for "proceed" or "quit"; -force answers.
function Context:confirm(lines)
    return ask.confirm(lines, self.options, self.output)
end

--- A text as one word of a POSIX shell.
function Context.shell_word(_, value)
    return text.shell_word(value)
end

--- Says how the command ended; what it returns is what `run` returns.
-- @tparam[opt] table result `status`, `reason` (an error or a sentence), `code` and
--   `hint` of a sentence, `counts`
-- @treturn integer the exit status
function Context:finish(result)
    local last = {}
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
    self.finished = last.status
    return self.output:finish(last)
end

--- The end of a command that looked at several HSMs, some of which could not be read.
-- @tparam integer unreadable how many
-- @tparam integer total of how many
-- @param last the error of the last of them
function Context:finish_looking(unreadable, total, last)
    if unreadable == 0 then
        return 0
    elseif unreadable == total then
        return nil, last
    end
    return self:finish({ status = 1,
        reason = ("%d of %d HSMs could not be read"):format(unreadable, total) })
end

return M
