-- SPDX-License-Identifier: MIT
local lu = require("luaunit")
local example = require("examples.example")
local scene = require("flow.scene")

local Test = {}

local function labels(s)
  local list = {}
  for _, token in ipairs(s:hsm("vault"):tokens()) do list[#list + 1] = token.label end
  table.sort(list)
  return list
end

-- A scene with empty partitions of these names on the vault.
local function scene_with(...)
  local s = scene.new()
  local list = {}
  for i, label in ipairs { ... } do list[i] = ("%q"):format(label) end
  s:lua(([[
    local pin, so = keyferry.secret(%q), keyferry.secret(%q)
    local domain = assert(keyferry.domain(keyferry.secret(%q)))
    local vault = assert(keyferry.hsm("vault"))
    for _, label in ipairs{ %s } do
      assert(vault:create_partition{ label = label, password = pin, so_password = so,
        domain = domain })
    end]]):format(scene.tokenpw, scene.sopw, scene.domain, table.concat(list, ", ")))
  return s
end

local function rotate(s, date, keep, ...)
  return example.run(s, "rotate", { "-date", date, "-keep", tostring(keep), tokenpar = false,
    env = scene.secrets(), ... })
end

local function assert_status(done, status)
  lu.assertEquals(done.status, status, done.out .. done.err)
  return done
end

function Test.test_exactly_the_last_n_stay()
  local s = scene_with("payments-2026-11-21", "payments-2026-11-22", "payments-2026-11-23")
  local done = assert_status(rotate(s, "2026-11-24", 2, "-force"), 0)
  lu.assertEquals(labels(s), { "payments-2026-11-23", "payments-2026-11-24" })
  lu.assertStrContains(done.out, 'Partition "payments-2026-11-21" removed\n')
  lu.assertStrContains(done.out, "\n2 backups are there\n'backup rotate' successful.\n")
  lu.assertEquals(scene.contents(s:target("payments-2026-11-24")), scene.contents(s:source()))
  lu.assertEquals(scene.contents(s:target("payments-2026-11-23")), {})
  -- The same day once more: what is new is added, nothing goes.
  s:source():aes("late", "0a")
  assert_status(rotate(s, "2026-11-24", 2), 0)
  lu.assertEquals(labels(s), { "payments-2026-11-23", "payments-2026-11-24" })
  lu.assertEquals(scene.contents(s:target("payments-2026-11-24")), scene.contents(s:source()))
end

function Test.test_only_partitions_of_its_own_pattern_go()
  local others = { "invoices-2020-01-01", "payments", "payments-2020-01", "payments-2020-01-0a",
    "payments-2020-01-01-copy", "xpayments-2020-01-01" }
  local s = scene_with("payments-2020-01-01", table.unpack(others))
  assert_status(rotate(s, "2026-11-24", 1, "-force"), 0)
  table.insert(others, "payments-2026-11-24")
  table.sort(others)
  lu.assertEquals(labels(s), others)
end

function Test.test_the_prefix_is_no_pattern()
  local s = scene_with("p.y-2020-01-01", "pay-2020-01-01")
  assert_status(rotate(s, "2026-11-24", 1, "-force", "-prefix", "p.y"), 0)
  lu.assertEquals(labels(s), { "p.y-2026-11-24", "pay-2020-01-01" })
end

function Test.test_nothing_goes_when_the_new_backup_failed()
  local s = scene_with("payments-2026-11-22", "payments-2026-11-23")
  local env = scene.secrets()
  env.KEYFERRY_DOMAIN = "another river"
  local done = assert_status(example.run(s, "rotate", { "-date", "2026-11-24", "-keep", "1",
    "-force", tokenpar = false, env = env }), 4)
  lu.assertEquals(labels(s), { "payments-2026-11-22", "payments-2026-11-23" })
  lu.assertStrContains(done.out, "no old one was removed")
end

function Test.test_nothing_goes_when_the_new_backup_is_empty()
  local s = scene_with("payments-2026-11-22", "payments-2026-11-23")
  s:inside("payments", "for _, object in ipairs(session:find()) do object:destroy() end")
  local done = assert_status(rotate(s, "2026-11-24", 1, "-force"), 5)
  lu.assertStrContains(done.out, "the new backup is empty")
  lu.assertEquals(#labels(s), 3)
end

function Test.test_the_new_one_stays_although_others_are_from_days_to_come()
  local s = scene_with("payments-2026-11-23", "payments-2099-01-01", "payments-2099-01-02")
  local done = assert_status(rotate(s, "2026-11-24", 1, "-force"), 0)
  lu.assertEquals(labels(s), { "payments-2026-11-24", "payments-2099-01-01",
    "payments-2099-01-02" })
  lu.assertStrContains(done.err, '"payments-2099-01-02" is from a day to come')
end

function Test.test_without_force_and_a_terminal_nothing_goes_and_it_says_so()
  local s = scene_with("payments-2026-11-23")
  local done = assert_status(rotate(s, "2026-11-24", 1), 5)
  lu.assertEquals(labels(s), { "payments-2026-11-23", "payments-2026-11-24" })
  lu.assertStrContains(done.out, "no confirmation, and no terminal to ask on")
end

function Test.test_a_date_is_a_day_that_there_is()
  local s = scene.new()
  for _, date in ipairs { "2026-02-30", "2026-1-1", "today", "2026-11-24; rm" } do
    assert_status(rotate(s, date, 1), 2)
  end
  assert_status(rotate(s, "2026-11-24", 0), 2)
end

return { TestRotate = Test }
