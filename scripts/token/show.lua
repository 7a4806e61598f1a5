-- SPDX-License-Identifier: MIT
-- token show: what is on one backup token, or on all of them. Nobody logs in.
local keyferry = require("keyferry")

local option = keyferry.option

local function user_state(token)
    if token.user_pin_locked then
        return "locked"
    end
    return token.user_pin_initialized and "ready" or "not initialised"
end

local function space(token)
    return token.free_private and ("%d of %s"):format(token.free_private,
        token.total_private or "?")
end

local function show(ctx, hsm, partitions)
    local rows = {}
    ctx:fields({
        { "Token", hsm.name }, { "Serial", hsm.serial }, { "Kind", ctx:kind_of(hsm) },
        { "Partitions", #partitions },
    })
    ctx:event({ event = "token", name = hsm.name, serial = hsm.serial, kind = hsm.kind,
        authentication = hsm.authentication, partitions = #partitions })
    for i, partition in ipairs(partitions) do
        local token = partition.token
        rows[i] = { partition.label, partition.serial, user_state(token), space(token) }
        ctx:event({
            event = "partition", label = partition.label, serial = partition.serial,
            uri = partition.uri, hsm = hsm.name, hsm_serial = hsm.serial,
            authentication = partition:authentication(), crypto_officer = user_state(token),
            free_private = token.free_private,
            total_private = token.total_private,
        })
    end
    if #rows > 0 then
        ctx:columns({ "PARTITION", "SERIAL", "CRYPTO OFFICER", "FREE BYTES" }, rows)
    end
end

local function run(ctx)
    local unreadable, last = 0, nil
    local serial = ctx.options.serial
    local hsms = serial and { assert(keyferry.backup_hsm(serial)) } or assert(keyferry.hsms())
    for i, hsm in ipairs(hsms) do
        local partitions, problem = hsm:partitions()
        if i > 1 then
            ctx:result("")
        end
        if partitions then
            show(ctx, hsm, partitions)
        else
            ctx:warn("HSM \"%s\": %s", hsm.name, tostring(problem))
            unreadable, last = unreadable + 1, problem
        end
    end
    return ctx:finish_looking(unreadable, #hsms, last)
end

return {
    name = "token show",
    summary = "Show what is on the backup tokens.",
    category = "reads",
    privileges = { "admin", "operator", "monitor" },
    options = {
        option("serial", { required = false, help = "Only the token with this serial number." }),
    },
    examples = { "keyferry token show -serial 496771" },
    run = run,
}
