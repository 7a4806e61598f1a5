-- SPDX-License-Identifier: MIT
-- Soft HSMs whose secrets are PED keys, through the commands, with the files of KEYFERRY_PED: blue
-- for the HSM, black for the partition (M = 2 of N = 3), red for the domain.
local lu = require("luaunit")

local ped_scene = require("flow.ped_scene")
local shell = require("support.shell")
local terminal = require("support.terminal")
local tmp = require("support.tmp")

local SENTENCE = "the red key used for the source must be used for the backup"

local kept
local function backed()
  if not kept then
    kept = ped_scene.new()
    local done = kept:backup {}
    assert(done.status == 0, done.out .. done.err)
  end
  return kept
end

local function assert_status(done, status, text)
  lu.assertEquals(done.status, status, done.out .. done.err)
  lu.assertStrContains(done.out .. done.err, text)
end

local TestPedBackup = {}

-- The blue and black keys of the backup need not be those of the source.
function TestPedBackup.test_is_made_with_the_keys_and_its_clones_work()
  local s = backed()
  lu.assertTrue(s:proved())
  local done = s:backup { "-add", keys = { "black", "red" } }
  assert_status(done, 0, "0 cloned, 3 already there")
  done = s:backup { "-replace", "-force", "-verify", keys = { "black", "red" } }
  assert_status(done, 0, "3 cloned")
  lu.assertTrue(s:proved())
end

function TestPedBackup.test_text_is_ignored_with_one_notice()
  local s = backed()
  local done = s:backup { "-add", "-password", "some text", "-domain", "a stone",
    "-defaultdomain", keys = { "black", "red" } }
  assert_status(done, 2, "-domain and -defaultdomain exclude each other")
  done = s:backup { "-add", "-password", "some text", "-defaultdomain",
    keys = { "black", "red" }, env = { KEYFERRY_TOKENPW = "text", KEYFERRY_DOMAIN_FILE = "/x" } }
  assert_status(done, 0, "-password, KEYFERRY_DOMAIN_FILE, -defaultdomain, KEYFERRY_TOKENPW are "
    .. 'ignored: partition "payments" takes PED keys and no text.')
  lu.assertEquals(select(2, done.err:gsub("ignored", "")), 1)
  lu.assertNotStrContains(done.err, "deprecated")
end

function TestPedBackup.test_another_red_key_makes_nothing()
  local s = ped_scene.new()
  local before = s:snapshot()
  local done = s:backup { keys = { "blue", "black", "other_red" } }
  assert_status(done, 4, SENTENCE)
  lu.assertEquals(s:changes(before), {})
end

function TestPedBackup.test_another_red_key_than_that_of_a_backup_that_is_there()
  local s = backed()
  local before = s:snapshot()
  for _, mode in ipairs { "-add", "-replace" } do
    assert_status(s:backup { mode, "-force", keys = { "black", "other_red" } }, 4, SENTENCE)
  end
  lu.assertEquals(s:changes(before), {})
end

function TestPedBackup.test_another_blue_key_makes_nothing()
  local s = ped_scene.new()
  local before = s:snapshot()
  local text = 'another blue key than that of HSM "vault"'
  assert_status(s:backup { keys = { "other_blue", "black", "red" } }, 3, text)
  assert_status(s:run { "partition", "create", "-partition", "new", "-serial", ped_scene.serial,
    env = s:keys { "other_blue", "black", "red" } }, 3, text)
  local out = s:lua([[
    local blue = key{ ]] .. ("%q"):format(ped_scene.all_keys().other_blue.files[1]) .. [[ }
    local ok, err = keyferry.hsm("vault"):create_partition{ label = "new", so_password = blue,
      password = key(blacks.payments) }
    io.write(tostring(ok), " ", err.code)]])
  lu.assertEquals(out, "nil CKR_PIN_INCORRECT")
  lu.assertEquals(s:changes(before), {})
end

function TestPedBackup.test_another_black_key_is_tried_once_and_told_as_a_key()
  local s = backed()
  local before = s:snapshot()
  local done = s:backup { "-add", tokenpw = "black", keys = { "black", "red" } }
  assert_status(done, 3, "the black key (Crypto Officer) is not that of this partition")
  lu.assertStrContains(done.err, "CKR_PIN_INCORRECT")
  lu.assertEquals(s:changes(before), {})
end

function TestPedBackup.test_one_share_of_two_opens_nothing()
  local s = backed()
  local env = { KEYFERRY_PED = ped_scene.all_keys().black.files[2] }
  assert_status(s:run { "partition", "contents", "-partition", "payments", env = env }, 3,
    '1 of 2 shares are there')
end

local TestPedKinds = {}

