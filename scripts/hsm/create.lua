-- SPDX-License-Identifier: MIT
-- hsm create: a soft HSM of its own: a folder with a configuration and a token store.
local keyferry = require("keyferry")

local function run(ctx)
    local options = ctx.options
    local hsm = assert(keyferry.create_hsm{
        name = options.name, serial = options.serial, path = options.path,
    })
    ctx:print("HSM \"%s\" (serial %s) made in %s", hsm.name, hsm.serial, hsm.path)
    ctx:event({ event = "hsm", status = "created", name = hsm.name, serial = hsm.serial,
        kind = hsm.kind, path = hsm.path })
    return 0
end

return {
    name = "hsm create",
    summary = "Make a soft HSM.",
    category = "writes",
    privileges = { "admin" },
    options = {
        { name = "name", value = "name", kind = "string", required = true, max = 64,
            help = "The name it is known by." },
        { name = "serial", value = "serialnum", kind = "serial",
            help = "Its serial number; one that no other HSM has is made up without it." },
        { name = "path", value = "dir", kind = "path",
            help = "Where it is kept; under the home of keyferry without it." },
    },
    examples = { "keyferry hsm create -name vault -serial 496771" },
    run = run,
}
