-- SPDX-License-Identifier: MIT
-- archive verify: authenticates a sealed stream from its first byte to its last.
local keyferry = require("keyferry")

local archive = keyferry.archive

-- A domain that was typed and does not match may be typed again.
local function domain_of(ctx, check)
    local secrets = assert(ctx:secrets{ { "domain", key = ctx.options.ped } })
    local domain, attempt = ctx:domain(secrets.domain), 1
    while domain:check() ~= check do
        local another = ctx:another_domain(attempt)
        if not another then
            break
        end
        domain, attempt = another, attempt + 1
    end
    return domain
end

local function describe(ctx, head)
    ctx:fields({
        { "Source", head.label }, { "Serial number", head.serial }, { "Model", head.model },
        { "Manufacturer", head.manufacturer }, { "Made", archive.made(head.created) },
        { "By", "keyferry " .. head.keyferry }, { "Cloning domain", head.check },
    })
end

local function count(n, what)
    return ("%d %s%s"):format(n, what, n == 1 and "" or "s")
end

local function event(ctx, found)
    local head = found.head
    ctx:event({
        event = "archive", file = ctx.options.file, label = head.label, serial = head.serial,
        model = head.model, manufacturer = head.manufacturer, keyferry = head.keyferry,
        created = head.created, domain = head.check, objects = found.objects,
        failed = found.failed, skipped = found.skipped, whole = found.whole,
        authenticated = found.authenticated, reason = found.err and tostring(found.err),
        code = found.err and found.err.code,
    })
end

-- What does not belong to the domain is not shown: nothing of it is known to be so.
local function conclude(ctx, found)
    event(ctx, found)
    if found.err and found.objects > 0 then
        ctx:result("%s whole and authentic; what follows is not", count(found.objects, "object"))
    end
    if found.err then
        return nil, found.err
    end
    describe(ctx, found.head)
    ctx:result("%s, authentic and complete", count(found.objects, "object"))
    if found.skipped > 0 then
        ctx:print("%s of the partition left out when it was made",
            count(found.skipped, "object"))
    end
    if found.failed > 0 then
        return ctx:finish({ status = 1,
            reason = ("%s of the partition could not be put into it"):format(
                count(found.failed, "object")),
            hint = "it is authentic, and no whole backup: look at what 'keyferry partition send' "
                .. "said" })
    end
    return 0
end

local function run(ctx)
    local reader <close> = assert(archive.open(ctx.options.file))
    local head, done = reader:head(), 0
    local domain <close> = domain_of(ctx, head.check)
    return conclude(ctx, archive.read(reader, {
        domain = domain,
        on_object = function()
            done = done + 1
            ctx:progress(done, math.max(done, head.expected or 0))
        end,
    }))
end

return {
    name = "archive verify",
    summary = "Authenticate a sealed stream as a whole, under its domain.",
    category = "reads",
    privileges = { "admin", "operator" },
    options = {
        keyferry.option("file", { word = true, required = true,
            help = "The file of the sealed stream; - is the standard input." }),
        keyferry.option("domain", {
            prompt = "Please enter the cloning domain of the partition that was sent:",
            help = "The cloning domain of its source; KEYFERRY_DOMAIN, or asked for, without "
                .. "it." }),
        keyferry.option("defaultdomain"),
        keyferry.option("ped"),
    },
    examples = { "keyferry archive verify payments.stream" },
    run = run,
}
