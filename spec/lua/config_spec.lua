-- SPDX-License-Identifier: MIT
-- The entries of `hsms`: which slots belong to them, what they share, and which partition is
-- which when names and serial numbers do not say.
local lu = require("luaunit")

local build = require("support.build")
local core = require("keyferry.core")
local keyferry = require("keyferry")
local liar = require("support.liar")
local nss = require("support.nss")
local once = require("support.once")
local process = require("support.process")
local shell = require("support.shell")
local softhsm = require("support.softhsm")
local tmp = require("support.tmp")

local function write_config(...)
  local dir = tmp.dir("config")
  shell.write(dir .. "/config.lua",
    ("return { system = false, hsms = { %s } }"):format(table.concat({ ... }, ", ")))
  process.must { "chmod", "600", dir .. "/config.lua" }
  return dir .. "/config.lua"
end

local function configure(...)
  keyferry.configure { home = tmp.dir("home"), config = write_config(...) }
end

local function refused(text)
  configure(text)
  local hsms, err = keyferry.hsms()
  lu.assertNil(hsms)
  lu.assertEquals(err.code, "KFR_ARGUMENT")
  return err.what
end

-- Three databases: two of one name, each in a module of its own.
local databases = once(function()
  local list = { nss.fresh("same"), nss.fresh("same"), nss.fresh("other") }
  for _, db in ipairs(list) do db:close() end
  return list
end)

local COPY = "slots = { 2 }, private_copy = true"

local function partition(hsm)
  return assert(assert(keyferry.hsm(hsm)):partitions())[1]
end

local TestSlots = {}

function TestSlots.test_a_filter_that_means_nothing_is_refused()
  local module = "{ name = 'x', module = '/x.so', slots = %s }"
  for filter, part in pairs {
    ["{}"] = "names none", ["{ {} }"] = "is empty", ["{ -1 }"] = "slot numbers",
    ["{ 'a' }"] = "slot numbers", ["{ { lable = 'a' } }"] = "no field 'lable'",
    ["{ { label = 1 } }"] = "must be a string", ["{ x = 1 }"] = "is a list",
  } do
    lu.assertStrContains(refused(module:format(filter)), part)
  end
end

function TestSlots.test_only_those_that_match_in_all_are_there()
  local db = databases()[1]
  configure(db:entry("all", "private_copy = true"),
    db:entry("by number", "private_copy = true, slots = { 2, 77 }"),
    db:entry("by label", "private_copy = true, slots = { { label = 's?m*' } }"),
    db:entry("none", "private_copy = true, slots = { { label = 'same', serial = '1*' } }"))
  local counts = {}
  for _, hsm in ipairs(assert(keyferry.hsms())) do
    counts[hsm.name] = #assert(hsm:partitions())
  end
  lu.assertEquals(counts, { all = 2, ["by number"] = 1, ["by label"] = 1, none = 0 })
end

local TestSame = {}

function TestSame.test_two_databases_are_two_and_one_seen_twice_is_one()
  local a, b = table.unpack(databases())
  configure(a:entry("a", COPY), b:entry("b", COPY), a:entry("a again", COPY))
  lu.assertFalse(partition("a"):is_same(partition("b")))
  lu.assertTrue(partition("a"):is_same(partition("a again")))
  lu.assertFalse(partition("b"):is_same(partition("a again")))
end

-- NSS takes the names of its parameters in any case, and values in any quotes.
function TestSame.test_a_database_is_the_same_however_its_folder_is_written()
  local a, b = table.unpack(databases())
  for _, how in ipairs { 'configDir="sql:%s/"', "CONFIGDIR={sql:%s}", "configdir=(%s)",
    "configdir=%s" } do
    local again = nss.empty("another name", a)
    again.init_args = again.init_args:gsub("configdir='[^']*'", (how:format(a.dir)))
    configure(a:entry("a", COPY), b:entry("b", COPY), again:entry("a again", COPY))
    lu.assertEquals(partition("a again").label, "another name")
    lu.assertTrue(partition("a"):is_same(partition("a again")), how)
    lu.assertFalse(partition("b"):is_same(partition("a again")), how)
  end
end

