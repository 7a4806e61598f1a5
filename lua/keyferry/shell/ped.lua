-- SPDX-License-Identifier: MIT
--- PED keys, and domains, as shares: asked for, shown, written. Methods of a ctx.
-- @classmod ctx
local core = require("keyferry.core")
local ped = require("keyferry.ped")

local ask = require("keyferry.shell.ask")
local gathering = require("keyferry.shell.gathering")
local status = require("keyferry.shell.status")

local M = {}

--- What opens a partition that takes PED keys: of the shares of a key that KEYFERRY_PED names,
-- or that are typed.
-- @string colour "blue", "black" or "red"
-- @tparam[opt] table how `of`: for the question, what the key is for; `env`: a variable that is
--   looked at before KEYFERRY_PED
-- @treturn[1] secret
-- @treturn[2] nil
-- @treturn[2] err KFR_NO_SECRET: there are not enough shares, and no terminal; KFR_SHARE
function M:ped_key(colour, how)
    how = how or {}
    local ring, err = gathering.ring({ colour = colour, of = how.of, env = how.env },
        self.output)
    if not ring then
        return nil, err
    end
    return ring:secret()
end

--- Shares of one key or domain, as many as are needed.
-- @tparam[opt] table how `colour`: "blue", "black", "red", "domain", or any; `from`: the paths of
--   files and folders; without it KEYFERRY_PED names some. What is lacking is asked for
-- @treturn[1] ring as keyferry.ped.ring gives it
-- @treturn[2] nil
-- @treturn[2] err KFR_SHARE, KFR_NO_SECRET, KFR_NOT_FOUND, ...
function M:ped_ring(how)
    how = how or {}
    return gathering.ring({ colour = how.colour, from = how.from,
        hint = "name the files of the shares with -from, or in KEYFERRY_PED" }, self.output)
end

--- Shares that need not belong together: those in files and folders, else those that
-- KEYFERRY_PED names, else one that is asked for.
-- @tparam[opt] table from paths
-- @treturn[1] table array of shares
-- @treturn[1] table the files of those that lie in one
-- @treturn[2] nil
-- @treturn[2] err
function M:ped_shares(from)
    local shares, files
    if from then
        return gathering.read(from)
    end
    shares, files = gathering.of_environment(self.output)
    if shares[1] then
        return shares, files
    end
    return gathering.one(self.output)
end

--- A share in a few words: "Black key 1 of 3 (set 1a2b)".
-- @tparam share share
-- @treturn string
function M.share_title(_, share)
    local of = share:colour() == "domain" and "Domain share" or gathering.TITLES[share:colour()]
    return ("%s %d%s (set %s)"):format(of, share:number(),
        share:count() and " of " .. share:count() or "", share:set())
end

--- What an event says of a share.
-- @tparam share share
-- @tparam[opt] table more fields
-- @treturn table
function M.share_event(_, share, more)
    local groups, event = share:groups(), { event = "share" }
    event.colour, event.set, event.number = share:colour(), share:set(), share:number()
    event.count, event.needed = share:count(), share:needed()
    if groups.count > 1 then
        event.group, event.groups, event.groups_needed = groups.number, groups.count,
            groups.threshold
    end
    for name, value in pairs(more or {}) do
        event[name] = value
    end
    return event
end

-- Interrupted, or ended otherwise with some of the shares on paper.
local function broken_off(err, done, all, otherwise)
    local interrupted = status.code(err) == "KFR_INTERRUPTED"
    if not interrupted and done == 0 then
        return err
    end
    return core.error({ code = status.code(err) or "KFR_SYSTEM", hint = otherwise,
        what = ("%s when %d of %d shares had been written down"):format(
            interrupted and "interrupted" or "ended (" .. tostring(status.field(err, "what"))
            .. ")", done, all) })
end

local function show(ctx, shares, otherwise)
    for i, share in ipairs(shares) do
        local title = ctx:share_title(share)
        if share:needed() > 1 then
            title = ("%s: any %d of the set are needed"):format(title, share:needed())
        end
        local ok, err = ask.show_share(share, title, ctx.output)
        if not ok then
            return nil, broken_off(err, i - 1, #shares, otherwise)
        end
        ctx:print("%s has been written down.", ctx:share_title(share))
        ctx:event(ctx:share_event(share, { status = "shown" }))
    end
    return true
end

local function write(ctx, shares, folders)
    local paths, err = ped.write(shares, folders)
    if not paths then
        return nil, err
    end
    for i, share in ipairs(shares) do
        ctx:print("%s: %s", ctx:share_title(share), paths[i])
        ctx:event(ctx:share_event(share, { status = "written", file = paths[i] }))
    end
    if #folders < #shares and shares[1]:needed() > 1 then
        ctx:warn("shares that lie together are no better than one: put them on different"
            .. " sticks, in different hands")
    end
    return true
end

--- Gives shares out: writes them into files, all or none; or shows them at the terminal, one at
-- a time, until each has been written down.
-- @tparam table shares
-- @tparam ?table folders one for each share, or one for all; nil: the terminal
-- @string[opt] otherwise what is to be done when they have not all been written down
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] err KFR_INTERRUPTED: not all have been written down; KFR_EXISTS, KFR_REFUSED, ...
function M:give_shares(shares, folders, otherwise)
    if folders then
        return write(self, shares, folders)
    end
    return show(self, shares, otherwise)
end

--- Says what key it is, or what domain: its check value, and of a red key that of the domain,
-- too. A refusal is raised.
-- @string colour "blue", "black", "red" or "domain"
-- @tparam secret secret what keyferry.ped.combine gives for it
function M:tell_key(colour, secret)
    local check = colour ~= "domain" and assert(ped.check(secret)) or nil
    local domain <close> = (colour == "domain" or colour == "red")
        and assert(core.domain(secret)) or nil
    local domain_check = domain and domain:check()
    if check then
        self:result("Check value: %s", check)
    end
    if domain_check then
        self:result("Domain check value: %s", domain_check)
    end
    self:event{ event = "key", colour = colour, check = check, domain = domain_check }
end

return M
