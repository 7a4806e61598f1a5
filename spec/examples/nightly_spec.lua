-- SPDX-License-Identifier: MIT
local lu = require("luaunit")
local example = require("examples.example")
local scene = require("flow.scene")
local shell = require("support.shell")
local tmp = require("support.tmp")

local Test = {}

local function nightly(s, how)
  how = how or {}
  local path = how.report or tmp.dir() .. "/report"
  table.insert(how, "-report")
  table.insert(how, path)
  local done = example.run(s, "nightly", how)
  return done, shell.read(path), path
end

local function lines_of(text)
  local list = {}
  for line in text:gmatch("([^\n]*)\n") do table.insert(list, line) end
  return list
end

function Test.test_the_first_line_is_the_subject_and_every_new_object_has_one()
  local s = example.scene()
  local done, report, path = nightly(s)
  lu.assertEquals(done.status, 0, done.out .. done.err)
  local lines = lines_of(report)
  lu.assertEquals(lines[1],
    "Subject: [keyferry] payments OK: 7 cloned, 0 already there, 0 not cloned")
  lu.assertEquals(lines[2], "")
  lu.assertEquals(#lines, 10)
  lu.assertStrContains(report, '\ncloned: secret_key "kek"')
  lu.assertEquals(lines[10], "The backup is complete.")
  lu.assertFalse(shell.exists(path .. ".new"))
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
end

function Test.test_the_second_night_adds_what_is_new_and_replaces_the_report()
  local s = example.scene()
  local path = tmp.dir() .. "/report"
  nightly(s, { report = path })
  s:source():aes("late", "0a")
  local done, report = nightly(s, { report = path })
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(lines_of(report), {
    "Subject: [keyferry] payments OK: 1 cloned, 7 already there, 0 not cloned", "",
    'cloned: secret_key "late" ', "The backup is complete." })
end

function Test.test_a_hostile_label_makes_no_header_and_no_line()
  local s = example.scene()
  s:inside("payments", [[
    for _, object in ipairs(session:find()) do object:destroy() end
    assert(session:create{ class = "data", label = "x\r\nBcc: all@example.com\n\n.\n\27[2J",
      value = "x", token = true, private = true })]])
  local done, report = nightly(s)
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(#lines_of(report), 4)
  lu.assertNil(report:find("[^\n\32-\126]"))
  lu.assertNil(report:find("\nBcc", 1, true))
  lu.assertStrContains(report, "x\\x0D\\x0ABcc: all@example.com")
  s:inside("payments", [[assert(session:create{ class = "data", value = "x", token = true,
    label = ("long\n"):rep(1000), private = true })]])
  done, report = nightly(s)
  lu.assertEquals(done.status, 0, done.out .. done.err)
  for _, line in ipairs(lines_of(report)) do lu.assertTrue(#line < 900) end
end

function Test.test_a_night_that_failed_says_so()
  local s = example.scene()
  local env = scene.secrets()
  env.KEYFERRY_TOKENPW = "not it"
  local done, report = nightly(s, { env = env })
  lu.assertEquals(done.status, 3, done.out .. done.err)
  lu.assertStrContains(lines_of(report)[1], "Subject: [keyferry] payments FAILED: ")
  lu.assertStrContains(report, "CKR_PIN_INCORRECT")
  done, report = nightly(s, { tokenpar = "gone" })
  lu.assertEquals(done.status, 6, done.out .. done.err)
  lu.assertStrContains(lines_of(report)[1], "FAILED")
  done, report = nightly(s, { env = {} })
  lu.assertEquals(done.status, 3, done.out .. done.err)
  lu.assertStrContains(lines_of(report)[1], "FAILED")
end

-- Its public half is the original's; only a challenge tells that it does not work.
function Test.test_a_broken_clone_is_a_night_that_failed()
  local s = example.scene()
  nightly(s)
  s:inside("backup", [[
    local key = session:find{ class = "private_key", key_type = "rsa" }[1]
    local broken = { class = "private_key", key_type = "rsa", token = true, private = true,
      sensitive = true, label = key.label, id = key.id, sign = true, modulus = key.modulus,
      public_exponent = key.public_exponent }
    for _, part in ipairs{ "private_exponent", "prime_1", "prime_2", "exponent_1",
      "exponent_2", "coefficient" } do
      broken[part] = ("\7"):rep(128)
    end
    assert(key:destroy())
    assert(session:create(broken))]])
  local done, report = nightly(s)
  lu.assertEquals(done.status, 1, done.out .. done.err)
  lu.assertStrContains(lines_of(report)[1], "FAILED: 0 cloned, 6 already there, 1 not cloned")
  lu.assertStrContains(report, '\nfailed: private_key "tls-web"')
end

function Test.test_a_report_that_cannot_be_written_is_a_failure()
  local s = example.scene()
  local done = nightly(s, { report = s.home .. "/none/report" })
  lu.assertEquals(done.status, 7, done.out .. done.err)
  lu.assertStrContains(done.err, "No such file")
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
end

return { TestNightly = Test }
