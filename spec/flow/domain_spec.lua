-- SPDX-License-Identifier: MIT
-- partition backup: the cloning domain of source and target do not match.
local lu = require("luaunit")

local scene = require("flow.scene")
local terminal = require("support.terminal")

local WRONG = { KEYFERRY_DOMAIN = "sea of pebbles" }

-- One line for each object, none of them cloned, status 4.
local function assert_mismatch(done)
  lu.assertEquals(done.status, 4, done.out .. done.err)
  lu.assertEquals(scene.counts(done.out), { cloned = 0, exists = 0, failed = 7 }, done.out)
  for line in done.out:gmatch("Object [^\n]+") do lu.assertStrContains(line, "domain") end
  lu.assertStrContains(done.out, "'partition backup' failed: ")
  lu.assertStrContains(done.out, "\n\nCommand Result : 4 (")
end

local TestMismatch = {}

function TestMismatch.test_no_partition_is_made()
  local s = scene.new()
  local before = s:snapshot()
  assert_mismatch(s:backup { env = WRONG })
  lu.assertEquals(s:changes(before), {})
  lu.assertEquals(s:hsm("vault"):tokens(), {})
end

function TestMismatch.test_add_changes_nothing()
  local s = scene.new("backed")
  s:source():data("late", "x", { "--private" })
  s:source():tool { "--delete-object", "--type", "data", "--label", "note" }
  local before = s:snapshot()
  assert_mismatch(s:backup { "-add", env = WRONG })
  lu.assertEquals(s:changes(before), {})
end

function TestMismatch.test_replace_leaves_the_old_backup()
  local s = scene.new("backed")
  local before = s:snapshot()
  assert_mismatch(s:backup { "-replace", "-force", env = WRONG })
  lu.assertEquals(s:changes(before), {})
end

function TestMismatch.test_a_plan_tells_the_same()
  local s = scene.new("backed")
  local before = s:snapshot()
  assert_mismatch(s:backup { "-add", "-plan", env = WRONG })
  lu.assertEquals(s:changes(before), {})
end

-- The domain given is that of the source, and the target was made with another one.
function TestMismatch.test_a_target_of_another_domain_takes_nothing()
  local s = scene.new()
  s:lua(([[local secret = keyferry.secret
    assert(keyferry.hsm("vault"):create_partition{ label = "backup",
      password = secret(%q), so_password = secret(%q),
      domain = assert(keyferry.domain(secret("sea of pebbles"))) })]]):format(
    scene.tokenpw, scene.sopw))
  local before = s:snapshot()
  assert_mismatch(s:backup { "-add" })
  assert_mismatch(s:backup { "-replace", "-force" })
  lu.assertEquals(s:changes(before), {})
end

function TestMismatch.test_an_empty_source_of_another_domain_is_told_as_well()
  local s = scene.new()
  s:inside("payments", "for _, object in ipairs(assert(session:find())) do object:destroy() end")
  local before = s:snapshot()
  lu.assertEquals(s:backup { env = WRONG }.status, 4)
  lu.assertEquals(s:changes(before), {})
end

function TestMismatch.test_the_engine_wrap_tells_it_too()
  local s = scene.new("backed")
  local before = s:snapshot()
  local done = s:backup { "-add", "-engine", "wrap", env = WRONG }
  lu.assertEquals(done.status, 4, done.out .. done.err)
  lu.assertEquals(scene.counts(done.out), { cloned = 0, exists = 0, failed = 7 })
  lu.assertEquals(s:changes(before), {})
end

local TestNoDomain = {}

-- Made by another tool: such a partition takes the domain given, for the run.
function TestNoDomain.test_a_source_without_a_domain_takes_the_one_given_and_keeps_none()
  local s = scene.new()
  local hsm = s:hsm("prod")
  local bare = hsm:init_token("bare", { pin = scene.password })
  bare:aes("old key", "01")
  local before = s:snapshot()
  local done = s:backup { partition = "bare" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(s:changes(before, "prod"), {})
  lu.assertEquals(scene.contents(s:target()), bare:contents())
end

-- Nothing can be compared there, so a wrong domain would go unseen: that is said.
function TestNoDomain.test_a_target_without_a_domain_is_warned_of()
  local s = scene.new()
  s:hsm("vault"):init_token("backup", { pin = scene.tokenpw })
  local done = s:backup { "-add" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertStrContains(done.err, 'warning: partition "backup" has no cloning domain of its own')
  lu.assertNotStrContains(scene.new("backed"):backup({ "-add" }).err, "no cloning domain")
end

local TestTypedAgain = {}

local function at_terminal(s, how)
  how.secrets = scene.secrets { "DOMAIN" }
  return terminal.start(s:command(how))
end

local AGAIN = "The cloning domain does not match. Please enter it again:"

function TestTypedAgain.test_the_third_entry_may_be_right()
  local s = scene.new()
  local t <close> = at_terminal(s, {})
  t:wait_for("cloning domain set when")
  t:wait_until("echo", false)
  t:line("wrong one")
  t:wait_for(AGAIN)
  t:wait_until("echo", false)
  t:line("wrong two")
  t:wait_for(AGAIN)
  t:wait_until("echo", false)
  t:line(scene.domain)
  local done = t:finish()
  lu.assertEquals(done.status, 0, done.screen)
  lu.assertTrue(done.restored)
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
end

function TestTypedAgain.test_after_three_entries_it_is_over()
  local s = scene.new("backed")
  local before = s:snapshot()
  local t <close> = at_terminal(s, { "-add" })
  t:wait_for("cloning domain set when")
  for i = 1, 3 do
    t:wait_until("echo", false)
    t:line("wrong " .. i)
    if i < 3 then t:wait_for(AGAIN) end
  end
  local done = t:finish()
  lu.assertEquals(done.status, 4, done.screen)
  lu.assertEquals(scene.counts(done.screen), { cloned = 0, exists = 0, failed = 7 })
  lu.assertEquals(s:changes(before), {})
end

function TestTypedAgain.test_control_c_at_the_second_question()
  local s = scene.new()
  local before = s:snapshot()
  local t <close> = at_terminal(s, {})
  t:wait_for("cloning domain set when")
  t:wait_until("echo", false)
  t:line("wrong one")
  t:wait_for(AGAIN)
  t:wait_until("echo", false)
  t:type("wro")
  t:key("C-c")
  local done = t:finish()
  lu.assertEquals(done.status, 130, done.screen)
  lu.assertTrue(done.restored)
  lu.assertStrContains(done.screen, "Command Result : 130 (")
  lu.assertEquals(s:changes(before), {})
end

-- Nobody can type another one where it was given otherwise.
function TestTypedAgain.test_a_domain_from_the_environment_is_not_asked_again()
  local s = scene.new()
  local t <close> = terminal.start(s:command { env = WRONG })
  local done = t:finish()
  lu.assertEquals(done.status, 4, done.screen)
  lu.assertNotStrContains(done.text, AGAIN)
end

return {
  TestMismatch = TestMismatch,
  TestNoDomain = TestNoDomain,
  TestTypedAgain = TestTypedAgain,
}
