-- SPDX-License-Identifier: MIT
local lu = require("luaunit")
local example = require("examples.example")
local scene = require("flow.scene")

local Test = {}

function Test.test_the_excluded_label_is_not_there()
  local s = example.scene()
  s:source():aes("tls-test", "0a")
  local done = example.run(s, "labels", { "-labels", "tls-*,k?k", "-without", "*-test" })
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(scene.labels(s:target()), { "kek", "tls-web", "tls-web" })
  lu.assertEquals(done.err, "")
end

function Test.test_a_pattern_that_matches_nothing_is_told_and_the_rest_is_backed_up()
  local s = example.scene()
  local done = example.run(s, "labels", { "-labels", "mac,mcc", "-without", "tst-*" })
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(scene.labels(s:target()), { "mac" })
  lu.assertEquals(done.err, "warning: no label matches 'mcc'\nwarning: no label matches 'tst-*'\n")
end

function Test.test_where_nothing_is_left_that_is_a_failure()
  local s = example.scene()
  local done = example.run(s, "labels", { "-labels", "kek", "-without", "k*" })
  lu.assertEquals(done.status, 6, done.out .. done.err)
  lu.assertStrContains(done.out, "'backup labels' failed: no object is wanted\n")
  lu.assertEquals(scene.labels(s:target()), {})
end

function Test.test_plan_changes_nothing()
  local s = example.scene()
  local before = s:snapshot()
  local done = example.run(s, "labels", { "-labels", "*", "-plan" })
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertStrContains(done.out, "7 would be cloned\n")
  lu.assertEquals(s:changes(before), {})
end

return { TestLabels = Test }
