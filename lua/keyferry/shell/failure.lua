-- SPDX-License-Identifier: MIT
--- What the program makes of an error, wherever it comes from.
local core = require("keyferry.core")

local status = require("keyferry.shell.status")

local M = {}

local ERROR = debug.getmetatable(core.error({ code = "KFR_SCRIPT", what = "" }))

-- tostring of such a value is its address, which tells nobody anything.
local function is_mute(err)
    local meta = type(err) == "table" and (debug.getmetatable(err) or {})
    return meta and rawget(meta, "__tostring") == nil
end

--- What was thrown as text; its own metamethod may throw, too.
function M.text(err)
    local ok, said
    if err == nil or is_mute(err) then
        return (err == nil and "nil" or "a table without a text") .. " was thrown as an error"
    end
    ok, said = pcall(tostring, err)
    return ok and said or ("an error that cannot be shown (a %s)"):format(type(err))
end

local function text_field(err, name)
    local value = status.field(err, name)
    return type(value) == "string" and value or nil
end

-- As core.error made it, and as it was made.
local function is_whole(err)
    local hint = status.field(err, "hint")
    return debug.getmetatable(err) == ERROR and text_field(err, "what") ~= nil
        and (hint == nil or type(hint) == "string") and status.code(err) ~= nil
        and pcall(tostring, err)
end

--- Whatever a script threw or returned as an error, as an error object that can be printed.
function M.of(err)
    if is_whole(err) then
        return err
    end
    local code = status.code(err) or ""
    return core.error({ code = code:find("^[CK][KF]R_") and code or "KFR_SCRIPT",
        what = text_field(err, "what") or M.one_line(err), hint = text_field(err, "hint") })
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
    return (M.text(err):match("^[^\n]*"))
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
