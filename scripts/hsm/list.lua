-- SPDX-License-Identifier: MIT
-- hsm list: the HSMs that this configuration and home know.
local keyferry = require("keyferry")

local function run(ctx)
    local rows = {}
    for i, hsm in ipairs(assert(keyferry.hsms())) do
        rows[i] = { hsm.name, hsm.serial, ctx:kind_of(hsm), hsm.path or hsm.module_path }
        ctx:event({
            event = "hsm", name = hsm.name, serial = hsm.serial, kind = hsm.kind,
            path = hsm.path, module = hsm.module_path, engine = hsm.engine,
            authentication = hsm.authentication,
        })
    end
    if #rows == 0 then
        ctx:note("No HSM is known; keyferry hsm create makes a soft one.")
        return 0
    end
    ctx:columns({ "NAME", "SERIAL", "KIND", "WHERE" }, rows)
    return 0
end

return {
    name = "hsm list",
    summary = "List the HSMs that keyferry knows.",
    category = "reads",
    privileges = { "admin", "operator", "monitor" },
    options = {},
    examples = { "keyferry hsm list" },
    run = run,
}
