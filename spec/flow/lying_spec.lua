-- SPDX-License-Identifier: MIT
-- partition backup: modules that lie (support/liar.c). Whatever they answer, no run ends in
-- success that has not made a good backup, and nothing wrong stays on the target.
local lu = require("luaunit")

local scene = require("flow.scene")

local function words(done)
  return ("status %s, signal %s\n%s%s"):format(done.status, done.signal, done.out, done.err)
end

-- The form of commands.md.
local function assert_clear(done, status, names)
  local all = words(done)
  lu.assertEquals(done.status, status, all)
  local line, advice = done.err:match("error: ([^\n]+)\n  (%S[^\n]+)\n")
  lu.assertTrue(line ~= nil and advice ~= nil, all)
  for _, name in ipairs(names) do lu.assertTrue(line:find(name, 1, true) ~= nil, all) end
  for _, never in ipairs { "traceback", "/lua/keyferry/", scene.password, scene.tokenpw } do
    lu.assertTrue((done.out .. done.err):find(never, 1, true) == nil, all)
  end
end

-- Every "open N" that is there has the key bytes of its number; gives how many.
local function assert_true_keys(token)
  local n = 0
  for _, object in pairs(token:objects()) do
    local i = object[scene.CKA_LABEL] and object[scene.CKA_LABEL].value:match("^open (%d)$")
    if i then
      n = n + 1
      lu.assertEquals(object[scene.CKA_VALUE].value, ("%032d"):format(i))
    end
  end
  return n
end

-- What differs since. A clone that was made and taken away again counts in `generation`, which
-- is no object.
local function changes(s, before, name)
  local list = {}
  for _, line in ipairs(s:changes(before, name)) do
    if not line:find("/generation: 8 bytes", 1, true) then table.insert(list, line) end
  end
  return list
end

local function backup(s, name, script, how)
  local hsm, globals = s:lying(name, script)
  how.globals = globals
  return s:backup(how), hsm
end

local TestSearch = {}

function TestSearch.test_a_search_that_never_ends_is_ended()
  local s = scene.new()
  local before = s:snapshot()
  local done = backup(s, "prod", "C_FindObjects loop", { timeout = 20 })
  assert_clear(done, 7, { "C_FindObjects" })
  lu.assertEquals(changes(s, before), {})
end

-- Never a shorter list that looks like all of it.
function TestSearch.test_a_search_that_fails_midway_is_no_shorter_list()
  for n = 0, 4, 4 do
    local s = scene.new("backed")
    local before = s:snapshot()
    for _, mode in ipairs { "-add", "-replace" } do
      local done = backup(s, "prod", ("C_FindObjects fail-after %d CKR_DEVICE_ERROR"):format(n),
        { mode, "-force" })
      assert_clear(done, 7, { "CKR_DEVICE_ERROR (0x30), in C_FindObjects" })
      lu.assertEquals(changes(s, before), {}, mode)
      done = backup(s, "vault", ("C_FindObjects fail-after %d CKR_DEVICE_ERROR"):format(n),
        { mode, "-force" })
      assert_clear(done, 7, { "CKR_DEVICE_ERROR (0x30), in C_FindObjects" })
      lu.assertEquals(changes(s, before), {}, mode)
    end
  end
end

function TestSearch.test_no_listing_of_the_commands_is_shorter_either()
  local s = scene.new()
  local _, globals = s:lying("prod", "C_FindObjects fail-after 3 CKR_DEVICE_ERROR")
  local done = s:run { globals[1], globals[2], "partition", "contents", "-partition", "payments",
    env = scene.secrets() }
  lu.assertEquals(done.status, 7, words(done))
  lu.assertStrContains(done.err, "CKR_DEVICE_ERROR (0x30), in C_FindObjects")
end

local TestAttributes = {}

