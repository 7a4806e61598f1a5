-- SPDX-License-Identifier: MIT
-- partition contents: every object of a partition, but not the keys of its cloning domain.
local keyferry = require("keyferry")

local option = keyferry.option

local FLAGS = {
    "private", "sensitive", "always_sensitive", "extractable", "never_extractable",
    "wrap_with_trusted", "trusted", "local", "modifiable", "copyable", "destroyable",
    "always_authenticate", "encrypt", "decrypt", "sign", "sign_recover", "verify",
    "verify_recover", "wrap", "unwrap", "derive",
}

local function flags(object)
    local set = {}
    for _, flag in ipairs(FLAGS) do
        if object:has(flag) then
            set[#set + 1] = flag
        end
    end
    return set
end

local function describe(ctx, partition, object)
    return {
        handle = object.handle, class = object.class,
        key_type = object.key_type or object.certificate_type,
        label = object.label, id = object.id and ctx:hex(object.id), flags = flags(object),
        uri = partition:object_uri(object), trouble = object.trouble,
    }
end

local function print_all(ctx, found)
    local rows = {}
    local lines
    for i, item in ipairs(found) do
        rows[i] = { item.class, item.key_type, item.handle, item.id, item.label }
    end
    lines = ctx:aligned({ "CLASS", "TYPE", "HANDLE", "ID", "LABEL" }, rows)
    ctx:result("%s", lines[1])
    for i, item in ipairs(found) do
        ctx:result("%s", lines[i + 1])
        ctx:result("    %s", table.concat(item.flags, " "))
        ctx:result("    %s", item.uri)
    end
end

local function list(ctx, partition, session)
    local found, unreadable = {}, 0
    for i, object in ipairs(assert(session:find())) do
        local item = describe(ctx, partition, object)
        found[i] = item
        if item.trouble then
            unreadable = unreadable + 1
            ctx:warn("object with handle %d: %s", item.handle, tostring(item.trouble))
        end
        ctx:event({
            event = "object", label = item.label, class = item.class,
            key_type = item.key_type, id = item.id, handle = item.handle, uri = item.uri,
            flags = item.flags, reason = item.trouble and tostring(item.trouble),
        })
    end
    if #found > 0 then
        print_all(ctx, found)
        ctx:print("")
    end
    ctx:print("%d object%s", #found, #found == 1 and "" or "s")
    if unreadable > 0 then
        return ctx:finish({ status = 1,
            reason = ("%d of %d objects could not be read"):format(unreadable, #found) })
    end
    return 0
end

local function run(ctx)
    local partition = assert(keyferry.partition(ctx.options.partition))
    local session <close> = assert(ctx:login(partition))
    return list(ctx, partition, session)
end

return {
    name = "partition contents",
    summary = "List the objects of a partition.",
    category = "reads",
    privileges = { "admin", "operator" },
    options = {
        option("partition"),
        option("password"),
    },
    examples = { "keyferry partition contents -partition sa78par1" },
    run = run,
}
