-- SPDX-License-Identifier: MIT
-- PED keys at a real terminal: each share shown by itself until it has been written down, and
-- typed again word by word.
local lu = require("luaunit")

local build = require("support.build")
local keyferry = require("keyferry")
local ped = require("support.ped")
local shell = require("support.shell")
local terminal = require("support.terminal")
local tmp = require("support.tmp")

local WRITTEN = "Written down?"

local home

local function start(...)
  home = home or tmp.dir("home")
  local command = { build.keyferry, "--home", home, ... }
  command.env = { KEYFERRY_PED = false, KEYFERRY_DOMAIN = false,
    SOFTHSM2_CONF = "/nonexistent", HOME = home, XDG_CONFIG_HOME = home .. "/config" }
  return terminal.start(command)
end

-- The numbered words on the screen, as one who writes them down has them.
local function shown(t)
  local words = {}
  for number, word in t:screen():gmatch("(%d+) (%l+)") do words[tonumber(number)] = word end
  lu.assertEquals(#words, 33, t:screen())
  return words
end

local function show(t, title)
  t:wait_for(title)
  t:wait_for(WRITTEN)
  t:wait_for("> ")
  return shown(t)
end

-- Four letters of a word are enough, and the blank behind it takes it.
local function type_words(t, words, first)
  local letters = {}
  for i = first or 1, #words do table.insert(letters, words[i]:sub(1, 4)) end
  t:type(table.concat(letters, " ") .. " ")
end

local function no_word_is_on(screen, words)
  for i = 2, #words do
    lu.assertNotStrContains(screen, words[i - 1] .. " " .. words[i])
    lu.assertNotStrContains(screen, ("%2d %s"):format(i, words[i]))
  end
end

local function create(...)
  local t <close> = start("ped", "create", "-colour", "black", "-m", "2", "-n", "3", ...)
  local shares = {}
  for i = 1, 3 do
    shares[i] = show(t, ("Black key %d of 3"):format(i))
    t:line("yes")
  end
  local done = t:finish()
  lu.assertEquals(done.status, 0, done.screen)
  lu.assertTrue(done.restored)
  for i = 1, 3 do no_word_is_on(done.screen, shares[i]) end
  return shares, done.screen:match("Check value: (%x+)")
end

local TestPedTerminal = {}

function TestPedTerminal.test_two_of_three_are_made_written_down_and_typed_again()
  local shares, check = create()
  local t <close> = start("ped", "combine")
  t:wait_for("the words of a share")
  t:wait_for("> ")
  type_words(t, shares[3])
  t:wait_for("1 of 2 given")
  t:wait_for("> ")
  type_words(t, shares[1])
  local done = t:finish()
  lu.assertEquals(done.status, 0, done.screen)
  lu.assertTrue(done.restored)
  lu.assertStrContains(done.screen, "a black key (Crypto Officer)")
  lu.assertStrContains(done.screen, "Check value: " .. check)
  no_word_is_on(done.screen, shares[1])
  no_word_is_on(done.screen, shares[3])
end

function TestPedTerminal.test_what_was_not_written_down_is_shown_again()
  local t <close> = start("ped", "create", "-colour", "blue")
  local first = show(t, "Blue key 1 of 1")
  t:line("no")
  lu.assertEquals(show(t, "Blue key 1 of 1"), first)
  t:line("yes")
  lu.assertEquals(t:finish().status, 0)
end

-- The whole of it: nothing is left on the screen, and who reads what is said uses none of it.
function TestPedTerminal.test_ctrl_c_ends_it_and_says_that_the_key_is_not_to_be_used()
  local t <close> = start("ped", "create", "-colour", "red", "-m", "2", "-n", "2")
  show(t, "Red key 1 of 2")
  t:line("yes")
  local words = show(t, "Red key 2 of 2")
  t:key("C-c")
  local done = t:finish()
  lu.assertEquals(done.status, 130, done.screen)
  lu.assertTrue(done.restored)
  lu.assertStrContains(done.screen, "1 of 2 shares")
  lu.assertStrContains(done.screen, "this key is not to be used")
  lu.assertNotStrContains(done.screen, "Check value")
  no_word_is_on(done.screen, words)
end

function TestPedTerminal.test_ctrl_d_says_so_too()
  local t <close> = start("ped", "create", "-colour", "red", "-m", "2", "-n", "2")
  show(t, "Red key 1 of 2")
  t:line("yes")
  local words = show(t, "Red key 2 of 2")
  t:key("C-d")
  local done = t:finish()
  lu.assertEquals(done.status, 5, done.screen)
  lu.assertStrContains(done.screen, "1 of 2 shares")
  lu.assertStrContains(done.screen, "this key is not to be used")
  no_word_is_on(done.screen, words)
end

function TestPedTerminal.test_a_word_that_is_none_is_said_at_once_and_a_wrong_one_by_its_place()
  local key = ped.key("blue")
  local words = {}
  for word in ped.words(key.files[1]):gmatch("%a+") do table.insert(words, word) end
  local right = words[7]
  words[7] = right == "academic" and "acid" or "academic"
  local t <close> = start("ped", "combine", "-colour", "blue")
  t:wait_for("Blue key")
  t:wait_for("> ")
  t:type("xylophone ")
  t:wait_for("word 1: it is none of the words")
  t:wait_for("> word 1")
  type_words(t, words)
  t:wait_for("word 7 again")
  t:type(right .. " ")
  local done = t:finish()
  lu.assertEquals(done.status, 0, done.screen)
  lu.assertStrContains(done.screen, "Check value: " .. keyferry.ped.check(key.secret))
end

function TestPedTerminal.test_a_file_may_be_named_and_the_wrong_colour_is_asked_again()
  local key, red = ped.key("black", 2, 2), ped.key("red")
  local t <close> = start("ped", "combine", "-colour", "black")
  t:wait_for("Black key")
  t:wait_for("> ")
  t:line(red.files[1])
  t:wait_for("share of a red key")
  t:wait_for("Black key")
  t:wait_for("> ")
  t:line(key.files[2])
  t:wait_for("1 of 2 given")
  t:wait_for("> ")
  t:line(key.folders[1])
  local done = t:finish()
  lu.assertEquals(done.status, 0, done.screen)
  lu.assertStrContains(done.screen, "Check value: " .. keyferry.ped.check(key.secret))
end

-- A share from a stick, on paper.
function TestPedTerminal.test_duplicate_shows_what_is_in_a_file()
  local key = ped.key("black", 2, 3)
  local t <close> = start("ped", "duplicate", "-from", key.files[2])
  local words = show(t, "Black key 2 of 3")
  t:line("yes")
  lu.assertEquals(t:finish().status, 0)
  lu.assertEquals(table.concat(words, " "), ped.words(key.files[2]))
end

-- Keys are asked for where a partition is made, and a partition opens with what was typed.
function TestPedTerminal.test_a_partition_is_made_and_opened_with_typed_keys()
  local shares = create()
  local blue, red = ped.key("blue"), ped.key("red")
  local t <close> = start("hsm", "create", "-name", "vault", "-serial", "496771", "-ped")
  t:wait_for("Blue key")
  t:wait_for("> ")
  t:line(blue.files[1])
  lu.assertEquals(t:finish().status, 0)
  local create_partition <close> = start("partition", "create", "-partition", "p1", "-serial",
    "496771")
  local function give(where, question, what)
    where:wait_for(question)
    where:wait_for("> ")
    if type(what) == "string" then where:line(what) else type_words(where, what) end
  end
  give(create_partition, "Black key", shares[1])
  give(create_partition, "1 of 2 given", shares[2])
  give(create_partition, "Blue key", blue.files[1])
  give(create_partition, "Red key", red.files[1])
  local done = create_partition:finish()
  lu.assertEquals(done.status, 0, done.screen)
  local contents <close> = start("partition", "contents", "-partition", "p1")
  give(contents, "Black key", shares[3])
  give(contents, "1 of 2 given", shares[2])
  done = contents:finish()
  lu.assertEquals(done.status, 0, done.screen)
  lu.assertTrue(shell.exists(home))
end

return { TestPedTerminal = TestPedTerminal }