-- A length larger than any object, larger than the room given, or "unavailable" where there is
-- one: never believed, never copied, and the object is not called cloned with another.
function TestAttributes.test_lying_lengths_make_no_false_clone()
  for _, lie in ipairs { "CKA_LABEL 4294967295", "CKA_CLASS 1",
    "CKA_EXTRACTABLE 8", "CKA_LABEL -1" } do
    for _, engine in ipairs { "softhsm", "wrap" } do
      local s = scene.new("open")
      local before = s:snapshot()
      local done = backup(s, "prod", "C_GetAttributeValue len " .. lie,
        { "-add", "-engine", engine, "-match", "open*", timeout = 30 })
      local where = lie .. " " .. engine .. "\n" .. words(done)
      lu.assertTrue(done.status ~= nil and done.status < 8, where)
      lu.assertEquals(changes(s, before, "prod"), {}, where)
      lu.assertEquals(assert_true_keys(s:target()), scene.counts(done.out).cloned, where)
      if done.status == 0 then lu.assertEquals(scene.counts(done.out).cloned, 4, where) end
    end
  end
end

function TestAttributes.test_a_target_that_lies_about_what_it_holds_gets_no_false_success()
  local s = scene.new("open")
  for _, lie in ipairs { "value CKA_EXTRACTABLE 01", "value CKA_SENSITIVE 00",
    "value CKA_KEY_TYPE 1f00000000000000", "len CKA_CLASS -1",
    "refuse CKA_CLASS CKR_DEVICE_ERROR" } do
    local before = s:snapshot()
    local done = backup(s, "vault", "C_GetAttributeValue " .. lie, { "-replace", "-force",
      "-engine", "wrap", "-match", "note", timeout = 30 })
    lu.assertTrue(done.status ~= nil and done.status < 8, lie .. words(done))
    if done.status ~= 0 then lu.assertEquals(changes(s, before), {}, lie .. words(done)) end
  end
end

local TestToken = {}

function TestToken.test_garbage_for_a_label_or_serial_is_harmless()
  local s = scene.new()
  local _, globals = s:lying("prod", "C_GetTokenInfo label pay\27[2J\255ments")
  local done = s:backup { globals = globals }
  assert_clear(done, 6, { "payments" })
  lu.assertNotStrContains(done.out .. done.err, "\27")
  _, globals = s:lying("prod", "C_GetTokenInfo serial \27[31m\255")
  done = s:run { globals[1], globals[2], "--json", "partition", "list" }
  lu.assertNotStrContains(done.out .. done.err, "\27")
  lu.assertTrue(utf8.len(done.out) ~= nil, done.out)
end

function TestToken.test_token_information_that_is_refused()
  local s = scene.new()
  local before = s:snapshot()
  local done = backup(s, "prod", "C_GetTokenInfo * CKR_DEVICE_ERROR", {})
  assert_clear(done, 7, { "CKR_DEVICE_ERROR (0x30), in C_GetTokenInfo" })
  lu.assertEquals(changes(s, before), {})
end

local NEEDED = { "C_GetSlotList", "C_GetTokenInfo", "C_OpenSession", "C_Login",
  "C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal" }

-- A function that the list has no pointer for is one that is not supported.
function TestToken.test_null_functions_are_named()
  for _, name in ipairs { "prod", "vault" } do
    local s = scene.new("backed")
    local before = s:snapshot()
    for _, missing in ipairs(NEEDED) do
      local done = backup(s, name, "null " .. missing, { "-add" })
      assert_clear(done, 7, { "CKR_FUNCTION_NOT_SUPPORTED (0x54), in " .. missing })
      lu.assertEquals(changes(s, before), {}, name .. missing)
    end
  end
end

function TestToken.test_functions_that_only_some_need_may_be_null()
  local s = scene.new()
  local done = backup(s, "prod", "null C_GetMechanismInfo\n"
    .. "null C_DigestKey\nnull C_Logout\nnull C_CloseSession\nnull C_WaitForSlotEvent", {})
  lu.assertEquals(done.status, 0, words(done))
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
end

