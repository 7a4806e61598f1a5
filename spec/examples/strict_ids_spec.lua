-- SPDX-License-Identifier: MIT
local lu = require("luaunit")
local example = require("examples.example")
local scene = require("flow.scene")

local Test = {}

local function with_nameless()
  local s = example.scene()
  s:inside("payments", [[assert(session:generate{ mechanism = "aes_key_gen", value_len = 32,
    label = "nobody's", encrypt = true, token = true, private = true, sensitive = true })]])
  return s
end

function Test.test_a_key_without_an_id_refuses_the_backup()
  local s = with_nameless()
  local before = s:snapshot()
  local done = example.run(s, "strict-ids")
  lu.assertEquals(done.status, 5, done.out .. done.err)
  lu.assertStrContains(done.err, 'warning: secret_key "nobody\'s" (handle ')
  lu.assertStrContains(done.out, "failed: keys without an id: 1\n")
  lu.assertEquals(s:changes(before), {})
end

function Test.test_skip_backs_up_the_others_and_is_partial()
  local s = with_nameless()
  local done = example.run(s, "strict-ids", { "-skip" })
  lu.assertEquals(done.status, 1, done.out .. done.err)
  lu.assertStrContains(done.out, "7 cloned, 1 skipped\n")
  lu.assertEquals(scene.labels(s:target()),
    { "kek", "mac", "note", "sign", "sign", "tls-web", "tls-web" })
end

-- The note, which is data, has none and needs none.
function Test.test_where_every_key_has_an_id_it_is_a_success()
  local s = example.scene()
  local done = example.run(s, "strict-ids")
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
end

return { TestStrictIds = Test }
