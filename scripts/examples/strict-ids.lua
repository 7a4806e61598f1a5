-- SPDX-License-Identifier: MIT
-- No key without an id.
--
-- Why: programs find a key by its CKA_ID, and what joins a private key to its certificate is
-- the id alone. A key that has none is a slip of whoever made it; after a restore nobody will
-- know whose it is. The time to notice is now, so:
--
--   * a key without an id refuses the backup, before anything is cloned (status 5);
--   * with -skip such keys are left out, everything else is backed up, and the run is partial
--     (status 1), since a backup without a key is no success.
--
--   keyferry run scripts/examples/strict-ids.lua -partition ca -tokenpar ca-backup -serial 496771
--
-- Certificates and data may have no id. As a command of your own: copy this file to
-- ~/.config/keyferry/scripts/backup/strict-ids.lua.
local keyferry = require("keyferry")

local IS_KEY = { private_key = true, public_key = true, secret_key = true }

local function nameless(object)
    return IS_KEY[object.class] and (object.id or "") == ""
end

local function run(ctx)
    local options, without = ctx.options, 0
    local hsm = assert(keyferry.backup_hsm(options.serial))
    local partition = assert(keyferry.partition(options.partition, { except = hsm }))
    local backup = assert(hsm:partition(options.tokenpar))
    local source <close> = assert(ctx:login(partition))
    local target <close> = assert(ctx:login(backup, { secret = "tokenpw", writable = true }))
    for _, object in ipairs(assert(source:find())) do
        if nameless(object) then
            without = without + 1
            ctx:warn('%s "%s" (handle %d) has no id', object.class, object.label or "",
                object.handle)
        end
    end
    if without > 0 and not options.skip then
        return ctx:finish{ code = "KFR_REFUSED", reason = "keys without an id: " .. without,
            hint = "give each one, or leave them out with -skip" }
    end
    local report = keyferry.backup{
        source = source, target = target, mode = "add",
        select = function(object) return not nameless(object) end,
        on_result = function(result) ctx:tell(result, partition) end,
    }
    if report.status ~= "success" or without == 0 then
        return ctx:conclude(report, backup.label)
    end
    return ctx:finish{ status = 1, reason = "keys left out for want of an id: " .. without,
        counts = { cloned = report.cloned, exists = report.exists, skipped = report.skipped } }
end

return {
    name = "backup strict-ids",
    summary = "Back up a partition in which every key has an id.",
    category = "writes",
    privileges = { "admin", "operator" },
    options = {
        { name = "partition", value = "name", kind = "label", required = true,
          complete = "partitions", help = "The partition that is backed up." },
        { name = "tokenpar", value = "name", kind = "label", required = true,
          complete = "partitions", help = "The backup partition, which must be there." },
        { name = "serial", value = "serialnum", kind = "serial", required = true,
          complete = "serials", help = "The backup HSM." },
        { name = "password", value = "password", kind = "secret", max = 255,
          prompt = "Please enter the password for the HSM user partition:",
          help = "The partition's password; KEYFERRY_PASSWORD, or asked for, without it." },
        { name = "tokenpw", value = "password", kind = "secret", max = 255,
          prompt = "Please enter the password for the user on the backup token:",
          help = "The backup partition's; KEYFERRY_TOKENPW, or asked for, without it." },
        { name = "skip", kind = "flag", help = "Leave such keys out, and end with status 1." },
    },
    examples = { "keyferry backup strict-ids -partition ca -tokenpar ca-backup -serial 496771" },
    run = run,
}
