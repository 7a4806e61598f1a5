-- SPDX-License-Identifier: MIT
-- A backup that was cut off at any moment goes on with the same command: exit 0, nothing twice,
-- every key there and at work, and it says how much was there. What it made is marked until it
-- is whole; the mark is nobody's object.
local lu = require("luaunit")

local build = require("support.build")
local process = require("support.process")
local scene = require("flow.scene")
local shell = require("support.shell")
local terminal = require("support.terminal")
local tmp = require("support.tmp")

local MARK = "keyferry unfinished backup"
local KEYS = 330 -- more than one batch of a run, and no whole number of them

-- "many": the scene's objects and keys enough for several batches.
local function many()
  local s = scene.new()
  s:inside("payments", ([[
    for i = 1, %d do
      assert(session:create{ class = "secret_key", key_type = "generic_secret", sign = true,
        label = ("key %%03d"):format(i), id = string.pack(">I2", i), verify = true,
        value = ("%%032d"):format(i), token = true, private = true, sensitive = true,
        extractable = true })
    end]]):format(KEYS))
  return s
end

local made

-- A copy of it.
local function many_keys()
  made = made or many()
  return made:copy()
end

-- Runs -----------------------------------------------------------------------------------

local function words(done)
  return ("status %s, signal %s\n%s%s"):format(done.status, done.signal, done.out:sub(-2000),
    done.err)
end

local function receive_command(s, how)
  local command = { "partition", "receive", "-tokenpar", "backup", "-serial", scene.serial,
    "-file", s.stream, env = scene.secrets { "PASSWORD" } }
  table.move(how, 1, #how, #command + 1, command)
  for name, value in pairs(how.env or {}) do command.env[name] = value end
  return s:program(command)
end

-- The commands that fill a partition, each as function(s, how) -> a command.
local FILL = {
  backup = function(s, how) return s:command(how) end,
  receive = receive_command,
}

local function prepare(kind, s)
  if kind == "receive" then
    s.stream = s.home .. "/stream"
    local done = s:run { "partition", "send", "-partition", "payments", "-file", s.stream,
      env = scene.secrets() }
    assert(done.status == 0, words(done))
  end
  return s
end

-- Dies before its Nth change of a file of the vault; how many there were when it did not.
local function killed_at(s, kind, n, how)
  local log = tmp.dir() .. "/log"
  how = how or {}
  how.env = { LD_PRELOAD = build.preload("mortal.so"), MORTAL_IN = "/hsms/vault/",
    MORTAL_LOG = log, MORTAL_AT = n }
  local done = process.run(FILL[kind](s, how))
  if done.signal ~= 9 and done.status ~= 137 then
    lu.assertEquals(done.status, 0, words(done))
    return select(2, (shell.read(log) or ""):gsub("\n", ""))
  end
end

local function there_said(out)
  return tonumber(out:match("(%d+) already there")) or 0
end

-- The same command again: all is there, once, and as it was; nothing is left of the mark.
local function assert_goes_on(s, kind, message)
  local done = process.run(FILL[kind](s, {}))
  lu.assertEquals(done.status, 0, message .. words(done))
  local counts = scene.counts(done.out)
  lu.assertEquals(counts.exists, there_said(done.out), message)
  lu.assertEquals(counts.cloned + counts.exists, #scene.labels(s:source()), message)
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()), message)
  return counts, done
end

local function has_mark(s)
  return #s:target():labelled(MARK) > 0
end

local TestKilled = {}

-- At moments all over the run: the token is made, its mark, its PIN, its domain, each batch.
local function assert_survives(kind, from, steps)
  local whole = prepare(kind, scene.new())
  local total = killed_at(whole, kind, 0)
  lu.assertTrue(total > 200, total)
  for i = 0, steps - 1 do
    local n = from + (total - from) * i // steps
    local s = prepare(kind, scene.new())
    lu.assertNil(killed_at(s, kind, n))
    assert_goes_on(s, kind, ("killed at %d of %d: "):format(n, total))
  end
end

-- Up to there SoftHSM makes the token: what that leaves is another claim.
local MAKING = 30

