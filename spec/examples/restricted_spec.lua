-- SPDX-License-Identifier: MIT
local lu = require("luaunit")
local example = require("examples.example")
local scene = require("flow.scene")

local Test = {}

local function assert_status(done, status)
  lu.assertEquals(done.status, status, done.out .. done.err)
  return done
end

-- What the clones do, tried, and whether they are the keys they stand for.
local TRY = [[
  local source <close> = assert(assert(keyferry.partition("payments")):login(
    keyferry.secret(%q)))
  for _, class in ipairs{ "private_key", "secret_key" } do
    for _, clone in ipairs(assert(session:find{ class = class })) do
      local original = assert(source:find{ class = class, id = clone.id })[1]
      local function try(key)
        local ok, err = key:sign(key.label == "sign" and "ecdsa" or key.label == "mac"
          and "sha256_hmac" or "sha256_rsa_pkcs", ("x"):rep(32))
        return ok and "signs" or err.code
      end
      if clone.label ~= "kek" then
        print(clone.label, try(original), try(clone))
      else
        print("kek", clone:has("wrap"), clone:has("encrypt"),
          keyferry.challenge(original, clone))
      end
    end
  end]]

local function try(s)
  local list = {}
  for line in s:inside("backup", TRY:format(scene.password)):gmatch("[^\n]+") do
    table.insert(list, (line:gsub("\t", " ")))
  end
  table.sort(list)
  return list
end

function Test.test_the_clone_cannot_and_the_original_still_can()
  local s = example.scene()
  local before = s:snapshot()
  assert_status(example.run(s, "restricted", { "-without", "sign,wrap" }), 0)
  lu.assertEquals(try(s), { "kek false true true",
    "mac signs CKR_KEY_FUNCTION_NOT_PERMITTED", "sign signs CKR_KEY_FUNCTION_NOT_PERMITTED",
    "tls-web signs CKR_KEY_FUNCTION_NOT_PERMITTED" })
  lu.assertEquals(scene.labels(s:target()), scene.labels(s:source()))
  lu.assertEquals(s:changes(before, "prod"), {})
end

function Test.test_a_second_run_clones_nothing_and_is_content()
  local s = example.scene()
  assert_status(example.run(s, "restricted", { "-without", "sign" }), 0)
  local before = s:snapshot()
  local done = assert_status(example.run(s, "restricted", { "-without", "sign" }), 0)
  lu.assertEquals(done.err, "")
  lu.assertEquals(s:changes(before), {})
end

function Test.test_a_clone_that_is_there_and_may_do_more_is_no_success()
  local s = scene.new("backed")
  local before = s:snapshot()
  local done = assert_status(example.run(s, "restricted", { "-without", "sign" }), 1)
  lu.assertStrContains(done.err, 'warning: private_key "tls-web" (handle ')
  lu.assertStrContains(done.err, "is there already and may sign\n")
  lu.assertEquals(s:changes(before), {})
end

function Test.test_a_right_that_there_is_not_is_wrong_use()
  local s = scene.new()
  assert_status(example.run(s, "restricted", { "-without", "sing" }), 2)
  assert_status(example.run(s, "restricted"), 2)
end

return { TestRestricted = Test }
