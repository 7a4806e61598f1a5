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
local function ask(ctx, new)
    return assert(ctx:secrets{
        { "password", of = new, new = true },
        { "tokensopwd", of = new, new = true },
        { "domain", of = new, new = true },
    })
end

local function report(ctx, hsm, partition, domain)
    local check = domain:check()
    ctx:print("Partition \"%s\" (serial %s) created on HSM \"%s\"", partition.label,
        partition.serial, hsm.name)
    ctx:print("Cloning domain: %s", check)
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
    local new = assert(hsm:next_partition(options.partition))
    assert(new:can_be_made())
    if options.partition:find("^%d") then
        ctx:warn("the label begins with a digit: some commands take it for a slot number")
    end
    local secrets = ask(ctx, new)
    local domain = ctx:domain(secrets.domain)
    return report(ctx, hsm, assert(hsm:create_partition{
        label = options.partition, password = secrets.password,
        so_password = secrets.tokensopwd, domain = domain,
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
        option("serial", { help = "The serial number of the HSM to make it on. One with "
            .. "PED keys asks for its keys in the place of passwords and domain "
            .. "('keyferry help ped')." }),
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
