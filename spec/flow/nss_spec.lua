-- SPDX-License-Identifier: MIT
-- NSS softoken as source and target: what goes there and comes back is its original at work, and
-- what cannot be kept is said of each object.
local lu = require("luaunit")

local core = require("keyferry.core")
local fidelity = require("flow.fidelity")
local keyferry = require("keyferry")
local nss = require("support.nss")
local once = require("support.once")
local scene = require("flow.scene")
local shell = require("support.shell")
local zoo = require("support.zoo")

local domain = fidelity.domain

-- One of each, and what NSS is mostly used for.
local source = once(function()
  local token = zoo.copy(fidelity.source())
  local session = zoo.session(token)
  local rsa = { modulus_bits = 2048, public_exponent = "\1\0\1", verify = true, encrypt = true }
  zoo.pair(session, "web", "rsa_pkcs_key_pair_gen", rsa, { sign = true, decrypt = true })
  zoo.pair(session, "held", "rsa_pkcs_key_pair_gen", rsa,
    { sign = true, decrypt = true, extractable = false })
  zoo.close(token)
  return token
end)

-- Backs up all that `from` has to `to` (sessions); gives { results =, source =, target = }.
local function ferry(from, to, more)
  local run = { source = from, target = to, results = {} }
  local options = { source = from, target = to, domain = domain(), mode = "add", verify = true,
    on_result = function(result) table.insert(run.results, result) end }
  for name, value in pairs(more or {}) do options[name] = value end
  run.report = keyferry.backup(options)
  return run
end

-- "class label" of each with a status, and what `what` says of it.
local function table_of(run, status, what)
  local map = {}
  for _, result in ipairs(run.results) do
    if result.status == status then
      map[result.object.class .. " " .. result.object.label] = what(result)
    end
  end
  return map
end

local function lost(run)
  return table_of(run, "cloned", function(result) return result.lost end)
end

local function refused(run)
  return table_of(run, "failed", function(result) return result.err.code end)
end

local function count(map)
  local n = 0
  for _ in pairs(map) do n = n + 1 end
  return n
end

-- To NSS ----------------------------------------------------------------------------------------

local there = once(function()
  local db = nss.fresh("NSS-A")
  local run = ferry(zoo.session(source(), { writable = false }), db:session())
  run.db = db
  return run
end)

local TestThere = {}

-- "same id" is one CKA_ID for six keys: the first of them is in.
function TestThere.test_what_does_not_go_and_why()
  local expected = { ["public_key secp256k1"] = "CKR_DOMAIN_PARAMS_INVALID",
    ["private_key secp256k1"] = "CKR_DOMAIN_PARAMS_INVALID",
    ["domain_parameters dh parameters"] = "CKR_KEY_TYPE_INCONSISTENT",
    ["domain_parameters dsa parameters"] = "CKR_FUNCTION_FAILED",
    ["certificate certificate private"] = "CKR_ATTRIBUTE_VALUE_INVALID" }
  for _, label in ipairs { "ed25519", "ed25519 readable", "x25519" } do
    expected["public_key " .. label] = "CKR_ATTRIBUTE_VALUE_INVALID"
    expected["private_key " .. label] = "CKR_TEMPLATE_INCOMPLETE"
  end
  for _, name in ipairs { "private_key rsa", "secret_key mechanisms", "secret_key templates",
    "secret_key fixed" } do
    expected[name] = "KFR_DIFFERS" -- NSS would give them rights
  end
  local is = refused(there())
  for name, code in pairs(is) do
    if name:find("^data ") then lu.assertEquals(code, "KFR_NOT_CLONABLE", name)
    elseif code == "KFR_CONFLICT" then is[name] = nil end
    if name:find("^data ") then is[name] = nil end
  end
  lu.assertEquals(is, expected)
end

function TestThere.test_each_refusal_is_a_sentence_with_advice()
  for _, result in ipairs(there().results) do
    local err = result.err
    if err and err.code ~= "KFR_NOT_CLONABLE" then
      lu.assertTrue((err.hint or "") ~= "", tostring(err))
      lu.assertNotStrContains(err.what, "with key ")
    end
    if err and result.object.label == "ed25519" and result.object.class == "private_key" then
      lu.assertStrContains(err.what, "does not take this key in (CKK_EC_EDWARDS)")
    end
  end
end