function TestKilled.test_a_backup_goes_on_from_wherever_it_was_killed()
  assert_survives("backup", MAKING, 11)
end

function TestKilled.test_a_stream_goes_on_from_wherever_it_was_killed()
  assert_survives("receive", MAKING + 13, 7)
end

-- SoftHSM itself lists nothing any more when such a torso is in its store. It is told which
-- folder that is, and without it the same command makes the backup.
function TestKilled.test_in_the_first_moments_of_a_token_the_folder_is_named()
  local named = 0
  for n = 6, 22, 2 do
    local s = scene.new()
    lu.assertNil(killed_at(s, "backup", n))
    local done = s:backup {}
    if done.status ~= 0 then
      lu.assertEquals(done.status, 7, words(done))
      local folder = done.err:match("error: (/[^:]+/vault/tokens/[^:/]+): a program was killed")
      lu.assertNotNil(folder, words(done))
      lu.assertStrContains(done.err, "remove that folder")
      process.must { "rm", "-r", folder }
      named = named + 1
      assert_goes_on(s, "backup", n .. ": ")
    end
  end
  lu.assertTrue(named >= 2, named)
end

-- Between two batches, and in one: what was durable is not cloned again.
function TestKilled.test_what_was_durable_is_there_and_said()
  for _, kind in ipairs { "backup", "receive" } do
    local some = 0
    for _, n in ipairs { 700, 1300, 1900 } do
      local s = prepare(kind, many_keys())
      lu.assertNil(killed_at(s, kind, n))
      lu.assertTrue(has_mark(s))
      local counts = assert_goes_on(s, kind, kind .. " " .. n .. ": ")
      some = some + (counts.exists > 0 and 1 or 0)
    end
    lu.assertTrue(some > 0, kind)
  end
end

-- What is added to a backup that is whole comes whole or not at all, too.
function TestKilled.test_add_too()
  local s = scene.new("backed")
  for i = 1, 3 do s:source():aes("kek2", "2" .. i) end
  local some = 0
  for n = 2, 50, 6 do
    local t = s:copy()
    some = some + (killed_at(t, "backup", n, { "-add" }) and 0 or 1)
    local done = t:backup { "-add" }
    lu.assertEquals(done.status, 0, n .. words(done))
    lu.assertEquals(scene.contents(t:target()), scene.contents(t:source()), n)
  end
  lu.assertTrue(some >= 5, some)
end

-- A replacement that was killed left the old backup, or what it was replaced by.
function TestKilled.test_replace_too()
  local s = scene.new("backed")
  s:source():aes("kek2", "21")
  local how = { "-replace", "-force" }
  for _, n in ipairs { 5, 20, 40, 60, 80 } do
    killed_at(s, "backup", n, { table.unpack(how) })
    local done = s:backup { table.unpack(how) }
    lu.assertEquals(done.status, 0, words(done))
    lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()), n)
  end
end

-- States made by hand ------------------------------------------------------------------------

local TestStates = {}

local unfinished_line =
  'Partition "backup" is the unfinished backup of partition "payments": the run goes on.\n'

-- The vault with a partition as a run that was cut off left it; code has hsm and of.
local function left(s, code)
  local serial = s:source().serial
  s:lua(([[local hsm = assert(keyferry.hsm("vault"))
    local secret, of = keyferry.secret, %q
    local domain = assert(keyferry.domain(secret(%q)))
    local function create(of, domain)
      return assert(hsm:create_partition { label = "backup", password = secret(%q),
        so_password = secret(%q), unfinished = of, domain = domain })
    end
    local function session_of(partition)
      return assert(partition:login(secret(%q), { writable = true }))
    end
    %s]]):format(serial .. " payments", scene.domain, scene.tokenpw, scene.sopw, scene.tokenpw,
    code))
  return s
end

