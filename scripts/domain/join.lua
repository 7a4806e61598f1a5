-- SPDX-License-Identifier: MIT
-- domain join: a domain from its shares: its check value, and in a file its text.
local keyferry = require("keyferry")

local option, ped = keyferry.option, keyferry.ped

local function run(ctx)
    local file = ctx.options.file
    if file then
        assert(keyferry.can_create(file))
    end
    local ring = assert(ctx:ped_ring{ colour = "domain", from = ctx.options.from })
    local secret <close> = assert(ring:secret())
    if file then
        assert(ped.write_text(secret, file))
        ctx:print("The text of the domain is in %s.", file)
        ctx:event{ event = "file", file = file }
    end
    ctx:tell_key("domain", secret)
    return 0
end

return {
    name = "domain join",
    summary = "Say the check value of a domain that is given as shares, or write its text.",
    category = "writes",
    privileges = { "admin", "operator" },
    options = {
        option("from"),
        option("file", { help = "Write the text of the domain into this new file, for "
            .. "KEYFERRY_DOMAIN_FILE. Only its owner can read it." }),
    },
    examples = {
        "keyferry domain join",
        "keyferry domain join -from /media/one,/media/two -file domain",
    },
    run = run,
}
