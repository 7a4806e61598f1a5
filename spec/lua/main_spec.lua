-- SPDX-License-Identifier: MIT
-- The program around Lua, with a shell of our own in the place of keyferry.shell.
local lu = require("luaunit")
local build = require("support.build")
local process = require("support.process")
local shell = require("support.shell")
local tmp = require("support.tmp")

-- A copy of the program that finds main(argv) = body as its shell.
local function program(body)
  local dir = tmp.dir("program")
  assert(os.execute(("mkdir -p %s/bin %s/lua/keyferry"):format(dir, dir)))
  assert(os.execute(("cp %s %s/bin/keyferry"):format(shell.quote(build.keyferry), dir)))
  shell.write(dir .. "/lua/keyferry/init.lua", "return {}")
  shell.write(dir .. "/lua/keyferry/shell.lua",
    "return { main = function(argv) local core = require('keyferry.core') " .. body .. " end }")
  return dir .. "/bin/keyferry", dir
end

local function run(body, command)
  command = command or {}
  table.insert(command, 1, (program(body)))
  return process.run(command)
end

local wait = "print('ready') io.stdout:flush() while not core.interrupted() do end return 130"

local TestMain = {}

function TestMain.test_no_secret_is_left_in_the_process_list()
  local path = program(wait)
  local running <close> = process.start { path, "partition", "backup", "-password", "hunter2",
    "-domain=hunter2" }
  running:wait_for("ready")
  local file <close> = io.open("/proc/" .. running.pid .. "/cmdline", "rb")
  local text = file:read("a")
  lu.assertStrContains(text, "keyferry")
  lu.assertNil(text:find("hunter2", 1, true))
  lu.assertNil(text:find("password", 1, true))
  running:signal("TERM")
  lu.assertEquals(running:wait().status, 130)
end

function TestMain.test_no_core_is_dumped()
  local path = program(wait)
  local running <close> = process.start { path }
  running:wait_for("ready")
  local file <close> = io.open("/proc/" .. running.pid .. "/limits")
  lu.assertStrMatches(file:read("a"), ".*Max core file size%s+0%s+0%s.*")
  lu.assertEquals(shell.lines("stat -c %U /proc/" .. running.pid .. "/environ"), { "root" })
end

function TestMain.test_the_arguments_arrive()
  local done = run("print(#argv, table.concat(argv, '|')) return 5", { "a", "", "b c" })
  lu.assertEquals({ done.status, done.out }, { 5, "3\ta||b c\n" })
end

function TestMain.test_nothing_is_loaded_from_the_working_directory()
  local done = run("print(package.path, package.cpath) return 0",
    { env = { LUA_PATH = "./?.lua;x/?.lua;;", LUA_CPATH = "./?.so;;" } })
  for entry in done.out:gmatch("[^;%s]+") do lu.assertEquals(entry:sub(1, 1), "/") end
end

function TestMain.test_compiled_chunks_are_no_modules()
  local dir = tmp.dir()
  shell.write(dir .. "/evil.lua", string.dump(load("return 1")))
  local done = run("require('evil') return 0", { env = { LUA_PATH = dir .. "/?.lua" } })
  lu.assertEquals(done.status, 8)
  lu.assertStrContains(done.err, "binary chunk")
end

function TestMain.test_a_failing_shell_is_status_8()
  for _, body in ipairs { "error('boom')",
    "error(core.error{ code = 'KFR_REFUSED', what = 'boom' })",
    "return 'boom'", "return nil --boom" } do
    local done = run(body)
    lu.assertEquals(done.status, 8, body)
    lu.assertStrContains(done.err, "keyferry: ")
  end
end

function TestMain.test_output_that_cannot_be_written_is_no_success()
  local path = program("print('x') return 0")
  lu.assertEquals(process.run { "sh", "-c", path .. " >/dev/full" }.status, 7)
  lu.assertEquals(process.run { "sh", "-c", "{ sleep 0.2; " .. path ..
    "; echo $? >&2; } | :" }.err:match("(%d+)\n$"), "7")
end

function TestMain.test_closed_descriptors_are_filled()
  local path = program("local f = io.open('/proc/self/fd/2') return f and 0 or 1")
  lu.assertEquals(process.run { "sh", "-c", path .. " <&- >&- 2>&-" }.status, 0)
end

function TestMain.test_what_is_open_is_closed_at_the_end()
  local done = run("closed = setmetatable({}, { __gc = function() print('closed') end }) return 0")
  lu.assertEquals(done.out, "closed\n")
end

function TestMain.test_new_files_are_private()
  local _, dir = program("")
  local done = run("io.open(argv[1], 'w'):close() return 0", { dir .. "/new" })
  lu.assertEquals(done.status, 0)
  lu.assertEquals(shell.lines("stat -c %a " .. dir .. "/new"), { "600" })
end

function TestMain.test_an_installed_program_finds_its_share()
  local path, dir = program("print(package.loaded['keyferry.root']) return 0")
  assert(os.execute(("mkdir %s/share && mkdir %s/share/keyferry && mv %s/lua %s/share/keyferry/")
    :format(dir, dir, dir, dir)))
  lu.assertEquals(process.must { path }, dir .. "/share/keyferry\n")
  assert(os.execute("rm -r " .. dir .. "/share"))
  lu.assertEquals(process.run { path }.status, 8)
end

local TestInterrupt = {}

function TestInterrupt.test_a_signal_raises_in_lua_when_wanted()
  local path = program([[core.interrupt_raise(true)
    print("ready") io.stdout:flush()
    local ok, err = pcall(function() while true do end end)
    assert(not ok and err.code == "KFR_INTERRUPTED" and core.interrupted())
    core.interrupt_clear()
    assert(not core.interrupted())
    return 130]])
  local running <close> = process.start { path }
  running:wait_for("ready")
  running:signal("INT")
  lu.assertEquals(running:wait().status, 130)
end

function TestInterrupt.test_the_third_ends_a_program_that_does_not_listen()
  local path = program("print('ready') io.stdout:flush() while true do end")
  local running <close> = process.start { path, timeout = 20 }
  running:wait_for("ready")
  for _ = 1, 3 do
    running:signal("INT")
    os.execute("sleep 0.1")
  end
  lu.assertEquals(running:wait().signal, 2)
end

return { TestMain = TestMain, TestInterrupt = TestInterrupt }
