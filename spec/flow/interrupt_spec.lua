-- SPDX-License-Identifier: MIT
-- Ctrl-C in a policy: in a hook that never ends, in a pause, in its own Lua. The run ends with
-- 130, what was done is said, and the target is as its mode promises.
local lu = require("luaunit")

local process = require("support.process")
local scene = require("flow.scene")
local shell = require("support.shell")

-- A policy that backs "payments" up to "backup"; `hooks` and `around` are Lua. hurry() sends the
-- program SIGINT and goes on, soon(seconds) sends it later.
local POLICY = [[
local keyferry = require("keyferry")
local function hurry()
  io.popen("kill -INT $PPID"):close()
end
local function soon(seconds)
  io.popen("(sleep " .. seconds .. "; kill -INT $PPID) >/dev/null 2>&1 &"):close()
end
local function for_ever()
  while true do end
end
return { name = "policy", summary = "A policy.", category = "writes", run = function(ctx)
  local function open(label, pin, writable)
    local partition = assert(keyferry.partition(label))
    return assert(partition:login(keyferry.secret(pin), { writable = writable }))
  end
  local source <close> = open("payments", %q, false)
  local target <close> = open("backup", %q, true)
  local told = 0
  local options = { source = source, target = target, mode = "add",
    on_result = function(result)
      told = told + 1
    end }
  local hooks = (function() return %s end)()
  for name, hook in pairs(hooks) do options[name] = hook end
  local report = keyferry.backup(options)
  ctx:print("cloned %%d, told %%d, %%s, %%s", report.cloned, told, report.status,
    report.reason and report.reason.code or "no reason")
  %s
  if report.status ~= "success" then return nil, report.reason end
  return 0
end }
]]

