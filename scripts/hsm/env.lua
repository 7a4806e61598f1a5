-- SPDX-License-Identifier: MIT
-- hsm env: shell lines that make any other program use a soft HSM:
--     eval "$(keyferry hsm env -name vault)"
local keyferry = require("keyferry")

local function sorted_names(variables)
    local names = {}
    for name in pairs(variables) do
        names[#names + 1] = name
    end
    table.sort(names)
    return names
end

local function run(ctx)
    local hsm = assert(keyferry.hsm(ctx.options.name))
    local variables = assert(hsm:environment())
    if hsm.authentication == "ped" then
        ctx:note("The secrets of this HSM are PED keys: another program needs the PIN that a key "
            .. "stands for, see 'keyferry ped combine'.")
    end
    for _, name in ipairs(sorted_names(variables)) do
        local value = variables[name]
        if value then
            ctx:result("export %s=%s", name, ctx:shell_word(value))
            ctx:event({ event = "variable", name = name, value = value })
        else
            ctx:result("unset %s", name)
            ctx:event({ event = "variable", name = name, value = ctx.null })
        end
    end
    return 0
end

return {
    name = "hsm env",
    summary = "Print the shell lines that let any other program use a soft HSM.",
    category = "reads",
    bare = true, -- the output is for a shell: no "Command Result" in it
    privileges = { "admin", "operator" },
    options = {
        { name = "name", value = "name", kind = "string", required = true, complete = "hsms",
            help = "The HSM's name or serial number." },
    },
    examples = { 'eval "$(keyferry hsm env -name vault)"' },
    run = run,
}
