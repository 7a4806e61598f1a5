-- SPDX-License-Identifier: MIT
-- resident: what this process has in memory, for the bench.
local keyferry = require("keyferry")

local M = {}

-- A secret of the environment.
function M.secret(name)
    return keyferry.secret(assert(os.getenv(name), name))
end

-- A number of /proc/self/status, in kB: "VmRSS", "VmHWM".
function M.status(field)
    for line in io.lines("/proc/self/status") do
        local value = line:match("^" .. field .. ":%s+(%d+)")
        if value then
            return math.tointeger(tonumber(value))
        end
    end
end

-- Writing 5 there sets VmHWM back to what is resident now (proc(5)).
function M.reset_peak()
    local file <close> = assert(io.open("/proc/self/clear_refs", "w"))
    assert(file:write("5"))
end

return M
