-- SPDX-License-Identifier: MIT
-- ped create: a new key, as shares. The key itself is nowhere; who has enough of them has it.
local keyferry = require("keyferry")

local option, ped = keyferry.option, keyferry.ped

local function run(ctx)
    local options = ctx.options
    assert(ped.can_write(options.path or {}))
    local shares = assert(ped.create{ colour = options.colour, m = options.m, n = options.n })
    local secret <close> = assert(ped.combine(table.move(shares, 1, options.m or 1, 1, {})))
    assert(ctx:give_shares(shares, options.path, ("this key is not to be used: throw away what "
        .. "was written down of set %s, and make another one"):format(shares[1]:set())))
    ctx:tell_key(options.colour, secret)
    if not options.path then
        ctx:note("'keyferry ped combine' tells whether what was written down gives this check "
            .. "value.")
    end
    return 0
end

return {
    name = "ped create",
    summary = "Make a PED key, as shares that are written down or lie on sticks.",
    category = "writes",
    privileges = { "admin" },
    options = {
        option("colour", { required = true, choices = { "blue", "black", "red" },
            help = "Blue: Security Officer; black: Crypto Officer; red: cloning domain." }),
        option("m"),
        option("n"),
        option("path"),
    },
    rules = ped.conflict,
    examples = {
        "keyferry ped create -colour black -m 2 -n 3",
        "keyferry ped create -colour red -m 2 -n 3 -path /media/one,/media/two,/media/three",
    },
    run = run,
}