-- Objects that nobody can read are no objects that nobody wants: they fail, also where a
-- pattern chooses, and are never taken for objects that the target lacks.
function TestToken.test_objects_that_cannot_be_read_fail()
  for name, engine in pairs { prod = "softhsm", vault = "wrap" } do
    local s = scene.new("backed")
    local before = s:snapshot()
    for _, lie in ipairs { "null C_GetAttributeValue",
      "C_GetAttributeValue after 10 CKR_DEVICE_REMOVED" } do
      local done = backup(s, name, lie, { "-add", "-match", "note", "-engine", engine })
      lu.assertTrue(done.status == 1 or done.status == 7, lie .. words(done))
      lu.assertEquals(scene.counts(done.out).cloned, 0, words(done))
      lu.assertEquals(changes(s, before), {}, words(done))
    end
  end
end

local TestSession = {}

function TestSession.test_a_session_that_is_not_to_be_had()
  for _, code in ipairs { "CKR_SESSION_COUNT (0xB1)", "CKR_TOKEN_NOT_PRESENT (0xE0)",
    "CKR_DEVICE_REMOVED (0x32)" } do
    for _, name in ipairs { "prod", "vault" } do
      local s = scene.new("backed")
      local before = s:snapshot()
      local done = backup(s, name, "C_OpenSession * " .. code:match("%S+"), { "-add" })
      assert_clear(done, 7, { code .. ", in C_OpenSession" })
      lu.assertEquals(changes(s, before), {})
    end
  end
end

function TestSession.test_pins_that_are_locked_or_expired_are_status_3()
  for _, code in ipairs { "CKR_PIN_LOCKED (0xA4)", "CKR_PIN_EXPIRED (0xA3)",
    "CKR_USER_PIN_NOT_INITIALIZED (0x102)" } do
    for _, name in ipairs { "prod", "vault" } do
      local s = scene.new("backed")
      local before = s:snapshot()
      local done = backup(s, name, "C_Login * " .. code:match("%S+"), { "-add" })
      assert_clear(done, 3, { code .. ", in C_Login", name == "prod" and "payments" or "backup" })
      lu.assertEquals(changes(s, before), {})
    end
  end
end

-- The plug is pulled after N calls: whatever was said to be cloned is there and true, the
-- source is untouched, and a replacement is all or nothing.
function TestSession.test_a_device_that_goes_away_in_the_middle()
  for _, case in ipairs { { "prod", "-add", "wrap" }, { "prod", "-replace", "softhsm" },
    { "vault", "-add", "wrap" }, { "vault", "-replace", "wrap" } } do
    local name, mode, engine = table.unpack(case)
    local s = scene.new("open")
    local before = s:snapshot()
    local hsm, globals = s:lying(name, "call-log %LOG%")
    -- As many calls as there are before the target is asked to make something.
    local plan = name == "prod" and { mode, "-match", "open*" } or { "-add", "-match", "none" }
    lu.assertEquals(s:backup { "-force", "-plan", "-engine", engine, globals = globals,
      table.unpack(plan) }.status, 0)
    local calls = #hsm:calls()
    for _, after in ipairs { calls - 20, calls + 10 } do
      local done = backup(s, name, ("* after %d CKR_DEVICE_REMOVED"):format(after), { mode,
        "-force", "-engine", engine, "-match", "open*", timeout = 30 })
      local where = ("%s %s %s after %d: %s"):format(name, mode, engine, after, words(done))
      lu.assertTrue(done.status ~= nil and done.status < 8, where)
      lu.assertEquals(changes(s, before, "prod"), {}, where)
      local there = assert_true_keys(s:target())
      if done.status ~= 0 and mode == "-replace" then
        lu.assertEquals(changes(s, before), {}, where)
      elseif done.status ~= 0 then
        lu.assertTrue(there >= scene.counts(done.out).cloned, where)
      else
        lu.assertEquals(there, 4, where)
        break
      end
    end
  end
end

local TestWrap = {}

