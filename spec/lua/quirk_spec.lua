-- SPDX-License-Identifier: MIT
-- What the table of quirks says of a module is so: each is measured here, and goes when a
-- module no longer has it.
local lu = require("luaunit")

local build = require("support.build")
local core = require("keyferry.core")
local nss = require("support.nss")
local once = require("support.once")
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

return { TestQuirk = TestQuirk }
