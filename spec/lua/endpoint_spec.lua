-- SPDX-License-Identifier: MIT
-- Endpoints from Lua: seal, stage, commit, abort; digests; and who keeps whom alive.
local lu = require("luaunit")

local core = require("keyferry.core")
local zoo = require("support.zoo")

local function assert_raises(part, call, ...)
  local ok, message = pcall(call, ...)
  lu.assertFalse(ok, part)
  lu.assertStrContains(tostring(message), part)
end

local function assert_refused(code, value, err)
  lu.assertNil(value)
  lu.assertEquals(err and err.code, code, tostring(err))
  return err
end

local domains = {}

local function domain(text)
  text = text or "endpoint"
  domains[text] = domains[text] or assert(core.domain(core.secret(text)))
  return domains[text]
end

local ENGINES = { "softhsm", "wrap" } -- those that work an end by itself

-- A token with three secrets, "a", "b" and "c", and an endpoint of it.
local function source(engine)
  local token = zoo.token("source")
  local session = zoo.session(token)
  local objects = {}
  for i, label in ipairs { "a", "b", "c" } do
    objects[label] = zoo.secret(session, label, { value = ("0123456789abcde" .. i):rep(2) })
  end
  return { token = token, session = session, objects = objects,
    endpoint = assert(session:endpoint(engine, domain())) }
end

local function target(engine, text)
  local token = zoo.token("target")
  local session = zoo.session(token)
  return { token = token, session = session,
    endpoint = assert(session:endpoint(engine, domain(text))) }
end

local function labels(session)
  local list = {}
  for _, object in ipairs(assert(session:find())) do table.insert(list, object.label) end
  table.sort(list)
  return list
end

local function each_engine(test)
  return function()
    for _, engine in ipairs(ENGINES) do
      local from, to = source(engine), target(engine)
      test(from, to, engine)
      zoo.close(from.token)
      zoo.close(to.token)
    end
  end
end

local function stage(from, to, names, changes)
  for name in names:gmatch(".") do
    local sealed <close> = assert(from.endpoint:seal(from.objects[name]))
    assert(to.endpoint:stage(sealed, changes))
  end
end

local TestEndpoint = {}

TestEndpoint.test_engines_are_the_two_there_are = function()
  lu.assertEquals(ENGINES, { "softhsm", "wrap" })
  for _, engine in ipairs(ENGINES) do
    local to = target(engine)
    lu.assertTrue(assert(to.session:probe(engine)))
    lu.assertEquals(to.endpoint:engine(), engine)
    lu.assertEquals(tostring(to.endpoint), ("endpoint (%s)"):format(engine))
    zoo.close(to.token)
  end
end

