-- SPDX-License-Identifier: MIT
-- A backup of a partition with PED keys, M = 2 of N = 3 of each key, typed at a real terminal:
-- asked for by colour, by whose it is, and share by share.
local lu = require("luaunit")

local ped = require("support.ped")
local ped_scene = require("flow.ped_scene")
local terminal = require("support.terminal")

-- The question; each key of two shares asks for the second by the set of the first.
local function answer(t, question, what)
  t:wait_for(question)
  t:wait_for("> ")
  if what:find("^/") then
    t:line(what)
  else
    t:type((what:gsub("%a+", function(word) return word:sub(1, 4) end)) .. " ")
  end
end

local function words(key, n) return ped.words(key.files[n]) end

local function start(s, more)
  local command = { "partition", "backup", "-partition", "payments", "-tokenpar", "backup",
    "-serial", ped_scene.serial, width = 160 }
  table.move(more or {}, 1, #(more or {}), #command + 1, command)
  return terminal.start(s:program(command))
end

local SOURCE = 'Black key for partition "payments" on HSM "prod"'
local TARGET = 'Black key for partition "backup" on HSM "vault"'
local DOMAIN = 'Red key for partition "payments" on HSM "prod"'
local BLUE = 'Blue key for HSM "vault"'

local TestPedBackupTerminal = {}

function TestPedBackupTerminal.test_two_of_three_typed_word_by_word()
  local s, keys = ped_scene.new(), ped_scene.all_keys()
  local t <close> = start(s)
  answer(t, SOURCE, words(keys.black, 2))
  answer(t, "another share of set " .. keys.black.set .. " (1 of 2 given)", words(keys.black, 3))
  answer(t, TARGET, words(keys.other_black, 1))
  answer(t, "set " .. keys.other_black.set .. " (1 of 2 given)", words(keys.other_black, 2))
  answer(t, BLUE, keys.blue.files[1])
  answer(t, DOMAIN, words(keys.red, 1))
  local done = t:finish()
  lu.assertEquals(done.status, 0, done.screen)
  lu.assertTrue(done.restored)
  lu.assertStrContains(done.screen, "3 cloned")
  lu.assertStrContains(done.screen, "Command Result : 0 (Success)")
  local last = words(keys.black, 3):match("(%a+ %a+)$")
  lu.assertNotStrContains(done.screen, last)
  lu.assertTrue(s:proved())
end

-- A share of another colour, one of another set and the same one again are told apart, and the
-- right one is asked for again.
function TestPedBackupTerminal.test_a_share_that_does_not_fit_is_asked_for_again()
  local s, keys = ped_scene.new(), ped_scene.all_keys()
  local t <close> = start(s)
  answer(t, SOURCE, keys.red.files[1])
  t:wait_for("one of a black key is wanted")
  answer(t, SOURCE, keys.black.files[1])
  answer(t, "1 of 2 given", keys.other_black.files[2])
  t:wait_for("another set")
  answer(t, "1 of 2 given", keys.black.files[2])
  answer(t, TARGET, keys.other_black.files[1])
  answer(t, "1 of 2 given", keys.other_black.files[3])
  answer(t, BLUE, keys.blue.files[1])
  answer(t, DOMAIN, keys.red.files[1])
  local done = t:finish()
  lu.assertEquals(done.status, 0, done.screen)
  lu.assertTrue(s:proved())
end

function TestPedBackupTerminal.test_another_blue_or_red_key_ends_it_with_nothing_made()
  local s, keys = ped_scene.new(), ped_scene.all_keys()
  local before = s:snapshot()
  for _, case in ipairs { { "other_blue", "red", 3, "another blue key than that of HSM \"vault\"" },
    { "blue", "other_red", 4, "the red key used for the source must be used for the backup" } } do
    local t <close> = start(s)
    answer(t, SOURCE, keys.black.files[1])
    answer(t, "1 of 2 given", keys.black.files[2])
    answer(t, TARGET, keys.other_black.files[1])
    answer(t, "1 of 2 given", keys.other_black.files[3])
    answer(t, BLUE, keys[case[1]].files[1])
    if case[1] == "blue" then answer(t, DOMAIN, keys[case[2]].files[1]) end
    local done = t:finish()
    lu.assertEquals(done.status, case[3], done.screen)
    lu.assertStrContains(done.screen, case[4])
    lu.assertEquals(s:changes(before), {})
  end
end

-- Ctrl-C in the middle of a word: nothing was made, and the terminal is as it was.
function TestPedBackupTerminal.test_interrupted_nothing_is_made()
  local s, keys = ped_scene.new(), ped_scene.all_keys()
  local before = s:snapshot()
  local t <close> = start(s)
  answer(t, SOURCE, keys.black.files[1])
  t:wait_for("1 of 2 given")
  t:wait_for("> ")
  t:type(words(keys.black, 2):sub(1, 30))
  t:key("C-c")
  local done = t:finish()
  lu.assertEquals(done.status, 130, done.screen)
  lu.assertTrue(done.restored)
  lu.assertEquals(s:changes(before), {})
end

return { TestPedBackupTerminal = TestPedBackupTerminal }
