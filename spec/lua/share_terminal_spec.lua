-- SPDX-License-Identifier: MIT
-- Shares shown and typed at a real terminal. The program is a few lines of Lua over the core.
local lu = require("luaunit")
local core = require("keyferry.core")
local build = require("support.build")
local process = require("support.process")
local shell = require("support.shell")
local terminal = require("support.terminal")
local tmp = require("support.tmp")

local env = { LUA_CPATH_5_4 = build.dir .. "/lua/?.so;;", LC_ALL = "C.UTF-8" }
local lua = arg[-1] or "lua5.4"

-- Asks, then says what it got: the share by what it is, a path, or the refusal.
local ask_program = [[
  local core = require("keyferry.core")
  local stat <close> = io.open("/proc/self/stat")
  local note <close> = io.open(arg[0] .. ".pid", "w")
  note:write(stat:read("n")):flush()
  local answer, err = core.terminal.ask_share("black key 1 of 2\n  > ", tonumber(arg[1]))
  if err then
    print(err.code, err.what)
  elseif type(answer) == "string" then
    print("PATH", answer)
  else
    print("SHARE", answer:colour(), answer:set(), answer:number(), answer:length())
    local wanted = core.share.read(arg[2])
    local _, same = answer:check_fits(wanted)
    print(same and same.what)
  end]]

local show_program = [[
  local core = require("keyferry.core")
  local stat <close> = io.open("/proc/self/stat")
  local note <close> = io.open(arg[0] .. ".pid", "w")
  note:write(stat:read("n")):flush()
  print("before it")
  local done, err = core.terminal.show_share(core.share.read(arg[1]), "Black key, share 1 of 3")
  print(err and err.code or done)]]

