-- SPDX-License-Identifier: MIT
-- partition verify: what it says, how it ends, and that it changes nothing.
local lu = require("luaunit")

local cjson = require("cjson").new()
local process = require("support.process")
local scene = require("flow.scene")
local shell = require("support.shell")

local END = "\nCommand Result : %d (%s)\n"

-- Runs the command; `how`: its own options instead of -partition payments, globals, without
-- (secrets left out), env. Sees that neither store changes.
local function verify(s, ...)
  local how = { ... }
  if type(how[1]) == "table" then how = how[1] end
  local words = table.move(how.globals or {}, 1, #(how.globals or {}), 1, {})
  for _, word in ipairs { "partition", "verify", "-tokenpar", how.tokenpar or "backup", "-serial",
    how.serial or scene.serial } do words[#words + 1] = word end
  if how.source ~= false then
    words[#words + 1], words[#words + 2] = "-partition", how.source or "payments"
  end
  table.move(how, 1, #how, #words + 1, words)
  words.env, words.input = scene.secrets(how.without), how.input
  for name, value in pairs(how.env or {}) do words.env[name] = value end
  local before = s:snapshot()
  local done = s:run(words)
  lu.assertEquals(s:changes(before), {})
  return done
end

local function assert_ends(done, status, text)
  lu.assertEquals(done.status, status, done.out .. done.err)
  lu.assertStrContains(done.out, END:format(status, text))
end

local function events(s, how)
  how.globals = { "--json" }
  local list = {}
  local done = verify(s, how)
  for line in done.out:gmatch("[^\n]+") do list[#list + 1] = cjson.decode(line) end
  return list, done
end

-- A backup with something of every sort of finding.
local function spoilt()
  local s = scene.new("backed")
  s:inside("backup", [[
    local function only(filter) return assert(session:find(filter))[1] end
    assert(only{ label = "kek" }:change{ decrypt = false, id = "\10\11" })
    assert(only{ label = "note" }:destroy())
    local mac = only{ label = "mac" }
    assert(session:create{ class = "secret_key", key_type = "generic_secret", label = "mac",
      id = mac.id, value = ("x"):rep(32), sign = true, verify = true, token = true,
      private = true, sensitive = true, extractable = true })
    assert(mac:destroy())
    assert(session:create{ class = "data", label = "new", value = "x", token = true })]])
  return s
end

local TestLines = {}

function TestLines.test_a_good_backup()
  local s = scene.new("backed")
  for _, option in ipairs { "-match=*", "-challenge", "-engine=softhsm" } do
    local done = verify(s, option)
    assert_ends(done, 0, "Success")
    lu.assertEquals(select(2, done.out:gsub(
      'Object "[%w-]+" %(handle %d+%) is the same on target %(handle %d+%)\n', "")), 7)
    lu.assertStrContains(done.out, option == "-challenge" and "\n7 the same, 4 challenged\n"
      or "\n7 the same\n")
    lu.assertEquals(done.err, "")
  end
end

function TestLines.test_each_finding_is_named()
  local done = verify(spoilt())
  assert_ends(done, 1, "Partial")
  for _, pattern in ipairs {
    'Object "kek" %(handle %d+%) differs on target %(handle %d+%): CKA_DECRYPT is true, on the ' ..
      'copy false; CKA_ID is 01, on the copy 0a0b\n',
    'Object "mac" %(handle %d+%) differs on target %(handle %d+%): CKA_CHECK_VALUE is %x+, on ' ..
      'the copy %x+; .*it is another key\n',
    'Object "note" %(handle %d+%) is missing on target\n',
    'Object "new" %(handle %d+%) on target has no original\n',
    "\n4 the same, 2 different, 1 missing, 1 without original\n",
    "'partition verify' failed: the target is not the same: 2 different, 1 missing, 1 without",
  } do
    lu.assertTrue(done.out:find(pattern) ~= nil, pattern .. "\n" .. done.out)
  end
  lu.assertStrContains(done.err, "error: the target is not the same")
end

function TestLines.test_quiet_says_how_it_ended_alone()
  local done = verify(spoilt(), { globals = { "--quiet" } })
  lu.assertEquals(done.status, 1)
  lu.assertNil(done.out:find("Object", 1, true))
  lu.assertStrContains(done.out, "failed: the target is not the same")
end

function TestLines.test_json_has_an_event_for_each_and_the_values()
  local list = events(spoilt(), {})
  local by_name = {}
  for _, event in ipairs(list) do
    lu.assertEquals(event.command, "partition verify")
    if event.event == "object" then
      by_name[event.class .. " " .. event.label] = event
      lu.assertStrContains(event.uri, "pkcs11:")
    end
  end
  local kek = by_name["secret_key kek"]
  lu.assertEquals({ kek.status, kek.id }, { "differs", "01" })
  lu.assertEquals(kek.differences, {
    { name = "CKA_DECRYPT", original = true, copy = false, more_rights = false },
    { name = "CKA_ID", original = "hex:01", copy = "hex:0a0b", more_rights = false } })
  lu.assertEquals(by_name["data note"].status, "missing")
  lu.assertNil(by_name["data note"].target_handle)
  lu.assertEquals(by_name["data new"].status, "extra")
  lu.assertNil(by_name["data new"].handle)
  local last = list[#list]
  lu.assertEquals({ last.event, last.status, last.exit }, { "result", "partial", 1 })
  lu.assertEquals({ last.same, last.differing, last.missing, last.extra, last.uncompared },
    { 4, 2, 1, 1, 0 })
end

function TestLines.test_more_rights_are_said_to_be_that()
  local s = scene.new("backed")
  s:lua([[local vault = assert(keyferry.hsm("vault"))]])
  s:inside("payments", [[assert(session:find{ label = "sign", class = "private_key" }[1]
    :change{ derive = false })]])
  s:inside("backup", [[assert(session:find{ label = "sign", class = "private_key" }[1]
    :change{ derive = true })]])
  local done = verify(s)
  assert_ends(done, 1, "Partial")
  lu.assertStrContains(done.out, "CKA_DERIVE is false, on the copy true (more rights)\n")
end

function TestLines.test_an_unfinished_backup_and_other_domains_are_faults_of_the_target()
  local s = scene.new("backed")
  s:inside("backup", [[assert(session:mark_unfinished("100001 payments"))]])
  local done = verify(s)
  assert_ends(done, 1, "Partial")
  lu.assertStrContains(done.out, "Target: the partition is an unfinished backup")
  local quiet = verify(s, { globals = { "--quiet" } })
  lu.assertStrContains(quiet.err, "error: the target is not the same: target: the partition is an "
    .. "unfinished backup: the run that made it was cut off\n  finish it")
  lu.assertStrContains(done.out, "\n7 the same\n") -- the partition is no object
  lu.assertStrContains(s:run { "partition", "show", "-partition", "backup" }.out,
    'a backup of partition "payments" (serial 100001) that was cut off\n')
  local list = events(s, {})
  lu.assertEquals({ list[1].event, list[1].side, list[1].status }, { "fault", "target", "failed" })
end

local TestWritten = {}

local function with_report()
  local s = scene.new()
  local file = s.home .. "/report.json"
  local done = s:backup { "-report", file }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  return s, file
end

local function with_stream()
  local s = scene.new("backed")
  local file = s.home .. "/payments.stream"
  process.must(s:program { "partition", "send", "-partition", "payments", "-file", file,
    env = scene.secrets() })
  return s, file
end

-- The ways in which both end, good and spoilt; the source and its password are not needed.
local function assert_compares(s, option, file)
  local without = { "PASSWORD", "DOMAIN" }
  local done = verify(s, { source = false, option, file, without = without })
  assert_ends(done, 0, "Success")
  lu.assertStrContains(done.out, "\n7 the same\n")
  done = verify(s, { source = false, option, file, "-challenge", without = without })
  assert_ends(done, 0, "Success")
  s:inside("backup", [[
    assert(session:find{ label = "kek" }[1]:change{ decrypt = false })
    assert(session:find{ label = "note" }[1]:destroy())
    assert(session:create{ class = "data", label = "new", value = "x", token = true })]])
  done = verify(s, { source = false, option, file, without = without })
  assert_ends(done, 1, "Partial")
  lu.assertStrContains(done.out, "5 the same, 1 different, 1 missing, 1 without original\n")
  lu.assertStrContains(done.out, "CKA_DECRYPT is true, on the copy false")
end

function TestWritten.test_against_the_report_of_the_backup()
  assert_compares(select(1, with_report()), "-report", select(2, with_report()))
end

function TestWritten.test_against_a_stream()
  assert_compares(select(1, with_stream()), "-file", select(2, with_stream()))
end

function TestWritten.test_a_report_that_was_edited_is_damaged()
  local s, file = with_report()
  shell.write(file, (shell.read(file):gsub("kek", "kak")))
  local done = verify(s, { source = false, "-report", file })
  lu.assertEquals(done.status, 7, done.out)
  lu.assertStrContains(done.err, "has been changed")
end

function TestWritten.test_of_another_domain()
  for _, make in ipairs { with_report, with_stream } do
    local s, file = make()
    local done = verify(s, { source = false, make == with_report and "-report" or "-file", file,
      env = { KEYFERRY_DOMAIN = "another" } })
    assert_ends(done, 4, "Domain Mismatch")
  end
end

function TestWritten.test_a_stream_from_standard_input_and_one_cut_off()
  local s, file = with_stream()
  local done = verify(s, { source = false, "-file", "-", input = shell.read(file) })
  assert_ends(done, 0, "Success")
  done = verify(s, { source = false, "-file", "-", input = shell.read(file):sub(1, -40) })
  lu.assertEquals(done.status, 7)
  lu.assertStrContains(done.err, "KFR_TRUNCATED")
end

function TestWritten.test_what_is_neither_report_nor_stream()
  local s = scene.new("backed")
  shell.write(s.home .. "/empty", "")
  shell.write(s.home .. "/text", ("some text\n"):rep(100))
  for _, option in ipairs { "-report", "-file" } do
    for name, status in pairs { empty = 2, text = 2, nothing = 6 } do
      local done = verify(s, { source = false, option, s.home .. "/" .. name,
        without = { "PASSWORD", "TOKENPW" } })
      lu.assertEquals(done.status, status, option .. " " .. name .. ": " .. done.err)
    end
    lu.assertTrue(verify(s, { source = false, option, s.home }).status > 1)
  end
end

local TestRefusals = {}

function TestRefusals.test_wrong_use()
  local s = scene.new("backed")
  for _, case in ipairs {
    { { source = false }, "one of -partition, -report and -file" },
    { { "-file", "x" }, "one of -partition, -report and -file" },
    { { source = false, "-report", "x", "-password", "p" }, "-password has no effect" },
    { { "-domain", "d" }, "none is needed" },
    { { "-defaultdomain" }, "none is needed" },
  } do
    local done = verify(s, case[1])
    assert_ends(done, 2, "Usage")
    lu.assertStrContains(done.err, case[2])
  end
end

function TestRefusals.test_the_same_partition_on_both_sides()
  local done = verify(scene.new("backed"), { source = "backup" })
  assert_ends(done, 5, "Refused")
end

function TestRefusals.test_who_is_not_there()
  local s = scene.new("backed")
  assert_ends(verify(s, { tokenpar = "bakcup" }), 6, "Not Found")
  assert_ends(verify(s, { source = "payment" }), 6, "Not Found")
  assert_ends(verify(s, { serial = "1" }), 6, "Not Found")
  assert_ends(verify(s, { "-match", "nothing" }), 6, "Not Found")
end

function TestRefusals.test_a_wrong_password_and_none()
  local s = scene.new("backed")
  assert_ends(verify(s, { env = { KEYFERRY_PASSWORD = "wrong" } }), 3, "Authentication")
  assert_ends(verify(s, { env = { KEYFERRY_TOKENPW = "wrong" } }), 3, "Authentication")
  assert_ends(verify(s, { without = { "TOKENPW" } }), 3, "Authentication")
end

function TestRefusals.test_an_hsm_that_fails_is_never_a_good_backup()
  for lie, status in pairs {
    ["C_FindObjectsInit after 1 CKR_DEVICE_REMOVED"] = 7,
    ["C_GetAttributeValue after 8 CKR_DEVICE_ERROR"] = 1,
  } do
    local s = scene.new("backed")
    local _, globals = s:lying("vault", lie)
    local done = verify(s, { globals = globals })
    lu.assertEquals(done.status, status, lie .. "\n" .. done.out)
  end
end

return { TestLines = TestLines, TestWritten = TestWritten, TestRefusals = TestRefusals }
