-- SPDX-License-Identifier: MIT
-- What a policy in Lua can do with the library alone: a few lines each, judged by use.
local lu = require("luaunit")

local core = require("keyferry.core")
local keyferry = require("keyferry")
local scene = require("flow.scene")

local secret = keyferry.secret

local function assert_refused(code, value, err)
  lu.assertNil(value)
  lu.assertEquals(err and err.code, code, tostring(err))
  return err
end

-- A scene opened in this process: s.source and s.target (of a "backed" one) are sessions. With
-- lies the backup HSM is one that lies: s.liar:lie(...).
local function open(kind, ask, lies)
  local s = scene.new(kind)
  s.token = kind and s:target()
  local config = s.home .. "/none"
  core.file.write(config, "return {}", tonumber("600", 8))
  if lies then
    s.liar = s:lying("vault", "")
    config = s.home .. "/config.lua"
  end
  keyferry.configure { home = s.home, config = config, ask = ask }
  s.payments = assert(keyferry.partition("payments"))
  s.source = assert(s.payments:login(secret(scene.password), { writable = true }))
  if kind then
    s.backup = assert(keyferry.partition("backup"))
    s.target = assert(s.backup:login(secret(scene.tokenpw), { writable = true }))
  end
  return s
end

local function close()
  keyferry.configure {}
end

-- A partition made for a test, with a session.
local function make(hsm, label, domain)
  local pin = secret("pin of " .. label)
  local partition = assert(assert(keyferry.hsm(hsm)):create_partition { label = label,
    password = pin, so_password = secret("so pin of " .. label), domain = domain })
  return assert(partition:login(pin, { writable = true })), partition
end

