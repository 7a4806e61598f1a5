-- SPDX-License-Identifier: MIT
local lu = require("luaunit")
local example = require("examples.example")
local scene = require("flow.scene")
local terminal = require("support.terminal")
local tmp = require("support.tmp")

-- Each PIN cut in two anywhere.
local HALVES = {
  KEYFERRY_PASSWORD1 = scene.password:sub(1, 5), KEYFERRY_PASSWORD2 = scene.password:sub(6),
  KEYFERRY_TOKENPW1 = scene.tokenpw:sub(1, 3), KEYFERRY_TOKENPW2 = scene.tokenpw:sub(4),
}

local function with(more)
  local env = {}
  for name, value in pairs(HALVES) do env[name] = value end
  for name, value in pairs(more or {}) do env[name] = value or nil end
  return env
end

local Test = {}

function Test.test_two_halves_open_both_partitions()
  local s = example.scene()
  local done = example.run(s, "two-people", { env = with() })
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
  for _, half in pairs(HALVES) do
    lu.assertNil((done.out .. done.err):find(half, 1, true), half)
  end
end

-- One person alone: with the wrong other half, none, an empty one, or their own once more.
function Test.test_one_person_alone_gets_nothing()
  local s = example.scene()
  local before = s:snapshot()
  for _, case in ipairs {
    { 3, "CKR_PIN_INCORRECT", with { KEYFERRY_PASSWORD2 = "guess" } },
    { 3, "no value for -password2", { KEYFERRY_PASSWORD1 = HALVES.KEYFERRY_PASSWORD1,
      KEYFERRY_TOKENPW1 = HALVES.KEYFERRY_TOKENPW1 } },
    { 3, "the file is empty", with { KEYFERRY_PASSWORD1 = scene.password,
      KEYFERRY_PASSWORD2 = false, KEYFERRY_PASSWORD2_FILE = tmp.file("\n") } },
    { 5, "one and the same", with { KEYFERRY_TOKENPW2 = HALVES.KEYFERRY_TOKENPW1 } },
  } do
    local done = example.run(s, "two-people", { env = case[3] })
    lu.assertEquals(done.status, case[1], done.out .. done.err)
    lu.assertStrContains(done.out, case[2])
  end
  lu.assertEquals(s:changes(before), {})
end

local function question(person, pin)
  return ("Person %d, please enter your half of the password for the %s:"):format(person,
    pin == "TOKENPW" and "backup partition" or "partition")
end

local function at_a_terminal(s)
  return terminal.start(s:program { "run", example.path("two-people"), "-partition", "payments",
    "-tokenpar", "backup", "-serial", scene.serial })
end

function Test.test_at_a_terminal_one_is_asked_for_both_halves_and_then_the_other()
  local s = example.scene()
  local t <close> = at_a_terminal(s)
  for person = 1, 2 do
    for _, pin in ipairs { "PASSWORD", "TOKENPW" } do
      t:wait_for(question(person, pin))
      t:type(HALVES[("KEYFERRY_%s%d"):format(pin, person)])
      t:key("Enter")
    end
  end
  local done = t:finish()
  lu.assertEquals(done.status, 0, done.screen)
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
end

function Test.test_a_half_that_is_only_entered_is_refused()
  local s = example.scene()
  local t <close> = at_a_terminal(s)
  t:wait_for(question(1, "PASSWORD"))
  t:key("Enter")
  local done = t:finish()
  lu.assertEquals(done.status, 5, done.screen)
  lu.assertStrContains(done.screen, "the half of person 1 is empty")
end

return { TestTwoPeople = Test }