function TestStates.test_before_the_user_has_a_pin_it_is_made_again()
  local s = scene.new()
  process.must { "softhsm2-util", "--init-token", "--free", "--label", "backup", "--so-pin",
    "another so pin", "--pin", "1234", env = s:hsm("vault").env }
  process.must { "rm", "-rf", s:target().dir }
  s:lua(([[local module = assert(assert(keyferry.hsm("vault")):module())
    assert(module:init_token(assert(module:slots())[1].slot, keyferry.secret(%q), "backup"))]])
    :format("another so pin"))
  local before = s:target().serial
  local _, done = assert_goes_on(s, "backup", "")
  lu.assertStrContains(done.err, "made again")
  lu.assertNotEquals(s:target().serial, before)
end

-- Somebody else's token that is about to get its PIN, and has something in it, is left alone.
function TestStates.test_a_token_without_a_pin_that_holds_something_is_not_removed()
  local s = scene.new()
  s:lua(([[local module = assert(assert(keyferry.hsm("vault")):module())
    local slot = assert(module:slots())[1].slot
    assert(module:init_token(slot, keyferry.secret(%q), "backup"))
    for _, token in ipairs(assert(module:slots())) do
      if token.label == "backup" then slot = token.slot end
    end
    local session = assert(module:session(slot, { writable = true }))
    assert(session:login(keyferry.secret(%q), "so"))
    assert(session:create { class = "data", label = "theirs", value = "x", token = true,
      private = false })]]):format(scene.sopw, scene.sopw))
  local before = s:snapshot()
  local done = s:backup {}
  lu.assertEquals(done.status, 5, words(done))
  lu.assertEquals(s:changes(before), {})
end

function TestStates.test_without_its_domain()
  local s = left(scene.new(), "create(of)")
  lu.assertTrue(has_mark(s))
  local counts, done = assert_goes_on(s, "backup", "")
  lu.assertEquals(counts, { cloned = 7, exists = 0, failed = 0 })
  lu.assertStrContains(done.err, "the run goes on")
  lu.assertNotStrContains(done.err, "no cloning domain")
  lu.assertEquals(s:backup({ "-add" }).status, 0)
end

