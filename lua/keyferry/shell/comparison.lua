-- SPDX-License-Identifier: MIT
--- What a command says of the objects of a comparison (keyferry.verify), and of its end.
local record = require("keyferry.record")

local text = require("keyferry.shell.text")

local M = {}

local LONGEST = 64 -- characters of a value in a line

-- Attributes whose values are names of constants.
local CONSTANTS = { CKA_CLASS = true, CKA_KEY_TYPE = true, CKA_CERTIFICATE_TYPE = true,
                    CKA_KEY_GEN_MECHANISM = true, CKA_NAME_HASH_ALGORITHM = true }

-- Differences that are no attributes, in words.
local WORDS = {
    ["key material"] = "it is another key",
    work = "it does not work like its original",
    ["what no token shows"] = "what no token shows of it is another",
}

local function cut(shown)
    return #shown > LONGEST and shown:sub(1, LONGEST - 3) .. "..." or shown
end

local shown

local function shown_table(value)
    local parts = {}
    if value[1] ~= nil then
        return "{" .. table.concat(value, ", ") .. "}"
    end
    for name, inner in pairs(value) do
        parts[#parts + 1] = name .. " " .. shown(name, inner)
    end
    table.sort(parts)
    return parts[1] and "{" .. table.concat(parts, ", ") .. "}" or "empty"
end

-- A value for people: what is no text is hex digits.
function shown(name, value)
    if value == nil then
        return "not there"
    elseif type(value) == "table" then
        return cut(shown_table(value))
    elseif type(value) ~= "string" or CONSTANTS[name] then
        return tostring(value)
    elseif value == "" then
        return "empty"
    elseif name == "CKA_ID" or value:find("[%c\127]") or not utf8.len(value) then
        return cut(text.hex(value))
    end
    return '"' .. (#value > LONGEST and value:sub(1, utf8.offset(value, 0, LONGEST - 3) - 1)
        .. "..." or value) .. '"'
end

local function in_words(difference)
    local name = difference.name
    local original, copy = shown(name, difference.original), shown(name, difference.copy)
    if WORDS[name] then
        return WORDS[name]
    end
    local words = original == copy and name .. " is another"
        or ("%s is %s, on the copy %s"):format(name, original, copy)
    return words .. (difference.more_rights and " (more rights)" or "")
end

local function all_in_words(differences)
    local list = {}
    for i, difference in ipairs(differences) do
        list[i] = in_words(difference)
    end
    return table.concat(list, "; ")
end

local function with(words, value)
    return value and value ~= "" and words .. value or ""
end

local SIDES = { source = "Source", target = "Target" }

local function label_of(object)
    return object and object.label or ""
end

local lines = {
    same = function(result)
        return 'Object "%s" (handle %d) is the same on target (handle %d)%s',
            label_of(result.object), result.handle, result.target_handle,
            with("; not kept: ", result.lost)
    end,
    differs = function(result)
        return 'Object "%s" (handle %d) differs on target (handle %d): %s%s',
            label_of(result.object), result.handle, result.target_handle,
            all_in_words(result.differences), with("; not kept: ", result.lost)
    end,
    missing = function(result)
        return 'Object "%s" (handle %d) is missing on target%s', label_of(result.object),
            result.handle, with("; when it was backed up: ", result.reason)
    end,
    extra = function(result)
        return 'Object "%s" (handle %d) on target has no original', label_of(result.copy),
            result.target_handle
    end,
}

function lines.failed(result)
    local err = tostring(result.err)
    if not result.object and not result.copy then
        return "%s: %s", SIDES[result.where], err
    elseif not result.object then
        return 'Object "%s" (handle %d) on target cannot be compared: %s',
            label_of(result.copy), result.target_handle, err
    end
    return 'Object "%s" (handle %d) cannot be compared: %s', label_of(result.object),
        result.handle, err
end

local function encoded(value)
    return value ~= nil and record.encode_value(value) or value
end

local function difference_fields(differences)
    local list = {}
    for i, one in ipairs(differences or {}) do
        list[i] = { name = one.name, original = encoded(one.original), copy = encoded(one.copy),
                    more_rights = one.more_rights }
    end
    return list[1] and list or nil
end

local function object_fields(fields, object, partition)
    fields.label, fields.class, fields.key_type = object.label, object.class, object.key_type
    fields.id = object.id and text.hex(object.id)
    fields.uri = partition and partition:object_uri(object)
end

local function event(result, partitions)
    local err = result.err
    local fields = {
        event = "object", status = result.status, handle = result.handle,
        target_handle = result.target_handle, reason = err and tostring(err) or result.reason,
        code = err and err.code, differences = difference_fields(result.differences),
        lost = result.lost ~= "" and result.lost or nil, verified = result.verified,
        unproved = result.unproved,
    }
    if result.object then
        object_fields(fields, result.object, partitions.source)
    elseif result.copy then
        object_fields(fields, result.copy, partitions.target)
    else
        fields.event, fields.side, fields.hint = "fault", result.where, err.hint
    end
    return fields
end

-- What is wrong with a side as a whole, until the end: its results, by context.
local faults = setmetatable({}, { __mode = "k" })

local function keep_fault(ctx, result)
    if not result.object and not result.copy then
        faults[ctx] = faults[ctx] or {}
        table.insert(faults[ctx], result)
    end
end

--- The line of one object and its JSON event.
-- @param ctx the context
-- @tparam comparison result as on_result of keyferry.verify gets it
-- @tparam table partitions `target`, and `source` where there is one
function M.tell(ctx, result, partitions)
    keep_fault(ctx, result)
    ctx:print(lines[result.status](result))
    if ctx.json then
        ctx:event(event(result, partitions))
    end
end

local WRONG = {
    { "differing", "different" }, { "missing", "missing" }, { "extra", "without original" },
    { "failed", "that cannot be compared" },
}

-- What has no original may be what the source has lost: no word of -replace before that.
local REMEDY = "see which side is right: 'partition restore' brings back what the source has lost; "
    .. "a backup with -add clones what the target lacks, with -replace makes it like the source"

local function counted(outcome, told)
    local parts = {}
    for _, wrong in ipairs(WRONG) do
        local n = outcome[wrong[1]] - (wrong[1] == "failed" and #told or 0)
        if n > 0 then
            parts[#parts + 1] = ("%d %s"):format(n, wrong[2])
        end
    end
    return table.concat(parts, ", ")
end

-- Why the two are not the same, and what to do about it. The faults of a side stand there in
-- words: under --quiet their lines are not printed.
local function reason_of(outcome, told)
    local parts, hint = { counted(outcome, told) }, nil
    if parts[1] == "" then
        parts[1] = nil
    end
    for _, fault in ipairs(told) do
        parts[#parts + 1] = fault.where .. ": " .. (fault.err.what or tostring(fault.err))
        hint = hint or fault.err.hint
    end
    return "the target is not the same: " .. table.concat(parts, "; "), hint or REMEDY
end

local function warn(ctx, outcome)
    if outcome.unproved > 0 then
        ctx:warn("%d objects could not be challenged or their keys be compared, since their flags "
            .. "allow nothing that could tell", outcome.unproved)
    end
end

--- The end of a command that compared.
-- @param ctx the context
-- @tparam outcome outcome as keyferry.verify returns it
-- @treturn integer the exit status
function M.conclude(ctx, outcome)
    local status, reason, hint = nil, outcome.reason, nil
    local told = faults[ctx] or {}
    faults[ctx] = nil
    warn(ctx, outcome)
    if outcome.status == "partial" then
        status = 1
        reason, hint = reason_of(outcome, told)
    end
    return ctx:finish({
        status = status, reason = reason, hint = hint,
        counts = {
            same = outcome.same, differing = outcome.differing, missing = outcome.missing,
            extra = outcome.extra, uncompared = outcome.failed - #told, unproved = outcome.unproved,
            challenged = outcome.challenged,
        },
    })
end

return M
