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

local TOGETHER = "luna" -- the engine that works both ends or none

-- An engine was asked for by name and has to be that of both ends.
local function check_pair(source, target, wanted, target_wanted)
    if (wanted or TOGETHER) ~= (target_wanted or TOGETHER) then
        stop(failure("KFR_NO_ENGINE", "the engine luna has the HSM clone from one of its "
                     .. "partitions to another: it works both ends or none",
                     "name it for both ends"))
    elseif not target then
        stop(failure("KFR_NO_ENGINE", "the engine luna has the HSM clone from one of its "
                     .. "partitions to another, and there is no such target: it gives nothing "
                     .. "that could be kept", "make the target first, with the vendor's own "
                     .. "tool, or use the engine wrap"))
    end
    check(source:probe(TOGETHER, target))
    return TOGETHER
end

--- The engine that works both ends together, where there is one for these two: asked for, or
-- found when none is. Asked for and not to be had: the end of the run.
-- @tparam session source
-- @tparam ?session target
-- @tparam ?string wanted the engine asked for at the source
-- @tparam ?string target_wanted and at the target
-- @treturn ?string nil: each end has its own
function M.pair(source, target, wanted, target_wanted)
    if wanted == TOGETHER or target_wanted == TOGETHER then
        return check_pair(source, target, wanted, target_wanted)
    elseif target and not wanted and not target_wanted and source:probe(TOGETHER, target) then
        return TOGETHER
    end
    return nil
end

local VIRTUAL = "HA Virtual Card Slot" -- of a Luna client, for several HSMs at once

--- A slot that stands for several HSMs holds no partition of its own: nothing is cloned from it
-- or to it. The end of the run.
function M.refuse_virtual(session)
    local token = session:token()
    if (token.description or ""):find(VIRTUAL, 1, true) then
        stop(failure("KFR_REFUSED", ('the slot of token "%s" (%s) stands for several HSMs at once')
                     :format(token.label, VIRTUAL), "name a partition of one of them"))
    end
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
