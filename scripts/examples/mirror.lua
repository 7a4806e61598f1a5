-- SPDX-License-Identifier: MIT
-- The same backup on two (or more) HSMs, and all of them compared with the source.
--
-- Why: one backup HSM in the same rack burns with the rest, and a second copy that drifts from
-- the first is found out on the day it is needed. So each gets what is new, and then every one
-- is compared with the source in both directions: what it lacks, what it has too much, and
-- keys whose rights are others. A difference is status 1, however well the cloning went.
--
--   keyferry run scripts/examples/mirror.lua -partition payments -tokenpar payments-backup \
--       -serials 496771,496772 [-compare]
--
-- -compare only compares. The backup partitions are called alike, are there already, and have
-- one password; an HSM that cannot be reached does not keep the others from their backup. As a
-- command of your own: copy this file to ~/.config/keyferry/scripts/backup/mirror.lua.
local keyferry = require("keyferry")

-- Tells what `from` has and `to` has not, and with `rights` what has others there; gives how
-- much that is.
local function compare(ctx, from, to, what, rights)
    local plan, count = assert(keyferry.plan{ source = from, target = to, mode = "add" }), 0
    for _, item in ipairs(plan.items) do
        local told = item.status == "clone" and what or item.err and tostring(item.err)
            or rights and item.differs and "differs in " .. item.differs
        if told then
            count = count + 1
            ctx:warn('"%s" (handle %d): %s', item.object.label or "", item.handle, told)
        end
    end
    return count
end

-- One backup HSM. True when it holds what the source holds.
local function mirror(ctx, partition, source, hsm)
    local backup = assert(hsm:partition(ctx.options.tokenpar))
    local target <close> = assert(ctx:login(backup, { secret = "tokenpw",
        writable = not ctx.options.compare }))
    if not ctx.options.compare then
        local report = keyferry.backup{
            source = source, target = target, mode = "add", verify = true,
            on_result = function(result) ctx:tell(result, partition) end,
        }
        if report.status ~= "success" then
            error(report.reason, 0)
        end
    end
    local count = compare(ctx, source, target, "is not on the backup", true)
        + compare(ctx, target, source, "is not in the source")
    ctx:print('HSM "%s": %s', hsm.name, count == 0 and "like the source"
        or count .. " differences from the source")
    return count == 0
end

local function run(ctx)
    local options, good, last = ctx.options, 0, nil
    local partition = assert(keyferry.partition(options.partition))
    local source <close> = assert(ctx:login(partition))
    for _, serial in ipairs(options.serials) do
        local ok, same = pcall(function()
            return mirror(ctx, partition, source, assert(keyferry.backup_hsm(serial)))
        end)
        if ok and same then
            good = good + 1
        elseif not ok and same.code == "KFR_INTERRUPTED" then
            error(same, 0)
        elseif not ok then
            last = same
            ctx:warn("HSM %s: %s", serial, tostring(same))
        end
    end
    if good == #options.serials then
        return ctx:finish{}
    elseif good == 0 and last then
        return nil, last
    end
    return ctx:finish{ status = 1, reason = ("%d of %d backups are not like the source"):format(
        #options.serials - good, #options.serials) }
end

return {
    name = "backup mirror",
    summary = "Back up to several HSMs and compare each with the source.",
    category = "writes",
    privileges = { "admin", "operator" },
    options = {
        { name = "partition", value = "name", kind = "label", required = true,
          complete = "partitions", help = "The source: its label or PKCS#11 URI." },
        { name = "tokenpar", value = "name", kind = "label", required = true,
          complete = "partitions", help = "The backup partition on each of the HSMs." },
        { name = "serials", value = "serialnum,...", kind = "list", required = true,
          help = "The backup HSMs." },
        { name = "password", value = "password", kind = "secret", max = 255,
          prompt = "Please enter the password for the HSM user partition:",
          help = "The partition's password; KEYFERRY_PASSWORD, or asked for, without it." },
        { name = "tokenpw", value = "password", kind = "secret", max = 255,
          prompt = "Please enter the password for the user on the backup tokens:",
          help = "The backup partitions'; KEYFERRY_TOKENPW, or asked for, without it." },
        { name = "compare", kind = "flag", help = "Only compare; clone nothing." },
    },
    examples = { "keyferry backup mirror -partition payments -tokenpar payments-backup "
        .. "-serials 496771,496772" },
    run = run,
}
