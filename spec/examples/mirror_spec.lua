-- SPDX-License-Identifier: MIT
local lu = require("luaunit")
local example = require("examples.example")
local scene = require("flow.scene")

local Test = {}

-- Two vaults with an empty "backup" on each.
local function two()
  local s = example.scene()
  local done = s:run { "hsm", "create", "-name", "vault2", "-serial", "496772" }
  assert(done.status == 0, done.out .. done.err)
  example.partition(s, "backup", "496772")
  return s
end

local function mirror(s, ...)
  return example.run(s, "mirror", { "-serials", "496771,496772", serial = false, ... })
end

local function on(s, name)
  return scene.contents(s:hsm(name):tokens("backup", { pin = scene.tokenpw })[1])
end

-- Lua in the backup partition of one of the two.
local function inside(s, hsm, code)
  s:lua(([[local partition = assert(keyferry.hsm(%q):partition("backup"))
    local session <close> = assert(partition:login(keyferry.secret(%q), { writable = true }))
    %s]]):format(hsm, scene.tokenpw, code))
end

function Test.test_both_hold_what_the_source_holds_and_a_second_run_is_quiet()
  local s = two()
  for _ = 1, 2 do
    local done = mirror(s)
    lu.assertEquals(done.status, 0, done.out .. done.err)
    lu.assertStrContains(done.out, 'HSM "vault": like the source\n')
    lu.assertStrContains(done.out, 'HSM "vault2": like the source\n')
    lu.assertEquals(done.err, "")
  end
  lu.assertEquals(on(s, "vault"), scene.contents(s:source()))
  lu.assertEquals(on(s, "vault2"), scene.contents(s:source()))
end

function Test.test_differences_made_by_hand_are_noticed()
  local s = two()
  mirror(s)
  inside(s, "vault", [[for _, key in ipairs(session:find{ label = "kek" }) do key:destroy() end]])
  inside(s, "vault2", [[assert(session:create{ class = "data", label = "extra", value = "x",
    token = true, private = true })
    assert(session:find{ label = "mac" }[1]:change{ sign = false })]])
  local done = mirror(s, "-compare")
  lu.assertEquals(done.status, 1, done.out .. done.err)
  lu.assertStrMatches(done.err, '.*"kek" %(handle %d+%): is not on the backup\n.*')
  lu.assertStrMatches(done.err, '.*"extra" %(handle %d+%): is not in the source\n.*')
  lu.assertStrMatches(done.err, '.*"mac" %(handle %d+%): differs in CKA_SIGN\n.*')
  lu.assertStrContains(done.out, 'HSM "vault2": 2 differences from the source\n')
  lu.assertStrContains(done.out, "failed: 2 of 2 backups are not like the source\n")
  -- Cloning mends the one; what is too much on the other stays, and is told.
  done = mirror(s)
  lu.assertEquals(done.status, 1, done.out .. done.err)
  lu.assertStrContains(done.out, 'HSM "vault": like the source\n')
  lu.assertStrContains(done.out, "failed: 1 of 2 backups are not like the source\n")
end

function Test.test_one_hsm_that_is_not_there_does_not_keep_the_other_from_its_backup()
  local s = example.scene()
  local done = mirror(s)
  lu.assertEquals(done.status, 1, done.out .. done.err)
  lu.assertStrContains(done.err, "warning: HSM 496772: no HSM and no token has the serial")
  lu.assertEquals(on(s, "vault"), scene.contents(s:source()))
end

function Test.test_where_all_fail_the_status_is_that_of_the_failure()
  local s = two()
  local env = scene.secrets()
  env.KEYFERRY_TOKENPW = "not it"
  local done = example.run(s, "mirror", { "-serials", "496771,496772", serial = false, env = env })
  lu.assertEquals(done.status, 3, done.out .. done.err)
end

return { TestMirror = Test }
