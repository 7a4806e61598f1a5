-- SPDX-License-Identifier: MIT
-- partition restore: clone what is in a backup partition back to a partition that is there.
-- The way of partition backup in the other direction, with its modes and its promises.
local keyferry = require("keyferry")

local option = keyferry.option

-- A domain belongs to its partition, so another one given helps only where one has none.
local OTHER_DOMAIN = "give the domain that the backup was made with; into a partition of another "
    .. "one it cannot go: make one with 'keyferry partition create'"

-- The backup, and the partition that it goes back to. None is ever made.
local function find(options)
    local hsm = assert(keyferry.backup_hsm(options.serial))
    local source = assert(hsm:partition(options.tokenpar))
    local target, err = keyferry.partition(options.partition, { except = hsm })
    if not target and err.code == "KFR_NOT_FOUND" then
        err.hint = "make it with 'keyferry partition create', then restore into it"
    end
    return { source = source, target = assert(target, err) }
end

-- What the two partitions and the options together forbid: nil, or what and a hint.
local function forbidden(options, run)
    local target = run.target
    local alike, why = run.source:check_authentication(target)
    if run.source:is_same(target) then
        return "source and target are the same partition",
            "name the backup partition with -tokenpar, and where it goes with -partition"
    elseif not options.plan and not options.add and not options.replace then
        return ('partition "%s" on HSM "%s" is there'):format(target.label, target.hsm.name),
            "give -add to add to it, or -replace to replace what is in it"
    elseif options.replace and run.source:unfinished() then
        return ('partition "%s" is an unfinished backup: -replace would remove what it lacks')
            :format(run.source.label),
            "finish it with the command that began it; -add -force takes what there is"
    elseif not alike then
        return why.what, why.hint
    end
end

-- Logs in to both. Only a partition without a domain of its own needs one to be given.
local function open(ctx, run)
    local options = ctx.options
    local secrets = assert(ctx:secrets{
        { "password", of = run.target }, { "tokenpw", of = run.source },
    })
    run.to = assert(run.target:login(secrets.password, { writable = not options.plan }))
    run.from = assert(run.source:login(secrets.tokenpw))
    run.domain = assert(ctx:secrets{
        { "domain", of = run.source, quiet = run.source:domain_in_hardware(run.target)
          or ctx:has_domain(run.from) and ctx:has_domain(run.to) },
    }).domain
    if options.replace and not options.plan then
        assert(ctx:confirm_replacing(run.to, run.target, run.source))
    end
end

local function restore(ctx, run)
    local policy = ctx:policy{ source = run.source, hsm = run.target.hsm, domain = run.domain }
    policy.source, policy.target, policy.unfinished = run.from, run.to, ctx.options.force
    policy.report = ctx:report{ source = run.source.hsm, target = run.target.hsm }
    return keyferry.backup(policy)
end

local function run(ctx)
    ctx:report() -- a file that cannot be written is known before anything is done
    local found = find(ctx.options)
    local reason, hint = forbidden(ctx.options, found)
    if reason then
        return ctx:finish{ code = "KFR_REFUSED", reason = reason, hint = hint }
    end
    open(ctx, found)
    local report = restore(ctx, found)
    if report.reason and report.reason.code == "KFR_DOMAIN_MISMATCH" then
        report.reason.hint = OTHER_DOMAIN
    end
    return ctx:conclude(report, found.target.label)
end

return {
    name = "partition restore",
    summary = "Clone the objects of a backup back to a partition.",
    category = "destroys",
    privileges = { "admin", "operator" },
    options = {
        option("partition", { help = "The partition that the objects go back to: its label or "
            .. "PKCS#11 URI. It is never made." }),
        option("tokenpar", { help = "The partition on the backup HSM that holds the backup: its "
            .. "label or PKCS#11 URI." }),
        option("serial"),
        option("password"),
        option("tokenpw"),
        option("domain", { help = "The cloning domain, where one of the partitions has none of "
            .. "its own; KEYFERRY_DOMAIN, or asked for, without it." }),
        option("defaultdomain"),
        option("add", { help = "Add to what is in the partition. What is there already is neither "
            .. "duplicated nor overwritten." }),
        option("replace", { help = "Replace everything in the partition. The old objects go only "
            .. "when every new one is in and checked." }),
        option("force", { help = "Act without asking for confirmation; add what there is of an "
            .. "unfinished backup." }),
        option("match"),
        option("class"),
        option("verify"),
        option("onerror"),
        option("plan"),
        option("engine"),
        option("report"),
    },
    examples = {
        "keyferry partition restore -partition sa78par1 -tokenpar sa78par1backup "
            .. "-serial 496771 -add",
        "keyferry partition restore -partition sa78par1 -tokenpar sa78par1backup "
            .. "-serial 496771 -replace -verify",
        "keyferry partition restore -partition sa78par1 -tokenpar sa78par1backup "
            .. "-serial 496771 -add -match 'MT RSA*' -plan",
    },
    run = run,
}
