-- SPDX-License-Identifier: MIT
--- How a partition is worked: by which engine, under which domain.
local core = require "keyferry.core"
local stopping = require "keyferry.backup.stop"

local stop = stopping.stop
local check = stopping.check
local failure = stopping.failure

local M = {}

--- The engine for an end: the one asked for, else the first that can work it. Not to be had:
-- the end of the run.
function M.engine(session, wanted)
    if wanted then
        local known = {}
        for _, name in ipairs(core.engines()) do
            known[name] = true
        end
        if not known[wanted] then
            stop(failure("KFR_ARGUMENT", ("there is no engine '%s'"):format(wanted),
                         "there are: " .. table.concat(core.engines(), ", ")))
        end
        check(session:probe(wanted))
        return wanted
    end
    local last
    for _, name in ipairs(core.engines()) do
        local ok, err = session:probe(name)
        if ok then
            return name
        end
        last = err
    end
    stop(last)
end

--- To who is not logged in a token shows its public objects alone, as if those were all: the
-- end of the run.
function M.require_user(session)
    local user, err = session:user()
    if err then
        stop(err)
    elseif user ~= "user" and session:token().login_required ~= false then
        stop(core.error{
            code = "CKR_USER_NOT_LOGGED_IN", hint = "log in as the Crypto Officer",
            what = ('the session with partition "%s" sees public objects only')
                :format(session:token().label),
        })
    end
end

--- The domain of a partition: its own (the given one when that is the same, since it may know
-- more), or nil. One that a run which was cut off has put there in part is none.
function M.domain(session, engine, given, is_unfinished)
    local own, err = session:find_domain(engine)
    if not own and err.code ~= "KFR_NOT_FOUND" and not is_unfinished then
        stop(err)
    end
    return own and given and own == given and given or own
end

return M
