-- SPDX-License-Identifier: MIT
-- keyferry.testing: policies tried on soft HSMs that are made for the test and gone after it.
local lu = require("luaunit")

local build = require("support.build")
local core = require("keyferry.core")
local keyferry = require("keyferry")
local process = require("support.process")
local testing = require("keyferry.testing")
local tmp = require("support.tmp")

local SMALL = { prod = { payments = { { aes = "kek" }, { data = "note", value = "hi" } } },
  vault = { serial = "496771", backup = {} } }

local function policy(run, more)
  local script = { name = "spec policy", summary = "For the spec.", category = "writes",
    run = run }
  for name, value in pairs(more or {}) do script[name] = value end
  return script
end

local function backup(ctx, options)
  local source = assert(keyferry.partition("payments"))
  local target = assert(keyferry.partition("backup"))
  local all = { mode = "add", source = assert(ctx:login(source)),
    target = assert(ctx:login(target, { writable = true })),
    on_result = function(result) ctx:tell(result, source) end }
  for name, value in pairs(options or {}) do all[name] = value end
  return ctx:conclude(keyferry.backup(all))
end

local PASSWORD = { { name = "password", kind = "secret", help = "Of both." } }

local TestTesting = {}

function TestTesting.test_a_scene_has_the_objects_and_is_gone_afterwards()
  local home
  do
    local scene <close> = testing.scene { prod = { payments = { { rsa = "tls-web" },
      { rsa = "mail", decrypt = true, bits = 1024 }, { ec = "sign", id = "" },
      { ed25519 = "ssh" }, { aes = "kek", wrap = true, extractable = true }, { secret = "mac" },
      { certificate = "web" }, { data = "note", value = "hi" },
      { class = "secret_key", key_type = "generic_secret", value = ("v"):rep(16),
        label = "whole", verify = true },
      { mechanism = "aes_key_gen", value_len = 16, label = "made", encrypt = true } } } }
    home = scene.home
    local mode = process.must { "stat", "-c", "%a", home }
    lu.assertEquals(mode, "700\n")
    lu.assertEquals(scene:labels("payments"), { "kek", "mac", "made", "mail", "mail", "note",
      "sign", "sign", "ssh", "ssh", "tls-web", "tls-web", "web", "whole" })
    local mail = scene:object("payments", { label = "mail", class = "private_key" })
    lu.assertEquals({ mail:has("decrypt"), mail:has("sign"), mail:has("extractable"), mail.id },
      { true, false, false, "\2" })
    lu.assertTrue(scene:object("payments", { label = "mail", class = "public_key" })
      :has("encrypt"))
    local kek = scene:object("payments", "kek")
    lu.assertEquals({ kek:has("wrap"), kek:has("encrypt"), kek:has("extractable") },
      { true, false, true })
    lu.assertErrorMsgContains("2 objects", scene.object, scene, "payments", "sign")
    lu.assertEquals(scene:objects("payments", { class = "private_key", label = "sign" })[1].id, "")
  end
  lu.assertNil(core.file.exists(home))
end

