-- SPDX-License-Identifier: MIT
-- The life of a backup, for somebody who wants a bad one called good or a key lost: reports of
-- runs that were cut off, streams that were read before, sessions that see a part.
local lu = require("luaunit")

local core = require("keyferry.core")
local keyferry = require("keyferry")
local object_file = require("support.object_file")
local once = require("support.once")
local process = require("support.process")
local scene = require("flow.scene")
local shell = require("support.shell")
local tmp = require("support.tmp")
local zoo = require("support.zoo")

local CKA_PRIVATE = 0x2
local KEYS = 80 -- more than the first batch

local domain = once(function() return assert(core.domain(core.secret("zoo"))) end)

-- A partition with many keys; nobody changes it.
local many = once(function()
  local token = zoo.token("many")
  local session = zoo.session(token)
  for i = 1, KEYS do
    zoo.secret(session, ("key %02d"):format(i), { value = ("%032d"):format(i) })
  end
  zoo.close(token)
  return token
end)

-- One with three keys and something that everybody sees.
local few = once(function()
  local token = zoo.token("few")
  local session = zoo.session(token)
  for i = 1, 3 do zoo.secret(session, "key " .. i, { value = ("%032d"):format(i) }) end
  assert(session:create { class = "data", label = "public", value = "x", application = "spec",
    token = true, private = false })
  zoo.close(token)
  return token
end)

local empty = once(function() return zoo.token("empty") end)

local stream = once(function()
  local path = tmp.dir() .. "/many.stream"
  local done = keyferry.send { source = zoo.session(many(), { writable = false }), to = path,
    domain = domain() }
  lu.assertEquals({ done.status, done.sealed }, { "success", KEYS })
  zoo.close(many())
  return path
end)

-- A pipe that somebody fills with the stream.
local function pipe()
  local path = tmp.dir() .. "/pipe"
  assert(os.execute(("mkfifo %s && (cat %s > %s &)"):format(path, stream(), path)))
  return assert(keyferry.archive.open(path))
end

local function skip(reader, n)
  for _ = 1, n do assert(reader:next(domain())) end
  return reader
end

-- Runs work with a session of a token that nobody else has open.
local function with(token, work, options)
  local ok, problem = pcall(work, zoo.session(token, options))
  zoo.close(token)
  if not ok then error(problem, 0) end
end

-- A session without a login, with a token.
local function stranger(token, options, work)
  local module = zoo.module(token.hsm)
  local session = assert(module:session(zoo.slot(module, token), options))
  local ok, problem = pcall(work, session)
  session:close()
  module:close()
  if not ok then error(problem, 0) end
end

local TestReports = {}

-- The report of a run tells of what had been cloned when it was cut off, and nothing else.
local function report_of_a_part(target, run)
  local path = tmp.dir() .. "/report.json"
  local paper = assert(keyferry.report.create(path, { command = "partition backup" }))
  local done = keyferry.backup { source = zoo.session(many(), { writable = false }),
    target = target, domain = domain(), mode = "add", report = paper,
    on_progress = run.on_progress, on_error = run.on_error, changes = run.changes }
  lu.assertNotEquals(done.status, "success")
  return assert(keyferry.report.read(path, domain())), done
end

