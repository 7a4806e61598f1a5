-- SPDX-License-Identifier: MIT
-- What a backup takes in memory beyond the modules themselves.
--
-- Runs keyferry.backup in this process with the domain derived before, and takes the highest
-- resident size from there on; then, in a process of its own, the resident size with both
-- modules open, logged in and every object found. Prints "beyond N", in kB.

local root = io.popen("pwd"):read("l")
package.path = root .. "/lua/?.lua;" .. root .. "/lua/?/init.lua;" .. root .. "/spec/?.lua;"
    .. package.path
package.cpath = root .. "/" .. (os.getenv("KEYFERRY_BUILD") or "build") .. "/lua/?.so;"
    .. package.cpath

local keyferry = require("keyferry")
local resident = require("bench.resident")

local secret, status, reset_peak = resident.secret, resident.status, resident.reset_peak

local function run(serial)
    local hsm = assert(keyferry.hsm(serial))
    local source = assert(assert(keyferry.partition("bench", { except = hsm }))
                          :login(secret("KEYFERRY_PASSWORD")))
    local domain = assert(keyferry.domain(secret("KEYFERRY_DOMAIN")))
    local partition
    reset_peak()
    local report = keyferry.backup{
        source = source, domain = domain,
        create = function(fitting)
            local err
            partition, err = hsm:create_partition{
                label = "memory", password = secret("KEYFERRY_TOKENPW"),
                so_password = secret("KEYFERRY_TOKENSOPWD"), domain = fitting,
            }
            if not partition then
                return nil, err
            end
            return partition:login(secret("KEYFERRY_TOKENPW"), { writable = true })
        end,
        discard = function() end,
    }
    assert(report.status == "success", tostring(report.reason))
    return status("VmHWM")
end

local function only_modules(serial)
    local hsm = assert(keyferry.hsm(serial))
    local count = 0
    for _, name in ipairs{ "bench", "memory" } do
        local session = assert(assert(keyferry.partition(name)):login(secret("KEYFERRY_PASSWORD")))
        -- A label that none has: every object is looked at by the module, none by us.
        count = count + #assert(session:find{ label = "\0none" })
    end
    assert(count == 0 and hsm)
    return status("VmRSS")
end

if arg[2] == "modules" then
    print(only_modules(arg[1]))
else
    local peak = run(arg[1])
    local pipe <close> = assert(io.popen(("lua5.4 '%s/spec/bench/memory.lua' '%s' modules")
                                         :format(root, arg[1])))
    local alone = math.tointeger(tonumber(pipe:read("l")))
    print(("peak %d kB, modules alone %d kB, beyond %d kB"):format(peak, alone, peak - alone))
end
