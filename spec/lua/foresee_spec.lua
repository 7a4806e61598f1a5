-- SPDX-License-Identifier: MIT
-- What endpoint:foresee says is what stage and commit then do; and it changes nothing.
local lu = require("luaunit")

local awkward = require("support.awkward")
local core = require("keyferry.core")
local keyferry = require("keyferry")
local liar = require("support.liar")
local zoo = require("support.zoo")
local store = require("support.store")

local domain = assert(core.random_domain())
local made = {}

-- Everything awkward; nobody writes to it any more.
local function source()
  if not made.source then
    made.source = zoo.token("source")
    awkward.stock(zoo.session(made.source))
    zoo.close(made.source)
    awkward.bend(made.source)
  end
  return made.source
end

local function assert_refused(code, value, err)
  lu.assertNil(value)
  lu.assertEquals(err and err.code, code, tostring(err))
  return err
end

local function answer(value, err)
  return value and "not kept: " .. value or tostring(err)
end

local function done(to, sealed, changes, more_rights)
  local ok, err = to:stage(sealed, changes, more_rights)
  if not ok then return tostring(err) end
  local planted = assert(to:commit())[1]
  return answer(planted.lost, planted.err)
end

-- Seals all of the source; gives { { name =, sealed = }, ... }.
local function seal_all(engine)
  local list = {}
  local from <close> = assert(zoo.session(source(), { writable = false }):endpoint(engine, domain))
  for _, object in ipairs(assert(from:find { token = true })) do
    local sealed = from:seal(object)
    if sealed then table.insert(list, { name = tostring(object), sealed = sealed }) end
  end
  zoo.close(source())
  return list
end