-- The same database as one of the `tokens` of another module.
function TestSame.test_a_database_is_the_same_in_another_slot_of_another_module()
  local a, b, other = table.unpack(databases())
  local function with(inner)
    local made = nss.empty("other", other)
    made.init_args = made.init_args
      .. (" tokens=<0x0a=[configdir='sql:%s' tokenDescription='same']>"):format(inner.dir)
    return made:entry("both", "slots = { 10 }, private_copy = true")
  end
  configure(a:entry("a", COPY), b:entry("b", COPY), with(a))
  lu.assertEquals(partition("both").slot, 10)
  lu.assertTrue(partition("a"):is_same(partition("both")))
  lu.assertFalse(partition("b"):is_same(partition("both")))
end

function TestSame.test_candidates_of_one_name_have_uris_that_select_each()
  local a, b = table.unpack(databases())
  configure(a:entry("a", COPY), b:entry("b", COPY), a:entry("a again", COPY))
  local none, err = keyferry.partition("same")
  lu.assertNil(none)
  lu.assertEquals(err.code, "KFR_AMBIGUOUS")
  local selected = {}
  for uri, name in err.what:gmatch("(pkcs11:%S+) on HSM \"([^\"]+)\"") do
    selected[name] = assert(keyferry.partition(uri)).hsm.name
  end
  lu.assertEquals(selected, { a = "a", b = "b", ["a again"] = "a again" })
end

function TestSame.test_one_seen_twice_is_not_ambiguous()
  local a = databases()[1]
  configure(a:entry("a", COPY), a:entry("a again", COPY))
  lu.assertEquals(assert(keyferry.partition("same")).label, "same")
end

-- Repeated in one module: SoftHSM with all serial numbers and labels alike.
function TestSame.test_tokens_of_one_module_that_say_the_same_are_told_apart_by_slot()
  local hsm = liar.fresh("")
  hsm:init_token("one")
  hsm:init_token("two")
  hsm:lie("C_GetTokenInfo label twin\nC_GetTokenInfo serial 1")
  configure(("{ name = 'it', module = %q, env = { SOFTHSM2_CONF = %q, LIAR_SCRIPT = %q, "
    .. "LIAR_MODULE = %q } }"):format(hsm.module, hsm.conf, hsm.script, hsm.env.LIAR_MODULE))
  local none, err = keyferry.partition("twin")
  lu.assertNil(none)
  lu.assertEquals(err.code, "KFR_AMBIGUOUS")
  local slots = {}
  for uri in err.what:gmatch("pkcs11:%S+") do
    lu.assertStrContains(uri, "slot-id=")
    slots[assert(keyferry.partition(uri)).slot] = true
  end
  local count = 0
  for _ in pairs(slots) do count = count + 1 end
  lu.assertEquals(count, 2)
end

local TestShared = {}

