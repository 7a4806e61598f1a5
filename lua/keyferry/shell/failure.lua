-- SPDX-License-Identifier: MIT
--- What the program makes of an error, wherever it comes from.
local core = require("keyferry.core")

local status = require("keyferry.shell.status")

local M = {}

--- What was thrown as text; its own metamethod may throw, too.
function M.text(err)
    local ok, said = pcall(tostring, err)
    return ok and said or ("an error that cannot be shown (a %s)"):format(type(err))
end

--- For xpcall: keeps error objects, makes a string one line and its traceback.
function M.handler(debugging)
    return function(err)
        if status.code(err) and pcall(tostring, err) then
            return err
        end
        err = M.text(err)
        if debugging then
            return debug.traceback(err, 2)
        end
        return err
    end
end

--- Wrong use of the program.
function M.usage(what, hint)
    return core.error({ code = "KFR_ARGUMENT", what = what, hint = hint })
end

--- The first line of an error.
function M.one_line(err)
    return (tostring(err):match("^[^\n]*"))
end

--- A failure outside any command.
-- @treturn integer the exit status
function M.plain(shell, err, hint)
    shell.out:problem(err, hint)
    return status.of(err)
end

--- A failure of a command that has no context yet (or never gets one).
function M.command(shell, name, err)
    return shell.out:finish({ command = name, status = status.of(err), reason = err })
end

return M
