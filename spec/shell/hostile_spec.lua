-- SPDX-License-Identifier: MIT
-- Input that nobody would type, terminals of odd sizes, files that are no history: the prompt
-- goes on, or the program ends with a clear error.
local lu = require("luaunit")

local build = require("support.build")
local process = require("support.process")
local shell = require("support.shell")
local terminal = require("support.terminal")
local tmp = require("support.tmp")

local PROMPT = "keyferry:> "

local function environment(home)
  return { HOME = home, KEYFERRY_HOME = home, SOFTHSM2_CONF = "/nonexistent",
    XDG_CONFIG_HOME = home .. "/config", XDG_DATA_HOME = false, XDG_STATE_HOME = false,
    NO_COLOR = "1" }
end

local function start(home)
  local t = terminal.start { build.keyferry, env = environment(home or tmp.dir("home")),
    width = 150 }
  t:wait_for(PROMPT)
  return t
end

local function resize(t, columns, rows)
  process.must { "stty", "-F", t.tty, "cols", columns, "rows", rows }
end

-- Goes on: an expression still gives its value, and Ctrl-D still ends it in order.
local function assert_goes_on(t)
  t:line("'still ' .. 'there'")
  t:wait_for("still there")
  t:wait_for(PROMPT)
  t:key("C-d")
  local done = t:finish()
  lu.assertEquals({ done.status, done.restored }, { 0, true }, done.screen)
end

local TestTerminal = {}

function TestTerminal.test_may_shrink_below_the_row_of_a_long_line()
  for _, size in ipairs { { 40, 3 }, { 2, 1 }, { 3, 1 }, { 1, 1 }, { 0, 0 } } do
    local t <close> = start()
    t:type("-- " .. ("long line "):rep(140) .. "TYPED")
    t:wait_for("TYPED")
    resize(t, size[1], size[2])
    t:type("ABCDEF")
    t:key("Home", "End", "BSpace", "C-c")
    t:type("keyferry.")
    t:key("Tab", "C-c")
    resize(t, 150, 40)
    assert_goes_on(t)
  end
end

local TestScript = {}

function TestScript.test_that_never_ends_does_not_keep_the_prompt_waiting()
  local home = tmp.dir("home")
  local folder = home .. "/config/keyferry/scripts/partition"
  process.must { "mkdir", "-p", "-m", "700", folder }
  shell.write(folder .. "/loop.lua", "while true do end")
  local t <close> = start(home)
  t:line("1 -abc")
  t:wait_for("error: ")
  t:wait_for(PROMPT, 5)
  for _, line in ipairs { "partition loop -x 1", "run " .. folder .. "/loop.lua -x 1" } do
    t:line(line)
    t:wait_for(line)
    t:wait_until("isig", true) -- no line is read: it runs
    shell.sleep(1) -- what looks at it first has given up
    t:key("C-c")
    t:wait_for("interrupted", 5)
    t:wait_for(PROMPT, 5)
  end
  assert_goes_on(t)
end

local TestSecret = {}

function TestSecret.test_made_in_a_roundabout_way_is_not_recorded()
  local home = tmp.dir("home")
  local t <close> = start(home)
  for _, line in ipairs { "ok, a = pcall(keyferry.secret, 'hunter1')",
    "b = keyferry['sec' .. 'ret']('hunter2')", "c = keyferry.secret 'hunter3'",
    "for _, word in ipairs { 'hunter4', 'hunter5' } do keyferry.secret(word) end",
    "d = 'kept'", "record " .. home .. "/policy.lua" } do
    t:line(line)
    t:wait_for(PROMPT)
  end
  local policy = assert(shell.read(home .. "/policy.lua"))
  lu.assertNil(policy:find("hunter", 1, true), policy)
  lu.assertStrContains(policy, "c = ")
  lu.assertStrContains(policy, "'kept'")
  lu.assertNil((shell.read(home .. "/.local/state/keyferry/history") or ""):find("hunter", 1, true))
  assert_goes_on(t)
end

local TestInput = {}

function TestInput.test_long_runs_of_blanks_are_read_in_one_pass()
  local prompt = require("keyferry.shell.prompt")
  local blanks = (" "):rep(1000000)
  local from = os.clock()
  lu.assertFalse(prompt.is_command("x" .. blanks .. "= 1", {}))
  lu.assertTrue(prompt.is_command("help" .. blanks, {}))
  lu.assertTrue(prompt.is_command("help" .. blanks .. "hsm", {}))
  lu.assertTrue(os.clock() - from < 5)
end

function TestInput.test_a_history_file_of_one_endless_line_does_not_keep_the_prompt_waiting()
  local home = tmp.dir("home")
  local file = home .. "/.local/state/keyferry/history"
  process.must { "mkdir", "-p", "-m", "700", home .. "/.local/state/keyferry" }
  shell.write(file, "'first'\n" .. ("x"):rep(1500000))
  process.must { "chmod", "600", file }
  local t <close> = start(home)
  assert_goes_on(t)
end

function TestInput.test_nesting_too_deep_is_one_line()
  local t <close> = start()
  t:line("f(" .. ("("):rep(300) .. "1" .. (")"):rep(300) .. ")")
  t:wait_for("error: ")
  local from = t.seen
  t:wait_for(PROMPT)
  lu.assertEquals(t:text():sub(from, t.seen - 1 - #PROMPT), "C stack overflow\n")
  assert_goes_on(t)
end

function TestInput.test_that_cannot_be_read_is_no_empty_program()
  local done = process.run { "sh", "-c", 'exec "$0" </', build.keyferry,
    env = environment(tmp.dir("home")) }
  lu.assertEquals({ done.status, done.out }, { 7, "" }, done.err)
  lu.assertStrContains(done.err, "error: standard input: Is a directory")
end

return { TestTerminal = TestTerminal, TestScript = TestScript, TestSecret = TestSecret,
  TestInput = TestInput }