local function policy(s, hooks, after, globals)
  local path = s.home .. "/policy.lua"
  shell.write(path, POLICY:format(scene.password, scene.tokenpw, hooks, after or ""))
  local command = globals or {}
  table.move({ "run", path }, 1, 2, #command + 1, command)
  command.timeout = 20
  return s:run(command)
end

local function words(done)
  return ("status %s, signal %s\n%s%s"):format(done.status, done.signal, done.out, done.err)
end

local function assert_interrupted(done, line)
  lu.assertEquals(done.status, 130, words(done))
  lu.assertStrContains(done.out, line or "KFR_INTERRUPTED", false, words(done))
  lu.assertStrContains(done.out, "Command Result : 130 (Interrupted)", false, words(done))
end

local TestInterrupt = {}

-- What each mode promises for a run that was ended in that hook: nothing, or all of it.
local LOOPS = {
  { "add", "{ select = function() hurry() for_ever() end }" },
  { "add", "{ changes = function() hurry() for_ever() end }" },
  { "add", "{ on_exists = function() hurry() for_ever() end }" },
  { "add", "{ on_progress = function() hurry() for_ever() end }" },
  { "add", "{ changes = function() return { class = 'data' } end,"
    .. " on_error = function() hurry() for_ever() end }" },
  { "add", "{ on_progress = function() hurry() while true do pcall(for_ever) end end }" },
  { "replace", "{ mode = 'replace', on_progress = function() hurry() for_ever() end }" },
  { "replace", "{ mode = 'replace', verify = true, changes = function() hurry() for_ever() end }" },
}

function TestInterrupt.test_a_hook_that_never_ends_is_ended_and_nothing_is_changed()
  local s = scene.new("open")
  local before = s:snapshot()
  for _, case in ipairs(LOOPS) do
    local done = policy(s, case[2])
    assert_interrupted(done, "cloned 0, told 0, failed, KFR_INTERRUPTED")
    lu.assertEquals(s:changes(before), {}, case[2])
  end
end

-- The clones are durable before anybody is told of them.
function TestInterrupt.test_what_was_done_is_counted_when_the_one_that_is_told_never_ends()
  for _, mode in ipairs { "add", "replace" } do
    local s = scene.new("open")
    local done = policy(s, ("{ mode = %q, on_result = function() hurry() for_ever() end }")
      :format(mode))
    assert_interrupted(done, mode == "add" and "cloned 4, told 0" or "cloned 11, told 0")
    lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
  end
end

-- A line that is being printed is no reason to lose the rest.
function TestInterrupt.test_a_hook_that_ends_by_itself_is_not_cut()
  local s = scene.new("open")
  local done = policy(s, [[{ mode = "replace", on_result = function()
    told = told + 1
    if told == 2 then hurry() end
  end }]])
  lu.assertStrContains(done.out, "cloned 11, told 11", false, words(done))
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
end

function TestInterrupt.test_a_pause_before_a_retry_ends_at_once()
  local s = scene.new("open")
  local before = s:snapshot()
  local started = os.time()
  local done = policy(s, [[{ changes = function() return { class = "data" } end,
    on_error = function() soon(0.2) return "retry", 60 end }]])
  assert_interrupted(done, "cloned 0, told 0, failed, KFR_INTERRUPTED")
  lu.assertTrue(os.time() - started < 5)
  lu.assertEquals(s:changes(before), {})
end

function TestInterrupt.test_the_policys_own_lua_is_ended_outside_a_backup_too()
  local s = scene.new("open")
  assert_interrupted(policy(s, "{}", "hurry() for_ever()"), "cloned 4, told 11, success")
  assert_interrupted(policy(s, "{}", "hurry() while true do pcall(for_ever) end"), "cloned 0")
  assert_interrupted(policy(s, "{}", "coroutine.wrap(function() keyferry.backup { source = source,"
    .. " plan = true, select = function() hurry() for_ever() end } end)() for_ever()"), "cloned 0")
end

-- What the library does in several steps is done when the signal is seen.
function TestInterrupt.test_a_partition_is_not_left_half_made()
  local s = scene.new("open")
  local done = policy(s, "{}", [[local secret = keyferry.secret
    local domain = assert(keyferry.domain(secret("whole domain")))
    hurry()
    local made = assert(keyferry.hsm("vault")):create_partition { label = "whole",
      password = secret("whole pin"), so_password = secret("whole so pin"), domain = domain }
    ctx:print("made %s", tostring(made))
    for_ever()]])
  assert_interrupted(done, 'made partition "whole"')
  local session = s:lua([[local session = assert(assert(keyferry.partition("whole")):login(
    keyferry.secret("whole pin")))
    print(assert(session:find_domain("softhsm")))]])
  lu.assertStrContains(session.out or session, "domain ")
end

function TestInterrupt.test_an_error_in_a_hook_is_8_and_its_traceback_comes_with_debug()
  local s = scene.new("open")
  local before = s:snapshot()
  local hooks = "{ changes = function(o) return nil .. o.label end }"
  local done = policy(s, hooks)
  lu.assertEquals(done.status, 8, words(done))
  lu.assertStrContains(done.out, "attempt to concatenate a nil value", false, words(done))
  lu.assertNil((done.out .. done.err):find("traceback", 1, true), words(done))
  done = policy(s, hooks, nil, { "--debug" })
  lu.assertEquals(done.status, 8, words(done))
  lu.assertStrContains(done.err, "stack traceback", false, words(done))
  lu.assertStrContains(done.err, "in method 'ferry'", false, words(done))
  lu.assertEquals(s:changes(before), {})
end

local TestSleep = {}

function TestSleep.test_sleeps_as_long_as_it_says_and_ends_at_a_signal()
  local out = process.must { "lua5.4", "-e", ("package.cpath = %q"):format(package.cpath), "-e", [[
    local core = require("keyferry.core")
    core.interrupt_watch(true)
    local before = core.now()
    local over = core.sleep(0.2)
    print(over, core.now() - before >= 0.2, core.now() - before < 2)
    io.popen("(sleep 0.1; kill -INT $PPID) >/dev/null 2>&1 &"):close()
    before = core.now()
    over = core.sleep(30)
    print(over, core.now() - before < 2, core.sleep(30))
    core.interrupt_clear()
    print(core.sleep(0), (pcall(core.sleep, -1)), (pcall(core.sleep, 0/0)))]] }
  lu.assertEquals(out, "true\ttrue\ttrue\nfalse\ttrue\tfalse\ntrue\tfalse\tfalse\n")
end

return { TestInterrupt = TestInterrupt, TestSleep = TestSleep }
