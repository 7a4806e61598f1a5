-- SPDX-License-Identifier: MIT
-- stand: a place of the bench, with a home and soft HSMs; "bench" on the HSM source is full.
--
--   local stand = Stand.new("/dev/shm", 1000)
--   stand:backup(stand:fresh_target())
--   stand:remove()
local build = require("support.build")
local core = require("keyferry.core")
local process = require("support.process")
local shell = require("support.shell")

local PIN, DOMAIN = "userpin1", "bench domain"

local Stand = { PIN = PIN, TIMEOUT = 1800 }
Stand.__index = Stand

function Stand.new(path, n)
    local dir = assert(shell.lines("mktemp -d -p " .. shell.quote(path))[1])
    local self = setmetatable({ dir = dir, n = n, count = 0 }, Stand)
    self.env = {
        KEYFERRY_HOME = dir .. "/home", XDG_CONFIG_HOME = dir, SOFTHSM2_CONF = dir .. "/none",
        KEYFERRY_PASSWORD = PIN, KEYFERRY_TOKENPW = PIN, KEYFERRY_TOKENSOPWD = "sopin123",
        KEYFERRY_DOMAIN = DOMAIN,
    }
    self:make_hsm("source", "100001")
    self:token("source", "bench")
    process.must{ build.tool("fill"), self:conf("source"), n, "bench", input = PIN .. "\n",
                  timeout = Stand.TIMEOUT }
    return self
end

function Stand:conf(name)
    return ("%s/home/hsms/%s/softhsm2.conf"):format(self.dir, name)
end

function Stand:tokens(name)
    return ("%s/home/hsms/%s/tokens"):format(self.dir, name)
end

function Stand:make_hsm(name, serial)
    process.must{ build.keyferry, "hsm", "create", "-name", name, "-serial", serial,
                  env = self.env }
end

function Stand:token(name, label)
    process.must{ "softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN,
                  "--so-pin", "sopin123", env = { SOFTHSM2_CONF = self:conf(name) } }
end

-- A new, empty backup HSM each time; the one before is gone, so that nothing else is open.
function Stand:fresh_target()
    self.count = self.count + 1
    process.must{ "rm", "-rf", self.dir .. "/home/hsms/target" }
    self:make_hsm("target", tostring(200000 + self.count))
    os.execute("sync")
    return tostring(200000 + self.count)
end

function Stand:backup(serial, ...)
    local command = { build.keyferry, "partition", "backup", "-partition", "bench",
                      "-tokenpar", "copy", "-serial", serial, ... }
    command.env, command.timeout = self.env, Stand.TIMEOUT
    return process.must(command)
end

-- Seconds that run takes.
function Stand.timed(run)
    local start = core.now()
    run()
    return core.now() - start
end

function Stand.median(values)
    local sorted = table.move(values, 1, #values, 1, {})
    table.sort(sorted)
    return sorted[(#sorted + 1) // 2]
end

-- What the derivation of the cloning domain takes, once in each run.
function Stand.derivation()
    local times = {}
    for i = 1, 3 do
        times[i] = Stand.timed(function() assert(core.domain(core.secret(DOMAIN))) end)
    end
    return Stand.median(times)
end

function Stand:remove()
    process.must{ "rm", "-rf", self.dir, timeout = Stand.TIMEOUT }
end

return Stand
