-- SPDX-License-Identifier: MIT
-- partition receive: the objects of a sealed stream into a partition of a backup HSM, with the
-- modes and the promises of partition backup.
local keyferry = require("keyferry")

local option = keyferry.option

-- The stream; nil: the standard input is a terminal, and nobody types one.
local function open_stream(ctx)
    local file = ctx.options.file
    if file and file ~= "-" then
        return assert(keyferry.archive.open(file))
    end
    return not ctx:is_terminal("input") and assert(keyferry.archive.open("-")) or nil
end

-- The target when it is there, and whether it is what a run of the same stream has begun.
local function find(options, stream)
    local run = { hsm = assert(keyferry.backup_hsm(options.serial)), stream = stream }
    local found = assert(run.hsm:find_partitions(options.tokenpar))
    run.target = found[1] and assert(run.hsm:partition(options.tokenpar))
    run.source = keyferry.archive.source(stream)
    return run
end

local function forbidden(options, run)
    local target = run.target
    if target and not (options.plan or options.add or options.replace or run.goes_on) then
        return ('partition "%s" exists on the backup HSM'):format(target.label),
            "give -add to add to it, or -replace to replace what is in it"
    elseif not target and options.tokenpar:find("^pkcs11:") then
        return "a partition that is to be made needs a label, not a URI",
            "give a label with -tokenpar"
    elseif not target then
        local ok, why = run.new:can_be_made()
        return not ok and why.what or nil, why and why.hint
    end
end

local function log_in(ctx, run)
    local options, new = ctx.options, not run.target
    local target = run.target or run.new
    run.secrets = assert(ctx:secrets{
        { "tokenpw", of = target, new = new },
        { "tokensopwd", of = target, new = true, unless = not new },
    })
    if run.target then
        run.session = assert(run.target:login(run.secrets.tokenpw,
                                              { writable = not options.plan }))
    end
    if run.target and options.replace and not options.plan then
        assert(ctx:confirm_replacing(run.session, run.target, run.source))
    end
end

-- A target that has a domain needs none; one that was made by half may have half of one.
local function domain_secret(ctx, run)
    local known = ctx.options.defaultdomain or false
    if run.session and not known then
        known = run.goes_on and run.session:find_domain() ~= nil
            or not run.goes_on and ctx:has_domain(run.session)
    end
    return assert(ctx:secrets{
        { "domain", of = run.target or run.new, quiet = known },
    }).domain
end

local function create(ctx, run, domain, of)
    return ctx:make_target(run.hsm, {
        label = ctx.options.tokenpar, password = run.secrets.tokenpw,
        so_password = run.secrets.tokensopwd, domain = domain, unfinished = of,
    })
end

local function receive(ctx, run)
    local report = ctx:report{ target = run.hsm }
    log_in(ctx, run)
    local policy = ctx:policy{ source = run.source, hsm = run.hsm,
                               domain = domain_secret(ctx, run) }
    policy.source, policy.target, policy.report = run.stream, run.session, report
    policy.create = function(domain, of) return create(ctx, run, domain, of) end
    policy.discard = function() return ctx:remove_target() end
    return keyferry.backup(policy)
end

local function run(ctx)
    ctx:report() -- a file that cannot be written is known before anything is done
    local stream = open_stream(ctx)
    if not stream then
        return ctx:finish{ code = "KFR_REFUSED", reason = "the standard input is a terminal",
            hint = "name a file with -file, or read from a pipe" }
    end
    local found = find(ctx.options, stream)
    found.goes_on = ctx:goes_on(found)
    found.new = not found.target and assert(found.hsm:next_partition(ctx.options.tokenpar))
    local reason, hint = forbidden(ctx.options, found)
    if reason then
        return ctx:finish{ code = "KFR_REFUSED", reason = reason, hint = hint }
    end
    return ctx:conclude(receive(ctx, found), ctx.options.tokenpar)
end

return {
    name = "partition receive",
    summary = "Clone the objects of a sealed stream to a partition of a backup HSM.",
    category = "destroys",
    privileges = { "admin", "operator" },
    options = {
        option("tokenpar", { help = "The partition on the backup HSM. Made when there is none "
            .. "of that name." }),
        option("serial"),
        option("file", { help = "Read the stream from this file instead of the standard input. "
            .. "Nothing of it is cloned before it has been read to its end." }),
        option("tokensopwd"),
        option("tokenpw"),
        option("domain", { help = "The cloning domain of the stream, when the partition has none "
            .. "of its own; KEYFERRY_DOMAIN, or asked for, without it." }),
        option("defaultdomain"),
        option("add"),
        option("replace"),
        option("force"),
        option("match"),
        option("class"),
        option("verify", { help = "Use every clone, and what was there already, and compare its "
            .. "key with the digest in the stream." }),
        option("onerror"),
        option("plan"),
        option("engine", { help = "The engine of the target instead of the one that fits best." }),
        option("report"),
    },
    examples = {
        "keyferry partition receive -tokenpar sa78par1backup -serial 496771 -file sa78par1.stream",
        "keyferry partition send -partition sa78par1 "
            .. "| ssh vault keyferry partition receive -tokenpar sa78par1backup -serial 496771",
    },
    run = run,
}
