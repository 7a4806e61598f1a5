-- SPDX-License-Identifier: MIT
-- hsm check: what is said of an HSM is what a backup would find, and nothing is left behind.
local lu = require("luaunit")

local core = require("keyferry.core")
local liar = require("support.liar")
local nss = require("support.nss")
local once = require("support.once")
local process = require("support.process")
local build = require("support.build")
local cjson = require("cjson")
local shell = require("support.shell")
local store = require("support.store")
local tmp = require("support.tmp")
local zoo = require("support.zoo")

local function configured(entry)
  local dir = tmp.dir("check")
  shell.write(dir .. "/config.lua",
    ("return { system = false, hsms = { %s } }"):format(entry))
  process.must { "chmod", "600", dir .. "/config.lua" }
  return dir
end

-- Runs hsm check on an HSM named "it"; { status =, of = { what = { verdict, why } }, last = }.
local function check(entry, password, more)
  local dir = configured(entry)
  local done = process.run { build.dir .. "/keyferry", "--home", dir .. "/home", "--config",
    dir .. "/config.lua", "--json", "hsm", "check", "-name", "it", table.unpack(more or {}),
    env = { KEYFERRY_PASSWORD = password or false, KEYFERRY_BUILD = build.dir } }
  local found = { status = done.status, of = {}, text = done.out .. done.err }
  for line in done.out:gmatch("[^\n]+") do
    local event = cjson.decode(line)
    if event.event == "finding" then
      found.of[event.what], found.last = event, event
    end
  end
  return found
end

local function assert_finds(found, what, verdict, part)
  local one = found.of[what]
  lu.assertNotNil(one, what .. "\n" .. found.text)
  lu.assertEquals(one.verdict, verdict, what .. ": " .. one.why)
  if part then lu.assertStrContains(one.why, part) end
end

local function entry(hsm)
  local env = {}
  for name, value in pairs(hsm.env) do table.insert(env, ("%s = %q"):format(name, value)) end
  return ("{ name = 'it', module = %q, env = { %s } }"):format(hsm.module, table.concat(env, ", "))
end

local LOGIN = { "-login" }

local TestSoftHsm = {}

function TestSoftHsm.test_everything_can_leave_and_nothing_is_left()
  local token = zoo.token("checked")
  zoo.close(token)
  local before = store.snapshot(token.hsm.tokendir)
  local found = check(entry(token.hsm), token.pin, LOGIN)
  lu.assertEquals(found.status, 0, found.text)
  assert_finds(found, "AES keys", "yes", "exactly")
  assert_finds(found, "Ed25519 keys", "yes", "softhsm")
  assert_finds(found, "non-extractable keys", "yes", "softhsm")
  assert_finds(found, "C_UnwrapKey", "yes", "RFC 5649")
  assert_finds(found, "engine luna", "no", "CA_CloneObject")
  lu.assertStrContains(found.last.why, "Everything that was tried can leave this HSM")
  lu.assertEquals(store.compare(before, store.snapshot(token.hsm.tokendir),
    { ignore_logins = true }), {})
end

function TestSoftHsm.test_without_a_login_nothing_is_claimed_of_keys()
  local token = zoo.token("looked at")
  zoo.close(token)
  local found = check(entry(token.hsm))
  lu.assertEquals(found.status, 1)
  lu.assertNil(found.of["AES keys"])
  assert_finds(found, "PIN limits", "yes", "4 to 255 bytes")
  assert_finds(found, "memory figures", "unknown")
  lu.assertEquals(found.last.verdict, "unknown")
  lu.assertStrContains(found.last.why, "-login")
  lu.assertNotStrContains(found.text, "error: Partial")
end

-- A PIN that is wrong counts once; the next right one goes through.
function TestSoftHsm.test_a_wrong_pin_is_tried_once()
  local hsm = liar.fresh("call-log %LOG%")
  hsm:init_token("p")
  local found = check(entry(hsm), "not the pin", LOGIN)
  lu.assertEquals(found.status, 3, found.text)
  local tries = 0
  for _, call in ipairs(hsm:calls()) do
    tries = tries + (call:find("^C_Login ") and call:find("CKR_PIN_INCORRECT") and 1 or 0)
  end
  lu.assertEquals(tries, 1)
end

local TestLiar = {}

function TestLiar.test_functions_that_are_missing_are_named()
  local hsm = liar.fresh("null C_WrapKey\nnull C_InitToken")
  local found = check(entry(hsm))
  assert_finds(found, "functions for cloning keys", "partly", "missing: C_WrapKey")
  assert_finds(found, "functions for making partitions", "partly", "missing: C_InitToken")
  assert_finds(found, "functions for reading", "yes")
end

local TestNss = {}

local database = once(function()
  local db = nss.fresh("it")
  db:close()
  return db
end)

function TestNss.test_says_what_nss_does_not_keep_and_what_cannot_leave()
  local db = database()
  local found = check(db:entry("it", "slots = { 2 }"), db.pin, LOGIN)
  lu.assertEquals(found.status, 1, found.text)
  assert_finds(found, "serial numbers", "no", "slots")
  assert_finds(found, "removing partitions", "no")
  assert_finds(found, "engine softhsm", "no")
  assert_finds(found, "C_WrapKey", "yes", "CKM_AES_KEY_WRAP_KWP as RFC 5649")
  assert_finds(found, "RSA keys", "partly", "CKA_ALWAYS_SENSITIVE")
  assert_finds(found, "data objects", "partly", "CKO_DATA")
  assert_finds(found, "non-extractable keys", "no", "CKA_EXTRACTABLE is false")
  assert_finds(found, "keys of one CKA_ID", "partly", "conflict")
  for what, one in pairs(found.of) do lu.assertNotStrContains(one.why, "KFR_", what) end
  lu.assertStrContains(found.last.why,
    "Keys made with CKA_EXTRACTABLE false cannot leave this HSM by keyferry")
  local again <close> = assert(db:again():open():session(2))
  assert(again:login(core.secret(db.pin)))
  lu.assertEquals(#assert(again:find()), 0)
end

return { TestSoftHsm = TestSoftHsm, TestLiar = TestLiar, TestNss = TestNss }
