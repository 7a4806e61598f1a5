-- SPDX-License-Identifier: MIT
-- Modules that lie, one answer at a time (support/liar.c): every command that meets the lie ends
-- with a sentence, none crashes or waits for ever, and nothing is called cloned that is not.
local lu = require("luaunit")

local core = require("keyferry.core")
local liar = require("support.liar")
local lies = require("support.lies")
local scene = require("flow.scene")

-- Answers about the module, its slots and tokens.
local PLACES = {
  "C_GetInfo fill 255", "C_GetSlotInfo fill 255", "C_GetSlotInfo fill 0",
  "C_GetTokenInfo fill 255\nC_GetTokenInfo label payments", "C_GetTokenInfo fill 0",
  "C_GetTokenInfo pad 0", "C_GetTokenInfo pad 255", "C_GetTokenInfo pin -1 0",
  "C_GetTokenInfo pin 200 3", "C_GetSlotList more 100000", "C_GetSlotList more 60000",
  "C_GetSlotList grow", "C_GetSlotList says -1", "C_GetSlotList says 0",
  "C_GetSlotList says 1000", "list CKR_OK", "list CKR_GENERAL_ERROR", "list-version 0x0100",
  "list-version 0xFFFF", "list-version 0x0300",
}

local MECHANISMS = {
  "C_GetMechanismList says -1", "C_GetMechanismList says 0", "C_GetMechanismList says 7",
  "C_GetMechanismList grow", "C_GetMechanismList add 0x210B",
  "C_GetMechanismList add 0x210B\nC_WrapKey mechanism 0x210B CKM_AES_KEY_WRAP",
  "C_GetMechanismList drop CKM_AES_KEY_WRAP_PAD", "C_GetMechanismInfo fill 0",
  "C_GetMechanismInfo fill 255",
}

local SESSIONS = {
  "C_OpenSession handle 0", "C_OpenSession handle 7", "C_OpenSession * CKR_OK",
  "C_GetSessionInfo fill 0", "C_GetSessionInfo fill 255", "C_Login * CKR_OK",
  "C_Logout * CKR_OK", "C_CloseSession * CKR_OK", "C_Finalize * CKR_OK",
  "* after 40 CKR_SESSION_HANDLE_INVALID", "* after 90 CKR_SESSION_HANDLE_INVALID",
}

local OBJECTS = {
  "C_FindObjects twice", "C_FindObjects also 1 0", "C_FindObjects also 1 12345",
  "C_FindObjects endless", "C_FindObjects loop", "C_FindObjects says -1",
  "C_FindObjects says 2000", "C_FindObjectsInit * CKR_OK",
  "C_FindObjectsFinal * CKR_OK", "C_GetAttributeValue own CKA_LABEL",
  "C_GetAttributeValue own CKA_CLASS", "C_GetAttributeValue own CKA_ID",
  "C_GetAttributeValue own CKA_DERIVE", "C_GetAttributeValue * CKR_OK",
  "C_GetAttributeValue len CKA_CLASS 0", "C_GetAttributeValue len CKA_LABEL -1",
  "C_GetAttributeValue len CKA_LABEL 70000", "C_GetAttributeValue len CKA_ID 9000000000",
  "C_GetAttributeValue len CKA_KEY_TYPE 4", "C_GetAttributeValue len CKA_SENSITIVE 3",
  "C_GetAttributeValue len CKA_ALLOWED_MECHANISMS 7",
  "C_GetAttributeValue after 5 CKR_OBJECT_HANDLE_INVALID",
  "C_GetAttributeValue after 12 CKR_OBJECT_HANDLE_INVALID",
  "C_GetObjectSize says -1", "C_GetObjectSize size -1", "* after 60 CKR_OBJECT_HANDLE_INVALID",
}
for n = 40, 90, 5 do table.insert(OBJECTS, ("* rotate %d"):format(n)) end

local MAKING = {
  "C_CreateObject * CKR_OK", "C_CreateObject handle 0", "C_CreateObject handle 2",
  "C_CreateObject handle 9999", "C_CopyObject * CKR_OK", "C_CopyObject handle 0",
  "C_CopyObject handle 3", "C_CopyObject handle 9999", "C_UnwrapKey * CKR_OK",
  "C_UnwrapKey handle 0", "C_UnwrapKey handle 3", "C_UnwrapKey handle 9999",
  "C_GenerateKey * CKR_OK", "C_GenerateKey handle 0", "C_GenerateKey handle 3",
  "C_GenerateKey handle 9999", "C_DestroyObject * CKR_OK", "C_SetAttributeValue * CKR_OK",
  "C_CopyObject * CKR_OK\nC_UnwrapKey after 6 CKR_DEVICE_ERROR",
}

