-- SPDX-License-Identifier: MIT
-- ped split: the same key again as new shares, of a set of their own. The old ones stay good.
local keyferry = require("keyferry")

local option, ped = keyferry.option, keyferry.ped

local function run(ctx)
    local options = ctx.options
    assert(ped.can_write(options.path or {}))
    local ring = assert(ctx:ped_ring{ colour = options.colour, from = options.from })
    local secret <close> = assert(ring:secret())
    local old = ring:shares()[1]
    local shares = assert(ped.again(ring:shares(), { m = options.m, n = options.n }))
    assert(ctx:give_shares(shares, options.path, ("throw away what was written down of set %s: "
        .. "the shares of before are as good as they were"):format(shares[1]:set())))
    ctx:tell_key(shares[1]:colour(), secret)
    ctx:note("The old shares still open this key, any %d of set %s: destroy them.", old:needed(),
        old:set())
    return 0
end

return {
    name = "ped split",
    summary = "Make new shares of a key: when one is lost, or other numbers are wanted.",
    category = "writes",
    privileges = { "admin" },
    options = {
        option("m", { required = true, help = "How many of the new shares are needed." }),
        option("n", { required = true, help = "How many new shares there are, at most 16." }),
        option("from"),
        option("colour", { help = "Only shares of this colour count: for folders where "
            .. "others lie, too." }),
        option("path"),
    },
    rules = ped.conflict,
    examples = { "keyferry ped split -from /media/one,/media/two -m 3 -n 5" },
    run = run,
}
