-- SPDX-License-Identifier: MIT
-- Clones whose labels say where they came from, and when.
--
-- Why: one backup partition takes the keys of several sources, or of several days, and "signing
-- key" three times over tells nobody which is which. Each clone's label begins with a tag;
-- nothing else of it is changed, and the originals stay as they are.
--
--   keyferry run scripts/examples/renamed.lua -partition payments -tokenpar archive \
--       -serial 496771 -tag payments/2026-11/
--
-- A tag is for one run: when the backup partition has labels that begin with it, the run is
-- refused, since a clone by another name is not known again as the one that is there. As a
-- command of your own: copy this file to ~/.config/keyferry/scripts/backup/renamed.lua.
local keyferry = require("keyferry")

local function check_tag(target, tag)
    for _, object in ipairs(assert(target:find())) do
        if (object.label or ""):sub(1, #tag) == tag then
            error(keyferry.error{ code = "KFR_EXISTS", hint = "take another tag",
                what = ('"%s" is on the backup already'):format(object.label) }, 0)
        end
    end
end

local function run(ctx)
    local options = ctx.options
    local hsm = assert(keyferry.backup_hsm(options.serial))
    local partition = assert(keyferry.partition(options.partition, { except = hsm }))
    local backup = assert(hsm:partition(options.tokenpar))
    local source <close> = assert(ctx:login(partition))
    local target <close> = assert(ctx:login(backup, { secret = "tokenpw", writable = true }))
    check_tag(target, options.tag)
    return ctx:conclude(keyferry.backup{
        source = source, target = target, mode = "add", verify = true,
        changes = function(object) return { label = options.tag .. (object.label or "") } end,
        on_exists = function() return "clone" end, -- an older clone without the tag
        on_result = function(result) ctx:tell(result, partition) end,
    }, backup.label)
end

return {
    name = "backup renamed",
    summary = "Back up with a tag before the label of every clone.",
    category = "writes",
    privileges = { "admin", "operator" },
    options = {
        { name = "partition", value = "name", kind = "label", required = true,
          complete = "partitions", help = "The partition that is backed up." },
        { name = "tokenpar", value = "name", kind = "label", required = true,
          complete = "partitions", help = "The backup partition, which must be there." },
        { name = "serial", value = "serialnum", kind = "serial", required = true,
          complete = "serials", help = "The backup HSM." },
        { name = "tag", value = "text", kind = "string", max = 64, required = true,
          help = "What the labels of the clones begin with." },
        { name = "password", value = "password", kind = "secret", max = 255,
          prompt = "Please enter the password for the HSM user partition:",
          help = "The partition's password; KEYFERRY_PASSWORD, or asked for, without it." },
        { name = "tokenpw", value = "password", kind = "secret", max = 255,
          prompt = "Please enter the password for the user on the backup token:",
          help = "The backup partition's; KEYFERRY_TOKENPW, or asked for, without it." },
    },
    examples = { "keyferry backup renamed -partition payments -tokenpar archive "
        .. "-serial 496771 -tag payments/2026-11/" },
    run = run,
}
