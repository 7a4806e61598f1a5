-- SPDX-License-Identifier: MIT
-- A clone is its original: every attribute, as PKCS#11 gives it and as the store has it, and
-- at work. What cannot be kept is said, and nothing else is missing.
local lu = require("luaunit")

local fidelity = require("flow.fidelity")
local keyferry = require("keyferry")
local object_file = require("support.object_file")
local once = require("support.once")
local shell = require("support.shell")
local store = require("support.store")
local zoo = require("support.zoo")

local CKA = { CLASS = 0x0, VALUE = 0x11 }

-- Made once ------------------------------------------------------------------------------

local domain, source = fidelity.domain, fidelity.source

-- The same with attributes that SoftHSM does not know.
local strange = once(function()
  local token = zoo.copy(source())
  zoo.estrange(token)
  return token
end)

-- Backs up `from` to a new token (or `to`); gives that token, the report, the results and both
-- sessions, open.
local function ferry(from, options)
  local token = options.to or zoo.token("target")
  local run = { token = token, results = {}, source = zoo.session(from, { writable = false }),
    target = zoo.session(token), sealed_by = options.source_engine or options.engine }
  run.report = keyferry.backup {
    source = run.source, target = run.target, domain = domain(), mode = "add",
    engine = options.engine, source_engine = options.source_engine,
    target_engine = options.target_engine, verify = options.verify, select = options.select,
    on_result = function(result) table.insert(run.results, result) end,
  }
  return run
end

-- Exact ------------------------------------------------------------------------------------

local exact = once(function() return ferry(source(), { engine = "softhsm" }) end)

local TestSofthsm = {}

function TestSofthsm.test_everything_arrives_and_nothing_is_said_to_be_lost()
  local run = exact()
  lu.assertEquals(fidelity.failures(run), {})
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
    local clone = fidelity.clone_of(run, result)
    lu.assertEquals(clone:attributes(), result.object:attributes(), tostring(result.object))
    lu.assertEquals(clone:unread(), result.object:unread())
  end
end

function TestSofthsm.test_every_key_works_for_its_original_and_the_original_for_it()
  fidelity.assert_all_work(exact(), fidelity.SILENT)
end

function TestSofthsm.test_attributes_that_softhsm_does_not_know_come_along()
  local run = ferry(strange(), { engine = "softhsm" })
  lu.assertEquals(fidelity.failures(run), {})
  lu.assertEquals(run.token:contents(), strange():contents())
  lu.assertStrContains(run.token:contents()[1], "\n0080001005 5 clear ")
end

function TestSofthsm.test_the_clone_of_a_clone_is_still_the_original()
  local run = ferry(exact().token, { engine = "softhsm" })
  lu.assertEquals(fidelity.failures(run), {})
  lu.assertEquals(run.token:contents(), source():contents())
end

function TestSofthsm.test_a_challenge_finds_every_clone_good()
  local run = ferry(source(), { engine = "softhsm", verify = true })
  lu.assertEquals(fidelity.failures(run), {})
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

local wrapped = once(function() return ferry(source(), { engine = "wrap" }) end)

local TestWrap = {}

function TestWrap.test_what_may_not_or_cannot_be_wrapped_says_which_flag_or_type_forbids_it()
  local expected = {
    ["private_key ed25519"] = "CKR_KEY_NOT_WRAPPABLE",
    ["private_key x25519"] = "CKR_KEY_NOT_WRAPPABLE",
    ["secret_key trusted wrapping only"] = "CKA_WRAP_WITH_TRUSTED is true",
  }
  for _, name in ipairs { "---", "p--", "-s-", "ps-" } do
    expected["private_key ec " .. name] = "CKA_EXTRACTABLE is false"
    expected["secret_key aes " .. name] = "CKA_EXTRACTABLE is false"
  end
  lu.assertEquals(fidelity.refused(wrapped()), expected)
  lu.assertEquals(wrapped().report.status, "partial")
  lu.assertEquals(wrapped().report.failed, 11)
end

function TestWrap.test_what_a_clone_lost_is_named_and_nothing_else_differs()
  fidelity.assert_losses_are_said(source(), wrapped())
end

