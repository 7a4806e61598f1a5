-- SPDX-License-Identifier: MIT
-- domain show: the check value of a domain string. Tells one domain from another and
-- nothing else about it.
local keyferry = require("keyferry")

local function given(ctx)
    local text, err
    if ctx.options.defaultdomain then
        return keyferry.default_domain()
    end
    text, err = ctx:secret({
        option = "domain", env = "KEYFERRY_DOMAIN",
        prompt = "Please enter the cloning domain:",
    })
    if not text then
        return nil, err
    end

    return keyferry.domain(text)
end

local function run(ctx)
    local check
    local domain, err = given(ctx)
    if not domain then
        return nil, err
    end
    check = domain:check()
    domain:close()
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
            help = "The domain string; KEYFERRY_DOMAIN, or asked for, without it." },
        { name = "defaultdomain", kind = "flag", help = "The default domain string." },
    },
    rules = rules,
    examples = { "keyferry domain show" },
    run = run,
}
