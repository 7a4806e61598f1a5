-- SPDX-License-Identifier: MIT
-- partition plan: what a backup would do with each object, before any target is touched. The
-- same run as `partition backup`, which stops short of doing it: against the target when it is
-- there, else against its HSM (-serial), else against the engine alone.
local keyferry = require("keyferry")

local option = keyferry.option

local function refuse(code, what, hint)
    error(keyferry.error{ code = code, what = what, hint = hint }, 0)
end

-- The source; the backup HSM and the target partition when they are named and there; else the
-- slot in which the partition would be made.
local function find(options)
    local run = {}
    if options.serial then
        run.hsm = assert(keyferry.backup_hsm(options.serial))
        local found = options.tokenpar and assert(run.hsm:find_partitions(options.tokenpar)) or {}
        run.target = found[1] and assert(run.hsm:partition(options.tokenpar)) or nil
        run.new = not run.target and assert(run.hsm:next_partition(options.tokenpar or "")) or nil
        run.spare = run.new and run.new.token
    end
    run.source = assert(keyferry.partition(options.partition, { except = run.hsm }))
    return run
end

local function check(options, run)
    if run.target and run.source:is_same(run.target) then
        refuse("KFR_REFUSED", "source and target are the same partition",
               "name another backup partition with -tokenpar")
    elseif run.spare and (options.tokenpar or ""):find("^pkcs11:") then
        refuse("KFR_REFUSED", "a partition that is to be made needs a label, not a URI",
               "give a label with -tokenpar")
    elseif run.hsm then
        assert(run.source:check_authentication(run.target or run.new))
        if run.new then
            assert(run.new:can_be_made())
        end
    end
end

-- The engine of a partition that is not there yet. What a module lacks is a matter of single
-- objects: the engine wrap works any.
local function engine_of(run)
    return assert(run.hsm:info()).manufacturer:find("^SoftHSM") and "softhsm" or "wrap"
end

local function ask(ctx, run)
    return assert(ctx:secrets{
        { "password", of = run.source },
        { "tokenpw", of = run.target, unless = not run.target },
        { "domain", of = run.source, quiet = true },
    })
end

local function plan(ctx, run, secrets)
    local policy = ctx:policy{ source = run.source, hsm = run.hsm, domain = secrets.domain }
    policy.source = assert(run.source:login(secrets.password))
    policy.target = run.target and assert(run.target:login(secrets.tokenpw))
    policy.spare, policy.report = run.spare, run.paper
    if run.spare and not policy.target_engine then
        policy.target_engine = engine_of(run)
    end
    return keyferry.backup(policy)
end

local function run(ctx)
    local options = ctx.options
    options.plan = true
    ctx:report()
    local found = find(options)
    check(options, found)
    found.paper = ctx:report{ source = found.source.hsm, target = found.hsm }
    return ctx:conclude(plan(ctx, found, ask(ctx, found)), options.tokenpar)
end

local function rules(options)
    if options.tokenpar and not options.serial then
        return "-tokenpar needs -serial: which HSM the partition is on"
    elseif (options.add or options.replace) and not options.tokenpar then
        return "-add and -replace need -tokenpar: what is there already"
    end
    return nil
end

return {
    name = "partition plan",
    summary = "Say what a backup would do with each object.",
    category = "reads",
    privileges = { "admin", "operator" },
    options = {
        option("partition", { help = "The partition whose objects would be backed up: its label "
            .. "or PKCS#11 URI." }),
        option("tokenpar", { required = false, help = "The partition on the backup HSM. Where "
            .. "there is none of that name the plan is for making it." }),
        option("serial", { required = false, help = "The serial number of the backup HSM. "
            .. "Without it the plan is for the engine alone." }),
        option("password"),
        option("tokenpw", { help = "The Crypto Officer password of the backup partition, when it "
            .. "is there; KEYFERRY_TOKENPW, or asked for, without it." }),
        option("domain", { shares = false,
            help = "The cloning domain, where a partition that is there has none "
            .. "of its own; KEYFERRY_DOMAIN without it." }),
        option("defaultdomain"),
        option("add", { help = "Plan to add to the backup partition (the default)." }),
        option("replace", { help = "Plan to replace everything in the backup partition." }),
        option("match"),
        option("class"),
        option("onerror"),
        option("engine"),
        option("report"),
        option("force", { help = "Overwrite a report that is there." }),
    },
    rules = rules,
    examples = {
        "keyferry partition plan -partition sa78par1",
        "keyferry partition plan -partition sa78par1 -engine wrap -match 'MT RSA*'",
        "keyferry partition plan -partition sa78par1 -tokenpar sa78par1backup "
            .. "-serial 496771 -replace",
    },
    run = run,
}