function TestWrap.test_data_and_certificates_lose_nothing()
  for _, result in ipairs(wrapped().results) do
    local class = result.object.class
    if class == "data" or class == "certificate" then
      lu.assertEquals(result.lost, "", tostring(result.object))
    end
  end
end

function TestWrap.test_every_key_that_arrived_works_for_its_original()
  fidelity.assert_all_work(wrapped(), fidelity.SILENT)
end

function TestWrap.test_a_challenge_finds_every_clone_good()
  local run = ferry(source(), { engine = "wrap", verify = true })
  lu.assertEquals(fidelity.refused(run), fidelity.refused(wrapped()))
  lu.assertEquals(run.report.cloned, wrapped().report.cloned)
end

-- Both partitions have their domain inside, so that no key of it is in this process.
function TestWrap.test_with_the_domain_in_both_tokens_it_is_the_same()
  local from, to = zoo.copy(source()), zoo.token("target")
  assert(zoo.session(from):install_domain(domain()))
  assert(zoo.session(to):install_domain(domain()))
  local run = ferry(from, { engine = "wrap", to = to })
  lu.assertEquals(fidelity.refused(run), fidelity.refused(wrapped()))
  lu.assertEquals(run.report.cloned, wrapped().report.cloned)
  lu.assertEquals({ fidelity.losses(from, run) }, { fidelity.losses(source(), wrapped()) })
  fidelity.assert_all_work(run, fidelity.SILENT)
end

-- Mixed ends --------------------------------------------------------------------------------

local TestMixedEnds = {}

local function cross(source_engine, target_engine)
  return ferry(source(), { source_engine = source_engine, target_engine = target_engine })
end

function TestMixedEnds.test_what_softhsm_sealed_wrap_opens()
  local run = cross("softhsm", "wrap")
  lu.assertEquals(fidelity.failures(run), {})
  fidelity.assert_losses_are_said(source(), run)
  fidelity.assert_all_work(run, fidelity.SILENT)
end

function TestMixedEnds.test_what_wrap_sealed_softhsm_opens()
  local run = cross("wrap", "softhsm")
  lu.assertEquals(fidelity.refused(run), fidelity.refused(wrapped()))
  fidelity.assert_losses_are_said(source(), run)
  fidelity.assert_all_work(run, fidelity.SILENT)
end

-- Half-built objects -------------------------------------------------------------------------

-- What is left of an object whose maker died, or what its maker has got to so far.
local MUTILATED = {
  ["no class"] = { label = "p-256", without = { CKA.CLASS } },
  ["a secret key without value"] = { label = "aes psx", without = { CKA.VALUE } },
  ["a secret key with an empty value"] = { label = "aes p-x", empty = { CKA.VALUE } },
  ["an RSA key without its numbers"] = { label = "rsa", without = { 0x120, 0x123, 0x124, 0x125,
    0x126, 0x127, 0x128 } },
  ["an EC key without value"] = { label = "p-384", without = { CKA.VALUE } },
  ["no key type"] = { label = "aes 128", without = { 0x100 } },
}

local function mutilate(token, how)
  for _, found in ipairs(token:labelled(how.label)) do
    local class = string.unpack(">I8", found[CKA.CLASS].value)
    if class == 3 or class == 4 then
      local path = token.dir .. "/" .. found.file
      local object = assert(object_file.parse(shell.read(path)))
      for _, type in ipairs(how.without or {}) do
        for i = #object.records, 1, -1 do
          if object.records[i].type == type then table.remove(object.records, i) end
        end
      end
      for _, type in ipairs(how.empty or {}) do
        select(2, object_file.get(object, type)).value = ""
      end
      shell.write(path, object_file.encode(object))
    end
  end
end

local TestHalfBuilt = {}

