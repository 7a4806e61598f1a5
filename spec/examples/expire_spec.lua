-- SPDX-License-Identifier: MIT
local lu = require("luaunit")
local example = require("examples.example")
local scene = require("flow.scene")

local Test = {}

local DESTROY = "for _, key in ipairs(session:find{ label = %q }) do assert(key:destroy()) end"

-- "kek" is on the backup and no longer in the source.
local function expired()
  local s = scene.new("backed")
  s:inside("payments", DESTROY:format("kek"))
  return s
end

local function told(done)
  local list = {}
  for label in done.out:gmatch('[%w_]+ "([^\n]*)" %(handle %d+%) is not in the source\n') do
    table.insert(list, label)
  end
  return list
end

function Test.test_it_tells_exactly_the_removed_one_and_changes_nothing()
  local s = expired()
  local before = s:snapshot()
  local done = example.run(s, "expire")
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(told(done), { "kek" })
  lu.assertEquals(s:changes(before), {})
end

function Test.test_where_nothing_has_expired_nothing_is_told()
  local s = scene.new("backed")
  local before = s:snapshot()
  local done = example.run(s, "expire", { "-remove", "-force" })
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(told(done), {})
  lu.assertEquals(s:changes(before), {})
end

function Test.test_remove_removes_exactly_that()
  local s = expired()
  local done = example.run(s, "expire", { "-remove", "-force" })
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
  lu.assertEquals(s:backup({ "-add" }).status, 0)
end

-- A key made anew by the name of the old one: the old one has expired, the new one is missing.
function Test.test_a_key_of_the_same_name_does_not_stand_for_the_old_one()
  local s = scene.new("backed")
  s:inside("payments", DESTROY:format("kek"))
  s:source():aes("kek", "01")
  lu.assertEquals(told(example.run(s, "expire")), { "kek" })
  local before = s:snapshot()
  local done = example.run(s, "expire", { "-remove", "-force" })
  lu.assertEquals(done.status, 5, done.out .. done.err)
  lu.assertStrContains(done.err, "-add")
  lu.assertEquals(s:changes(before), {})
end

function Test.test_a_source_that_lost_everything_takes_nothing_from_its_backup()
  local s = scene.new("backed")
  s:inside("payments", "for _, object in ipairs(session:find()) do object:destroy() end")
  local before = s:snapshot()
  local done = example.run(s, "expire", { "-remove", "-force" })
  lu.assertEquals(done.status, 5, done.out .. done.err)
  lu.assertStrContains(done.out, "nothing in common")
  lu.assertEquals(s:changes(before), {})
end

function Test.test_without_force_and_terminal_nothing_is_removed()
  local s = expired()
  local before = s:snapshot()
  lu.assertEquals(example.run(s, "expire", { "-remove" }).status, 5)
  lu.assertEquals(example.run(s, "expire", { "-force" }).status, 2)
  lu.assertEquals(s:changes(before), {})
end

return { TestExpire = Test }
