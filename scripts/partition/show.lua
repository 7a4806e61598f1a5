-- SPDX-License-Identifier: MIT
-- partition show: one partition in detail. Logs in only with -login, or when its password
-- is given: the domain and the number of objects can be told only then.
local keyferry = require("keyferry")

local option = keyferry.option

local function pin_state(token, role)
    if token[role .. "_pin_locked"] then
        return "locked"
    end
    if role == "user" and not token.user_pin_initialized then
        return "not initialised"
    end
    if token[role .. "_pin_final_try"] then
        return "one try left"
    end
    return token[role .. "_pin_count_low"] and "a wrong PIN was entered" or "ready"
end

local function space(free, total)
    if not free and not total then
        return nil
    end
    return ("%s free of %s bytes"):format(free or "?", total or "?")
end

-- A wrong PIN counts: none is tried unasked.
local function wants_login(options, partition)
    return options.login or options.password and partition:authentication() == "password"
end

-- Its check value; false when there is none.
local function find_domain(session)
    local domain <close>, err = session:find_domain()
    if not domain and err.code == "KFR_NOT_FOUND" then
        return false
    end
    return assert(domain, err):check()
end

-- What only its owner sees: { domain = check value or false, objects = number }; {} when
-- nobody logged in.
local function inside(ctx, partition)
    if not wants_login(ctx.options, partition) then
        ctx:ignore_text(partition)
        return {}
    end
    local session <close> = assert(ctx:login(partition))
    return { domain = find_domain(session), objects = #assert(session:find()) }
end

local function domain_text(domain)
    if domain == nil then
        return "seen by its owner only (-login)"
    end
    return domain or "none"
end

-- The mark names the source in its first line: its serial number and its label.
local function cut_off(mark)
    local serial, label = mark:match("^(%S+) ([^\n]+)")
    local of = serial and ('partition "%s" (serial %s)'):format(label, serial) or mark
    return ("a backup of %s that was cut off"):format(of)
end

local function run(ctx)
    local partition = assert(keyferry.partition(ctx.options.partition))
    local inner, token = inside(ctx, partition), partition.token
    local unfinished = partition:unfinished() -- what it is to be the backup of
    ctx:fields({
        { "Partition", partition.label },
        { "Serial", partition.serial },
        { "HSM", ("%s (serial %s)"):format(partition.hsm.name,
            partition.hsm.serial or "unknown") },
        { "Manufacturer", token.manufacturer },
        { "Model", token.model },
        { "URI", partition.uri },
        { "Authentication", partition:takes_keys() and "PED keys"
            or partition:authentication() == "ped" and "PED" or "password" },
        { "Crypto Officer", pin_state(token, "user") },
        { "Security Officer", pin_state(token, "so") },
        { "PIN length", ("%s to %s bytes"):format(token.min_pin, token.max_pin) },
        { "Private space", space(token.free_private, token.total_private) },
        { "Public space", space(token.free_public, token.total_public) },
        { "Cloning domain", domain_text(inner.domain) },
        { "Objects", inner.objects },
        { "Unfinished", unfinished and cut_off(unfinished) },
    })
    ctx:event({
        event = "partition", label = partition.label, serial = partition.serial,
        uri = partition.uri, hsm = partition.hsm.name, hsm_serial = partition.hsm.serial,
        manufacturer = token.manufacturer, model = token.model,
        authentication = partition:authentication(), keys = partition:takes_keys(),
        protected_path = token.protected_path, crypto_officer = pin_state(token, "user"),
        security_officer = pin_state(token, "so"), min_pin = token.min_pin,
        max_pin = token.max_pin, free_private = token.free_private,
        total_private = token.total_private, free_public = token.free_public,
        total_public = token.total_public, objects = inner.objects,
        unfinished = unfinished and unfinished:match("^[^\n]*"),
        domain = inner.domain == false and ctx.null or inner.domain,
    })
    return 0
end

return {
    name = "partition show",
    summary = "Show one partition: its roles, its space, and to its owner its cloning domain.",
    category = "reads",
    privileges = { "admin", "operator", "monitor" },
    options = {
        option("partition"),
        option("password", { help = "The Crypto Officer's password; logs in." }),
        { name = "login", kind = "flag",
            help = "Log in with KEYFERRY_PASSWORD, or asking for the password or the PED key." },
    },
    examples = { "keyferry partition show -partition sa78par1 -login" },
    run = run,
}
