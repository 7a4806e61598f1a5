-- SPDX-License-Identifier: MIT
--- What of keyferry works with an HSM, found out by looking and by trying. Methods of an HSM.
-- @classmod keyferry.hsm

local core = require "keyferry.core"
local trial = require "keyferry.hsm.trial"

local M = {}

-- What keyferry calls, and what it calls it for.
local functions = {
    { "reading", "C_GetSlotList", "C_GetSlotInfo", "C_GetTokenInfo", "C_OpenSession",
      "C_CloseSession", "C_Login", "C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal",
      "C_GetAttributeValue" },
    { "making objects", "C_CreateObject", "C_DestroyObject", "C_CopyObject",
      "C_SetAttributeValue" },
    { "cloning keys", "C_GetMechanismList", "C_GetMechanismInfo", "C_WrapKey", "C_UnwrapKey" },
    { "making partitions", "C_InitToken", "C_InitPIN", "C_Logout" },
    { "-verify", "C_SignInit", "C_Sign", "C_VerifyInit", "C_Verify", "C_EncryptInit", "C_Encrypt",
      "C_DecryptInit", "C_Decrypt", "C_GenerateRandom" },
}

local function add(list, what, verdict, why)
    list[#list + 1] = { what = what, verdict = verdict, why = why or "" }
end

local function look_at_functions(module, list)
    for _, group in ipairs(functions) do
        local missing = {}
        for i = 2, #group do
            if not module:has(group[i]) then
                missing[#missing + 1] = group[i]
            end
        end
        add(list, "functions for " .. group[1],
            #missing == 0 and "yes" or #missing < #group - 1 and "partly" or "no",
            #missing == 0 and "the module has all" or "missing: " .. table.concat(missing, ", "))
    end
end

-- How often the most frequent value of a field is there.
local function most(tokens, field)
    local times, highest, value = {}, 0, nil
    for _, token in ipairs(tokens) do
        times[token[field]] = (times[token[field]] or 0) + 1
        if times[token[field]] > highest then
            highest, value = times[token[field]], token[field]
        end
    end
    return highest, value
end

local function quirks_of(module)
    local quirks = {}
    for _, quirk in ipairs(module:quirks()) do
        quirks[quirk.name] = quirk.reason
    end
    return quirks
end

local function look_at_names(tokens, quirks, list)
    local times, serial = most(tokens, "serial")
    if quirks.serial_shared or times > 1 or serial and serial:find("^0*$") then
        add(list, "serial numbers", "no", (quirks.serial_shared or times > 1
            and ("%d tokens have %s"):format(times, serial) or "the token has none")
            .. ": partitions are told apart by their slots")
    else
        add(list, "serial numbers", "yes", "every token has its own")
    end
    local same, label = most(tokens, "label")
    add(list, "labels", same > 1 and "no" or "yes", same > 1
        and ('%d partitions are named "%s": name them by URI'):format(same, label)
        or "every partition has its own")
end

local function look_at_slots(hsm, quirks, list)
    local slots, err = hsm:slots()
    if not slots then
        add(list, "slots", "no", tostring(err))
        return nil, err
    end
    local present, tokens = 0, {}
    for _, token in ipairs(slots) do
        present = present + (token.present and 1 or 0)
        tokens[#tokens + 1] = token.present and token.initialized and token or nil
    end
    add(list, "slots", present > 0 and "yes" or "no", #slots == 0 and (hsm.slots_wanted
        and "the configuration's `slots` match none that the module has" or "the module has none")
        or ("slots: %d, with a token: %d, partitions: %d"):format(#slots, present, #tokens))
    look_at_names(tokens, quirks, list)
    return true
end

local function look_at_making(hsm, quirks, list)
    local ok, err = hsm:can_create()
    local slot
    if ok then
        slot, err = hsm:spare_slot()
    end
    local why = slot and ("slot %d is free"):format(slot.slot) or tostring(err)
    if slot and quirks.label_fixed then
        why = why .. ('; its label is fixed: "%s"'):format(slot.label)
    end
    add(list, "making partitions", not slot and "no" or quirks.label_fixed and "partly" or "yes",
        why)
    add(list, "removing partitions", hsm.conf and "yes" or "no", hsm.conf
        and "a partition of SoftHSM is a folder" or "PKCS#11 has no call for it: the vendor's tool")
end

local function pin_text(token)
    if token.max_pin <= 0 then
        return token.min_pin <= 0 and "the token names no limits"
            or ("%d bytes at least"):format(token.min_pin)
    end
    return ("%d to %d bytes"):format(token.min_pin, token.max_pin)
end

local function look_at_token(partition, list)
    local token = partition.token
    local locked = token.user_pin_locked
    add(list, "login", locked and "no" or token.user_pin_initialized and "yes" or "unknown",
        locked and "the user PIN is locked" or not token.user_pin_initialized
        and "the Crypto Officer has no PIN yet" or partition:authentication() == "ped"
        and (token.protected_path and "at the PED" or "by PED keys") or "by a password")
    add(list, "PIN limits", token.max_pin > 0 and "yes" or "unknown", pin_text(token))
    local says = token.free_private or token.free_public
    add(list, "memory figures", says and "yes" or "unknown", says
        and ("%s bytes free for private objects, %s for public ones")
        :format(token.free_private or "?", token.free_public or "?")
        or "the token does not say how much room it has: a backup finds out at the object that "
        .. "does not fit")
end

-- The engines that can work the partition, best first.
local function look_at_engines(session, list)
    local found = {}
    for _, name in ipairs(core.engines()) do
        if name ~= "luna" then
            local ok, err = session:probe(name)
            found[#found + 1] = ok and name or nil
            add(list, "engine " .. name, ok and "yes" or "no", ok
                and (found[1] == name and "the one that fits best" or "also possible")
                or err.what)
        end
    end
    local exported = core.domain_in_hardware(session:module())
    add(list, "engine luna", exported and "yes" or "no", exported
        and "the module exports CA_CloneObject: partitions of this HSM are cloned by itself"
        or "the module does not export CA_CloneObject")
    return found
end

local function look_at_overwriting(engine, quirks, list)
    local reason = quirks.same_id_overwrites
    add(list, "keys of one CKA_ID", reason and "partly" or engine == "softhsm" and "yes"
        or "unknown", reason and reason .. ": such a backup is refused as a conflict"
        or engine == "softhsm" and "the engine writes new files, and overwrites none"
        or "whether a new key overwrites another of its class and CKA_ID is found out at the "
        .. "first backup: only a token object shows it")
end

local function partition_of(hsm, options)
    if options.partition then
        return options.partition
    end
    local list = hsm:partitions() or {}
    return #list == 1 and list[1] or nil
end

local function worst(list, names)
    local bad = {}
    for _, finding in ipairs(list) do
        if names[finding.what] and finding.verdict ~= "yes" then
            bad[#bad + 1] = finding.what
        end
    end
    return bad
end

-- What a user needs to know before buying, and whether a backup would work both ways. Of what
-- was tried, nothing more.
local function conclude(list, tried)
    local missing = worst(list, { ["functions for reading"] = true, slots = true })
    if #missing > 0 then
        return "no", "This HSM cannot be backed up by keyferry: see " .. table.concat(missing, ", ")
    elseif not tried then
        return "unknown", "What can be cloned was not tried: give -login, and -partition when "
            .. "there are several"
    end
    return trial.conclude(tried)
end

--- What of keyferry works with this HSM and what does not, and why. Without a session by looking
-- alone; in one with the Crypto Officer logged in (read-only is enough) by trying, on session
-- objects that are destroyed again. Nothing is written.
-- @tparam[opt] table options
--
--   * `partition`: the one to look at; the only one there is, when left out
--   * `session`: with it; a session that is logged in
-- @treturn[1] table array of { what =, verdict = "yes" | "no" | "partly" | "unknown", why = },
--   the last of which is the conclusion: what = "backup"
-- @treturn[2] nil
-- @treturn[2] err the module cannot be loaded
-- @usage
-- for _, finding in ipairs(assert(hsm:check())) do
--     if finding.what == "labels" then
--         print(finding.verdict, finding.why)  --> yes	every partition has its own
--     end
-- end
function M:check(options)
    options = options or {}
    local module, err = self:module()
    if not module then
        return nil, err
    end
    local list, quirks, tried = {}, quirks_of(module), nil
    look_at_functions(module, list)
    local has_slots = look_at_slots(self, quirks, list)
    if has_slots then
        look_at_making(self, quirks, list)
    end
    local partition = has_slots and partition_of(self, options)
    if partition then
        look_at_token(partition, list)
        local opened = not options.session and partition:open() or nil
        local session = options.session or opened
        if session then
            local engines = look_at_engines(session, list)
            look_at_overwriting(engines[1], quirks, list)
            if options.session then
                tried = trial.run(session, engines, list)
            end
        end
        if opened then
            opened:close()
        end
    end
    add(list, "backup", conclude(list, tried))
    return list
end

return M