function TestReports.test_one_of_a_run_that_was_cut_off_is_of_no_whole_backup()
  with(zoo.token("target"), function(target)
    local report, done = report_of_a_part(target, { on_progress = function(n)
      if n == 70 then error(core.error { code = "KFR_INTERRUPTED", what = "interrupted" }, 0) end
    end })
    lu.assertEquals({ done.cloned, #report.objects }, { 64, 64 })
    local faults = {}
    local outcome = keyferry.verify { source = report, target = target, domain = domain(),
      on_result = function(found)
        if found.err then table.insert(faults, tostring(found.err)) end
      end }
    lu.assertEquals({ outcome.status, outcome.same, outcome.failed }, { "partial", 64, 1 })
    lu.assertStrContains(faults[1], "told of 64 of its objects")
  end)
  zoo.close(many())
end

-- What failed then and is there now is no failure any more; what was not tried is.
function TestReports.test_one_of_a_run_that_was_stopped_is_of_no_whole_backup()
  with(zoo.token("target"), function(target)
    local count = 0 -- a token names its objects in no order: one that it names last stops nothing
    local report = report_of_a_part(target, { on_error = function() return "stop" end,
      changes = function() -- no such change: this one fails
        count = count + 1
        return count == 40 and { class = "data" } or nil
      end })
    lu.assertTrue(#report.objects < KEYS)
    local outcome = keyferry.verify { source = report, target = target, domain = domain() }
    lu.assertEquals(outcome.status, "partial")
    lu.assertEquals(outcome.failed, 1)
  end)
  zoo.close(many())
end

-- An HSM that shows no key and no digest of it: that the copy works says nothing of whose it is.
function TestReports.test_a_key_without_a_digest_is_not_proved_by_the_use_of_its_copy()
  local path = tmp.dir() .. "/report.json"
  with(zoo.copy(few()), function(source)
    with(zoo.token("target"), function(target)
      local paper = assert(keyferry.report.create(path))
      local done = keyferry.backup { source = source, target = target, domain = domain(),
        mode = "add", report = paper }
      lu.assertEquals(done.status, "success")
      local key = target:find { label = "key 2" }[1]
      local id = key.id
      key:destroy()
      zoo.secret(target, "key 2", { id = id, value = ("z"):rep(32) })
      local function compare(challenge, forget)
        local report = assert(keyferry.report.read(path, domain()))
        for _, line in ipairs(report.objects) do
          if forget and line.label == "key 2" then line.digest = nil end
        end
        return keyferry.verify { source = report, target = target, domain = domain(),
          challenge = challenge }
      end
      for _, challenge in ipairs { false, true } do
        local outcome = compare(challenge, false)
        lu.assertEquals({ outcome.status, outcome.differing }, { "partial", 1 })
        lu.assertEquals(compare(challenge, true).unproved, 1)
      end
    end)
  end)
end

local TestReaders = {}

function TestReaders.test_a_file_that_was_read_before_is_compared_as_a_whole()
  with(empty(), function(target)
    for _, n in ipairs { 70, KEYS } do
      local reader <close> = skip(assert(keyferry.archive.open(stream())), n)
      local outcome = keyferry.verify { source = reader, target = target, domain = domain() }
      lu.assertEquals({ outcome.status, outcome.missing }, { "partial", KEYS })
    end
  end, { writable = false })
end

function TestReaders.test_a_pipe_that_was_read_before_is_no_source()
  with(empty(), function(target)
    local reader <close> = skip(pipe(), 70)
    local outcome = keyferry.verify { source = reader, target = target, domain = domain() }
    lu.assertEquals(outcome.status, "failed")
    lu.assertStrContains(tostring(outcome.reason), "70 objects of the stream had been read before")
  end, { writable = false })
end

function TestReaders.test_a_backup_from_a_pipe_that_was_read_before_is_no_success()
  with(zoo.token("target"), function(target)
    local reader <close> = skip(pipe(), 70)
    for _ = 1, 2 do
      local done = keyferry.backup { source = reader, target = target, mode = "add",
        domain = domain() }
      lu.assertNotEquals(done.status, "success")
      lu.assertStrContains(tostring(done.reason), "objects of the stream had been read before")
    end
    local done = keyferry.backup { source = reader, target = target, mode = "replace",
      domain = domain() }
    lu.assertNotEquals(done.status, "success")
  end)
end

-- The end was reached without a look at a single mac.
function TestReaders.test_what_was_read_without_the_domain_is_not_authenticated_by_its_end()
  local reader <close> = assert(keyferry.archive.open(stream()))
  lu.assertEquals(keyferry.archive.read(reader).objects, KEYS)
  local found = keyferry.archive.read(reader, { domain = domain() })
  lu.assertEquals({ found.objects, found.whole, found.authenticated }, { KEYS, true, true })
  local other <close> = pipe()
  keyferry.archive.read(other)
  found = keyferry.archive.read(other, { domain = domain() })
  lu.assertEquals({ found.objects, found.whole, found.authenticated }, { 0, false, false })
  lu.assertStrContains(tostring(found.err), "had been read before")
end

local TestLogins = {}

-- SoftHSM's store needs the PIN anyhow; an HSM that is worked through PKCS#11 just shows less.
function TestLogins.test_who_sees_public_objects_alone_makes_no_backup_and_no_comparison()
  stranger(few(), {}, function(source)
    lu.assertEquals(#source:find(), 1)
    with(zoo.token("target"), function(target)
      for _, done in ipairs {
        keyferry.backup { source = source, target = target, mode = "add", domain = domain(),
          engine = "wrap" },
        keyferry.backup { source = source, plan = true, domain = domain(), engine = "wrap" },
        keyferry.send { source = source, to = tmp.dir() .. "/s", domain = domain(),
          engine = "wrap" },
        keyferry.verify { source = source, target = target, engine = "wrap" },
        keyferry.verify { source = target, target = source, engine = "wrap" },
      } do
        lu.assertEquals(done.status, "failed")
        lu.assertEquals(done.reason.code, "CKR_USER_NOT_LOGGED_IN")
      end
      lu.assertEquals(target:find(), {})
    end)
  end)
end

function TestLogins.test_a_target_that_hides_its_objects_is_not_replaced()
  local token = zoo.copy(few())
  with(zoo.copy(few()), function(source)
    stranger(token, { writable = true }, function(target)
      local done = keyferry.backup { source = source, target = target, mode = "replace",
        domain = domain(), engine = "wrap" }
      lu.assertEquals(done.status, "failed")
      lu.assertEquals(done.reason.code, "CKR_USER_NOT_LOGGED_IN")
    end)
  end, { writable = false })
  with(token, function(session) lu.assertEquals(#session:find(), 4) end)
end

-- What is hidden from somebody has vanished, as far as PKCS#11 says: no end is written.
function TestLogins.test_a_stream_of_which_the_login_was_lost_is_none()
  for _, engine in ipairs { "softhsm", "wrap" } do
    with(zoo.copy(few()), function(source)
      local path, told = tmp.dir() .. "/s", 0
      local done = keyferry.send { source = source, to = path, domain = domain(),
        engine = engine, on_result = function()
          told = told + 1
          if told == 1 then source:logout() end
        end }
      lu.assertTrue(told < 4)
      lu.assertEquals(done.status, "failed")
      lu.assertNil(core.file.exists(path))
    end)
  end
end

-- A failure is not what a flag forbids: it is not known whether it is the same key.
function TestLogins.test_a_comparison_that_is_cut_off_in_the_middle_calls_nothing_the_same()
  with(zoo.copy(few()), function(source)
    with(zoo.copy(few()), function(target)
      local outcome = keyferry.verify { source = source, target = target, engine = "wrap",
        on_progress = function(n) if n == 1 then source:logout() end end }
      lu.assertEquals({ outcome.status, outcome.same + outcome.failed }, { "partial", 4 })
      lu.assertTrue(outcome.failed >= 2) -- of one the digest had been taken
    end)
  end)
end

-- Partitions without a user PIN -----------------------------------------------------------

local TestHalfMade = {}

local FLAGS, USER_BLOB, PIN_INITIALIZED = 0x8000534B, 0x8000534D, 8

-- Takes the user PIN from a token's file: its officer can give it another, and all is there.
local function forget_pin(token)
  local path = token.dir .. "/token.object"
  local object = assert(object_file.parse(shell.read(path)))
  local _, flags = object_file.get(object, FLAGS)
  flags.value = string.pack(">I8", string.unpack(">I8", flags.value) & ~PIN_INITIALIZED)
  for i = #object.records, 1, -1 do
    if object.records[i].type == USER_BLOB then table.remove(object.records, i) end
  end
  shell.write(path, object_file.encode(object))
end

-- Nobody sees private objects without the PIN: that none is shown says nothing.
function TestHalfMade.test_a_partition_that_has_lost_its_pin_is_not_made_again()
  local s = scene.new("backed")
  local target = s:target()
  for file, object in pairs(target:objects()) do
    local private = object[CKA_PRIVATE]
    if private and private.value == "\0" then assert(os.remove(target.dir .. "/" .. file)) end
  end
  local files = target:files()
  lu.assertTrue(#files > 3)
  forget_pin(target)
  for _, options in ipairs { {}, { "-force" } } do
    local done = s:backup(options)
    lu.assertEquals(done.status, 5, done.out .. done.err)
    lu.assertEquals(target:files(), files)
  end
  os.remove(target.dir .. "/" .. files[1])
  for i = 3, #files do os.remove(target.dir .. "/" .. files[i]) end
  lu.assertEquals(s:backup {}.status, 5)
  lu.assertEquals(target:files(), { files[2] })
end

-- While a password is typed somebody may go on with what had no PIN.
function TestHalfMade.test_one_that_somebody_goes_on_with_is_left_alone()
  local s = scene.new()
  local vault = s:hsm("vault")
  process.must { "softhsm2-util", "--init-token", "--free", "--label", "backup", "--so-pin",
    scene.sopw, "--pin", scene.tokenpw, env = vault.env }
  local token = s:target()
  forget_pin(token)
  local init_pin = ("SOFTHSM2_CONF=%s pkcs11-tool --module %s --token-label backup --login " ..
    "--login-type so --so-pin '%s' --init-pin --new-pin '%s' >/dev/null 2>&1")
    :format(vault.conf, vault.module, scene.sopw, scene.tokenpw)
  local out = s:lua(([[
    local vault = assert(keyferry.hsm("vault"))
    local partition = assert(vault:partition("backup"))
    print(vault:is_half_made(partition))
    assert(os.execute(%q))
    local ok, err = vault:delete_half_made(partition)
    print(ok, err.code)]]):format(init_pin))
  lu.assertStrContains(out, "true\nnil\tKFR_EXISTS")
  lu.assertEquals(s:target().serial, token.serial)
end

-- On the HSM of the source it cannot be made again while the source is read.
function TestHalfMade.test_one_beside_its_source_is_removed_first()
  local s = scene.new()
  process.must { "softhsm2-util", "--init-token", "--free", "--label", "backup", "--so-pin",
    scene.sopw, "--pin", scene.tokenpw, env = s:hsm("prod").env }
  local token = s:hsm("prod"):tokens("backup")[1]
  forget_pin(token)
  local done = s:backup { serial = "100001" }
  lu.assertEquals(done.status, 5, done.out .. done.err)
  lu.assertStrContains(done.err, "partition delete")
  done = s:run { "partition", "delete", "-partition", "backup", "-serial", "100001", "-force" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  done = s:backup { serial = "100001" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
end

-- The mark ------------------------------------------------------------------------------------

local TestMark = {}

-- Cuts a backup of "payments" off when all but the last is there.
local function cut_off(s, select)
  return s:lua(([[
    local secret = keyferry.secret
    local vault, pin = assert(keyferry.hsm("vault")), secret(%q)
    local session = assert(assert(keyferry.partition("payments")):login(secret(%q)))
    local done = keyferry.backup{ source = session, domain = keyferry.domain(secret(%q)),
      select = %s, discard = function() end,
      create = function(domain, of)
        local made = assert(vault:create_partition{ label = "backup", password = pin,
          so_password = secret(%q), domain = domain, unfinished = of })
        return made:login(pin, { writable = true })
      end,
      on_progress = function(n)
        if n == 66 then error(keyferry.error{ code = "KFR_INTERRUPTED", what = "cut" }, 0) end
      end }
    io.write(tostring(done.unfinished), done.cloned)]]):format(scene.tokenpw, scene.password,
    scene.domain, select or "nil", scene.sopw))
end

local function with_keys()
  local s = scene.new()
  s:inside("payments", ([[
    for i = 1, %d do
      assert(session:create{ class = "secret_key", key_type = "generic_secret", sign = true,
        label = ("key %%02d"):format(i), id = string.pack(">I2", i), verify = true,
        value = ("%%032d"):format(i), token = true, private = true, sensitive = true,
        extractable = true })
    end]]):format(KEYS))
  return s
end

local marked = once(function()
  local s = with_keys()
  lu.assertEquals(cut_off(s), "true64")
  return s
end)

local function is_marked(s)
  return #s:target():labelled("keyferry unfinished backup") > 0
end

-- It is what the whole run was to make, or it is unfinished.
function TestMark.test_a_narrower_run_does_not_finish_what_another_one_began()
  local s = marked():copy()
  for _, match in ipairs { "nothing like it", "key 01", "*" } do
    local done = s:backup { "-match", match }
    lu.assertEquals(done.status, 1, done.out .. done.err)
    lu.assertStrContains(done.err, "the target still is an unfinished backup")
    lu.assertTrue(is_marked(s))
  end
  local done = s:restore { "-add" }
  lu.assertEquals(done.status, 5, done.out .. done.err)
  done = s:backup {}
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertFalse(is_marked(s))
end

function TestMark.test_a_stream_of_a_part_does_not_finish_a_backup_of_all()
  local s = marked():copy()
  local function receive(...)
    local file = tmp.dir() .. "/stream"
    local done = s:run { "partition", "send", "-partition", "payments", "-file", file,
      env = scene.secrets(), ... }
    lu.assertEquals(done.status, 0, done.out .. done.err)
    return s:run { "partition", "receive", "-tokenpar", "backup", "-serial", scene.serial,
      "-file", file, env = scene.secrets { "PASSWORD" } }
  end
  local done = receive("-match", "key 0*")
  lu.assertEquals(done.status, 1, done.out .. done.err)
  lu.assertTrue(is_marked(s))
  done = receive()
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertFalse(is_marked(s))
end

function TestMark.test_the_run_that_began_with_a_selection_finishes_with_it()
  local s = with_keys()
  lu.assertEquals(cut_off(s, "{ label = 'key*', class = { 'secret_key' } }"), "true64")
  local done = s:backup { "-match", "key*", "-class", "secret_key" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertFalse(is_marked(s))
  lu.assertEquals(#scene.labels(s:target()), KEYS)
end

return { TestMark = TestMark, TestHalfMade = TestHalfMade, TestReports = TestReports,
  TestReaders = TestReaders, TestLogins = TestLogins }
