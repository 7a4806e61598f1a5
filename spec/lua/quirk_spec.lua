-- SPDX-License-Identifier: MIT
-- What the table of quirks says of a module is so: each is measured here, and goes when a
-- module no longer has it.
local lu = require("luaunit")

local build = require("support.build")
local core = require("keyferry.core")
local nss = require("support.nss")
local once = require("support.once")
local process = require("support.process")
local zoo = require("support.zoo")

local db = once(function() return nss.fresh("NSS-Q") end)

local function names(module)
  local list = {}
  for _, quirk in ipairs(module:quirks()) do
    lu.assertTrue(#quirk.reason > 20, quirk.name)
    table.insert(list, quirk.name)
  end
  table.sort(list)
  return list
end

local function aes(label, more)
  local set = { class = "secret_key", key_type = "aes", value = ("k"):rep(16), label = label,
    token = true }
  for name, value in pairs(more) do set[name] = value end
  return assert(db():session():create(set))
end

local TestQuirk = {}

function TestQuirk.test_those_of_nss_are_known_and_softhsm_has_none()
  lu.assertEquals(names(db():open()), { "keys_private", "label_fixed", "needs_public_value",
    "no_token_data", "same_id_overwrites", "serial_shared", "so_pin_empty" })
  local module <close> = assert(core.module(build.softhsm(), { private_copy = true,
    env = zoo.token("none").hsm.env }))
  lu.assertEquals(module:quirks(), {})
end

function TestQuirk.test_a_key_takes_the_place_of_one_with_its_id_also_a_public_one()
  lu.assertEquals(aes("first", { id = "\7" }).handle, aes("second", { id = "\7" }).handle)
  lu.assertNotEquals(aes("first", {}).handle, aes("second", {}).handle)
  local token = zoo.token("pairs")
  local handles = {}
  for i = 1, 2 do
    local public = zoo.pair(zoo.session(token), "pair", "ec_key_pair_gen",
      { ec_params = zoo.curves["p-256"] }, {}):attributes()
    handles[i] = assert(db():session():create { class = "public_key", key_type = "ec", id = "\8",
      token = true, ec_params = public.ec_params, ec_point = public.ec_point }).handle
  end
  lu.assertEquals(handles[1], handles[2])
  zoo.close(token)
end

function TestQuirk.test_a_key_shows_itself_to_nobody_without_a_login()
  local session = db():session()
  lu.assertEquals(aes("public", { private = false }).private, false)
  assert(session:logout())
  lu.assertEquals(assert(session:find { class = "secret_key" }), {})
  assert(session:login(core.secret(db().pin)))
end

function TestQuirk.test_no_data_object_is_kept_on_the_token()
  local object, err = db():session():create { class = "data", token = true, value = "x" }
  lu.assertNil(object)
  lu.assertEquals(err.code, "CKR_ATTRIBUTE_VALUE_INVALID")
  lu.assertNotNil(db():session():create { class = "data", token = false, value = "x" })
end

function TestQuirk.test_the_officer_has_an_empty_pin_and_a_label_and_a_serial_are_fixed()
  local fresh = nss.empty("NSS-R")
  assert(fresh:open():init_token(fresh.slot, core.secret(""), "another label"))
  local session <close> = assert(fresh:open():session(fresh.slot, { writable = true }))
  local token = session:token()
  lu.assertEquals({ token.label, token.serial }, { "NSS-R", ("0"):rep(16) })
  lu.assertNil(session:login(core.secret("officer"), "so"))
  assert(session:login(core.secret(""), "so"))
  assert(session:init_pin(core.secret(fresh.pin)))
  assert(session:logout())
  lu.assertNil(session:login(core.secret(""), "so"))
  fresh:close()
end

-- The library in FIPS mode spoils the heap when it is finalised after a session has made a key:
-- the program has done its work then, and dies of it. In a process of its own.
function TestQuirk.test_the_fips_token_is_left_as_it_is_and_opened_again()
  local fips = nss.empty("NSS-F", { fips = true })
  local done = process.run { "lua5.4", "-e", ("package.cpath = %q"):format(package.cpath), "-e", ([[
    local core = require("keyferry.core")
    local options = { init_args = %q, functions = "FC_GetFunctionList", env = {
      NSS_MAX_MP_PBE_ITERATION_COUNT = "1", NSS_MIN_MP_PBE_ITERATION_COUNT = "1" } }
    local function open() return assert(core.module(%q, options)) end
    local module = open()
    assert(core.module(%q, options) == nil, "opened twice")
    assert(module:init_token(3, core.secret(""), "NSS-F"))
    do
      local session <close> = assert(module:session(3, { writable = true }))
      assert(session:login(core.secret(""), "so"))
      assert(session:init_pin(core.secret("User-1234x")))
    end
    for i = 1, 3 do
      local session = assert(module:session(3, { writable = true }))
      assert(session:user() == nil, "still logged in")
      assert(session:login(core.secret("User-1234x")))
      assert(session:generate{ mechanism = "aes_key_gen", value_len = 32, token = false })
      assert(session:generate{ mechanism = "aes_key_gen", value_len = 32, token = true })
      assert(#session:find{ class = "secret_key", token = true } == i)
      module:close() -- the session, too
      module = open()
    end
    for _, quirk in ipairs(module:quirks()) do print(quirk.name) end
    ]]):format(fips.init_args, fips.module, fips.module) }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertStrContains(done.out, "not_finalized")
end

return { TestQuirk = TestQuirk }
