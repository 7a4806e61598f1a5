-- SPDX-License-Identifier: MIT
-- partition verify: whether a backup partition is what its source is, or what the report of the
-- backup or a sealed stream says. Both are read, and nothing is changed.
local keyferry = require("keyferry")

local option = keyferry.option

-- What the target is compared with, seen before anything is asked.
local function find(options)
    local run = { hsm = assert(keyferry.backup_hsm(options.serial)) }
    if options.partition then
        run.source = assert(keyferry.partition(options.partition, { except = run.hsm }))
    elseif options.file then
        run.stream = assert(keyferry.archive.open(options.file))
        run.source = keyferry.archive.source(run.stream)
    else
        assert(keyferry.report.head(options.report))
    end
    run.target = assert(run.hsm:partition(options.tokenpar))
    return run
end

local function log_in(ctx, run)
    local secrets = assert(ctx:secrets{
        { "password", of = run.source, unless = not ctx.options.partition },
        { "tokenpw", of = run.target },
    })
    if ctx.options.partition then
        run.from = assert(run.source:login(secrets.password))
    end
    run.to = assert(run.target:login(secrets.tokenpw))
end

-- The domain that a stream or a report was made under: the partition's own unless another is
-- given.
local function domain_of(ctx, run)
    local own = not ctx.options.partition and run.to:find_domain() or nil
    if ctx.options.partition then
        return nil
    end
    local given = assert(ctx:secrets{
        { "domain", of = run.target, quiet = own and not ctx.options.ped,
          key = ctx.options.ped },
    }).domain
    return ctx:domain(given) or own
end

local function verify(ctx, run)
    local options = ctx.options
    local domain = domain_of(ctx, run)
    return keyferry.verify{
        source = run.from or run.stream or assert(keyferry.report.read(options.report, domain)),
        target = run.to, domain = domain, challenge = options.challenge,
        source_engine = options.partition and ctx:engine(run.source.hsm) or nil,
        target_engine = ctx:engine(run.hsm),
        select = { label = options.match, class = options.class },
        on_result = function(result) ctx:compare(result, run) end,
        on_progress = function(done, total) ctx:progress(done, total) end,
    }
end

local function run(ctx)
    local found = find(ctx.options)
    if ctx.options.partition and found.source:is_same(found.target) then
        return ctx:finish{ code = "KFR_REFUSED",
            reason = "source and target are the same partition",
            hint = "name the backup partition with -tokenpar" }
    end
    log_in(ctx, found)
    return ctx:conclude(verify(ctx, found))
end

local function rules(options)
    local sources = 0
    for _, name in ipairs{ "partition", "report", "file" } do
        sources = sources + (options[name] and 1 or 0)
    end
    if sources ~= 1 then
        return "one of -partition, -report and -file says what the backup is compared with"
    elseif options.password and not options.partition then
        return "-password has no effect without -partition"
    elseif options.partition and (options.domain or options.defaultdomain or options.ped) then
        return "a domain has no effect with -partition: none is needed"
    end
    return nil
end

return {
    name = "partition verify",
    summary = "Compare a backup partition with its source, object by object.",
    category = "reads",
    privileges = { "admin", "operator" },
    options = {
        option("partition", { required = false, help = "The partition that was backed up: its "
            .. "label or PKCS#11 URI." }),
        option("report", { help = "Instead of -partition: the report that the backup was made "
            .. "with." }),
        option("file", { help = "Instead of -partition: the file of a sealed stream; - is the "
            .. "standard input." }),
        option("tokenpar"),
        option("serial"),
        option("password"),
        option("tokenpw"),
        option("domain", { help = "The cloning domain of the report or stream, when the backup "
            .. "partition has none of its own; KEYFERRY_DOMAIN, or asked for, without it." }),
        option("defaultdomain"),
        option("ped"),
        option("challenge", { help = "Use every private and secret key for real on one side, and "
            .. "check it on the other; with -report and -file, on the backup alone." }),
        option("match"),
        option("class"),
        option("engine"),
    },
    rules = rules,
    examples = {
        "keyferry partition verify -partition sa78par1 -tokenpar sa78par1backup -serial 496771",
        "keyferry partition verify -report sa78par1.json -tokenpar sa78par1backup "
            .. "-serial 496771 -challenge",
    },
    run = run,
}