-- (wrap keeps it in session objects, which no other program sees.)
TestEndpoint.test_what_is_staged_is_not_in_the_token_until_the_commit = each_engine(
  function(from, to)
    stage(from, to, "ab")
    lu.assertEquals(to.endpoint:staged(), 2)
    lu.assertEquals(#assert(to.session:find { token = true }), 0)
    lu.assertEquals(to.token:files(), {})
    local planted = assert(to.endpoint:commit())
    lu.assertEquals(#planted, 2)
    lu.assertEquals(to.endpoint:staged(), 0)
    lu.assertEquals(labels(to.session), { "a", "b" })
    for i, label in ipairs { "a", "b" } do
      lu.assertEquals(assert(to.session:object(planted[i].handle)).label, label)
    end
  end)

TestEndpoint.test_an_abort_forgets_what_is_staged = each_engine(function(from, to)
  stage(from, to, "abc")
  to.endpoint:abort()
  lu.assertEquals(to.endpoint:staged(), 0)
  lu.assertEquals(assert(to.endpoint:commit()), {})
  stage(from, to, "a")
  to.endpoint:close()
  lu.assertEquals(labels(to.session), {})
  lu.assertEquals(to.token:files(), {})
end)

TestEndpoint.test_commit_removes_what_it_is_told_to = each_engine(function(from, to)
  stage(from, to, "ab")
  assert(to.endpoint:commit())
  stage(from, to, "c")
  assert(to.endpoint:commit { mode = "all", remove = assert(to.session:find()) })
  lu.assertEquals(labels(to.session), { "c" })
  lu.assertEquals(#to.token:files(), 1)
end)

TestEndpoint.test_changes_are_what_the_clone_gets_instead = each_engine(function(from, to)
  stage(from, to, "a", { label = "renamed", id = "new", extractable = false, verify = false })
  local planted = assert(to.endpoint:commit())
  lu.assertNil(planted[1].err and tostring(planted[1].err))
  local clone = assert(to.session:object(planted[1].handle))
  lu.assertEquals({ clone.label, clone.id }, { "renamed", "new" })
  lu.assertFalse(clone:has("extractable") or clone:has("verify"))
  lu.assertTrue(from.objects.a:verify("sha256_hmac", "m", assert(clone:sign("sha256_hmac", "m"))))
end)

TestEndpoint.test_no_change_gives_a_clone_more_rights_than_its_original = each_engine(
  function(from, to, engine)
    local locked = zoo.secret(from.session, "locked", { value = ("l"):rep(32), derive = false,
      decrypt = false, wrap_with_trusted = false, extractable = true })
    local sealed = assert(from.endpoint:seal(locked))
    for name, value in pairs { derive = true, decrypt = true, sensitive = false, private = false,
      value = "another", class = "data", key_type = "aes", value_len = 5,
      always_sensitive = true } do
      local ok, staged, err = pcall(to.endpoint.stage, to.endpoint, sealed, { [name] = value })
      lu.assertTrue(ok, engine .. " " .. name)
      lu.assertNil(staged, engine .. " " .. name)
      lu.assertStrContains(err.what, "CKA_" .. name:upper())
    end
    lu.assertEquals(to.endpoint:staged(), 0)
    lu.assertEquals(to.token:files(), {})
  end)

TestEndpoint.test_more_rights_come_only_when_asked_for_by_name = each_engine(
  function(from, to, engine)
    local locked = zoo.secret(from.session, "locked", { value = ("l"):rep(32), derive = false,
      extractable = engine == "wrap", sensitive = true, verify = false })
    local sealed = assert(from.endpoint:seal(locked))
    local more = { derive = true, extractable = true, sensitive = false, verify = true }
    local err = assert_refused("KFR_REFUSED", to.endpoint:stage(sealed, { derive = true }))
    lu.assertStrContains(err.hint, "more_rights = true")
    assert(to.endpoint:stage(sealed, more, true))
    for name, value in pairs { value = "another", class = "data", key_type = "aes",
      always_sensitive = true, never_extractable = true, ["local"] = true } do
      lu.assertNil(to.endpoint:stage(sealed, { [name] = value }, true), engine .. " " .. name)
    end
    local planted = assert(to.endpoint:commit())
    lu.assertNil(planted[1].err and tostring(planted[1].err))
    local clone = assert(to.session:object(planted[1].handle))
    lu.assertTrue(clone:has("derive") and clone:has("extractable") and clone:has("verify"))
    for _, name in ipairs { "sensitive", "always_sensitive", "never_extractable" } do
      lu.assertFalse(clone:has(name), engine .. " " .. name)
    end
    lu.assertEquals(core.challenge(locked, clone), true)
  end)

-- SoftHSM encrypts what is private: such a change has to change how the values lie there, too.
TestEndpoint.test_a_clone_can_be_made_private_and_with_more_rights_public = each_engine(
  function(from, to, engine)
    local open = zoo.secret(from.session, "open", { value = ("o"):rep(32), private = false })
    local closed = zoo.secret(from.session, "closed", { value = ("c"):rep(32) })
    assert(to.endpoint:stage(assert(from.endpoint:seal(open)), { private = true }))
    assert(to.endpoint:stage(assert(from.endpoint:seal(closed)), { private = false }, true))
    local planted = assert(to.endpoint:commit())
    for i, original in ipairs { open, closed } do
      lu.assertNil(planted[i].err and tostring(planted[i].err))
      local clone = assert(to.session:object(planted[i].handle))
      lu.assertEquals(clone:has("private"), i == 1, engine)
      lu.assertEquals(clone.label, original.label)
      lu.assertEquals(core.challenge(original, clone), true)
    end
  end)

TestEndpoint.test_another_domain_opens_nothing = each_engine(function(from, _, engine)
  local other = target(engine, "another")
  local sealed = assert(from.endpoint:seal(from.objects.a))
  assert_refused("KFR_DOMAIN_MISMATCH", other.endpoint:stage(sealed))
  lu.assertEquals(other.endpoint:staged(), 0)
  lu.assertEquals(other.token:files(), {})
  local bytes = sealed:bytes()
  assert_refused("KFR_DAMAGED",
    other.endpoint:stage(core.sealed(bytes:sub(1, -2) .. string.char(bytes:byte(-1) ~ 1))))
  zoo.close(other.token)
end)

-- Every engine has the same digest for the same key, and another for another.
TestEndpoint.test_digests_tell_keys_apart_and_are_the_same_everywhere = function()
  local from = source("softhsm")
  local wrap = assert(from.session:endpoint("wrap", domain()))
  local seen = {}
  for label, object in pairs(from.objects) do
    local digest = assert(from.endpoint:digest(object))
    lu.assertEquals(#digest, 32)
    lu.assertEquals(digest, assert(wrap:digest(object)), label)
    lu.assertNil(seen[digest])
    seen[digest] = label
  end
  local elsewhere = assert(from.session:endpoint("softhsm", domain("another")))
  lu.assertNil(seen[assert(elsewhere:digest(from.objects.a))])
  zoo.close(from.token)
end

-- The one object too much is in the sentence; the others are as they were.
TestEndpoint.test_an_object_that_is_gone_cannot_be_sealed = each_engine(function(from)
  assert(from.objects.b:destroy())
  local sealed, err = from.endpoint:seal(from.objects.b)
  lu.assertNil(sealed)
  lu.assertTrue(err.code == "KFR_VANISHED" or err.code:find("_HANDLE_INVALID$") ~= nil,
    tostring(err))
  lu.assertNotNil((from.endpoint:seal(from.objects.a)))
end)

TestEndpoint.test_a_session_object_is_no_object_of_the_store = function()
  local from = source("softhsm")
  local passing = assert(from.objects.a:copy { token = false })
  assert_refused("KFR_NOT_CLONABLE", from.endpoint:seal(passing))
  zoo.close(from.token)
end

TestEndpoint.test_misuse_raises = function()
  local from, to = source("wrap"), target("wrap")
  local sealed = assert(from.endpoint:seal(from.objects.a))
  assert_raises("there is no engine 'moon'", from.session.endpoint, from.session, "moon", domain())
  assert_raises("keyferry.domain", from.session.endpoint, from.session, "wrap", "text")
  assert_raises("keyferry.object", from.endpoint.seal, from.endpoint, "a")
  assert_raises("keyferry.sealed", to.endpoint.stage, to.endpoint, sealed:bytes())
  assert_raises("'colour' is not an attribute", to.endpoint.stage, to.endpoint, sealed,
    { colour = "red" })
  assert_raises("invalid option 'some'", to.endpoint.commit, to.endpoint, { mode = "some" })
  assert_raises("keyferry.object", to.endpoint.commit, to.endpoint, { remove = { 5 } })
  assert_raises("keyferry.object", core.challenge, 1, 2)
  lu.assertEquals(to.endpoint:staged(), 0)
  zoo.close(from.token)
  zoo.close(to.token)
end

-- Both tokens have an object with the handle, and it would be the wrong one that goes.
TestEndpoint.test_an_object_of_another_token_is_not_taken = each_engine(function(from, to)
  zoo.secret(to.session, "a", { value = "0123456789abcdef" })
  local text = "the object is not of the endpoint's token"
  local foreign = assert(from.session:find())[1]
  lu.assertEquals(foreign.handle, assert(to.session:find())[1].handle)
  assert_raises(text, to.endpoint.seal, to.endpoint, foreign)
  assert_raises(text, to.endpoint.digest, to.endpoint, foreign)
  assert_raises(text, to.endpoint.commit, to.endpoint, { remove = { foreign } })
  lu.assertEquals(labels(to.session), { "a" })
end)

TestEndpoint.test_options_that_stage_or_close_while_they_are_read_do_no_harm = each_engine(
  function(from, to)
    local sealed = assert(from.endpoint:seal(from.objects.a))
    local options = setmetatable({}, { __index = function()
      for _ = 1, 3 do assert(to.endpoint:stage(sealed)) end
    end })
    lu.assertEquals(#assert(to.endpoint:commit(options)), 6)
    local closing = setmetatable({}, { __index = function() to.endpoint:close() end })
    assert_raises("the endpoint is closed", to.endpoint.commit, to.endpoint, closing)
  end)

-- Closing ---------------------------------------------------------------------------------------

local TestClosing = {}

TestClosing.test_closed_for_all_uses = each_engine(function(from, to)
  local sealed = assert(from.endpoint:seal(from.objects.a))
  from.endpoint:close()
  from.endpoint:close()
  lu.assertEquals(tostring(from.endpoint), "endpoint (closed)")
  assert_raises("the endpoint is closed", from.endpoint.seal, from.endpoint, from.objects.a)
  assert_raises("the endpoint is closed", from.endpoint.commit, from.endpoint)
  to.session:close()
  assert_raises("the session of the endpoint is closed", to.endpoint.stage, to.endpoint, sealed)
  assert_raises("the session of the endpoint is closed", to.endpoint.staged, to.endpoint)
  to.endpoint:close()
end)

TestClosing.test_an_endpoint_keeps_what_it_needs = each_engine(function(_, to, engine)
  local made = assert(core.domain(core.secret("endpoint")))
  local endpoint = assert(to.session:endpoint(engine, made))
  made = nil
  collectgarbage()
  collectgarbage()
  lu.assertNil(made)
  lu.assertEquals(endpoint:staged(), 0)
end)

TestClosing.test_a_domain_that_is_closed_is_still_good_for_its_endpoint = each_engine(
  function(from, to, engine)
    local made = assert(core.domain(core.secret("endpoint")))
    local endpoint = assert(to.session:endpoint(engine, made))
    made:close()
    assert(endpoint:stage((assert(from.endpoint:seal(from.objects.a)))))
    lu.assertNil(assert(endpoint:commit())[1].err)
    lu.assertEquals(labels(to.session), { "a" })
  end)

-- The wrap engine's own key in the session is never among what is found, and goes with it.
TestClosing.test_nothing_of_an_endpoint_is_left_in_the_token = each_engine(function(from)
  local before = from.token:contents()
  assert(from.endpoint:seal(from.objects.a))
  lu.assertEquals(labels(from.session), { "a", "b", "c" })
  from.endpoint:close()
  lu.assertEquals(labels(from.session), { "a", "b", "c" })
  lu.assertEquals(from.token:contents(), before)
end)

return { TestEndpoint = TestEndpoint, TestClosing = TestClosing }
