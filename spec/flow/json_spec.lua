-- SPDX-License-Identifier: MIT
-- partition backup --json: events, fields, and nothing else on standard output.
local cjson = require("cjson")
local lu = require("luaunit")

local scene = require("flow.scene")

local JSON = { "--json" }

-- Every line is one JSON object, and the first two keys stand where the contract has them.
local function events(done)
  local list = {}
  lu.assertEquals(done.out:sub(-1), "\n")
  for line in done.out:gmatch("([^\n]*)\n") do
    lu.assertStrMatches(line, '{"event":"%a+","command":"partition backup",.*}')
    table.insert(list, cjson.decode(line))
  end
  return list
end

local function split(list)
  local result = table.remove(list)
  lu.assertEquals(result.event, "result")
  for _, event in ipairs(list) do lu.assertEquals(event.event, "object") end
  return list, result
end

local function assert_handle(value)
  lu.assertNotNil(math.tointeger(value), tostring(value))
  lu.assertTrue(value > 0)
end

local TestEvents = {}

function TestEvents.test_a_backup()
  local s = scene.new()
  local done = s:backup { globals = JSON }
  lu.assertEquals(done.status, 0, done.err)
  local objects, result = split(events(done))
  lu.assertEquals(result, { event = "result", command = "partition backup", status = "success",
    exit = 0, cloned = 7, exists = 0, failed = 0, skipped = 0, removed = 0 })
  lu.assertEquals(#objects, 7)
  local seen = {}
  for _, object in ipairs(objects) do
    lu.assertEquals(object.status, "cloned")
    assert_handle(object.handle)
    assert_handle(object.target_handle)
    lu.assertStrContains(object.uri, "pkcs11:")
    lu.assertStrContains(object.uri, "token=payments")
    table.insert(seen, ("%s %s %s %s"):format(object.label, object.class, object.key_type,
      object.id))
  end
  table.sort(seen)
  lu.assertEquals(seen, { "kek secret_key aes 01", "mac secret_key generic_secret 04",
    "note data nil nil", "sign private_key ec 02", "sign public_key ec 02",
    "tls-web private_key rsa 03", "tls-web public_key rsa 03" })
end

function TestEvents.test_what_is_there_already_and_what_is_not_selected()
  local s = scene.new("backed")
  local done = s:backup { "-add", "-class", "data", globals = JSON }
  lu.assertEquals(done.status, 0, done.err)
  local objects, result = split(events(done))
  lu.assertEquals(result, { event = "result", command = "partition backup", status = "success",
    exit = 0, cloned = 0, exists = 1, failed = 0, skipped = 6, removed = 0 })
  local by = { skipped = 0 }
  for _, object in ipairs(objects) do
    if object.status == "skipped" then
      by.skipped = by.skipped + 1
    else
      by[object.status] = object
    end
  end
  lu.assertEquals(by.skipped, 6)
  lu.assertEquals(by.exists.label, "note")
  assert_handle(by.exists.target_handle)
end

function TestEvents.test_a_partial_run_gives_reason_and_code()
  local s = scene.new()
  local done = s:backup { "-engine", "wrap", globals = JSON }
  lu.assertEquals(done.status, 1, done.err)
  local objects, result = split(events(done))
  lu.assertEquals({ result.status, result.exit, result.cloned, result.failed },
    { "partial", 1, 4, 3 })
  local failed = 0
  for _, object in ipairs(objects) do
    if object.status == "failed" then
      failed = failed + 1
      lu.assertNotEquals(object.reason or "", "")
      lu.assertStrMatches(object.code, "%u+_[%u_]+")
      lu.assertNil(object.target_handle)
    end
  end
  lu.assertEquals(failed, 3)
end

function TestEvents.test_a_wrong_domain()
  local s = scene.new()
  local done = s:backup { globals = JSON, env = { KEYFERRY_DOMAIN = "another" } }
  lu.assertEquals(done.status, 4)
  local objects, result = split(events(done))
  lu.assertEquals({ result.status, result.exit, result.cloned, result.failed },
    { "failed", 4, 0, 7 })
  lu.assertEquals(result.code, "KFR_DOMAIN_MISMATCH")
  for _, object in ipairs(objects) do
    lu.assertEquals({ object.status, object.code }, { "failed", "KFR_DOMAIN_MISMATCH" })
  end
end

function TestEvents.test_a_refusal_is_one_result()
  local s = scene.new("backed")
  for status, how in pairs {
    [2] = { "-add", "-replace" }, [3] = { "-add", env = { KEYFERRY_PASSWORD = "wrong pin" } },
    [5] = {}, [6] = { serial = "999999" } } do
    how.globals = JSON
    local done = s:backup(how)
    lu.assertEquals(done.status, status, done.err)
    local objects, result = split(events(done))
    lu.assertEquals(objects, {})
    lu.assertEquals({ result.status, result.exit }, { "failed", status })
    lu.assertNotEquals(result.reason or "", "")
  end
end

-- Warnings, prompts and errors go to standard error, under --json too.
function TestEvents.test_a_warning_is_not_among_them()
  local s = scene.new()
  local done = s:backup { tokenpar = "7up", "-domain", scene.domain, globals = JSON }
  lu.assertEquals(done.status, 0)
  lu.assertStrContains(done.err, "warning: ")
  lu.assertEquals(#events(done), 8)
end

function TestEvents.test_labels_that_are_no_utf_8_still_give_json()
  local s = scene.new()
  s:inside("payments", [[assert(session:create{ class = "data", value = "x", token = true,
    private = true, label = "bad \xff\xfe \"\n" })]])
  local done = s:backup { "-class", "data", globals = JSON }
  lu.assertEquals(done.status, 0, done.err)
  local _, result = split(events(done))
  lu.assertEquals(result.cloned, 2)
end

local TestQuiet = {}

function TestQuiet.test_quiet_prints_the_result_and_nothing_before_it()
  local s = scene.new()
  local done = s:backup { globals = { "--quiet" } }
  lu.assertEquals(done.status, 0)
  lu.assertEquals({ done.out, done.err },
    { "'partition backup' successful.\n\nCommand Result : 0 (Success)\n", "" })
end

return { TestEvents = TestEvents, TestQuiet = TestQuiet }
