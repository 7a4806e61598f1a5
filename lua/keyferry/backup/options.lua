-- SPDX-License-Identifier: MIT
--- What keyferry.backup takes, and whether what it was given can be that; keyferry.send and
-- keyferry.verify look at theirs by the same means. What finds something wrong gives a sentence,
-- which is raised at the caller.
local matching = require "keyferry.matching"

local M = {}

--- All that backup{...} takes; the prompt completes them, too.
M.NAMES = {
    "source", "target", "domain", "mode", "engine", "source_engine", "target_engine", "verify",
    "plan", "select", "on_exists", "on_mismatch", "on_error", "on_result", "on_progress",
    "create", "discard", "changes", "more_rights", "report", "unfinished", "spare",
}

local HOOKS = { "on_exists", "on_mismatch", "on_error", "on_result", "on_progress", "changes",
                "create", "discard" }

local READER = "keyferry.stream.reader" -- as core.stream.open gives one

function M.is_stream(value)
    return type(value) == "userdata" and debug.getmetatable(value).__name == READER
end

function M.is_session(value)
    return type(value) == "userdata" and tostring(value):find("^session") ~= nil
end

--- Names as keys.
function M.set(names)
    local set = {}
    for _, name in ipairs(names) do
        set[name] = true
    end
    return set
end

--- The options of those names alone. A hook may change the table that the policy gave; what was
-- checked is what runs.
function M.copy(options, names)
    local copy = {}
    for _, name in ipairs(names) do
        copy[name] = options[name]
    end
    return copy
end

--- A name that is none of the known.
function M.unknown(what, options, known)
    for name in pairs(options) do
        if not known[name] then
            return ("%s has no option '%s'"):format(what, tostring(name))
        end
    end
    return nil
end

--- A hook that is no function.
function M.no_function(what, options, hooks)
    for _, name in ipairs(hooks) do
        if options[name] ~= nil and type(options[name]) ~= "function" then
            return ("%s: %s must be a function"):format(what, name)
        end
    end
    return nil
end

--- A `select` that selects nothing by any means.
function M.no_selection(what, options)
    if options.select == nil then
        return nil
    end
    local ok, problem = pcall(matching.of, options.select)
    return not ok and what .. ": " .. tostring(problem) or nil
end

--- A session that is closed.
function M.closed(what, options)
    for _, name in ipairs{ "source", "target" } do
        local session = options[name]
        if M.is_session(session) and not session:is_open() then
            return ("%s: the session of the %s is closed"):format(what, name)
        end
    end
    return nil
end

local known = M.set(M.NAMES)

local function no_ends(options)
    local source, target = options.source, options.target
    if not source then
        return "backup needs a source"
    elseif not target and not options.create and not options.plan then
        return "backup needs a target, or a function create that makes one"
    end
    local other = not M.is_session(source) and not M.is_stream(source) and "source"
        or target and not M.is_session(target) and "target"
    return other and ("backup: the %s must be a session, as partition:login() gives one")
        :format(other) or nil
end

local function no_mode(options)
    if options.target and not options.plan and not options.target:is_writable() then
        return "backup: the session of the target is read-only: { writable = true } is wanted"
    elseif options.target and options.mode ~= "add" and options.mode ~= "replace" then
        return "backup needs mode = \"add\" or \"replace\""
    end
    return nil
end

local function no_flag(options)
    if options.more_rights ~= nil and type(options.more_rights) ~= "boolean" then
        return "backup: more_rights must be true or false"
    end
    return nil
end

--- Wrong use of backup{...} raises, before anything is touched.
function M.check(options)
    local problem = M.unknown("backup", options, known)
        or M.no_function("backup", options, HOOKS) or no_flag(options)
        or M.no_selection("backup", options) or no_ends(options)
        or M.closed("backup", options) or no_mode(options)
    if problem then
        error(problem, 3)
    end
end

return M
