-- SPDX-License-Identifier: MIT
-- Labels by pattern, with exceptions.
--
-- Why: what goes together shares a prefix, and there is always the one that must not leave:
-- "everything of the web and mail servers, but no test keys and none that is to be destroyed".
-- -match of `partition backup` takes one pattern and has no "but not".
--
--   keyferry run scripts/examples/labels.lua -partition payments -tokenpar web -serial 496771 \
--       -labels 'tls-*,mail-*' -without '*-test,*-old' [-plan]
--
-- A pattern is a shell's: * ? [a-z] [!a-z]. An exception always wins. One that meets no object
-- is told, since it may be a slip; when nothing is left at all, that is a failure. As a command
-- of your own: copy this file to ~/.config/keyferry/scripts/backup/labels.lua.
local keyferry = require("keyferry")

-- For each pattern a test that remembers whether it has ever been met.
local function patterns(globs)
    local list = {}
    for i, glob in ipairs(globs or {}) do
        list[i] = { glob = glob, test = keyferry.glob(glob), met = false }
    end
    return list
end

-- Asks every one of them, so that each is met that can be.
local function any(list, label)
    local found = false
    for _, pattern in ipairs(list) do
        if pattern.test(label) then
            pattern.met, found = true, true
        end
    end
    return found
end

-- The objects that are wanted, by handle, and how many they are.
local function choose(ctx, source)
    local labels, without = patterns(ctx.options.labels), patterns(ctx.options.without)
    local chosen, count = {}, 0
    for _, object in ipairs(assert(source:find())) do
        local wanted, excepted = any(labels, object.label), any(without, object.label)
        if wanted and not excepted then
            chosen[object.handle], count = true, count + 1
        end
    end
    for _, list in ipairs{ labels, without } do
        for _, pattern in ipairs(list) do
            if not pattern.met then
                ctx:warn("no label matches '%s'", pattern.glob)
            end
        end
    end
    return chosen, count
end

local function run(ctx)
    local options = ctx.options
    local hsm = assert(keyferry.backup_hsm(options.serial))
    local partition = assert(keyferry.partition(options.partition, { except = hsm }))
    local backup = assert(hsm:partition(options.tokenpar))
    local source <close> = assert(ctx:login(partition))
    local target <close> = assert(ctx:login(backup, { secret = "tokenpw", writable = true }))
    local chosen, count = choose(ctx, source)
    if count == 0 then
        return ctx:finish{ code = "KFR_NOT_FOUND", reason = "no object is wanted" }
    end
    return ctx:conclude(keyferry.backup{
        source = source, target = target, mode = "add", plan = options.plan,
        select = function(object) return chosen[object.handle] or false end,
        on_result = function(result) ctx:tell(result, partition) end,
    }, backup.label)
end

return {
    name = "backup labels",
    summary = "Back up what some patterns match and others do not.",
    category = "writes",
    privileges = { "admin", "operator" },
    options = {
        { name = "labels", value = "glob,...", kind = "list", required = true,
          help = "Patterns for the labels that are wanted." },
        { name = "without", value = "glob,...", kind = "list",
          help = "Patterns for those of them that are not." },
        { name = "partition", value = "name", kind = "label", required = true,
          complete = "partitions", help = "The partition that is backed up." },
        { name = "tokenpar", value = "name", kind = "label", required = true,
          complete = "partitions", help = "The backup partition, which must be there." },
        { name = "serial", value = "serialnum", kind = "serial", required = true,
          complete = "serials", help = "The backup HSM." },
        { name = "password", value = "password", kind = "secret", max = 255,
          prompt = "Please enter the password for the HSM user partition:",
          help = "The partition's password; KEYFERRY_PASSWORD, or asked for, without it." },
        { name = "tokenpw", value = "password", kind = "secret", max = 255,
          prompt = "Please enter the password for the user on the backup token:",
          help = "The backup partition's; KEYFERRY_TOKENPW, or asked for, without it." },
        { name = "plan", kind = "flag", help = "Say what would be done; change nothing." },
    },
    examples = { "keyferry backup labels -partition payments -tokenpar web -serial 496771 "
        .. "-labels 'tls-*,mail-*' -without '*-test'" },
    run = run,
}