function TestThere.test_all_others_arrive_and_work()
  lu.assertTrue(there().report.cloned >= 70, there().report.cloned)
  fidelity.assert_all_work(there(), { certificate = 1, secret_key = 5, public_key = 1 })
end

function TestThere.test_what_is_lost_is_said_and_nothing_else_is_missing()
  local said = lost(there())
  lu.assertEquals(said["private_key p-256"],
    "CKA_LOCAL, CKA_ALWAYS_SENSITIVE, CKA_KEY_GEN_MECHANISM")
  lu.assertEquals(said["secret_key generic 5"], "CKA_CHECK_VALUE")
  lu.assertEquals(said["secret_key sha256 hmac"], "CKA_CHECK_VALUE, CKA_VALUE_LEN")
  for _, result in ipairs(there().results) do
    if result.status == "cloned" then
      local clone, original = fidelity.clone_of(there(), result), result.object:attributes()
      local is = clone:attributes()
      for name, value in pairs(original) do
        local told = result.lost:find("CKA_" .. name:upper(), 1, true)
        if not told and is[name] ~= value and type(value) ~= "table" then
          lu.assertTrue(value == "" or value == true or name == "key_gen_mechanism",
            ("%s: %s"):format(result.object, name))
          lu.assertNil(is[name], ("%s: %s"):format(result.object, name))
        end
      end
    end
  end
end

-- The engine softhsm takes it out; in NSS, which would hand it to anybody, it stays.
function TestThere.test_a_key_that_is_not_extractable_arrives_and_is_not_taken_out_again()
  local session, token = there().db:session(), zoo.token("back")
  local kept = session:find { class = "private_key", label = "held" }[1]
  lu.assertEquals({ kept.extractable, kept.sensitive }, { false, true })
  local original = zoo.session(source()):find { class = "private_key", label = "held" }[1]
  lu.assertTrue(core.challenge(original, kept))
  local run = ferry(session, zoo.session(token), { select = "held" })
  lu.assertEquals(refused(run), { ["private_key held"] = "KFR_NOT_CLONABLE" })
  run = ferry(session, zoo.session(token), { select = "trusted wrapping only" })
  lu.assertEquals(refused(run), { ["secret_key trusted wrapping only"] = "KFR_NOT_CLONABLE" })
  zoo.close(token)
end

-- The public half of the clone is computed from its number; nothing else in NSS has it.
function TestThere.test_ec_and_dsa_clones_sign_for_their_originals_public_key()
  local ours = zoo.session(source())
  for label, mechanism in pairs { ["p-256"] = "ecdsa", ["p-384"] = "ecdsa", ["p-521"] = "ecdsa",
    dsa = "dsa" } do
    local clone = there().db:session():find { class = "private_key", label = label }[1]
    local public = ours:find { class = "public_key", label = label }[1]
    local digest = ("d"):rep(20)
    local signature = assert(clone:sign(mechanism, digest), label)
    lu.assertTrue(public:verify(mechanism, digest, signature), label)
    lu.assertNotEquals(public:verify(mechanism, ("e"):rep(20), signature), true, label)
  end
end

function TestThere.test_a_second_run_finds_them_there()
  local run = ferry(zoo.session(source()), there().db:session())
  lu.assertEquals(run.report.cloned, 0)
  lu.assertEquals(run.report.exists, there().report.cloned)
end

-- From NSS --------------------------------------------------------------------------------------

local TestBack = {}

local function stays(run)
  local map = refused(run)
  for name, code in pairs(map) do
    local object = name == "private_key dh" and "CKR_DEVICE_ERROR" or "KFR_NOT_CLONABLE"
    lu.assertEquals(code, object, name)
  end
  return count(map)
end

local function comes_back(to)
  local run = ferry(there().db:session(), to)
  -- Not extractable: 2 of each four "ps-" kinds of AES and EC, "held", "trusted wrapping only".
  lu.assertEquals(run.report.failed, stays(run))
  lu.assertTrue(run.report.cloned >= 58, run.report.cloned)
  for _, result in ipairs(run.results) do
    local key = ({ secret_key = true, private_key = true })[result.object.class]
    if result.status == "cloned" then
      lu.assertEquals(result.lost, key and not result.object.private and "CKA_PRIVATE" or "",
        tostring(result.object))
    end
  end
  -- By the handle in NSS: two of the originals have one label and one CKA_ID.
  local originals = {}
  for _, result in ipairs(there().results) do
    if result.target_handle then originals[result.target_handle] = result.object end
  end
  for _, result in ipairs(run.results) do
    result.original = assert(originals[result.object.handle])
  end
  fidelity.assert_all_work(run, { certificate = 1, secret_key = 5, public_key = 1 })
