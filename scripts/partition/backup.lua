-- SPDX-License-Identifier: MIT
-- partition backup: clone the objects of a partition to a partition of a backup HSM.
-- Reads like the reference page; what it does, keyferry.backup{...} does for any script. A
-- call that is refused gives nil and an error: assert ends the run with it.
local keyferry = require("keyferry")

local DOMAIN_TRIES = 3

local function refuse(what, hint)
    error(keyferry.error{ code = "KFR_REFUSED", what = what, hint = hint }, 0)
end

-- Source partition, backup HSM, and the target partition when it is there.
local function find(options)
    local hsm = assert(keyferry.backup_hsm(options.serial))
    local source = assert(keyferry.partition(options.partition, { except = hsm }))
    local found = assert(hsm:find_partitions(options.tokenpar))
    local target = found[1] and assert(hsm:partition(options.tokenpar))
    return { hsm = hsm, source = source, target = target }
end

-- What the two partitions and the options together forbid.
local function check(options, run)
    local target = run.target
    if target and run.source:is_same(target) then
        refuse("source and target are the same partition",
               "name another backup partition with -tokenpar")
    elseif target and not options.plan and not options.add and not options.replace then
        refuse(('partition "%s" exists on the backup HSM'):format(target.label),
               "give -add to add to it, or -replace to replace what is in it")
    elseif not target and options.tokenpar:find("^pkcs11:") then
        refuse("a partition that is to be made needs a label, not a URI",
               "give a label with -tokenpar")
    end
end

-- A token with a protected authentication path gets no text.
local function attend(ctx, run)
    run.ped = run.source.token.protected_path or false
    run.target_ped = (run.target or run.source).token.protected_path or false
    if not run.ped and not run.target_ped then
        return
    end
    for _, name in ipairs{ "password", "tokenpw", "tokensopwd", "domain" } do
        if ctx.options[name] then
            ctx:note("The HSM has a trusted path: what it takes there is ignored as text.")
            break
        end
    end
    ctx:note("Please attend to the PED.")
end

-- The secrets, in the order of the reference page. A new partition's are asked for twice.
local function ask(ctx, run)
    local new = not run.target
    if not run.ped then
        run.password = assert(ctx:secret("password"))
    end
    if not run.target_ped then
        run.token_password = assert(ctx:secret("tokenpw", { new = new }))
        run.so_password = new and assert(ctx:secret("tokensopwd", { new = true })) or nil
    end
    if run.ped or ctx.options.defaultdomain then
        return
    end
    local given, err = ctx:secret("domain", { quiet = true })
    if err then
        error(err, 0)
    end
    run.typed = not given
    run.domain_text = given or assert(ctx:secret("domain"))
end

local function make_domain(ctx, run)
    if ctx.options.defaultdomain then
        ctx:warn("-defaultdomain is deprecated: everybody knows the default domain")
        return assert(keyferry.default_domain())
    end
    return run.domain_text and assert(keyferry.domain(run.domain_text))
end

-- Says what -replace is about to do, to which token.
local function confirm_replace(ctx, run)
    local objects = assert(run.target_session:find())
    assert(ctx:confirm{
        ('All %d objects of partition "%s" (serial %s) on HSM "%s" (serial %s)')
            :format(#objects, run.target.label, run.target.serial, run.hsm.name,
                    run.hsm.serial or "unknown"),
        ('will be removed and replaced by those of partition "%s" (serial %s).')
            :format(run.source.label, run.source.serial),
    })
end

-- Logs in to what is there, and asks before anything can be destroyed.
local function open(ctx, run)
    run.source_session = assert(run.source:login(run.password))
    if run.target then
        run.target_session = assert(run.target:login(run.token_password,
                                                     { writable = not ctx.options.plan }))
    end
    if run.target and ctx.options.replace and not ctx.options.plan then
        confirm_replace(ctx, run)
    end
end

-- Makes the backup partition with the domain that the first object opened under.
local function create(ctx, run, domain)
    local err
    run.target, err = run.hsm:create_partition{
        label = ctx.options.tokenpar, password = run.token_password,
        so_password = run.so_password, domain = domain,
    }
    if not run.target then
        return nil, err
    end
    run.target_session, err = run.target:login(run.token_password, { writable = true })
    if not run.target_session then
        run.hsm:delete_partition(run.target)
    end
    return run.target_session, err
end

local function discard(ctx, run)
    run.target_session:close()
    local ok, err = run.hsm:delete_partition(run.target)
    if ok then
        ctx:note('Partition "%s" has been removed again.', ctx.options.tokenpar)
    else
        ctx:warn('partition "%s" could not be removed again: %s', ctx.options.tokenpar,
                 tostring(err))
    end
end

-- A domain that was typed and does not match may be typed again.
local function another_domain(ctx, run, attempt)
    if attempt >= DOMAIN_TRIES or not run.typed then
        return nil
    end
    return assert(keyferry.domain(assert(ctx:secret{
        prompt = "The cloning domain does not match. Please enter it again:",
    })))
