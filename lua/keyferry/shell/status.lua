-- SPDX-License-Identifier: MIT
--- Exit statuses: the N of "Command Result : N (Text)", and which error gives which.
local M = {
    SUCCESS = 0,
    PARTIAL = 1,
    USAGE = 2,
    AUTHENTICATION = 3,
    DOMAIN_MISMATCH = 4,
    REFUSED = 5,
    NOT_FOUND = 6,
    SYSTEM = 7,
    SCRIPT = 8,
    INTERRUPTED = 130,
}

local TEXT = {
    [0] = "Success",
    [1] = "Partial",
    [2] = "Usage",
    [3] = "Authentication",
    [4] = "Domain Mismatch",
    [5] = "Refused",
    [6] = "Not Found",
    [7] = "HSM or System Failure",
    [8] = "Script Failure",
    [130] = "Interrupted",
}

-- Every code that is not listed is a failure of the HSM or the system.
local BY_CODE = {
    KFR_ARGUMENT = M.USAGE,
    KFR_USAGE = M.USAGE,
    KFR_NO_SECRET = M.AUTHENTICATION,
    KFR_SHARE = M.AUTHENTICATION,
    CKR_PIN_INCORRECT = M.AUTHENTICATION,
    CKR_PIN_INVALID = M.AUTHENTICATION,
    CKR_PIN_LEN_RANGE = M.AUTHENTICATION,
    CKR_PIN_EXPIRED = M.AUTHENTICATION,
    CKR_PIN_LOCKED = M.AUTHENTICATION,
    CKR_PIN_TOO_WEAK = M.AUTHENTICATION,
    CKR_USER_PIN_NOT_INITIALIZED = M.AUTHENTICATION,
    CKR_USER_NOT_LOGGED_IN = M.AUTHENTICATION,
    CKR_USER_TYPE_INVALID = M.AUTHENTICATION,
    CKR_CANCEL = M.AUTHENTICATION,
    CKR_FUNCTION_CANCELED = M.AUTHENTICATION,
    CKR_FUNCTION_REJECTED = M.AUTHENTICATION,
    CKR_USER_LOCKED_OUT = M.AUTHENTICATION,
    CKR_SO_LOGIN_FAILURE_THRESHOLD = M.AUTHENTICATION,
    CKR_CHALLENGE_INCORRECT = M.AUTHENTICATION,
    CKR_USER_NOT_AUTHORIZED = M.AUTHENTICATION,
    CKR_CALLBACK_ERROR = M.AUTHENTICATION,
    CKR_SP_TIMEOUT = M.AUTHENTICATION,
    CKR_TIMEOUT = M.AUTHENTICATION,
    KFR_DOMAIN_MISMATCH = M.DOMAIN_MISMATCH,
    KFR_REFUSED = M.REFUSED,
    KFR_EXISTS = M.REFUSED,
    KFR_NOT_FOUND = M.NOT_FOUND,
    KFR_AMBIGUOUS = M.NOT_FOUND,
    KFR_SCRIPT = M.SCRIPT,
    KFR_INTERRUPTED = M.INTERRUPTED,
}

--- A field of an error object of either side of the door; nil for anything else.
-- @param err table, userdata or whatever was thrown
-- @string name "code", "what", "hint"
function M.field(err, name)
    local kind = type(err)
    if kind ~= "table" and kind ~= "userdata" then
        return nil
    end
    local ok, value = pcall(function()
        return err[name]
    end)
    return ok and value or nil
end

--- The code of an error object, nil when it is none.
function M.code(err)
    local code = M.field(err, "code")
    return type(code) == "string" and code or nil
end

--- The exit status of an error: by its code; 8 for an error that has none.
function M.of(err)
    local code = M.code(err)
    if not code then
        return M.SCRIPT
    end
    return BY_CODE[code] or M.SYSTEM
end

--- "Success" for 0; the number itself for a status of somebody's own.
function M.text(status)
    return TEXT[status] or tostring(status)
end

return M
