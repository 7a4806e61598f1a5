-- SPDX-License-Identifier: MIT
-- domain show: the check value of a domain string, or of a red PED key. Tells one domain from
-- another and nothing else about it.
local keyferry = require("keyferry")

local option = keyferry.option

local function given(ctx)
    if ctx.options.defaultdomain then
        return assert(keyferry.default_domain())
    end
    return ctx:domain(assert(ctx:secrets{ { "domain", key = ctx.options.ped } }).domain)
end

local function run(ctx)
    local domain <close> = given(ctx)
    local check = domain:check()
    ctx:result("Check value: %s", check)
    ctx:event({ event = "domain", check = check })
    return 0
end

return {
    name = "domain show",
    summary = "Show the check value of a domain string or a red PED key.",
    category = "reads",
    privileges = { "admin", "operator" },
    options = {
        option("domain", { prompt = "Please enter the cloning domain:",
            help = "The domain string; KEYFERRY_DOMAIN, or asked for, without it." }),
        option("defaultdomain", { help = "The default domain string." }),
        option("ped"),
    },
    examples = { "keyferry domain show" },
    run = run,
}
