-- SPDX-License-Identifier: MIT
-- What keyferry.send, and keyferry.backup from a stream, take in memory beyond the module.
--
-- Each runs in a process of its own with the domain derived before; the highest resident size
-- from there on is told, less the resident size of a process that has the same token open, is
-- logged in and has found every object. Prints "send N receive N", in kB.

local root = io.popen("pwd"):read("l")
package.path = root .. "/lua/?.lua;" .. root .. "/lua/?/init.lua;" .. root .. "/spec/?.lua;"
    .. package.path
package.cpath = root .. "/" .. (os.getenv("KEYFERRY_BUILD") or "build") .. "/lua/?.so;"
    .. package.cpath

local keyferry = require("keyferry")
local resident = require("bench.resident")

local serial, step = arg[1], arg[2]
local FILE = os.getenv("KEYFERRY_HOME") .. "/memory.stream"

local secret, status, reset_peak = resident.secret, resident.status, resident.reset_peak

local function login(name)
    return assert(assert(keyferry.partition(name)):login(secret("KEYFERRY_PASSWORD"),
                                                         { writable = true }))
end

local function create(hsm, domain)
    local partition, err = hsm:create_partition{
        label = "memory", password = secret("KEYFERRY_PASSWORD"), domain = domain,
        so_password = secret("KEYFERRY_TOKENSOPWD"),
    }
    if not partition then
        return nil, err
    end
    return partition:login(secret("KEYFERRY_PASSWORD"), { writable = true })
end

local steps = {}

function steps.send(domain)
    return keyferry.send{ source = login("bench"), to = FILE, force = true, domain = domain }
end

function steps.receive(domain)
    local hsm = assert(keyferry.hsm(serial))
    return keyferry.backup{
        source = assert(keyferry.archive.open(FILE)), domain = domain,
        create = function(fitting) return create(hsm, fitting) end,
        discard = function() end,
    }
end

local function peak_of(work)
    local domain = assert(keyferry.domain(secret("KEYFERRY_DOMAIN")))
    collectgarbage()
    reset_peak()
    local report = work(domain)
    assert(report.status == "success", tostring(report.reason))
    return status("VmHWM")
end

-- A label that none has: every object is looked at by the module, none by us.
local function alone(name)
    assert(#assert(login(name):find{ label = "\0none" }) == 0)
    return status("VmRSS")
end

local function in_a_process(...)
    local words = table.concat({ ... }, "' '")
    local pipe <close> = assert(io.popen(("lua5.4 '%s/spec/bench/life_memory.lua' '%s' '%s'")
                                         :format(root, serial, words)))
    return assert(math.tointeger(tonumber(pipe:read("l"))), words)
end

if steps[step] then
    print(peak_of(steps[step]))
elseif step == "alone" then
    print(alone(arg[3]))
else
    local send = in_a_process("send") - in_a_process("alone", "bench")
    local receive = in_a_process("receive") - in_a_process("alone", "memory")
    print(("send %d receive %d"):format(send, receive))
end
