-- SPDX-License-Identifier: MIT
-- The prompt at a real terminal: lines, keys, Ctrl-C and Ctrl-D, the history and record.
local lu = require("luaunit")

local build = require("support.build")
local keyferry = require("keyferry")
local process = require("support.process")
local scene = require("flow.scene")
local shell = require("support.shell")
local terminal = require("support.terminal")
local tmp = require("support.tmp")

local PROMPT, CONTINUED = "keyferry:> ", "        >> "

package.loaded["keyferry.root"] = package.loaded["keyferry.root"] or build.root
local prompt = require("keyferry.shell.prompt")
local discreet = require("keyferry.shell.prompt.discreet")
local words = require("keyferry.shell.prompt.words")

local Prompt = {}

-- A program at its prompt. home: a folder (a new one when nil), or a scene.
local function start(how)
  how = how or {}
  local home = how.home or tmp.dir("home")
  local env = { HOME = home, KEYFERRY_HOME = home, SOFTHSM2_CONF = "/nonexistent",
    XDG_CONFIG_HOME = home .. "/config", XDG_DATA_HOME = false, XDG_STATE_HOME = false,
    KEYFERRY_PASSWORD = false, KEYFERRY_TOKENPW = false, KEYFERRY_TOKENSOPWD = false,
    KEYFERRY_DOMAIN = false, NO_COLOR = "1" }
  for name, value in pairs(how.env or {}) do env[name] = value end
  local command = { build.keyferry, env = env, cwd = how.cwd, width = how.width or 150 }
  if how.command then table.move(how.command, 1, #how.command, 1, command) end
  local self = setmetatable({ home = home, history = home .. "/.local/state/keyferry/history" },
    Prompt)
  self.t = terminal.start(command)
  self:ready()
  return self
end

Prompt.__index = Prompt

function Prompt:ready(seconds)
  self.t:wait_for(PROMPT, seconds)
end

-- Types a line and gives what is written until the next prompt.
function Prompt:answer(line, seconds)
  self.t:line(line)
  local from = self.t.seen
  self:ready(seconds)
  return self.t:text():sub(from, self.t.seen - 1 - #PROMPT)
end

function Prompt:says(line, text, seconds)
  local said = self:answer(line, seconds)
  lu.assertStrContains(said, text)
  return said
end

function Prompt:finish()
  self.t:key("C-d")
  local done = self.t:finish()
  lu.assertEquals(done.status, 0, done.screen)
  lu.assertTrue(done.restored)
  return done
end

function Prompt:kept()
  return shell.read(self.history) or ""
end

function Prompt:__close()
  self.t:close()
end

local TestLine = {}

function TestLine.test_an_expression_prints_its_value_and_a_statement_what_it_prints()
  local p <close> = start()
  p:says("6 * 7", "\n42\n")
  p:says("'a', 'b'", "\na\tb\n")
  p:says("answer = 7", "answer = 7\n")
  p:says("answer + 1", "\n8\n")
  p:says("print(answer)", "\n7\n")
  p:finish()
end

function TestLine.test_a_statement_goes_on_at_a_second_prompt()
  local p <close> = start()
  p.t:line("for i = 1, 2 do")
  p.t:wait_for(CONTINUED)
  p.t:line("  print('line', i)")
  p.t:wait_for(CONTINUED)
  lu.assertStrContains(p:answer("end"), "line\t1\nline\t2\n")
  p:finish()
end

function TestLine.test_text_of_several_lines_can_be_pasted_tabs_and_all()
  local p <close> = start()
  p.t:type("function twice(x)\n\treturn x * 2\nend\nprint(twice(21))\nhsm list\n")
  p.t:wait_for("42\n")
  p.t:wait_for("Command Result : 0")
  p:ready()
  p.t:type("x = keyferry.secret('forgotten')\nprint('still ' .. 'there')\n")
  p.t:wait_for("still there\n")
  p:ready()
  p:finish()
end

function TestLine.test_a_command_is_run_and_never_ends_the_shell()
  local p <close> = start()
  p:says("hsm create -name 'the vault'", "is not a name for an HSM")
  p:says([[hsm create -name va"u"l\t -serial 4711]], 'HSM "vault" (serial 4711) made')
  p:says("hsm list", "vault  4711")
  p:says("hsm lits", "did you mean 'hsm list'?")
  p:says("partiton list", "did you mean 'partition'?")
  p:says("hsm", "needs a verb")
  p:says("help hsm create", "keyferry hsm create")
  p:says("keyferry.hsm('vault').serial", "4711")
  p:says("keyferry hsm list", "vault  4711")
  p:says("run " .. p.home .. "/none.lua", "there is no file")
  shell.write(p.home .. "/own.lua", [[return { name = "own", summary = "Says hello.",
    category = "reads", run = function(ctx) ctx:print("hello") return 0 end }]])
  p:says("run ~/own.lua", "\nhello\n")
  p:says("help", "record FILE")
  p.t:line("hsm show -name 'vau")
  p.t:wait_for(CONTINUED)
  p.t:key("C-c")
  p:ready()
  p:finish()
end

function TestLine.test_a_refusal_is_one_line_and_its_hint_in_an_assignment_too()
  local p <close> = start()
  local said = p:answer("h = keyferry.hsm 'none'")
  lu.assertStrContains(said, 'error: there is no HSM "none"\n')
  p:says("h", "nil")
  said = p:answer("nothing.x = 1")
  lu.assertStrContains(said, "error: prompt:1: attempt to index a nil value (global 'nothing')\n")
  lu.assertNotStrContains(said, "traceback")
  p:says("1 +* 2", "error: prompt:1: unexpected symbol near '*'\n")
  p:says("1 + 1", "\n2\n")
  p:finish()
end

function TestLine.test_typical_slips_are_told_what_would_have_been_right()
  local p <close> = start()
  p:says("p = partition 'payments'", "(global 'partition')\n  write: keyferry.partition\n")
  p:says("keyferry.partition(payments)", "error: prompt:1: a name is text, in quotes, not a nil\n")
  p:says("('x'):uper()", "(method 'uper')\n  Tab behind the colon lists the methods\n")
  p:says("help record", "  record FILE ")
  p:says("help session", "what Lua has is in ")
  p:finish()
end

-- Which a line is, by the rule at the top of the module.
function TestLine.test_what_is_a_command_and_what_is_lua()
  local env = { partition = {}, print = print }
  for line, expected in pairs {
    ["hsm list"] = true, ["hsm"] = true, ["  hsm list  "] = true, ["hsm -help"] = true,
    ["hsm list -x 'y"] = true, ["hsm = 1"] = false, ["hsm.name"] = false, ["hsm:close()"] = false,
    ["hsm, x = 1, 2"] = false, ["hsm(1)"] = false, ["partition"] = false,
    ["partition list"] = true, ["partition - 1"] = false, ["exit"] = true, ["quit"] = true,
    ["history"] = true, ["exit()"] = false, ["run ./x.lua"] = true, ["run '../a b.lua'"] = true,
    ["run = 1"] = false, ["record x.lua"] = true, ["help"] = true, ["help hsm list"] = true,
    ["print 'x'"] = false, ["local x = 1"] = false, ["return x"] = false, ["partiton list"] = true,
    ["x y"] = true, ["for i = 1, 2 do"] = false, ["1 + 1"] = false, [""] = false,
    ["not x"] = false, ["keyferry hsm list"] = true, ["hsm list --[["] = true,
  } do
    lu.assertEquals(prompt.is_command(line, env), expected, line)
  end
end

function TestLine.test_words_are_split_as_in_a_shell()
  local long = { [[a 'b c' "d \"e\" \$f \n" g\ h]], { "a", "b c", 'd "e" $f \\n', "g h" } }
  for _, case in ipairs { long, { "", {} }, { "  a\tb ", { "a", "b" } }, { "''", { "" } },
    { [[a'b'"c"\d]], { "abcd" } }, { "a\\\nb", { "ab" } }, { "'a\nb'", { "a\nb" } },
    { "-x=''", { "-x=" } }, { "a '' b", { "a", "", "b" } } } do
    lu.assertEquals(words.split(case[1]), case[2], case[1])
  end
  for _, line in ipairs { "'", '"', "a 'b", 'a "b\\"', "a\\" } do
    lu.assertNil((words.split(line)), line)
  end
end

local TestKeys = {}

function TestKeys.test_the_usual_ones_edit_the_line()
  local p <close> = start()
  p.t:type("xäöx")
  p.t:key("BSpace", "Home")
  p.t:key("DC")
  p.t:type("'")
  p.t:key("End")
  p.t:type("€ tail")
  p.t:key("C-w", "BSpace")
  p.t:type("'")
  p.t:key("Enter")
  p.t:wait_for("äö€\n")
  p:ready()
  p:answer("first = 1")
  p:answer("second = 2")
  p.t:key("Up", "Up", "Enter")
  p:ready()
  p.t:key("Up", "Up", "Down", "End")
  p.t:type(", 3")
  p.t:key("Left", "Left", "Left", "C-k", "Enter")
  p:ready()
  p.t:key("C-r")
  p.t:type("sec")
  p.t:wait_for("second")
  p.t:key("Enter")
  p:ready()
  p:finish()
  lu.assertEquals(p:kept(), "'äö€'\nfirst = 1\nsecond = 2\nfirst = 1\nsecond = 2\n")
end

function TestKeys.test_tab_completes_and_lists()
  local p <close> = start()
  p:answer("hsm create -name vault -serial 4711")
  p.t:type("hsm cr")
  p.t:key("Tab")
  p.t:wait_for("create")
  p.t:key("C-c")
  p:ready()
  p:answer("alphabet, alpine = 1, 2")
  p.t:type("al")
  p.t:key("Tab")
  p.t:wait_for("alphabet")
  p.t:wait_for("alpine")
  p.t:wait_for(PROMPT .. "alp")
  p.t:type("habet + 41")
  p.t:key("Enter")
  p.t:wait_for("\n42\n")
  p:ready()
  p:finish()
end

local TestInterrupt = {}

-- Five times, since the third one ends a program that does not answer.
function TestInterrupt.test_at_the_prompt_it_drops_the_line_however_often()
  local p <close> = start()
  for _ = 1, 5 do
    p.t:type("garbage(")
    p.t:key("C-c")
    p:ready()
  end
  for _ = 1, 2 do
    p.t:line("for i = 1, 2 do")
    p.t:wait_for(CONTINUED)
    p.t:type("print(")
    p.t:key("C-c")
    p:ready()
  end
  p.t:key("C-c", "C-c", "C-c", "C-c")
  for _ = 1, 4 do p:ready() end
  p:says("1 + 1", "\n2\n")
  p:finish()
  lu.assertEquals(p:kept(), "1 + 1\n")
end

function TestInterrupt.test_what_runs_ends_and_what_is_open_stays_open()
  local s = scene.new()
  local p <close> = start { home = s.home }
  p:answer("s = keyferry.partition('payments'):login(keyferry.secret '" .. scene.password .. "')")
  for _, line in ipairs { "print('now') while true do end", "print('now') while true do end",
    "coroutine.wrap(function() print('now') while true do end end)()",
    "print('now') while true do pcall(function() while true do end end) end" } do
    p.t:line(line)
    p.t:wait_for("now\n")
    p.t:key("C-c")
    p.t:wait_for("interrupted")
    p:ready()
  end
  p:says("s:find{ label = 'kek' }[1].label", "kek")
  p:finish()
end

function TestInterrupt.test_a_signal_to_end_ends_the_shell_with_the_terminal_as_it_was()
  for _, signal in ipairs { "TERM", "HUP" } do
    local p <close> = start()
    p.t:type("half a li")
    p.t:wait_for("half a li")
    local pid = p:pid()
    os.execute(("kill -%s %s"):format(signal, pid))
    local done = p.t:finish()
    lu.assertTrue(done.restored, signal)
    lu.assertEquals(done.status, 130, signal)
  end
end

-- The program's own process: of those at the terminal the one of that name.
function Prompt:pid()
  return (shell.lines("ps -o pid=,comm= -t " .. shell.quote(self.t.tty:gsub("^/dev/", "")) ..
    " | awk '$2 == \"keyferry\" { print $1 }'")[1])
end

function TestInterrupt.test_control_z_pauses_with_the_terminal_as_it_was()
  local home = tmp.dir("home")
  local p <close> = start { home = home, command = { "bash", "--norc", "-i", "-c",
    "set -m; " .. shell.quote(build.keyferry) .. "; stty -a | grep -o -- '-\\?icanon'; fg" } }
  p.t:type("1 + ")
  p.t:wait_for("1 + ")
  p.t:key("C-z")
  p.t:wait_for("\nicanon")
  p.t:wait_for("1 + ")
  p.t:line("41")
  p.t:wait_for("42\n")
  p.t:key("C-d")
  lu.assertTrue(p.t:finish().restored)
end

local TestEnd = {}

function TestEnd.test_control_d_exit_and_quit_end_it()
  for _, line in ipairs { "exit", "quit", "  exit " } do
    local p <close> = start()
    p.t:line(line)
    local done = p.t:finish()
    lu.assertEquals(done.status, 0)
    lu.assertTrue(done.restored)
  end
  local p <close> = start()
  p.t:type("x")
  p.t:key("C-d", "BSpace")
  p:finish()
end

function TestEnd.test_os_exit_ends_it_with_the_terminal_as_it_was()
  local p <close> = start()
  p.t:line("os.exit(3)")
  local done = p.t:finish()
  lu.assertEquals(done.status, 3)
  lu.assertTrue(done.restored)
end

local TestHostile = {}

function TestHostile.test_what_is_thrown_is_one_line_whatever_it_is()
  local p <close> = start()
  p:says("error(nil)", "error: nil")
  p:says("error({})", "error: a table without a text was thrown as an error")
  p:says("error(setmetatable({}, { __tostring = function() error 'no' end }))",
    "error: an error that cannot be shown (a table)")
  p:says("error(setmetatable({ code = 'X' }, { __tostring = function() return nil end }))",
    "error: an error that cannot be shown (a table)")
  p:says("error('\\27[2Jgone')", "error: prompt:1: \\x1B[2Jgone")
  p:says("function deep() return 1 + deep() end", "")
  p:says("deep()", "stack overflow")
  p:says("setmetatable({}, { __tostring = deep })", "")
  p:says("('x'):rep(1 << 40)", "error: ")
  p:says("print = nil", "")
  p:says("coroutine.wrap(function() error('inside') end)()", "inside")
  p:says("setmetatable(_G, { __index = function(_, k) error('none: ' .. k) end })", "")
  p:says("quux", "none: quux")
  p:says("hsm list", "Command Result : 0")
  p:says("1 + 1", "\n2\n")
  p:finish()
end

function TestHostile.test_bytes_that_are_no_text_do_no_harm()
  local p <close> = start()
  p.t:key("C-v")
  p.t:tmux("send-keys", "-H", "00", "23", "27", "ff", "c3", "28", "ed", "a0", "80", "27", "0a")
  p:ready()
  p.t:tmux("send-keys", "-H", "00", "00", "31", "00", "0a")
  p.t:wait_for("1\n")
  p:ready()
  p:says("1 + 1", "\n2\n")
  p:finish()
end

-- By expect, since tmux takes no such line.
local long_line = [[
set timeout 40
log_user 0
spawn -noecho $env(KEYFERRY)
expect "keyferry:> "
proc long {n} {
  send -- "#'"
  for {set i 0} {$i < $n} {incr i} {
    send -- [string repeat x 1000]
    expect -re {^.+} {}
  }
  send -- "'\r"
}
long $env(THOUSANDS)
expect -re {\n([^x\n]+)\r\n.*keyferry:> } { puts $expect_out(1,string) }
send "1 + 1\r"
expect "\n2\r" { puts "and two" }
send "exit\r"
expect eof
]]

function TestHostile.test_a_line_of_a_megabyte_is_read_and_a_longer_one_refused()
  local home = tmp.dir("home")
  for thousands, expected in pairs { [300] = "300000", [1100] = "error: the line is longer" } do
    local out = process.must { "expect", "-c", long_line, timeout = 90, env = { HOME = home,
      TERM = "dumb", KEYFERRY = build.keyferry, THOUSANDS = thousands } }
    lu.assertStrContains(out, expected)
    lu.assertStrContains(out, "and two")
  end
end

local TestTerminal = {}

function TestTerminal.test_without_capabilities_it_works_all_the_same()
  for _, term in ipairs { "dumb", "", false, "no-such-terminal" } do
    local p <close> = start { env = { TERM = term, NO_COLOR = false } }
    p:says("6 * 7", "42\n")
    local done = p:finish()
    if term ~= "no-such-terminal" then lu.assertNotStrContains(done.output, "\27[1m") end
  end
end

function TestTerminal.test_the_prompt_has_colour_where_it_is_wanted()
  local with <close> = start { env = { NO_COLOR = false, TERM = "xterm-256color" } }
  lu.assertStrContains(with.t:output(), "\27[1mkeyferry:>\27[0m ")
  with:finish()
  local without <close> = start { env = { TERM = "xterm-256color" } }
  lu.assertNotStrContains(without.t:output(), "\27[1m")
  without:finish()
end

function TestTerminal.test_login_asks_with_asterisks_and_names_the_partition()
  local s = scene.new()
  local p <close> = start { home = s.home }
  p:answer("p = keyferry.partition 'payments'")
  p.t:line("s = p:login()")
  p.t:wait_for('Please enter the password for the partition "payments" on prod:')
  p.t:wait_for("> ")
  p.t:wait_until("echo", false)
  p.t:line(scene.password)
  p.t:wait_for(("*"):rep(#scene.password))
  p:ready()
  p:says("#s:find{}", "\n")
  p.t:line("p:login()")
  p.t:wait_for("> ")
  p.t:wait_until("echo", false)
  p.t:key("C-c")
  p.t:wait_for("interrupted")
  p:ready()
  local done = p:finish()
  lu.assertNotStrContains(done.output, scene.password)
end

local TestHistory = {}

-- A prompt may wait for hours with what the command before it was opened with.
function TestTerminal.test_what_a_line_leaves_to_nobody_is_wiped_before_the_next()
  local p <close> = start()
  p:says('x = #{ setmetatable({}, { __gc = function() print("wi" .. "ped") end }) }', "wiped")
end

function TestHistory.test_is_a_file_of_its_users_own_and_there_the_next_time()
  local p <close> = start()
  p:answer("first = 1")
  p.t:line("for i = 1, 1 do")
  p.t:wait_for(CONTINUED)
  p:answer([[print('\n') end]])
  p:answer("first = 2")
  p:answer("first = 2")
  p:finish()
  lu.assertEquals(p:kept(), "first = 1\nfor i = 1, 1 do\\nprint('\\\\n') end\nfirst = 2\n")
  local folder = p.history:match("^(.*)/")
  lu.assertEquals(shell.lines(("stat -c %%a %s %s"):format(shell.quote(p.history),
    shell.quote(folder))), { "600", "700" })
  local again <close> = start { home = p.home }
  again.t:key("Up", "Up")
  again.t:wait_for("print(")
  again.t:key("Enter")
  again:ready()
  again:says("history", "first = 1\n")
  again:finish()
end

local SECRET = "hunter2"

-- Neither in the file, nor behind Up, nor in what `history` prints.
local function forgets(p, line)
  p:answer(line)
  p.t:key("Up")
  p.t:wait_for("marker = 1")
  p.t:key("C-c")
  p:ready()
  lu.assertNotStrContains(p:kept(), SECRET, false, line)
end

function TestHistory.test_keeps_no_line_that_holds_a_secret()
  local home = tmp.dir("home")
  local own = home .. "/config/keyferry/scripts/shop"
  process.must { "mkdir", "-p", own }
  shell.write(own .. "/pay.lua", [[return { name = "shop pay", summary = "s",
    category = "reads", options = { { name = "card", kind = "secret", help = "h" },
      { name = "cart", kind = "string", help = "h" } }, run = function() return 0 end }]])
  process.must { "chmod", "-R", "go-w", home .. "/config" }
  local p <close> = start { home = home }
  p:answer("marker = 1")
  for _, line in ipairs {
    "partition contents -partition x -password hunter2",
    "partition contents -partition x -pass=hunter2",
    "part cont --password hunter2 -partition x",
    "partition contents -partition x '-password' hunter2",
    [[partition contents -partition x \-password hunter2]],
    "partition contents -passwort hunter2 -partition x",
    "shop pay -card hunter2", "shop pay -ca hunter2", "shop pya -card hunter2",
    "sudo keyferry partition list -password hunter2",
    "x = keyferry.secret('hunter2')", "x = keyferry.secret 'hunter2'",
    "x = keyferry . secret\t( 'hunter2' )", "x = keyferry.secret [[hunter2]]",
    "x = keyferry['secret']('hunter2')", "keyferry.secret('hunter2'", ")",
    "pcall(keyferry.secret, 'hunter2')", "load('return keyferry.secret \"hunter2\"')()",
    "p = keyferry.partition 'x':login('hunter2')", "t = { password = 'hunter2' }",
    "keyferry.secret --[[ ( ]] 'hunter2'",
  } do
    if line:find("'hunter2'$") and line:find("^keyferry.secret%(") then
      p.t:line(line)
      p.t:wait_for(CONTINUED)
    elseif line ~= ")" then
      forgets(p, line)
    end
    if line == ")" then forgets(p, line) end
  end
  p:answer("m = keyferry.secret")
  p:answer("marker = 1")
  forgets(p, "x = m 'hunter2'")
  p:answer("function make(text) return keyferry.secret(text) end")
  forgets(p, "x = make('hunter2')")
  lu.assertNotStrContains(p:answer("history"), SECRET)
  p:answer("partition contents -partition harmless")
  p:answer("shop pay -cart harmless")
  p:finish()
  lu.assertStrContains(p:kept(), "partition contents -partition harmless\n")
  lu.assertStrContains(p:kept(), "shop pay -cart harmless\n")
  lu.assertNotStrContains(p:kept(), SECRET)
end

-- A share is pasted, and the question for it is over: the words stand at the prompt.
function TestHistory.test_keeps_no_words_of_a_share()
  local path = tmp.dir() .. "/share"
  local share = assert(keyferry.ped.create { colour = "black", m = 2, n = 2 })[1]
  assert(share:write(path))
  local lines = shell.read(path):match("\n\n(.*)")
  local all = lines:gsub("%s+", " ")
  local p <close> = start()
  p:answer("marker = 1")
  forgets(p, all)
  forgets(p, lines:match("[^\n]+"))
  forgets(p, all:match("^%l+ (.*) %l+ %l+ %l+ $"))
  forgets(p, "x = '" .. all .. "'")
  p:finish()
  lu.assertNotStrContains(p:kept(), all:match("^%l+ %l+ %l+"))
end

function TestHistory.test_judges_lua_in_whatever_spelling()
  local judge = discreet.new()
  for line, expected in pairs {
    ["secret('x')"] = true, ["secret\n(\n'x')"] = true, ["keyferry.secret--x\n'x'"] = true,
    ["secret[==[x]==]"] = true, ["a.b.secret\"x\""] = true, ["secret(x)"] = true,
    ["secret"] = false, ["secrets = 1"] = false, ["s = { pin = 'x' }"] = true,
    ["s = { ['pin'] = 'x' }"] = true, ["session:init_pin 'x'"] = true, ["pin = 1"] = false,
    ["p:login()"] = false, ["p:login(s)"] = false, ["keyferry.domain('x')"] = true,
    ["'unfinished secret(\"x"] = true, ["print 'x' -- -password y"] = true,
    ["a - b"] = false, ["a-b"] = false, ["x = 1 -- note"] = false,
  } do
    lu.assertEquals(judge:may_hold_secret(line, false), expected, line)
  end
end

function TestHistory.test_is_not_kept_where_others_could_write_it_or_lead_it_elsewhere()
  for _, how in ipairs { "ln -s ../elsewhere %s", "touch %s && chmod 620 %s", "mkdir %s",
    "mkfifo %s", "touch %s && chmod 777 $(dirname %s)" } do
    local home = tmp.dir("home")
    local path = home .. "/.local/state/keyferry/history"
    process.must { "mkdir", "-p", "-m", "700", home .. "/.local/state/keyferry" }
    shell.write(home .. "/.local/state/elsewhere", "theirs\n")
    assert(os.execute((how:gsub("%%s", shell.quote(path)))))
    local p <close> = start { home = home }
    lu.assertStrContains(p.t:text(), "warning: lines are not kept for the next time: ", false,
      how)
    p:answer("mine = 1")
    p.t:key("Up")
    p.t:wait_for("mine = 1")
    p.t:key("C-c")
    p:ready()
    p:finish()
    lu.assertEquals(shell.read(home .. "/.local/state/elsewhere"), "theirs\n")
  end
end

function TestHistory.test_two_shells_at_once_keep_each_others_lines()
  local one <close> = start()
  local other <close> = start { home = one.home }
  for i = 1, 3 do
    one:answer("one = " .. i)
    other:answer("other = " .. i)
  end
  one:finish()
  other:finish()
  lu.assertEquals(one:kept(),
    "one = 1\nother = 1\none = 2\nother = 2\none = 3\nother = 3\n")
end

function TestHistory.test_is_bounded()
  local home = tmp.dir("home")
  local lines = {}
  for i = 1, 1000 do lines[i] = "x = " .. i end
  process.must { "mkdir", "-p", "-m", "700", home .. "/.local/state/keyferry" }
  local path = home .. "/.local/state/keyferry/history"
  shell.write(path, table.concat(lines, "\n") .. "\n")
  process.must { "chmod", "600", path }
  local p <close> = start { home = home }
  p:answer("x = 1001")
  p:finish()
  local kept = shell.lines("cat " .. shell.quote(path))
  lu.assertTrue(#kept <= 1000)
  lu.assertTrue(#kept >= 900)
  lu.assertEquals(kept[#kept], "x = 1001")
  lu.assertEquals(kept[#kept - 1], "x = 1000")
  lu.assertEquals(shell.lines("stat -c %a " .. shell.quote(path)), { "600" })
end

local TestRecord = {}

local function run_file(home, file, env)
  local all = { HOME = home, KEYFERRY_HOME = home, SOFTHSM2_CONF = "/nonexistent",
    XDG_CONFIG_HOME = home .. "/config", XDG_DATA_HOME = false, KEYFERRY_PASSWORD = false,
    KEYFERRY_TOKENPW = false, KEYFERRY_TOKENSOPWD = false, KEYFERRY_DOMAIN = false }
  for name, value in pairs(env or {}) do all[name] = value end
  return process.run { build.keyferry, "run", file, env = all }
end

local function labels(home)
  local done = process.must { build.keyferry, "-e", [[
    local s <close> = assert(keyferry.partition("p1"):login(keyferry.secret("user pin")))
    local list = {}
    for o in s:objects{} do list[#list + 1] = o.class .. " " .. o.label end
    table.sort(list)
    print(table.concat(list, ","))]], env = { HOME = home, KEYFERRY_HOME = home,
      SOFTHSM2_CONF = "/nonexistent", XDG_CONFIG_HOME = home .. "/config" } }
  return done
end

-- Lines with everything that makes it hard: locals, return, comments, what fails, secrets.
local done_in_lua = {
  [[vault = keyferry.create_hsm{ name = "vault", serial = "4711" }]],
  [[p = vault:create_partition{ label = "p1", password = keyferry.secret "user pin", ]] ..
    [[so_password = keyferry.secret("so pin 1"), ]] ..
    [[domain = keyferry.domain(keyferry.secret("river")) };]],
  [[none = keyferry.partition "none"]],
  [[none.x = 1]],
  [[1 +* 2]],
  [[s = p:login(keyferry.secret[=[user pin]=], { writable = true }) -- open]],
  [[local label = "first"; function key(name) return s:generate{ mechanism = "aes_key_gen", ]] ..
    [[value_len = 16, token = true, private = true, label = name or label } end]],
  [[key "kek"]],
  [[return key "dek"]],
  [[run, checked, given, status = 1, 2, 3, 4]],
  [[x, y = keyferry.secret("a" .. "bc"), 5]],
  [[s:close()]],
}

function TestRecord.test_does_the_same_again_and_holds_no_secret()
  local p <close> = start()
  for _, line in ipairs(done_in_lua) do p:answer(line) end
  p:answer("history") -- what it prints is not what is looked for below
  local file = p.home .. "/again.lua"
  p:says("record ~/again.lua", "Recorded in " .. file)
  p:says("record ~/other.lua", "nothing was done yet")
  p:answer("1 + 1")
  p:says("record " .. file, "is there already")
  p:says("record", "needs one file")
  p:says("record " .. p.home .. "/none/x.lua", "error: ")
  p:finish()
  local text = shell.read(file)
  for _, secret in ipairs { "user pin", "so pin 1", "river", "bc" } do
    lu.assertNotStrContains(text, secret)
  end
  lu.assertStrContains(text, "-- Left out: a line that held a secret")
  lu.assertNotStrContains(text, "none")
  lu.assertEquals(shell.lines("stat -c %a " .. shell.quote(file)), { "600" })
  local home = tmp.dir("home")
  local done = run_file(home, file, { KEYFERRY_SECRET = "user pin",
    KEYFERRY_SECRET_2 = "so pin 1", KEYFERRY_SECRET_3 = "river" })
  lu.assertEquals(done.status, 0, done.out .. done.err .. text)
  lu.assertEquals(labels(home), labels(p.home))
  lu.assertStrContains(labels(home), "secret_key dek")
  local again = run_file(home, file, { KEYFERRY_SECRET = "user pin",
    KEYFERRY_SECRET_2 = "so pin 1", KEYFERRY_SECRET_3 = "river" })
  lu.assertNotEquals(again.status, 0)
  lu.assertStrContains(again.err, 'there is an HSM "vault" already')
end

-- A policy that goes on after a backup that failed would end in success.
function TestRecord.test_a_backup_that_fails_later_ends_the_policy()
  local p <close> = start()
  local flag, file = p.home .. "/flag", p.home .. "/again.lua"
  p:answer(('run = function() return { cloned = 0, status = io.open(%q) and "partial" or ' ..
    '"success", reason = keyferry.error{ code = "KFR_REFUSED", what = "half of it" } } end')
    :format(flag))
  p:answer("run()")
  p:says("record " .. file, "Recorded")
  p:finish()
  lu.assertEquals(run_file(p.home, file, {}).status, 0)
  shell.write(flag, "")
  local done = run_file(p.home, file, {})
  lu.assertEquals(done.status, 5)
  lu.assertStrContains(done.err, "half of it")
end

function TestRecord.test_commands_become_commands_of_a_policy()
  local p <close> = start()
  p:answer("hsm create -name vault -serial 4711")
  p:answer("hsm create -name vault -serial 4711")
  p:answer("partition create -partition p1 -serial 4711 -password 'user pin' " ..
    "-tokensopwd 'so pin 1' -domain river -force")
  p:answer("hsm list")
  local file = p.home .. "/again.lua"
  p:says("record " .. file, "Recorded")
  p:finish()
  local text = shell.read(file)
  for _, secret in ipairs { "user pin", "so pin 1", "river" } do
    lu.assertNotStrContains(text, secret)
  end
  local _, creations = text:gsub('ctx:run%("hsm create", { name = "vault", serial = "4711" }%)',
    "")
  lu.assertEquals(creations, 1)
  lu.assertStrContains(text, "password = given.password,")
  local home = tmp.dir("home")
  local done = run_file(home, file, { KEYFERRY_PASSWORD = "user pin",
    KEYFERRY_TOKENSOPWD = "so pin 1", KEYFERRY_DOMAIN = "river" })
  lu.assertEquals(done.status, 0, done.out .. done.err .. text)
  lu.assertEquals(labels(home), labels(p.home))
end

function TestLine.test_wrong_use_is_told_at_the_line_that_was_typed()
  local p <close> = start()
  for _, line in ipairs { 'keyferry.backup{ mode = "add" }', 'return keyferry.plan{}',
    'b = keyferry.plan{}' } do
    p:says(line, "prompt:1: backup needs a source")
  end
  p:says("keyferry.backup{ source = keyferry.hsms, target = 1 }",
    "the source must be a session, as partition:login() gives one")
  p:finish()
end

function TestHistory.test_a_home_that_is_not_there_is_not_made()
  local none = tmp.dir("home") .. "/none"
  local done = process.run { "script", "-qec", build.keyferry, "/dev/null", input = "\4",
    env = { HOME = none, XDG_STATE_HOME = false, KEYFERRY_HOME = tmp.dir("data"),
      SOFTHSM2_CONF = "/nonexistent", TERM = "dumb" } }
  lu.assertEquals(done.status, 0, done.out)
  lu.assertFalse(os.execute("test -e " .. shell.quote(none)) == true)
end

return { TestLine = TestLine, TestKeys = TestKeys, TestInterrupt = TestInterrupt,
  TestEnd = TestEnd, TestHostile = TestHostile, TestTerminal = TestTerminal,
  TestHistory = TestHistory, TestRecord = TestRecord }
