-- SPDX-License-Identifier: MIT
-- hsm check: what of keyferry works with an HSM and what does not, and why. Found out by looking
-- alone, or with a login by trying on session objects; nothing is written.
local keyferry = require("keyferry")

local option = keyferry.option

local STATUS = { yes = 0, partly = 1, unknown = 1, no = 7 }
local REASON = { partly = "not everything works with this HSM", no = "this HSM does not work",
                 unknown = "not everything was found out" }
local HINT = { partly = "the lines that do not say yes tell why", no = "the lines with no tell why",
               unknown = "with -login what can be cloned is tried, on session objects" }

-- The partition to try with: the one that was named, or the only one.
local function find(hsm, options)
    if options.partition then
        return assert(hsm:partition(options.partition))
    end
    local list = assert(hsm:partitions())
    return #list == 1 and list[1] or nil
end

-- A wrong PIN counts: none is tried unasked.
local function login(ctx, hsm, partition)
    if not ctx.options.password and not ctx.options.login then
        return nil
    elseif not partition then
        error(keyferry.error{ code = "KFR_ARGUMENT", hint = "name one with -partition",
            what = ('HSM "%s" has not one partition alone'):format(hsm.name) }, 0)
    end
    return assert(ctx:login(partition))
end

local function tell(ctx, findings)
    local rows = {}
    for i = 1, #findings - 1 do
        local finding = findings[i]
        rows[i] = { finding.what, finding.verdict, finding.why }
    end
    ctx:columns({ "WHAT", "WORKS", "WHY" }, rows)
    for _, finding in ipairs(findings) do
        ctx:event({ event = "finding", what = finding.what, verdict = finding.verdict,
            why = finding.why })
    end
    local last = findings[#findings]
    ctx:result("")
    ctx:result("%s.", last.why)
    local verdict = last.verdict
    return ctx:finish{ status = STATUS[verdict], reason = REASON[verdict], hint = HINT[verdict] }
end

local function run(ctx)
    local hsm = assert(keyferry.hsm(ctx.options.name))
    local partition = find(hsm, ctx.options)
    local session <close> = login(ctx, hsm, partition)
    return tell(ctx, assert(hsm:check{ partition = partition, session = session }))
end

return {
    name = "hsm check",
    summary = "Find out what of keyferry works with an HSM.",
    category = "reads",
    privileges = { "admin", "operator" },
    options = {
        { name = "name", value = "name", kind = "string", required = true, complete = "hsms",
            help = "The HSM's name or serial number." },
        option("partition", { required = false,
            help = "The partition to try with; the only one of the HSM without it." }),
        option("password", { help = "Its Crypto Officer password: what can be cloned is tried, on "
            .. "session objects that are destroyed again. Without it nobody logs in." }),
        { name = "login", kind = "flag",
            help = "Log in and try, with the password asked for or at the PED." },
    },
    examples = { "keyferry hsm check -name vault",
        "keyferry hsm check -name vault -partition sa78par1 -login" },
    run = run,
}