local BYTES = {}
for _, name in ipairs { "C_WrapKey", "C_Encrypt", "C_Decrypt", "C_Sign", "C_Digest",
  "C_SignFinal", "C_DigestFinal" } do
  for _, lie in ipairs { "says -1", "says 0", "says 7", "says 9000000000", "fill 0", "flip",
    "* CKR_OK" } do
    table.insert(BYTES, name .. " " .. lie)
  end
end
for _, name in ipairs { "C_SignInit", "C_VerifyInit", "C_EncryptInit", "C_DecryptInit",
  "C_DigestInit", "C_SignUpdate", "C_DigestUpdate", "C_DigestKey", "C_Verify",
  "C_GenerateRandom" } do
  table.insert(BYTES, name .. " * CKR_OK")
end
table.insert(BYTES, "C_GenerateRandom fill 0")
table.insert(BYTES, "C_Verify * CKR_SIGNATURE_INVALID")

-- Every function of PKCS#11 2.40, each missing from the list.
local FUNCTIONS = {}
for name in ([[Initialize Finalize GetInfo GetSlotList GetSlotInfo GetTokenInfo GetMechanismList
  GetMechanismInfo InitToken InitPIN SetPIN OpenSession CloseSession CloseAllSessions
  GetSessionInfo GetOperationState SetOperationState Login Logout CreateObject CopyObject
  DestroyObject GetObjectSize GetAttributeValue SetAttributeValue FindObjectsInit FindObjects
  FindObjectsFinal EncryptInit Encrypt EncryptUpdate EncryptFinal DecryptInit Decrypt
  DecryptUpdate DecryptFinal DigestInit Digest DigestUpdate DigestKey DigestFinal SignInit Sign
  SignUpdate SignFinal SignRecoverInit SignRecover VerifyInit Verify VerifyUpdate VerifyFinal
  VerifyRecoverInit VerifyRecover DigestEncryptUpdate DecryptDigestUpdate SignEncryptUpdate
  DecryptVerifyUpdate GenerateKey GenerateKeyPair WrapKey UnwrapKey DeriveKey SeedRandom
  GenerateRandom GetFunctionStatus CancelFunction WaitForSlotEvent]]):gmatch("%a+") do
  table.insert(FUNCTIONS, "null C_" .. name)
end

local function tells_of_rests(told)
  for _, words in ipairs { "left behind", "COULD NOT BE REMOVED", "is still there" } do
    if told.reason:find(words, 1, true) then return true end
  end
  return false
end

-- A report that says more or less than is there, or a loss that nobody tells of.
local function wrong(told)
  local all = ("%s: %s, %d cloned; %d good and %d bad clones are there; %s (%s)"):format(told.lie,
    told.status, told.cloned, told.good, told.bad, told.problem, told.reason)
  local honest = told.problem == "" or tells_of_rests(told)
  if told.bad > 0 or told.cloned ~= told.good or not honest
    or told.status == "success" and (told.good ~= 4 or told.problem ~= "")
    or told.status ~= "success" and (told.reason == "nil" or told.reason == "") then
    return all
  end
end

local function assert_honest(list, options)
  local found = {}
  for _, who in ipairs { "prod", "vault" } do
    for _, told in ipairs(lies.tell(scene.new("open"), who, list, options)) do
      local text = wrong(told)
      if text then table.insert(found, who .. ": " .. text) end
    end
  end
  lu.assertEquals(table.concat(found, "\n"), "")
end

local TestBackup = {}

function TestBackup.test_of_lies_about_places()
  assert_honest(PLACES)
end

function TestBackup.test_of_lies_about_mechanisms()
  assert_honest(MECHANISMS)
end

function TestBackup.test_of_lies_about_sessions()
  assert_honest(SESSIONS)
end

function TestBackup.test_of_lies_about_objects()
  assert_honest(OBJECTS)
end

function TestBackup.test_of_lies_about_what_was_made()
  assert_honest(MAKING)
end

-- With a challenge, which asks for most of these.
function TestBackup.test_of_lies_about_bytes()
  assert_honest(BYTES, { verify = true })
end

function TestBackup.test_of_functions_that_are_missing()
  assert_honest(FUNCTIONS, { verify = true })
end

local TestReplace = {}