-- A share in a file, and its words, which only a spec may have.
local function a_share(options)
  local shares = assert(core.share.create(options or { colour = "black", m = 2, n = 3 }))
  local path = tmp.dir() .. "/share"
  assert(shares[1]:write(path))
  local words = {}
  for word in shell.read(path):match("\n\n(.*)"):gmatch("%S+") do words[#words + 1] = word end
  return shares[1], words, path
end

local function ask(length, path, width)
  local program = tmp.file(ask_program, "ask.lua")
  local t = terminal.start { lua, program, length or "-", path or "-", env = env,
    width = width }
  t:wait_for("word 1: ")
  t:wait_until("echo", false)
  return t, program .. ".pid"
end

local function says(share)
  return ("SHARE\t%s\t%s\t%d\t%d"):format(share:colour(), share:set(), share:number(),
    share:length())
end

local function same(share)
  return ("share %d of set %s is there twice\n"):format(share:number(), share:set())
end

local function wrong_for(word)
  return word == "academic" and "zero" or "academic"
end

-- One after another, as a person types: the next word when the terminal asks for it.
local function type_words(t, words, from, to)
  for i = from or 1, to or #words do
    t:type(words[i]:sub(1, 4) .. " ")
    if i < (to or #words) then t:wait_for(("word %d"):format(i + 1)) end
  end
end

local TestAsking = {}

function TestAsking.test_four_letters_and_a_blank_are_a_word_and_the_last_ends_it()
  local share, words, path = a_share()
  local t <close> = ask(nil, path)
  type_words(t, words)
  local done = t:finish()
  lu.assertStrContains(done.text, says(share))
  lu.assertStrContains(done.text, same(share))
  lu.assertTrue(done.restored)
  lu.assertStrContains(done.screen:gsub(" +\n", "\n"), "black key 1 of 2\n  > " ..
    ("*"):rep(#words) .. "\nSHARE")
end

function TestAsking.test_a_word_is_whole_as_soon_as_its_letters_tell_it()
  local t <close> = ask()
  t:type("aca")
  t:wait_for("word 1: aca")
  t:type("d")
  t:wait_for("word 1: academic")
  t:type("emi")
  t:key("Enter")
  t:wait_for("* word 2: ")
  t:key("C-c")
  local done = t:finish()
  lu.assertStrContains(done.text, "KFR_INTERRUPTED")
  lu.assertTrue(done.restored)
  lu.assertNil(done.screen:find("academic", 1, true))
end

-- What wraps is on a line that is not drawn again.
function TestAsking.test_a_narrow_terminal_keeps_no_letter_of_a_word()
  for _, width in ipairs { 45, 30 } do
    local share, words, path = a_share()
    local t <close> = ask(nil, path, width)
    type_words(t, words)
    local done = t:finish()
    lu.assertStrContains(done.text, says(share))
    lu.assertEquals(select(2, done.screen:gsub("word", "")), 0, done.screen)
    lu.assertStrContains(done.screen:gsub(" +\n", "\n"), "\n  > " .. ("*"):rep(#words))
  end
end

function TestAsking.test_lines_can_be_pasted_in_either_case()
  local share, words, path = a_share()
  local t <close> = ask(nil, path)
  t:type(table.concat(words, " ", 1, 16):upper())
  t:key("Enter")
  t:type("  " .. table.concat(words, " ", 17))
  t:key("Enter")
  local done = t:finish()
  lu.assertStrContains(done.text, says(share))
  lu.assertStrContains(done.text, same(share))
end

-- Else they are read by who asks next: a shell, which has a history.
function TestAsking.test_what_is_pasted_behind_a_share_goes_to_nobody()
  local share, words, path = a_share()
  local program = tmp.file(ask_program, "ask.lua")
  local t <close> = terminal.start { "sh", "-c", '"$@"; read -r rest; echo "rest: $rest."',
    "sh", lua, program, "-", path, env = env }
  t:wait_for("word 1: ")
  t:wait_until("echo", false)
  t:type(table.concat(words, " ") .. " " .. table.concat(words, " "))
  t:wait_for(says(share))
  t:wait_until("icanon", true)
  t:line("end")
  lu.assertStrContains(t:finish().screen, "rest: end.")
end

function TestAsking.test_a_word_that_is_none_is_said_at_once_and_typed_again()
  local share, words, path = a_share()
  local t <close> = ask(nil, path)
  type_words(t, words, 1, 4)
  t:wait_for("word 5: ")
  t:type("keyferry what came after it ")
  t:wait_for("word 5: it is none of the words that shares are made of; type it again")
  t:wait_for("word 5: ")
  t:type("ac ")
  t:wait_for("word 5: more than one word of the list begins like this; type it again")
  t:wait_for("word 5: ")
  type_words(t, words, 5)
  lu.assertStrContains(t:finish().text, same(share))
end

function TestAsking.test_the_mistyped_word_is_named_and_typed_again()
  local share, words, path = a_share()
  local t <close> = ask(33, path)
  local right = words[7]
  words[7] = wrong_for(right)
  t:line(table.concat(words, " "))
  t:wait_for("word 7 of 33 is not the word that was written down")
  t:wait_for("word 7 again: ")
  t:line(right)
  local done = t:finish()
  lu.assertStrContains(done.text, same(share))
end

function TestAsking.test_swapped_words_are_named_and_typed_again()
  local share, words, path = a_share()
  local at = 9
  while words[at] == words[at + 1] do at = at + 1 end
  words[at], words[at + 1] = words[at + 1], words[at]
  local t <close> = ask(nil, path)
  t:line(table.concat(words, " "))
  t:wait_for(("words %d and %d of 33 are swapped"):format(at, at + 1))
  t:wait_for(("word %d again: "):format(at))
  t:line(words[at + 1] .. " " .. words[at])
  lu.assertStrContains(t:finish().text, same(share))
end

function TestAsking.test_more_than_one_wrong_word_is_a_refusal()
  local _, words = a_share()
  words[7], words[20] = wrong_for(words[7]), wrong_for(words[20])
  local t <close> = ask(33)
  t:line(table.concat(words, " "))
  local done = t:finish()
  lu.assertStrContains(done.text, "KFR_SHARE")
  lu.assertStrContains(done.text, "more than one of them is wrong")
  lu.assertTrue(done.restored)
end

function TestAsking.test_backspace_goes_back_a_letter_then_a_word()
  local share, words, path = a_share()
  local t <close> = ask(nil, path)
  type_words(t, words, 1, 2)
  t:wait_for("word 3: ")
  t:type("zero yel")
  t:wait_for("* word 4: ye")
  t:key("BSpace", "BSpace", "BSpace", "BSpace")
  t:wait_for("word 3: ")
  type_words(t, words, 3)
  lu.assertStrContains(t:finish().text, same(share))
end

function TestAsking.test_enter_says_that_it_was_all_when_nothing_else_does()
  local _, words = a_share()
  local t <close> = ask()
  t:line(table.concat(words, " ", 1, 5))
  t:wait_for("word 6: ")
  t:key("Enter")
  t:wait_for("5 words: no share has less than 20")
  t:wait_for("word 6: ")
  t:line(table.concat(words, " ", 6, 20))
  t:wait_for("word 21 (Enter: that was the last): ")
  t:key("Enter")
  lu.assertStrContains(t:finish().text, "KFR_SHARE\tthe 20 words are no share")
end

function TestAsking.test_a_path_is_a_path()
  for typed, wanted in pairs { ["/media/stick/black-1"] = "/media/stick/black-1",
    ["./a b"] = "./a b", ["~/1"] = "~/1" } do
    local t <close> = ask()
    t:type(typed .. "x")
    t:key("BSpace", "Enter")
    local done = t:finish()
    lu.assertStrContains(done.text, "PATH\t" .. wanted .. "\n")
    lu.assertTrue(done.restored)
  end
end

function TestAsking.test_ctrl_d_before_the_first_word_is_a_refusal()
  local t <close> = ask()
  t:key("C-d")
  lu.assertStrContains(t:finish().text, "KFR_REFUSED\tnothing was entered")
end

function TestAsking.test_a_signal_that_ends_us_leaves_the_terminal_as_it_was()
  local t <close>, pid = ask()
  t:type("acad")
  t:wait_for("academic")
  assert(os.execute("kill -TERM " .. shell.read(pid)))
  local done = t:finish()
  lu.assertTrue(done.restored)
  lu.assertNil(done.screen:find("acad", 1, true))
end

function TestAsking.test_without_a_terminal_it_is_refused_at_once()
  local _, _, path = a_share()
  local done = process.run { lua, tmp.file(ask_program), env = env, input = "", timeout = 5 }
  lu.assertEquals(done.out, "KFR_REFUSED\tthere is no terminal to ask at\n")
  done = process.run { lua, tmp.file(show_program), path, env = env, timeout = 5 }
  lu.assertEquals(done.out, "before it\nKFR_REFUSED\n")
end

local TestShowing = {}

local function show(path, more)
  local program = tmp.file(show_program, "show.lua")
  local t = terminal.start { lua, program, path, env = env, height = more and more.height,
    width = more and more.width }
  t:wait_for("Black key, share 1 of 3")
  return t, program .. ".pid"
end

local function assert_gone(screen, words)
  lu.assertStrContains(screen, "before it")
  lu.assertNil(screen:find("Black key", 1, true))
  for i = 1, #words do
    lu.assertNil(screen:find("%d " .. words[i]), "a word is still on the screen")
  end
end

function TestShowing.test_all_words_numbered_then_the_question_then_nothing_of_it()
  local _, words, path = a_share()
  local t <close> = show(path)
  t:wait_for("Type 'yes' or 'no' >")
  local screen = t:screen()
  for i, word in ipairs(words) do
    lu.assertStrContains(screen, ("%d %s"):format(i, word))
  end
  t:line("maybe")
  t:wait_for("Type 'yes' or 'no' >")
  t:line("yes")
  local done = t:finish()
  lu.assertStrContains(done.screen, "true")
  lu.assertTrue(done.restored)
  assert_gone(done.screen, words)
end

function TestShowing.test_no_is_no_and_ctrl_c_an_interruption()
  local _, words, path = a_share()
  for _, case in ipairs { { "no", "Enter", "false" }, { "y", "C-c", "KFR_INTERRUPTED" } } do
    local t <close> = show(path)
    t:wait_for("Type 'yes' or 'no' >")
    t:type(case[1])
    t:key(case[2])
    local done = t:finish()
    lu.assertStrContains(done.screen, case[3])
    assert_gone(done.screen, words)
  end
end

function TestShowing.test_a_small_screen_shows_them_page_by_page()
  local _, words, path = a_share()
  local t <close> = show(path, { height = 12, width = 40 })
  t:wait_for("Enter shows the rest >")
  local screen = t:screen()
  lu.assertStrContains(screen, "1 " .. words[1])
  lu.assertNil(screen:find("33 " .. words[33], 1, true))
  t:key("Enter")
  t:wait_for("Enter shows the rest >")
  t:key("Enter")
  t:wait_for("Type 'yes' or 'no' >")
  lu.assertStrContains(t:screen(), "33 " .. words[33])
  t:line("yes")
  assert_gone(t:finish().screen, words)
end

-- GNU screen as it comes, tmux told so: what they clear they keep to be scrolled back to.
function TestShowing.test_a_terminal_without_a_screen_for_us_keeps_no_words_to_scroll_back_to()
  for _, height in ipairs { 40, 12 } do
    local _, words, path = a_share()
    local program = tmp.file(show_program, "show.lua")
    local t <close> = terminal.start { "sh", "-c", 'read -r _; exec "$@"', "sh", lua, program,
      path, env = env, height = height, width = 60 }
    t:tmux("set-option", "-g", "alternate-screen", "off")
    t:key("Enter")
    t:wait_for("Black key, share 1 of 3")
    while not pcall(t.wait_for, t, "Type 'yes' or 'no' >", 1) do t:key("Enter") end
    t:line("maybe")
    t:wait_for("Type 'yes' or 'no' >")
    lu.assertStrContains(t:screen(), "33 " .. words[33])
    t:line("yes")
    assert_gone(t:finish().screen, words)
  end
end

function TestShowing.test_a_signal_that_ends_us_takes_the_words_along()
  local _, words, path = a_share()
  local t <close>, pid = show(path)
  t:wait_for("Type 'yes' or 'no' >")
  assert(os.execute("kill -TERM " .. shell.read(pid)))
  local done = t:finish()
  lu.assertTrue(done.restored)
  assert_gone(done.screen, words)
end

function TestShowing.test_a_terminal_that_cannot_forget_is_shown_nothing()
  local _, words, path = a_share()
  local t <close> = terminal.start { "env", "TERM=dumb", lua, tmp.file(show_program), path,
    env = env }
  local done = t:finish()
  lu.assertStrContains(done.text, "KFR_REFUSED")
  lu.assertNil(done.text:find(words[5], 1, true))
end

return { TestAskingForShares = TestAsking, TestShowingShares = TestShowing }
