-- SPDX-License-Identifier: MIT
-- partition backup at a real terminal: the questions of the reference page, its keys, and
-- Ctrl-C at every place.
local lu = require("luaunit")

local scene = require("flow.scene")
local shell = require("support.shell")
local terminal = require("support.terminal")

local PASSWORD = "Please enter the password for the HSM user partition:"
local TOKENPW = "Please enter a password for the user on the backup token:"
local TOKENPW_AGAIN = "Please re-enter the password for the user on the backup token:"
local SO = "Please enter a password for the Security Officer of the backup token:"
local SO_AGAIN = "Please re-enter the password for the Security Officer of the backup token:"
local DOMAIN = "Please enter the cloning domain set when the HSM user partition was created:"
local PROCEED = "Type 'proceed' to continue, or 'quit' to quit now."

local function start(s, how)
  how.secrets = how.secrets or {}
  return terminal.start(s:command(how))
end

local function ask(t, question)
  t:wait_for(question)
  t:wait_for("> ")
  t:wait_until("echo", false)
end

local function answer(t, question, text)
  ask(t, question)
  t:line(text)
end

local function stars(text) return "  > " .. ("*"):rep(#text) .. "\n" end

local TestTranscript = {}

-- What stands on the reference page, to the letter and the blank line.
function TestTranscript.test_of_a_partition_that_is_there()
  local s = scene.new("backed")
  local t <close> = start(s, { "-add", "-match", "note" })
  answer(t, PASSWORD, scene.password)
  answer(t, TOKENPW, scene.tokenpw)
  answer(t, DOMAIN, scene.domain)
  local done = t:finish()
  lu.assertEquals(done.status, 0, done.screen)
  lu.assertTrue(done.restored)
  local handles = { done.screen:match('Object "note" %(handle (%d+)%) already exists on target ' ..
    "%(handle (%d+)%)") }
  lu.assertEquals(#handles, 2, done.screen)
  lu.assertEquals((done.screen:gsub("[ \n]+$", ""):gsub(" +\n", "\n")), (
    "\n  " .. PASSWORD .. "\n" .. stars(scene.password) ..
    "\n  " .. TOKENPW .. "\n" .. stars(scene.tokenpw) ..
    "\n  " .. DOMAIN .. "\n" .. stars(scene.domain) ..
    "\n" .. ('Object "note" (handle %s) already exists on target (handle %s)\n'):format(
      table.unpack(handles)) ..
    "0 cloned, 1 already there, 6 skipped\n'partition backup' successful.\n\n" ..
    "Command Result : 0 (Success)"))
  for _, secret in ipairs { scene.password, scene.tokenpw, scene.domain } do
    lu.assertNotStrContains(done.output, secret)
  end
end

function TestTranscript.test_of_a_partition_that_is_made_new_ones_are_asked_twice()
  local s = scene.new()
  local t <close> = start(s, {})
  answer(t, PASSWORD, scene.password)
  answer(t, TOKENPW, scene.tokenpw)
  answer(t, TOKENPW_AGAIN, scene.tokenpw)
  answer(t, SO, scene.sopw)
  answer(t, SO_AGAIN, scene.sopw)
  answer(t, DOMAIN, scene.domain)
  local done = t:finish()
  lu.assertEquals(done.status, 0, done.screen)
  lu.assertEquals(scene.counts(done.screen), { cloned = 7, exists = 0, failed = 0 })
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
end

function TestTranscript.test_two_entries_that_differ_are_asked_again()
  local s = scene.new()
  local t <close> = start(s, { secrets = scene.secrets { "TOKENPW" } })
  answer(t, TOKENPW, scene.tokenpw)
  answer(t, TOKENPW_AGAIN, "something else")
  t:wait_for("do not match")
  answer(t, TOKENPW, scene.tokenpw)
  answer(t, TOKENPW_AGAIN, scene.tokenpw)
  local done = t:finish()
  lu.assertEquals(done.status, 0, done.screen)
  lu.assertEquals(#scene.labels(s:target()), 7)
end

local TestKeys = {}

-- Each secret is right only when the key did what it does everywhere.
function TestKeys.test_backspace_and_control_u_edit_the_secret_and_its_asterisks()
  local s = scene.new("backed")
  local t <close> = start(s, { "-add" })
  ask(t, PASSWORD)
  t:type(scene.password .. "xy")
  t:wait_for(("*"):rep(#scene.password + 2))
  t:key("BSpace", "BSpace", "Enter")
  ask(t, TOKENPW)
  t:type("completely wrong")
  t:wait_for(("*"):rep(16))
  t:key("C-u")
  t:line(scene.tokenpw)
  answer(t, DOMAIN, scene.domain)
  local done = t:finish()
  lu.assertEquals(done.status, 0, done.screen)
  local screen = done.screen:gsub(" +\n", "\n")
  lu.assertStrContains(screen, stars(scene.password))
  lu.assertStrContains(screen, stars(scene.tokenpw))
end

local TestInterrupt = {}

-- Ctrl-C at each question: the terminal as it was, nothing made, nothing changed.
function TestInterrupt.test_at_each_question_of_a_new_partition()
  local questions = { { PASSWORD, scene.password }, { TOKENPW, scene.tokenpw },
    { TOKENPW_AGAIN, scene.tokenpw }, { SO, scene.sopw }, { SO_AGAIN, scene.sopw },
    { DOMAIN, scene.domain } }
  local s = scene.new()
  local before = s:snapshot()
  for last = 1, #questions do
    local t <close> = start(s, {})
    for i = 1, last - 1 do answer(t, questions[i][1], questions[i][2]) end
    ask(t, questions[last][1])
    t:type("half a sec")
    t:key("C-c")
    local done = t:finish()
    lu.assertEquals(done.status, 130, done.screen)
    lu.assertTrue(done.restored, questions[last][1])
    lu.assertStrContains(done.screen, "Command Result : 130 (")
    lu.assertEquals(s:changes(before), {}, questions[last][1])
  end
  lu.assertEquals(s:hsm("vault"):tokens(), {})
end

function TestInterrupt.test_at_the_confirmation()
  local s = scene.new("backed")
  local before = s:snapshot()
  local t <close> = start(s, { "-replace", secrets = scene.secrets() })
  t:wait_for(PROCEED)
  t:wait_for("> ")
  t:type("procee")
  t:key("C-c")
  local done = t:finish()
  lu.assertEquals(done.status, 130, done.screen)
  lu.assertTrue(done.restored)
  lu.assertEquals(s:changes(before), {})
end

function TestInterrupt.test_a_signal_at_a_question_is_the_same()
  local s = scene.new()
  local before = s:snapshot()
  local t <close> = start(s, {})
  ask(t, PASSWORD)
  local pid = assert(shell.lines("ps -o pid=,comm= -t " .. t.tty:gsub("^/dev/", "") ..
    " | awk '$2 == \"keyferry\" { print $1 }'")[1])
  os.execute("kill -TERM " .. pid)
  local done = t:finish()
  lu.assertEquals(done.status, 130, done.screen)
  lu.assertTrue(done.restored)
  lu.assertEquals(s:changes(before), {})
end

local TestConfirm = {}

function TestConfirm.test_it_names_the_token_and_what_is_lost_and_quit_changes_nothing()
  local s = scene.new("backed")
  local before = s:snapshot()
  local t <close> = start(s, { "-replace", secrets = scene.secrets() })
  t:wait_for(PROCEED)
  local screen = t:screen()
  for _, text in ipairs { '"backup"', s:target().serial, "7 objects", scene.serial } do
    lu.assertStrContains(screen, text)
  end
  t:wait_for("> ")
  t:line("quit")
  local done = t:finish()
  lu.assertEquals(done.status, 5, done.screen)
  lu.assertStrContains(done.screen, "Command Result : 5 (")
  lu.assertEquals(s:changes(before), {})
end

function TestConfirm.test_only_the_whole_word_proceeds()
  local s = scene.new("backed")
  local before = s:snapshot()
  local t <close> = start(s, { "-replace", secrets = scene.secrets() })
  for _ = 1, 3 do
    t:wait_for(PROCEED)
    t:wait_for("> ")
    t:line("yes")
  end
  lu.assertEquals(t:finish().status, 5)
  lu.assertEquals(s:changes(before), {})
end

function TestConfirm.test_proceed_proceeds()
  local s = scene.new("backed")
  local t <close> = start(s, { "-replace", "-match", "note", secrets = scene.secrets() })
  t:wait_for(PROCEED)
  t:wait_for("> ")
  t:line("proceed")
  local done = t:finish()
  lu.assertEquals(done.status, 0, done.screen)
  lu.assertEquals(scene.labels(s:target()), { "note" })
end

return {
  TestTranscript = TestTranscript,
  TestKeys = TestKeys,
  TestInterrupt = TestInterrupt,
  TestConfirm = TestConfirm,
}