function TestShared.test_two_entries_of_one_library_share_what_is_loaded()
  local db = databases()[1]
  configure(db:entry("two", "slots = { 2 }"), db:entry("one", "slots = { 1 }"))
  local one, two = assert(keyferry.hsm("one")), assert(keyferry.hsm("two"))
  local module = assert(one:module())
  lu.assertIs(module, assert(two:module()))
  one:close()
  lu.assertTrue(#assert(module:slots()) > 0)
  lu.assertEquals(partition("two").label, "same")
  two:close()
  lu.assertErrorMsgContains("closed", module.slots, module)
  lu.assertEquals(partition("one").slot, 1)
  keyferry.configure {}
end

function TestShared.test_one_library_with_two_settings_says_what_to_write()
  local a, b = table.unpack(databases())
  configure(a:entry("a"), b:entry("b"))
  assert(assert(keyferry.hsm("a")):module())
  local none, err = assert(keyferry.hsm("b")):module()
  lu.assertNil(none)
  lu.assertEquals(err.code, "CKR_CRYPTOKI_ALREADY_INITIALIZED")
  lu.assertStrContains(err.hint, "private_copy = true")
  keyferry.configure {}
end

local TestMaking = {}

local secret = core.secret

function TestMaking.test_a_label_that_is_fixed_is_refused_beforehand()
  local db = nss.empty("fixed")
  configure(db:entry("it"))
  local hsm = assert(keyferry.hsm("it"))
  local none, err = hsm:create_partition { label = "else", password = secret(db.pin) }
  lu.assertNil(none)
  lu.assertEquals(err.code, "KFR_REFUSED")
  lu.assertStrContains(err.what, '"fixed", not "else"')
  lu.assertStrContains(err.hint, "dbTokenDescription")
  local made = assert(hsm:create_partition { label = "fixed", password = secret(db.pin) })
  local session <close> = assert(made:login(secret(db.pin)))
  lu.assertEquals(session:user(), "user")
  keyferry.configure {}
end

local TestFunctions = {}

-- In processes of their own: that mode is open once in a process, and stays so.
function TestFunctions.test_are_those_of_the_symbol_that_is_named()
  local db = nss.empty("fips", { fips = true })
  local function run(functions, ...)
    db.functions = functions
    return process.run { "env", "KEYFERRY_PASSWORD=" .. db.pin, "KEYFERRY_DOMAIN=d",
      build.dir .. "/keyferry", "--home", tmp.dir("home"), "--config",
      write_config(db:entry("it", "serial = '1', slots = { { label = 'fips' } }")), ... }
  end
  local function show(functions)
    return run(functions, "hsm", "show", "-name", "it")
  end
  local made = run("FC_GetFunctionList", "partition", "create", "-partition", "fips",
    "-serial", "1")
  lu.assertEquals(made.status, 0, made.err)
  lu.assertStrContains(show("FC_GetFunctionList").out, "token=fips")
  local done = show("FC_GetNothing")
  lu.assertEquals(done.status, 7)
  lu.assertStrContains(done.err, "FC_GetNothing")
end

-- PKCS#11 3.0: no C_GetFunctionList at all.
function TestFunctions.test_are_found_by_c_get_interface()
  local hsm = softhsm.fresh()
  hsm:init_token("three")
  local module = assert(core.module(build.tool("interface.so"), { private_copy = true,
    env = { SOFTHSM2_CONF = hsm.conf, INTERFACE_MODULE = build.softhsm() } }))
  lu.assertTrue(module:has("C_WrapKey"))
  lu.assertFalse(module:has("C_Nothing"))
  lu.assertEquals(assert(module:slots())[1].label, "three")
  module:close()
end

-- All lists of 2.x have one layout; what is before 2 or after 3 is not guessed at.
function TestFunctions.test_are_taken_from_lists_of_2_and_3()
  for version, good in pairs { ["2 10"] = true, ["2 40"] = true, ["3 1"] = true, ["1 0"] = false,
    ["4 0"] = false } do
    local major, minor = version:match("(%d+) (%d+)")
    local hsm = liar.fresh(("list-version %d")
      :format(major * 256 + minor))
    local module, err = core.module(hsm.module, { private_copy = true, env = hsm.env })
    lu.assertEquals(module ~= nil, good, version)
    if module then module:close() else lu.assertEquals(err.code, "KFR_MODULE") end
  end
end

local TestPin = {}

-- A PIN of 4 to 8 bytes: known before anybody logs in, or is asked for more.
function TestPin.test_one_outside_the_limits_is_refused_before_anything_is_opened()
  local hsm = liar.fresh("C_GetTokenInfo pin 4 8\ncall-log %LOG%")
  hsm:init_token("p", { pin = "12345678" })
  local function backup(password)
    return process.run { build.dir .. "/keyferry", "--home", tmp.dir("home"), "--config",
      write_config(("{ name = 'it', serial = '7', module = %q, env = { SOFTHSM2_CONF = %q, "
        .. "LIAR_SCRIPT = %q, LIAR_MODULE = %q } }"):format(hsm.module, hsm.conf, hsm.script,
        hsm.env.LIAR_MODULE)), "partition", "backup", "-partition", "p", "-tokenpar", "copy",
      "-serial", "7", "-plan", env = { KEYFERRY_PASSWORD = password, KEYFERRY_DOMAIN = "domain",
        KEYFERRY_TOKENSOPWD = "12345678", KEYFERRY_TOKENPW = "12345678" } }
  end
  for _, password in ipairs { "123", "123456789" } do
    local done = backup(password)
    lu.assertEquals(done.status, 2, done.err)
    lu.assertStrContains(done.err, "4 to 8 bytes")
  end
  for _, call in ipairs(hsm:calls()) do lu.assertNil(call:find("^C_Login"), call) end
  lu.assertEquals(backup("12345678").status, 0)
end

return { TestPin = TestPin, TestSlots = TestSlots, TestSame = TestSame, TestShared = TestShared,
  TestMaking = TestMaking, TestFunctions = TestFunctions }
