-- SPDX-License-Identifier: MIT
-- partition drill: whether a backup can be brought back. It is restored into a scratch HSM,
-- compared with what it came from, every key of it is used, and the scratch HSM goes again.
local keyferry = require("keyferry")

local option = keyferry.option

local SCRATCH = "drill"

local function refuse(what, hint)
    error(keyferry.error{ code = "KFR_REFUSED", what = what, hint = hint }, 0)
end

local function count(n, what)
    return ("%d %s%s"):format(n, what, n == 1 and "" or "s")
end

-- A stream is read twice: restored from, then compared with.
local function open_stream(path)
    local reader = assert(keyferry.archive.open(path))
    if not reader:seekable() then
        reader:close()
        refuse(path .. " can be read only once", "a drill takes a stream from a file")
    end
    return reader
end

-- The domain of a stream, from who runs the drill.
local function from_stream(ctx)
    local reader = open_stream(ctx.options.file)
    local secrets = assert(ctx:secrets{ { "domain", key = ctx.options.ped } })
    return { source = reader, domain = ctx:domain(secrets.domain),
             partition = keyferry.archive.source(reader),
             name = "the stream " .. ctx.options.file }
end

-- The domain of a partition that can be read there, and put into another one; else it is asked
-- for, since a domain that stays in its token cannot.
local function domain_of(ctx, partition, session)
    local own = session:probe("softhsm") and session:find_domain("softhsm") or nil
    local is_ped = partition:authentication() == "ped"
    if own and (is_ped or not ctx.options.domain and not ctx.options.defaultdomain) then
        return own
    elseif is_ped and not partition:takes_keys() then
        refuse(('the cloning domain of partition "%s" stays behind its PED'):format(
            partition.label), "'keyferry partition restore' brings it into a partition that has "
            .. "the same one")
    end
    local secrets = assert(ctx:secrets{ { "domain", of = partition } })
    return ctx:domain(secrets.domain)
end

local function from_partition(ctx)
    local hsm = assert(keyferry.backup_hsm(ctx.options.serial))
    local partition = assert(hsm:partition(ctx.options.tokenpar))
    if partition:unfinished() then
        refuse(('partition "%s" is an unfinished backup: the run that made it was cut off')
            :format(partition.label), "finish it with the same command that began it")
    end
    local secrets = assert(ctx:secrets{ { "tokenpw", of = partition } })
    local session = assert(partition:login(secrets.tokenpw))
    return { source = session, domain = domain_of(ctx, partition, session), partition = partition,
             engine = ctx:engine(hsm), name = ('partition "%s" on HSM "%s"'):format(
                 partition.label, hsm.name) }
end

-- A partition of the scratch HSM, whose passwords nobody knows.
local function create(run, domain, of)
    local password <close> = keyferry.random_secret()
    local so_password <close> = keyferry.random_secret()
    local partition, err = run.scratch:create_partition{
        label = SCRATCH, password = password, so_password = so_password, domain = domain,
        unfinished = of,
    }
    if not partition then
        return nil, err
    end
    run.restored = partition
    run.session, err = partition:login(password, { writable = true })
    return run.session, err
end

-- Restoring ---------------------------------------------------------------------------

local RESTORED = { cloned = "restored", failed = "failed", skipped = "skipped" }

local function tell_restored(ctx, result)
    local object, err = result.object, result.err
    if err then
        ctx:result('Object "%s" (handle %d) not restored: %s', object.label or "", result.handle,
                   tostring(err))
    end
    ctx:event{
        event = "object", status = RESTORED[result.status] or result.status,
        label = object.label, class = object.class, key_type = object.key_type,
        id = object.id and ctx:hex(object.id), handle = result.handle,
        lost = result.lost ~= "" and result.lost or nil, reason = err and tostring(err),
        code = err and err.code,
    }
end

-- What is written on a paper, which is finished when the drill is.
local function held_back(run, paper)
    return paper and {
        begin = function(_, facts) return paper:begin(facts) end,
        add = function(_, result, digest) return paper:add(result, digest) end,
        finish = function(_, _, domain)
            run.paper_domain = domain
            return true
        end,
    }
end

local function restore(ctx, run, paper)
    return keyferry.backup{
        source = run.source, source_engine = run.engine, domain = run.domain,
        create = function(domain, of) return create(run, domain, of) end,
        discard = function() end, -- the scratch HSM goes as a whole
        report = held_back(run, paper),
        on_mismatch = function(attempt)
            local another = ctx:another_domain(attempt)
            run.domain = another or run.domain
            return another
        end,
        on_result = function(result) tell_restored(ctx, result) end,
        on_progress = function(done, total) ctx:progress(done, total) end,
    }
end

-- Comparing ---------------------------------------------------------------------------

local function tell_compared(ctx, run, found)
    run.challenged = run.challenged + (found.verified and 1 or 0)
    if found.status ~= "same" then
        ctx:compare(found, { source = run.partition, target = run.restored })
    end
end

local function compare(ctx, run)
    if ctx.options.file then
        assert(run.source:rewind())
    end
    return keyferry.verify{
        source = run.source, target = run.session, domain = run.domain,
        source_engine = run.engine, challenge = true,
        on_result = function(found) tell_compared(ctx, run, found) end,
        on_progress = function(done, total) ctx:progress(done, total) end,
    }