-- Which of its keys were there when it was killed: each of them may be the one that lacks.
function TestStates.test_with_a_part_of_its_domain()
  for lacking = 1, 3 do
    local s = left(scene.new(), "create(of, domain)")
    local token = s:target()
    local keys = token:labelled("keyferry domain")
    lu.assertEquals(#keys, 3)
    assert(os.remove(token.dir .. "/" .. keys[lacking].file))
    local _, done = assert_goes_on(s, "backup", lacking .. ": ")
    lu.assertEquals(done.err, unfinished_line)
    lu.assertEquals(#token:labelled("keyferry domain"), 3)
    done = s:backup { "-add" }
    lu.assertEquals(done.status, 0, words(done))
    lu.assertStrContains(done.out, "7 already there")
    lu.assertStrContains(s:inside("backup", "print(assert(session:find_domain()))"), "domain")
  end
end

function TestStates.test_the_backup_of_another_source_is_refused_and_taken_by_add()
  local s = left(scene.new(), [[create("0123456789abcdef payments", domain)]])
  local before = s:snapshot()
  local done = s:backup {}
  lu.assertEquals(done.status, 5, words(done))
  lu.assertStrContains(done.err, "exists")
  lu.assertEquals(s:changes(before), {})
  done = s:backup { "-add" }
  lu.assertEquals(done.status, 0, words(done))
  lu.assertTrue(has_mark(s)) -- it still is not what it was to be
end

-- What nobody can read is of the run that was killed, and goes when the same command goes on.
function TestStates.test_with_half_an_object()
  local s = left(scene.new(), "create(of, domain)")
  local dir = s:target().dir
  local whole = shell.read(dir .. "/" .. s:target():files()[1])
  for i, bytes in ipairs { "", whole:sub(1, 8), whole:sub(1, 100), whole:sub(1, -10) } do
    shell.write(("%s/0000000%d-0000-0000-0000-000000000000.object"):format(dir, i), bytes)
  end
  assert_goes_on(s, "backup", "")
  for _, name in ipairs(s:target():files()) do lu.assertNotStrContains(name, "0000-0000-0000") end
end

-- Stopped, not killed ------------------------------------------------------------------------

local TestStopped = {}

-- Slow enough to be met in the middle, by an engine that asks the source for each object.
local function met_in_the_middle(s, how, signal)
  local hsm, globals = s:lying("prod", "call-log %LOG%\ndelay C_WrapKey 10")
  how.globals = globals
  for _, word in ipairs { "-engine", "wrap", "-match", "key*" } do table.insert(how, word) end
  local run <close> = process.start(s:command(how))
  assert(shell.await(40, function()
    return select(2, table.concat(hsm:calls(), "\n"):gsub("C_WrapKey", "")) > 100
  end))
  run:signal(signal)
  return run:wait()
end

-- Every "key N" there is once and whole; how many.
local function whole_keys(s)
  local seen = {}
  local n = 0
  for _, object in pairs(s:target():objects()) do
    local i = object[scene.CKA_LABEL].value:match("^key (%d+)$")
    if i then
      lu.assertNil(seen[i], i)
      lu.assertEquals(object[scene.CKA_VALUE].value, ("%032d"):format(tonumber(i)))
      seen[i], n = true, n + 1
    end
  end
  return n
end

function TestStopped.test_a_signal_keeps_what_is_there_marked_and_the_run_goes_on()
  for _, signal in ipairs { "INT", "TERM", "KILL" } do
    local s = many_keys()
    local done = met_in_the_middle(s, {}, signal)
    local there = whole_keys(s)
    if signal ~= "KILL" then
      lu.assertEquals(done.status, 130, words(done))
      lu.assertEquals(scene.counts(done.out).cloned, there)
      lu.assertStrContains(done.err,
        ('partition "backup" is an unfinished backup of %d objects: the same command goes on\n')
        :format(there))
    end
    lu.assertTrue(there > 0 and there < KEYS, there)
    lu.assertTrue(has_mark(s))
    local shown = s:run { "--json", "partition", "show", "-partition", "backup" }
    lu.assertStrContains(shown.out, '"unfinished":"' .. s:source().serial .. ' payments"')
    done = s:backup { "-match", "key*" }
    lu.assertEquals(done.status, 0, words(done))
    lu.assertEquals(there_said(done.out), there)
    lu.assertEquals(whole_keys(s), KEYS)
    lu.assertFalse(has_mark(s))
  end
end

function TestStopped.test_onerror_stop_keeps_the_mark()
  local s = scene.new()
  s:source():aes("awkward", "31") -- which wrap cannot take out
  local done = s:backup { "-engine", "wrap", "-onerror", "stop", "-match", "*a*" }
  lu.assertEquals(done.status, 1, words(done))
  if #s:hsm("vault"):tokens("backup") > 0 then
    lu.assertTrue(has_mark(s))
    lu.assertStrContains(done.err, "the same command goes on")
  end
  done = s:backup {}
  lu.assertEquals(done.status, 0, words(done))
  lu.assertEquals(scene.labels(s:target()), scene.labels(s:source()))
end

-- What cannot be cloned today is told; the run has come to its end all the same.
function TestStopped.test_a_run_to_its_end_leaves_no_mark_though_an_object_failed()
  local s = scene.new()
  local done = s:backup { "-engine", "wrap" }
  lu.assertEquals(done.status, 1, words(done))
  lu.assertFalse(has_mark(s))
end

-- The mark -----------------------------------------------------------------------------------

local TestMark = {}

local function unfinished()
  return left(scene.new(), [[local session = session_of(create(of, domain))
    assert(session:create { class = "data", label = "note 1", value = "x", token = true,
      private = true })]])
end

function TestMark.test_nothing_lists_it()
  local s = unfinished()
  lu.assertTrue(has_mark(s))
  local done = s:run { "partition", "contents", "-partition", "backup",
    env = { KEYFERRY_PASSWORD = scene.tokenpw } }
  lu.assertEquals(done.status, 0, words(done))
  lu.assertStrContains(done.out, "note 1")
  lu.assertNotStrContains(done.out, "unfinished")
  local listed = s:inside("backup", [[for _, object in ipairs(assert(session:find())) do
    print(object.label) end]])
  lu.assertEquals(listed, "note 1\n")
end

function TestMark.test_an_unfinished_backup_is_no_source_without_force()
  local s = unfinished()
  local file = s.home .. "/stream"
  local function send(...)
    return s:run { "partition", "send", "-partition", "backup", "-file", file, ...,
      env = { KEYFERRY_PASSWORD = scene.tokenpw, KEYFERRY_DOMAIN = scene.domain } }
  end
  local done = send()
  lu.assertEquals(done.status, 5, words(done))
  lu.assertStrContains(done.err, "unfinished backup")
  lu.assertFalse(shell.exists(file))
  done = send("-force")
  lu.assertEquals(done.status, 1, words(done))
  lu.assertStrContains(done.out, "1 sealed\n")
  done = s:run { "partition", "receive", "-tokenpar", "copy", "-serial", scene.serial, "-file",
    file, env = scene.secrets() }
  lu.assertEquals(done.status, 1, words(done))
  lu.assertEquals(scene.labels(s:target("copy")), { "note 1" })
end

function TestMark.test_a_replacement_takes_it_away_only_when_it_is_whole()
  local s = unfinished()
  local done = s:backup { "-replace", "-force", "-engine", "wrap" }
  lu.assertEquals(done.status, 1, words(done)) -- the kek may not leave by C_WrapKey
  lu.assertTrue(has_mark(s))
  lu.assertEquals(scene.labels(s:target()), { MARK, "note 1" })
  done = s:backup { "-replace", "-force" }
  lu.assertEquals(done.status, 0, words(done))
  lu.assertFalse(has_mark(s))
end

-- Not for a backup to a third partition, either.
function TestMark.test_it_is_never_cloned()
  local s = unfinished()
  s:lua(([[assert(keyferry.create_hsm { name = "third", serial = "3" })
    local secret = keyferry.secret
    local session = assert(assert(keyferry.partition("backup")):login(secret(%q)))
    local to = assert(assert(keyferry.hsm("third")):create_partition { label = "third",
      password = secret(%q), so_password = secret(%q),
      domain = assert(keyferry.domain(secret(%q))) })
    local target = assert(to:login(secret(%q), { writable = true }))
    local report = keyferry.backup { source = session, target = target, mode = "add",
      unfinished = true }
    assert(report.cloned == 1 and report.selected == 1, tostring(report.reason))]]):format(
    scene.tokenpw, scene.tokenpw, scene.sopw, scene.domain, scene.tokenpw))
  lu.assertEquals(scene.labels(s:hsm("third"):tokens("third", { pin = scene.tokenpw })[1]),
    { "note 1" })
end

function TestMark.test_replacing_an_unfinished_backup_makes_it_whole()
  local s = unfinished()
  local done = s:backup { "-replace", "-force" }
  lu.assertEquals(done.status, 0, words(done))
  lu.assertFalse(has_mark(s))
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
end

-- A plan tells what the run would do, and does none of it.
function TestMark.test_a_plan_changes_nothing()
  local s = unfinished()
  local before = s:snapshot()
  local done = s:backup { "-plan" }
  lu.assertEquals(done.status, 0, words(done))
  lu.assertEquals(s:changes(before), {})
end

local TestTerminal = {}

function TestTerminal.test_control_c_while_a_stream_comes_in()
  local s = prepare("receive", many_keys())
  local command = receive_command(s, { "-verify" })
  local t <close> = terminal.start(command)
  t:wait_for(" of ", 30)
  t:key("C-c")
  local done = t:finish(60)
  if done.status ~= 0 then
    lu.assertEquals(done.status, 130, done.screen)
    lu.assertTrue(done.restored)
  end
  if #s:hsm("vault"):tokens("backup") > 0 and done.status ~= 0 then lu.assertTrue(has_mark(s)) end
  if done.status ~= 0 then assert_goes_on(s, "receive", "") end
end

return {
  TestKilled = TestKilled,
  TestStates = TestStates,
  TestStopped = TestStopped,
  TestMark = TestMark,
  TestTerminal = TestTerminal,
}
