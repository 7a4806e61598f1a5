-- SPDX-License-Identifier: MIT
-- Two people, each of whom knows half of the PINs.
--
-- Why: who can back a partition up alone has all of its keys alone, in a place of their own.
-- So nobody knows a whole PIN: it was typed in two halves, by two people, when the partition
-- was made, and a backup takes both of them again.
--
--   keyferry run scripts/examples/two-people.lua -partition ca -tokenpar ca-backup -serial 496771
--
-- Each in turn is asked for their half of both PINs; in a script the halves are files that only
-- their owners can write (KEYFERRY_PASSWORD1_FILE, KEYFERRY_PASSWORD2_FILE, KEYFERRY_TOKENPW1_FILE
-- and KEYFERRY_TOKENPW2_FILE). A half that is empty, and two halves that are alike, are refused:
-- that would be one person's PIN. As a command of your own: copy this file to
-- ~/.config/keyferry/scripts/backup/two-people.lua.
local keyferry = require("keyferry")

local function refuse(what)
    error(keyferry.error{ code = "KFR_REFUSED", what = what,
                          hint = "each of two people gives half of a PIN" }, 0)
end

-- The halves of both PINs, by the option's name: all of one person's, then the other's.
local function ask(ctx)
    local halves, nothing = {}, keyferry.secret("")
    for person = 1, 2 do
        for _, pin in ipairs{ "password", "tokenpw" } do
            local half = assert(ctx:secret(pin .. person))
            if half == nothing then
                refuse(("the half of person %d is empty"):format(person))
            elseif person == 2 and half == halves[pin .. 1] then
                refuse("the two halves are one and the same")
            end
            halves[pin .. person] = half
        end
    end
    return halves
end

local function run(ctx)
    local options = ctx.options
    local hsm = assert(keyferry.backup_hsm(options.serial))
    local partition = assert(keyferry.partition(options.partition, { except = hsm }))
    local backup = assert(hsm:partition(options.tokenpar))
    local halves = ask(ctx)
    local source <close> = assert(partition:login(halves.password1 .. halves.password2))
    local target <close> = assert(backup:login(halves.tokenpw1 .. halves.tokenpw2,
                                               { writable = true }))
    return ctx:conclude(keyferry.backup{
        source = source, target = target, mode = "add", verify = true,
        on_result = function(result) ctx:tell(result, partition) end,
    }, backup.label)
end

local function half(name, person, of)
    return { name = name .. person, value = "half", kind = "secret", max = 128,
             prompt = ("Person %d, please enter your half of the password for %s:")
                 :format(person, of),
             help = ("Half %d of the password for %s; KEYFERRY_%s%d, or asked for, without it.")
                 :format(person, of, name:upper(), person) }
end

return {
    name = "backup two-people",
    summary = "Back up a partition whose PIN two people know half of.",
    category = "writes",
    privileges = { "admin", "operator" },
    options = {
        { name = "partition", value = "name", kind = "label", required = true,
          complete = "partitions", help = "The partition that is backed up." },
        { name = "tokenpar", value = "name", kind = "label", required = true,
          complete = "partitions", help = "The backup partition, which must be there." },
        { name = "serial", value = "serialnum", kind = "serial", required = true,
          complete = "serials", help = "The backup HSM." },
        half("password", 1, "the partition"), half("tokenpw", 1, "the backup partition"),
        half("password", 2, "the partition"), half("tokenpw", 2, "the backup partition"),
    },
    examples = { "keyferry backup two-people -partition ca -tokenpar ca-backup -serial 496771" },
    run = run,
}
