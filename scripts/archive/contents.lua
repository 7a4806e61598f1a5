-- SPDX-License-Identifier: MIT
-- archive contents: every object of a sealed stream. With the domain each is authenticated,
-- with all before it, when it is shown; without, it is what somebody wrote there.
local keyferry = require("keyferry")

local archive = keyferry.archive

local LINE = "%-17s  %-14s  %-16s  %s"

local function domain_of(ctx)
    local ped = ctx.options.ped
    return ctx:domain(assert(ctx:secrets{ { "domain", quiet = not ped, key = ped } }).domain)
end

local function tell(ctx, object, is_authentic)
    local known = object:attributes()
    local kind = known.key_type or known.certificate_type
    local id = known.id and known.id ~= "" and ctx:hex(known.id)
    if object.trouble then
        ctx:warn("object %d: %s", object.handle, tostring(object.trouble))
    end
    if object.handle == 1 then
        ctx:result(LINE, "CLASS", "TYPE", "ID", "LABEL")
    end
    ctx:result(LINE, known.class or "-", kind or "-", id or "-", known.label or "")
    ctx:event({
        event = "object", number = object.handle, label = known.label, class = known.class,
        key_type = kind, id = id or nil, authenticated = is_authentic,
        reason = object.trouble and tostring(object.trouble),
    })
end

local function conclude(ctx, found)
    if found.objects > 0 then
        ctx:print("")
    end
    ctx:print("%d object%s", found.objects, found.objects == 1 and "" or "s")
    if found.err then
        return nil, found.err
    elseif found.failed > 0 then
        ctx:warn("%d objects of the partition could not be put into it", found.failed)
    end
    if not found.authenticated then
        ctx:print("Nothing of this is authenticated; with KEYFERRY_DOMAIN, -domain or -ped it is.")
    end
    return 0
end

local function run(ctx)
    local domain <close> = domain_of(ctx)
    local reader <close> = assert(archive.open(ctx.options.file))
    return conclude(ctx, archive.read(reader, {
        domain = domain,
        on_object = function(object) tell(ctx, object, domain ~= nil) end,
    }))
end

return {
    name = "archive contents",
    summary = "List the objects of a sealed stream.",
    category = "reads",
    privileges = { "admin", "operator" },
    options = {
        keyferry.option("file", { word = true, required = true,
            help = "The file of the sealed stream; - is the standard input." }),
        keyferry.option("domain", { shares = false,
            help = "The cloning domain of its source: what is shown is authenticated. "
                .. "KEYFERRY_DOMAIN without it; never asked for." }),
        keyferry.option("defaultdomain"),
        keyferry.option("ped"),
    },
    examples = { "keyferry archive contents payments.stream" },
    run = run,
}
