-- SPDX-License-Identifier: MIT
-- What is on the backup and no longer in the source.
--
-- Why: a key that was destroyed has to be gone from the backup, too, or it is not destroyed;
-- -add never removes, and -replace removes without a list to look at. This tells what has
-- expired, and removes it only with -remove, after a question (or with -force).
--
--   keyferry run scripts/examples/expire.lua -partition payments -tokenpar payments-backup \
--       -serial 496771 [-remove [-force]]
--
-- Nothing is removed as long as the two cannot be told apart for certain: when an object of
-- either cannot be compared, when something of the source is not on the backup yet (the label
-- may only have been changed: run `partition backup -add` first), or when the two have nothing
-- in common (the wrong partition, or one that lost everything and needs this backup). As a
-- command of your own: copy this file to ~/.config/keyferry/scripts/backup/expire.lua.
local keyferry = require("keyferry")

-- What `from` has and `to` has not: a plan to back the one up to the other.
local function missing(from, to)
    local plan, list = assert(keyferry.plan{ source = from, target = to, mode = "add" }), {}
    for _, item in ipairs(plan.items) do
        if item.status == "clone" then
            table.insert(list, item.object)
        elseif item.status == "fail" then
            error(item.err, 0)
        end
    end
    return list, plan.counts.exists
end

local function refuse(what, hint)
    error(keyferry.error{ code = "KFR_REFUSED", what = what, hint = hint }, 0)
end

local function remove(ctx, backup, expired)
    assert(ctx:confirm{ ('%d objects will be removed from partition "%s" (serial %s) on HSM "%s".')
        :format(#expired, backup.label, backup.serial, backup.hsm.name) })
    for _, object in ipairs(expired) do
        assert(object:destroy())
    end
end

local function run(ctx)
    local options = ctx.options
    local hsm = assert(keyferry.backup_hsm(options.serial))
    local partition = assert(keyferry.partition(options.partition, { except = hsm }))
    local backup = assert(hsm:partition(options.tokenpar))
    local source <close> = assert(ctx:login(partition))
    local target <close> = assert(ctx:login(backup, { secret = "tokenpw",
        writable = options.remove }))
    local expired, common = missing(target, source)
    for _, object in ipairs(expired) do
        ctx:result('%s "%s" (handle %d) is not in the source', object.class, object.label or "",
            object.handle)
        ctx:event{ event = "expired", label = object.label, class = object.class,
            id = ctx:hex(object.id or ""), handle = object.handle }
    end
    if not options.remove or #expired == 0 then
        return ctx:finish{}
    elseif common == 0 then
        refuse("the two partitions have nothing in common")
    elseif #missing(source, target) > 0 then
        refuse("the backup lacks what is in the source", "run 'partition backup -add' first")
    end
    remove(ctx, backup, expired)
    return ctx:finish{ counts = { removed = #expired } }
end

return {
    name = "backup expire",
    summary = "Tell, or remove, what a backup holds and its source does not.",
    category = "destroys",
    privileges = { "admin" },
    options = {
        { name = "partition", value = "name", kind = "label", required = true,
          complete = "partitions", help = "The source." },
        { name = "tokenpar", value = "name", kind = "label", required = true,
          complete = "partitions", help = "Its backup." },
        { name = "serial", value = "serialnum", kind = "serial", required = true,
          complete = "serials", help = "The backup HSM." },
        { name = "password", value = "password", kind = "secret", max = 255,
          prompt = "Please enter the password for the HSM user partition:",
          help = "The partition's password; KEYFERRY_PASSWORD, or asked for, without it." },
        { name = "tokenpw", value = "password", kind = "secret", max = 255,
          prompt = "Please enter the password for the user on the backup token:",
          help = "The backup partition's; KEYFERRY_TOKENPW, or asked for, without it." },
        { name = "remove", kind = "flag", help = "Remove it from the backup." },
        { name = "force", kind = "flag", help = "Remove without asking." },
    },
    rules = function(options)
        return options.force and not options.remove and "-force goes with -remove" or nil
    end,
    examples = { "keyferry backup expire -partition payments -tokenpar payments-backup "
        .. "-serial 496771" },
    run = run,
}