-- What comes out of C_WrapKey is authenticated: rubbish is found before anything is made.
function TestWrap.test_a_wrapped_key_that_is_rubbish()
  local s = scene.new("open")
  local before = s:snapshot()
  local done = backup(s, "prod", "C_WrapKey flip", { "-add", "-engine", "wrap", "-match", "open*" })
  lu.assertTrue(done.status == 1 or done.status == 7, words(done))
  lu.assertEquals(scene.counts(done.out).cloned, 0)
  lu.assertEquals(changes(s, before, "prod"), {})
  lu.assertEquals(assert_true_keys(s:target()), 0)
end

-- OK, and another key was stored: found by reading back or by use, and undone. (A module that
-- lies from its first call on is not used that way at all: the one honest call is the proof.)
function TestWrap.test_a_key_that_is_another_one_is_undone()
  for _, mode in ipairs { "-add", "-replace" } do
    local s = scene.new("open")
    local before = s:snapshot()
    local done = backup(s, "vault", "C_UnwrapKey ok-but-other-after 1", { mode, "-force", "-engine",
      "wrap", "-match", "open*" })
    lu.assertTrue(done.status == 1 or done.status == 7, words(done))
    lu.assertEquals(scene.counts(done.out).cloned, 0, words(done))
    lu.assertEquals(changes(s, before), {}, words(done))
  end
end

-- One that never unwraps what it is given: its keys go in by their attributes, and are right.
function TestWrap.test_a_module_that_always_lies_is_found_out_before()
  local s = scene.new("open")
  local done = backup(s, "vault", "C_UnwrapKey ok-but-other", { "-add", "-verify", "-engine",
    "wrap", "-match", "open*" })
  lu.assertEquals(done.status, 0, words(done))
  for i = 1, 4 do
    lu.assertEquals(s:target():labelled("open " .. i)[1][scene.CKA_VALUE].value,
      ("%032d"):format(i))
  end
end

-- Where the module gives no digest, either, a check value or the use of the key must tell.
function TestWrap.test_also_when_the_module_gives_no_digest()
  local s = scene.new("open")
  local before = s:snapshot()
  local done = backup(s, "vault", "C_UnwrapKey ok-but-other-after 1\nnull C_DigestKey", { "-add",
    "-verify", "-engine", "wrap", "-match", "open*" })
  lu.assertTrue(done.status == 1 or done.status == 7, words(done))
  lu.assertEquals(scene.counts(done.out).cloned, 0, words(done))
  lu.assertEquals(changes(s, before), {}, words(done))
end

-- A private key that is another one.
function TestWrap.test_a_private_key_that_is_another_one_is_undone()
  local s = scene.new("backed")
  s:inside("payments", [[
    for i = 1, 2 do
      assert(session:generate_pair{ mechanism = "ec_key_pair_gen",
        public = { label = "pair " .. i, id = string.pack(">I2", 90 + i), token = true,
          verify = true, ec_params = "\6\8\42\134\72\206\61\3\1\7" },
        private = { label = "pair " .. i, id = string.pack(">I2", 90 + i), sign = true,
          token = true, private = true, sensitive = true, extractable = true } })
    end]])
  local before = s:snapshot()
  local done = backup(s, "vault", "C_UnwrapKey ok-but-other-after 1", { "-add", "-engine", "wrap",
    "-class", "private_key", "-match", "pair*" })
  lu.assertTrue(done.status == 1 or done.status == 7, words(done))
  for i = 1, 2 do
    local original = s:source():labelled("pair " .. i)
    for _, clone in ipairs(s:target():labelled("pair " .. i)) do
      local same = false
      for _, object in ipairs(original) do
        same = same or object[0].value == clone[0].value
          and object[scene.CKA_VALUE].value == clone[scene.CKA_VALUE].value
      end
      lu.assertTrue(same, "pair " .. i .. " is another key: " .. words(done))
    end
  end
  lu.assertEquals(changes(s, before, "prod"), {})
