-- SPDX-License-Identifier: MIT
-- A cloning domain as shares: split, joined, and given at the question for a domain.
local lu = require("luaunit")

local build = require("support.build")
local keyferry = require("keyferry")
local ped = require("support.ped")
local process = require("support.process")
local shell = require("support.shell")
local terminal = require("support.terminal")
local testing = require("keyferry.testing")
local tmp = require("support.tmp")

local TEXT = "river of stones"

local home
local checks = {} -- deriving one takes half a second

local function check_of(text)
  checks[text] = checks[text] or assert(keyferry.domain(keyferry.secret(text))):check()
  return checks[text]
end

local function environment(env)
  home = home or tmp.dir("home")
  local all = { KEYFERRY_PED = false, KEYFERRY_DOMAIN = false, KEYFERRY_DOMAIN_FILE = false,
    SOFTHSM2_CONF = "/nonexistent", HOME = home, XDG_CONFIG_HOME = home .. "/config" }
  for name, value in pairs(env or {}) do all[name] = value end
  return all
end

local function run(command)
  local all = { build.keyferry, table.unpack(command) }
  all.env = environment(command.env)
  return process.run(all)
end

local TestDomainSplit = {}

function TestDomainSplit.test_any_two_of_three_join_to_the_same_domain()
  local folders = { tmp.dir(), tmp.dir(), tmp.dir() }
  local done = run { "domain", "split", "-m", "2", "-n", "3", "-path",
    table.concat(folders, ","), env = { KEYFERRY_DOMAIN = TEXT } }
  lu.assertEquals(done.status, 0, done.err)
  lu.assertStrContains(done.out, "Domain check value: " .. check_of(TEXT))
  lu.assertNotStrContains(done.out .. done.err, "stones")
  for _, pair in ipairs { { 1, 2 }, { 3, 2 }, { 1, 3 } } do
    local joined = run { "domain", "join", "-from",
      folders[pair[1]] .. "," .. folders[pair[2]] }
    lu.assertEquals(joined.status, 0, joined.err)
    lu.assertStrContains(joined.out, "Domain check value: " .. check_of(TEXT))
    lu.assertNotStrContains(joined.out .. joined.err, "stones")
  end
  lu.assertEquals(run { "domain", "join", "-from", folders[2] }.status, 3)
end

function TestDomainSplit.test_join_writes_the_file_that_a_backup_takes()
  local key, file = ped.domain(TEXT, 2, 2), tmp.dir() .. "/domain"
  local done = run { "--json", "domain", "join", "-file", file,
    env = { KEYFERRY_PED = table.concat(key.files, ":") } }
  lu.assertEquals(done.status, 0, done.err)
  lu.assertNotStrContains(done.out .. done.err, "stones")
  lu.assertEquals(shell.read(file), TEXT .. "\n")
  lu.assertEquals(shell.lines("stat -c %a " .. shell.quote(file))[1], "600")
  done = run { "domain", "show", env = { KEYFERRY_DOMAIN_FILE = file } }
  lu.assertStrContains(done.out, check_of(TEXT))
  done = run { "domain", "join", "-from", table.concat(key.files, ","), "-file", file }
  lu.assertEquals(done.status, 5, done.out)
  lu.assertEquals(shell.read(file), TEXT .. "\n")
end

function TestDomainSplit.test_a_key_is_no_domain_and_a_long_text_is_refused()
  local red = ped.key("red")
  local done = run { "domain", "join", "-from", red.files[1] }
  lu.assertEquals(done.status, 3)
  lu.assertStrContains(done.err, "this is a share of a red key, and one of a domain is wanted")
  done = run { "domain", "split", "-m", "2", "-n", "2", "-path", tmp.dir(),
    env = { KEYFERRY_DOMAIN = ("x"):rep(251) } }
  lu.assertEquals(done.status, 2, done.out)
  lu.assertEquals(run { "domain", "split", "-m", "2" }.status, 2)
end

