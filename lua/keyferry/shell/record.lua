-- SPDX-License-Identifier: MIT
--- What was done at the prompt, as a policy that does it again.
local core = require("keyferry.core")

local M = {}
local Record = {}
Record.__index = Record

function M.new(shell, env)
    return setmetatable({ shell = shell, env = env }, Record)
end

function Record.prepare() end
function Record.command() end
function Record.lua() end

function Record.write()
    return nil, core.error({ code = "KFR_REFUSED", what = "nothing was recorded" })
end

return M
