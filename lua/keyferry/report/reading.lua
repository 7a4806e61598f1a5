-- SPDX-License-Identifier: MIT
--- Reading a report, which may be anything: bounded, its bytes vouched for before they mean
-- something.
local core = require "keyferry.core"
local form = require "keyferry.report.form"
local hex = require "keyferry.hex"
local record = require "keyferry.record"

local M = { LARGEST = 256 * 1024 * 1024 }

local function refuse(code, what, hint)
    return nil, core.error{ code = code, what = what, hint = hint }
end

local function changed(path, how)
    return refuse("KFR_DAMAGED", ("the report %s %s"):format(path, how),
                  "get it again from where it was kept; it cannot be mended")
end

local function is_string(value) return type(value) == "string" end
local function is_table(value) return type(value) == "table" end
local function is_list(value)
    for key in pairs(is_table(value) and value or { x = 1 }) do
        if math.type(key) ~= "integer" then
            return false
        end
    end
    return true
end
local function is_number(value) return math.type(value) == "integer" end
local function is_check(value)
    return is_string(value) and #value == 32 and not value:find("[^0-9a-f]")
end

-- The members of a report, and which must be there.
local MEMBERS = {
    keyferry = is_string, command = is_string, asked = is_table, user = is_table,
    host = is_string, start = is_string, ["end"] = is_string, source = is_table,
    target = is_table, domain = is_check, objects = is_list, counts = is_table,
    status = is_string, exit = is_number, reason = is_string, code = is_string,
    hint = is_string,
}
local NEEDED = { "keyferry", "user", "host", "start", "end", "objects", "counts", "status" }

local function is_boolean(value) return type(value) == "boolean" end
local function is_digest(value)
    return is_string(value) and #value == 64 and not value:find("[^0-9a-f]")
end

local LINE = {
    status = is_string, class = true, key_type = true, label = is_string, id = is_string,
    handle = is_number, target_handle = is_number, digest = is_digest, reason = is_string,
    code = is_string, hint = is_string, lost = is_string, verified = is_boolean,
    unproved = is_string, differs = is_string, undone = is_boolean, attributes = is_table,
    changes = is_table,
}

-- Raises unless value is a table of such fields. A later writer of this version may add some.
local function check(value, allowed, needed, what)
    for name, inner in pairs(value) do
        local is_good = allowed[name]
        if is_good and is_good ~= true and not is_good(inner) then
            error(("%s: '%s' is something else"):format(what, name), 0)
        end
    end
    for _, name in ipairs(needed) do
        if value[name] == nil then
            error(("%s has no '%s'"):format(what, name), 0)
        end
    end
    return value
end

-- What came from somewhere: any byte may be in it, and any number.
M.ENCODED = { "command", "asked", "user", "host", "source", "target", "handle", "target_handle",
              "reason", "hint", "lost", "unproved", "differs" }

local function decode_members(members, what)
    if not is_table(members) then
        error(what .. " is no object", 0)
    end
    for _, name in ipairs(M.ENCODED) do
        if members[name] ~= nil then
            members[name] = record.decode_value(members[name])
        end
    end
    return members
end

local function object_of(line, number)
    local what = ("object %d"):format(number)
    check(decode_members(line, what), LINE, { "status", "handle" }, what)
    local rec = record.decode(line.attributes or {})
    line.attributes, line.record = nil, rec
    line.class, line.key_type = rec.CKA_CLASS, rec.CKA_KEY_TYPE
    line.certificate_type = rec.CKA_CERTIFICATE_TYPE
    line.label, line.id = rec.CKA_LABEL, rec.CKA_ID
    line.digest = line.digest and hex.bytes(line.digest)
    line.changes = line.changes and record.decode(line.changes)
    return line
end

local function members_of(bytes)
    local members = check(decode_members(form.decode(bytes), "it"), MEMBERS, NEEDED, "it")
    members.version, members.keyferry_report = members.keyferry_report, nil
    members.finish, members["end"] = members["end"], nil
    members.sha256, members.mac = nil, nil
    members.count = #members.objects
    return members
end

-- The parts of what may be a report; nil, err when it is none that this version knows.
local function parts_of(path)
    local kind, err = core.file.exists(path)
    local bytes
    if not kind and not err then
        return nil, core.error{
            code = "KFR_NOT_FOUND", what = ("there is no report %s"):format(path), sys = 2,
            hint = "name the file that -report has written",
        }
    end
    bytes, err = core.file.read(path, M.LARGEST)
    if not bytes then
        return nil, err
    elseif bytes == "" then
        return refuse("KFR_ARGUMENT", path .. " is empty: it is no report of keyferry",
                      "name the file that -report has written")
    end
    local parts = form.split(bytes)
    if not parts.is_report then
        return refuse("KFR_ARGUMENT", path .. " is no report of keyferry",
                      "name the file that -report has written")
    elseif not parts.vouched then
        return changed(path, "has been changed, or is cut off: its end is missing")
    elseif not parts.is_whole or not parts.version then
        return changed(path, "has been changed since it was written")
    elseif parts.version > form.VERSION then
        return refuse("KFR_NEWER_VERSION", ("the report %s is of version %d; this keyferry "
                      .. "reads %d"):format(path, parts.version, form.VERSION),
                      "use a newer keyferry")
    end
    parts.bytes = bytes
    return parts
end

-- The members, as far as they have the form of a report.
local function decode(path, parts)
    local ok, members = pcall(members_of, parts.bytes)
    if not ok then
        return changed(path, "cannot be read: " .. tostring(members))
    end
    members.path = path
    return members
end

function M.head(path)
    local parts, members, err
    parts, err = parts_of(path)
    if parts then
        members, err = decode(path, parts)
    end
    if not members then
        return nil, err
    end
    members.objects, members.authenticated = nil, false
    return members
end

-- Why the domain does not vouch for it.
local function doubt(path, parts, domain)
    local members, err = decode(path, parts)
    if not members then
        return nil, err
    elseif parts.mac and members.domain and members.domain ~= domain:check() then
        return refuse("KFR_DOMAIN_MISMATCH", ("the report %s was made under another cloning "
                      .. "domain (check value %s)"):format(path, members.domain),
                      "give the domain of the backup that it is of")
    elseif parts.mac then
        return changed(path, "has been changed since it was written")
    elseif members.status == "success" or members.status == "partial" then
        return refuse("KFR_REFUSED", ("nobody vouches for the report %s: the HSM that made the "
            .. "backup keeps its cloning domain itself"):format(path), "compare the backup with "
            .. "its source: -partition")
    end
    return refuse("KFR_REFUSED", ("the report %s is of a run that came to nothing, and nobody "
                  .. "vouches for it"):format(path), "take the report of a run that made a backup")
end

local function with_objects(path, members)
    local ok, problem
    for i, line in ipairs(members.objects) do
        ok, problem = pcall(object_of, line, i)
        if not ok then
            return changed(path, "cannot be read: " .. tostring(problem))
        end
    end
    return members
end

function M.read(path, domain)
    local parts, mac, members, err
    parts, err = parts_of(path)
    if not parts then
        return nil, err
    end
    mac, err = domain:authenticate(parts.vouched)
    if not mac then
        return nil, err
    elseif not parts.mac or core.secret(mac) ~= core.secret(parts.mac) then
        return doubt(path, parts, domain)
    end
    members, err = decode(path, parts)
    if not members then
        return nil, err
    end
    members.authenticated = true
    return with_objects(path, members)
end

return M