function TestDomainSplit.test_the_help_says_that_shares_do_and_the_question_does_not()
  local done = run { "partition", "backup", "-help" }
  lu.assertStrContains(done.out:gsub("%s+", " "),
    "one of its shares may be typed instead, or Enter alone")
  done = run { "archive", "contents", "-help" } -- which never asks
  lu.assertNotStrContains(done.out:gsub("%s+", " "), "one of its shares may be typed")
end

local TestDomainQuestion = {}

local scene
function TestDomainQuestion.setUp() scene = testing.scene {} end
function TestDomainQuestion.tearDown() scene:close() end

local DOMAIN, NEXT = "enter the cloning domain", "Domain: "

local function show(answers)
  return scene:command("domain show", {}, { answers = answers })
end

function TestDomainQuestion.test_a_share_is_known_by_its_checksum_and_the_rest_is_asked_for()
  local key = ped.domain(TEXT, 3, 5)
  local done = show { [DOMAIN] = ped.words(key.files[2]),
    [NEXT] = { ped.words(key.files[5]), key.files[1] } }
  lu.assertEquals(done.status, 0, done.err)
  lu.assertEquals(#done.asked, 3)
  lu.assertStrContains(done.asked[3], "2 of 3 given")
  lu.assertStrContains(done.out, check_of(TEXT))
end

function TestDomainQuestion.test_enter_alone_asks_for_shares()
  local key = ped.domain(TEXT, 2, 2)
  local done = show { [DOMAIN] = "", [NEXT] = { ped.words(key.files[2]), key.files[1] } }
  lu.assertEquals(done.status, 0, done.err)
  lu.assertStrContains(done.out, check_of(TEXT))
end

-- Text stays text, words of the list or not.
function TestDomainQuestion.test_any_other_line_is_the_domain_itself()
  local done = show { [DOMAIN] = "academic acid acne" }
  lu.assertEquals({ done.status, #done.asked }, { 0, 1 }, done.err)
  lu.assertStrContains(done.out, check_of("academic acid acne"))
end

-- Else it would be the domain of a new partition, and no shares would ever give it back.
function TestDomainQuestion.test_a_mistyped_share_is_no_domain()
  local key = ped.domain(TEXT, 2, 2)
  local words = ped.words(key.files[1])
  local count = select(2, words:gsub("%a+", ""))
  for place, word in pairs { [2] = "xylophone", [9] = false, [15] = "xylophone" } do
    local done = show { [DOMAIN] = { ped.with_word(words, place, word or nil), words },
      [NEXT] = key.files[2] }
    lu.assertEquals({ done.status, #done.asked }, { 0, 3 }, done.err)
    lu.assertStrContains(done.err, "word " .. place)
    lu.assertStrContains(done.out, check_of(TEXT))
  end
  local done = show { [DOMAIN] = (words:gsub(" %a+$", "")) }
  lu.assertEquals({ done.status, #done.asked }, { 3, 3 }, count .. done.err)
  done = show { [DOMAIN] = words:match("^" .. ("%a+ "):rep(18) .. "%a+") }
  lu.assertEquals({ done.status, #done.asked }, { 3, 3 }, done.err)
end

function TestDomainQuestion.test_a_key_is_refused_and_asked_again()
  local key, red = ped.domain(TEXT, 1, 1), ped.key("red")
  local done = show { [DOMAIN] = { ped.words(red.files[1]), ped.words(key.files[1]) } }
  lu.assertEquals({ done.status, #done.asked }, { 0, 2 }, done.err)
  lu.assertStrContains(done.err, "share of a red key")
  lu.assertStrContains(done.out, check_of(TEXT))
end

-- A new domain is typed twice; shares have their checksum.
function TestDomainQuestion.test_a_new_domain_as_shares_is_asked_for_once()
  local key, folder = ped.domain(TEXT, 2, 2), tmp.dir()
  local done = scene:command("domain split", { m = 2, n = 3, path = folder },
    { answers = { ["Please enter"] = ped.words(key.files[1]), [NEXT] = key.files[2] } })
  lu.assertEquals({ done.status, #done.asked }, { 0, 2 }, done.err)
  lu.assertStrContains(done.out, check_of(TEXT))
  local shares = assert(keyferry.ped.read(folder))
  lu.assertTrue(keyferry.ped.combine { shares[3], shares[1] } == keyferry.secret(TEXT))
end

-- A partition made with it, and another one with the text: clones pass between them.
function TestDomainQuestion.test_a_backup_takes_the_domain_as_shares()
  scene:close()
  scene = testing.scene { prod = { p1 = { domain = false, { aes = "kek" } } },
    vault = { serial = "496771" } }
  local key = ped.domain(TEXT, 2, 3)
  local done = scene:command("partition backup", { partition = "p1", tokenpar = "t1",
    serial = "496771", password = scene.password, tokenpw = "token pin 1",
    tokensopwd = "token so 1" }, { answers = { ["cloning domain"] = ped.words(key.files[3]),
    [NEXT] = ped.words(key.files[1]) } })
  lu.assertEquals({ done.status, done.result.cloned }, { 0, 1 }, done.err)
  local session = scene:session("t1", "token pin 1")
  local domain <close> = assert(session:find_domain())
  lu.assertEquals(domain:check(), check_of(TEXT))
end

local TestDomainTerminal = {}

local function start(...)
  local command = { build.keyferry, ... }
  command.env = environment()
  return terminal.start(command)
end

function TestDomainTerminal.test_a_pasted_share_and_a_typed_one_open_the_domain()
  local key = ped.domain(TEXT, 2, 3)
  local t <close> = start("domain", "show")
  t:wait_for("Please enter the cloning domain:")
  t:wait_for("> ")
  t:wait_until("echo", false)
  t:line(ped.words(key.files[1]))
  t:wait_for("Domain: another share of set")
  t:wait_for("> ")
  for word in ped.words(key.files[3]):gmatch("%a+") do t:type(word .. " ") end
  local done = t:finish()
  lu.assertEquals(done.status, 0, done.screen)
  lu.assertTrue(done.restored)
  lu.assertStrContains(done.screen, check_of(TEXT))
  lu.assertNotStrContains(done.output, ped.words(key.files[1]):sub(1, 30))
end

function TestDomainTerminal.test_enter_alone_opens_the_dialogue_word_by_word()
  local key = ped.domain(TEXT, 2, 3)
  local t <close> = start("domain", "show")
  t:wait_for("Please enter the cloning domain:")
  t:wait_for("> ")
  t:wait_until("echo", false)
  t:key("Enter")
  t:wait_for("Domain: the words of a share")
  t:wait_for("> ")
  t:line(ped.words(key.files[3]))
  t:wait_for("Domain: another share of set")
  t:wait_for("> ")
  t:line(key.files[2])
  local done = t:finish()
  lu.assertEquals(done.status, 0, done.screen)
  lu.assertStrContains(done.screen, check_of(TEXT))
end

-- What is shown of a domain's shares is what its files would hold.
function TestDomainTerminal.test_split_shows_what_gives_the_domain_back()
  local t <close> = start("domain", "split", "-m", "2", "-n", "2")
  for _, question in ipairs { "Please enter the cloning domain", "Please re-enter" } do
    t:wait_for(question)
    t:wait_for("> ")
    t:wait_until("echo", false)
    t:line(TEXT)
  end
  local words, secrets = {}, {}
  for i = 1, 2 do
    t:wait_for(("Domain share %d of 2"):format(i))
    t:wait_for("Written down?")
    t:wait_for("> ")
    words[i] = {}
    for number, word in t:screen():gmatch("(%d+) (%l+)") do words[i][tonumber(number)] = word end
    secrets[i] = assert(keyferry.ped.parse(keyferry.secret(table.concat(words[i], " "))))
    t:line("yes")
  end
  lu.assertEquals(t:finish().status, 0)
  lu.assertTrue(keyferry.ped.combine(secrets) == keyferry.secret(TEXT))
end

return { TestDomainSplit = TestDomainSplit, TestDomainQuestion = TestDomainQuestion,
  TestDomainTerminal = TestDomainTerminal }
