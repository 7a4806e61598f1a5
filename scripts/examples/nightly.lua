-- SPDX-License-Identifier: MIT
-- The nightly backup, with a report that can be mailed as it is.
--
-- Why: a backup that nobody hears of is one that stopped months ago. This one adds what is new,
-- challenges every key, and writes a file whose first line is its Subject, whatever happened:
--
--   17 2 * * * KEYFERRY_PASSWORD_FILE=/etc/keyferry/pw KEYFERRY_TOKENPW_FILE=/etc/keyferry/tokenpw
--       keyferry run scripts/examples/nightly.lua -partition payments -tokenpar payments-backup
--       -serial 496771 -report /var/lib/keyferry/report >/dev/null 2>&1;
--       sendmail admin@example.com </var/lib/keyferry/report            (one line)
--
-- The report is there whole or not at all (keep it in a folder that only you can write). What
-- it tells of labels is plain ASCII: no label makes a header or a line of its own. A report
-- that could not be written is a failure, too. As a command of your own: copy this file to
-- ~/.config/keyferry/scripts/backup/nightly.lua.
local keyferry = require("keyferry")

-- One line, and none too long for a mail (RFC 5322 section 2.1.1).
local function plain(text)
    text = tostring(text):gsub("[^\32-\126]", function(byte)
        return ("\\x%02X"):format(byte:byte())
    end)
    return text:sub(1, 400)
end

local function backup(ctx, lines)
    local options = ctx.options
    local hsm = assert(keyferry.backup_hsm(options.serial))
    local partition = assert(keyferry.partition(options.partition, { except = hsm }))
    local copy = assert(hsm:partition(options.tokenpar))
    local source <close> = assert(ctx:login(partition))
    local target <close> = assert(ctx:login(copy, { secret = "tokenpw", writable = true }))
    return keyferry.backup{
        source = source, target = target, mode = "add", verify = true,
        on_result = function(result)
            ctx:tell(result, partition)
            if result.status ~= "exists" or result.differs then
                table.insert(lines, ('%s: %s "%s" %s'):format(result.status,
                    result.object.class or "object", plain(result.object.label or ""),
                    plain(result.err or result.differs and "differs in " .. result.differs or "")))
            end
        end,
    }
end

local function write(path, lines)
    local new = path .. ".new"
    local file, problem = io.open(new, "w")
    local ok = file and file:write(table.concat(lines, "\n"), "\n")
    if file then
        local closed, why = file:close() -- a full disk may say so only now
        ok, problem = ok and closed, why
    end
    if ok then
        return os.rename(new, path)
    end
    return nil, problem or "it could not be written"
end

local function run(ctx)
    local lines = {}
    local ok, report = pcall(backup, ctx, lines)
    local err = ok and report.reason or not ok and report
    local told = ok and ("%d cloned, %d already there, %d not cloned"):format(report.cloned,
        report.exists, report.failed) or plain(err)
    table.insert(lines, 1, "")
    table.insert(lines, 1, ("Subject: [keyferry] %s %s: %s"):format(
        plain(ctx.options.partition), err and "FAILED" or "OK", told))
    table.insert(lines, err and "The backup failed: " .. plain(err) or "The backup is complete.")
    local written, problem = write(ctx.options.report, lines)
    if not ok then
        error(report, 0)
    elseif not written and not err then
        return ctx:finish{ code = "KFR_SYSTEM", reason = "the backup is complete, but not the "
            .. "report of it: " .. problem }
    end
    return ctx:conclude(report, ctx.options.tokenpar)
end

return {
    name = "backup nightly",
    summary = "Add what is new to a backup, and write a report to be mailed.",
    category = "writes",
    privileges = { "admin", "operator" },
    options = {
        { name = "partition", value = "name", kind = "label", required = true,
          complete = "partitions", help = "The partition that is backed up." },
        { name = "tokenpar", value = "name", kind = "label", required = true,
          complete = "partitions", help = "The backup partition, which must be there." },
        { name = "serial", value = "serialnum", kind = "serial", required = true,
          complete = "serials", help = "The backup HSM." },
        { name = "report", value = "file", kind = "path", required = true,
          help = "Where the report goes; what was there is replaced." },
        { name = "password", value = "password", kind = "secret", max = 255,
          prompt = "Please enter the password for the HSM user partition:",
          help = "The partition's password; KEYFERRY_PASSWORD, or asked for, without it." },
        { name = "tokenpw", value = "password", kind = "secret", max = 255,
          prompt = "Please enter the password for the user on the backup token:",
          help = "The backup partition's; KEYFERRY_TOKENPW, or asked for, without it." },
    },
    examples = { "keyferry backup nightly -partition payments -tokenpar payments-backup "
        .. "-serial 496771 -report /var/lib/keyferry/report" },
    run = run,
}
