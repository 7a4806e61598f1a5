-- SPDX-License-Identifier: MIT
-- partition restore: after the source was wiped, everything is there again, equals what was
-- there and works for it; and what the command refuses, asks and promises.
local lu = require("luaunit")

local json = require("cjson")

local core = require("keyferry.core")
local object_file = require("support.object_file")
local process = require("support.process")
local scene = require("flow.scene")
local shell = require("support.shell")
local terminal = require("support.terminal")
local tmp = require("support.tmp")
local zoo = require("support.zoo")

local SOURCE = { "kek", "mac", "note", "sign", "sign", "tls-web", "tls-web" }

local function wipe(s)
  s:inside("payments", "for _, object in ipairs(assert(session:find())) do object:destroy() end")
  lu.assertEquals(scene.labels(s:source()), {})
end

-- Another token of that label, with the domain, or by another tool and without one.
local function make_again(s, bare)
  local done = s:run { "partition", "delete", "-partition", "payments", "-serial", "100001",
    "-force" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  if bare then
    s:hsm("prod"):init_token("payments", { pin = scene.password })
    return
  end
  done = s:run { "partition", "create", "-partition", "payments", "-serial", "100001",
    env = scene.secrets() }
  lu.assertEquals(done.status, 0, done.out .. done.err)
end

local function assert_status(done, status, ...)
  lu.assertEquals(done.status, status, done.out .. done.err)
  lu.assertStrContains(done.out, ("\nCommand Result : %d ("):format(status))
  for _, text in ipairs { ... } do lu.assertStrContains(done.out .. done.err, text) end
end

-- One of each kind --------------------------------------------------------------------------

local stocked

-- "payments" holds the zoo, and "backup" a backup of it.
local function zoo_scene()
  if not stocked then
    stocked = scene.new()
    wipe(stocked)
    local token = stocked:source()
    zoo.stock(zoo.session(token))
    zoo.close(token)
    assert_status(stocked:backup {}, 0)
  end
  return stocked:copy()
end

-- Objects of a token by what tells them apart, key material included.
local function by_identity(token, domain)
  local session = zoo.session(token, { writable = false })
  local there <close> = assert(session:endpoint("softhsm", domain))
  local index = {}
  for _, object in ipairs(assert(there:find { token = true })) do
    local name = ("%s %q %q %s"):format(object.class, object.label, object.id or "",
      shell.hex(assert(there:digest(object))))
    lu.assertNil(index[name], name)
    index[name] = object
  end
  return index
end

-- Every object of the one is in the other, with every attribute. Keys work, each judged by the
-- original: its public key, what it encrypted. Gives how many have an operation.
local function assert_are_the_originals(restored, original)
  local domain <close> = assert(core.random_domain())
  local clones, works = by_identity(restored, domain), 0
  for name, object in pairs(by_identity(original, domain)) do
    local clone = clones[name]
    lu.assertNotNil(clone, name)
    lu.assertEquals(clone:attributes(), object:attributes(), name)
    lu.assertEquals(clone:unread(), object:unread(), name)
    if zoo.works_for(clone, object) then
      zoo.works_for(object, clone)
      works = works + 1
    end
    clones[name] = nil
  end
  lu.assertNil(next(clones))
  return works
end

-- What an object file holds but for what is encrypted: its records in their order. The number
-- at its beginning counts how often it was written.
local function shapes(token)
  local list = {}
  for _, name in ipairs(token:files()) do
    local lines = {}
    local object = assert(object_file.parse(shell.read(token.dir .. "/" .. name)))
    local private = object_file.get(object, 0x2) ~= "\0"
    for _, record in ipairs(object.records) do
      local is_ours = record.type == scene.CKA_LABEL and not private
        and record.value == "keyferry domain"
      table.insert(lines, ("%x %d %s"):format(record.type, record.kind,
        private and record.kind == 3 and #record.value or shell.hex(record.value)))
      lu.assertFalse(is_ours)
    end
    table.insert(list, table.concat(lines, "\n"))
  end
  table.sort(list)
  return list
end

local function assert_all_is_back(s, original)
  local restored = s:source()
  lu.assertEquals(scene.contents(restored), scene.contents(original))
  lu.assertEquals(shapes(restored), shapes(original))
  lu.assertTrue(#original:files() > 100)
  lu.assertTrue(assert_are_the_originals(restored, original) > 60)
  zoo.close(restored)
  zoo.close(original)
end

local TestEveryKind = {}

function TestEveryKind.test_after_every_object_was_deleted_all_is_there_again_and_at_work()
  local s = zoo_scene()
  local original = zoo.copy(s:source())
  wipe(s)
  local before = s:snapshot()
  local done = s:restore { "-add" }
  assert_status(done, 0, ("\n%d cloned\n'partition restore' successful.\n\n"):format(
    #scene.contents(original)))
  lu.assertEquals(done.err, "")
  lu.assertNotStrContains(done.out, "not kept")
  assert_all_is_back(s, original)
  lu.assertEquals(s:changes(before, "vault"), {})
end

function TestEveryKind.test_into_a_partition_that_was_made_again_and_challenged()
  local s = zoo_scene()
  local original = zoo.copy(s:source())
  make_again(s)
  assert_status(s:restore { "-replace", "-force", "-verify" }, 0)
  assert_all_is_back(s, original)
end

-- What the events of a run say is lost, by class and label.
local function note_lost(lost, out)
  for line in out:gmatch("[^\n]+") do
    local event = json.decode(line)
    for name in (event.lost or ""):gmatch("CKA_[%w_]+") do
      local object = event.class .. " " .. event.label
      lost[object] = lost[object] or {}
      lost[object][name] = true
    end
  end
end

local CLASSES = { [0] = "data", "certificate", "public_key", "private_key", "secret_key",
  [6] = "domain_parameters" }

-- Objects of a store by class, label and value, which no two have in common.
local function by_value(token)
  local index = {}
  for _, object in pairs(token:objects()) do
    local class, label = object[0].value, object[scene.CKA_LABEL].value
    local value = object[scene.CKA_VALUE] and object[scene.CKA_VALUE].value or ""
    if label ~= "keyferry domain" then
      index[class .. label .. "\0" .. value] = object
    end
  end
  return index
end

-- What SoftHSM keeps with domain parameters and shows to nobody, wrap cannot seal.
local function is_out_of_reach(object, type)
  return object[0].value:byte(8) == 6 and type == core.value("CKA", "CKA_KEY_GEN_MECHANISM")
end

-- What differs and was not said to be lost.
local function unsaid(original, clone, lost)
  local class = CLASSES[string.unpack(">I8", original[0].value)]
  local label = original[scene.CKA_LABEL].value
  local said = lost[class .. " " .. label] or {}
  local list = {}
  for type, attribute in pairs(original) do
    local other = clone[type]
    local same = other and other.kind == attribute.kind and other.value == attribute.value
    local name = core.name("CKA", type)
    if not same and not said[name] and not is_out_of_reach(original, type) then
      table.insert(list, ("%s %s: %s"):format(class, label, name))
    end
  end
  for type in pairs(clone) do
    if not original[type] then
      table.insert(list, ("%s %s: has %s"):format(class, label, core.name("CKA", type)))
    end
  end
  return list
end

-- What wrap cannot take out is not in the backup, and the backup said so.
function TestEveryKind.test_through_wrap_nothing_differs_but_what_was_said_to_be_lost()
  local s = zoo_scene()
  local original, lost = zoo.copy(s:source()), {}
  local backed = s:backup { "-engine", "wrap", tokenpar = "wrapped", globals = { "--json" } }
  lu.assertEquals(backed.status, 1, backed.out .. backed.err)
  note_lost(lost, backed.out)
  wipe(s)
  local done = s:restore { "-add", "-engine", "wrap", "-verify", tokenpar = "wrapped",
    globals = { "--json" }, env = { KEYFERRY_DOMAIN = scene.domain } }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  note_lost(lost, done.out)
  local count = tonumber(backed.out:match('"cloned":(%d+)'))
  lu.assertEquals(tonumber(done.out:match('"cloned":(%d+)')), count)
  lu.assertTrue(count > 90)
  local originals, wrong = by_value(original), {}
  for name, clone in pairs(by_value(s:source())) do
    count = count - 1
    table.move(unsaid(assert(originals[name], name), clone, lost), 1, 99, #wrong + 1, wrong)
  end
  lu.assertEquals(count, 0)
  lu.assertEquals(wrong, {})
end

-- Without the text of the domain wrap has only the key in the token, which pads: what cannot be
-- taken out so is told, with what to do about it, and the next run brings it. All that came
-- back is judged by the originals.
function TestEveryKind.test_through_wrap_the_domains_text_brings_the_rest_and_all_of_it_works()
  local s = zoo_scene()
  local original = zoo.copy(s:source())
  assert_status(s:backup { "-engine", "wrap", tokenpar = "wrapped" }, 1)
  make_again(s)
  local done = s:restore { "-add", "-engine", "wrap", tokenpar = "wrapped" }
  assert_status(done, 1, "a domain given as text")
  local counts = scene.counts(done.out)
  lu.assertTrue(counts.cloned > 70)
  lu.assertTrue(counts.failed > 10)
  done = s:restore { "-add", "-engine", "wrap", tokenpar = "wrapped",
    env = { KEYFERRY_DOMAIN = scene.domain } }
  assert_status(done, 0)
  lu.assertEquals(scene.counts(done.out),
    { cloned = counts.failed, exists = counts.cloned, failed = 0 })
  local domain <close>, restored = assert(core.random_domain()), s:source()
  local originals, works = by_identity(original, domain), 0
  for name, clone in pairs(by_identity(restored, domain)) do
    if zoo.works_for(clone, assert(originals[name], name)) then works = works + 1 end
  end
  lu.assertTrue(works > 50, works)
  zoo.close(restored)
  zoo.close(original)
end

-- With other people's programs: what was encrypted and which public keys were given away before
-- the source was lost.
function TestEveryKind.test_earlier_ciphertext_and_public_keys_that_were_given_away_still_fit()
  local s, dir = scene.new("backed"), tmp.dir()
  local plain = tmp.file("sixteen bytes!!!")
  local cbc = { "--id", "01", "--mechanism", "AES-CBC-PAD", "--iv", ("00"):rep(16) }
  s:source():tool { "--encrypt", "--input-file", plain, "--output-file", dir .. "/c",
    table.unpack(cbc) }
  s:source():tool { "--read-object", "--type", "pubkey", "--id", "03", "--output-file",
    dir .. "/pub" }
  make_again(s)
  assert_status(s:restore { "-add" }, 0)
  s:source():tool { "--decrypt", "--input-file", dir .. "/c", "--output-file", dir .. "/p",
    table.unpack(cbc) }
  lu.assertEquals(shell.read(dir .. "/p"), "sixteen bytes!!!")
  s:source():tool { "--sign", "--id", "03", "--mechanism", "SHA256-RSA-PKCS", "--input-file",
    plain, "--output-file", dir .. "/sig" }
  lu.assertStrContains(process.must { "openssl", "dgst", "-sha256", "-keyform", "DER", "-verify",
    dir .. "/pub", "-signature", dir .. "/sig", plain }, "Verified OK")
end

-- Modes -------------------------------------------------------------------------------------

local TestModes = {}

function TestModes.test_add_twice_clones_nothing_the_second_time()
  local s = scene.new("backed")
  wipe(s)
  assert_status(s:restore { "-add" }, 0)
  local before = s:snapshot()
  local done = s:restore { "-add" }
  assert_status(done, 0, "\n0 cloned, 7 already there\n")
  lu.assertEquals(scene.counts(done.out), { cloned = 0, exists = 7, failed = 0 })
  lu.assertEquals(s:changes(before), {})
end

function TestModes.test_add_brings_what_is_missing_and_leaves_what_is_new()
  local s = scene.new("backed")
  s:inside("payments", [[for _, object in ipairs(assert(session:find{ label = "tls-web" })) do
    object:destroy() end]])
  s:source():data("late", "x", { "--private" })
  local done = s:restore { "-add" }
  assert_status(done, 0)
  lu.assertEquals(scene.counts(done.out), { cloned = 2, exists = 5, failed = 0 })
  lu.assertEquals(scene.labels(s:source()), { "kek", "late", "mac", "note", "sign", "sign",
    "tls-web", "tls-web" })
end

function TestModes.test_replace_leaves_exactly_what_is_in_the_backup()
  local s = scene.new("backed")
  s:source():data("late", "x", { "--private" })
  assert_status(s:restore { "-replace", "-force" }, 0, "\n7 cloned, 8 removed\n")
  lu.assertEquals(scene.contents(s:source()), scene.contents(s:target()))
  local before = scene.contents(s:source())
  assert_status(s:restore { "-add" }, 0, "\n0 cloned, 7 already there\n") -- the domain stays
  lu.assertEquals(scene.contents(s:source()), before)
end

function TestModes.test_replace_that_cannot_clone_one_object_leaves_the_partition_whole()
  local s = scene.new("backed")
  s:source():data("late", "x", { "--private" })
  local before = s:snapshot()
  local done = s:restore { "-replace", "-force", "-engine", "wrap" }
  assert_status(done, 1, "'partition restore' failed: ")
  lu.assertNotStrContains(done.out, "cloned to handle")
  lu.assertEquals(s:changes(before), {})
end

function TestModes.test_replace_by_an_empty_backup_is_refused()
  local s = scene.new("backed")
  s:inside("backup", "for _, object in ipairs(assert(session:find())) do object:destroy() end")
  local before = s:snapshot()
  assert_status(s:restore { "-replace", "-force" }, 5)
  lu.assertEquals(s:changes(before), {})
end

function TestModes.test_match_and_class_choose()
  local s = scene.new("backed")
  wipe(s)
  assert_status(s:restore { "-add", "-match", "tls*", "-class", "private_key" }, 0)
  lu.assertEquals(scene.labels(s:source()), { "tls-web" })
end

function TestModes.test_a_plan_changes_nothing_and_needs_no_mode()
  local s = scene.new("backed")
  wipe(s)
  local before = s:snapshot()
  assert_status(s:restore { "-plan" }, 0, "7 would be cloned")
  assert_status(s:restore { "-plan", "-replace" }, 0, "7 would be cloned")
  lu.assertEquals(s:changes(before), {})
end

function TestModes.test_neither_mode_is_5_and_both_are_2_and_nothing_is_asked()
  local s = scene.new("backed")
  local before = s:snapshot()
  assert_status(s:restore { "-force", secrets = {} }, 5, "-add", "-replace", '"payments"')
  assert_status(s:restore { "-add", "-replace", secrets = {} }, 2, "-add and -replace exclude")
  assert_status(s:restore { "-add", "-plan", "-verify", secrets = {} }, 2, "-verify")
  lu.assertEquals(s:changes(before), {})
end

-- Refused -----------------------------------------------------------------------------------

local TestRefused = {}

function TestRefused.test_an_absent_partition_is_6_and_never_made()
  local s = scene.new("backed")
  local before = s:snapshot()
  local done = s:restore { "-replace", "-force", partition = "paymnets", secrets = {} }
  assert_status(done, 6, '"paymnets"', "keyferry partition create")
  assert_status(s:restore { "-add", tokenpar = "bakcup", secrets = {} }, 6, '"bakcup"')
  assert_status(s:restore { "-add", serial = "999999", secrets = {} }, 6, "999999")
  lu.assertEquals(s:changes(before), {})
end

function TestRefused.test_source_and_target_the_same()
  local s = scene.new("backed")
  local before = s:snapshot()
  for _, mode in ipairs { "-add", "-replace", "-plan" } do
    assert_status(s:restore { mode, "-force", partition = "backup", secrets = {} }, 5, "the same")
    assert_status(s:restore { mode, "-force", tokenpar = "payments", serial = "100001",
      secrets = {} }, 5, "the same")
  end
  lu.assertEquals(s:changes(before), {})
end

-- Sought as the partition of a backup is: in every other HSM first.
function TestRefused.test_a_partition_of_the_backups_label_elsewhere_is_the_target()
  local s = scene.new("backed")
  local other = s:hsm("prod"):init_token("backup", { pin = scene.password })
  assert_status(s:restore { "-add", partition = "backup",
    env = { KEYFERRY_DOMAIN = scene.domain } }, 0)
  lu.assertEquals(#other:files(), 7)
end

function TestRefused.test_a_target_that_is_write_protected_before_a_password_is_tried()
  local s = scene.new("backed")
  local hsm, globals = s:lying("prod", "call-log %LOG%\nC_GetTokenInfo flags +WRITE_PROTECTED")
  for _, mode in ipairs { "-add", "-replace" } do
    assert_status(s:restore { mode, "-force", globals = globals }, 7, '"payments"',
      "CKR_TOKEN_WRITE_PROTECTED (0xE2)")
  end
  lu.assertNotStrContains(table.concat(hsm:calls(), "\n"), "C_Login")
end

function TestRefused.test_a_backup_that_is_write_protected_can_be_restored()
  local s = scene.new("backed")
  local original = scene.contents(s:source())
  wipe(s)
  local _, globals = s:lying("vault", "C_GetTokenInfo flags +WRITE_PROTECTED")
  assert_status(s:restore { "-add", globals = globals }, 0)
  lu.assertEquals(scene.contents(s:source()), original)
end

-- By force it is taken as far as it goes, and called partial; it never takes the place of more.
function TestRefused.test_an_unfinished_backup()
  local s = scene.new("backed")
  wipe(s)
  s:inside("backup", 'assert(session:mark_unfinished("1234 payments"))')
  s:source():data("late", "x", { "--private" })
  local before = s:snapshot()
  assert_status(s:restore { "-add" }, 5, "unfinished")
  assert_status(s:restore { "-replace", "-force" }, 5, "unfinished", "-add")
  lu.assertEquals(s:changes(before), {})
  assert_status(s:restore { "-add", "-force" }, 1, "unfinished")
  lu.assertEquals(#scene.labels(s:source()), 1 + #SOURCE)
end

function TestRefused.test_a_report_is_written_and_never_over_another_file()
  local s = scene.new("backed")
  wipe(s)
  local path = s.home .. "/report.json"
  shell.write(path, "dear")
  local before = s:snapshot()
  assert_status(s:restore { "-add", "-report", path, secrets = {} }, 5, path)
  lu.assertEquals(shell.read(path), "dear")
  lu.assertEquals(s:changes(before), {})
  assert_status(s:restore { "-add", "-report", path, "-force" }, 0)
  lu.assertStrContains(shell.read(path), '"partition restore"')
end

-- Interrupted -------------------------------------------------------------------------------

local TestInterrupted = {}

-- The stock script with a hook that sends the program SIGINT after some objects.
local function interrupted(s, words)
  local text, times = shell.read("scripts/partition/restore.lua"):gsub(
    "    return keyferry%.backup%(policy%)",
    '    policy.on_progress = function(done)\n'
    .. '        if done == 3 then io.popen("kill -INT $PPID"):close() end\n    end\n%0')
  lu.assertEquals(times, 1)
  local path = tmp.file(text, "policy.lua")
  assert(os.execute("chmod 600 " .. shell.quote(path)))
  local all = { "run", path, "-partition", "payments", "-tokenpar", "backup", "-serial",
    scene.serial, env = scene.secrets { "DOMAIN", "TOKENSOPWD" } }
  table.move(words, 1, #words, #all + 1, all)
  return s:run(all)
end

function TestInterrupted.test_replace_leaves_the_partition_as_it_was()
  local s = scene.new("backed")
  s:source():data("late", "x", { "--private" })
  local before = s:snapshot()
  assert_status(interrupted(s, { "-replace", "-force" }), 130)
  lu.assertEquals(s:changes(before), {})
end

function TestInterrupted.test_the_same_add_afterwards_brings_the_rest()
  local s = scene.new("backed")
  local original = scene.contents(s:source())
  wipe(s)
  assert_status(interrupted(s, { "-add" }), 130)
  lu.assertEquals(s:restore({ "-add" }).status, 0)
  lu.assertEquals(scene.contents(s:source()), original)
end

-- Secrets and domain --------------------------------------------------------------------------

local TestPins = {}

local function logins(hsm)
  local list = {}
  for _, line in ipairs(hsm:calls()) do
    if line:find("^C_Login ") then table.insert(list, line) end
  end
  return list
end

function TestPins.test_a_wrong_one_is_tried_once_and_changes_nothing()
  for name, case in pairs { KEYFERRY_PASSWORD = { "prod", "payments" },
    KEYFERRY_TOKENPW = { "vault", "backup" } } do
    for _, mode in ipairs { "-add", "-replace" } do
      local s = scene.new("backed")
      local hsm, globals = s:lying(case[1], "call-log %LOG%")
      local before = s:snapshot()
      local done = s:restore { mode, "-force", globals = globals, env = { [name] = "wrong pin" } }
      assert_status(done, 3, case[2], "CKR_PIN_INCORRECT (0xA0), in C_Login")
      lu.assertEquals(logins(hsm), { "C_Login CKR_PIN_INCORRECT" })
      lu.assertEquals(s:changes(before), {})
    end
  end
end

function TestPins.test_none_and_no_terminal_is_3()
  local s = scene.new("backed")
  for _, name in ipairs { "PASSWORD", "TOKENPW" } do
    assert_status(s:restore { "-add", secrets = scene.secrets { name } }, 3,
      "no value for -" .. name:lower())
  end
end

-- A backup behind a PED does not go behind a password; nobody is asked for anything.
function TestPins.test_a_backup_behind_a_ped_is_refused_before_anything_is_asked()
  local s = scene.new("backed")
  local hsm, globals = s:lying("vault",
    "C_GetTokenInfo flags +PROTECTED_AUTHENTICATION_PATH\ncall-log %LOG%")
  local before = s:snapshot()
  assert_status(s:restore { "-add", globals = globals, secrets = {} }, 5,
    'partition "backup" is opened with PED keys, and partition "payments" with a password')
  lu.assertEquals(logins(hsm), {})
  lu.assertEquals(s:changes(before), {})
end

local TestDomain = {}

-- One line for each object, none cloned, nothing changed.
local function assert_mismatch(s, how)
  local before = s:snapshot()
  for _, mode in ipairs { "-add", "-replace" } do
    local words = { mode, "-force" }
    for name, value in pairs(how) do words[name] = value end
    local done = s:restore(words)
    assert_status(done, 4, "'partition restore' failed: ")
    lu.assertStrContains(done.err, "partition create'")
    lu.assertEquals(scene.counts(done.out), { cloned = 0, exists = 0, failed = 7 })
    lu.assertEquals(s:changes(before), {})
  end
end

function TestDomain.test_a_wrong_one_given_or_in_the_partition()
  local s = scene.new("backed")
  assert_mismatch(s, { env = { KEYFERRY_DOMAIN = "sea of pebbles" } })
  local done = s:run { "partition", "delete", "-partition", "payments", "-serial", "100001",
    "-force" }
  lu.assertEquals(done.status, 0, done.err)
  local env = scene.secrets()
  env.KEYFERRY_DOMAIN = "sea of pebbles"
  done = s:run { "partition", "create", "-partition", "payments", "-serial", "100001", env = env }
  lu.assertEquals(done.status, 0, done.err)
  assert_mismatch(s, {})
  assert_mismatch(s, { env = { KEYFERRY_DOMAIN = "sea of pebbles" } })
  assert_mismatch(s, { env = { KEYFERRY_DOMAIN = scene.domain } })
end

-- Made by another tool: such a partition takes the domain that is given, and has none afterwards.
function TestDomain.test_a_partition_without_one_needs_it()
  local s = scene.new("backed")
  local original = scene.contents(s:source())
  make_again(s, true)
  local before = s:snapshot()
  assert_status(s:restore { "-add" }, 3, "no value for -domain")
  lu.assertEquals(s:changes(before), {})
  assert_mismatch(s, { env = { KEYFERRY_DOMAIN = "sea of pebbles" } })
  local done = s:restore { "-add", env = { KEYFERRY_DOMAIN = scene.domain } }
  assert_status(done, 0, 'partition "payments" has no cloning domain of its own')
  lu.assertEquals(s:source():contents(), original)
end

-- At the terminal ---------------------------------------------------------------------------

local TestTerminal = {}

local PASSWORD = "Please enter the password for the HSM user partition:"
local TOKENPW = "Please enter a password for the user on the backup token:"
local DOMAIN = "Please enter the cloning domain set when the HSM user partition was created:"
local AGAIN = "The cloning domain does not match. Please enter it again:"
local PROCEED = "Type 'proceed' to continue, or 'quit' to quit now."

local function start(s, how)
  how.verb, how.secrets = "restore", how.secrets or {}
  return terminal.start(s:command(how))
end

local function answer(t, question, text)
  t:wait_for(question)
  t:wait_for("> ")
  t:wait_until("echo", false)
  t:line(text)
end

function TestTerminal.test_two_questions_where_both_have_the_domain()
  local s = scene.new("backed")
  wipe(s)
  local t <close> = start(s, { "-add" })
  answer(t, PASSWORD, scene.password)
  answer(t, TOKENPW, scene.tokenpw)
  local done = t:finish()
  lu.assertEquals(done.status, 0, done.screen)
  lu.assertNotStrContains(done.screen, "domain")
  lu.assertTrue(done.restored)
  lu.assertEquals(scene.labels(s:source()), SOURCE)
end

function TestTerminal.test_the_domain_last_where_one_has_none_and_again_when_it_does_not_match()
  local s = scene.new("backed")
  make_again(s, true)
  local t <close> = start(s, { "-add" })
  answer(t, PASSWORD, scene.password)
  answer(t, TOKENPW, scene.tokenpw)
  answer(t, DOMAIN, "sea of pebbles")
  answer(t, AGAIN, scene.domain)
  local done = t:finish()
  lu.assertEquals(done.status, 0, done.screen)
  lu.assertEquals(scene.labels(s:source()), SOURCE)
end

function TestTerminal.test_replace_names_the_partition_that_would_be_overwritten()
  local s = scene.new("backed")
  s:source():data("late", "x", { "--private" })
  local before = s:snapshot()
  for _, word in ipairs { "quit", "proceed" } do
    local t <close> = start(s, { "-replace", secrets = scene.secrets { "DOMAIN" } })
    t:wait_for(PROCEED)
    local screen = t:screen():gsub("\n *", " ")
    lu.assertStrContains(screen, ('All 8 objects of partition "payments" (serial %s) on HSM '
      .. '"prod" (serial 100001) will be removed and replaced by those of partition "backup" '
      .. '(serial %s).'):format(s:source().serial, s:target().serial))
    t:wait_for("> ")
    t:line(word)
    local done = t:finish()
    lu.assertEquals(done.status, word == "quit" and 5 or 0, done.screen)
    if word == "quit" then lu.assertEquals(s:changes(before), {}) end
  end
  lu.assertEquals(scene.labels(s:source()), SOURCE)
end

function TestTerminal.test_without_one_replace_wants_force()
  local s = scene.new("backed")
  local before = s:snapshot()
  assert_status(s:restore { "-replace" }, 5, "-force")
  lu.assertEquals(s:changes(before), {})
end

-- Machines ----------------------------------------------------------------------------------

local TestJson = {}

function TestJson.test_events_are_those_of_a_backup()
  local s = scene.new("backed")
  wipe(s)
  local done = s:restore { "-add", globals = { "--json" } }
  lu.assertEquals(done.status, 0, done.err)
  local count = 0
  for line in done.out:gmatch("[^\n]+") do
    lu.assertStrContains(line, '"command":"partition restore"')
    if line:find('"event":"object"', 1, true) then
      count = count + 1
      lu.assertStrContains(line, '"status":"cloned"')
      lu.assertStrContains(line, "token=backup;")
    end
  end
  lu.assertEquals(count, 7)
  lu.assertStrMatches(done.out, '.*"event":"result"[^\n]*"status":"success"[^\n]*"cloned":7.*')
end

return {
  TestEveryKind = TestEveryKind,
  TestModes = TestModes,
  TestRefused = TestRefused,
  TestInterrupted = TestInterrupted,
  TestPins = TestPins,
  TestDomain = TestDomain,
  TestTerminal = TestTerminal,
  TestJson = TestJson,
}