function TestReplace.test_is_all_or_nothing_whatever_the_target_says()
  local list = {}
  for _, some in ipairs { MAKING, OBJECTS } do table.move(some, 1, #some, #list + 1, list) end
  local found = {}
  for _, told in ipairs(lies.tell(scene.new("open"), "vault", list, { mode = "replace" })) do
    local complete = told.good == 4 and told.bad == 0
    local told_all = told.problem == "" or tells_of_rests(told)
    if told.status == "success" and not (complete and told.problem == "target has others")
      or told.status ~= "success" and not told_all then
      table.insert(found, ("%s: %s, %d good, %d bad, %s (%s)"):format(told.lie, told.status,
        told.good, told.bad, told.problem, told.reason))
    end
  end
  lu.assertEquals(table.concat(found, "\n"), "")
end

local TestCommands = {}

-- A command that fails has a sentence and an advice (commands.md), never a crash; gives what is
-- wrong with the answer, or nil.
local function unclear(done, command)
  local all = done.out .. done.err
  if not done.status or done.status > 7 then return "no status of ours" end
  if all:find("traceback", 1, true) or all:find("/lua/keyferry/", 1, true) then
    return "traceback"
  end
  if all:find("[\1-\8\11-\31]") then return "controls" end
  local findings = command:find("^hsm check") and done.out:find("WHAT +WORKS +WHY\n%S")
  if done.status ~= 0 and not done.err:find("error: [^\n]+") and not done.err:find("warning: ")
    and not findings then
    return "no sentence"
  end
end

local function assert_clear(name, list, commands)
  local s, found = scene.new("backed"), {}
  local before = s:snapshot()
  local hsm, globals = s:lying(name, "")
  for _, lie in ipairs(list) do
    hsm:lie(lie)
    for _, command in ipairs(commands) do
      local words = { globals[1], globals[2], timeout = 20, env = scene.secrets { "DOMAIN" } }
      for word in command:gsub("~", s.home):gmatch("%S+") do table.insert(words, word) end
      local done = s:run(words)
      local text = unclear(done, command)
      if text then
        table.insert(found, ("%s: %s: %s: status %s, signal %s\n%s%s"):format(lie, command, text,
          done.status, done.signal, done.out, done.err))
      end
    end
  end
  lu.assertEquals(table.concat(found, "\n"), "")
  hsm:lie("")
  lu.assertEquals(s:changes(before), {})
end

function TestCommands.test_that_show_places_end_with_a_sentence()
  assert_clear("prod", PLACES, { "hsm list", "hsm show -name prod", "partition list",
    "partition show -partition payments" })
end

function TestCommands.test_hsm_check_ends_with_a_sentence()
  local few = { "C_GetSlotList says -1", "C_GetMechanismList says -1", "C_OpenSession handle 0",
    "C_WrapKey says -1", "C_CreateObject handle 0", "* after 90 CKR_SESSION_HANDLE_INVALID" }
  assert_clear("prod", few, { "hsm check -name prod -partition payments -login" })
end

function TestCommands.test_that_show_objects_end_with_a_sentence()
  for _, list in ipairs { PLACES, SESSIONS, OBJECTS } do
    assert_clear("prod", list, { "partition contents -partition payments" })
  end
end

function TestCommands.test_verify_and_send_end_with_a_sentence()
  local list = {}
  for i = 1, #OBJECTS, 2 do table.insert(list, OBJECTS[i]) end
  for i = 1, #SESSIONS, 2 do table.insert(list, SESSIONS[i]) end
  assert_clear("prod", list, {
    "partition send -partition payments -file ~/stream -force",
    "partition verify -partition payments -tokenpar backup -serial 496771 -challenge" })
  assert_clear("vault", list, {
    "partition verify -partition payments -tokenpar backup -serial 496771 -challenge" })
end

local TestSession = {}

-- Two partitions of a module that gives the same handle twice: what was asked about the one would
-- be answered about the other.
function TestSession.test_a_handle_that_is_given_twice_is_refused()
  local hsm = liar.fresh("C_OpenSession handle 7")
  hsm:init_token("one")
  hsm:init_token("two")
  local module <close> = assert(core.module(hsm.module, { private_copy = true, env = hsm.env }))
  local slots = assert(module:slots())
  local first = assert(module:session(slots[1].slot))
  local second, err = module:session(slots[2].slot)
  lu.assertNil(second)
  lu.assertEquals(err.code, "KFR_MODULE")
  lu.assertStrContains(err.what, "has the handle of another that is open")
  first:close()
  local again <close> = assert(module:session(slots[2].slot))
  lu.assertEquals(again:token().label, slots[2].label)
end

return { TestBackup = TestBackup, TestReplace = TestReplace, TestCommands = TestCommands,
  TestSession = TestSession }
