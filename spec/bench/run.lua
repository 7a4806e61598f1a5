-- SPDX-License-Identifier: MIT
-- The bench: `make bench`, or lua5.4 spec/bench/run.lua [N ...] from the root.
--
-- For each file system and each N it makes a soft HSM with 90 % AES-256, 5 % RSA-2048 private
-- and 5 % RSA public keys and backs it up in turn by
--   loop     a plain C program: C_WrapKey + C_UnwrapKey of every key (spec/bench/loop.c)
--   softhsm  keyferry partition backup, the engine softhsm, process start to exit
--   wrap     the same with -engine wrap
--   -add     softhsm again with nothing new
--   cp       cp -a of the token's folder, and sync of the file system
-- Ratios are between figures of one round, which run one after the other; of the rounds the
-- median is shown. The derivation of the cloning domain (scrypt, once a run, the same for
-- any N) is measured by itself, in each round anew since it depends on what else the machine
-- does, and taken out of keyferry's figures.
-- BENCH_ROUNDS (3), BENCH_DISK (/var/tmp), BENCH_MEMORY (/dev/shm) in the environment; a
-- place that is empty is left out.

local root = io.popen("pwd"):read("l")
package.path = root .. "/lua/?.lua;" .. root .. "/lua/?/init.lua;" .. root .. "/spec/?.lua;"
    .. package.path
package.cpath = root .. "/" .. (os.getenv("KEYFERRY_BUILD") or "build") .. "/lua/?.so;"
    .. package.cpath

local build = require("support.build")
local process = require("support.process")
local Stand = require("bench.stand")

local ROUNDS = math.tointeger(tonumber(os.getenv("BENCH_ROUNDS") or 3))
local PLACES = {
    { name = "disk", path = os.getenv("BENCH_DISK") or "/var/tmp" },
    { name = "tmpfs", path = os.getenv("BENCH_MEMORY") or "/dev/shm" },
}
local PIN, TIMEOUT = Stand.PIN, Stand.TIMEOUT

local median, timed, derivation = Stand.median, Stand.timed, Stand.derivation

local STARTS = 50

-- One start of a program, of many in a row in one shell; `true` takes the shell's part out.
local function start_up()
    local function many(program)
        return timed(function()
            process.must{ "sh", "-c", ('for i in $(seq %d); do "$0" --version; done')
                          :format(STARTS), program }
        end) / STARTS
    end
    local times = {}
    for i = 1, 5 do
        times[i] = many(build.keyferry) - many("/bin/true")
    end
    return median(times)
end

local function expect(out, text)
    assert(out:find(text, 1, true), "the run did not say: " .. text)
end

function Stand:loop()
    self:fresh_target()
    self:token("target", "loop")
    return timed(function()
        process.must{ build.tool("loop"), self:conf("source"), self:conf("target"), "bench",
                      "loop", input = PIN .. "\n", timeout = TIMEOUT }
    end)
end

function Stand:softhsm()
    local serial = self:fresh_target()
    local full = timed(function()
        expect(self:backup(serial, "-engine", "softhsm"), self.n .. " cloned")
    end)
    local add = timed(function()
        expect(self:backup(serial, "-engine", "softhsm", "-add"),
               "0 cloned, " .. self.n .. " already there")
    end)
    return full, add
end

function Stand:wrap()
    local serial = self:fresh_target()
    return timed(function()
        expect(self:backup(serial, "-engine", "wrap"), self.n .. " cloned")
    end)
end

function Stand:copy()
    local to = self.dir .. "/copy"
    process.must{ "rm", "-rf", to }
    os.execute("sync")
    return timed(function()
        process.must{ "cp", "-a", self:tokens("source"), to, timeout = TIMEOUT }
        process.must{ "sync", "-f", to, timeout = TIMEOUT }
    end)
end

-- What a run takes beyond the modules it opens (spec/bench/memory.lua).
function Stand:memory()
    local serial = self:fresh_target()
    local out = process.must{ "lua5.4", root .. "/spec/bench/memory.lua", serial,
                              env = self.env, timeout = TIMEOUT }
    return tonumber(out:match("beyond (%-?%d+)"))
end

-- One round of everything; figures in seconds, without the derivation.
function Stand:round()
    local loop = self:loop()
    local domain = derivation()
    local softhsm, add = self:softhsm()
    local wrap, copy = self:wrap(), self:copy()
    softhsm, add, wrap = softhsm - domain, add - domain, wrap - domain
    return {
        loop = loop, softhsm = softhsm, add = add, wrap = wrap, copy = copy,
        loop_by_softhsm = loop / softhsm, loop_by_wrap = loop / wrap,
        softhsm_by_copy = softhsm / copy, add_by_softhsm = add / softhsm,
        per_object = softhsm / self.n,
    }
end

local FIGURES = { "loop", "softhsm", "wrap", "add", "copy", "loop_by_softhsm", "loop_by_wrap",
                  "softhsm_by_copy", "add_by_softhsm", "per_object" }

local function measure(place, n)
    local stand <close> = setmetatable({ Stand.new(place.path, n) },
                                       { __close = function(box) box[1]:remove() end })
    local rounds = {}
    for i = 1, ROUNDS do
        rounds[i] = stand[1]:round()
    end
    local result = { memory = stand[1]:memory() }
    for _, figure in ipairs(FIGURES) do
        local values = {}
        for i, round in ipairs(rounds) do
            values[i] = round[figure]
        end
        result[figure] = median(values)
    end
    return result
end

local HEAD = "%-6s %6s | %8s %8s %8s %8s %8s | %7s %7s %7s %7s | %9s %7s"
local ROW = "%-6s %6d | %8.3f %8.3f %8.3f %8.3f %8.3f | %6.1fx %6.1fx %6.2fx %6.0f%% | %7.3f %8.1f"

local function main()
    local sizes = {}
    for i, word in ipairs(arg) do
        sizes[i] = assert(math.tointeger(tonumber(word)), "N is a number")
    end
    if #sizes == 0 then
        sizes = { 100, 1000, 10000 }
    end
    print(("start of the program:     %6.1f ms"):format(start_up() * 1000))
    print(("domain derivation (once): %6.1f ms, not in the figures below")
          :format(derivation() * 1000))
    print(("medians of %d rounds; seconds, then ratios of one round"):format(ROUNDS))
    print(HEAD:format("where", "N", "loop", "softhsm", "wrap", "-add", "cp+sync",
                      "loop/s", "loop/w", "s/cp", "add/s", "ms/object", "MB more"))
    for _, place in ipairs(PLACES) do
        local before
        for _, n in ipairs(place.path ~= "" and sizes or {}) do
            local r = measure(place, n)
            print(ROW:format(place.name, n, r.loop, r.softhsm, r.wrap, r.add, r.copy,
                             r.loop_by_softhsm, r.loop_by_wrap, r.softhsm_by_copy,
                             r.add_by_softhsm * 100, r.per_object * 1000, r.memory / 1024))
            if before then
                print(("       time per object against that at %d: %.2f")
                      :format(before.n, r.per_object / before.per_object))
            end
            before = { n = n, per_object = r.per_object }
            io.stdout:flush()
        end
    end
end

main()
