-- SPDX-License-Identifier: MIT
--- Whether the target has an object already. Methods of a run.
local guard = require "keyferry.guard"
local results = require "keyferry.backup.results"
local stopping = require "keyferry.backup.stop"

local check = stopping.check
local failure = stopping.failure
local result_of = results.result_of
local identity = results.identity

local M = {}

local TRIAL = "keyferry trial"

-- A run of the engine wrap that was killed at the wrong moment left the keys it had made to
-- see what the module does (c/clone/wrap_plant.c): their label begins their id, too.
function M:remove_trials()
    for _, object in ipairs(check(self.target_end:find{
        token = true, class = "secret_key", label = TRIAL,
    })) do
        if not object.trouble and (object.id or ""):sub(1, #TRIAL) == TRIAL then
            check(object:destroy())
        end
    end
end

-- What the target holds, by identity without key material.
function M:index_target()
    local index = {}
    if not self.options.plan then
        self:remove_trials()
    end
    self.existing = check(self.target_end:find{ token = true })
    for _, object in ipairs(self.existing) do
        self.unread = self.unread or object.trouble
        local key = identity(object)
        index[key] = index[key] or {}
        table.insert(index[key], object)
    end
    self.index = index
    self:index_origins()
end

-- The HSM's own names for what the target holds, where it clones by itself.
function M:index_origins()
    self.by_origin = self.pair and {} or nil
    for _, object in ipairs(self.pair and self.existing or {}) do
        local origin = not object.trouble and self.target_end:origin(object)
        if origin then
            self.by_origin[origin] = object
        end
    end
end

-- The clone of an object by the HSM's own name for both, taken out of the index.
function M:find_by_origin(object)
    local origin = self.by_origin and self.source_end:origin(object)
    local found = origin and self.by_origin[origin]
    if not found or found.class ~= object.class or found.key_type ~= object.key_type then
        return nil
    end
    local a, b = self.source_end:digest(object), self.target_end:digest(found)
    if a and b and a ~= b then
        return nil
    end
    self.by_origin[origin] = nil
    local same = self.index[identity(found)]
    for i, candidate in ipairs(same) do
        if candidate == found then
            table.remove(same, i)
            break
        end
    end
    return found
end

-- Same key material: by keyed digest, else by using both. nil, err: cannot be told.
function M:is_same(object, candidate)
    local a, b = self.source_end:digest(object), self.target_end:digest(candidate)
    if a and b then
        return a == b
    end
    return self:use_both(object, candidate)
end

-- The object of the target that this one is, taken out of the index: each stands for one.
function M:find_existing(object)
    local clone = self:find_by_origin(object)
    if clone then
        return clone
    end
    local candidates = self.index and self.index[identity(object)] or {}
    local doubt
    for i, candidate in ipairs(candidates) do
        local same, err = self:is_same(object, candidate)
        if same then
            return table.remove(candidates, i)
        elseif same == nil then
            doubt = err
        end
    end
    if self.unread then
        return nil, failure("KFR_CONFLICT", "it may be there already: an object of the target "
            .. "cannot be read: " .. tostring(self.unread),
            "look at the target with 'keyferry partition contents'")
    elseif doubt then
        return nil, failure("KFR_CONFLICT",
            "the target has an object of the same label and id, and the keys cannot be "
            .. "compared: " .. doubt.what,
            "remove the one on the target, or use -replace")
    end
    return nil
end

local rights = { "private", "sensitive", "extractable", "wrap_with_trusted", "trusted",
                 "always_authenticate", "modifiable", "encrypt", "decrypt", "sign",
                 "sign_recover", "verify", "verify_recover", "wrap", "unwrap", "derive" }

-- The flags in which a key on the target is another than its original: "CKA_EXTRACTABLE,
-- CKA_SIGN", or nil.
local function differences(object, existing)
    local names = {}
    if object.class == "data" or object.class == "certificate" then
        return nil
    end
    for _, right in ipairs(rights) do
        if object:has(right) ~= existing:has(right) then
            names[#names + 1] = "CKA_" .. right:upper()
        end
    end
    return names[1] and table.concat(names, ", ")
end

-- With `verify` what is there already has to work like its original, too. true and whether it
-- was seen to; nil, err.
function M:prove_existing(object, there)
    if not self.options.verify then
        return true, nil
    end
    local same, err = self:use_both(object, there)
    if same then
        return true, true
    elseif same == nil and err.code == "KFR_NOT_FOUND" then
        self.report.unproved = self.report.unproved + 1
        return true, false
    end
    return nil, err or failure("KFR_DIFFERS", "it is on the target already, but what is there "
                               .. "does not work like its original",
                               "remove the one on the target, or use -replace")
end

-- Objects of which the HSM said that it has them, when it was to clone them.
function M:compare_found()
    for _, result in ipairs(self.queue) do
        local there = result.found and self.target:object(result.target_handle)
        result.differs = there and differences(result.object, there) or result.differs
    end
end

-- Such an object has to work like its original, too; it is not ours to remove.
function M:prove_found(result)
    local there, err = self.target:object(result.target_handle)
    local good, verified = nil, err
    if there then
        good, verified = self:prove_existing(result.object, there)
    end
    if good then
        result.verified = verified
    else
        result.status, result.err, result.target_handle = "failed", verified, nil
    end
    return good
end

-- True when the object is there already and the policy leaves it so.
function M:settle_existing(object)
    local existing, err = self:find_existing(object)
    if err then
        self:fail_object(object, err)
        return true
    elseif not existing then
        return false
    end
    local answer = self.options.on_exists
        and guard.hook(self.options.on_exists, object, existing)
    if answer == "clone" then
        return false
    end
    local good, verified = self:prove_existing(object, existing)
    if not good then
        self:fail_object(object, verified)
        return true
    end
    self:queue_result(result_of(object, "exists", {
        target_handle = existing.handle, differs = differences(object, existing),
        verified = verified,
    }))
    return true
end

return M
