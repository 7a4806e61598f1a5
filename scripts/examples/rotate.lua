-- SPDX-License-Identifier: MIT
-- One backup partition a day, of which the last few stay.
--
-- Why: what was deleted or spoilt by mistake is found out days later, when last night's backup
-- is just as wrong. So every night makes a partition of its own, payments-2026-11-24, and those
-- that are too old go; but only once the new one is whole, proved and not empty.
--
--   keyferry run scripts/examples/rotate.lua -partition payments -serial 496771 -keep 7 -force
--
-- The newest is never removed, nor is anything when the new backup failed, nor a partition of
-- another name than PREFIX-YYYY-MM-DD. Run twice a day, the second run adds what is new.
-- From cron: secrets in files (KEYFERRY_PASSWORD_FILE, _TOKENPW_, _TOKENSOPWD_, _DOMAIN_), and
-- -force, since removing asks. As a command of your own: copy this file to
-- ~/.config/keyferry/scripts/backup/rotate.lua.
local keyferry = require("keyferry")

local DATE = "^%d%d%d%d%-%d%d%-%d%d$"

-- The partitions that are backups of ours, the newest first.
local function dated(hsm, prefix)
    local list = {}
    for _, partition in ipairs(assert(hsm:partitions())) do
        local front, date = partition.label:sub(1, #prefix + 1), partition.label:sub(#prefix + 2)
        if front == prefix .. "-" and date:find(DATE) then
            list[#list + 1] = partition
        end
    end
    table.sort(list, function(a, b) return a.label > b.label end)
    return list
end

-- The backup itself: `partition backup`, every clone challenged. Gives a status, and how many
-- objects the new partition holds.
local function back_up(ctx, hsm, label)
    local options = ctx.options
    local there = #assert(hsm:find_partitions(label)) > 0
    local password = assert(ctx:secret("password"))
    local tokenpw = assert(ctx:secret("tokenpw", { new = not there }))
    local status = ctx:run("partition backup", {
        partition = options.partition, tokenpar = label, serial = options.serial, verify = true,
        add = there, password = password, tokenpw = tokenpw, tokensopwd = options.tokensopwd,
        domain = options.domain,
    })
    if status ~= 0 then
        return status
    end
    local session <close> = assert(assert(hsm:partition(label)):login(tokenpw))
    return status, #assert(session:find())
end

-- Those after the first `keep`, and never the one that has just been made, whatever the clock
-- said when the others were.
local function too_old(list, keep, label)
    local old = {}
    for i, partition in ipairs(list) do
        if partition.label > label then
            keep = keep + 1 -- from a day to come: none of those that count
        elseif i > keep and partition.label ~= label then
            old[#old + 1] = partition
        end
    end
    return old
end

local function remove(ctx, hsm, old)
    local lines = { ("%d old backups will be removed from HSM \"%s\":"):format(#old, hsm.name) }
    for _, partition in ipairs(old) do
        lines[#lines + 1] = ("%s (serial %s)"):format(partition.label, partition.serial)
    end
    assert(ctx:confirm(lines))
    for _, partition in ipairs(old) do
        assert(hsm:delete_partition(partition))
        ctx:print('Partition "%s" removed', partition.label)
        ctx:event{ event = "partition", status = "removed", label = partition.label,
                   serial = partition.serial }
    end
end

local function run(ctx)
    local options = ctx.options
    local hsm = assert(keyferry.backup_hsm(options.serial))
    local source = assert(keyferry.partition(options.partition, { except = hsm }))
    local prefix = options.prefix or source.label
    local label = ("%s-%s"):format(prefix, options.date or os.date("%Y-%m-%d"))
    if #label > 32 then
        return ctx:finish{ code = "KFR_REFUSED", hint = "give a shorter one with -prefix",
                           reason = ("the label %s is longer than 32 bytes"):format(label) }
    end
    local status, count = back_up(ctx, hsm, label)
    if status ~= 0 then
        return ctx:finish{ status = status, reason = "the new backup is not whole, so that no "
                           .. "old one was removed" }
    elseif count == 0 then
        return ctx:finish{ code = "KFR_REFUSED", reason = "the new backup is empty, so that no "
                           .. "old one was removed" }
    end
    local list = dated(hsm, prefix)
    if list[1].label > label then
        ctx:warn('partition "%s" is from a day to come; it is left alone', list[1].label)
    end
    local old = too_old(list, options.keep, label)
    if #old > 0 then
        remove(ctx, hsm, old)
    end
    ctx:print("%d backups are there", #list - #old)
    return 0
end

-- A day that there is, written as the labels are.
local function rules(options)
    local date = options.date
    local y, m, d = (date or ""):match("^(%d%d%d%d)-(%d%d)-(%d%d)$")
    if date and (not y or os.date("%Y-%m-%d", os.time{ year = y, month = m, day = d }) ~= date) then
        return "-date is a day, as in 2026-11-24"
    end
    return nil
end

return {
    name = "backup rotate",
    summary = "Back up to a partition of today, and remove the oldest.",
    category = "destroys",
    privileges = { "admin" },
    rules = rules,
    options = {
        { name = "partition", value = "name", kind = "label", required = true,
          complete = "partitions", help = "The partition that is backed up." },
        { name = "serial", value = "serialnum", kind = "serial", required = true,
          complete = "serials", help = "The backup HSM." },
        { name = "keep", value = "n", kind = "number", required = true, min = 1, max = 10000,
          help = "How many backups stay, the new one among them." },
        { name = "prefix", value = "text", kind = "string", max = 21,
          help = "What their labels begin with; the partition's label without it." },
        { name = "date", value = "yyyy-mm-dd", kind = "string",
          help = "The day that the new one is for; today without it." },
        { name = "force", kind = "flag", help = "Remove without asking." },
        { name = "password", value = "password", kind = "secret", max = 255,
          prompt = "Please enter the password for the HSM user partition:",
          help = "The partition's password; KEYFERRY_PASSWORD, or asked for, without it." },
        { name = "tokenpw", value = "password", kind = "secret", max = 255,
          prompt = "Please enter a password for the user on the backup token:",
          help = "The backup partitions'; KEYFERRY_TOKENPW, or asked for, without it." },
        { name = "tokensopwd", value = "password", kind = "secret", max = 255,
          help = "Their Security Officer's; KEYFERRY_TOKENSOPWD, or asked for, without it." },
        { name = "domain", value = "domain", kind = "secret", max = 1024,
          help = "The cloning domain; KEYFERRY_DOMAIN, or asked for, without it." },
    },
    examples = { "keyferry backup rotate -partition payments -serial 496771 -keep 7 -force" },
    run = run,
}
