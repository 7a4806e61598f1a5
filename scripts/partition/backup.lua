-- SPDX-License-Identifier: MIT
-- partition backup: clone the objects of a partition to a partition of a backup HSM.
-- Reads like the reference page; what it does, keyferry.backup{...} does for any script. A
-- call that is refused gives nil and an error: assert ends the run with it.
local keyferry = require("keyferry")

local option = keyferry.option

-- Source partition, backup HSM, and the target partition when it is there.
local function find(options)
    local hsm = assert(keyferry.backup_hsm(options.serial))
    local source = assert(keyferry.partition(options.partition, { except = hsm }))
    local found = assert(hsm:find_partitions(options.tokenpar))
    local target = found[1] and assert(hsm:partition(options.tokenpar))
    return { hsm = hsm, source = source, target = target }
end

-- What the two partitions and the options together forbid: nil, or what and a hint.
local function forbidden(options, run)
    local target = run.target
    local ok, why = run.source:check_authentication(target or run.new)
    if ok and not target then
        ok, why = run.new:can_be_made()
    end
    if target and run.source:is_same(target) then
        return "source and target are the same partition",
            "name another backup partition with -tokenpar"
    elseif target and not (options.plan or options.add or options.replace or run.goes_on) then
        return ('partition "%s" exists on the backup HSM'):format(target.label),
            "give -add to add to it, or -replace to replace what is in it"
    elseif not target and options.tokenpar:find("^pkcs11:") then
        return "a partition that is to be made needs a label, not a URI",
            "give a label with -tokenpar"
    elseif not ok then
        return why.what, why.hint
    end
end

-- The secrets, in the order of the reference page. The passwords of a new partition are asked
-- for twice. A domain that the HSM itself keeps cannot be named.
local function ask(ctx, run)
    local new, target = not run.target, run.target or run.new
    run.secrets = assert(ctx:secrets{
        { "password", of = run.source },
        { "tokenpw", of = target, new = new },
        { "tokensopwd", of = target, new = true, unless = not new },
        { "domain", of = run.source, quiet = run.source:domain_in_hardware(target) },
    })
end

-- Logs in to what is there, and asks before anything can be destroyed.
local function open(ctx, run)
    local options, target, secrets = ctx.options, run.target, run.secrets
    run.from = assert(run.source:login(secrets.password))
    if target then
        run.to = assert(target:login(secrets.tokenpw, { writable = not options.plan }))
    end
    if target and options.replace and not options.plan then
        assert(ctx:confirm_replacing(run.to, target, run.source))
    end
end

-- Makes the backup partition with the domain that the first object opened under.
local function create(ctx, run, domain, of)
    return ctx:make_target(run.hsm, {
        label = ctx.options.tokenpar, password = run.secrets.tokenpw,
        so_password = run.secrets.tokensopwd, domain = domain, unfinished = of,
    })
end

local function backup(ctx, run)
    local options = ctx.options
    return keyferry.backup{
        source = run.from, target = run.to, domain = ctx:domain(run.secrets.domain),
        mode = options.replace and "replace" or "add",
        create = function(domain, of) return create(ctx, run, domain, of) end,
        discard = function() return ctx:remove_target() end,
        source_engine = ctx:engine(run.source.hsm), target_engine = ctx:engine(run.hsm),
        verify = options.verify, plan = options.plan,
        report = ctx:report{ source = run.source.hsm, target = run.hsm },
        select = { label = options.match, class = options.class },
        on_mismatch = function(attempt) return ctx:another_domain(attempt) end,
        on_error = function() return ctx:setting("onerror") end,
        on_result = function(result) ctx:tell(result, run.source) end,
        on_progress = function(done, total) ctx:progress(done, total) end,
    }
end

local function run(ctx)
    ctx:report() -- a file that cannot be written is known before anything is done
    local found = find(ctx.options)
    found.goes_on = ctx:goes_on(found)
    found.new = not found.target and assert(found.hsm:next_partition(ctx.options.tokenpar))
    local reason, hint = forbidden(ctx.options, found)
    if reason then
        return ctx:finish{ code = "KFR_REFUSED", reason = reason, hint = hint }
    end
    if ctx.options.tokenpar:find("^%d") then
        ctx:warn("the label begins with a digit: some commands take it for a slot number")
    end
    ask(ctx, found)
    open(ctx, found)
    return ctx:conclude(backup(ctx, found), ctx.options.tokenpar)
end

return {
    name = "partition backup",
    summary = "Clone the objects of a partition to a backup HSM.",
    category = "destroys",
    privileges = { "admin", "operator" },
    options = {
        option("partition", { help = "The partition whose objects are backed up: its label or "
            .. "PKCS#11 URI." }),
        option("tokenpar", { help = "The partition on the backup HSM. Made when there is none "
            .. "of that name." }),
        option("serial"),
        option("password"),
        option("tokensopwd"),
        option("domain"),
        option("defaultdomain"),
        option("tokenpw"),
        option("add", { help = "Add to an existing backup partition. What is there already is "
            .. "neither duplicated nor overwritten." }),
        option("replace", { help = "Replace everything in an existing backup partition. The old "
            .. "objects go only when every new one is in and checked." }),
        option("force"),
        option("match"),
        option("class"),
        option("verify"),
        option("onerror"),
        option("plan"),
        option("engine"),
        option("report"),
    },
    examples = {
        "keyferry partition backup -partition sa78par1 -tokenpar sa78par1backup "
            .. "-serial 496771",
        "keyferry partition backup -partition sa78par1 -tokenpar sa78par1backup "
            .. "-serial 496771 -add",
        "keyferry partition backup -partition sa78par1 -tokenpar sa78par1backup "
            .. "-serial 496771 -plan -match 'MT RSA*'",
    },
    run = run,
}
