-- SPDX-License-Identifier: MIT
-- partition backup: clone the objects of a partition to a partition of a backup HSM.
-- Reads like the reference page; what it does, keyferry.backup{...} does for any script.
local keyferry = require("keyferry")

-- What is asked, in the order of the reference page. `new`: only for a partition that is
-- to be made.
local PASSWORD = {
    option = "password", env = "KEYFERRY_PASSWORD",
    prompt = "Please enter the password for the HSM user partition:",
}
local TOKEN_PASSWORD = {
    option = "tokenpw", env = "KEYFERRY_TOKENPW",
    prompt = "Please enter a password for the user on the backup token:",
    again = "Please re-enter the password for the user on the backup token:",
}
local SO_PASSWORD = {
    option = "tokensopwd", env = "KEYFERRY_TOKENSOPWD",
    prompt = "Please enter a password for the Security Officer of the backup token:",
    again = "Please re-enter the password for the Security Officer of the backup token:",
}
local DOMAIN = {
    option = "domain", env = "KEYFERRY_DOMAIN",
    prompt = "Please enter the cloning domain set when the HSM user partition was created:",
}
local DOMAIN_AGAIN = {
    prompt = "The cloning domain does not match. Please enter it again:",
}
local DOMAIN_TRIES = 3

local function refuse(what, hint)
    return nil, keyferry.error{ code = "KFR_REFUSED", what = what, hint = hint }
end

-- Source partition, backup HSM, and the target partition when it is there.
local function find(options)
    local hsm, source, found, target, err
    hsm, err = keyferry.backup_hsm(options.serial)
    if not hsm then
        return nil, err
    end
    source, err = keyferry.partition(options.partition, { except = hsm })
    if not source then
        return nil, err
    end
    found, err = hsm:find_partitions(options.tokenpar)
    if not found then
        return nil, err
    elseif #found > 0 then
        target, err = hsm:partition(options.tokenpar)
        if not target then
            return nil, err
        end
    end
    return { hsm = hsm, source = source, target = target }
end

-- What the two partitions and the options together forbid.
local function check(options, run)
    if run.target and run.source:is_same(run.target) then
        return refuse("source and target are the same partition",
                      "name another backup partition with -tokenpar")
    elseif run.target and not options.plan and not options.add and not options.replace then
        return refuse(('partition "%s" exists on the backup HSM'):format(run.target.label),
                      "give -add to add to it, or -replace to replace what is in it")
    elseif not run.target and options.tokenpar:find("^pkcs11:") then
        return refuse("a partition that is to be made needs a label, not a URI",
                      "give a label with -tokenpar")
    end
    run.ped = run.source.token.protected_path or false
    run.target_ped = run.ped
    if run.target then
        run.target_ped = run.target.token.protected_path or false
    end
    return true
end

-- A token with a protected authentication path gets no text.
local function attend(ctx, run)
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

-- Asks for a secret unless the PED takes it. true, secret; nil, err.
local function ask(ctx, what, by_ped, new)
    if by_ped then
        return true, nil
    end
    local secret, err = ctx:secret{
        option = what.option, env = what.env, prompt = what.prompt, again = what.again,
        new = new,
    }
    return secret and true, secret or err
end

-- The secrets, in the order of the reference page, into run.
local function ask_all(ctx, run)
    local new = not run.target
    local ok, value = ask(ctx, PASSWORD, run.ped)
    if not ok then
        return nil, value
    end
    run.password = value
    ok, value = ask(ctx, TOKEN_PASSWORD, run.target_ped, new)
    if not ok then
        return nil, value
    end
    run.token_password = value
    if new then
        ok, value = ask(ctx, SO_PASSWORD, run.target_ped, true)
        if not ok then
            return nil, value
        end
        run.so_password = value
    end
    if ctx.options.defaultdomain then
        return true
    end
    local given, err = ctx:secret{ option = DOMAIN.option, env = DOMAIN.env, quiet = true }
    if err then
        return nil, err
    end
    run.typed = not given
    if run.ped or given then
        run.domain_text = not run.ped and given or nil
        return true
    end
    ok, value = ask(ctx, DOMAIN)
    run.domain_text = value
    return ok, value
end

local function make_domain(ctx, run)
    if ctx.options.defaultdomain then
        ctx:warn("-defaultdomain is deprecated: everybody knows the default domain")
        return keyferry.default_domain()
    elseif not run.domain_text then
        return nil
    end
    return keyferry.domain(run.domain_text)
end

-- Says what -replace is about to do, to which token.
local function confirm_replace(ctx, run)
    local objects, err = run.target_session:find()
    if not objects then
        return nil, err
    end
    return ctx:confirm{
        ('All %d objects of partition "%s" (serial %s) on HSM "%s" (serial %s)')
            :format(#objects, run.target.label, run.target.serial, run.hsm.name,
                    run.hsm.serial or "unknown"),
        ('will be removed and replaced by those of partition "%s" (serial %s).')
            :format(run.source.label, run.source.serial),
    }
end

-- Logs in to what is there, and asks before anything can be destroyed.
local function open(ctx, run)
    local err
    run.source_session, err = run.source:login(run.password)
    if not run.source_session then
        return nil, err
    end
    if not run.target then
        return true
    end
    run.target_session, err = run.target:login(run.token_password,
                                               { writable = not ctx.options.plan })
    if not run.target_session then
        return nil, err
    end
    if ctx.options.replace and not ctx.options.plan then
        return confirm_replace(ctx, run)
    end
    return true
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

-- -match and -class as a select hook.
local function selector(options)
    local pattern = options.match and keyferry.glob(options.match)
    local classes = {}
    for _, class in ipairs(options.class or {}) do
        classes[class] = true
    end
    if not pattern and not options.class then
        return nil
    end
    return function(object)
        return (not pattern or pattern(object.label))
            and (not options.class or classes[object.class] or false)
    end
