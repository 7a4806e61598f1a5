-- SPDX-License-Identifier: MIT
--- HSMs, partitions and sessions as a person reads them.
local piece = require("keyferry.shell.show.piece")

local clean, line_of, string_or_nil = piece.clean, piece.line_of, piece.string_or_nil
local text_field, yes, sheet = piece.text_field, piece.yes, piece.sheet

local function where_of(hsm)
    return text_field(hsm, "path") or text_field(hsm, "module_path")
end

local function show_hsm(hsm, how)
    local soft = rawget(hsm, "kind") == "soft"
    return sheet(how, ('HSM "%s"'):format(text_field(hsm, "name") or "?"), {
        { "Serial", text_field(hsm, "serial") or "none of its own" },
        { "Kind", soft and "soft HSM" or "PKCS#11 module" },
        { "Where", text_field(hsm, "path") },
        { "Module", text_field(hsm, "module_path") },
        { "Engine", text_field(hsm, "engine") },
        { "Authentication", text_field(hsm, "authentication") },
        { "Loaded", yes(rawget(hsm, "loaded")) },
    })
end

local function space(token)
    local parts = {}
    for _, name in ipairs({ "private", "public" }) do
        local free, total = rawget(token, "free_" .. name), rawget(token, "total_" .. name)
        if math.type(free) == "integer" then
            parts[#parts + 1] = ("%d bytes%s %s"):format(free,
                math.type(total) == "integer" and (" of %d"):format(total) or "", name)
        end
    end
    return parts[1] and table.concat(parts, ", ") or nil
end

local CONDITIONS = {
    { "write_protected", "write-protected" }, { "protected_path", "PINs by a trusted path" },
    { "user_pin_locked", "user PIN locked" }, { "so_pin_locked", "SO PIN locked" },
    { "user_pin_final_try", "last try for the user PIN" },
    { "so_pin_final_try", "last try for the SO PIN" },
}

local function conditions(token)
    local parts = {}
    for _, condition in ipairs(CONDITIONS) do
        if rawget(token, condition[1]) then
            parts[#parts + 1] = condition[2]
        end
    end
    return parts[1] and table.concat(parts, ", ") or nil
end

local function initialised(token)
    if not rawget(token, "initialized") then
        return "no"
    end
    return rawget(token, "user_pin_initialized") and "yes" or "yes, but it has no user PIN"
end

local function hsm_name(partition)
    local hsm = rawget(partition, "hsm")
    return text_field(hsm, "name")
end

local function show_partition(partition, how)
    local token = rawget(partition, "token")
    token = type(token) == "table" and token or {}
    return sheet(how, ('partition "%s"'):format(text_field(partition, "label") or "?"), {
        { "Serial", text_field(partition, "serial") },
        { "HSM", hsm_name(partition) },
        { "Initialised", initialised(token) },
        { "State", conditions(token) },
        { "Free space", space(token) },
        { "URI", string_or_nil(rawget(partition, "uri")) },
    })
end

local USERS = { user = "Crypto Officer (user)", so = "security officer (SO)" }

local function show_session(session, how)
    if not session:is_open() then
        return "session (closed)"
    end
    local token = session:token()
    local user, err = session:user()
    return sheet(how, ('session with partition "%s"'):format(clean(token.label)), {
        { "Serial", clean(token.serial) },
        { "Logged in", err and line_of(err) or user and USERS[user] or "nobody" },
        { "Access", session:is_writable() and "read/write" or "read-only" },
    })
end

return {
    where_of = where_of, show_hsm = show_hsm, space = space, hsm_name = hsm_name,
    show_partition = show_partition, show_session = show_session,
}