local function agree(source_engine, target_engine, least)
  local list, token = seal_all(source_engine), zoo.token("target")
  lu.assertTrue(#list >= least, #list)
  local before = store.snapshot(token.dir)
  local session = zoo.session(token, { writable = false })
  do
    local to <close> = assert(session:endpoint(target_engine, domain))
    for _, one in ipairs(list) do one.foreseen = answer(to:foresee(one.sealed)) end
    lu.assertEquals(assert(session:find { token = true }), {})
  end
  lu.assertEquals(assert(session:find()), {})
  zoo.close(token)
  lu.assertEquals(store.compare(before, store.snapshot(token.dir), { ignore_logins = true }), {})
  local to <close> = assert(zoo.session(token):endpoint(target_engine, domain))
  for _, one in ipairs(list) do
    lu.assertEquals(done(to, one.sealed), one.foreseen, one.name)
  end
  zoo.close(token)
end

local TestAgreement = {}

function TestAgreement.test_softhsm_to_softhsm() agree("softhsm", "softhsm", 110) end
function TestAgreement.test_wrap_to_wrap() agree("wrap", "wrap", 80) end
function TestAgreement.test_softhsm_to_wrap() agree("softhsm", "wrap", 110) end
function TestAgreement.test_wrap_to_softhsm() agree("wrap", "softhsm", 80) end

local TestForesee = {}

-- A source with one key, and a target, by any engine; closed afterwards.
local function scene(test)
  return function()
    for _, engine in ipairs{ "softhsm", "wrap" } do
      local tokens = { zoo.token("source"), zoo.token("target") }
      local s = { engine = engine, from = zoo.session(tokens[1]), to = zoo.session(tokens[2]) }
      s.key = zoo.secret(s.from, "key", { value = ("v"):rep(32), derive = false })
      s.source = assert(s.from:endpoint(engine, domain))
      s.target = assert(s.to:endpoint(engine, domain))
      s.sealed = assert(s.source:seal(s.key))
      test(s)
      zoo.close(tokens[1])
      zoo.close(tokens[2])
    end
  end
end

TestForesee.test_changes_are_refused_as_stage_refuses_them = scene(function(s)
  for _, changes in ipairs { { derive = true }, { sensitive = false }, { class = "data" },
    { value_len = 5 }, { label = "other" }, { extractable = false }, { modulus = "none" } } do
    for _, more in ipairs { false, true } do
      local foreseen = answer(s.target:foresee(s.sealed, changes, more))
      local ruled = answer(core.foresee(s.engine, s.sealed, domain, changes, more))
      lu.assertEquals(done(s.target, s.sealed, changes, more), foreseen)
      lu.assertEquals(ruled:find("not kept:") == 1, foreseen:find("not kept:") == 1, foreseen)
    end
  end
end)

TestForesee.test_nothing_is_staged_and_what_is_staged_stays = scene(function(s)
  assert(s.target:stage(s.sealed))
  assert(s.target:foresee(s.sealed))
  lu.assertEquals(s.target:staged(), 1)
  lu.assertEquals(#assert(s.target:commit()), 1)
  assert(s.target:foresee(s.sealed))
  lu.assertEquals(#assert(s.to:find { token = true }), 1)
end)

TestForesee.test_another_domain_and_damage_are_told = scene(function(s)
  local other <close> = assert(s.to:endpoint(s.engine, assert(core.random_domain())))
  assert_refused("KFR_DOMAIN_MISMATCH", other:foresee(s.sealed))
  assert_refused("KFR_DOMAIN_MISMATCH", core.foresee(s.engine, s.sealed, core.random_domain()))
  local bytes = s.sealed:bytes()
  for _, bad in ipairs { bytes:sub(1, 100), bytes:sub(1, -2) .. "x", "" } do
    assert_refused("KFR_DAMAGED", s.target:foresee(core.sealed(bad)))
    assert_refused("KFR_DAMAGED", core.foresee(s.engine, core.sealed(bad), domain))
  end
end)

TestForesee.test_wrong_use_raises = scene(function(s)
  lu.assertErrorMsgContains("there is no engine 'none'", core.foresee, "none", s.sealed, domain)
  lu.assertErrorMsgContains("bad argument", s.target.foresee, s.target, "sealed")
  s.sealed:close()
  lu.assertErrorMsgContains("closed", s.target.foresee, s.target, s.sealed)
  s.target:close()
  lu.assertErrorMsgContains("closed", s.target.foresee, s.target, s.sealed)
end)

-- The history of a key that was made in its token does not survive C_UnwrapKey.
function TestForesee.test_without_a_target_the_rules_of_the_engine_speak()
  local token = zoo.token("source")
  local session = zoo.session(token)
  local key = assert(session:generate { mechanism = "aes_key_gen", value_len = 32, token = true,
    label = "k", sensitive = true, extractable = true })
  local from <close> = assert(session:endpoint("softhsm", domain))
  local sealed = assert(from:seal(key))
  lu.assertEquals(core.foresee("softhsm", sealed, domain), "")
  lu.assertEquals(core.foresee("wrap", sealed, domain),
    "CKA_LOCAL, CKA_ALWAYS_SENSITIVE, CKA_KEY_GEN_MECHANISM")
  zoo.close(token)
end

local TestLies = {}

-- A target of the engine wrap behind the module that lies, and a sealed key.
local function lying(test)
  return function()
    local from = zoo.token("source")
    local key = zoo.secret(zoo.session(from), "key", { value = ("v"):rep(32), derive = false })
    local note = assert(zoo.session(from):create { class = "data", label = "note", token = true,
      private = false, value = "v" })
    local source_end <close> = assert(zoo.session(from):endpoint("wrap", domain))
    local token = liar.fresh():init_token("target")
    local to <close> = assert(zoo.session(token):endpoint("wrap", domain))
    test { to = to, session = token.session, key = assert(source_end:seal(key)),
      note = assert(source_end:seal(note)),
      lie = function(script) token.hsm:lie(script) end }
    zoo.close(from)
    zoo.close(token)
  end
end

TestLies.test_what_a_module_drops_is_foreseen = lying(function(s)
  s.lie("C_UnwrapKey attr-drop CKA_LABEL\nC_CopyObject attr-drop CKA_LABEL\n" ..
    "C_SetAttributeValue * CKR_ATTRIBUTE_READ_ONLY")
  local foreseen = answer(s.to:foresee(s.key))
  lu.assertStrContains(foreseen, "CKA_LABEL")
  lu.assertEquals(done(s.to, s.key), foreseen)
end)

-- (Both ends have proved their mechanism by then.)
TestLies.test_more_rights_and_another_key_are_foreseen = lying(function(s)
  lu.assertEquals(done(s.to, s.key), answer(s.to:foresee(s.key)))
  assert(assert(s.session:find { token = true })[1]:destroy())
  for _, script in ipairs { "C_UnwrapKey attr-set CKA_DERIVE 01\n" ..
    "C_SetAttributeValue * CKR_ATTRIBUTE_READ_ONLY", "C_UnwrapKey ok-but-other" } do
    s.lie(script)
    local foreseen = answer(s.to:foresee(s.key))
    lu.assertStrContains(foreseen, "KFR_DIFFERS")
    s.lie(script)
    lu.assertEquals(done(s.to, s.key), foreseen)
  end
  lu.assertEquals(assert(s.session:find()), {})
end)

TestLies.test_a_refusal_is_told_unless_all_session_objects_are_refused = lying(function(s)
  s.lie("C_CreateObject * CKR_ATTRIBUTE_VALUE_INVALID")
  assert_refused("CKR_ATTRIBUTE_VALUE_INVALID", s.to:foresee(s.note))
end)

TestLies.test_a_token_without_session_objects_is_judged_by_the_rules = lying(function(s)
  s.lie("C_CreateObject * CKR_ATTRIBUTE_VALUE_INVALID\nC_GenerateKey * CKR_TEMPLATE_INCONSISTENT")
  lu.assertEquals(s.to:foresee(s.note), "")
end)

TestLies.test_a_token_with_one_session_only_will_do = lying(function(s)
  s.lie("C_OpenSession * CKR_SESSION_COUNT")
  local foreseen = answer(s.to:foresee(s.key))
  lu.assertEquals(done(s.to, s.key), foreseen)
  lu.assertEquals(#assert(s.session:find { token = true }), 1)
end)

local TestSize = {}

function TestSize.test_of_an_object_is_what_the_token_says()
  local token = liar.fresh():init_token("source")
  local session = zoo.session(token)
  local key = zoo.secret(session, "key", { value = ("v"):rep(32) })
  assert_refused("KFR_NOT_FOUND", key:size())
  token.hsm:lie("C_GetObjectSize size 312")
  lu.assertEquals(key:size(), 312)
  token.hsm:lie("C_GetObjectSize * CKR_FUNCTION_NOT_SUPPORTED")
  assert_refused("KFR_NOT_FOUND", key:size())
  token.hsm:lie("")
  assert(key:destroy())
  assert_refused("KFR_VANISHED", key:size())
  zoo.close(token)
end

-- Room --------------------------------------------------------------------------------------

local TestRoom = {}

-- The room of a plan from one lying HSM to another.
local function room_of(script, options)
  local from, to = liar.fresh():init_token("source"), liar.fresh():init_token("target")
  zoo.secret(zoo.session(from), "key", { value = ("v"):rep(32) })
  assert(zoo.session(from):create { class = "data", label = "note", token = true,
    private = false, value = "v" })
  from.hsm:lie(options and options.source or "C_GetObjectSize size 1000")
  to.hsm:lie(script)
  local report = keyferry.backup { source = from.session, target = zoo.session(to), mode = "add",
    domain = domain, plan = true }
  lu.assertEquals({ report.status, report.planned }, { "success", 2 }, tostring(report.reason))
  zoo.close(from)
  zoo.close(to)
  return report.room
end

function TestRoom.test_is_what_the_objects_need_against_what_the_token_says()
  local room = room_of("C_GetTokenInfo free 2000")
  lu.assertEquals(room, { needs_private = 1000, needs_public = 1000, free_private = 2000,
    free_public = 2000, shared = true, estimated = false, has_target = true, enough = true })
  room = room_of("C_GetTokenInfo free 1999")
  lu.assertFalse(room.enough)
end

function TestRoom.test_is_unknown_where_the_hsm_does_not_say()
  local room = room_of("")
  lu.assertNil(room.enough)
  lu.assertNil(room.free_private)
end

function TestRoom.test_is_estimated_where_the_source_does_not_tell_sizes()
  local room = room_of("C_GetTokenInfo free 100000", { source = "" })
  lu.assertTrue(room.estimated)
  lu.assertTrue(room.enough)
  lu.assertTrue(room.needs_private > 100 and room.needs_public > 100)
end

-- Replacing -----------------------------------------------------------------------------------

local TestReplacing = {}

-- Of two keys and a note, over one key that is like one of them and one that is like none.
local function replaced(engine, extractable)
  local from, to = zoo.token("source"), zoo.token("target")
  local source_session, results = zoo.session(from), {}
  for i, label in ipairs { "one", "two" } do
    zoo.secret(source_session, label, { value = ("%032d"):format(i), id = label,
      extractable = i == 1 or extractable })
  end
  zoo.secret(zoo.session(to), "one", { value = ("%032d"):format(1), id = "one" })
  zoo.secret(zoo.session(to), "two", { value = ("%032d"):format(3), id = "two" })
  local report = keyferry.backup { source = source_session, target = zoo.session(to),
    mode = "replace", domain = domain, plan = true, engine = engine,
    on_result = function(one) results[one.object.label] = one end }
  local removals = {}
  for _, removal in ipairs(report.removals) do
    removals[removal.object.label] = removal.replaced_by or "removed"
  end
  zoo.close(from)
  zoo.close(to)
  return report, results, removals
end

function TestReplacing.test_an_old_object_is_replaced_by_the_same_key_only()
  for _, engine in ipairs{ "softhsm", "wrap" } do
    local report, results, removals = replaced(engine, true)
    lu.assertEquals({ report.status, report.planned, report.to_remove }, { "success", 2, 2 })
    lu.assertEquals(removals, { one = results.one.handle, two = "removed" })
  end
end

function TestReplacing.test_nothing_is_replaced_when_one_cannot_be_cloned()
  local report, results, removals = replaced("wrap", false)
  lu.assertEquals({ report.failed, report.planned, report.to_remove }, { 2, 0, 0 })
  lu.assertEquals(removals, {})
  lu.assertEquals({ results.one.undone, results.one.err.code }, { true, "KFR_REFUSED" })
  lu.assertEquals({ results.two.undone, results.two.err.code }, { nil, "KFR_NOT_CLONABLE" })
end

return { TestAgreement = TestAgreement, TestForesee = TestForesee, TestLies = TestLies,
  TestSize = TestSize, TestRoom = TestRoom, TestReplacing = TestReplacing }
