-- SPDX-License-Identifier: MIT
-- Only the keys that sign.
--
-- Why: a signing key that is lost cannot be had again, and everybody who trusts it has to be
-- told of another. A key that decrypts is under escrow already, and each further copy is one
-- more place where it can be lost. So what signs is backed up, and nothing else; with -public
-- the public keys and certificates of the same id, too.
--
--   keyferry run scripts/examples/signing-keys.lua -partition ca -tokenpar ca-sign -serial 496771
--
-- The backup partition is one that `keyferry partition create` made. As a command of your own:
-- copy this file to ~/.config/keyferry/scripts/backup/signing-keys.lua, then
-- `keyferry backup signing-keys ...`.
local keyferry = require("keyferry")

local SIGNS = { class = "private_key", sign = true }

local function ids_of(keys)
    local ids = {}
    for _, key in ipairs(keys) do
        ids[key.id or ""] = true
    end
    ids[""] = nil -- no id belongs to nobody
    return ids
end

-- The private keys that sign and, by their id, what belongs to them.
local function with_public(keys)
    local ids = ids_of(keys)
    local wanted = { public_key = true, certificate = true }
    return function(object)
        return object.class == "private_key" and object:attributes().sign == true
            or wanted[object.class] and ids[object.id] or false
    end
end

local function run(ctx)
    local options = ctx.options
    local hsm = assert(keyferry.backup_hsm(options.serial))
    local partition = assert(keyferry.partition(options.partition, { except = hsm }))
    local backup = assert(hsm:partition(options.tokenpar))
    local source <close> = assert(ctx:login(partition))
    local target <close> = assert(ctx:login(backup, { secret = "tokenpw", writable = true }))
    local keys = assert(source:find(SIGNS))
    if #keys == 0 then
        return ctx:finish{ code = "KFR_NOT_FOUND", reason = "no key of the partition signs" }
    end
    return ctx:conclude(keyferry.backup{
        source = source, target = target, mode = "add", verify = true,
        select = options.public and with_public(keys) or SIGNS,
        on_result = function(result) ctx:tell(result, partition) end,
    }, backup.label)
end

return {
    name = "backup signing-keys",
    summary = "Back up the keys that sign, and nothing else.",
    category = "writes",
    privileges = { "admin", "operator" },
    options = {
        { name = "partition", value = "name", kind = "label", required = true,
          complete = "partitions", help = "The partition with the keys." },
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
        { name = "public", kind = "flag",
          help = "Also the public keys and certificates that have the id of one of them." },
    },
    examples = { "keyferry backup signing-keys -partition ca -tokenpar ca-sign -serial 496771" },
    run = run,
}
