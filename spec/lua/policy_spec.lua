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

-- A scene opened in this process: s.source and s.target (of a "backed" one) are sessions.
local function open(kind, ask)
  local s = scene.new(kind)
  keyferry.configure { home = s.home, config = s.home .. "/none", ask = ask }
  core.file.write(s.home .. "/none", "return {}", tonumber("600", 8))
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
  lu.assertErrorMsgContains("session:seal has no option 'changes_'", s.source.seal, s.source, mac,
    { changes_ = {} })
  lu.assertErrorMsgContains("not of the endpoint's token", s.source.seal, s.source, clone)
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

-- Many ends ------------------------------------------------------------------------------------

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

return { TestPolicy = TestPolicy }
