-- SPDX-License-Identifier: MIT
--- How a run of keyferry.backup ends early: an error is thrown inside it and caught at its
-- door, so that everything on the way closes.
local core = require "keyferry.core"

local M = {}

--- The metatable of what stop throws: { err = the error object }.
M.Stop = {}

--- Ends the run with an error.
function M.stop(err)
    error(setmetatable({ err = err }, M.Stop), 0)
end

--- Why a run ended early, when that is no mistake of the policy: nil for one.
-- @param thrown what came out of the run
-- @treturn ?err
function M.reason_of(thrown)
    if getmetatable(thrown) == M.Stop then
        return thrown.err
    end
    local code = type(thrown) == "table" and rawget(thrown, "code")
    return code == "KFR_INTERRUPTED" and thrown or nil
end

--- A value that a call gave, or the end of the run with its error.
function M.check(value, err)
    if value == nil or value == false then
        M.stop(err)
    end
    return value
end

--- An error object of our own.
function M.failure(code, what, hint)
    return core.error{ code = code, what = what, hint = hint }
end

--- Ends the run when the user or the system asked for it.
function M.check_interrupt()
    if core.interrupted() then
        M.stop(M.failure("KFR_INTERRUPTED", "interrupted"))
    end
end

--- Waits; the end of the run when it is interrupted meanwhile.
function M.pause(seconds)
    local till = core.now() + seconds
    repeat
        core.sleep(math.max(0, till - core.now()))
        M.check_interrupt()
    until core.now() >= till
end

return M
