-- SPDX-License-Identifier: MIT
-- keyferry.plan: looked at, narrowed, run; and what it says before and after.
local lu = require("luaunit")

local core = require("keyferry.core")
local keyferry = require("keyferry")
local scene = require("flow.scene")

local secret = keyferry.secret

local function open(kind)
  local s = scene.new(kind)
  core.file.write(s.home .. "/none", "return {}", tonumber("600", 8))
  keyferry.configure { home = s.home, config = s.home .. "/none" }
  s.from = assert(assert(keyferry.partition("payments")):login(secret(scene.password),
    { writable = true }))
  s.to = assert(assert(keyferry.partition("backup")):login(secret(scene.tokenpw),
    { writable = true }))
  return s
end

local function statuses(plan)
  local list = {}
  for _, item in ipairs(plan.items) do
    list[#list + 1] = ("%s %s: %s"):format(item.object.class, item.object.label, item.status)
  end
  table.sort(list)
  return list
end

local function item_of(plan, label, class)
  for _, item in ipairs(plan.items) do
    if item.object.label == label and (not class or item.object.class == class) then
      return item
    end
  end
end

local function labels(session)
  local list = {}
  for object in session:objects { token = true } do
    list[#list + 1] = object.class .. " " .. object.label
  end
  table.sort(list)
  return list
end

local TestPlan = { tearDown = function() keyferry.configure {} end }

function TestPlan.test_says_what_each_object_would_do_and_changes_nothing()
  local s = open("open")
  local before = s:target():contents()
  local plan = assert(keyferry.plan { source = s.from, target = s.to, mode = "add",
    select = { class = { "secret_key", "data" } } })
  lu.assertEquals(statuses(plan), { "data note: exists", "private_key sign: skip",
    "private_key tls-web: skip", "public_key sign: skip", "public_key tls-web: skip",
    "secret_key kek: exists", "secret_key mac: exists", "secret_key open 1: clone",
    "secret_key open 2: clone", "secret_key open 3: clone", "secret_key open 4: clone" })
  lu.assertEquals(plan.counts, { clone = 4, exists = 3, skip = 4, fail = 0 })
  lu.assertEquals(tostring(plan), "plan to add: 4 to be cloned, 3 there already, 4 left out, " ..
    "0 that cannot be")
  local there = item_of(plan, "kek")
  lu.assertEquals(there.why, ("it is on the target, handle %d"):format(there.target_handle))
  lu.assertEquals(item_of(plan, "open 1").why, "it is not on the target")
  lu.assertEquals(item_of(plan, "sign").why, "it is not selected")
  lu.assertEquals(s:target():contents(), before)
end

function TestPlan.test_is_narrowed_put_back_and_run()
  local s = open("open")
  local was = labels(s.to)
  local plan = assert(keyferry.plan { source = s.from, target = s.to, mode = "add" })
  plan:narrow("nothing*")
  lu.assertEquals({ plan.counts.clone, plan.counts.exists }, { 0, 0 })
  lu.assertEquals(item_of(plan, "kek").why, "it was taken out of the plan")
  lu.assertIs(plan:reset(), plan)
  lu.assertEquals(plan.counts.clone, 4)
  plan:narrow("open *"):narrow { class = "secret_key", sign = true }
    :narrow(function(object) return object.label ~= "open 3" end)
  lu.assertEquals(plan.counts.clone, 3)
  assert(s.from:generate { mechanism = "aes_key_gen", value_len = 32, label = "newcomer",
    id = "\99", token = true })
  local told = {}
  local report = assert(plan:run { on_result = function(result)
    if result.status == "cloned" then told[#told + 1] = result.object.label end
  end })
  lu.assertEquals({ report.status, report.cloned, report.exists }, { "success", 3, 0 })
  table.sort(told)
  lu.assertEquals(told, { "open 1", "open 2", "open 4" })
  lu.assertEquals(plan.counts, { cloned = 3, exists = 0, failed = 0, skipped = 8 })
  local item = item_of(plan, "open 1")
  lu.assertEquals({ item.status, item.why },
    { "cloned", ("it is on the target now, handle %d"):format(item.target_handle) })
  lu.assertTrue(core.challenge(item.object, assert(s.to:object(item.target_handle))))
  for _, label in ipairs { "open 1", "open 2", "open 4" } do
    was[#was + 1] = "secret_key " .. label
  end
  table.sort(was)
  lu.assertEquals(labels(s.to), was)
  lu.assertErrorMsgContains("has been run", plan.run, plan)
  lu.assertStrContains(tostring(plan), "plan that was run (success): 3 cloned")
end

function TestPlan.test_replaces_by_what_is_left_in_it()
  local s = open("open")
  local plan = assert(keyferry.plan { source = s.from, target = s.to, mode = "replace" })
  lu.assertEquals(plan.to_remove, 7)
  lu.assertStrContains(tostring(plan), ", 7 old ones to be removed")
  local report = assert(plan:narrow { label = { "open 1", "mac" } }:run())
  lu.assertEquals({ report.status, report.cloned, report.removed }, { "success", 2, 7 })
  lu.assertEquals(labels(s.to), { "secret_key mac", "secret_key open 1" })
end

function TestPlan.test_a_replacement_fails_as_long_as_one_that_cannot_be_cloned_is_in_it()
  local s = open("open")
  local plan = assert(keyferry.plan { source = s.from, target = s.to, mode = "replace",
    engine = "wrap" })
  local all = #plan.items
  lu.assertEquals(plan.counts, { clone = 0, exists = 0, skip = 0, fail = all })
  plan:narrow { label = "open *" }
  lu.assertEquals(plan.counts, { clone = 4, exists = 0, skip = all - 4, fail = 0 })
  lu.assertNil(item_of(plan, "open 1").err)
  plan:reset()
  lu.assertEquals(plan.counts.fail, all)
  plan:narrow { label = "open *" }
  lu.assertEquals(assert(plan:run()).cloned, 4)
  lu.assertEquals(#labels(s.to), 4)
end

function TestPlan.test_takes_the_domain_that_was_found_while_planning()
  local s = open("backed")
  local partition = assert(assert(keyferry.hsm("vault")):create_partition { label = "bare",
    password = secret("bare pin"), so_password = secret("bare so pin"),
    domain = assert(keyferry.domain(secret(scene.domain))) })
  local target = assert(partition:login(secret("bare pin"), { writable = true }))
  local asked = 0
  local plan = assert(keyferry.plan { source = s.from, target = target, mode = "add",
    domain = assert(keyferry.domain(secret("not that one"))),
    on_mismatch = function()
      asked = asked + 1
      return assert(keyferry.domain(secret(scene.domain)))
    end })
  lu.assertEquals(asked, 1)
  lu.assertEquals(assert(plan:run()).status, "success")
  lu.assertEquals(asked, 1)
  lu.assertEquals(labels(target), labels(s.from))
end

function TestPlan.test_does_not_run_when_its_ends_are_gone_or_others()
  local s = open("open")
  local function plan()
    return assert(keyferry.plan { source = s.from, target = s.to, mode = "add" })
  end
  local changed = plan()
  assert(assert(s.from:find { label = "open 2" })[1]:destroy())
  local report, err = changed:run()
  lu.assertNil(report)
  lu.assertStrContains(tostring(err), 'secret_key generic_secret "open 2"')
  lu.assertStrContains(tostring(err), "has changed since the plan was made")
  local closed = plan()
  s.to:close()
  report, err = closed:run()
  lu.assertNil(report)
  lu.assertEquals({ err.code, err.what, err.hint }, { "KFR_REFUSED",
    "the session of the plan's target has been closed", "log in again and make a new plan" })
  lu.assertStrContains(tostring(closed), "plan to add: 3 to be cloned")
  lu.assertStrContains(tostring(closed.items[1].object), "handle")
end

function TestPlan.test_refuses_what_it_does_not_know()
  local s = open("backed")
  local function plan()
    return keyferry.plan { source = s.from, target = s.to, mode = "add" }
  end
  lu.assertErrorMsgContains("'colour' is not an attribute", function()
    plan():narrow { colour = "red" } end)
  lu.assertErrorMsgContains("there is no CKO 'private_keys'", function()
    plan():narrow { class = "private_keys" } end)
  lu.assertErrorMsgContains("not by a number", function() plan():narrow(7) end)
  lu.assertErrorMsgContains("plan:run has no option 'mode'", function()
    plan():run { mode = "add" } end)
  lu.assertErrorMsgContains("no option 'modus'", keyferry.plan, { source = s.from, modus = 1 })
end

return { TestPlan = TestPlan }
