-- SPDX-License-Identifier: MIT
-- ped inspect: what shares are of. Their words stay where they are.
local keyferry = require("keyferry")

local option = keyferry.option

local function place_of(share)
    local groups = share:groups()
    local place = ("%d%s"):format(share:number(), share:count() and " of " .. share:count() or "")
    if groups.count > 1 then
        place = ("%s, group %d of %d (%d needed)"):format(place, groups.number, groups.count,
            groups.threshold)
    end
    return place
end

local function run(ctx)
    local shares, files = assert(ctx:ped_shares(ctx.options.from))
    local rows = {}
    for i, share in ipairs(shares) do
        rows[i] = { share:colour(), share:set(), place_of(share), tostring(share:needed()),
            files[i] or "-" }
        ctx:event(ctx:share_event(share, { file = files[i] }))
    end
    ctx:columns({ "COLOUR", "SET", "SHARE", "NEEDED", "FILE" }, rows)
    return 0
end

return {
    name = "ped inspect",
    summary = "Say what a share is of, its set and number, and how many are needed.",
    category = "reads",
    privileges = { "admin", "operator" },
    options = {
        option("from", { help = "The file of the share, or the folder that it is in; several "
            .. "with commas. Without it those that KEYFERRY_PED names (':' between them), else "
            .. "it is asked for." }),
    },
    examples = { "keyferry ped inspect -from /media/one" },
    run = run,
}
