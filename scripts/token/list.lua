-- SPDX-License-Identifier: MIT
-- token list: the backup tokens, which is every HSM that can hold a backup.
local keyferry = require("keyferry")

local function run(ctx)
    local rows, unreadable, last = {}, 0, nil
    local hsms = assert(keyferry.hsms())
    for i, hsm in ipairs(hsms) do
        local partitions, problem = hsm:partitions()
        if not partitions then
            ctx:warn("HSM \"%s\": %s", hsm.name, tostring(problem))
            unreadable, last = unreadable + 1, problem
        end
        rows[i] = { hsm.serial, hsm.name, ctx:kind_of(hsm),
            partitions and #partitions or "not readable" }
        ctx:event({ event = "token", name = hsm.name, serial = hsm.serial, kind = hsm.kind,
            authentication = hsm.authentication,
            partitions = partitions and #partitions,
            reason = problem and tostring(problem) })
    end
    if #rows == 0 then
        ctx:note("No HSM is known; keyferry hsm create makes a soft one.")
        return 0
    end
    ctx:columns({ "SERIAL", "NAME", "KIND", "PARTITIONS" }, rows)
    return ctx:finish_looking(unreadable, #hsms, last)
end

return {
    name = "token list",
    summary = "List the backup tokens.",
    category = "reads",
    privileges = { "admin", "operator", "monitor" },
    options = {},
    examples = { "keyferry token list" },
    run = run,
}
