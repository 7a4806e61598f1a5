-- SPDX-License-Identifier: MIT
-- PED keys as shares: made, written, split again, duplicated, looked at, combined; asked for at
-- a terminal one by one. The terminal itself is in ped_terminal_spec.lua.
local lu = require("luaunit")

local build = require("support.build")
local cjson = require("cjson")
local keyferry = require("keyferry")
local ped = require("support.ped")
local process = require("support.process")
local shell = require("support.shell")
local testing = require("keyferry.testing")
local tmp = require("support.tmp")

local home

local function run(command)
  home = home or tmp.dir("home")
  local all = { build.keyferry, "--home", home }
  table.move(command, 1, #command, #all + 1, all)
  all.env = { KEYFERRY_PED = false, KEYFERRY_DOMAIN = false, SOFTHSM2_CONF = "/nonexistent",
    HOME = home, XDG_CONFIG_HOME = home .. "/config" }
  for name, value in pairs(command.env or {}) do all.env[name] = value end
  all.cwd = command.cwd
  return process.run(all)
end

local function check_of(done)
  return done.out:match("\nCheck value: (%x+)\n") or done.out:match("^Check value: (%x+)\n")
end

local function list(folder) return shell.lines("ls -A " .. shell.quote(folder)) end

local function raises(what, f, ...)
  local done, err = f(...)
  lu.assertNil(done)
  lu.assertEquals(err.code, "KFR_SHARE")
  lu.assertStrContains(err.what, what)
end

local TestPedLibrary = {}

function TestPedLibrary.test_any_two_of_three_give_one_key_and_one_gives_none()
  local shares = assert(keyferry.ped.create { colour = "black", m = 2, n = 3 })
  local first = assert(keyferry.ped.combine { shares[1], shares[2] })
  for _, pair in ipairs { { 1, 3 }, { 3, 2 }, { 2, 1 } } do
    lu.assertTrue(assert(keyferry.ped.combine { shares[pair[1]], shares[pair[2]] }) == first)
  end
  local none, err = keyferry.ped.combine { shares[2] }
  lu.assertNil(none)
  lu.assertEquals(err.code, "KFR_SHARE")
end

function TestPedLibrary.test_a_key_of_one_share_is_made_without_counts()
  local shares = assert(keyferry.ped.create { colour = "blue" })
  lu.assertEquals({ #shares, shares[1]:needed(), shares[1]:colour() }, { 1, 1, "blue" })
end

function TestPedLibrary.test_two_keys_of_a_colour_and_two_colours_of_a_key_differ()
  local seen = {}
  for _, colour in ipairs { "blue", "blue", "black", "red" } do
    local secret = ped.key(colour).secret
    table.insert(seen, assert(keyferry.ped.check(secret)))
  end
  table.sort(seen)
  for i = 2, #seen do lu.assertNotEquals(seen[i - 1], seen[i]) end
end

function TestPedLibrary.test_new_shares_open_the_same_key_and_do_not_mix_with_the_old()
  local old = assert(keyferry.ped.create { colour = "red", m = 2, n = 2 })
  local new = assert(keyferry.ped.again(old, { m = 3, n = 5 }))
  lu.assertEquals({ #new, new[1]:needed(), new[1]:colour() }, { 5, 3, "red" })
  lu.assertNotEquals(new[1]:set(), old[1]:set())
  lu.assertTrue(keyferry.ped.combine { new[5], new[1], new[3] } == keyferry.ped.combine(old))
  raises("another set", keyferry.ped.combine, { old[1], new[2] })
end

function TestPedLibrary.test_files_are_for_their_owner_and_never_replaced()
  local shares = assert(keyferry.ped.create { colour = "blue", m = 2, n = 2 })
  local folder = tmp.dir("stick")
  local paths = assert(keyferry.ped.write(shares, { folder }))
  for i, path in ipairs(paths) do
    lu.assertEquals(shell.lines("stat -c %a " .. shell.quote(path))[1], "600")
    lu.assertTrue(keyferry.ped.combine { assert(keyferry.ped.read(path))[1], shares[3 - i] }
      == keyferry.ped.combine(shares))
  end
  local before = shell.read(paths[1])
  local done, err = keyferry.ped.write(shares, { folder })
  lu.assertNil(done)
  lu.assertEquals(err.code, "KFR_EXISTS")
  lu.assertEquals(shell.read(paths[1]), before)
end

-- The second place is taken, then the second folder cannot be written into.
function TestPedLibrary.test_all_are_written_or_none()
  local shares = assert(keyferry.ped.create { colour = "blue", m = 2, n = 2 })
  local first, second = tmp.dir("stick"), tmp.dir("stick")
  local name = ("blue-%s-2.share"):format(shares[1]:set())
  shell.write(second .. "/" .. name, "mine")
  lu.assertNil(keyferry.ped.write(shares, { first, second }))
  lu.assertEquals({ list(first), list(second) }, { {}, { name } })
  lu.assertEquals(shell.read(second .. "/" .. name), "mine")
  lu.assertNil(keyferry.ped.write(shares, { first, second .. "/nowhere" }))
  lu.assertEquals(list(first), {})
  lu.assertError(keyferry.ped.write, shares, { first, second, first })
end

function TestPedLibrary.test_a_folder_is_read_as_the_shares_in_it()
  local key, folder = ped.key("black", 2, 3), tmp.dir("stick")
  lu.assertEquals(select(2, keyferry.ped.read(folder)).code, "KFR_NOT_FOUND")
  lu.assertEquals(select(2, keyferry.ped.read(folder .. "/none")).code, "KFR_NOT_FOUND")
  assert(keyferry.ped.write(key.shares, { folder }))
  shell.write(folder .. "/holiday.jpg", "no share")
  local shares, files = keyferry.ped.read(folder)
  lu.assertEquals({ #shares, #files }, { 3, 3 })
  shell.write(folder .. "/._black.share", "what a Mac leaves on a stick")
  lu.assertEquals(#keyferry.ped.read(folder), 3)
  shell.write(folder .. "/zebra.share", "no share")
  raises("zebra.share", keyferry.ped.read, folder)
end

function TestPedLibrary.test_a_ring_says_what_does_not_fit()
  local key, other = ped.key("black", 3, 4), ped.key("black", 3, 3)
  local ring = keyferry.ped.ring("black")
  lu.assertNil(ring:missing())
  raises("red key", ring.add, ring, ped.key("red").shares[1])
  lu.assertTrue(ring:add(key.shares[4]))
  lu.assertEquals(ring:missing(), 2)
  raises("another set", ring.add, ring, other.shares[1])
  raises("twice", ring.add, ring, assert(keyferry.ped.read(key.files[4]))[1])
  lu.assertTrue(ring:add(key.shares[2]))
  lu.assertEquals(ring:missing(), 1)
  lu.assertNil(ring:secret())
  lu.assertTrue(ring:add(key.shares[1]))
  lu.assertEquals(ring:missing(), 0)
  lu.assertTrue(ring:add(key.shares[3])) -- one too many is no harm
  lu.assertTrue(assert(ring:secret()) == key.secret)
  lu.assertError(keyferry.ped.ring, "green")
end

function TestPedLibrary.test_a_domain_comes_back_to_the_byte()
  for _, text in ipairs { "x", "river of stones", ("\255\0\n"):rep(83) } do
    local key = ped.domain(text, 2, 2)
    lu.assertTrue(key.secret == keyferry.secret(text))
    local path = tmp.dir() .. "/domain"
    lu.assertTrue(keyferry.ped.write_text(key.secret, path))
    lu.assertEquals(shell.read(path), text .. "\n")
    lu.assertEquals(shell.lines("stat -c %a " .. shell.quote(path))[1], "600")
    lu.assertEquals(select(2, keyferry.ped.write_text(key.secret, path)).code, "KFR_EXISTS")
  end
end

local TestPedCommands = {}

function TestPedCommands.test_create_writes_a_share_into_each_folder_and_two_combine()
  local folders = { tmp.dir("one"), tmp.dir("two"), tmp.dir("three") }
  local done = run { "ped", "create", "-colour", "black", "-m", "2", "-n", "3", "-path",
    table.concat(folders, ",") }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(done.err, "")
  local check = check_of(done)
  for i, folder in ipairs(folders) do
    lu.assertEquals(#list(folder), 1)
    lu.assertStrMatches(list(folder)[1], "black%-%x%x%x%x%-" .. i .. "%.share")
    lu.assertStrContains(done.out, folder .. "/" .. list(folder)[1])
  end
  for _, pair in ipairs { { 1, 2 }, { 3, 1 } } do
    local again = run { "ped", "combine", "-from", folders[pair[1]] .. "," .. folders[pair[2]] }
    lu.assertEquals(again.status, 0, again.err)
    lu.assertEquals(check_of(again), check)
    lu.assertStrContains(again.out, "a black key (Crypto Officer)")
  end
end

function TestPedCommands.test_all_in_one_folder_is_warned_of()
  local folder = tmp.dir("one")
  local done = run { "ped", "create", "-colour", "blue", "-m", "2", "-n", "2", "-path", folder }
  lu.assertEquals(done.status, 0, done.err)
  lu.assertEquals(#list(folder), 2)
  lu.assertStrContains(done.err, "different sticks")
  done = run { "ped", "create", "-colour", "blue", "-path", folder }
  lu.assertEquals({ done.status, done.err }, { 0, "" })
end

function TestPedCommands.test_counts_and_folders_that_do_not_go_together_are_refused_first()
  local folder = tmp.dir("one")
  for _, case in ipairs {
    { "-m", "3", "-n", "2", says = "too few" }, { "-m", "1", "-n", "3", says = "copies" },
    { "-n", "3", says = "-m" }, { "-m", "2", "-n", "17", says = "between 1 and 16" },
    { "-m", "0", says = "between 1 and 16" },
    { "-m", "2", "-n", "3", "-path", folder .. "," .. folder, says = "2 folders for 3 shares" },
  } do
    local command = { "ped", "create", "-colour", "red" }
    table.move(case, 1, #case, #command + 1, command)
    local done = run(command)
    lu.assertEquals(done.status, 2, done.out)
    lu.assertStrContains(done.err, case.says)
  end
  lu.assertEquals(run { "ped", "create", "-colour", "domain", "-path", folder }.status, 2)
  local done = run { "ped", "create", "-colour", "red", "-path", folder .. "/none" }
  lu.assertEquals(done.status, 6, done.out)
  lu.assertEquals(list(folder), {})
end

function TestPedCommands.test_without_a_terminal_nothing_is_shown()
  local done = run { "ped", "create", "-colour", "red", "-m", "2", "-n", "3" }
  lu.assertEquals(done.status, 5, done.out)
  lu.assertStrContains(done.err, "-path")
end

-- The words of every file are looked for in all that was said.
function TestPedCommands.test_no_word_is_ever_said()
  local key, spare = ped.key("red", 2, 3), tmp.dir("spare")
  local from = table.concat(key.files, ",", 1, 2)
  local said = {}
  for _, command in ipairs {
    { "ped", "inspect", "-from", from }, { "--json", "ped", "inspect", "-from", from },
    { "ped", "combine", "-from", from }, { "--json", "ped", "combine", "-from", from },
    { "ped", "duplicate", "-from", from, "-to", spare },
    { "--json", "ped", "split", "-from", from, "-m", "2", "-n", "2", "-path", spare },
  } do
    local done = run(command)
    lu.assertEquals(done.status, 0, done.err)
    table.insert(said, done.out .. done.err)
  end
  for _, file in ipairs(shell.lines("ls " .. shell.quote(spare) .. "/*.share")) do
    for pair in ped.words(file):gmatch("%a+ %a+") do
      lu.assertNotStrContains(table.concat(said), pair)
    end
  end
end

function TestPedCommands.test_inspect_tells_all_but_the_words()
  local key = ped.key("black", 2, 3)
  local done = run { "--json", "ped", "inspect", "-from", key.files[3] .. "," .. key.folders[1] }
  lu.assertEquals(done.status, 0, done.err)
  local event = cjson.decode(done.out:match("^[^\n]+"))
  lu.assertEquals({ event.event, event.colour, event.set, event.number, event.count, event.needed,
    event.file }, { "share", "black", key.set, 3, 3, 2, key.files[3] })
  done = run { "ped", "inspect", env = { KEYFERRY_PED = key.folders[1] .. ":" .. key.files[2] } }
  lu.assertStrMatches(done.out, "COLOUR.-\nblack +" .. key.set .. " +1 of 3 +2 +.-\nblack +" ..
    key.set .. " +2 of 3 .*")
end

function TestPedCommands.test_split_gives_the_same_key_as_new_shares()
  local key, folders = ped.key("red", 2, 3), { tmp.dir(), tmp.dir() }
  local done = run { "ped", "split", "-from", key.files[1] .. "," .. key.files[3], "-m", "2", "-n",
    "2", "-path", table.concat(folders, ",") }
  lu.assertEquals(done.status, 0, done.err)
  lu.assertEquals(check_of(done), keyferry.ped.check(key.secret))
  local domain = assert(keyferry.domain(key.secret))
  lu.assertStrContains(done.out, "Domain check value: " .. domain:check())
  local new = run { "ped", "combine", env = { KEYFERRY_PED = table.concat(folders, ":") } }
  lu.assertEquals({ new.status, check_of(new) }, { 0, check_of(done) })
  local mixed = run { "ped", "combine", "-from",
    key.files[2] .. "," .. folders[1] .. "/" .. list(folders[1])[1] }
  lu.assertEquals(mixed.status, 3, mixed.out)
  lu.assertStrContains(mixed.err, "another set")
end

function TestPedCommands.test_duplicate_makes_the_same_share_once_more()
  local key, spare = ped.key("blue", 2, 2), tmp.dir("spare")
  local done = run { "ped", "duplicate", "-from", key.files[2], "-to", spare }
  lu.assertEquals(done.status, 0, done.err)
  local copy = spare .. "/" .. list(spare)[1]
  lu.assertEquals(shell.read(copy), shell.read(key.files[2]))
  lu.assertEquals(run { "ped", "duplicate", "-from", key.files[2], "-to", spare }.status, 5)
  done = run { "ped", "combine", "-from", key.files[2] .. "," .. copy }
  lu.assertEquals(done.status, 3)
  lu.assertStrContains(done.err, "twice")
end

function TestPedCommands.test_combine_says_what_is_wrong()
  local key = ped.key("black", 3, 3)
  local done = run { "ped", "combine", "-from", key.files[1] .. "," .. key.files[2] }
  lu.assertEquals(done.status, 3, done.out)
  lu.assertStrContains(done.err, "2 of 3 shares are there, and no terminal")
  local red = ped.key("red")
  done = run { "ped", "combine", "-from", key.files[1] .. "," .. red.files[1] }
  lu.assertEquals(done.status, 3)
  lu.assertStrContains(done.err, "another colour")
  done = run { "ped", "combine", "-colour", "black", "-from", red.files[1] }
  lu.assertEquals(done.status, 3)
  lu.assertStrContains(done.err, "this is a share of a red key")
  lu.assertEquals(run { "ped", "combine" }.status, 3)
  lu.assertEquals(run { "ped", "combine", "-from", "/nowhere" }.status, 6)
  local typo = tmp.file(ped.with_word(ped.words(red.files[1]), 7) .. "\n")
  done = run { "ped", "combine", "-from", typo }
  lu.assertEquals(done.status, 3)
  lu.assertStrContains(done.err, "word 7 of 33")
end

-- A stick has shares of several keys on it, and one may not be plugged in.
function TestPedCommands.test_of_many_shares_those_of_the_colour_are_taken()
  local folders = { tmp.dir("anna"), tmp.dir("ben") }
  local keys = {}
  for _, colour in ipairs { "blue", "black", "red" } do
    local shares = assert(keyferry.ped.create { colour = colour, m = 2, n = 2 })
    assert(keyferry.ped.write(shares, folders))
    keys[colour] = keyferry.ped.check(assert(keyferry.ped.combine(shares)))
  end
  local env = { KEYFERRY_PED = table.concat(folders, ":") .. ":/nowhere" }
  for colour, check in pairs(keys) do
    local done = run { "ped", "combine", "-colour", colour, env = env }
    lu.assertEquals({ done.status, check_of(done) }, { 0, check }, done.err)
    done = run { "ped", "combine", "-colour", colour, "-from", table.concat(folders, ",") }
    lu.assertEquals({ done.status, check_of(done) }, { 0, check }, done.err)
  end
  local done = run { "ped", "combine", env = env }
  lu.assertEquals(done.status, 3)
  lu.assertStrContains(done.err, "which one is meant")
end

local TestPedQuestions = {}

local scene

function TestPedQuestions.setUp() scene = testing.scene({}) end
function TestPedQuestions.tearDown() scene:close() end

-- A policy that asks for one key, and what was asked and said.
local function ask_for(colour, how)
  local policy = { name = "ask", summary = "Ask.", category = "reads", run = function(ctx)
    local secret, err = ctx:ped_key(colour, { of = 'partition "p1" on HSM "vault"' })
    if not secret then return nil, err end
    ctx:tell_key(colour, secret)
    return 0
  end }
  return scene:run(policy, {}, how)
end

function TestPedQuestions.test_shares_are_asked_for_until_they_are_enough()
  local key = ped.key("black", 2, 3)
  local done = ask_for("black", { answers = { ["Black key"] = { ped.words(key.files[3]),
    key.folders[1] } } })
  lu.assertEquals(done.status, 0, done.err)
  lu.assertEquals(check_of(done), keyferry.ped.check(key.secret))
  lu.assertEquals(#done.asked, 2)
  lu.assertStrContains(done.asked[1], 'partition "p1" on HSM "vault"')
  lu.assertStrContains(done.asked[2], "1 of 2 given")
  lu.assertStrContains(done.asked[2], key.set)
end

function TestPedQuestions.test_what_does_not_fit_is_told_apart_and_asked_again()
  local key, other, red = ped.key("black", 2, 3), ped.key("black", 2, 2), ped.key("red")
  local done = ask_for("black", { answers = { ["Black key"] = { red.files[1], key.files[1],
    other.files[2], key.files[1], ped.words(key.files[2]) } } })
  lu.assertEquals(done.status, 0, done.err)
  lu.assertEquals(#done.asked, 5)
  for _, text in ipairs { "share of a red key", "another set", "twice" } do
    lu.assertStrContains(done.err, text)
  end
  lu.assertEquals(check_of(done), keyferry.ped.check(key.secret))
end

function TestPedQuestions.test_three_tries_are_all()
  local red = ped.key("red")
  local done = ask_for("black", { answers = { ["Black key"] = red.files[1] } })
  lu.assertEquals({ done.status, #done.asked, done.result.code }, { 3, 3, "KFR_SHARE" })
end

function TestPedQuestions.test_the_environment_answers_when_it_has_enough()
  local key = ped.key("black", 2, 3)
  local env = { KEYFERRY_PED = table.concat(key.files, ":") }
  local done = ask_for("black", { env = env })
  lu.assertEquals({ done.status, #done.asked }, { 0, 0 }, done.err)
  env.KEYFERRY_PED = key.files[2]
  done = ask_for("black", { env = env, answers = { ["1 of 2 given"] = key.files[1] } })
  lu.assertEquals({ done.status, #done.asked }, { 0, 1 }, done.err)
  lu.assertEquals(check_of(done), keyferry.ped.check(key.secret))
end

-- That is what M of N is for.
function TestPedQuestions.test_a_damaged_share_among_enough_good_ones_is_told_and_not_needed()
  local key, folder = ped.key("black", 2, 3), tmp.dir("stick")
  local files = assert(keyferry.ped.write(key.shares, { folder }))
  shell.write(files[1], ped.with_word(ped.words(files[1]), 9))
  local done = ask_for("black", { env = { KEYFERRY_PED = folder } })
  lu.assertEquals({ done.status, #done.asked }, { 0, 0 }, done.err)
  lu.assertEquals(check_of(done), keyferry.ped.check(key.secret))
  lu.assertStrContains(done.err, "word 9 of 33")
end

-- What was plugged in was another key: what is typed wins.
function TestPedQuestions.test_shares_of_another_key_in_the_environment_do_not_stand_in_the_way()
  local key, other = ped.key("black", 2, 3), ped.key("black", 2, 2)
  local done = ask_for("black", { env = { KEYFERRY_PED = other.files[1] },
    answers = { ["Black key"] = { key.files[1], key.files[2] } } })
  lu.assertEquals(done.status, 0, done.err)
  lu.assertEquals(check_of(done), keyferry.ped.check(key.secret))
end

function TestPedQuestions.test_a_share_not_written_down_is_shown_again()
  local done = scene:command("ped create", { colour = "black", m = 2, n = 2 },
    { answers = { ["1 of 2"] = { "no", "no", "yes" }, ["2 of 2"] = "yes" } })
  lu.assertEquals({ done.status, #done.asked }, { 0, 4 }, done.err)
  lu.assertStrContains(done.out, "Black key 2 of 2 (set")
end

return { TestPedLibrary = TestPedLibrary, TestPedCommands = TestPedCommands,
  TestPedQuestions = TestPedQuestions }
