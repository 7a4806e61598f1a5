-- SPDX-License-Identifier: MIT
-- Clones that may do less than their originals.
--
-- Why: the archive has to read old mail for years and must never sign in anybody's name; the
-- HSM of a drill must not wrap the live keys out. What a clone may not do is taken from it when
-- it is made, and PKCS#11 has no way to give it back.
--
--   keyferry run scripts/examples/restricted.lua -partition mail -tokenpar archive \
--       -serial 496771 -without sign,unwrap
--
-- A clone that is there already and has such a right is not mended (it may be somebody's on
-- purpose) but told, and the run ends with status 1. keyferry.backup refuses changes that give
-- rights, unless it is told more_rights = true. As a command of your own: copy this file to
-- ~/.config/keyferry/scripts/backup/restricted.lua.
local keyferry = require("keyferry")

local RIGHTS = { "sign", "sign_recover", "decrypt", "unwrap", "derive", "encrypt", "verify",
                 "verify_recover", "wrap", "extractable" }

-- Those of the rights that an object has, as changes that take them.
local function taken(object, rights)
    local changes = {}
    for _, right in ipairs(rights) do
        if object:has(right) then
            changes[right] = false
        end
    end
    return changes
end

local function run(ctx)
    local options, too_free = ctx.options, 0
    local hsm = assert(keyferry.backup_hsm(options.serial))
    local partition = assert(keyferry.partition(options.partition, { except = hsm }))
    local backup = assert(hsm:partition(options.tokenpar))
    local source <close> = assert(ctx:login(partition))
    local target <close> = assert(ctx:login(backup, { secret = "tokenpw", writable = true }))
    local report = keyferry.backup{
        source = source, target = target, mode = "add",
        changes = function(object) return taken(object, options.without) end,
        on_exists = function(_, existing)
            for right in pairs(taken(existing, options.without)) do
                too_free = too_free + 1
                ctx:warn('%s "%s" (handle %d) is there already and may %s', existing.class,
                    existing.label or "", existing.handle, right)
            end
        end,
        on_result = function(result)
            result.differs = nil -- that is what was wanted
            ctx:tell(result, partition)
        end,
    }
    if report.status ~= "success" or too_free == 0 then
        return ctx:conclude(report, backup.label)
    end
    return ctx:finish{ status = 1, reason = "clones of an earlier run may do more",
        hint = "remove them from the backup, then run again",
        counts = { cloned = report.cloned, exists = report.exists } }
end

return {
    name = "backup restricted",
    summary = "Back up to clones that lack some rights of their originals.",
    category = "writes",
    privileges = { "admin", "operator" },
    options = {
        { name = "partition", value = "name", kind = "label", required = true,
          complete = "partitions", help = "The partition with the originals." },
        { name = "tokenpar", value = "name", kind = "label", required = true,
          complete = "partitions", help = "The backup partition, which must be there." },
        { name = "serial", value = "serialnum", kind = "serial", required = true,
          complete = "serials", help = "The backup HSM." },
        { name = "without", value = "right,...", kind = "list", choices = RIGHTS, required = true,
          help = "What no clone may do." },
        { name = "password", value = "password", kind = "secret", max = 255,
          prompt = "Please enter the password for the HSM user partition:",
          help = "The partition's password; KEYFERRY_PASSWORD, or asked for, without it." },
        { name = "tokenpw", value = "password", kind = "secret", max = 255,
          prompt = "Please enter the password for the user on the backup token:",
          help = "The backup partition's; KEYFERRY_TOKENPW, or asked for, without it." },
    },
    examples = { "keyferry backup restricted -partition mail -tokenpar archive -serial 496771 "
        .. "-without sign,unwrap" },
    run = run,
}
