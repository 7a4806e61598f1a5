-- SPDX-License-Identifier: MIT
-- The bench of what comes before and after a backup: lua5.4 spec/bench/life.lua [N ...]
--
-- For each file system and each N, one after the other in each round:
--   backup   keyferry partition backup to a new partition, process start to exit
--   pipe     keyferry partition send | keyferry partition receive, to a new partition
--   plan     keyferry partition plan against the partition that is there, -add
--   verify   keyferry partition verify of the copy
--   report   the same backup with -report, and verify -report of the copy by it
-- Ratios are to the backup of the same round; of the rounds the median is shown. Derivations of
-- the domain (scrypt) are in no figure: what a run derives (both ends of a pipe do, at once on
-- two cores) is measured and taken out. The memory is that of keyferry.send and of
-- keyferry.backup from a stream, beyond the modules (spec/bench/life_memory.lua), in kB.
-- BENCH_ROUNDS (3), BENCH_DISK (/var/tmp), BENCH_MEMORY (/dev/shm), as for run.lua.

local root = io.popen("pwd"):read("l")
package.path = root .. "/lua/?.lua;" .. root .. "/lua/?/init.lua;" .. root .. "/spec/?.lua;"
    .. package.path
package.cpath = root .. "/" .. (os.getenv("KEYFERRY_BUILD") or "build") .. "/lua/?.so;"
    .. package.cpath

local build = require("support.build")
local process = require("support.process")
local Stand = require("bench.stand")

local median, timed = Stand.median, Stand.timed
local ROUNDS = math.tointeger(tonumber(os.getenv("BENCH_ROUNDS") or 3))
local PLACES = {
    { name = "disk", path = os.getenv("BENCH_DISK") or "/var/tmp" },
    { name = "tmpfs", path = os.getenv("BENCH_MEMORY") or "/dev/shm" },
}
local TARGET = { "-tokenpar", "copy", "-serial" }

local function run(stand, noun_verb, ...)
    local command = { build.keyferry, "partition", noun_verb, ... }
    command.env, command.timeout = stand.env, Stand.TIMEOUT
    return process.must(command)
end

local function expect(out, text)
    assert(out:find(text, 1, true), "the run did not say: " .. text)
end

local function pipe(stand, serial)
    expect(process.must{ "sh", "-c", [["$0" partition send -partition bench 2>/dev/null |
        "$0" partition receive -tokenpar copy -serial "$1"]], build.keyferry, serial,
        env = stand.env, timeout = Stand.TIMEOUT }, stand.n .. " cloned")
end

-- Seconds of everything, each without the derivations it had to wait for.
local function round(stand)
    local d = Stand.derivation()
    local paper = stand.dir .. "/report"
    local serial = stand:fresh_target()
    local backup = timed(function() expect(stand:backup(serial), stand.n .. " cloned") end) - d
    local plan = timed(function()
        run(stand, "plan", "-partition", "bench", TARGET[1], TARGET[2], TARGET[3], serial, "-add")
    end) - d
    local verify = timed(function()
        expect(run(stand, "verify", "-partition", "bench", TARGET[1], TARGET[2], TARGET[3],
                   serial), stand.n .. " the same")
    end)
    serial = stand:fresh_target()
    local reported = timed(function()
        stand:backup(serial, "-report", paper, "-force")
    end) - d
    local checked = timed(function()
        run(stand, "verify", "-report", paper, TARGET[1], TARGET[2], TARGET[3], serial)
    end) - d
    serial = stand:fresh_target()
    local piped = timed(function() pipe(stand, serial) end) - d
    return { backup = backup, pipe = piped, plan = plan, verify = verify,
             report = reported - backup, checked = checked }
end

-- What sending and receiving take in memory beyond the modules.
local function memory(stand)
    local serial = stand:fresh_target()
    local out = process.must{ "lua5.4", root .. "/spec/bench/life_memory.lua", serial,
                              env = stand.env, timeout = Stand.TIMEOUT }
    return tonumber(out:match("send (%-?%d+)")), tonumber(out:match("receive (%-?%d+)"))
end

local FIGURES = { "backup", "pipe", "plan", "verify", "report", "checked" }

local function measure(place, n)
    local stand = Stand.new(place.path, n)
    local box <close> = setmetatable({}, { __close = function() stand:remove() end })
    local rounds, result = {}, { place = place.name, box = box }
    for i = 1, ROUNDS do
        rounds[i] = round(stand)
    end
    for _, figure in ipairs(FIGURES) do
        local values, ratios = {}, {}
        for i, one in ipairs(rounds) do
            values[i], ratios[i] = one[figure], one[figure] / one.backup
        end
        result[figure], result[figure .. "_ratio"] = median(values), median(ratios)
    end
    result.send, result.receive = memory(stand)
    return result
end

local function main()
    local sizes = {}
    for i, word in ipairs(arg) do
        sizes[i] = assert(math.tointeger(tonumber(word)), "N is a number")
    end
    if #sizes == 0 then
        sizes = { 100, 1000, 10000 }
    end
    print(("medians of %d rounds; seconds without derivations (backup's ratio to pipe is speed)")
          :format(ROUNDS))
    print(("%-6s %6s | %8s | %8s %6s | %8s %6s | %8s %6s | %8s %6s | %8s %6s | %8s %8s"):format(
        "where", "N", "backup", "pipe", "speed", "plan", "", "verify", "", "report+", "",
        "by report", "", "send kB", "recv kB"))
    for _, place in ipairs(PLACES) do
        for _, n in ipairs(place.path ~= "" and sizes or {}) do
            local r = measure(place, n)
            print(("%-6s %6d | %8.3f | %8.3f %5.2fx | %8.3f %5.2fx | %8.3f %5.2fx | %8.3f %5.2fx "
                .. "| %8.3f %5.2fx | %8d %8d"):format(place.name, n, r.backup, r.pipe,
                1 / r.pipe_ratio, r.plan, r.plan_ratio, r.verify, r.verify_ratio, r.report,
                r.report_ratio, r.checked, r.checked_ratio, r.send, r.receive))
            io.stdout:flush()
        end
    end
end

main()
