-- SPDX-License-Identifier: MIT
-- Questions at a real terminal. The program is a few lines of Lua over the core.
local lu = require("luaunit")
local build = require("support.build")
local process = require("support.process")
local shell = require("support.shell")
local terminal = require("support.terminal")
local tmp = require("support.tmp")

local env = { LUA_CPATH_5_4 = build.dir .. "/lua/?.so;;", LC_ALL = "C.UTF-8" }

-- Asks, then says whether the answer was the argument, or the code of the refusal.
local program = [[
  local core = require("keyferry.core")
  os.setlocale("", "ctype") -- as the program does: how wide a character is
  local stat <close> = io.open("/proc/self/stat")
  local note <close> = io.open(arg[0] .. ".pid", "w")
  note:write(stat:read("n")):flush()
  local answer, err = core.terminal[arg[1] ](arg[1] .. " > ")
  local wanted = arg[1] == "ask" and arg[2] or core.secret(arg[2])
  print(err and err.code or answer == wanted and "SAME" or "OTHER")]]

local lua = arg[-1] or "lua5.4"
local function write_program()
  return tmp.file(program, "ask.lua")
end

local function start(kind, wanted)
  local path = write_program()
  local t = terminal.start { lua, path, kind, wanted, env = env }
  t:wait_for(kind .. " >")
  t:wait_until("echo", false)
  return t, shell.read(path .. ".pid")
end

local function ends(t, said, screen)
  local done = t:finish()
  lu.assertStrContains(done.text, said)
  lu.assertTrue(done.restored)
  lu.assertStrContains((done.screen:gsub(" +\n", "\n")), screen)
end

local TestTerminal = {}

function TestTerminal.test_asterisks_for_characters_not_bytes()
  local t <close> = start("ask_secret", "pä€s")
  t:line("pä€s")
  ends(t, "SAME", "ask_secret > ****\n")
end

function TestTerminal.test_backspace_takes_a_character_back()
  local t <close> = start("ask_secret", "abc")
  t:type("abé")
  t:key("BSpace")
  t:type("x")
  t:key("C-h")
  t:line("c")
  ends(t, "SAME", "ask_secret > ***\n")
end

function TestTerminal.test_ctrl_u_and_ctrl_w_take_all_back()
  local t <close> = start("ask_secret", "abc")
  t:type("one two")
  t:key("C-u")
  t:type("three four")
  t:key("C-w")
  t:line("abc")
  ends(t, "SAME", "ask_secret > ***\n")
end

function TestTerminal.test_keys_that_are_no_characters_do_nothing()
  local t <close> = start("ask_secret", "abc")
  t:type("a")
  t:key("Up", "F1", "Tab", "C-z", "C-d", "Home", "C-s")
  t:type("\27[200~bc\27[201~")
  t:key("Enter")
  ends(t, "SAME", "ask_secret > ***\n")
end

function TestTerminal.test_ctrl_c_is_an_interruption()
  local t <close> = start("ask_secret", "abc")
  t:type("ab")
  t:key("C-c")
  ends(t, "KFR_INTERRUPTED", "ask_secret > **\n")
end

function TestTerminal.test_ctrl_d_on_an_empty_line_is_a_refusal()
  local t <close> = start("ask_secret", "abc")
  t:key("C-d")
  ends(t, "KFR_REFUSED", "ask_secret >\n")
end

function TestTerminal.test_a_line_too_long_is_refused_and_not_cut()
  local t <close> = start("ask_secret", "abc")
  t:type(("x"):rep(1025))
  t:key("Enter")
  ends(t, "KFR_LIMIT", "***")
end

function TestTerminal.test_a_line_too_long_may_be_taken_back_and_typed_again()
  local t <close> = start("ask_secret", "abc")
  t:type(("x"):rep(1025))
  t:type(("\127"):rep(1023))
  t:type("\127")
  t:line("abc")
  ends(t, "SAME", "***")
end

function TestTerminal.test_a_plain_answer_is_shown()
  local t <close> = start("ask", "proceed")
  t:type("prö日")
  t:key("BSpace", "BSpace")
  t:line("oceed")
  ends(t, "SAME", "ask > proceed\n")
end

function TestTerminal.test_a_signal_that_ends_us_leaves_the_terminal_as_it_was()
  for _, signal in ipairs { "TERM", "HUP", "INT", "QUIT" } do
    local t <close>, pid = start("ask_secret", "abc")
    t:type("ab")
    t:wait_for("**")
    assert(os.execute(("kill -%s %s"):format(signal, pid)))
    lu.assertTrue(t:finish().restored, signal)
  end
end

function TestTerminal.test_without_a_terminal_it_is_refused_at_once()
  local done = process.run { lua, write_program(), "ask_secret", "x", env = env,
    input = "x\n", timeout = 5 }
  lu.assertEquals({ done.status, done.out }, { 0, "KFR_REFUSED\n" })
end

function TestTerminal.test_how_wide_it_is_and_nothing_for_what_is_none()
  local path = tmp.file('print(require("keyferry.core").terminal.columns(1), "columns")')
  local t <close> = terminal.start { lua, path, env = env, width = 93 }
  lu.assertStrContains(t:finish().text, "93\tcolumns")
  lu.assertEquals(process.must { lua, path, env = env }, "nil\tcolumns\n")
end

return { TestTerminal = TestTerminal }