end

local function backup(ctx, run)
    local options, defaults = ctx.options, assert(keyferry.defaults())
    return keyferry.backup{
        source = run.source_session, target = run.target_session,
        domain = make_domain(ctx, run), mode = options.replace and "replace" or "add",
        create = function(domain) return create(ctx, run, domain) end,
        discard = function() return discard(ctx, run) end,
        source_engine = options.engine or run.source.hsm.engine or defaults.engine,
        target_engine = options.engine or run.hsm.engine or defaults.engine,
        verify = options.verify, plan = options.plan,
        select = { label = options.match, class = options.class },
        on_mismatch = function(attempt) return another_domain(ctx, run, attempt) end,
        on_error = function() return options.onerror or defaults.onerror end,
        on_result = function(result) ctx:tell(result, run.source) end,
        on_progress = function(done, total) ctx:progress(done, total) end,
    }
end

local function run(ctx)
    local found = find(ctx.options)
    check(ctx.options, found)
    if ctx.options.tokenpar:find("^%d") then
        ctx:warn("the label begins with a digit: some commands take it for a slot number")
    end
    attend(ctx, found)
    ask(ctx, found)
    open(ctx, found)
    return ctx:conclude(backup(ctx, found), ctx.options.tokenpar)
end

local function rules(options)
    if options.add and options.replace then
        return "-add and -replace exclude each other"
    elseif options.domain and options.defaultdomain then
        return "-domain and -defaultdomain exclude each other"
    elseif options.plan and options.verify then
        return "-verify has no effect with -plan: nothing is cloned"
    end
    return nil
end

return {
    name = "partition backup",
    summary = "Clone the objects of a partition to a backup HSM.",
    category = "destroys",
    privileges = { "admin", "operator" },
    options = {
        { name = "partition", value = "name", kind = "label", required = true,
          complete = "partitions",
          help = "The partition whose objects are backed up: its label or PKCS#11 URI." },
        { name = "tokenpar", value = "name", kind = "label", required = true,
          complete = "partitions",
          help = "The partition on the backup HSM. Made when there is none of that name." },
        { name = "serial", value = "serialnum", kind = "serial", required = true,
          complete = "serials", help = "The serial number of the backup HSM." },
        { name = "password", value = "password", kind = "secret", max = 255,
          prompt = "Please enter the password for the HSM user partition:",
          help = "The partition's Crypto Officer password; KEYFERRY_PASSWORD, or asked for, "
              .. "without it." },
        { name = "tokensopwd", value = "password", kind = "secret", max = 255,
          prompt = "Please enter a password for the Security Officer of the backup token:",
          again = "Please re-enter the password for the Security Officer of the backup token:",
          help = "The Security Officer password of the backup token, when a partition is to "
              .. "be made; KEYFERRY_TOKENSOPWD, or asked for, without it." },
        { name = "domain", value = "domain", kind = "secret", max = 1024,
          prompt = "Please enter the cloning domain set when the HSM user partition was created:",
          help = "The cloning domain set when the partition was created; KEYFERRY_DOMAIN, or "
              .. "asked for, without it." },
        { name = "defaultdomain", kind = "flag",
          help = "Use the default domain string. Deprecated: everybody knows it." },
        { name = "tokenpw", value = "password", kind = "secret", max = 255,
          prompt = "Please enter a password for the user on the backup token:",
          again = "Please re-enter the password for the user on the backup token:",
          help = "The Crypto Officer password of the backup partition; KEYFERRY_TOKENPW, or "
              .. "asked for, without it." },
        { name = "add", kind = "flag",
          help = "Add to an existing backup partition. What is there already is neither "
              .. "duplicated nor overwritten." },
        { name = "replace", kind = "flag",
          help = "Replace everything in an existing backup partition. The old objects go only "
              .. "when every new one is in and checked." },
        { name = "force", kind = "flag", help = "Act without asking for confirmation." },
        { name = "match", value = "glob", kind = "string",
          help = "Only objects whose label matches, e.g. 'tls-*'." },
        { name = "class", value = "class,...", kind = "list",
          choices = { "data", "certificate", "public_key", "private_key", "secret_key",
                      "domain_parameters" },
          help = "Only objects of these classes." },
        { name = "verify", kind = "flag",
          help = "Challenge every clone, and what was there already, with a real operation, "
              .. "checked at the source." },
        { name = "onerror", value = "continue|stop", kind = "choice",
          choices = { "continue", "stop" },
          help = "After an object that cannot be cloned: go on (the default) or stop." },
        { name = "plan", kind = "flag", help = "Say what would be done; change nothing." },
        { name = "engine", value = "name", kind = "choice", choices = keyferry.engines(),
          help = "The engine for both ends instead of the one that fits best." },
    },
    rules = rules,
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