end

-- The end -------------------------------------------------------------------------------

-- What was not good, as an error or a sentence; nil: all was. Restoring tells most.
local function fault(report, outcome)
    if report.status ~= "success" then
        return report.reason
    elseif report.cloned == 0 then
        return "there is nothing in it, so nothing was exercised"
    elseif outcome.status == "failed" then
        return outcome.reason
    elseif outcome.status ~= "success" then
        local wrong = outcome.differing + outcome.missing + outcome.failed + outcome.extra
        return ("%d of %s not as in the backup"):format(wrong,
            count(outcome.same + wrong, "object"))
    end
    return nil
end

-- What ended before an object was restored has the status of its reason, as has a signal.
local function status_of(report, outcome, reason)
    if not reason then
        return 0
    elseif report.cloned == 0 and report.status == "failed" and not report.partial
        or type(reason) ~= "string" and (reason.code == "KFR_INTERRUPTED"
            or outcome and outcome.status == "failed") then
        return nil
    end
    return 1
end

local function say(ctx, run, report, outcome)
    local unproved = outcome and outcome.unproved or 0
    ctx:result("%d restored, %d verified, %d challenged", report.cloned,
               outcome and outcome.same or 0, run.challenged)
    if unproved > 0 then
        ctx:warn("%s could not be challenged, since their flags allow no operation that could "
            .. "tell", count(unproved, "object"))
    end
    ctx:event{
        event = "drill", label = run.partition.label, serial = run.partition.serial,
        file = ctx.options.file, restored = report.cloned, failed = report.failed,
        verified = outcome and outcome.same or 0, challenged = run.challenged,
        unproved = unproved,
    }
end

local function write_report(run, report, last, paper)
    if not paper then
        return
    end
    local copy = {}
    for name, value in pairs(report) do
        copy[name] = value
    end
    copy.status = not last.reason and "success" or report.cloned > 0 and "partial" or "failed"
    copy.reason, copy.partial = last.reason, last.status == 1
    local ok, err = paper:finish(copy, run.paper_domain)
    if not ok and not last.reason then
        last.status, last.reason = 7, ("all is good, but the report could not be written: %s")
            :format(tostring(err))
    end
end

local function exercise(ctx, run, paper)
    local report = restore(ctx, run, paper)
    local outcome = report.cloned > 0 and not (report.reason
        and report.reason.code == "KFR_INTERRUPTED") and compare(ctx, run) or nil
    local reason = fault(report, outcome)
    local last = { status = status_of(report, outcome, reason), reason = reason }
    say(ctx, run, report, outcome)
    local ok, err = run.scratch:remove()
    if not ok then
        ctx:warn("the scratch HSM in %s could not be removed: %s", run.scratch.path,
                 tostring(err))
        last.status, last.reason = last.status ~= 0 and last.status or 7, reason or err
    else
        ctx:print("The scratch HSM is removed.")
    end
    write_report(run, report, last, paper)
    return ctx:finish(last)
end

local function run(ctx)
    local paper = ctx:report()
    local drill = ctx.options.file and from_stream(ctx) or from_partition(ctx)
    local source <close> = drill.source -- luacheck: ignore source
    local scratch <close> = assert(keyferry.scratch_hsm())
    drill.scratch, drill.challenged = scratch, 0
    ctx:report{ source = not ctx.options.file and drill.partition.hsm or nil, target = scratch }
    ctx:note("Restoring %s (serial %s) into a scratch HSM.", drill.name,
             drill.partition.serial)
    return exercise(ctx, drill, paper)
end

local function rules(options)
    if options.file and (options.tokenpar or options.serial or options.tokenpw) then
        return "-file names a stream; -tokenpar, -serial and -tokenpw name a backup partition"
    elseif not options.file and not (options.tokenpar and options.serial) then
        return "a drill needs -tokenpar and -serial, or -file"
    elseif options.file == "-" then
        return "a drill reads a stream twice, so it takes one from a file"
    elseif options.ped and not options.file then
        return "-ped has no effect without -file"
    elseif options.force and not options.report then
        return "-force has no effect without -report"
    end
    return nil
end

return {
    name = "partition drill",
    summary = "Restore a backup to a scratch HSM, verify it, use its keys, remove it again.",
    category = "reads",
    privileges = { "admin", "operator" },
    options = {
        option("tokenpar", { required = false,
            help = "The backup partition: its label or PKCS#11 URI." }),
        option("serial", { required = false }),
        option("file", { help = "Instead of a partition: the file of a sealed stream." }),
        option("tokenpw", { prompt = "Please enter the password for the user on the backup "
            .. "token:" }),
        option("domain", { prompt = "Please enter the cloning domain of the backup:",
            help = "The cloning domain of a stream, or of a backup partition that keeps its own "
                .. "to itself or has none; KEYFERRY_DOMAIN, or asked for, without it." }),
        option("defaultdomain"),
        option("ped"),
        option("report"),
        option("force", { help = "Overwrite a report that is there." }),
    },
    rules = rules,
    examples = {
        "keyferry partition drill -tokenpar sa78par1backup -serial 496771",
        "keyferry partition drill -file sa78par1.stream -report drill.json",
    },
    run = run,
}
