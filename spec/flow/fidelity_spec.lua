-- SPDX-License-Identifier: MIT
-- A clone is its original: every attribute, as PKCS#11 gives it and as the store has it, and
-- at work. What cannot be kept is said, and nothing else is missing.
local lu = require("luaunit")

local core = require("keyferry.core")
local keyferry = require("keyferry")
local object_file = require("support.object_file")
local shell = require("support.shell")
local store = require("support.store")
local zoo = require("support.zoo")

local CKA = {
  CLASS = 0x0, PRIVATE = 0x2, LABEL = 0x3, VALUE = 0x11, CHECK_VALUE = 0x90,
}

-- Made once ------------------------------------------------------------------------------

local made = {}

local function once(name, make)
  return function()
    if made[name] == nil then made[name] = make() end
    return made[name]
  end
end

local domain = once("domain", function() return assert(core.domain(core.secret("zoo"))) end)

-- One of each; nobody writes to it any more.
local source = once("source", function()
  local token = zoo.token("source")
  do
    local module <close> = zoo.module(token.hsm)
    local session <close> = zoo.session(token, { module = module })
    zoo.stock(session)
  end
  return token
end)

-- The same with attributes that SoftHSM does not know.
local strange = once("strange", function()
  local token = zoo.copy(source())
  zoo.estrange(token)
  return token
end)

-- Backs up `from` to a new token (or `to`); gives that token, the report, the results and both
-- sessions, open.
local function ferry(from, options)
  local token = options.to or zoo.token("target")
  local run = { token = token, results = {}, source = zoo.session(from, { writable = false }),
    target = zoo.session(token) }
  run.report = keyferry.backup {
    source = run.source, target = run.target, domain = domain(), mode = "add",
    engine = options.engine, source_engine = options.source_engine,
    target_engine = options.target_engine, verify = options.verify, select = options.select,
    on_result = function(result) table.insert(run.results, result) end,
  }
  return run
end

local function failures(run)
  local list = {}
  for _, result in ipairs(run.results) do
    if result.status ~= "cloned" then
      table.insert(list, ("%s: %s"):format(result.object, result.err))
    end
  end
  return list
end

local function clone_of(run, result)
  return assert(run.target:object(result.target_handle))
end

-- Exact ------------------------------------------------------------------------------------

local exact = once("exact", function() return ferry(source(), { engine = "softhsm" }) end)

local TestSofthsm = {}

function TestSofthsm.test_everything_arrives_and_nothing_is_said_to_be_lost()
  local run = exact()
  lu.assertEquals(failures(run), {})
  lu.assertEquals(run.report.status, "success")
  lu.assertEquals(run.report.cloned, #source():files())
  lu.assertTrue(run.report.cloned >= 100)
  lu.assertEquals(run.report.lossy, 0)
end

function TestSofthsm.test_the_two_stores_hold_the_same()
  lu.assertEquals(exact().token:contents(), source():contents())
end

function TestSofthsm.test_every_attribute_is_the_same_through_pkcs11()
  local run = exact()
  for _, result in ipairs(run.results) do
    local clone = clone_of(run, result)
    lu.assertEquals(clone:attributes(), result.object:attributes(), tostring(result.object))
    lu.assertEquals(clone:unread(), result.object:unread())
  end
end

-- Kinds without an operation that tells, and how many of each there are.
local SILENT = { certificate = 2, data = 12, domain_parameters = 2, public_key = 2,
  secret_key = 5 }

local function assert_all_work(run, silent)
  local without = {}
  for _, result in ipairs(run.results) do
    if result.status == "cloned" then
      local clone, class = clone_of(run, result), result.object.class
      if not zoo.works_for(clone, result.object) then
        without[class] = (without[class] or 0) + 1
      else
        zoo.works_for(result.object, clone)
      end
    end
  end
  lu.assertEquals(without, silent)
end

function TestSofthsm.test_every_key_works_for_its_original_and_the_original_for_it()
  assert_all_work(exact(), SILENT)
end

function TestSofthsm.test_attributes_that_softhsm_does_not_know_come_along()
  local run = ferry(strange(), { engine = "softhsm" })
  lu.assertEquals(failures(run), {})
  lu.assertEquals(run.token:contents(), strange():contents())
  lu.assertStrContains(run.token:contents()[1], "\n0080001005 5 clear ")
end

function TestSofthsm.test_the_clone_of_a_clone_is_still_the_original()
  local run = ferry(exact().token, { engine = "softhsm" })
  lu.assertEquals(failures(run), {})
  lu.assertEquals(run.token:contents(), source():contents())
end

function TestSofthsm.test_a_challenge_finds_every_clone_good()
  local run = ferry(source(), { engine = "softhsm", verify = true })
  lu.assertEquals(failures(run), {})
  local unproved = {}
  for _, result in ipairs(run.results) do
    if not result.verified then
      lu.assertStrContains(result.unproved, "CKA_")
      table.insert(unproved, result.object.label)
    end
  end
  lu.assertEquals(#unproved, run.report.unproved)
  lu.assertEquals(run.token:contents(), source():contents())
end

function TestSofthsm.test_the_source_is_not_written_to()
  local before = store.snapshot(source().hsm.dir)
  ferry(source(), { engine = "softhsm" })
  ferry(source(), { engine = "wrap" })
  lu.assertEquals(store.compare(before, store.snapshot(source().hsm.dir),
    { ignore_logins = true }), {})
end

-- Wrap ------------------------------------------------------------------------------------

local wrapped = once("wrapped", function() return ferry(source(), { engine = "wrap" }) end)

local TestWrap = {}

-- The names of what differs between an object and its clone in the stores.
local function differences(a, b)
  local names = {}
  for type, attribute in pairs(a) do
    local other = b[type]
    if not other or other.kind ~= attribute.kind or other.value ~= attribute.value then
      table.insert(names, core.name("CKA", type) or ("CKA_0x%x"):format(type))
    end
  end
  for type in pairs(b) do
    if not a[type] then table.insert(names, core.name("CKA", type)) end
  end
  table.sort(names)
  return names
end

local function words(text)
  local list = {}
  for word in text:gmatch("[%w_.]+") do table.insert(list, word) end
  table.sort(list)
  return list
end

return { TestSofthsm = TestSofthsm, TestWrap = { test_x = function()
  local run = wrapped()
  for _, f in ipairs(failures(run)) do print(f) end
  for _, r in ipairs(run.results) do if r.status=="cloned" then print(r.object, r.lost) end end
 end} }
