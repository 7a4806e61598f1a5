-- SPDX-License-Identifier: MIT
--- Which object of the target stands for which of the source: each for one. Methods of a run.
local core = require "keyferry.core"
local stopping = require "keyferry.backup.stop"

local M = {}

local function join(source, target, how)
    source.partner, target.partner, source.proof = target, source, how
end

-- The items without a partner by a key; those of which a key cannot be told are passed over.
local function group(items, key, groups, side)
    for _, item in ipairs(items) do
        local value = not item.partner and not item.trouble and key(item)
        if value then
            local both = groups[value] or { sources = {}, targets = {} }
            groups[value] = both
            table.insert(both[side], item)
        end
    end
    return groups
end

local function each_group(sources, targets, key, work)
    local groups = group(targets, key, {}, "targets")
    for _, both in pairs(group(sources, key, groups, "sources")) do
        if both.sources[1] and both.targets[1] then
            work(both)
        end
    end
end

-- One after another, as they come.
local function join_in_order(both, how)
    local t = 1
    for _, source in ipairs(both.sources) do
        while both.targets[t] and both.targets[t].partner do
            t = t + 1
        end
        if not source.partner and both.targets[t] then
            join(source, both.targets[t], how)
        end
    end
end

local function text_of(value)
    if type(value) ~= "table" then
        return ("%s %q"):format(type(value), value)
    end
    local parts = {}
    for key, inner in pairs(value) do
        parts[#parts + 1] = ("%s=%s"):format(key, text_of(inner))
    end
    table.sort(parts)
    return "{" .. table.concat(parts, ",") .. "}"
end

-- The like of it: every attribute.
local function likeness(item)
    local known = item:record(false)
    return known and text_of(known)
end

-- Of several with the same key under the same name those that are alike belong together.
local function join_likes(both)
    if both.sources[2] or both.targets[2] then
        each_group(both.sources, both.targets, likeness, function(same)
            join_in_order(same, "digest")
        end)
    end
    join_in_order(both, "digest")
end

-- Whether two objects are one key, where a digest does not say so. nil: cannot be told.
local function use_both(source, target)
    if not source:is_live() then
        return nil
    end
    local same, err = core.challenge(source.object, target.object)
    if same == nil and err.code ~= "KFR_NOT_FOUND" then
        target.doubt = target.doubt or err
    end
    return same
end

local function without_digest(items)
    local list = {}
    for _, item in ipairs(items) do
        if not item:digest() then
            list[#list + 1] = item
        end
    end
    return list
end

-- The first of the targets that is seen to be the source, else the first of which that cannot
-- be told. Two digests that are not the same have said so already.
local function find_by_use(source, targets)
    local open
    for _, target in ipairs(targets) do
        stopping.check_interrupt()
        local same = not target.partner and use_both(source, target)
        if same then
            join(source, target, "use")
            return nil
        elseif same == nil then
            open = open or target
        end
    end
    return open
end

-- First those that are seen to be one key, then those of which nothing is known, then those
-- that are another key under the name.
local function join_by_use(both)
    local open, unknown = {}, without_digest(both.targets)
    for _, source in ipairs(both.sources) do
        open[source] = find_by_use(source, source:digest() and unknown or both.targets)
    end
    for _, source in ipairs(both.sources) do
        if open[source] and not open[source].partner then
            join(source, open[source], "none")
        end
    end
    join_in_order(both, "name")
end

--- Gives the items of both sides their partners.
function M:join_all()
    local sources, targets = self.sources, self.targets
    each_group(sources, targets, function(item) return item:whole() end, function(both)
        join_in_order(both, "whole")
    end)
    each_group(sources, targets, function(item) return item:origin() end, function(both)
        join_in_order(both, "origin")
    end)
    each_group(sources, targets, function(item)
        local digest = item:digest()
        return digest and digest .. item:identity()
    end, join_likes)
    each_group(sources, targets, function(item) return item:digest() end, function(both)
        join_in_order(both, "digest")
    end)
    each_group(sources, targets, function(item) return item:identity() end, join_by_use)
end

--- Asks each item for what it is told by: the slow part, with the progress.
function M:look_at(items)
    for _, item in ipairs(items) do
        stopping.check_interrupt()
        if not item.trouble and not item:whole() then
            item:digest()
        end
        self:advance()
    end
end

return M
