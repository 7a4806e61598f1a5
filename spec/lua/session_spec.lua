-- SPDX-License-Identifier: MIT
-- Sessions from Lua: reading and writing, logging in and out, finding, making, domains.
local lu = require("luaunit")

local core = require("keyferry.core")
local liar = require("support.liar")
local shell = require("support.shell")
local softhsm = require("support.softhsm")
local tmp = require("support.tmp")
local zoo = require("support.zoo")

local pin, so_pin = core.secret("1234"), core.secret("12345678")

local function assert_refused(code, value, err)
  lu.assertNil(value)
  lu.assertEquals(err and err.code, code, tostring(err))
  return err
end

local function assert_raises(part, call, ...)
  local ok, message = pcall(call, ...)
  lu.assertFalse(ok, part)
  lu.assertStrContains(tostring(message), part)
end

-- A module and slot of a new token (with lies), to open sessions by hand.
local function slot_of_new_token(script)
  local hsm = softhsm.fresh(tmp.memory("session"))
  local token = hsm:init_token("session")
  liar.over(hsm, script)
  local module = zoo.module(hsm)
  return module, zoo.slot(module, token), token, hsm
end

local shared

-- A logged-in session for tests that leave nothing behind.
local function session()
  shared = shared or zoo.token("shared")
  return zoo.session(shared)
end

local TestSession = {}

