-- SPDX-License-Identifier: MIT
local lu = require("luaunit")
local example = require("examples.example")
local scene = require("flow.scene")

local Test = {}

-- "payments", and "web mail" with one key and a password of its own.
local function two_sources()
  local s = scene.new()
  local env = { KEYFERRY_PASSWORD = "mail pin 1", KEYFERRY_TOKENSOPWD = "mail so 1",
    KEYFERRY_DOMAIN = scene.domain }
  local done = s:run { "partition", "create", "-partition", "web mail", "-serial", "100001",
    env = env }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  s:lua([[local partition = assert(keyferry.partition("web mail"))
    local session <close> = assert(partition:login(keyferry.secret("mail pin 1"),
      { writable = true }))
    assert(session:generate{ mechanism = "aes_key_gen", value_len = 32, label = "mail key",
      id = "\7", token = true, private = true, sensitive = true, encrypt = true })]])
  return s
end

local function gather(s, env, ...)
  local all = scene.secrets { "PASSWORD" }
  all.KEYFERRY_PASSWORD_PAYMENTS, all.KEYFERRY_PASSWORD_WEB_MAIL = scene.password, "mail pin 1"
  for name, value in pairs(env or {}) do all[name] = value or nil end
  return example.run(s, "gather", { "-partitions", "payments,web mail", partition = false,
    tokenpar = false, env = all, ... })
end

local function source(s, label)
  return s:hsm("prod"):tokens(label, { pin = label == "payments" and scene.password
    or "mail pin 1" })[1]
end

local function assert_whole(s, label)
  lu.assertEquals(scene.contents(s:target(label .. "-backup")), scene.contents(source(s, label)))
end

function Test.test_each_partition_has_a_backup_of_its_own()
  local s = two_sources()
  local done = gather(s)
  lu.assertEquals(done.status, 0, done.out .. done.err)
  assert_whole(s, "payments")
  assert_whole(s, "web mail")
  -- Once more, with a key that is new.
  s:source():aes("late", "0a")
  done = gather(s, nil, "-verify")
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertStrContains(done.out, "1 cloned, 7 already there\n")
  assert_whole(s, "payments")
end

function Test.test_one_that_fails_keeps_no_other_from_its_backup_and_is_named()
  local s = two_sources()
  local done = gather(s, { KEYFERRY_PASSWORD_PAYMENTS = "wrong pin" })
  lu.assertEquals(done.status, 1, done.out .. done.err)
  assert_whole(s, "web mail")
  lu.assertStrContains(done.out, "'backup gather' failed: no good backup of payments\n")
  lu.assertEquals(#s:hsm("vault"):tokens("payments-backup"), 0)
end

-- KEYFERRY_PASSWORD would be one partition's.
function Test.test_no_partition_is_tried_with_another_ones_password()
  local s = two_sources()
  local before = s:snapshot()
  local done = gather(s, { KEYFERRY_PASSWORD_PAYMENTS = false,
    KEYFERRY_PASSWORD_WEB_MAIL = false, KEYFERRY_PASSWORD = scene.password })
  lu.assertEquals(done.status, 3, done.out .. done.err)
  lu.assertStrContains(done.err, "KEYFERRY_PASSWORD_WEB_MAIL")
  local now = s:snapshot()
  lu.assertTrue(next(before.prod) ~= nil)
  for name, file in pairs(before.prod) do -- nobody has logged in, either
    lu.assertTrue(now.prod[name].bytes == file.bytes, name)
  end
end

function Test.test_labels_that_would_share_a_password_are_refused()
  local s = scene.new()
  local done = example.run(s, "gather", { "-partitions", "web-mail,web mail", partition = false,
    tokenpar = false })
  lu.assertEquals(done.status, 2, done.out .. done.err)
  lu.assertStrContains(done.err, '"web-mail" and "web mail" would have one password')
end

return { TestGather = Test }
