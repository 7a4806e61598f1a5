-- SPDX-License-Identifier: MIT
-- domain split: the text of a domain as shares, some of which give it back.
local keyferry = require("keyferry")

local option, ped = keyferry.option, keyferry.ped

local function run(ctx)
    local options = ctx.options
    assert(ped.can_write(options.path or {}))
    local secret <close> = assert(ctx:secret("domain", { new = true }))
    local shares = assert(ped.split(secret, { m = options.m, n = options.n }))
    assert(ctx:give_shares(shares, options.path, ("throw away what was written down of set %s")
        :format(shares[1]:set())))
    ctx:tell_key("domain", secret)
    if not options.path then
        ctx:note("'keyferry domain join' tells whether what was written down gives this "
            .. "check value.")
    end
    return 0
end

return {
    name = "domain split",
    summary = "Split the text of a domain into shares, M of which give it back.",
    category = "writes",
    privileges = { "admin" },
    options = {
        option("m", { required = true }),
        option("n", { required = true, help = "How many shares there are, at most 16." }),
        option("domain", { prompt = "Please enter the cloning domain to be split:",
            again = "Please re-enter the cloning domain to be split:",
            help = "The domain, at most 250 bytes; KEYFERRY_DOMAIN, or asked for, without it." }),
        option("path"),
    },
    rules = ped.conflict,
    examples = { "keyferry domain split -m 2 -n 3 -path /media/one,/media/two,/media/three" },
    run = run,
}