end

local CKA_SENSITIVE, CKA_SIGN, CKA_EXTRACTABLE = 0x103, 0x108, 0x162
local KEPT = { CKA_SENSITIVE = CKA_SENSITIVE, CKA_SIGN = CKA_SIGN, CKA_ID = scene.CKA_ID,
  CKA_EXTRACTABLE = CKA_EXTRACTABLE, CKA_LABEL = scene.CKA_LABEL }

-- What is stored without being said: put right, or told as not kept, or the clone is undone.
function TestWrap.test_an_attribute_that_was_dropped_or_changed_is_not_passed_over()
  local s = scene.new("open")
  local originals = {}
  for i = 1, 4 do originals[i] = s:source():labelled("open " .. i)[1] end
  for _, lie in ipairs { "C_CopyObject attr-set CKA_EXTRACTABLE 01",
    "C_UnwrapKey attr-set CKA_SENSITIVE 00", "C_UnwrapKey attr-set CKA_LABEL 6c6965",
    "C_UnwrapKey attr-drop CKA_ID", "C_UnwrapKey attr-drop CKA_SIGN",
    "C_CopyObject attr-set CKA_SIGN 00" } do
    local done = backup(s, "vault", lie, { "-replace", "-force", "-engine", "wrap", "-match",
      "open*" })
    local name = lie:match("CKA_%w+")
    local told = done.out:find("not kept: [^\n]*" .. name) ~= nil
    if done.status == 0 then
      local values = {}
      for _, object in pairs(s:target():objects()) do
        values[object[scene.CKA_VALUE].value] = object[KEPT[name]].value
      end
      for i = 1, 4 do
        local kept = values[originals[i][scene.CKA_VALUE].value] == originals[i][KEPT[name]].value
        lu.assertTrue(kept or told and name ~= "CKA_EXTRACTABLE" and name ~= "CKA_SENSITIVE",
          lie .. "\n" .. words(done))
      end
    else
      lu.assertNotStrContains(done.out, "cloned to handle")
    end
  end
end

local TestCopy = {}

-- The clones go in by C_CopyObject one after the other; the third does not.
function TestCopy.test_replace_is_all_or_nothing()
  local s = scene.new("open")
  local before = s:snapshot()
  for _, lie in ipairs {
    "C_CopyObject after 2 CKR_DEVICE_MEMORY\nC_UnwrapKey after 5 CKR_DEVICE_MEMORY",
    "C_CopyObject 3 did CKR_DEVICE_ERROR\nC_UnwrapKey after 5 CKR_DEVICE_ERROR" } do
    local done = backup(s, "vault", lie, { "-replace", "-force", "-engine", "wrap", "-match",
      "open*" })
    lu.assertNotEquals(done.status, 0, words(done))
    lu.assertNotStrContains(done.out, "cloned to handle")
    lu.assertEquals(changes(s, before), {}, words(done))
  end
end

function TestCopy.test_add_keeps_what_it_says_and_nothing_else()
  local s = scene.new("open")
  local done = backup(s, "vault", "C_CopyObject 3 CKR_DEVICE_MEMORY\n"
    .. "C_UnwrapKey after 4 CKR_DEVICE_MEMORY", { "-add", "-engine", "wrap", "-match", "open*" })
  lu.assertEquals(done.status, 1, words(done))
  lu.assertEquals(assert_true_keys(s:target()), scene.counts(done.out).cloned, words(done))
  lu.assertTrue(scene.counts(done.out).cloned > 0, words(done))
  done = s:backup { "-add", "-engine", "wrap", "-match", "open*" }
  lu.assertEquals(done.status, 0, words(done))
  lu.assertEquals(assert_true_keys(s:target()), 4)
end

return {
  TestSearch = TestSearch,
  TestAttributes = TestAttributes,
  TestToken = TestToken,
  TestSession = TestSession,
  TestWrap = TestWrap,
  TestCopy = TestCopy,
}