end

-- A domain that was typed and does not match may be typed again.
local function another_domain(ctx, run)
    return function(attempt)
        if attempt >= DOMAIN_TRIES or not run.typed then
            return nil
        end
        local text, err = ctx:secret(DOMAIN_AGAIN)
        if not text then
            error(err, 0)
        end
        return assert(keyferry.domain(text))
    end
end

local LINES = {
    cloned = 'Object "%s" (handle %d) cloned to handle %d on target%s',
    planned = 'Object "%s" (handle %d) would be cloned%s',
    exists = 'Object "%s" (handle %d) already exists on target (handle %d)',
    failed = 'Object "%s" (handle %d) not cloned: %s',
}

local function line(ctx, result)
    local label = result.object.label or ""
    local lost = result.lost and result.lost ~= "" and "; not kept: " .. result.lost or ""
    if result.status == "cloned" then
        ctx:print(LINES.cloned, label, result.handle, result.target_handle, lost)
    elseif result.status == "planned" then
        ctx:print(LINES.planned, label, result.handle, lost)
    elseif result.status == "exists" then
        ctx:print(LINES.exists, label, result.handle, result.target_handle)
        if result.differs then
            ctx:warn('object "%s" (handle %d) and its copy on the target differ in %s; '
                     .. '-replace makes them alike', label, result.handle, result.differs)
        end
    elseif result.status == "failed" then
        ctx:print(LINES.failed, label, result.handle, tostring(result.err))
    end
end

local function hex(bytes)
    return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

local function event(ctx, run, result)
    if not ctx.json then
        return
    end
    local object, err = result.object, result.err
    ctx:event{
        event = "object", status = result.status, label = object.label,
        class = object.class, key_type = object.key_type, id = object.id and hex(object.id),
        handle = result.handle, target_handle = result.target_handle,
        uri = run.source:object_uri(object), reason = err and tostring(err),
        code = err and err.code, lost = result.lost ~= "" and result.lost or nil,
        verified = result.verified, differs = result.differs,
    }
end

local function backup(ctx, run, domain)
    local options, defaults = ctx.options, keyferry.defaults()
    return keyferry.backup{
        source = run.source_session, target = run.target_session, domain = domain,
        mode = options.replace and "replace" or "add",
        create = function(fitting) return create(ctx, run, fitting) end,
        discard = function() return discard(ctx, run) end,
        source_engine = options.engine or run.source.hsm.engine or defaults.engine,
        target_engine = options.engine or run.hsm.engine or defaults.engine,
        verify = options.verify, plan = options.plan, select = selector(options),
        on_mismatch = another_domain(ctx, run),
        on_error = function() return options.onerror or defaults.onerror end,
        on_result = function(result)
            line(ctx, result)
            event(ctx, run, result)
        end,
        on_progress = function(done, total) ctx:progress(done, total) end,
    }
end

-- The exit status of a report: object by object it is partial, else what ended the run.
local function finish(ctx, report)
    local status, reason = nil, report.reason
    if report.target_without_domain then
        ctx:warn('partition "%s" has no cloning domain of its own: any domain given fits it',
                 ctx.options.tokenpar)
    end
    if report.target_damaged then
        ctx:warn('partition "%s" holds what nobody can read and no backup is, left by a program '
                 .. "that was killed or a disk that failed: %s", ctx.options.tokenpar,
                 tostring(report.target_damaged))
    end
    if report.unproved > 0 then
        ctx:warn("%d objects could not be challenged, since their flags allow no operation "
                 .. "that could tell", report.unproved)
    end
    if report.left then
        status = 7
        reason = ("the new objects are on the target, but %d of the old ones could not be "
                  .. "removed: %s"):format(report.left, tostring(report.reason))
    elseif report.partial then
        status = 1
        reason = ("%d of %d objects were not cloned; the last: %s")
            :format(report.failed, report.selected, tostring(report.reason))
    end
    return ctx:finish{
        status = status, reason = reason,
        counts = { cloned = report.cloned, planned = report.planned,
                   exists = report.exists, failed = report.failed,
                   skipped = report.skipped, removed = report.removed,
                   to_remove = report.to_remove },
    }
end

local function run(ctx)
    local found, err = find(ctx.options)
    if not found then
        return nil, err
    end
    local ok
    ok, err = check(ctx.options, found)
    if not ok then
        return nil, err
    end
    if ctx.options.tokenpar:find("^%d") then
        ctx:warn("the label begins with a digit: some commands take it for a slot number")
    end
    attend(ctx, found)
    ok, err = ask_all(ctx, found)
    if not ok then
        return nil, err
    end
    ok, err = open(ctx, found)
    if not ok then
        return nil, err
    end
    local domain
    domain, err = make_domain(ctx, found)
    if err then
        return nil, err
    end
    return finish(ctx, backup(ctx, found, domain))
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
          help = "The partition's Crypto Officer password; KEYFERRY_PASSWORD, or asked for, "
              .. "without it." },
        { name = "tokensopwd", value = "password", kind = "secret", max = 255,
          help = "The Security Officer password of the backup token, when a partition is to "
              .. "be made; KEYFERRY_TOKENSOPWD, or asked for, without it." },
        { name = "domain", value = "domain", kind = "secret", max = 1024,
          help = "The cloning domain set when the partition was created; KEYFERRY_DOMAIN, or "
              .. "asked for, without it." },
        { name = "defaultdomain", kind = "flag",
          help = "Use the default domain string. Deprecated: everybody knows it." },
        { name = "tokenpw", value = "password", kind = "secret", max = 255,
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
