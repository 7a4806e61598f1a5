-- SPDX-License-Identifier: MIT
-- ped combine: whether shares open a key, and which one.
local keyferry = require("keyferry")

local option = keyferry.option

local OPEN = {
    blue = "a blue key (Security Officer)", black = "a black key (Crypto Officer)",
    red = "a red key (cloning domain)", domain = "the text of a domain",
}

local function run(ctx)
    local ring = assert(ctx:ped_ring{ colour = ctx.options.colour, from = ctx.options.from })
    local secret <close> = assert(ring:secret())
    local first = ring:shares()[1]
    ctx:print("%d share%s of set %s: they open %s.", #ring:shares(),
        #ring:shares() == 1 and "" or "s", first:set(), OPEN[first:colour()])
    ctx:tell_key(first:colour(), secret)
    return 0
end

return {
    name = "ped combine",
    summary = "Say whether shares open a key, and its check value.",
    category = "reads",
    privileges = { "admin", "operator" },
    options = {
        option("from"),
        option("colour", { help = "Only shares of this colour count: for folders where "
            .. "others lie, too." }),
    },
    examples = {
        "keyferry ped combine",
        "keyferry ped combine -from /media/one,/media/two",
    },
    run = run,
}