function TestSession.test_a_read_only_session_reads_and_does_not_write()
  local module <close>, slot = slot_of_new_token()
  local reader <close> = assert(module:session(slot))
  assert(reader:login(pin))
  lu.assertEquals(#assert(reader:find()), 0)
  local err = assert_refused("CKR_SESSION_READ_ONLY",
    reader:create { class = "data", label = "x", value = "y", token = true })
  lu.assertEquals(err.call, "C_CreateObject")
  lu.assertStrContains(tostring(reader), "read-only")
  local writer <close> = assert(module:session(slot, { writable = true }))
  lu.assertStrContains(tostring(writer), "read/write")
  assert(writer:create { class = "data", label = "x", value = "y", token = true })
  lu.assertEquals(#assert(reader:find()), 1)
end

function TestSession.test_a_session_says_who_is_logged_in()
  local module <close>, slot = slot_of_new_token()
  local reader <close> = assert(module:session(slot))
  lu.assertEquals({ reader:user() }, {})
  lu.assertFalse(reader:is_writable())
  assert(reader:login(pin))
  lu.assertEquals(reader:user(), "user")
  assert(reader:logout())
  lu.assertNil(reader:user())
  reader:close()
  assert_raises("the session is closed", reader.user, reader)
  assert_raises("the session is closed", reader.is_writable, reader)
  local writer <close> = assert(module:session(slot, { writable = true }))
  lu.assertTrue(writer:is_writable())
  assert(writer:login(so_pin, "so"))
  lu.assertEquals(writer:user(), "so")
end

function TestSession.test_there_is_no_session_with_an_empty_slot()
  local module <close> = slot_of_new_token()
  local err = assert_refused("CKR_SLOT_ID_INVALID", module:session(4242))
  lu.assertStrContains(err.what, "4242")
end

function TestSession.test_closed_for_all_uses()
  local module <close>, slot = slot_of_new_token()
  local one = assert(module:session(slot, { writable = true }))
  assert(one:login(pin))
  local object = assert(one:create { class = "data", label = "x", value = "y", token = true })
  lu.assertTrue(one:is_open())
  one:close()
  one:close()
  lu.assertFalse(one:is_open())
  lu.assertStrContains(tostring(one), "closed")
  for _, method in ipairs { "token", "login", "logout", "find", "objects", "create", "generate",
    "digest", "random", "find_domain", "probe" } do
    assert_raises("the session is closed", one[method], one, {})
  end
  for _, method in ipairs { "destroy", "copy", "change" } do
    assert_raises("the session is closed", object[method], object, {})
  end
  lu.assertEquals(object.label, "x")
end

function TestSession.test_a_module_that_is_closed_takes_its_sessions_along()
  local module, slot = slot_of_new_token()
  local one = assert(module:session(slot))
  module:close()
  lu.assertFalse(one:is_open())
  assert_raises("the session is closed", one.find, one)
  one:close()
end

-- Logging in ---------------------------------------------------------------------------------

local TestLogin = {}

function TestLogin.test_private_objects_are_there_while_one_is_logged_in()
  local module <close>, slot = slot_of_new_token()
  local one <close> = assert(module:session(slot, { writable = true }))
  assert(one:login(pin))
  assert(one:create { class = "data", label = "public", token = true, private = false })
  assert(one:create { class = "data", label = "private", token = true, private = true })
  lu.assertEquals(#assert(one:find()), 2)
  assert(one:logout())
  lu.assertEquals(assert(one:find())[1].label, "public")
  lu.assertEquals(#assert(one:find()), 1)
  assert(one:login(pin, "user"))
  lu.assertEquals(#assert(one:find()), 2)
end

-- A typo in a loop must not lock a token: what was refused is not sent again.
function TestLogin.test_a_wrong_pin_is_refused_and_not_tried_twice()
  local module <close>, slot, token, hsm = slot_of_new_token("call-log %LOG%")
  local one <close> = assert(module:session(slot))
  local wrong = core.secret("4321")
  local err = assert_refused("CKR_PIN_INCORRECT", one:login(wrong))
  lu.assertEquals({ err.call, err.rv }, { "C_Login", 0xA0 })
  lu.assertStrContains(err.what, token.label)
  lu.assertNotStrContains(tostring(err), "4321")
  lu.assertNil((one:login(core.secret("4321"))))
  local logins = 0
  for _, call in ipairs(hsm:calls()) do
    logins = logins + (call:find("^C_Login ") and 1 or 0)
  end
  lu.assertEquals(logins, 1)
  assert(one:login(pin))
end

function TestLogin.test_a_locked_pin_says_so()
  local module <close>, slot = slot_of_new_token("C_Login * CKR_PIN_LOCKED")
  local one <close> = assert(module:session(slot))
  assert_refused("CKR_PIN_LOCKED", one:login(pin))
end

function TestLogin.test_the_so_logs_in_and_gives_a_user_pin()
  local module <close>, slot, token = slot_of_new_token()
  do
    local one <close> = assert(module:session(slot, { writable = true }))
    assert(one:login(so_pin, "so"))
    lu.assertNil((one:login(pin, "user")))
    assert(one:init_pin(core.secret("another pin")))
    lu.assertNil((one:init_pin(core.secret("123"))))
    assert(one:logout())
    lu.assertNil((one:login(pin)))
    assert(one:login(core.secret("another pin")))
  end
  module:close()
  token.pin = "another pin"
  lu.assertEquals(token:tool { "--list-objects" }, "")
end

function TestLogin.test_by_the_protected_path_no_pin_is_given()
  local pins = tmp.dir("pins")
  shell.write(pins .. "/user.pin", "1234")
  local module <close>, slot = slot_of_new_token("pap " .. pins)
  local one <close> = assert(module:session(slot))
  lu.assertTrue(one:token().protected_path)
  lu.assertTrue(assert(one:login(nil)))
  assert(one:logout())
  shell.write(pins .. "/user.pin", "9999")
  assert_refused("CKR_PIN_INCORRECT", one:login(nil))
  shell.write(pins .. "/user.pin", "1234")
  assert(one:login())
end

function TestLogin.test_a_string_is_no_pin()
  local module <close>, slot = slot_of_new_token()
  local one <close> = assert(module:session(slot, { writable = true }))
  assert_raises("a secret is wanted, not a string", one.login, one, "1234")
  assert_raises("a secret is wanted, not a string", one.login, one, 1234)
  assert_raises("a secret is wanted, not a string", one.init_pin, one, "1234")
  assert_raises("invalid option 'root'", one.login, one, pin, "root")
  local closed = core.secret("1234")
  closed:close()
  assert_raises("closed", one.login, one, closed)
end

-- Finding -------------------------------------------------------------------------------------

local TestFind = {}

local function labels(list)
  local names = {}
  for _, object in ipairs(list) do table.insert(names, object.label) end
  table.sort(names)
  return names
end

function TestFind.test_by_what_the_filter_says()
  local token = zoo.token("find")
  local one = zoo.session(token)
  zoo.secret(one, "a", { id = "\0\1", value = "0123456789" })
  zoo.secret(one, "b", { id = "\0\1", value = "0123456789" })
  assert(one:create { class = "data", label = "a", value = "", token = true })
  for _, case in ipairs {
    { nil, { "a", "a", "b" } },
    { {}, { "a", "a", "b" } },
    { { label = "a" }, { "a", "a" } },
    { { class = "secret_key" }, { "a", "b" } },
    { { class = "CKO_SECRET_KEY", label = "b" }, { "b" } },
    { { CKA_ID = "\0\1" }, { "a", "b" } },
    { { [0x3] = "b" }, { "b" } },
    { { label = "a\0" }, {} },
    { { key_type = "aes" }, {} },
    { { token = false }, {} },
  } do
    lu.assertEquals(labels(assert(one:find(case[1]))), case[2])
    local walked = {}
    for object in one:objects(case[1]) do table.insert(walked, object) end
    lu.assertEquals(labels(walked), case[2])
  end
  zoo.close(token)
end

function TestFind.test_a_loop_that_is_left_early_leaves_the_session_usable()
  local one = session()
  for i = 1, 3 do assert(one:create { class = "data", label = "early " .. i }) end
  for object in one:objects { class = "data" } do
    if object.label then break end
  end
  for object in one:objects { class = "data" } do
    lu.assertTrue(#assert(one:find { label = object.label }) > 0)
    assert(object:destroy())
  end
  lu.assertEquals(#assert(one:find { class = "data" }), 0)
end

function TestFind.test_a_search_that_fails_is_no_empty_list()
  local module <close>, slot, _, hsm = slot_of_new_token()
  local one <close> = assert(module:session(slot, { writable = true }))
  assert(one:login(pin))
  for i = 1, 3 do assert(one:create { class = "data", label = "x" .. i, token = true }) end
  hsm:lie("C_FindObjects fail-after 1 CKR_DEVICE_ERROR")
  assert_refused("CKR_DEVICE_ERROR", one:find())
  assert_raises("CKR_DEVICE_ERROR", function() for _ in one:objects() do end end)
  hsm:lie("")
  lu.assertEquals(#assert(one:find()), 3)
  hsm:lie("C_FindObjects loop")
  lu.assertNil((one:find()))
end

function TestFind.test_the_domain_of_the_partition_is_never_listed()
  local token = zoo.token("domain")
  local one = zoo.session(token)
  local domain = assert(core.domain(core.secret("d")))
  assert(one:install_domain(domain))
  lu.assertEquals(#token:files(), 3)
  lu.assertEquals(assert(one:find()), {})
  lu.assertEquals(assert(one:find { class = "secret_key" }), {})
  zoo.secret(one, "mine", { value = "0123456789" })
  lu.assertEquals(labels(assert(one:find())), { "mine" })
  assert_refused("KFR_EXISTS", one:install_domain(domain))
  for _, engine in ipairs{ "softhsm", "wrap" } do
    lu.assertEquals(assert(one:find_domain(engine)):check(), domain:check())
  end
  zoo.close(token)
end

-- A module that gives another object's handle for the domain keys that it makes, and then makes
-- no more.
function TestFind.test_a_domain_that_is_not_installed_takes_nothing_with_it()
  local module <close>, slot, token, hsm = slot_of_new_token("")
  local one <close> = assert(module:session(slot, { writable = true }))
  assert(one:login(pin))
  local mine = zoo.secret(one, "mine", { value = "0123456789" })
  hsm:lie(("C_CreateObject handle %d\nC_CreateObject 3 CKR_DEVICE_ERROR"):format(mine.handle))
  assert_refused("CKR_DEVICE_ERROR", one:install_domain(assert(core.domain(core.secret("d")))))
  hsm:lie("")
  lu.assertEquals(labels(assert(one:find())), { "mine" })
  lu.assertEquals(#token:files(), 1)
end

function TestFind.test_a_partition_without_a_domain_says_so()
  for _, engine in ipairs{ "softhsm", "wrap" } do
    assert_refused("KFR_NOT_FOUND", session():find_domain(engine))
  end
end

function TestFind.test_misuse_raises()
  local one = session()
  assert_raises("'colour' is not an attribute", one.find, one, { colour = "red" })
  assert_raises("CKA_CLASS takes the name of a constant", one.find, one, { class = "cat" })
  assert_raises("CKA_TOKEN takes true or false", one.find, one, { token = 1 })
  assert_raises("CKA_LABEL takes a string", one.find, one, { label = 5 })
  assert_raises("keyferry.session", one.find)
  assert_raises("an array of mechanisms", one.create, one, { allowed_mechanisms = "aes_ecb" })
  assert_raises("an array of mechanisms", one.create, one, { allowed_mechanisms = { "cat" } })
  assert_raises("a table of attributes", one.create, one, { wrap_template = true })
  assert_raises("there is no engine 'moon'", one.probe, one, "moon")
  assert_raises("table expected", one.find, one, "label")
  assert_raises("table expected", one.objects, one, "label")
end

-- Making ----------------------------------------------------------------------------------------

local TestMake = {}

function TestMake.test_objects_come_back_as_they_were_made()
  local one = session()
  local object = assert(one:create { class = "data", label = "l\0l", application = "a",
    value = ("v"):rep(5000), object_id = "\6\1\42", private = false })
  lu.assertEquals({ object.class, object.label, object.application, object.object_id },
    { "data", "l\0l", "a", "\6\1\42" })
  lu.assertEquals(object.value, ("v"):rep(5000))
  assert(object:destroy())
  assert_refused("KFR_VANISHED", one:object(object.handle))
end

function TestMake.test_what_the_token_refuses_comes_back()
  local one = session()
  local err = assert_refused("CKR_TEMPLATE_INCOMPLETE", one:create { label = "no class" })
  lu.assertEquals(err.call, "C_CreateObject")
  err = assert_refused("CKR_MECHANISM_INVALID",
    one:generate { mechanism = "aes_cbc", value_len = 32 })
  lu.assertEquals(err.call, "C_GenerateKey")
  lu.assertNil((one:generate_pair { mechanism = "rsa_pkcs_key_pair_gen",
    public = { modulus_bits = 3 }, private = {} }))
end

function TestMake.test_keys_and_pairs()
  local one = session()
  local key = assert(one:generate { mechanism = "aes_key_gen", value_len = 16, encrypt = true,
    decrypt = true, label = "k" })
  lu.assertEquals({ key.class, key.key_type, key.value_len, key.label },
    { "secret_key", "aes", 16, "k" })
  local public, private = assert(one:generate_pair { mechanism = "CKM_EC_KEY_PAIR_GEN",
    public = { ec_params = zoo.curves["p-256"], verify = true }, private = { sign = true } })
  lu.assertEquals({ public.class, private.class }, { "public_key", "private_key" })
  lu.assertEquals(public.ec_params, private.ec_params)
  assert_raises("not a mechanism", one.generate, one, { value_len = 3 })
  assert_raises("not a mechanism", one.generate, one, { mechanism = "cat" })
  assert_raises("are tables of attributes", one.generate_pair, one, { mechanism = "rsa_pkcs" })
end

function TestMake.test_digests_and_random_bytes()
  local one = session()
  lu.assertEquals(shell.hex(assert(one:digest("sha256", "abc"))),
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
  assert_refused("CKR_MECHANISM_INVALID", one:digest("aes_ecb", "abc"))
  local a, b = assert(one:random(32)), assert(one:random(32))
  lu.assertEquals({ #a, #b }, { 32, 32 })
  lu.assertNotEquals(a, b)
  assert_raises("1 to 1048576", one.random, one, 0)
  assert_raises("1 to 1048576", one.random, one, 1 << 40)
end

-- What goes through locked memory leaves it at once, and not when Lua comes round to it.
function TestMake.test_a_long_loop_does_not_use_up_the_locked_memory()
  local one = session()
  local key = assert(one:generate { mechanism = "aes_key_gen", value_len = 16, encrypt = true,
    decrypt = true })
  collectgarbage("stop")
  local good, problem = pcall(function()
    local data = ("d"):rep(4096)
    for _ = 1, 1500 do
      assert(key:encrypt("aes_ecb", data))
      assert(one:digest("sha256", data))
      assert(one:random(4096))
    end
    assert(key:decrypt("aes_ecb", assert(key:encrypt("aes_ecb", data))) == data)
  end)
  collectgarbage("restart")
  lu.assertTrue(good, problem)
end

return {
  TestSession = TestSession,
  TestLogin = TestLogin,
  TestFind = TestFind,
  TestMake = TestMake,
}
