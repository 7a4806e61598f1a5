-- SPDX-License-Identifier: MIT
-- partition send: the objects of a partition as one sealed stream, to a file or a pipe.
-- partition receive takes it in, here or on another machine.
local keyferry = require("keyferry")

local option = keyferry.option

-- Where the stream goes; false: to a terminal, which is no place for it.
local function destination(ctx)
    local file = ctx.options.file
    if file and file ~= "-" then
        return file
    end
    return not ctx:is_terminal("output") and 1
end

-- A file that cannot be made, or is there, ends the command before anything is asked.
local function check_file(path, force)
    local ok, err = keyferry.can_create(path, force)
    if not ok then
        err.hint = err.code == "KFR_EXISTS" and "name another file; -force overwrites it"
            or err.hint
        error(err, 0)
    end
end

-- A partition that has a domain of its own is asked for none.
local function domain_secret(ctx, source, session)
    local known = ctx.options.defaultdomain or ctx:has_domain(session)
    return assert(ctx:secrets{ { "domain", of = source, quiet = known } }).domain
end

local function send(ctx, source, to)
    local report = ctx:report{ source = source.hsm }
    local secrets = assert(ctx:secrets{ { "password", of = source } })
    local session <close> = assert(source:login(secrets.password))
    local policy = ctx:policy{ source = source, domain = domain_secret(ctx, source, session) }
    return keyferry.send{
        source = session, to = to, force = ctx.options.force, unfinished = ctx.options.force,
        domain = policy.domain, source_engine = policy.source_engine, select = policy.select,
        on_error = policy.on_error, on_result = policy.on_result,
        on_progress = policy.on_progress, report = report,
    }
end

local function run(ctx)
    local to = destination(ctx)
    ctx:report() -- a file that cannot be written is known before anything is done
    if not to then
        return ctx:finish{ code = "KFR_REFUSED", reason = "the standard output is a terminal",
            hint = "name a file with -file, or write into a pipe" }
    elseif to == 1 then
        ctx:leave_output() -- which is the stream's; what is said goes to the standard error
    else
        check_file(to, ctx.options.force)
    end
    local source = assert(keyferry.partition(ctx.options.partition))
    return ctx:conclude(send(ctx, source, to), "the stream")
end

return {
    name = "partition send",
    summary = "Write the objects of a partition as one sealed stream.",
    category = "writes",
    privileges = { "admin", "operator" },
    options = {
        option("partition", { help = "The partition whose objects are sent: its label or "
            .. "PKCS#11 URI." }),
        option("file", { help = "Write the stream to this new file instead of the standard "
            .. "output. It is there when all is in it, and not before." }),
        option("password"),
        option("domain", { help = "The cloning domain of a partition that has none of its own; "
            .. "KEYFERRY_DOMAIN, or asked for, without it." }),
        option("defaultdomain"),
        option("match"),
        option("class"),
        option("onerror", { help = "After an object that cannot be sealed: go on (the default) "
            .. "or stop." }),
        option("engine", { help = "The engine instead of the one that fits best." }),
        option("report"),
        option("force", { help = "Overwrite a file that is there; send an unfinished backup." }),
    },
    examples = {
        "keyferry partition send -partition sa78par1 -file sa78par1.stream",
        "keyferry partition send -partition sa78par1 "
            .. "| ssh vault keyferry partition receive -tokenpar sa78par1backup -serial 496771",
    },
    run = run,
}