function TestTesting.test_a_scene_may_have_many_objects()
  local list = {}
  for i = 1, 254 do list[i] = { data = "note " .. i } end
  list[255], list[256] = { secret = "mac" }, { secret = "mac" }
  local scene <close> = testing.scene { prod = { payments = list } }
  lu.assertEquals(#scene:objects("payments"), 256)
  local ids = {}
  for i, key in ipairs(scene:objects("payments", { label = "mac" })) do ids[i] = key.id end
  table.sort(ids)
  lu.assertEquals(ids, { "\1\0", "\255" })
end

function TestTesting.test_it_is_gone_after_a_failure_too()
  local home
  lu.assertErrorMsgContains("no such luck", function()
    local scene <close> = testing.scene { prod = {} }
    home = scene.home
    error("no such luck")
  end)
  lu.assertNil(core.file.exists(home))
  lu.assertErrorMsgContains("an object for a test is", testing.scene,
    { prod = { payments = { { dsa = "x" } } } })
  local scene <close> = testing.scene {} -- nothing is in its way
  lu.assertErrorMsgContains("a scene is open", testing.scene, {})
  scene:close()
  lu.assertErrorMsgContains("this scene is closed", scene.run, scene, "x.lua")
end

function TestTesting.test_a_run_gives_status_text_and_events()
  local scene <close> = testing.scene(SMALL)
  local done = scene:run(policy(backup, { options = PASSWORD }), { password = scene.password })
  lu.assertEquals({ done.status, done.err }, { 0, "" }, done.out)
  lu.assertStrContains(done.out, "2 cloned\n'spec policy' successful.\n")
  lu.assertEquals(#done.events, 3)
  lu.assertEquals({ done.result.event, done.result.cloned, done.result.exit }, { "result", 2, 0 })
  lu.assertTrue(scene:same("payments", "backup"))
  lu.assertEquals(scene:labels("backup"), { "kek", "note" })
end

function TestTesting.test_other_keys_of_the_same_name_are_not_the_same()
  local scene <close> = testing.scene { prod = { payments = { { aes = "kek" } } },
    vault = { backup = { { aes = "kek" } } } }
  local same, object = scene:same("payments", "backup")
  lu.assertEquals({ same, object.label }, { false, "kek" })
end

function TestTesting.test_a_run_begins_with_everything_closed()
  local scene <close> = testing.scene(SMALL)
  local session = scene:session("payments")
  local wrong = scene:run(policy(backup, { options = PASSWORD }), { password = "wrong pin" })
  lu.assertEquals({ wrong.status, wrong.result.code }, { 3, "CKR_PIN_INCORRECT" })
  lu.assertFalse(session:is_open())
end

function TestTesting.test_questions_are_answered_by_the_test()
  local scene <close> = testing.scene(SMALL)
  local heard = {}
  local ask = policy(function(ctx)
    heard[#heard + 1] = ctx:ask("How many?")
    heard[#heard + 1] = ctx:ask("How many?")
    assert(ctx:secret("password"))
    assert(keyferry.partition("payments"):login())
    assert(ctx:confirm { "All will be gone." })
    return 0
  end, { options = PASSWORD })
  local done = scene:run(ask, {}, { answers = { ["How many"] = { "7", "8" },
    ["the password"] = scene.password, ["All will be gone"] = "quit" } })
  lu.assertEquals(heard, { "7", "8" }, done.err)
  lu.assertEquals({ done.status, #done.asked }, { 5, 5 })
  lu.assertStrContains(done.asked[4], 'partition "payments" on prod')
  done = scene:run(ask, {}, { answers = { ["How many"] = "9" } })
  lu.assertEquals(done.status, 3)
  lu.assertStrContains(done.err, "the test has no answer to: Please enter the password:")
end

function TestTesting.test_secrets_of_the_real_environment_stay_out()
  local scene <close> = testing.scene(SMALL)
  local script = policy(backup, { options = { { name = "path", kind = "secret", env = "PATH",
    help = "It is set everywhere." } } })
  script.run = function(ctx) return ctx:secret("path") and 0 end
  local done = scene:run(script, {}, { answers = function() return "typed" end })
  lu.assertEquals({ done.status, #done.asked }, { 0, 1 })
  done = scene:run(script, {}, { env = { PATH = "given" } })
  lu.assertEquals({ done.status, #done.asked }, { 0, 0 })
end

function TestTesting.test_nobody_waits_for_a_pause()
  local scene <close> = testing.scene { prod = { payments = { { aes = "kek" } } },
    vault = { backup = { domain = "another" } } }
  local start = core.now()
  local done = scene:run(policy(function(ctx)
    ctx:pause(3600)
    return backup(ctx, { changes = function() return { extractable = true } end,
      domain = assert(keyferry.domain(keyferry.secret(scene.domain))),
      on_mismatch = function(attempt)
        return attempt == 1 and assert(keyferry.domain(keyferry.secret("another"))) or nil
      end,
      on_error = function(_, _, attempt) return attempt < 3 and "retry" or "stop", 60 end })
  end, { options = PASSWORD }), { password = scene.password })
  lu.assertTrue(core.now() - start < 30)
  lu.assertEquals(done.pauses[1], 3600)
  lu.assertNotEquals(done.status, 0)
end

function TestTesting.test_the_end_of_a_policy_is_not_the_end_of_the_test()
  local scene <close> = testing.scene {}
  local path = tmp.file([[return { name = "x y", summary = "x", category = "reads",
    run = function() print("on the way out") os.exit(7) end }]], "policy.lua")
  local done = scene:run(path)
  lu.assertEquals(done.status, 7)
  lu.assertStrContains(done.out, "on the way out")
  done = scene:run(policy(function() error("boom") end))
  lu.assertEquals({ done.status, done.result.code }, { 8, "KFR_SCRIPT" })
  lu.assertStrContains(done.err, "testing_spec.lua:")
  lu.assertEquals(scene:run(tmp.file("return 7", "bad.lua")).status, 8)
  lu.assertEquals(scene:run(policy(function() return 0 end), { nonsense = "1" }).status, 2)
end

function TestTesting.test_a_command_is_run_like_a_policy()
  local scene <close> = testing.scene(SMALL)
  local done = scene:command("partition backup", { partition = "payments", tokenpar = "new one",
    serial = scene.serials.vault, verify = true }, { env = { KEYFERRY_PASSWORD = scene.password,
    KEYFERRY_TOKENPW = scene.password, KEYFERRY_TOKENSOPWD = "so pin 2",
    KEYFERRY_DOMAIN = scene.domain } })
  lu.assertEquals(done.status, 0, done.err)
  lu.assertTrue(scene:same("payments", "new one"))
end

function TestTesting.test_it_works_in_the_program_and_not_in_a_policy()
  local code = [[local testing = require "keyferry.testing"
    local scene <close> = testing.scene { prod = { payments = { { aes = "kek" } } } }
    print(scene:labels("payments")[1])]]
  local env = { SOFTHSM2_CONF = "/nonexistent", XDG_CONFIG_HOME = tmp.dir("config") }
  lu.assertEquals(process.must { build.keyferry, "-e", code, env = env }, "kek\n")
  lu.assertEquals(process.must { build.keyferry, input = code, env = env }, "kek\n")
  local path = tmp.file([[return { name = "x y", summary = "x", category = "reads",
    run = function() require("keyferry.testing") end }]], "policy.lua")
  local done = process.run { build.keyferry, "run", path, env = env }
  lu.assertEquals(done.status, 8)
  lu.assertStrContains(done.err, 'a policy is run by a test: it requires "keyferry"')
end

-- Plain lua5.4, with the library where `make install-lua` puts it; the state is not closed.
function TestTesting.test_it_works_in_plain_lua_as_installed()
  local dir = tmp.dir("installed")
  process.must { "make", "-s", "B=" .. build.dir, "install-lua", "DESTDIR=" .. dir,
    "PREFIX=/p", timeout = 300 }
  local test = tmp.file([[
    local testing = require "keyferry.testing"
    local scene <close> = testing.scene { prod = { payments = { { aes = "kek" } } }, vault = {} }
    local done = scene:command("partition backup", { partition = "payments", tokenpar = "b",
      serial = scene.serials.vault, password = scene.password, tokenpw = scene.password,
      tokensopwd = scene.password, domain = scene.domain })
    assert(done.status == 0, done.err)
    assert(scene:same("payments", "b"))
    print("good")]])
  local done = process.run { "lua5.4", test, cwd = dir, env = {
    LUA_PATH = dir .. "/p/share/lua/5.4/?.lua;" .. dir .. "/p/share/lua/5.4/?/init.lua;;",
    LUA_CPATH = dir .. "/p/lib/lua/5.4/?.so;;" } }
  lu.assertEquals({ done.status, done.out }, { 0, "good\n" }, done.err)
end

return { TestTesting = TestTesting }