end

function TestBack.test_to_softhsm_and_at_work_for_what_they_once_were()
  local token = zoo.token("back")
  comes_back(zoo.session(token))
  zoo.close(token)
end

function TestBack.test_to_another_nss()
  comes_back(nss.fresh("NSS-B"):session())
end

-- NSS keeps every key from those who are not logged in, whatever its CKA_PRIVATE: a clone that
-- showed itself would be less protected.
function TestBack.test_a_key_that_calls_itself_public_does_not_become_so()
  local token = zoo.token("back")
  local run = ferry(there().db:session(), zoo.session(token), { select = "aes --x" })
  lu.assertEquals(lost(run), { ["secret_key aes --x"] = "CKA_PRIVATE" })
  lu.assertTrue(zoo.session(token):find { label = "aes --x" }[1].private)
  zoo.close(token)
end

-- NSS tells no check value and no length of a key, and SoftHSM does: the key is the same, which
-- verify and a drill are asked for. The other way round they are lost, and are no difference.
function TestBack.test_what_one_token_tells_of_a_key_and_the_other_does_not_is_no_difference()
  local token, db, back = zoo.token("told"), nss.fresh("NSS-T"), zoo.token("back")
  local session = zoo.session(token)
  zoo.secret(session, "mac", { value = ("m"):rep(20), key_type = "sha256_hmac" })
  zoo.pair(session, "web", "rsa_pkcs_key_pair_gen", { modulus_bits = 1024, verify = true,
    public_exponent = "\1\0\1" }, { sign = true })
  for _, ends in ipairs { { session, db:session() }, { db:session(), zoo.session(back) } } do
    lu.assertEquals(fidelity.failures(ferry(ends[1], ends[2])), {})
    local told = {}
    local outcome = keyferry.verify { source = ends[1], target = ends[2], domain = domain(),
      challenge = true, on_result = function(result)
        for _, one in ipairs(result.differences) do table.insert(told, one.name) end
      end }
    lu.assertEquals({ told, outcome.same, outcome.status }, { {}, 3, "success" })
  end
  zoo.close(token)
  zoo.close(back)
end

