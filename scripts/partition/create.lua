-- SPDX-License-Identifier: MIT
-- partition create: a new partition with its cloning domain.
local keyferry = require("keyferry")

local option = keyferry.option

-- A second partition of that name could be told from the first only by its URI.
local function refuse_existing(ctx, hsm, existing)
    return ctx:finish({
        code = "KFR_EXISTS",
        reason = ("HSM \"%s\" has a partition \"%s\" already (%s)"):format(hsm.name,
            existing.label, existing.uri),
        hint = "take another name, or remove that one with 'keyferry partition delete'",
    })
end

-- The secrets of the new partition, in the order of the questions.
local function ask(ctx, hsm)
    if hsm.authentication and hsm.authentication ~= "password" then
        ctx:note("This HSM takes no text: passwords and domain are ignored. Please attend to"
            .. " the PED.")
        return {}
    end
    local secrets = {}
    secrets.password = assert(ctx:secret("password", { new = true }))
    secrets.so_password = assert(ctx:secret("tokensopwd", { new = true }))
    if not ctx.options.defaultdomain then
        secrets.domain = assert(ctx:secret("domain", { new = true }))
    end
    return secrets
end

-- The domain; nil where the PED sets it.
local function make_domain(ctx, secrets)
    if not secrets.password then
        return nil
    end
    if ctx.options.defaultdomain then
        ctx:warn("the default domain is known to everybody who has keyferry")
        return assert(keyferry.default_domain())
    end
    return assert(keyferry.domain(secrets.domain))
end

local function report(ctx, hsm, partition, domain)
    local check = domain and domain:check()
    ctx:print("Partition \"%s\" (serial %s) created on HSM \"%s\"", partition.label,
        partition.serial, hsm.name)
    if check then
        ctx:print("Cloning domain: %s", check)
    end
    ctx:event({
        event = "partition", status = "created", label = partition.label,
        serial = partition.serial, uri = partition.uri, hsm = hsm.name,
        hsm_serial = hsm.serial, domain = check,
    })
    return 0
end

local function run(ctx)
    local options = ctx.options
    local hsm = assert(keyferry.backup_hsm(options.serial))
    local existing = assert(hsm:find_partitions(options.partition))
    if existing[1] then
        return refuse_existing(ctx, hsm, existing[1])
    end
    assert(hsm:can_create())
    if options.partition:find("^%d") then
        ctx:warn("the label begins with a digit: some commands take it for a slot number")
    end
    local secrets = ask(ctx, hsm)
    local domain = make_domain(ctx, secrets)
    return report(ctx, hsm, assert(hsm:create_partition{
        label = options.partition, password = secrets.password,
        so_password = secrets.so_password, domain = domain,
    }), domain)
end

return {
    name = "partition create",
    summary = "Make a partition with its cloning domain.",
    category = "writes",
    privileges = { "admin" },
    options = {
        option("partition", { uri = false, complete = false,
            help = "The label of the new partition, at most 32 bytes." }),
        option("serial", { help = "The serial number of the HSM to make it on." }),
        option("password", { min = 4,
            prompt = "Please enter a password for the user of the new partition:",
            again = "Please re-enter the password for the user of the new partition:",
            help = "A password for its Crypto Officer; KEYFERRY_PASSWORD, or asked for, "
                .. "without it." }),
        option("tokensopwd", { min = 4,
            prompt = "Please enter a password for the Security Officer of the new partition:",
            again = "Please re-enter the password for the Security Officer of the new partition:",
            help = "A password for its Security Officer; KEYFERRY_TOKENSOPWD, or asked for, "
                .. "without it." }),
        option("domain", { prompt = "Please enter the cloning domain for the new partition:",
            again = "Please re-enter the cloning domain for the new partition:",
            help = "Its cloning domain; KEYFERRY_DOMAIN, or asked for, without it. Objects "
                .. "are cloned only between partitions of one domain." }),
        option("defaultdomain"),
        option("force", { help = "Accepted as on lunash; making a partition asks for no "
            .. "confirmation." }),
    },
    examples = { "keyferry partition create -partition sa78par1 -serial 496771" },
    run = run,
}
