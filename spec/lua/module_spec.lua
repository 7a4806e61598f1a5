-- SPDX-License-Identifier: MIT
-- Modules from Lua: loading, slots, mechanisms, new tokens; many at once; closing.
local lu = require("luaunit")

local core = require("keyferry.core")
local build = require("support.build")
local liar = require("support.liar")
local process = require("support.process")
local shell = require("support.shell")
local softhsm = require("support.softhsm")
local tmp = require("support.tmp")
local zoo = require("support.zoo")

local function fresh()
  return softhsm.fresh(tmp.memory("module"))
end

local function assert_refused(code, value, err)
  lu.assertNil(value)
  lu.assertEquals(err and err.code, code, tostring(err))
  lu.assertTrue(#err.what > 5, err.what)
  return err
end

-- Misuse raises, with a sentence that says what is wrong.
local function assert_raises(part, call, ...)
  local ok, message = pcall(call, ...)
  lu.assertFalse(ok, part)
  lu.assertStrContains(tostring(message), part)
end

local TestModule = {}

function TestModule.test_says_what_it_is()
  local module <close> = zoo.module(fresh())
  local info = module:info()
  lu.assertEquals(info.path, build.softhsm())
  lu.assertEquals(info.manufacturer, "SoftHSM")
  lu.assertStrMatches(info.cryptoki_version, "%d+%.%d+")
  lu.assertStrContains(tostring(module), build.softhsm())
end

function TestModule.test_what_is_no_module_is_refused()
  assert_refused("KFR_NOT_FOUND", core.module("/nonexistent/module.so"))
  local err = assert_refused("KFR_MODULE", core.module(tmp.file("no library", "module.so")))
  lu.assertStrContains(err.what, "module.so")
  assert_refused("KFR_MODULE", core.module(build.tool("not_pkcs11.so")))
end

function TestModule.test_what_c_initialize_answers_comes_back()
  local _, err = core.module(build.softhsm(), { private_copy = true,
    env = { SOFTHSM2_CONF = "/nonexistent/softhsm2.conf" } })
  lu.assertEquals(err.call, "C_Initialize")
  lu.assertStrContains(tostring(err), "CKR_")
end

function TestModule.test_the_environment_is_as_before()
  local before = os.getenv("SOFTHSM2_CONF")
  local module <close> = zoo.module(fresh())
  lu.assertEquals(os.getenv("SOFTHSM2_CONF"), before)
  lu.assertEquals(#assert(module:slots()), 1)
end

function TestModule.test_misuse_raises()
  local module <close> = zoo.module(fresh())
  assert_raises("string expected", core.module)
  assert_raises("table expected", core.module, build.softhsm(), "yes")
  assert_raises("env", core.module, build.softhsm(), { env = { A = true } })
  assert_raises("keyferry.module", module.slots)
  assert_raises("keyferry.module", module.slots, io.stdout)
  assert_raises("number expected", module.mechanisms, module, "first")
  assert_raises("a secret is wanted, not a string", module.init_token, module, 0, "12345678", "x")
  assert_raises("table expected", module.session, module, 0, true)
end

-- Slots and mechanisms ------------------------------------------------------------------------

local TestSlots = {}

function TestSlots.test_an_empty_hsm_has_one_free_slot()
  local module <close> = zoo.module(fresh())
  local slots = assert(module:slots())
  lu.assertEquals(#slots, 1)
  lu.assertTrue(slots[1].present)
  lu.assertFalse(slots[1].initialized)
end

function TestSlots.test_a_token_is_described()
  local hsm = fresh()
  local token = hsm:init_token("payments")
  local module <close> = zoo.module(hsm)
  local found
  for _, slot in ipairs(assert(module:slots())) do
    if slot.serial == token.serial then found = slot end
  end
  lu.assertEquals(found.label, "payments")
  lu.assertEquals(found.manufacturer, "SoftHSM project")
  lu.assertEquals(found.model, "SoftHSM v2")
  lu.assertEquals({ found.min_pin, found.max_pin }, { 4, 255 })
  for name, value in pairs { present = true, initialized = true, user_pin_initialized = true,
    login_required = true, protected_path = false, write_protected = false,
    user_pin_locked = false, so_pin_locked = false } do
    lu.assertEquals(found[name], value, name)
  end
  lu.assertNil(found.free_private)
end

function TestSlots.test_mechanisms_have_names_sizes_and_uses()
  local module <close> = zoo.module(fresh())
  local slot = assert(module:slots())[1].slot
  local by_nick = {}
  for _, mechanism in ipairs(assert(module:mechanisms(slot))) do
    by_nick[mechanism.nick] = mechanism
  end
  local rsa = by_nick.rsa_pkcs
  lu.assertEquals({ rsa.name, rsa.value }, { "CKM_RSA_PKCS", 1 })
  lu.assertTrue(rsa.sign and rsa.verify and rsa.encrypt and rsa.wrap)
  lu.assertFalse(rsa.derive or rsa.digest or rsa.generate)
  lu.assertTrue(rsa.max >= 2048 and rsa.min <= 2048)
  lu.assertTrue(by_nick.sha256.digest)
  lu.assertTrue(by_nick.aes_key_gen.generate)
  assert_refused("CKR_SLOT_ID_INVALID", module:mechanisms(4242))
end

-- New tokens ------------------------------------------------------------------------------------

local TestInitToken = {}

-- A token made and given its user by Lua alone is one for other programs.
function TestInitToken.test_a_token_and_its_user()
  local hsm = fresh()
  do
    local module <close> = zoo.module(hsm)
    local so, pin = core.secret("so pin 1"), core.secret("user pin")
    local label = "schl\u{fc}ssel " .. ("x"):rep(21)
    lu.assertEquals(#label, 32)
    lu.assertTrue(assert(module:init_token(assert(module:slots())[1].slot, so, label)))
    local made
    for _, token in ipairs(assert(module:slots())) do
      if token.label == label then made = token end
    end
    lu.assertTrue(made.initialized)
    lu.assertFalse(made.user_pin_initialized)
    local session <close> = assert(module:session(made.slot, { writable = true }))
    assert(session:login(so, "so"))
    assert(session:init_pin(pin))
    assert(session:logout())
    assert(session:login(pin))
    assert(session:create { class = "data", label = "made", value = "x", token = true,
      private = true })
  end
  local token = hsm:tokens(nil, { pin = "user pin", so_pin = "so pin 1" })[1]
  lu.assertStrContains(token:tool { "--list-objects", "--type", "data" }, "made")
end

function TestInitToken.test_what_no_token_can_have_is_refused()
  local module <close> = zoo.module(fresh())
  local slot = assert(module:slots())[1].slot
  local so = core.secret("12345678")
  local before = assert(module:slots())
  assert_refused("KFR_ARGUMENT", module:init_token(slot, so, ("x"):rep(33)))
  assert_raises("a NUL byte inside", module.init_token, module, slot, so, "cut\0here")
  assert_raises("a NUL byte inside", core.softhsm.delete_token, "/none", "cut\0here")
  lu.assertNil((module:init_token(slot, core.secret("123"), "short pin")))
  lu.assertNil((module:init_token(slot, core.secret(("1"):rep(256)), "long pin")))
  assert_refused("CKR_SLOT_ID_INVALID", module:init_token(4242, so, "x"))
  lu.assertEquals(assert(module:slots()), before)
end

function TestInitToken.test_by_the_protected_path()
  local pins = tmp.dir("pins")
  shell.write(pins .. "/so.pin", "12345678")
  shell.write(pins .. "/user.pin", "1234")
  local hsm = liar.over(fresh(), "pap " .. pins)
  local module <close> = zoo.module(hsm)
  local slot = assert(module:slots())[1]
  lu.assertTrue(slot.protected_path)
  assert(module:init_token(slot.slot, nil, "ped"))
  local session <close> = assert(module:session(slot.slot, { writable = true }))
  assert(session:login(nil, "so"))
  assert(session:init_pin(nil))
  assert(session:logout())
  assert(session:login(nil))
  assert(os.remove(pins .. "/user.pin"))
  assert(session:logout())
  assert_refused("CKR_FUNCTION_CANCELED", session:login(nil))
end

-- Everything is left open or closed in some order, in a process of its own: it must end well.

local TestMany = {}

function TestMany.test_several_soft_hsms_in_one_process_know_nothing_of_each_other()
  local tokens = {}
  for i = 1, 5 do
    tokens[i] = zoo.token("token " .. i)
    assert(zoo.session(tokens[i]):create { class = "data", label = "of " .. i, token = true,
      private = true, value = tostring(i) })
  end
  for i, token in ipairs(tokens) do
    local found = assert(token.session:find {})
    lu.assertEquals(#found, 1)
    lu.assertEquals(found[1].label, "of " .. i)
    lu.assertEquals(token.session:token().label, "token " .. i)
  end
  zoo.close(tokens[3])
  lu.assertEquals(#assert(tokens[4].session:find()), 1)
  for _, token in ipairs(tokens) do zoo.close(token) end
end

-- In a process of its own: what other tests have open comes and goes with the collector.
local forty_times = [[
  package.path = %q
  local core, zoo = require("keyferry.core"), require("support.zoo")
  local softhsm = require("support.softhsm")
  local hsm = softhsm.fresh()
  hsm:init_token("descriptors")
  local function descriptors() return #assert(core.file.list("/proc/self/fd")) end
  for _ = 1, 3 do zoo.module(hsm):close() end
  local before = descriptors()
  for _ = 1, 40 do zoo.module(hsm):close() end
  print(before, descriptors())]]

function TestMany.test_opened_and_closed_forty_times_leaves_no_descriptor()
  local out = process.must { arg[-1] or "lua5.4", "-", env = {
    LUA_CPATH_5_4 = build.dir .. "/lua/?.so;;", KEYFERRY_BUILD = build.dir },
    input = forty_times:format(package.path) }
  local before, after = out:match("^(%d+)\t(%d+)\n$")
  lu.assertEquals(after, before, out)
end

function TestMany.test_closed_twice_and_used_after()
  local module = zoo.module(fresh())
  module:close()
  module:close()
  lu.assertStrContains(tostring(module), "closed")
  assert_raises("the module is closed", module.slots, module)
  assert_raises("the module is closed", module.info, module)
  assert_raises("the module is closed", module.session, module, 0)
end

-- Everything is left open, in every order, in a process of its own: it must end well.
local ending = [[
  package.path = %q
  local zoo, core = require("support.zoo"), require("keyferry.core")
  local module = zoo.module { module = %q, env = { SOFTHSM2_CONF = %q } }
  local slot = zoo.slot(module, { serial = %q })
  local session = assert(module:session(slot, { writable = true }))
  assert(session:login(core.secret("1234")))
  local object = assert(session:create { class = "data", label = "x", value = "y" })
  local domain = assert(session:find_domain("softhsm"))
  local engine = assert(session:endpoint("softhsm", domain))
  local token = assert(session:create { class = "data", label = "x", value = "y", token = true,
    private = true })
  local sealed = assert(engine:seal(token))
  local wrap = assert(session:endpoint("wrap", domain))
  assert(engine:stage(sealed) and wrap:stage(sealed))
  local all = { module = module, session = session, object = object, domain = domain,
    engine = engine, sealed = sealed, wrap = wrap }
  local function gc() collectgarbage() collectgarbage() end
  %s
  print("ended")]]

local orders = {
  "",
  "module:close()",
  "session:close() module:close() engine:close() wrap:close() domain:close()",
  "domain:close() session:close() wrap:close() engine:close() module:close()",
  "engine:close() engine:close() session:close() session:close() module:close() module:close()",
  "module:close() session:close() assert(not pcall(object.sign, object, 'rsa_pkcs', 'x'))",
  "session:close() assert(not pcall(engine.seal, engine, token)) assert(tostring(object))",
  "module:close() assert(not pcall(wrap.stage, wrap, sealed)) assert(object.label == 'x')",
  "module, session, engine, wrap, all = nil gc() assert(object:session():find())",
  "module, session, object, token, all = nil gc() assert(engine:staged() == 1)",
  "module, session, object, token, domain, engine, wrap, sealed, all = nil gc()",
  "object, token, sealed, domain, all = nil gc() assert(engine:commit())",
  "error(setmetatable({}, { __tostring = function() print('ended') return 'x' end }))",
  "print('ended') os.exit(0, true)",
  "print('ended') os.exit(0, false)",
}

local ends

-- The token has a domain inside, so that nobody has to wait for one.
local function ending_token()
  if not ends then
    ends = zoo.token("ending")
    assert(zoo.session(ends):install_domain(assert(core.domain(core.secret("ending")))))
    zoo.close(ends)
  end
  return ends
end

local function run_ending(program, script)
  local token = ending_token()
  local command = { env = { LUA_CPATH_5_4 = build.dir .. "/lua/?.so;;",
    KEYFERRY_BUILD = build.dir }, timeout = 120,
    input = ending:format(package.path, token.hsm.module, token.hsm.conf, token.serial, script) }
  table.move(program, 1, #program, 1, command)
  return process.run(command)
end

function TestMany.test_ends_well_in_whatever_order_things_are_closed()
  for _, order in ipairs(orders) do
    local done = run_ending({ arg[-1] or "lua5.4", "-" }, order)
    lu.assertNil(done.signal, order .. done.err)
    lu.assertStrContains(done.out, "ended", order .. done.err)
    if not order:find("^error") then lu.assertEquals(done.err, "", order) end
  end
end

-- Under valgrind: nothing is read or freed that is not ours. (Not where the library is one of
-- the sanitizers already.)
function TestMany.test_touches_no_memory_that_was_given_back()
  if os.getenv("LD_PRELOAD") then lu.skip("sanitized") end
  if process.run { "valgrind", "--version" }.status ~= 0 then lu.skip("no valgrind") end
  for _, i in ipairs { 4, 8 } do
    local done = run_ending({ "valgrind", "-q", "--error-exitcode=99", arg[-1] or "lua5.4", "-" },
      orders[i])
    lu.assertEquals(done.status, 0, orders[i] .. done.err)
    lu.assertStrContains(done.out, "ended")
  end
end

return {
  TestModule = TestModule,
  TestSlots = TestSlots,
  TestInitToken = TestInitToken,
  TestMany = TestMany,
}
