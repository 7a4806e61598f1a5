-- SPDX-License-Identifier: MIT
-- hsm create: a soft HSM of its own: a folder with a configuration and a token store. With -ped
-- its secrets are PED keys, and it belongs to who has the blue one.
local keyferry = require("keyferry")

local function blue_key(ctx)
    local options = ctx.options
    assert(keyferry.can_create_hsm(options)) -- before a key is asked for
    return assert(ctx:ped_key("blue", { of = ('HSM "%s"'):format(options.name) }))
end

local function run(ctx)
    local options = ctx.options
    local blue <close> = options.ped and blue_key(ctx) or nil
    local hsm = assert(keyferry.create_hsm{
        name = options.name, serial = options.serial, path = options.path, blue_key = blue,
    })
    ctx:print("HSM \"%s\" (serial %s) made in %s", hsm.name, hsm.serial, hsm.path)
    ctx:event({ event = "hsm", status = "created", name = hsm.name, serial = hsm.serial,
        kind = hsm.kind, path = hsm.path, authentication = hsm.authentication })
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
        { name = "ped", kind = "flag", help = "Its secrets are PED keys, not passwords: asks for "
            .. "the blue key ('keyferry ped create' makes one). KEYFERRY_PED names files and "
            .. "folders with keys." },
    },
    examples = { "keyferry hsm create -name vault -serial 496771",
        "keyferry hsm create -name vault -serial 496771 -ped" },
    run = run,
}
