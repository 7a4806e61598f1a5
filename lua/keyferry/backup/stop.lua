-- SPDX-License-Identifier: MIT
--- How a run of keyferry.backup ends early: an error is thrown inside it and caught at its
-- door, so that everything on the way closes.
local core = require "keyferry.core"

local M = {}

-- After these no other object will do better: no room, no way to the HSM, or an HSM that has
-- locked itself. The vendor's own codes are those of Luna.
local last = {
    "CKR_TOO_MANY_CONTAINERS", "CKR_MAX_OBJECT_COUNT_EXCEEDED", "CKR_HSM_STORAGE_FULL",
    "CKR_CONTAINER_OBJECT_STORAGE_FULL", "CKR_USER_LOCKED_OUT", "CKR_SO_LOGIN_FAILURE_THRESHOLD",
    "CKR_CLONING_PARAMETER_ALREADY_EXISTS", "CKR_CLONING_PARAMETER_MISSING",
    "CKR_USER_NOT_AUTHORIZED", "CKR_UNABLE_TO_CONNECT", "CKR_PARTITION_DISABLED",
    "CKR_CALLBACK_ERROR", "CKR_SP_TIMEOUT", "CKR_TIMEOUT", "CKR_PED_NOT_RUNNING",
    "CKR_PED_UNPLUGGED", "CKR_PED_UNSUPPORTED", "CKR_PED_ERROR", "CKR_TRANSPORT_MODE",
    "CKR_TAMPERED",
}

--- Whether an error of one object is the end of the run for all.
M.is_last = {}
for _, code in ipairs(last) do
    M.is_last[code] = true
end

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
