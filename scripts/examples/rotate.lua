-- SPDX-License-Identifier: MIT
-- A new backup partition each day, LABEL-YYYYMMDD, and the last N of them kept.
--
-- Why: a backup that is only ever added to is as good as its last night. What was removed or
-- spoilt last week is still whole in last week's partition.
--
--   keyferry run scripts/examples/rotate.lua -partition payments -tokenpar payments \
--       -serial 496771 -keep 7 -force
--
-- What makes the partition is `partition backup`, with its secrets (KEYFERRY_PASSWORD,
-- _TOKENPW, _TOKENSOPWD, _DOMAIN, or files that _FILE names). Only when it ended well are old
-- ones removed: only partitions of that very pattern, the oldest first, never that of the day.
-- A second run on one day adds to it. A partition that is dated later than today says that the
-- clock is wrong; a source in which nothing is would end with N backups of nothing: both are
-- refused. Without -force it asks before it removes. As a command of your own: copy this file
-- to ~/.config/keyferry/scripts/backup/rotate.lua.
local keyferry = require("keyferry")

-- Partitions named LABEL-YYYYMMDD, the newest first.
local function dated(hsm, label)
    local list = {}
    for _, partition in ipairs(assert(hsm:partitions())) do
        if partition.label:sub(1, #label + 1) == label .. "-"
            and partition.label:sub(#label + 2):find("^%d%d%d%d%d%d%d%d$") then
            table.insert(list, partition)
        end
    end
    table.sort(list, function(a, b) return a.label > b.label end)
    return list
end

local function remove_old(ctx, hsm, today)
    local old = table.move(dated(hsm, ctx.options.tokenpar), ctx.options.keep + 1, 10000, 1, {})
    local lines = { ('To be removed from HSM "%s" with all that is in them:'):format(hsm.name) }
    for _, partition in ipairs(old) do
        assert(partition.label < today)
        table.insert(lines, ('  "%s" (serial %s)'):format(partition.label, partition.serial))
    end
    if #old > 0 then
        assert(ctx:confirm(lines))
    end
    for i = #old, 1, -1 do
        assert(hsm:delete_partition(old[i]))
        ctx:print('Partition "%s" removed', old[i].label)
    end
end

local function is_empty(partition, password)
    local source <close> = assert(partition:login(password))
    return #assert(source:find()) == 0
end

local function run(ctx)
    local options = ctx.options
    local today = options.tokenpar .. "-" .. (options.date or os.date("%Y%m%d"))
    local hsm = assert(keyferry.backup_hsm(options.serial))
    local newest = dated(hsm, options.tokenpar)[1]
    if newest and newest.label > today then
        return ctx:finish{ code = "KFR_REFUSED", hint = "set the clock, or remove that partition",
            reason = ('partition "%s" is dated later than today'):format(newest.label) }
    end
    local partition = assert(keyferry.partition(options.partition, { except = hsm }))
    local password = partition:takes_password() and assert(ctx:secret("password")) or nil
    if is_empty(partition, password) then
        return ctx:finish{ code = "KFR_REFUSED", reason = "nothing is in the partition" }
    end
    local status = ctx:run("partition backup", {
        partition = partition.uri, tokenpar = today, serial = options.serial,
        password = password, add = newest and newest.label == today, verify = true,
    })
    if status ~= 0 then
        return ctx:finish{ status = status, reason = "no new backup, so none was removed" }
    end
    remove_old(ctx, hsm, today)
    return 0
end

-- A day that there is: a backup of the 39th would be dated later than any to come.
local function is_day(date)
    local year, month, day = date:match("^(%d%d%d%d)(%d%d)(%d%d)$")
    return year and os.date("%Y%m%d", os.time{ year = year, month = month, day = day }) == date
end

local function rules(options)
    if #options.tokenpar > 23 or options.tokenpar:find("^pkcs11:") then
        return "-tokenpar takes a label of 23 bytes at most: the date is added to it"
    elseif options.date and not is_day(options.date) then
        return "-date takes a day, YYYYMMDD"
    end
    return nil
end

return {
    name = "backup rotate",
    summary = "Back up to a new partition each day and keep the last of them.",
    category = "destroys",
    privileges = { "admin" },
    options = {
        { name = "partition", value = "name", kind = "label", required = true,
          complete = "partitions", help = "The partition that is backed up." },
        { name = "tokenpar", value = "name", kind = "label", required = true,
          help = "How the backup partitions are called, before the date." },
        { name = "serial", value = "serialnum", kind = "serial", required = true,
          complete = "serials", help = "The backup HSM." },
        { name = "password", value = "password", kind = "secret", max = 255,
          prompt = "Please enter the password for the HSM user partition:",
          help = "The partition's password; KEYFERRY_PASSWORD, or asked for, without it." },
        { name = "keep", value = "count", kind = "number", min = 1, max = 1000, required = true,
          help = "How many are kept, that of the day included." },
        { name = "date", value = "YYYYMMDD", kind = "string", help = "Another day than today." },
        { name = "force", kind = "flag", help = "Remove without asking." },
    },
    rules = rules,
    examples = { "keyferry backup rotate -partition payments -tokenpar payments -serial 496771 "
        .. "-keep 7" },
    run = run,
}
