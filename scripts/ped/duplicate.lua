-- SPDX-License-Identifier: MIT
-- ped duplicate: a share once more, in another file or on the screen. It is the same share:
-- who has it twice has one.
local keyferry = require("keyferry")

local option, ped = keyferry.option, keyferry.ped

local function run(ctx)
    local to = ctx.options.to and { ctx.options.to }
    assert(ped.can_write(to or {}))
    local shares = assert(ctx:ped_shares(ctx.options.from))
    assert(ctx:give_shares(shares, to, "what was duplicated is as good as it was"))
    return 0
end

return {
    name = "ped duplicate",
    summary = "Copy a share to another stick, or show it to be written down again.",
    category = "writes",
    privileges = { "admin" },
    options = {
        option("from", { help = "The file of the share, or the folder that it is in; several "
            .. "with commas. Without it those that KEYFERRY_PED names (':' between them), else "
            .. "it is asked for." }),
        { name = "to", value = "folder", kind = "path",
            help = "Write it into this folder instead of showing it on the screen." },
    },
    examples = { "keyferry ped duplicate -from /media/one -to /media/spare" },
    run = run,
}
