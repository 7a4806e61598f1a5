-- SPDX-License-Identifier: MIT
-- hsm show: one HSM in detail. Nobody logs in.
local keyferry = require("keyferry")

local function show_partitions(ctx, hsm)
    local rows = {}
    for i, partition in ipairs(assert(hsm:partitions())) do
        rows[i] = { partition.label, partition.serial, partition.uri }
        ctx:event({ event = "partition", label = partition.label, serial = partition.serial,
            hsm = hsm.name, uri = partition.uri })
    end
    ctx:result("")
    if #rows == 0 then
        ctx:result("No partitions.")
    else
        ctx:columns({ "PARTITION", "SERIAL", "URI" }, rows)
    end
end

local function run(ctx)
    local hsm = assert(keyferry.hsm(ctx.options.name))
    local info = assert(hsm:info())
    ctx:fields({
        { "Name", hsm.name },
        { "Serial", hsm.serial },
        { "Kind", ctx:kind_of(hsm) },
        { "Folder", hsm.path },
        { "Module", hsm.module_path },
        { "Manufacturer", info.manufacturer },
        { "Library", info.description },
        { "Library version", info.library_version },
        { "Cryptoki version", info.cryptoki_version },
        { "Authentication", hsm.authentication },
        { "Blue key", hsm.blue_check },
        { "Engine", hsm.engine },
    })
    ctx:event({
        event = "hsm", name = hsm.name, serial = hsm.serial, kind = hsm.kind, path = hsm.path,
        module = hsm.module_path, manufacturer = info.manufacturer,
        description = info.description, library_version = info.library_version,
        cryptoki_version = info.cryptoki_version, authentication = hsm.authentication,
        blue_check = hsm.blue_check, engine = hsm.engine,
    })
    show_partitions(ctx, hsm)
    return 0
end

return {
    name = "hsm show",
    summary = "Show one HSM: its module, its settings and its partitions.",
    category = "reads",
    privileges = { "admin", "operator", "monitor" },
    options = {
        { name = "name", value = "name", kind = "string", required = true, complete = "hsms",
            help = "Its name or serial number." },
    },
    examples = { "keyferry hsm show -name vault" },
    run = run,
}
