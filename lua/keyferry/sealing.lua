-- SPDX-License-Identifier: MIT
--- One object out of a partition, sealed, and into another: what a session can do by itself.
-- @classmod session

local core = require "keyferry.core"
local choice = require "keyferry.backup.choice"
local guard = require "keyferry.guard"
local stopping = require "keyferry.backup.stop"

local check = stopping.check

local methods = core.session_methods

local fields = { domain = true, engine = true, changes = true, more_rights = true }

local function check_options(name, options)
    for field in pairs(options) do
        if not fields[field] then
            error(("%s has no option '%s'"):format(name, tostring(field)), 3)
        end
    end
    if options.more_rights ~= nil and type(options.more_rights) ~= "boolean" then
        error(("%s: more_rights must be true or false"):format(name), 3)
    end
end

-- This session's partition as one end of a clone.
local function open_end(session, options)
    local engine = choice.engine(session, options.engine)
    local domain = options.domain or choice.domain(session, engine)
    if not domain then
        stopping.stop(stopping.failure("KFR_NO_SECRET", "the partition has no cloning domain of "
                      .. "its own and none was given", "give one: { domain = ... }"))
    end
    return check(session:endpoint(engine, domain))
end

local function seal(session, object, options)
    local there <close> = open_end(session, options)
    local sealed, lost = there:seal(object)
    return check(sealed, lost), lost
end

-- Nobody else of us changes the partition meanwhile.
local function lock(session)
    return session:probe("softhsm") and check(core.softhsm.lock_token(session)) or nil
end

local function open(session, sealed, options)
    local held <close> = lock(session) -- luacheck: ignore held
    local there <close> = open_end(session, options)
    check(there:stage(sealed, options.changes, options.more_rights))
    local planted = check(there:commit())[1]
    check(planted.handle, planted.err)
    return check(session:object(planted.handle)), planted.lost
end

-- A method of a session: what stops it is its nil, err.
local function method(name, work)
    work = guard.whole(work)
    return function(session, what, options)
        options = options or {}
        if type(options) ~= "table" then
            error(("session:%s takes a table of options, not a %s"):format(name, type(options)), 2)
        end
        check_options("session:" .. name, options)
        if not session:is_open() then
            error(("session:%s: the session is closed"):format(name), 2)
        end
        local ok, value, lost = pcall(work, session, what, options)
        if ok then
            return value, lost
        elseif getmetatable(value) == stopping.Stop then
            return nil, value.err
        end
        -- A wrong argument is the caller's, not the line's below that noticed it.
        local mistake = type(value) == "string" and value:match("^[^\n]-:%d+: (bad argument.*)")
        error(mistake or value, mistake and 2 or 0)
    end
end

--- Seals an object: collects, encrypts and authenticates it in one step.
-- @function session:seal
-- @tparam object object of this session's partition
-- @tparam[opt] table options `domain`: the cloning domain, the partition's own without it;
--   `engine`: instead of the one that fits best
-- @treturn[1] sealed
-- @treturn[1] string what could not be put into it ("" when nothing)
-- @treturn[2] nil
-- @treturn[2] err
methods.seal = method("seal", seal)

--- Opens a sealed object in this session's partition: its clone is there and durable.
-- What seal gave may be passed on as it is: `target:open(source:seal(object))`.
-- @function session:open
-- @tparam sealed sealed
-- @tparam[opt] table options `domain`, `engine` as for seal; `changes`: attributes that the
--   clone gets instead; `more_rights`: they may give it more rights than its original
-- @treturn[1] object
-- @treturn[1] string what the clone could not keep ("" when nothing)
-- @treturn[2] nil
-- @treturn[2] err KFR_DOMAIN_MISMATCH, KFR_DAMAGED, KFR_REFUSED, ...
-- @usage
-- local clone, lost = target:open(session:seal(key), { changes = { label = "kek of today" } })
-- print(clone.label, lost == "", keyferry.challenge(key, clone))  --> kek of today	true	true
local open_sealed = method("open", open)

function methods.open(session, sealed, options)
    if sealed == nil and type(options) == "table" and rawget(options, "code") then
        return nil, options
    end
    return open_sealed(session, sealed, type(options) ~= "string" and options or nil)
end

return methods