-- The liar keeps 32 bytes of its own in the place of a key, of 32, too: where no digest tells, the
-- clone goes out again.
function TestBack.test_a_secret_that_became_another_is_undone_without_a_digest_too()
  local token = zoo.token("another")
  local db = nss.fresh("NSS-O", { lies = "C_DigestKey * CKR_FUNCTION_NOT_SUPPORTED\n" ..
    "C_UnwrapKey ok-but-other-after 20" })
  for i = 1, 30 do
    zoo.secret(zoo.session(token), "mac " .. i, { value = ("%032d"):format(i) })
  end
  local run = ferry(zoo.session(token), db:session(), { verify = false })
  local report = run.report
  lu.assertTrue(report.cloned > 0 and report.failed > 0, report.cloned)
  for _, code in pairs(refused(run)) do lu.assertEquals(code, "KFR_DIFFERS") end
  lu.assertEquals({ report.cloned + report.failed, #db:session():find() },
    { 30, report.cloned })
  zoo.close(token)
end

-- One key in the place of another ---------------------------------------------------------------

local TestConflict = {}

-- A partition with two pairs and two secrets of one CKA_ID, and one pair of it in NSS.
local function conflict()
  local token, db = zoo.token("twice"), nss.fresh("NSS-C")
  local session = zoo.session(token)
  for i = 1, 2 do
    zoo.pair(session, "pair " .. i, "ec_key_pair_gen", { ec_params = zoo.curves["p-256"],
      verify = true, id = "\1" }, { sign = true, id = "\1" })
    zoo.secret(session, "secret " .. i, { value = ("s"):rep(16 + i), id = "\1" })
  end
  return session, db, token
end

function TestConflict.test_of_two_keys_of_one_id_the_second_is_refused()
  local session, db, token = conflict()
  local planned = ferry(session, db:session(), { plan = true, verify = false })
  lu.assertEquals(assert(db:session():find()), {})
  local run = ferry(session, db:session())
  lu.assertEquals(refused(planned), refused(run))
  lu.assertEquals({ run.report.cloned, run.report.failed }, { 3, 3 })
  for _, code in pairs(refused(run)) do lu.assertEquals(code, "KFR_CONFLICT") end
  -- Those that are in are what they were, after all that was tried.
  for _, result in ipairs(run.results) do
    if result.status == "cloned" then
      lu.assertTrue(core.challenge(result.object, fidelity.clone_of(run, result)))
    end
  end
  zoo.close(token)
end

function TestConflict.test_a_key_that_is_there_is_not_overwritten_nor_planned_to_be()
  local session, db, token = conflict()
  local mine = assert(db:session():create { class = "secret_key", key_type = "aes", id = "\1",
    label = "mine", token = true, value = ("m"):rep(16) })
  for _, plan in ipairs { true, false } do
    local run = ferry(session, db:session(),
      { plan = plan, verify = not plan, select = "secret 1" })
    lu.assertEquals(refused(run), { ["secret_key secret 1"] = "KFR_CONFLICT" })
  end
  local found = assert(db:session():find { class = "secret_key" })
  lu.assertEquals({ #found, found[1].label, found[1].handle }, { 1, "mine", mine.handle })
  zoo.close(token)
end

-- Old and new cannot be there side by side, which a replacement needs: the old backup stays, and
-- what is advised can be done.
function TestConflict.test_a_backup_of_the_same_keys_is_not_replaced_and_said_how_to_go_on()
  local session, db, token = conflict()
  local select = function(object) return object.label == "secret 1" end
  lu.assertEquals(ferry(session, db:session(), { select = select }).report.cloned, 1)
  local before = assert(db:session():find())[1]:attributes()
  local run = ferry(session, db:session(), { select = select, mode = "replace" })
  lu.assertEquals(refused(run), { ["secret_key secret 1"] = "KFR_CONFLICT" })
  lu.assertStrContains(run.report.reason.hint, "-add leaves it as it is")
  lu.assertEquals(assert(db:session():find())[1]:attributes(), before)
  run = ferry(session, db:session(), { select = select })
  lu.assertEquals({ run.report.exists, run.report.failed }, { 1, 0 })
  zoo.close(token)
end

-- The domain in the partition -------------------------------------------------------------------

local TestDomain = {}

-- Keys of the domain that stay in NSS do for all but EC and DSA, whose public value only a
-- domain tells that is at hand: SoftHSM's is, as the engine softhsm reads it.
function TestDomain.test_lives_in_nss_and_opens_there_without_being_given()
  local db, other, token = nss.fresh("NSS-D"), nss.fresh("NSS-E"), zoo.token("given")
  local session = zoo.session(token)
  for _, one in ipairs { session, db:session(), other:session() } do
    assert(one:install_domain(domain()))
    lu.assertEquals(assert(one:find_domain("wrap")), domain())
  end
  zoo.secret(session, "mac 5", { value = "12345", key_type = "sha256_hmac" })
  zoo.pair(session, "web", "rsa_pkcs_key_pair_gen", { modulus_bits = 1024, verify = true,
    public_exponent = "\1\0\1" }, { sign = true })
  zoo.pair(session, "ec", "ec_key_pair_gen", { ec_params = zoo.curves["p-256"], verify = true },
    { sign = true })
  local function without_domain(from, to)
    local run = { source = from, target = to, results = {} }
    run.report = keyferry.backup { source = from, target = to, mode = "add", verify = true,
      on_result = function(result) table.insert(run.results, result) end }
    return run
  end
  lu.assertEquals(fidelity.failures(without_domain(session, db:session())), {})
  local run = without_domain(db:session(), other:session())
  lu.assertEquals(refused(run), { ["private_key ec"] = "KFR_NOT_CLONABLE" })
  lu.assertStrContains(run.report.reason.hint, "give the domain with -domain")
  lu.assertEquals(run.report.cloned, 4)
  local second, err = db:session():install_domain(domain())
  lu.assertNil(second)
  lu.assertEquals(err.code, "KFR_EXISTS")
  zoo.close(token)
end

-- There is no place for it; whoever asks is told so, and a run that adds does not need it.
function TestDomain.test_no_mark_of_an_unfinished_backup_is_kept_and_that_is_said()
  local session = nss.fresh("NSS-M"):session()
  local marked, err = session:mark_unfinished("of something")
  lu.assertNil(marked)
  lu.assertStrContains(tostring(err), "keeps no data objects")
  lu.assertNil(session:unfinished())
  lu.assertTrue(session:mark_finished())
end

-- FIPS ------------------------------------------------------------------------------------------

local TestFips = {}

-- It takes no secret key in the clear, and keeps none that is not sensitive.
function TestFips.test_the_domain_comes_in_under_rsa_and_keys_after_it()
  local db = nss.fresh("NSS-F", { fips = true })
  assert(db:session():install_domain(domain()))
  lu.assertEquals(assert(db:session():find_domain("wrap")), domain())
  local run = ferry(zoo.session(source()), db:session())
  lu.assertTrue(run.report.cloned >= 70, run.report.cloned)
  lu.assertStrContains(lost(run)["secret_key aes p-x"], "CKA_SENSITIVE")
  local token = zoo.token("back")
  local back = ferry(db:session(), zoo.session(token))
  lu.assertTrue(back.report.cloned >= 58, back.report.cloned)
  lu.assertEquals(back.report.failed, stays(back))
  zoo.close(token)
  db:close()
end

-- By the program --------------------------------------------------------------------------------

local TestProgram = {}

function TestProgram.test_backs_up_to_a_database_and_says_what_did_not_go()
  local s, db = scene.new(), nss.fresh("backup", { pin = scene.tokenpw })
  assert(db:session():install_domain(assert(core.domain(core.secret(scene.domain)))))
  db:close()
  shell.write(s.home .. "/nss.lua", ("return { system = false, hsms = { %s } }"):format(
    db:entry("nss", 'serial = "4711"')))
  local how = { "-add", serial = "4711", globals = { "--config", s.home .. "/nss.lua" } }
  local done = s:backup(how)
  lu.assertStrContains(done.out, "keeps no objects of the class CKO_DATA")
  local counts = scene.counts(done.out)
  lu.assertEquals({ done.status, counts.failed }, { 1, 1 }, done.out .. done.err)
  local again = scene.counts(s:backup(how).out)
  lu.assertEquals({ again.exists, again.cloned, again.failed }, { counts.cloned, 0, 1 })
end

-- What came from the store of a soft HSM into another one, and does not come out of there.
function TestProgram.test_says_that_keys_which_may_not_leave_stay_there()
  local s, db = scene.new(), nss.fresh("backup", { pin = scene.tokenpw })
  assert(db:session():install_domain(assert(core.domain(core.secret(scene.domain)))))
  db:close()
  shell.write(s.home .. "/nss.lua", ("return { system = false, hsms = { %s } }"):format(
    db:entry("nss", 'serial = "4711"')))
  local held = tonumber(s:inside("payments", [[
    local count = 0
    for _, object in ipairs(assert(session:find())) do
      count = count + (object.extractable == false and 1 or 0)
    end
    print(count)]]))
  lu.assertTrue(held > 0)
  local said = ('%d keys cannot leave partition "backup" again'):format(held)
  local how = { "-add", serial = "4711", globals = { "--config", s.home .. "/nss.lua" } }
  lu.assertStrContains(s:backup(how).err, said)
  lu.assertStrContains(s:backup(how).err, said) -- they are there already
  how.verb = "plan"
  lu.assertStrContains(s:backup(how).err, said)
  lu.assertNotStrContains(s:backup{}.err, "again")
end

-- A module that wraps by none of RFC 5649's mechanisms is no worse a target: of a partition that
-- is not there yet, too.
function TestProgram.test_a_plan_for_a_new_partition_asks_for_no_mechanism()
  local s = scene.new()
  local db = nss.empty("backup", { lies = "C_GetMechanismList drop 0x210A\n" ..
    "C_GetMechanismList drop 0x210B" })
  shell.write(s.home .. "/nss.lua", ("return { system = false, hsms = { %s } }"):format(
    db:entry("nss", 'serial = "4711"')))
  local done = s:backup { verb = "plan", serial = "4711",
    globals = { "--config", s.home .. "/nss.lua" }, secrets = scene.secrets { "TOKENSOPWD" } }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertStrContains(done.out, "7 would be cloned")
end

return { TestThere = TestThere, TestBack = TestBack, TestConflict = TestConflict,
  TestDomain = TestDomain, TestFips = TestFips, TestProgram = TestProgram }
