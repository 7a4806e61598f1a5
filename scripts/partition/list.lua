-- SPDX-License-Identifier: MIT
-- partition list: the partitions of every HSM, or of one. Nobody logs in.
local keyferry = require("keyferry")

local option = keyferry.option

local function add(ctx, rows, hsm, partitions)
    for _, partition in ipairs(partitions) do
        rows[#rows + 1] = { partition.label, partition.serial, hsm.name, hsm.serial,
            partition.uri }
        ctx:event({
            event = "partition", label = partition.label, serial = partition.serial,
            uri = partition.uri, hsm = hsm.name, hsm_serial = hsm.serial,
            authentication = partition:authentication(),
        })
    end
end

-- An HSM that does not answer is said and counts: a shorter list must not look complete.
local function run(ctx)
    local rows, unreadable, last = {}, 0, nil
    local serial = ctx.options.serial
    local hsms = serial and { assert(keyferry.backup_hsm(serial)) } or assert(keyferry.hsms())
    for _, hsm in ipairs(hsms) do
        local partitions, problem = hsm:partitions()
        if partitions then
            add(ctx, rows, hsm, partitions)
        else
            ctx:warn("HSM \"%s\": %s", hsm.name, tostring(problem))
            unreadable, last = unreadable + 1, problem
        end
    end
    if #rows > 0 then
        ctx:columns({ "PARTITION", "SERIAL", "HSM", "HSM SERIAL", "URI" }, rows)
    elseif unreadable == 0 then
        ctx:note("There are no partitions.")
    end
    return ctx:finish_looking(unreadable, #hsms, last)
end

return {
    name = "partition list",
    summary = "List the partitions of every HSM, or of one.",
    category = "reads",
    privileges = { "admin", "operator", "monitor" },
    options = {
        option("serial", { required = false, help = "Only the HSM with this serial number." }),
    },
    examples = { "keyferry partition list", "keyferry partition list -serial 496771" },
    run = run,
}
