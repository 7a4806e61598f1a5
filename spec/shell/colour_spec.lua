-- SPDX-License-Identifier: MIT
-- Colour at a terminal that has it, and nowhere else.
local lu = require("luaunit")
local build = require("support.build")
local colour = require("keyferry.shell.colour")
local process = require("support.process")
local terminal = require("support.terminal")
local tmp = require("support.tmp")

local CODE = "keyferry.error{ code = 'KFR_EXISTS', what = 'gone wrong' }"
local FAILS = "return nil, keyferry.error{ code = 'KFR_NOT_FOUND', what = 'not there' }"
local RED = "\27[31m"

-- The bytes that the program writes to a terminal.
local function at_terminal(code, env, ...)
  local all = { TERM = "xterm", NO_COLOR = false, KEYFERRY_HOME = tmp.dir("colour") }
  for name, value in pairs(env) do all[name] = value end
  local running <close> = terminal.start { build.keyferry, "-e", code, ..., env = all }
  return running:finish().output
end

local TestColour = {}

function TestColour.test_a_terminal_gets_it()
  lu.assertStrContains(at_terminal(CODE, {}), RED .. "gone wrong\27[0m")
  lu.assertStrContains(at_terminal(FAILS, {}), RED .. "error:\27[0m not there")
  lu.assertStrContains(at_terminal("keyferry.hsms()", {}), "\27[1mHSM ")
end

function TestColour.test_a_command_that_fails_says_so_in_red()
  local env = { TERM = "xterm", NO_COLOR = false, KEYFERRY_HOME = tmp.dir("colour") }
  local running <close> = terminal.start { build.keyferry, "hsm", "show", "-name", "nix",
    env = env }
  local done = running:finish()
  lu.assertStrContains(done.output, RED .. "'hsm show' failed:\27[0m there is no HSM")
  lu.assertEquals(done.status, 6)
end

function TestColour.test_who_does_not_want_it_gets_none()
  for _, env in ipairs { { NO_COLOR = "1" }, { NO_COLOR = "0" }, { TERM = "dumb" },
    { TERM = false }, { TERM = "" } } do
    local written = at_terminal(CODE .. ", keyferry.hsms()", env)
    lu.assertStrContains(written, "gone wrong")
    lu.assertNil(written:find("\27", 1, true), written)
    written = at_terminal(FAILS, env)
    lu.assertStrContains(written, "error: not there")
    lu.assertNil(written:find("\27", 1, true), written)
  end
end

function TestColour.test_an_empty_no_color_says_nothing()
  lu.assertStrContains(at_terminal(CODE, { NO_COLOR = "" }), RED)
end

function TestColour.test_a_pipe_gets_none()
  local env = { TERM = "xterm", NO_COLOR = false, KEYFERRY_HOME = tmp.dir("colour") }
  local done = process.run { build.keyferry, "-e", CODE, env = env }
  lu.assertEquals(done.out, "gone wrong\n")
  done = process.run { build.keyferry, "-e", FAILS, env = env }
  lu.assertEquals(done.err, "error: not there\n")
end

function TestColour.test_each_stream_for_itself()
  local running <close> = terminal.start { "sh", "-c",
    '"$0" -e "$1" | cat; "$0" -e "$2" 2>&1 | cat', build.keyferry, CODE, FAILS,
    env = { TERM = "xterm", NO_COLOR = false, KEYFERRY_HOME = tmp.dir("colour") } }
  local written = running:finish().output
  lu.assertStrContains(written, "gone wrong")
  lu.assertStrContains(written, "error: not there")
  lu.assertNil(written:find("\27", 1, true), written)
end

function TestColour.test_a_value_is_never_coloured_by_what_is_in_it()
  local written = at_terminal("'\\27[31mred'", {})
  lu.assertStrContains(written, "\\x1B[31mred")
  lu.assertNil(written:find(RED, 1, true))
end

function TestColour.test_a_brush_that_is_not_wanted_paints_nothing()
  lu.assertEquals(colour.brush(false)("error", "x"), "x")
  lu.assertEquals(colour.brush(true)("warning", "x"), "\27[33mx\27[0m")
  lu.assertFalse(colour.wanted(false, function() return "xterm" end))
end

return { TestColour = TestColour }
