-- SPDX-License-Identifier: MIT
-- The bench of what a person waits for at the prompt: `make bench`, or
-- lua5.4 spec/bench/shell.lua [N] from the root. Medians and the longest of 20 tries each, at a
-- pseudo-terminal, on a home with a token of N (10 000) objects:
--   prompt      from the start of the program to its prompt
--   Tab         from the key to the last byte of the answer on the terminal
--   --complete  what bash and zsh run for an answer, process start to exit

local root = io.popen("pwd"):read("l")
package.path = root .. "/lua/?.lua;" .. root .. "/lua/?/init.lua;" .. root .. "/spec/?.lua;"
    .. package.path
package.cpath = root .. "/" .. (os.getenv("KEYFERRY_BUILD") or "build") .. "/lua/?.so;"
    .. package.cpath

local build = require("support.build")
local core = require("keyferry.core")
local process = require("support.process")
local softhsm = require("support.softhsm")
local tmp = require("support.tmp")

local TRIES = 20
local N = math.tointeger(tonumber(arg[1] or 10000))

local AT_A_TERMINAL = [[
set timeout 20
log_user 0
proc took {name start} { puts "$name [expr {([clock microseconds] - $start) / 1000.0}]" }
for {set i 0} {$i < $env(TRIES)} {incr i} {
  set start [clock microseconds]
  spawn -noecho $env(KEYFERRY)
  expect "keyferry:> "
  took prompt $start
  foreach {name typed answer} {
    label {partition show -partition cro} wded
    Lua {keyferry.partition "cro} wded
    command {partition ba} ckup
  } {
    send -- $typed
    expect -exact $typed
    sleep 0.05
    set start [clock microseconds]
    send "\t"
    expect -exact $answer
    took $name $start
    send "\025"
    sleep 0.05
  }
  send "\004"
  expect eof
  wait
}
]]

local function environment()
    local hsm = softhsm.fresh(tmp.dir("many"))
    local token = hsm:init_token("crowded")
    token:fill(N)
    local home = tmp.dir("home")
    os.execute(("mkdir -p -m 700 %s/config/keyferry"):format(home))
    local config <close> = assert(io.open(home .. "/config/keyferry/config.lua", "w"))
    config:write(([[return { hsms = { { name = "big", serial = "9", module = %q,
      env = { SOFTHSM2_CONF = %q } } } }]]):format(hsm.module, hsm.conf))
    return { HOME = home, XDG_CONFIG_HOME = home .. "/config", XDG_STATE_HOME = false,
        KEYFERRY_HOME = home, SOFTHSM2_CONF = "/nonexistent", TERM = "xterm", NO_COLOR = "1",
        KEYFERRY = build.keyferry, TRIES = tostring(TRIES) }
end

local function show(name, values)
    table.sort(values)
    print(("%-12s %7.1f ms   longest %7.1f ms"):format(name, values[(#values + 1) // 2],
        values[#values]))
end

local function main()
    local env = environment()
    local figures, order = {}, {}
    for name, value in process.must{ "expect", "-c", AT_A_TERMINAL, env = env, timeout = 300 }
        :gmatch("(%S+) (%S+)\n") do
        if not figures[name] then
            figures[name] = {}
            order[#order + 1] = name
        end
        table.insert(figures[name], tonumber(value))
    end
    print(("at the prompt, a token of %d objects, %d tries:"):format(N, TRIES))
    for _, name in ipairs(order) do
        show(name == "prompt" and name or "Tab, " .. name, figures[name])
    end
    local times = {}
    for i = 1, TRIES do
        local start = core.now()
        process.must{ build.keyferry, "--complete", "bash", env = env,
            input = "keyferry partition show -partition cro\0cro\0" }
        times[i] = (core.now() - start) * 1000
    end
    show("--complete", times)
end

main()
