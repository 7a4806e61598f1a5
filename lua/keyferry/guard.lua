-- SPDX-License-Identifier: MIT
--- guard: which code a signal may cut.
--
-- A policy's own code can be interrupted, even when it loops for ever; what the library does
-- in several steps cannot. The program turns the first on around a command, this file turns
-- it off around such steps and on again around the hooks that they call.
local core = require "keyferry.core"

local M = {
    traceback = false, -- whether errors that pass through here say where they came from
}

--- The message handler for errors on their way to the program.
function M.handler(err)
    if M.traceback and type(err) == "string" and not err:find("\nstack traceback:", 1, true) then
        return debug.traceback(err, 2)
    end
    return err
end

local function pass(ok, ...)
    if not ok then
        error(..., 0)
    end
    return ...
end

--- Raises at the caller's caller unless a name is text: one without its quotes is nil.
function M.text(name)
    if type(name) ~= "string" then
        error(("a name is text, in quotes, not a %s"):format(type(name)), 3)
    end
end

--- A function that does what f does, never cut in the middle.
function M.whole(f)
    return function(...)
        return pass(core.uninterruptible(f, M.handler, ...))
    end
end

--- Calls a policy's hook: while it runs a signal raises KFR_INTERRUPTED in it.
function M.hook(hook, ...)
    return pass(core.interruptible(hook, M.handler, ...))
end

return M
