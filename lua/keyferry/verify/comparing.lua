-- SPDX-License-Identifier: MIT
--- What two objects that belong together differ in. Methods of a run.
local core = require "keyferry.core"
local record = require "keyferry.record"

local M = {}

local KEYS = { private_key = true, secret_key = true }

-- What a token says of a key by itself, and says less of one that came in by C_UnwrapKey: no
-- template may have them (PKCS#11 v2.40, 4.7 to 4.10).
local COMPUTED = {
    CKA_LOCAL = true, CKA_ALWAYS_SENSITIVE = true, CKA_NEVER_EXTRACTABLE = true,
    CKA_KEY_GEN_MECHANISM = true, CKA_VALUE_LEN = true, CKA_VALUE_BITS = true,
    CKA_CHECK_VALUE = true, CKA_MODULUS_BITS = true,
}

-- Of these it is the digest that tells whether the keys are the same: one token says them and
-- another does not.
local TOLD_BY_KEY = {
    CKA_VALUE_LEN = true, CKA_VALUE_BITS = true, CKA_CHECK_VALUE = true, CKA_MODULUS_BITS = true,
}

-- Takes out of the differences what the token of the copy says of the same key by itself.
local function take_told(found)
    for i = #found, 1, -1 do
        local one = found[i]
        if TOLD_BY_KEY[one.name] and record.is_blank(one.name, one.original) then
            table.remove(found, i)
        end
    end
end

-- Takes out of the differences what the engine wrap cannot keep; gives their names.
local function take_lost(found)
    local lost = {}
    for i = #found, 1, -1 do
        local one = found[i]
        if COMPUTED[one.name] and record.is_blank(one.name, one.copy) then
            table.insert(lost, 1, one.name)
            table.remove(found, i)
        end
    end
    return lost
end

local function set_of(names)
    local set = {}
    for _, name in ipairs(names) do
        set[name] = true
    end
    return set
end

-- What could be read of one side only: a value that the copy has not is lost or differs; of
-- one that neither token would give nothing is known.
local function compare_unread(original, copy, found, lost, wrapped)
    local theirs = set_of(copy.unread)
    local ours = set_of(original.unread)
    for name in pairs(ours) do
        if not theirs[name] and wrapped and record.is_blank(name, copy[name]) then
            lost[#lost + 1] = name
        elseif not theirs[name] then
            found[#found + 1] = { name = name, copy = copy[name], more_rights = false }
        end
    end
    for name in pairs(theirs) do
        if not ours[name] then
            found[#found + 1] = { name = name, original = original[name], more_rights = false }
        end
    end
end

-- The differences and what was lost; nil, nil, err.
local function compare_records(source, target, wrapped)
    local exact = source:has_store_record() and target:has_store_record()
    local original, err = source:record(exact)
    local copy
    if original then
        copy, err = target:record(exact)
    end
    if not copy then
        return nil, nil, err
    end
    local found = record.differences(original, copy)
    local lost = wrapped and take_lost(found) or {}
    if not exact then
        take_told(found)
    end
    if source:is_live() and not exact then
        compare_unread(original, copy, found, lost, wrapped)
    end
    return found, lost
end

local function has_name(found, ...)
    for _, one in ipairs(found) do
        for _, name in ipairs{ ... } do
            if one.name == name then
                return true
            end
        end
    end
    return false
end

-- How it is said that the keys, or the values, are not the same. A digest of data is of its
-- application and object id, too; those of public parts are attributes by themselves.
local function name_of_material(class, found)
    if KEYS[class] then
        return "key material"
    elseif class == "data" then
        return not has_name(found, "CKA_APPLICATION", "CKA_OBJECT_ID") and "CKA_VALUE" or nil
    end
    return #found == 0 and "key material" or nil
end

local function compare_material(source, target, found)
    local ours, theirs = source:digest(), target:digest()
    local same = source.proof == "use" or ours and ours == theirs
    local all, all_theirs = source:whole(), target:whole()
    local class = source.object.class
    if not same and (source.proof == "name" or ours and theirs) then
        return name_of_material(class, found)
    elseif #found == 0 and all and all_theirs and all:sub(33) ~= all_theirs:sub(33) then
        return KEYS[class] and "key material" or "what no token shows"
    end
    return nil
end

-- Uses both keys; without its original the copy is used by itself.
local function prove(source, target)
    if not KEYS[target.object.class] then
        return nil
    end
    local works, err = core.challenge(source:is_live() and source.object or target.object,
                                      target.object)
    if works then
        return true
    elseif works == false then
        return false, "work"
    elseif err.code == "KFR_NOT_FOUND" then
        return false, nil, err.what
    end
    return false, nil, nil, err
end

local function use(result, source, target)
    local verified, name, unproved, err = prove(source, target)
    result.verified, result.err = verified, result.err or err
    if not verified then
        result.unproved = unproved or result.unproved
    elseif source:is_live() then -- a copy that works by itself may be another key
        result.unproved = nil
    end
    if name and not has_name(result.differences, "key material") then
        table.insert(result.differences, { name = name, more_rights = false })
    end
end

local NOTHING = "neither digest nor use could tell whether it is the same key"

--- What became of two that belong together.
-- @treturn result
function M:compare(source, target)
    local result = {
        object = source.object, copy = target.object, handle = source.handle,
        target_handle = target.handle, differences = {}, lost = "",
    }
    if source.proof ~= "whole" then
        local found, lost, err = compare_records(source, target, self.target_engine ~= "softhsm")
        local name = found and compare_material(source, target, found)
        if name then
            found[#found + 1] = { name = name, more_rights = false }
        end
        result.differences, result.err = found or {}, err
        result.lost = table.concat(lost or {}, ", ")
        local doubt = source.doubt or target.doubt
        if source.proof == "none" then
            result.unproved, result.err = not doubt and NOTHING or nil, result.err or doubt
        end
        result.verified = source.proof == "use" or nil
    end
    if self.options.challenge then
        use(result, source, target)
    end
    result.status = result.err and "failed" or result.differences[1] and "differs" or "same"
    return result
end

return M