-- The others are cloned, and the run does not call itself a success.
local function assert_not_cloned(engine)
  local token = zoo.copy(source())
  local labels = {}
  for _, how in pairs(MUTILATED) do
    mutilate(token, how)
    labels[how.label] = true
  end
  local run = ferry(token, { engine = engine })
  local cloned = 0
  for _, result in ipairs(run.results) do
    local class = result.object.class
    if labels[result.object.label] and class ~= "public_key" then
      lu.assertEquals(result.status, "failed", tostring(result.object))
      lu.assertTrue(#result.err.what > 20)
    elseif result.status == "cloned" then
      cloned = cloned + 1
    end
  end
  lu.assertNotEquals(run.report.status, "success")
  lu.assertEquals(#run.token:files(), cloned)
  for label in pairs(labels) do
    for _, object in ipairs(run.token:labelled(label)) do
      lu.assertEquals(object[CKA.CLASS].value:byte(8), 2, label)
    end
  end
  return cloned
end

function TestHalfBuilt.test_none_is_ever_called_backed_up_and_the_others_are()
  lu.assertEquals(assert_not_cloned("softhsm"), #source():files() - 6)
  assert_not_cloned("wrap")
end

-- Twins --------------------------------------------------------------------------------------

local TestTwins = {}

-- Pairs that differ in key material only: nothing that a reader sees tells them apart.
local function make_twins(session)
  for i = 1, 2 do
    local _, private = zoo.pair(session, "twin", "ec_key_pair_gen",
      { ec_params = zoo.curves["p-256"], verify = true, id = "pub" .. i },
      { sign = true, id = "one id" })
    assert(private:change { id = "one id" })
    assert(session:create { class = "data", label = "twin", value = "note " .. i, token = true,
      private = true })
    zoo.secret(session, "twin", { id = "one id", value = ("k"):rep(31) .. i })
  end
end

local function twins()
  local token = zoo.token("twins")
  make_twins(zoo.session(token))
  zoo.close(token)
  return token
end

-- Every clone works for the very original that its result names.
local function assert_belong_together(run, token)
  local publics = {}
  for i = 1, 2 do
    publics[i] = assert(run.source:find { class = "public_key", id = "pub" .. i })[1]
  end
  local message, seen = ("m"):rep(32), {}
  for _, result in ipairs(run.results) do
    local original, clone = result.object, fidelity.clone_of(run, result)
    lu.assertNil(seen[result.target_handle])
    seen[result.target_handle] = true
    if original.class == "private_key" then
      local matches = 0
      for i = 1, 2 do
        local signature = assert(clone:sign("ecdsa", message))
        if publics[i]:verify("ecdsa", message, signature) then
          matches = matches + 1
          lu.assertTrue(publics[i]:verify("ecdsa", message,
            assert(original:sign("ecdsa", message))))
        end
      end
      lu.assertEquals(matches, 1)
    elseif original.class == "secret_key" then
      lu.assertTrue(original:verify("sha256_hmac", message,
        assert(clone:sign("sha256_hmac", message))))
    end
  end
  lu.assertEquals(#token:files(), 8)
end

local function values(token)
  local list = {}
  for _, object in pairs(token:objects()) do
    if object[CKA.VALUE] then table.insert(list, shell.hex(object[CKA.VALUE].value)) end
  end
  table.sort(list)
  return list
end

local function assert_twins(engine, verify)
  local token = twins()
  local run = ferry(token, { engine = engine, verify = verify })
  lu.assertEquals(fidelity.failures(run), {})
  lu.assertEquals(run.report.status, "success")
  lu.assertEquals(values(run.token), values(token))
  if verify then assert_belong_together(run, run.token) end
  local again = ferry(token, { engine = engine, to = run.token, verify = verify })
  lu.assertEquals({ again.report.cloned, again.report.exists }, { 0, 8 })
  lu.assertEquals(values(run.token), values(token))
end

function TestTwins.test_softhsm_brings_both()
  assert_twins("softhsm", false)
end

function TestTwins.test_softhsm_brings_both_and_a_challenge_tells_which_is_which()
  assert_twins("softhsm", true)
end

function TestTwins.test_wrap_brings_both()
  assert_twins("wrap", false)
end

function TestTwins.test_wrap_brings_both_and_a_challenge_tells_which_is_which()
  assert_twins("wrap", true)
end

return {
  TestSofthsm = TestSofthsm,
  TestWrap = TestWrap,
  TestMixedEnds = TestMixedEnds,
  TestHalfBuilt = TestHalfBuilt,
  TestTwins = TestTwins,
}
