-- SPDX-License-Identifier: MIT
-- domain show: the check value of a domain string. Tells one domain from another and
-- nothing else about it.
local keyferry = require("keyferry")

local function given(ctx)
    if ctx.options.defaultdomain then
        return assert(keyferry.default_domain())
    end
    return assert(keyferry.domain(assert(ctx:secret("domain"))))
end

local function run(ctx)
    local domain <close> = given(ctx)
    local check = domain:check()
    ctx:result("Check value: %s", check)
    ctx:event({ event = "domain", check = check })
    return 0
end

local function rules(options)
    if options.domain and options.defaultdomain then
        return "-domain and -defaultdomain exclude each other"
    end
    return nil
end

return {
    name = "domain show",
    summary = "Show the check value of a domain string.",
    category = "reads",
    privileges = { "admin", "operator" },
    options = {
        { name = "domain", value = "domain", kind = "secret", max = 1024,
            prompt = "Please enter the cloning domain:",
            help = "The domain string; KEYFERRY_DOMAIN, or asked for, without it." },
        { name = "defaultdomain", kind = "flag", help = "The default domain string." },
    },
    rules = rules,
    examples = { "keyferry domain show" },
    run = run,
}
