-- SPDX-License-Identifier: MIT
-- Several partitions to one backup HSM, each to a partition of its own.
--
-- Why: an HSM has a partition for each application, and each has its own Crypto Officer and
-- PIN; one backup HSM in another building takes them all. One that fails must not keep the
-- others from their backup, and must not be overlooked at the end.
--
--   keyferry run scripts/examples/gather.lua -partitions payments,mail -serial 496771
--
-- backs payments up to payments-backup and mail to mail-backup; what is not there is made, what
-- is there is added to. Each partition has its own password: KEYFERRY_PASSWORD_PAYMENTS (the
-- label in capitals, _ for what is no letter or digit) or the file that
-- KEYFERRY_PASSWORD_PAYMENTS_FILE names; at a terminal it is asked for. No partition is tried
-- with the password of another: a few of those lock it. The rest is as for `partition backup`.
-- As a command of your own: copy this file to ~/.config/keyferry/scripts/backup/gather.lua.
local keyferry = require("keyferry")

local SUFFIX = "-backup"

local function password_of(ctx, label)
    return ctx:secret{
        env = "KEYFERRY_PASSWORD_" .. label:upper():gsub("[^A-Z0-9]", "_"),
        prompt = ('Please enter the password for the partition "%s":'):format(label),
    }
end

-- One partition; its exit status.
local function back_up(ctx, hsm, label)
    local password, err = password_of(ctx, label)
    if not password then
        ctx:warn('partition "%s": %s; %s', label, err.what, err.hint or "")
        return 3
    end
    local there = assert(hsm:find_partitions(label .. SUFFIX))
    return ctx:run("partition backup", {
        partition = label, tokenpar = label .. SUFFIX, serial = ctx.options.serial,
        add = #there > 0, verify = ctx.options.verify, password = password,
        tokenpw = ctx.options.tokenpw, tokensopwd = ctx.options.tokensopwd,
        domain = ctx.options.domain,
    })
end

local function run(ctx)
    local hsm = assert(keyferry.backup_hsm(ctx.options.serial))
    local failed, last, good = {}, 0, 0
    for _, label in ipairs(ctx.options.partitions) do
        local status = back_up(ctx, hsm, label)
        if status == 130 then
            return ctx:finish{ status = status, reason = "interrupted" }
        elseif status ~= 0 then
            failed[#failed + 1], last = label, status
        else
            good = good + 1
        end
    end
    if #failed == 0 then
        return ctx:finish{}
    end
    return ctx:finish{ status = good == 0 and last or 1,
        reason = ("no good backup of %s"):format(table.concat(failed, ", ")) }
end

-- Every label has room for what is added, and no two share a variable or a backup.
local function rules(options)
    local seen = {}
    for _, label in ipairs(options.partitions) do
        local name = label:upper():gsub("[^A-Z0-9]", "_")
        if #label + #SUFFIX > 32 then
            return ('the label "%s" is too long: %s is added to it'):format(label, SUFFIX)
        elseif seen[name] then
            return ('"%s" and "%s" would have one password'):format(seen[name], label)
        end
        seen[name] = label
    end
    return nil
end

return {
    name = "backup gather",
    summary = "Back up several partitions to one HSM.",
    category = "writes",
    privileges = { "admin" },
    rules = rules,
    options = {
        { name = "partitions", value = "name,...", kind = "list", required = true,
          help = "The labels of the partitions that are backed up." },
        { name = "serial", value = "serialnum", kind = "serial", required = true,
          complete = "serials", help = "The backup HSM." },
        { name = "verify", kind = "flag", help = "Challenge every clone." },
        { name = "tokenpw", value = "password", kind = "secret", max = 255,
          help = "The backup partitions'; KEYFERRY_TOKENPW, or asked for, without it." },
        { name = "tokensopwd", value = "password", kind = "secret", max = 255,
          help = "Their Security Officer's, when one is to be made; KEYFERRY_TOKENSOPWD, or "
              .. "asked for, without it." },
        { name = "domain", value = "domain", kind = "secret", max = 1024,
          help = "The cloning domain; KEYFERRY_DOMAIN, or asked for, without it." },
    },
    examples = { "keyferry backup gather -partitions payments,mail -serial 496771" },
    run = run,
}
