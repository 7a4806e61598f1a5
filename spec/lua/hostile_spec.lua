-- SPDX-License-Identifier: MIT
-- Policies that work against the run they are part of: the target is as its mode promises.
local lu = require("luaunit")

local scene = require("flow.scene")

local SESSIONS = [[
local secret = keyferry.secret
local s = assert(assert(keyferry.partition("payments")):login(secret(%q), { writable = true }))
local t = assert(assert(keyferry.partition("backup")):login(secret(%q), { writable = true }))
]]

-- Runs Lua with sessions s (11 objects) and t (a backup of 7 of them).
local function run(code)
  local s = scene.new("open")
  local before = s:snapshot()
  local done = s:run { "-e", SESSIONS:format(scene.password, scene.tokenpw) .. code }
  done.changes = s:changes(before)
  return done
end

local TestHook = {}

function TestHook.test_cannot_turn_a_plan_into_a_run()
  local done = run [[
    local options = { source = s, target = t, mode = "replace", plan = true }
    function options.on_progress() options.plan = nil end
    local report = keyferry.backup(options)
    print(report.status, report.planned, report.cloned, report.removed)]]
  lu.assertEquals(done.out, "success\t11\t0\t0\n", done.err)
  lu.assertEquals(done.changes, {})
end

function TestHook.test_cannot_turn_a_run_into_a_plan()
  local done = run [[
    local options = { source = s, target = t, mode = "replace" }
    function options.on_progress() options.plan, options.mode, options.verify = true, "add", 1 end
    local report = keyferry.backup(options)
    print(report.status, report.planned, report.cloned, report.removed, #t:find{ token = true })]]
  lu.assertEquals(done.out, "success\tnil\t11\t7\t11\n", done.err)
end

function TestHook.test_a_clone_gets_no_right_by_any_other_word_than_true()
  local done = run [[
    local few = { class = "secret_key", key_type = "generic_secret", label = "few", token = true,
      value = ("k"):rep(32), private = true, sensitive = true, extractable = false, sign = true }
    for _, name in ipairs{ "encrypt", "decrypt", "wrap", "unwrap", "derive", "verify" } do
      few[name] = false
    end
    few = assert(s:create(few))
    local sealed = assert(s:seal(few))
    local function backup(more)
      return keyferry.backup{ source = s, target = t, mode = "add", select = "few",
        changes = function() return { wrap = true } end, more_rights = more }
    end
    for _, word in ipairs{ "no", 0, {}, "true" } do
      print(select(2, pcall(backup, word)))
      print(select(2, pcall(t.open, t, sealed, { changes = { wrap = true }, more_rights = word })))
    end
    for _, name in ipairs{ "wrap", "CKA_WRAP", 0x106, 262.0 } do
      print(select(2, t:open(sealed, { changes = { [name] = true } })))
      print(select(2, pcall(t.open, t, sealed, { changes = { wrap = false, [name] = true } })))
    end
    print(backup(nil).status, backup(false).status, #t:find{ label = "few" })]]
  local said, refused = done.out:gsub("CKA_WRAP may not be changed so: the clone would", "")
  lu.assertEquals(select(2, said:gsub(": more_rights must be true or false\n", "")), 8, done.out)
  -- "wrap" twice in a table is one field; by two names it is one attribute with two values.
  lu.assertEquals(select(2, said:gsub("CKA_WRAP is given twice", "")), 3, done.out)
  lu.assertEquals(refused, 5, done.out)
  lu.assertStrContains(done.out, "failed\tfailed\t0\n", false, done.err)
end

local TestPlan = {}

function TestPlan.test_runs_as_it_was_made_whatever_becomes_of_the_table()
  local done = run [[
    local options = { source = s, target = t, mode = "add", select = "open *" }
    local plan = keyferry.plan(options)
    options.mode, options.target, options.plan = "replace", s, true
    local report = plan:run()
    print(report.status, report.cloned, report.removed, #t:find{ token = true })]]
  lu.assertEquals(done.out, "success\t4\t0\t11\n", done.err)
end

function TestPlan.test_is_neither_run_nor_narrowed_while_it_runs()
  local done = run [[
    local plan = keyferry.plan{ source = s, target = t, mode = "add" }
    local said = {}
    local report = plan:run{ on_progress = function()
      for _, method in ipairs{ "run", "narrow", "reset" } do
        said[method] = select(2, pcall(plan[method], plan, method == "narrow" and "x" or nil))
      end
    end }
    print(report.status, report.cloned, plan.counts.cloned)
    print(said.run, said.narrow, said.reset)]]
  lu.assertStrContains(done.out, "success\t4\t4\n", false, done.err)
  lu.assertEquals(select(2, done.out:gsub("this plan is being run", "")), 3, done.out)
end

function TestPlan.test_whose_hook_throws_says_what_was_done()
  local done = run [[
    local plan = keyferry.plan{ source = s, target = t, mode = "add", select = "open *" }
    print(select(2, pcall(plan.run, plan, { on_error = 1 })))
    print(pcall(plan.run, plan, { on_result = function() error("no more", 0) end }))
    print(plan)
    print(select(2, pcall(plan.run, plan)))]]
  lu.assertStrContains(done.out, "on_error must be a function", false, done.err)
  lu.assertStrContains(done.out, "false\tno more\nplan that was run (failed): ")
  lu.assertStrContains(done.out, "this plan has been run; make another")
end

return { TestHook = TestHook, TestPlan = TestPlan }