-- Before anything is asked: there are no keys and no terminal.
function TestPedKinds.test_ped_to_password_and_back_is_refused()
  local s = ped_scene.new()
  local env = { KEYFERRY_PASSWORD = "plain user", KEYFERRY_TOKENPW = "plain user",
    KEYFERRY_TOKENSOPWD = "plain so", KEYFERRY_DOMAIN = "a stone" }
  local made = s:run { "partition", "create", "-partition", "text", "-serial", ped_scene.plain,
    env = env }
  assert_status(made, 0, "created")
  local before = s:snapshot()
  for _, words in ipairs {
    { "backup", "-partition", "payments", "-tokenpar", "new", "-serial", ped_scene.plain },
    { "plan", "-partition", "payments", "-tokenpar", "new", "-serial", ped_scene.plain },
    { "backup", "-partition", "payments", "-tokenpar", "text", "-serial", ped_scene.plain, "-add" },
    { "restore", "-partition", "payments", "-tokenpar", "text", "-serial", ped_scene.plain,
      "-add" },
    { "backup", "-partition", "text", "-tokenpar", "new", "-serial", ped_scene.serial },
    { "backup", "-partition", "text", "-tokenpar", "payments", "-serial", "100001", "-replace" },
    { "restore", "-partition", "text", "-tokenpar", "payments", "-serial", "100001", "-add" },
  } do
    local done = s:run { "partition", table.unpack(words) }
    assert_status(done, 5, "is opened with")
    lu.assertStrContains(done.err, "a backup has the authentication of its source")
  end
  lu.assertEquals(s:changes(before), {})
end

function TestPedKinds.test_the_commands_tell_which_it_is()
  local s = backed()
  local list = s:run { "hsm", "list" }.out
  lu.assertStrMatches(list:match("[^\n]*prod[^\n]*"), "prod +100001 +soft, PED keys .*")
  lu.assertStrMatches(list:match("[^\n]*plain[^\n]*"), "plain +100003 +soft +/.*")
  lu.assertStrContains(s:run { "hsm", "show", "-name", "prod" }.out, "Authentication:    ped")
  lu.assertStrContains(s:run { "partition", "show", "-partition", "backup" }.out,
    "Authentication:    PED keys")
  lu.assertStrContains(s:run { "token", "list" }.out, "soft, PED keys")
  lu.assertStrContains(s:run { "token", "show", "-serial", ped_scene.serial }.out,
    "soft, PED keys")
  lu.assertStrContains(s:run { "--json", "partition", "list", "-serial", "100001" }.out,
    '"authentication":"ped"')
  local env = s:run { "hsm", "env", "-name", "vault" }
  assert_status(env, 0, "export SOFTHSM2_CONF=")
  lu.assertStrContains(env.err, "PED keys")
end

-- An entry of the configuration that stands for such an HSM does not make it one with passwords.
function TestPedKinds.test_seen_through_the_configuration_it_takes_keys_all_the_same()
  local s = backed()
  local config = s.home .. "/config.lua"
  shell.write(config, ([[return { hsms = { { name = "prod", serial = "100001", module = %q,
    env = { SOFTHSM2_CONF = %q } } } }]]):format(require("support.build").softhsm(),
    s.home .. "/hsms/prod/softhsm2.conf"))
  local done = s:run { "--config", config, "partition", "show", "-partition", "payments",
    "-login", env = s:keys { "black" } }
  assert_status(done, 0, "PED keys")
  lu.assertStrContains(done.out, "Objects:           3")
end

function TestPedKinds.test_a_description_that_makes_no_sense_opens_nothing()
  local s = ped_scene.new()
  local path = s.home .. "/hsms/vault/hsm.json"
  local text = shell.read(path)
  for _, other in ipairs { (text:gsub('"blue_check":"%x+"', '"blue_check":"x"')),
    (text:gsub('"authentication":"ped"', '"authentication":"pedal"')) } do
    lu.assertNotEquals(other, text)
    shell.write(path, other)
    assert_status(s:run { "hsm", "list" }, 7, "is not the description of a soft HSM")
  end
end

local TestPedCommands = {}

function TestPedCommands.test_contents_show_verify_drill_plan_restore()
  local s = backed()
  local black = s:keys { "black" }
  assert_status(s:run { "partition", "contents", "-partition", "payments", env = black }, 0,
    "3 objects")
  local shown = s:run { "partition", "show", "-partition", "payments", "-login", env = black }
  local check = s:run { "domain", "show", "-ped", env = s:keys { "red" } }
  assert_status(shown, 0, check.out:match("Check value: (%x+)"))
  local keys = { "black" }
  assert_status(s:backup { verb = "verify", "-challenge", keys = keys }, 0, "3 the same")
  assert_status(s:backup { verb = "plan", keys = keys }, 0, "3 already there")
  assert_status(s:backup { verb = "restore", "-add", keys = keys }, 0, "3 already there")
  assert_status(s:backup { verb = "restore", "-replace", "-force", "-verify", keys = keys }, 0,
    "3 cloned")
  assert_status(s:run { "partition", "drill", "-tokenpar", "backup", "-serial", ped_scene.serial,
    env = s:keys { "other_black" } }, 0, "3 restored, 3 verified")
  lu.assertTrue(s:proved())
