-- SPDX-License-Identifier: MIT
--- PED keys, and domains, as shares: asked for, shown, written. Methods of a ctx.
-- @classmod ctx
local gathering = require("keyferry.shell.gathering")

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
    return gathering.ring({ colour = how.colour, of = how.of, from = how.from,
        hint = self.script.name and "name their files with -from, or in KEYFERRY_PED" },
        self.output)
end

--- Shares that need not belong together: those in files and folders, else those that
-- KEYFERRY_PED names, else one that is asked for.
-- @tparam[opt] table from paths
-- @treturn[1] table array of shares
-- @treturn[2] nil
-- @treturn[2] err
function M:ped_shares(from)
    local shares, err
    if from then
        return gathering.read(from)
    end
    shares, err = gathering.of_environment()
    if not shares or shares[1] then
        return shares, err
    end
    return gathering.one(self.output)
end

return M