local function labels(session)
  local list = {}
  for object in session:objects { token = true } do
    list[#list + 1] = object.class .. " " .. object.label
  end
  table.sort(list)
  return list
end

local function one(session, filter)
  local found = assert(session:find(filter))
  lu.assertEquals(#found, 1)
  return found[1]
end

local function assert_success(report)
  lu.assertEquals(report.status, "success", tostring(report.reason))
  return report
end

local TestPolicy = { tearDown = close }

-- Changes ----------------------------------------------------------------------------------

function TestPolicy.test_a_clone_is_renamed_through_changes()
  local s = open("open")
  local report = assert_success(keyferry.backup { source = s.source, target = s.target,
    mode = "add", select = function(o) return o.label == "mac" end,
    on_exists = function() return "clone" end,
    changes = function(o) return { label = o.label .. " of 2024", id = "\9" .. o.id } end })
  lu.assertEquals(report.cloned, 1)
  local clone = one(s.target, { label = "mac of 2024" })
  lu.assertEquals(clone.id, "\9\4")
  lu.assertTrue(core.challenge(one(s.source, { label = "mac" }), clone))
end

function TestPolicy.test_more_rights_need_the_word()
  local s = open("backed")
  local function run(more)
    local seen
    local report = keyferry.backup { source = s.source, target = s.target, mode = "add",
      more_rights = more, select = function(o) return o.label == "mac" end,
      on_exists = function() return "clone" end,
      changes = function() return { label = "mac for all", sensitive = false, derive = true } end,
      on_result = function(result)
        if result.status ~= "skipped" then seen = result end
      end }
    return report, seen
  end
  local report, result = run(nil)
  lu.assertEquals({ report.status, report.cloned, report.failed }, { "failed", 0, 1 })
  lu.assertEquals(result.err.code, "KFR_REFUSED")
  lu.assertStrContains(result.err.hint, "more_rights = true")
  lu.assertEquals(#assert(s.target:find { label = "mac for all" }), 0)
  report, result = run(true)
  assert_success(report)
  local clone = assert(s.target:object(result.target_handle))
  lu.assertEquals({ clone.label, clone:has("sensitive"), clone:has("derive"),
    clone:has("always_sensitive") }, { "mac for all", false, true, false })
  lu.assertTrue(core.challenge(one(s.source, { label = "mac" }), clone))
end

-- One object ---------------------------------------------------------------------------------

function TestPolicy.test_an_object_goes_from_session_to_session_as_bytes()
  local s = open("backed")
  local kek = one(s.source, { label = "kek" })
  local sealed, lost = assert(s.source:seal(kek))
  lu.assertEquals(lost, "")
  local bytes = sealed:bytes()
  sealed:close()
  local clone = assert(s.target:open(keyferry.sealed(bytes), { changes = { label = "kek 2" } }))
  lu.assertEquals(clone.label, "kek 2")
  lu.assertTrue(core.challenge(kek, clone))
  assert_refused("KFR_DAMAGED", s.target:open(keyferry.sealed(bytes:sub(1, -2) .. "?")))
  assert_refused("KFR_REFUSED", s.target:open(keyferry.sealed(bytes), {
    changes = { extractable = true } }))
  clone = assert(s.target:open(keyferry.sealed(bytes), { changes = { extractable = true },
    more_rights = true }))
  lu.assertTrue(clone:has("extractable"))
end

function TestPolicy.test_seal_and_open_take_the_domain_and_the_engine_they_are_given()
  local s = open("backed")
  local other = assert(keyferry.domain(secret("another river")))
  local mac = one(s.source, { label = "mac" })
  local sealed = assert(s.source:seal(mac, { domain = other, engine = "wrap" }))
  assert_refused("KFR_DOMAIN_MISMATCH", s.target:open(sealed))
  local clone = assert(s.target:open(sealed, { domain = other }))
  lu.assertTrue(core.challenge(mac, clone))
  assert_refused("KFR_ARGUMENT", s.source:seal(mac, { engine = "none" }))
  assert_refused("KFR_ARGUMENT", s.target:open(s.source:seal(mac, { engine = "none" })))
  lu.assertTrue(core.challenge(mac, assert(s.target:open(s.source:seal(mac)))))
  lu.assertErrorMsgContains("takes a table of options, not a string", s.source.seal, s.source, mac,
    "wrap")
  lu.assertErrorMsgContains("session:seal has no option 'changes_'", s.source.seal, s.source, mac,
    { changes_ = {} })
  lu.assertErrorMsgContains("login has no option 'writeable'", s.payments.login, s.payments,
    secret(scene.password), { writeable = true })
  lu.assertErrorMsgContains("login takes a secret", s.payments.login, s.payments, "a text")
  lu.assertErrorMsgContains("backup: the session of the target is read-only", keyferry.backup,
    { source = s.source, target = assert(s.payments:login(secret(scene.password))), mode = "add" })
  lu.assertErrorMsgContains("a name is text, in quotes, not a nil", keyferry.partition)
  lu.assertErrorMsgContains("not of the endpoint's token", s.source.seal, s.source, clone)
  local _, err = pcall(function() s.source:seal(7) end)
  lu.assertStrContains(err, "policy_spec.lua:")
  lu.assertStrContains(err, "keyferry.object expected, got number")
  s.source:close()
  lu.assertErrorMsgContains("session:seal: the session is closed", s.source.seal, s.source, mac)
  lu.assertErrorMsgContains("backup: the session of the source is closed", keyferry.backup,
    { source = s.source, target = s.target, mode = "add" })
end

-- Passwords ----------------------------------------------------------------------------------

function TestPolicy.test_a_partition_asks_for_the_password_it_was_not_given()
  local asked = {}
  local s = open("backed", function(partition)
    asked[#asked + 1] = partition.label
    if partition.label == "backup" then return secret(scene.tokenpw) end
    return nil, keyferry.error { code = "KFR_NO_SECRET", what = "nobody is there" }
  end)
  lu.assertEquals(asked, {})
  s.target:close()
  local session = assert(s.backup:login())
  lu.assertTrue(#assert(session:find { token = true }) > 0)
  s.source:close()
  local err = assert_refused("KFR_NO_SECRET", s.payments:login())
  lu.assertEquals(err.what, "nobody is there")
  lu.assertEquals(asked, { "backup", "payments" })
end

function TestPolicy.test_two_people_each_type_half_of_a_pin()
  local s = open()
  s.source:close()
  local halves = { secret("user "), secret("pin 7") }
  local session = assert(s.payments:login(halves[1] .. halves[2]))
  lu.assertTrue(session:is_open())
end

-- Many ends ------------------------------------------------------------

function TestPolicy.test_several_sources_go_to_one_backup_partition()
  local s = open()
  local domain = assert(keyferry.domain(secret(scene.domain)))
  local second = make("prod", "invoices", domain)
  assert(second:generate { mechanism = "aes_key_gen", value_len = 32, label = "invoice key",
    id = "\7", token = true, private = true, sensitive = true, encrypt = true, decrypt = true })
  local target = make("vault", "all", domain)
  for _, source in ipairs { s.source, second } do
    assert_success(keyferry.backup { source = source, target = target, mode = "add" })
  end
  local wanted = labels(s.source)
  wanted[#wanted + 1] = "secret_key invoice key"
  table.sort(wanted)
  lu.assertEquals(labels(target), wanted)
end

function TestPolicy.test_one_source_goes_to_several_backup_partitions()
  local s = open("backed")
  local second = make("vault", "second", assert(keyferry.domain(secret(scene.domain))))
  for _, target in ipairs { s.target, second } do
    assert_success(keyferry.backup { source = s.source, target = target, mode = "add" })
  end
  lu.assertEquals(labels(second), labels(s.source))
  lu.assertEquals(labels(s.target), labels(s.source))
end

-- What is chosen ---------------------------------------------------------------------------------

function TestPolicy.test_objects_are_chosen_by_any_attribute()
  local s = open("open")
  local function chosen(select)
    local list = {}
    keyferry.backup { source = s.source, plan = true, select = select,
      on_result = function(result)
        if result.status == "planned" then list[#list + 1] = result.object.label end
      end }
    table.sort(list)
    return table.concat(list, ", ")
  end
  lu.assertEquals(chosen { class = "private_key" }, "sign, tls-web")
  lu.assertEquals(chosen { class = "CKO_PRIVATE_KEY", CKA_KEY_TYPE = "rsa" }, "tls-web")
  lu.assertEquals(chosen { sign = true, class = "secret_key", extractable = true },
    "mac, open 1, open 2, open 3, open 4")
  lu.assertEquals(chosen { label = { "open [12]", "k*" } }, "kek, open 1, open 2")
  lu.assertEquals(chosen { value_len = 32, key_type = "aes" }, "kek")
  lu.assertEquals(chosen { id = "\4" }, "mac")
  lu.assertEquals(chosen "*e", "note")
  lu.assertEquals(chosen(function(o) return o.application == "spec" end), "note")
  lu.assertErrorMsgContains("backup: 'size' is not an attribute", chosen, { size = 3 })
  lu.assertErrorMsgContains("backup: there is no CKO 'key'", chosen, { class = "key" })
end

-- Errors -------------------------------------------------------------------

-- A key is planted by one call or the other.
local FIRST = "C_CopyObject 1 CKR_DEVICE_ERROR\nC_UnwrapKey 1 CKR_DEVICE_ERROR"
local ALL = "C_CopyObject * CKR_DEVICE_ERROR\nC_UnwrapKey * CKR_DEVICE_ERROR"

-- Backs the four open keys up by wrapping, to an HSM that lies once all are staged.
local function failing(mode, lie, more)
  local s = open("open", nil, true)
  local options = { source = s.source, target = s.target, mode = mode, engine = "wrap",
    select = "open *" }
  for name, value in pairs(more(s)) do options[name] = value end
  s.before = labels(s.target)
  options.on_progress = function(done, total)
    if done == total then s.liar:lie(lie) end
  end
  s.report = keyferry.backup(options)
  s.liar:lie("")
  return s
end

local OPEN = { "secret_key open 1", "secret_key open 2", "secret_key open 3",
  "secret_key open 4" }

local function all_and_open(list)
  local all = table.move(OPEN, 1, #OPEN, #list + 1, { table.unpack(list) })
  table.sort(all)
  return all
end

function TestPolicy.test_what_fails_at_the_commit_is_tried_again_when_the_policy_says_so()
  local asked, told = {}, {}
  local s = failing("add", ALL, function(s)
    return {
      on_error = function(object, err, attempt)
        asked[#asked + 1] = ("%s %s %d"):format(object.label, err.code, attempt)
        if #asked == 4 then s.liar:lie("") end
        return "retry", 0.01
      end,
      on_result = function(result) told[result.object.label] = result.status end,
    }
  end)
  assert_success(s.report)
  table.sort(asked)
  lu.assertEquals(asked, { "open 1 CKR_DEVICE_ERROR 1", "open 2 CKR_DEVICE_ERROR 1",
    "open 3 CKR_DEVICE_ERROR 1", "open 4 CKR_DEVICE_ERROR 1" })
  lu.assertEquals(labels(s.target), all_and_open(s.before))
  lu.assertEquals({ s.report.cloned, s.report.failed }, { 4, 0 })
  lu.assertEquals({ told["open 1"], told["open 4"] }, { "cloned", "cloned" })
end

function TestPolicy.test_a_failure_at_the_commit_is_one_result_when_the_policy_goes_on()
  local asked = 0
  local s = failing("add", FIRST, function()
    return { on_error = function() asked = asked + 1 end }
  end)
  lu.assertEquals({ s.report.status, s.report.cloned, s.report.failed, asked },
    { "partial", 3, 1, 1 })
end

function TestPolicy.test_a_replacement_is_tried_again_as_a_whole()
  for _, verify in ipairs { false, true } do
    local asked = {}
    local s = failing("replace", FIRST, function(s)
      return { verify = verify, on_error = function(object, err)
        asked[#asked + 1] = object.label .. " " .. err.code
        lu.assertEquals(labels(s.target), s.before)
        return "retry"
      end }
    end)
    assert_success(s.report)
    lu.assertEquals(#asked, 1)
    lu.assertStrContains(asked[1], "CKR_DEVICE_ERROR")
    lu.assertEquals(labels(s.target), OPEN)
    lu.assertEquals({ s.report.cloned, s.report.removed }, { 4, 7 })
    close()
  end
end

-- The clones are other keys: seen when they are used, and taken back before anybody is asked.
function TestPolicy.test_a_replacement_that_does_not_prove_leaves_the_old_backup()
  for _, answer in ipairs { "stop", "continue", "throw" } do
    local other = "C_CopyObject * CKR_DEVICE_ERROR\nC_UnwrapKey ok-but-other"
    local s = failing("replace", other, function(s)
      return { verify = true, on_error = function()
        lu.assertEquals(labels(s.target), s.before)
        if answer == "throw" then
          error(keyferry.error { code = "KFR_INTERRUPTED", what = "interrupted" }, 0)
        end
        return answer
      end }
    end)
    lu.assertNotEquals(s.report.status, "success")
    lu.assertEquals(s.report.cloned, 0)
    lu.assertEquals(labels(s.target), s.before, answer)
    close()
  end
end

function TestPolicy.test_the_answers_of_on_error_are_checked()
  local s = open("open")
  for part, answer in pairs { ["on_error returned 'again'"] = { "again" }, ["'7'"] = { 7 },
    ["a pause of 'long'"] = { "retry", "long" }, ["a pause of '-1'"] = { "retry", -1 } } do
    lu.assertErrorMsgContains(part, keyferry.backup, { source = s.source, target = s.target,
      mode = "add", select = "open 1", changes = function() return { class = "data" } end,
      on_error = function() return table.unpack(answer) end })
  end
end

-- A hook that throws: the target is as its mode promises, and the error is the policy's own.
function TestPolicy.test_a_hook_that_throws_ends_the_run_safely()
  local hooks = { "select", "changes", "on_exists", "on_result", "on_progress", "on_error" }
  for _, mode in ipairs { "add", "replace" } do
    for _, name in ipairs(hooks) do
      local s = open("open")
      local before = labels(s.target)
      local options = { source = s.source, target = s.target, mode = mode,
        [name] = function() error("my own mistake") end }
      if name == "on_error" then
        options.changes = function() return { class = "data" } end
      end
      local ok, err = pcall(keyferry.backup, options)
      local after = labels(s.target)
      if name == "on_exists" and mode == "replace" then
        lu.assertTrue(ok)
      else
        lu.assertStrContains(tostring(err), "my own mistake", false, mode .. " " .. name)
        local done = name == "on_result"
        lu.assertEquals(after, done and labels(s.source) or before, mode .. " " .. name)
      end
      close()
    end
  end
end

-- What a hook closes is closed, and nothing worse.
function TestPolicy.test_a_hook_that_closes_what_the_run_works_with_ends_it_with_an_error()
  local closers = {
    source = function(s) s.source:close() end,
    target = function(s) s.target:close() end,
    hsm = function(s) s.backup.hsm:close() end,
    all = function() keyferry.configure {} end,
  }
  for _, mode in ipairs { "add", "replace" } do
    for what, closer in pairs(closers) do
      for _, hook in ipairs { "select", "changes", "on_progress", "on_result" } do
        local s = open("open")
        local ok, report = pcall(keyferry.backup, { source = s.source, target = s.target,
          mode = mode, [hook] = function()
            closer(s)
            return hook == "select" or nil
          end })
        local name = ("%s %s %s: %s"):format(mode, what, hook, tostring(report))
        if hook == "on_result" then
          lu.assertEquals(#scene.contents(s.token), 11, name)
        else
          lu.assertFalse(ok and report.status == "success", name)
          lu.assertEquals(#scene.contents(s.token), 7, name)
        end
        close()
      end
    end
  end
end

return { TestPolicy = TestPolicy }