end

-- The red key of a stream is asked for at a terminal, and the help says how it is given.
function TestPedCommands.test_the_red_key_of_a_stream_is_asked_for_at_a_terminal()
  local s, red = ped_scene.new(), ped_scene.all_keys().red
  local file = tmp.dir("stream") .. "/payments.stream"
  assert_status(s:run { "partition", "send", "-partition", "payments", "-file", file,
    env = s:keys { "black" } }, 0, "3 sealed")
  for _, case in ipairs { { "3 objects, authentic and complete", "archive", "verify", file },
    { "kek", "archive", "contents", file }, { "Check value: ", "domain", "show" } } do
    local command = { width = 160 }
    table.move(case, 2, #case, 1, command)
    table.insert(command, "-ped")
    local t <close> = terminal.start(s:program(command))
    t:wait_for("> ")
    t:line(red.files[1])
    local done = t:finish()
    lu.assertEquals(done.status, 0, done.screen)
    lu.assertStrContains(done.screen, case[1])
    lu.assertNotStrContains(done.screen, "authenticated")
    local help = s:run { case[2], case[3], "-help" }.out:gsub("%s+", " ")
    lu.assertStrContains(help, "is a red PED key")
    lu.assertStrContains(help, "KEYFERRY_PED")
  end
end

function TestPedCommands.test_a_stream_goes_where_its_red_key_is()
  local s = ped_scene.new()
  local file = tmp.dir("stream") .. "/payments.stream"
  assert_status(s:run { "partition", "send", "-partition", "payments", "-file", file,
    env = s:keys { "black" } }, 0, "3 sealed")
  assert_status(s:run { "archive", "verify", file, "-ped", env = s:keys { "red" } }, 0,
    "3 objects, authentic and complete")
  assert_status(s:run { "archive", "contents", file, "-ped", env = s:keys { "red" } }, 0, "kek")
  assert_status(s:run { "archive", "verify", file, "-ped", env = s:keys { "other_red" } }, 4,
    "domain")
  assert_status(s:run { "partition", "drill", "-file", file, "-ped", env = s:keys { "red" } }, 0,
    "3 restored, 3 verified")
  local receive = { "partition", "receive", "-tokenpar", "backup", "-serial", ped_scene.serial,
    "-file", file }
  local before = s:snapshot()
  receive.env = s:keys { "blue", "other_black", "other_red" }
  assert_status(s:run(receive), 4, SENTENCE)
  lu.assertEquals(s:changes(before), {})
  receive.env = s:keys { "blue", "other_black", "red" }
  assert_status(s:run(receive), 0, "3 cloned")
  lu.assertTrue(s:proved())
  assert_status(s:run { "partition", "verify", "-file", file, "-tokenpar", "backup", "-serial",
    ped_scene.serial, env = s:keys { "other_black" } }, 0, "3 the same")
end

function TestPedCommands.test_delete_counts_no_objects_for_a_password()
  local s = ped_scene.new()
  local done = s:run { "partition", "delete", "-partition", "payments", "-serial", "100001",
    "-password", "some text", "-force" }
  assert_status(done, 0, "-password is ignored")
  lu.assertEquals(#s:labels_on("prod"), 0)
end

-- What a policy and the prompt do: a login without a secret takes the black key.
function TestPedCommands.test_a_policy_logs_in_with_the_key()
  local s = backed()
  local policy = tmp.dir("policy") .. "/count.lua"
  shell.write(policy, [[
    local keyferry = require("keyferry")
    return { name = "count", summary = "Count.", category = "reads",
      options = { keyferry.option("partition"), keyferry.option("password") },
      run = function(ctx)
        local partition = assert(keyferry.partition(ctx.options.partition))
        local one <close> = assert(ctx:login(partition))
        local other <close> = assert(partition:login())
        ctx:result("%d %d", #assert(one:find()), #assert(other:find()))
        return 0
      end }]])
  assert_status(s:run { "run", policy, "-partition", "payments", env = s:keys { "black" } }, 0,
    "3 3")
  assert_status(s:run { "run", policy, "-partition", "payments" }, 3, "no terminal")
end

local TestPedCreate = {}

function TestPedCreate.test_without_a_key_no_hsm_is_made()
  local s = ped_scene.new()
  local before = shell.lines("ls " .. s.home .. "/hsms")
  assert_status(s:run { "hsm", "create", "-name", "third", "-ped" }, 3, "blue key")
  assert_status(s:run { "hsm", "create", "-name", "prod", "-ped" }, 5, "already")
  assert_status(s:run { "hsm", "create", "-name", "third", "-ped",
    env = s:keys { "black", "red" } }, 3, "blue key")
  lu.assertEquals(shell.lines("ls " .. s.home .. "/hsms"), before)
end

return { TestPedBackup = TestPedBackup, TestPedKinds = TestPedKinds,
  TestPedCommands = TestPedCommands, TestPedCreate = TestPedCreate }
