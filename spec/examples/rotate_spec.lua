-- SPDX-License-Identifier: MIT
local lu = require("luaunit")
local example = require("examples.example")
local scene = require("flow.scene")

local Test = {}

local function rotate(s, date, how)
  how = how or { "-force" }
  how.tokenpar, how.env = "pay", how.env or scene.secrets()
  for _, word in ipairs { "-keep", how.keep or "2", "-date", date } do table.insert(how, word) end
  return example.run(s, "rotate", how)
end

local function vault(s)
  local list = {}
  for _, token in ipairs(s:hsm("vault"):tokens()) do table.insert(list, token.label) end
  table.sort(list)
  return list
end

function Test.test_exactly_n_stay_and_nothing_of_another_name_goes()
  local s = scene.new()
  local others = { "pay", "pay-2026100", "pay-20261001x", "xpay-20261001" }
  for _, label in ipairs(others) do s:hsm("vault"):init_token(label) end
  for _, date in ipairs { "20261031", "20261101", "20261102" } do
    local done = rotate(s, date)
    lu.assertEquals(done.status, 0, done.out .. done.err)
  end
  lu.assertEquals(vault(s), { others[1], others[2], others[3], "pay-20261101",
    "pay-20261102", others[4] })
  lu.assertEquals(scene.contents(s:target("pay-20261102")), scene.contents(s:source()))
end

function Test.test_a_second_run_of_the_day_adds_to_it()
  local s = scene.new()
  rotate(s, "20261101")
  s:source():aes("late", "0a")
  local done = rotate(s, "20261101", { "-force", keep = "1" })
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertStrContains(done.out, "1 cloned, 7 already there\n")
  lu.assertEquals(vault(s), { "pay-20261101" })
end

function Test.test_nothing_is_removed_when_the_new_backup_failed()
  local s = scene.new()
  rotate(s, "20261101")
  rotate(s, "20261102")
  local before = s:snapshot()
  for name, status in pairs { KEYFERRY_PASSWORD = 3, KEYFERRY_DOMAIN = 4 } do
    local env = scene.secrets()
    env[name] = "not it"
    local done = rotate(s, "20261103", { "-force", keep = "1", env = env })
    lu.assertEquals(done.status, status, done.out .. done.err)
  end
  lu.assertEquals(s:changes(before, "vault"), {})
end

-- Else N days after an accident every backup would be one of nothing.
function Test.test_a_source_in_which_nothing_is_is_refused()
  local s = scene.new()
  rotate(s, "20261101")
  s:inside("payments", "for _, object in ipairs(session:find()) do object:destroy() end")
  local before = s:snapshot()
  local done = rotate(s, "20261102", { "-force", keep = "1" })
  lu.assertEquals(done.status, 5, done.out .. done.err)
  lu.assertEquals(s:changes(before), {})
end

-- A clock that is behind would make the new one the oldest.
function Test.test_a_clock_that_is_behind_is_refused()
  local s = scene.new()
  rotate(s, "20261102")
  local before = s:snapshot()
  local done = rotate(s, "20191102", { "-force", keep = "1" })
  lu.assertEquals(done.status, 5, done.out .. done.err)
  lu.assertEquals(s:changes(before), {})
end

function Test.test_without_force_and_terminal_the_old_ones_stay()
  local s = scene.new()
  rotate(s, "20261101")
  local done = rotate(s, "20261102", { keep = "1" })
  lu.assertEquals(done.status, 5, done.out .. done.err)
  lu.assertEquals(vault(s), { "pay-20261101", "pay-20261102" })
end

function Test.test_keep_none_is_wrong_use()
  local s = scene.new()
  lu.assertEquals(rotate(s, "20261102", { "-force", keep = "0" }).status, 2)
  for _, date in ipairs { "2026-11-02", "20261139", "20260230", "today" } do
    lu.assertEquals(rotate(s, date).status, 2, date)
  end
  lu.assertEquals(vault(s), {})
end

return { TestRotate = Test }
