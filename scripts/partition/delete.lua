-- SPDX-License-Identifier: MIT
-- partition delete: removes a partition and every object in it.
local keyferry = require("keyferry")

-- How many objects go, when its password was given; nil when it was not.
local function count(ctx, partition)
    local secret, session, objects, err
    secret = ctx.options.password -- not the environment's, which may be another partition's
    if not secret then
        return nil
    end
    session, err = partition:login(secret)
    if not session then
        return nil, err
    end
    objects, err = session:find()
    session:close()
    return objects and #objects, err
end

local function confirm(ctx, hsm, partition, objects)
    return ctx:confirm({
        ("You are about to remove partition \"%s\" (serial %s)"):format(
            partition.label, partition.serial),
        ("from HSM \"%s\" (serial %s)."):format(hsm.name, hsm.serial or "unknown"),
        objects and ("It holds %d object%s."):format(objects, objects == 1 and "" or "s")
            or "How many objects it holds cannot be told without its password.",
        "They cannot be had back.",
    })
end

local function run(ctx)
    local hsm, partition, objects, ok, err
    hsm, err = keyferry.backup_hsm(ctx.options.serial)
    if not hsm then
        return nil, err
    end
    partition, err = hsm:partition(ctx.options.partition)
    if not partition then
        return nil, err
    end
    objects, err = count(ctx, partition)
    if err then
        return nil, err
    end
    ok, err = confirm(ctx, hsm, partition, objects)
    if not ok then
        return nil, err
    end
    ok, err = hsm:delete_partition(partition)
    if not ok then
        return nil, err
    end
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
        { name = "partition", value = "name", kind = "label", required = true,
            complete = "partitions", help = "The partition's label, or its PKCS#11 URI." },
        { name = "serial", value = "serialnum", kind = "serial", required = true,
            complete = "serials", help = "The HSM that it is on." },
        { name = "password", value = "password", kind = "secret", max = 255,
            help = "Its Crypto Officer's password, to tell how many objects go." },
        { name = "force", kind = "flag", help = "Remove without asking." },
    },
    examples = { "keyferry partition delete -partition sa78par1backup -serial 496771" },
    run = run,
}
