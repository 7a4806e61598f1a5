-- SPDX-License-Identifier: MIT
-- partition delete: removes a partition and every object in it.
local keyferry = require("keyferry")

local option = keyferry.option

-- How many objects go, when its password was given; nil when it was not.
local function count(ctx, partition)
    local secret = ctx.options.password -- not the environment's, which may be another partition's
    if not secret or partition:authentication() == "ped" then
        ctx:ignore_text(partition)
        return nil
    end
    local session <close> = assert(partition:login(secret))
    return #assert(session:find())
end

local function confirm(ctx, hsm, partition, objects)
    assert(ctx:confirm{
        ("You are about to remove partition \"%s\" (serial %s)"):format(
            partition.label, partition.serial),
        ("from HSM \"%s\" (serial %s)."):format(hsm.name, hsm.serial or "unknown"),
        objects and ("It holds %d object%s."):format(objects, objects == 1 and "" or "s")
            or "How many objects it holds is known only to who logs in.",
        "They cannot be had back.",
    })
end

local function run(ctx)
    local hsm = assert(keyferry.backup_hsm(ctx.options.serial))
    local partition = assert(hsm:partition(ctx.options.partition))
    local objects = count(ctx, partition)
    confirm(ctx, hsm, partition, objects)
    assert(hsm:delete_partition(partition))
    ctx:print("Partition \"%s\" (serial %s) removed from HSM \"%s\"", partition.label,
        partition.serial, hsm.name)
    ctx:event({
        event = "partition", status = "removed", label = partition.label,
        serial = partition.serial, uri = partition.uri, hsm = hsm.name,
        hsm_serial = hsm.serial, objects = objects,
    })
    return 0
end

return {
    name = "partition delete",
    summary = "Remove a partition and every object in it.",
    category = "destroys",
    privileges = { "admin" },
    options = {
        option("partition"),
        option("serial", { help = "The serial number of the HSM that it is on." }),
        option("password", { help = "Its Crypto Officer's password, to tell how many objects "
            .. "go." }),
        option("force", { help = "Remove without asking." }),
    },
    examples = { "keyferry partition delete -partition sa78par1backup -serial 496771" },
    run = run,
}
