-- SPDX-License-Identifier: MIT
-- The domain of today, else one of those of former years.
--
-- Why: a partition that another program made has no cloning domain of its own and takes the one
-- given. Domains are changed, and a backup partition keeps for ever the one it was made with;
-- which of them that was in its year, nobody remembers. This tries them one after the other, as
-- somebody at the terminal would, and nothing is cloned until one fits.
--
--   export KEYFERRY_DOMAIN_FILE=/etc/keyferry/domain
--   export KEYFERRY_OLD_DOMAIN1_FILE=/etc/keyferry/domain-2025    (and 2, 3, ... up to a gap)
--   keyferry run scripts/examples/old-domains.lua -partition legacy -tokenpar legacy-backup \
--       -serial 496771
--
-- It tells the number of the one that fitted, and never the domain. Status 4: none did. As a
-- command of your own: copy this file to ~/.config/keyferry/scripts/backup/old-domains.lua.
local keyferry = require("keyferry")

-- The texts, read before anything is opened: a file that cannot be read ends the run.
local function old_domains(ctx)
    local list = {}
    repeat
        local text, err = ctx:secret{ env = "KEYFERRY_OLD_DOMAIN" .. #list + 1, quiet = true }
        if err then
            error(err, 0)
        end
        table.insert(list, text)
    until not text
    return list
end

local function run(ctx)
    local options, used = ctx.options, 0
    local hsm = assert(keyferry.backup_hsm(options.serial))
    local partition = assert(keyferry.partition(options.partition, { except = hsm }))
    local backup = assert(hsm:partition(options.tokenpar))
    local old = old_domains(ctx)
    local domain = assert(keyferry.domain(assert(ctx:secret("domain"))))
    local source <close> = assert(ctx:login(partition))
    local target <close> = assert(ctx:login(backup, { secret = "tokenpw", writable = true }))
    local report = keyferry.backup{
        source = source, target = target, mode = "add", domain = domain,
        on_mismatch = function(attempt)
            used = attempt
            return old[attempt] and assert(keyferry.domain(old[attempt]))
        end,
        on_result = function(result) ctx:tell(result, partition) end,
    }
    if old[used] then
        ctx:note("Old domain %d of %d fits.", used, #old)
    end
    return ctx:conclude(report, backup.label)
end

return {
    name = "backup old-domains",
    summary = "Back up under the domain of today, else under an old one.",
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
        { name = "domain", value = "domain", kind = "secret", max = 1024,
          prompt = "Please enter the cloning domain of today:",
          help = "The domain to begin with; KEYFERRY_DOMAIN, or asked for, without it." },
    },
    examples = { "keyferry backup old-domains -partition legacy -tokenpar legacy-backup "
        .. "-serial 496771" },
    run = run,
}
