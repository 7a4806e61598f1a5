-- SPDX-License-Identifier: MIT
--- The report that the option -report asks for, from the first look at its file to the end of
-- the command.
-- @classmod ctx
local core = require("keyferry.core")
local report = require("keyferry.report")

local results = require("keyferry.shell.results")
local status = require("keyferry.shell.status")

local M = {}

-- What was asked, without the secrets.
local function asked(ctx)
    local given = {}
    for _, option in ipairs(ctx.script.options or {}) do
        local value = ctx.options[option.name]
        if option.kind ~= "secret" and type(value) ~= "userdata" then
            given[option.name] = value
        end
    end
    return given
end

-- Where a file is, or would be, by one name.
local function place(path)
    local real = core.file.realpath(path)
    if real then
        return real
    end
    local folder, name = path:match("^(.*/)([^/]*)$")
    return (core.file.realpath(folder or ".") or folder or ".") .. "/" .. (name or path)
end

-- A report in the place of a stream would be the end of the stream.
local function shared(ctx, path)
    for _, option in ipairs(ctx.script.options or {}) do
        local other = option.kind == "path" and ctx.options[option.name]
        if other and option.name ~= "report" and place(other) == place(path) then
            return core.error({ code = "KFR_ARGUMENT", hint = "give each its own",
                what = ("-report and -%s name the same file"):format(option.name) })
        end
    end
    return nil
end

--- The report that the option -report asks for, to be given to keyferry.backup; a command that
-- ends without that writes it as one that failed. A file that cannot be written, or is there
-- without -force, ends the command now: ask for it before anything else.
-- @tparam[opt] table hsms `source` and `target`: the HSMs, once they are known
-- @treturn ?paper nil: none is asked for
function M:report(hsms)
    local path = self.options.report
    if path and not self.paper then
        local paper
        local err = shared(self, path)
        if not err then
            paper, err = report.create(path, {
                force = self.options.force or false, command = self.name, asked = asked(self),
                exit = results.exit_of,
            })
        end
        if not paper then
            err.hint = err.code == "KFR_EXISTS" and "name another file; -force overwrites it"
                or err.hint
            error(err, 0) -- a run without the report that was asked for must not begin
        end
        self.paper = paper
    end
    if hsms and self.paper then
        self.paper:name_hsms(hsms)
    end
    return self.paper
end

--- The report of a command that has made none of its own. What it has done is done.
-- @local
-- @tparam ctx ctx
-- @tparam table last what ctx:finish tells; a report that cannot be written is told in it
function M.finish(ctx, last)
    if not ctx.paper or ctx.paper.finished then
        return
    end
    local ok, err = ctx.paper:finish{
        status = last.status == status.SUCCESS and "success" or "failed", exit = last.status,
        reason = last.reason, code = last.code, hint = last.hint,
    }
    if not ok and last.status == status.SUCCESS then
        last.status, last.reason = status.of(err),
            ("all is done, but its report could not be written: %s"):format(tostring(err))
    elseif not ok then
        ctx:warn("the report could not be written: %s", tostring(err))
    end
end

return M
