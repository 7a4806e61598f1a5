-- SPDX-License-Identifier: MIT
-- The stand-in for a network HSM is as strict as the documentation: every point in which
-- it would flatter who uses it wrongly.
local lu = require("luaunit")
local build = require("support.build")
local drive = require("support.drive")
local luna = require("support.luna")
local process = require("support.process")
local shell = require("support.shell")
local tmp = require("support.tmp")

local OK = "0x0"
local CKA_LABEL, CKA_VALUE, CKA_OUID = "0x3", "0x11", "0x80000005"

-- Two partitions, a (slot 0) and b (slot 1), of one domain unless told otherwise.
local function pair(options)
  local hsm = luna.fresh()
  local a = hsm:partition("payments", options and options.a)
  local b = hsm:partition("backup", options and options.b)
  return hsm, a, b
end

local LOGIN = { "open a 0 rw", "open b 1 rw", "login a user 1234", "login b user 1234" }

-- The answers to `lines`, with sessions a and b open and logged in.
local function both(hsm, lines)
  local all = table.move(LOGIN, 1, #LOGIN, 1, {})
  local list = drive.run(hsm, table.move(lines, 1, #lines, #all + 1, all))
  lu.assertEquals({ table.unpack(list, 1, #LOGIN) }, { OK, OK, OK, OK })
  return { table.unpack(list, #LOGIN + 1) }
end

local function hex(text)
  return shell.hex(text)
end

local TestModule = {}

function TestModule.test_it_exports_the_function_list_and_the_one_call()
  local names = {}
  for _, line in ipairs(shell.lines("nm -D --defined-only " ..
    shell.quote(build.tool("luna.so")))) do
    local name = line:match("%S+$")
    if not name:find("^__") then table.insert(names, name) end
  end
  table.sort(names)
  lu.assertEquals(names, { "CA_CloneObject", "C_GetFunctionList" })
end

function TestModule.test_a_state_that_does_not_read_ends_it()
  local hsm = luna.fresh()
  for _, slots in ipairs { "net 0\n", "cloud 0 x y\n", "net 0 no-such-folder 1682975235230\n" } do
    shell.write(hsm.dir .. "/slots", slots)
    lu.assertEquals(drive.try(hsm, { "slots all" }).signal, 6, slots)
  end
  lu.assertEquals(drive.try({ module = hsm.module, env = {} }, { "slots all" }).signal, 6)
end

local TestSlots = {}

function TestSlots.test_slots_say_what_the_library_of_the_vendor_says()
  local hsm, a = pair()
  hsm:placeholder()
  hsm:admin("hsm-so")
  hsm:ha(a, "both")
  local list = drive.run(hsm, { "slots all", "slots present", "slot 0", "slot 2", "slot 3",
    "slot 4", "token 0", "token 1", "token 2", "token 4", "token 9" })
  lu.assertEquals(list, { "0x0 0 1 2 3 4", "0x0 0 1 3 4",
    "0x0 [Net Token Slot] [Safenet, Inc.] present", "0x0 [Net Token Slot] [Safenet, Inc.]",
    "0x0 [Admin Token Slot] [Safenet, Inc.] present",
    "0x0 [HA Virtual Card Slot] [Safenet, Inc.] present",
    "0x0 [payments] [1682975235230] [Safenet, Inc.]",
    "0x0 [backup] [1682975235231] [Safenet, Inc.]", "0xE0",
    "0x0 [both] [1154438865290] [Safenet, Inc.]", "0x3" })
end

function TestSlots.test_a_placeholder_gives_no_session()
  local hsm = luna.fresh()
  hsm:placeholder()
  lu.assertEquals(drive.run(hsm, { "open a 0 rw" }), { "0xE0" })
end

function TestSlots.test_neither_the_admin_slot_nor_a_virtual_one_is_an_end()
  local hsm, a = pair()
  hsm:admin()
  hsm:ha(a)
  lu.assertEquals(both(hsm, { "key a k token", "open c 2 rw", "login c user 1234",
    "clone c a 0 1", "open d 3 rw", "clone b d 0 1", "clone d b 0 1" }),
    { "0x0 1", OK, OK, "0x80000030", OK, "0x80000030", "0x80000030" })
end

function TestSlots.test_tokens_are_not_made_through_it()
  local hsm, a = pair()
  local before = a.token:contents()
  lu.assertEquals(drive.run(hsm, { "init-token 0 12345678 new", "init-token 1 12345678 new",
    "open a 0 rw", "login a so 12345678", "init-pin a 4321", "logout a", "login a user 1234" }),
    { "0x80000030", "0x80000030", OK, OK, "0x80000030", OK, OK })
  lu.assertEquals(a.token:contents(), before)
end

local TestCall = {}

-- CA_CloneObject(hSessionTarget, hSessionSource, ulObjectType, hObjectHandle, phClonedObject):
-- so the vendor's documentation has it.
function TestCall.test_the_targets_session_comes_first()
  local hsm, a, b = pair()
  lu.assertEquals(both(hsm, { "key a from-a token", "clone b a 0 1", "find b",
    "get b 2 " .. CKA_LABEL }), { "0x0 1", "0x0 2", "0x0 2", "0x0 " .. hex("from-a") })
  lu.assertEquals({ #a.token:files(), #b.token:files() }, { 1, 1 })
  lu.assertEquals(hsm:log("Clone"), { "CA_CloneObject 1 0 0x0" })
end

function TestCall.test_swapped_sessions_hit_the_wrong_object()
  local hsm = pair()
  lu.assertEquals(both(hsm, { "key a a1 token", "key a a2 token", "key b b1 token",
    "clone a b 0 2", "get a 3 " .. CKA_LABEL, "find b" }),
    { "0x0 1", "0x0 2", "0x0 2", "0x0 3", "0x0 " .. hex("b1"), "0x0 2" })
end

function TestCall.test_a_clone_has_a_number_of_its_own()
  local hsm = pair()
  local list = both(hsm, { "key a a1 token", "key a a2 token", "clone b a 0 2", "clone b a 0 1" })
  lu.assertEquals(list, { "0x0 1", "0x0 2", "0x0 3", "0x0 4" })
end

function TestCall.test_numbers_are_small_and_those_of_the_partition()
  local hsm = pair()
  lu.assertEquals(both(hsm, { "key a a1 token", "get b 1 " .. CKA_LABEL, "destroy b 1",
    "destroy a 2", "get a 1 " .. CKA_LABEL }),
    { "0x0 1", "0x82", "0x82", "0x82", "0x0 " .. hex("a1") })
end

function TestCall.test_other_types_than_0_are_refused()
  local hsm, _, b = pair()
  lu.assertEquals(both(hsm, { "key a k token", "clone b a 1 1", "clone b a 2 1",
    "clone b a 0x80000005 1" }), { "0x0 1", "0x80000112", "0x80000112", "0x80000112" })
  lu.assertEquals(#b.token:files(), 0)
end

function TestCall.test_an_object_or_a_session_that_is_not_there()
  local hsm = pair()
  lu.assertEquals(both(hsm, { "key a k token", "clone b a 0 0", "clone b a 0 77",
    "clone 999 a 0 1", "clone b 999 0 1", "destroy a 1", "clone b a 0 1" }),
    { "0x0 1", "0x82", "0x82", "0xB3", "0xB3", OK, "0x82" })
end

function TestCall.test_a_session_object_has_no_clone()
  local hsm = pair()
  lu.assertEquals(both(hsm, { "key a k session", "clone b a 0 1" }), { "0x0 1", "0x82" })
end

function TestCall.test_both_sessions_must_be_writable()
  local hsm, _, b = pair()
  lu.assertEquals(both(hsm, { "key a k token", "open c 0 ro", "open d 1 ro", "clone b c 0 1",
    "clone d a 0 1", "clone d c 0 1" }), { "0x0 1", OK, OK, "0xB5", "0xB5", "0xB5" })
  lu.assertEquals(#b.token:files(), 0)
end

function TestCall.test_both_must_be_logged_in()
  local hsm, a, b = pair()
  a:data("public", "x")
  lu.assertEquals(drive.run(hsm, { "open a 0 rw", "open b 1 rw", "find a", "clone b a 0 1",
    "login a user 1234", "clone b a 0 1", "logout a", "login b user 1234", "clone b a 0 1" }),
    { OK, OK, "0x0 1", "0x101", OK, "0x101", OK, OK, "0x101" })
  lu.assertEquals(#b.token:files(), 0)
end

function TestCall.test_the_crypto_officer_clones_and_nobody_else()
  local hsm, a, b = pair()
  a:set("crypto-user", "looker")
  b:set("crypto-user", "looker")
  a:data("public", "x")
  lu.assertEquals(drive.run(hsm, { "open a 0 rw", "open b 1 rw", "login a user 1234",
    "login b so 12345678", "find a", "clone b a 0 1", "logout b",
    "login b 0x80000001 wrong", "login b 0x80000001 looker", "clone b a 0 1", "logout b",
    "login b user 1234", "logout a", "login a 0x80000001 looker", "find a", "clone b a 0 1" }),
    { OK, OK, OK, OK, "0x0 1", "0x8000001A", OK, "0xA0", OK, "0x8000001A", OK, OK, OK, OK,
      "0x0 1", "0x8000001A" })
  lu.assertEquals(#b.token:files(), 0)
end

function TestCall.test_a_duplicate_is_refused_until_the_first_has_gone()
  local hsm, a, b = pair()
  lu.assertEquals(both(hsm, { "key a k token", "clone b a 0 1", "clone b a 0 1", "clone a b 0 2",
    "destroy b 2", "clone b a 0 1" }),
    { "0x0 1", "0x0 2", "0x8000006F", "0x8000006F", OK, "0x0 2" })
  lu.assertEquals({ #a.token:files(), #b.token:files() }, { 1, 1 })
end

function TestCall.test_it_is_busy_as_often_as_told()
  local hsm = pair()
  hsm:answers("CA_CloneObject", { 0x80001604, 0x80001604, 0, 0x32 })
  lu.assertEquals(both(hsm, { "key a k token", "clone b a 0 1", "clone b a 0 1",
    "clone b a 0 1", "clone b a 0 1", "clone b a 0 1" }),
    { "0x0 1", "0x80001604", "0x80001604", "0x0 2", "0x32", "0x8000006F" })
end

function TestCall.test_the_log_has_the_order_and_no_argument()
  local hsm = pair()
  both(hsm, { "key a visible-label token", "clone b a 0 1" })
  lu.assertEquals(hsm:log(), { "C_Initialize 0x0", "C_OpenSession 0 0x0", "C_OpenSession 1 0x0",
    "C_Login 0 0x0", "C_Login 1 0x0", "C_GenerateKey 0 0x0", "CA_CloneObject 1 0 0x0",
    "C_Finalize 0x0" })
end

local TestDomain = {}

function TestDomain.test_another_domain_is_a_failure_of_each_object()
  local hsm, _, b = pair { b = { domain = "crimson" } }
  lu.assertEquals(both(hsm, { "key a k1 token", "key a k2 token", "clone b a 0 1",
    "clone b a 0 2" }), { "0x0 1", "0x0 2", "0x8000000B", "0x8000000B" })
  lu.assertEquals(#b.token:files(), 0)
  for _, code in ipairs { 0x8000000E, 0x80000014 } do
    hsm:mismatch(code)
    lu.assertEquals(both(hsm, { "find a", "clone b a 0 1" })[2], ("0x%X"):format(code))
  end
end

function TestDomain.test_a_partition_without_a_domain_clones_nothing()
  local hsm, _, b = pair { b = { domain = false } }
  lu.assertEquals(both(hsm, { "key a k token", "clone b a 0 1", "key b k token", "clone a b 0 2" }),
    { "0x0 1", "0x80000009", "0x0 2", "0x80000009" })
  lu.assertEquals(#b.token:files(), 1)
end

function TestDomain.test_more_than_two_partitions_go_by_their_own()
  local hsm = pair { b = { domain = "crimson" } }
  hsm:partition("third")
  lu.assertEquals(both(hsm, { "key a k token", "open c 2 rw", "login c user 1234",
    "clone b a 0 1", "clone c a 0 1" }), { "0x0 1", OK, OK, "0x8000000B", "0x0 3" })
end

local TestObjects = {}

function TestObjects.test_every_object_has_12_bytes_of_its_own_and_keeps_them()
  local hsm = pair()
  local first = both(hsm, { "key a k token", "key a k token", "get a 1 " .. CKA_OUID,
    "get a 2 " .. CKA_OUID, "copy a 1", "get a 3 " .. CKA_OUID, "clone b a 0 1",
    "get b 2 " .. CKA_OUID })
  local ouids = { first[3], first[4], first[6] }
  for i, ouid in ipairs(ouids) do
    lu.assertStrMatches(ouid, "0x0 " .. ("%x"):rep(24))
    lu.assertNotEquals(ouid, ouids[i % 3 + 1])
  end
  lu.assertEquals(first[8], first[3])
  local again = both(hsm, { "find a", "get a 1 " .. CKA_OUID, "get a 2 " .. CKA_OUID,
    "get a 3 " .. CKA_OUID, "find b", "get b 2 " .. CKA_OUID })
  lu.assertItemsEquals({ again[2], again[3], again[4] }, ouids)
  lu.assertEquals({ again[5], again[6] }, { "0x0 2", first[3] })
end

function TestObjects.test_nobody_says_what_an_ouid_is()
  local hsm, a = pair()
  local one = " " .. CKA_OUID .. " " .. ("ab"):rep(12)
  lu.assertEquals(both(hsm, { "data a note 00" .. one, "data a note 00", "set a 1" .. one,
    "copy a 1" .. one, "find a" .. one }), { "0x10", "0x0 1", "0x10", "0x10", "0x12" })
  lu.assertEquals(#a.token:files(), 1)
end

function TestObjects.test_labels_are_those_that_were_given()
  local hsm = pair()
  local list = both(hsm, { "key a one token", "key a two token", "get a 1 " .. CKA_LABEL,
    "find a " .. CKA_LABEL .. " " .. hex("two"), "find a " .. CKA_LABEL .. " " .. hex("tw"),
    "find a", "get a 1 " .. CKA_OUID, "set a 1 " .. CKA_LABEL .. " " .. hex("uno"),
    "get a 1 " .. CKA_LABEL, "get a 1 " .. CKA_OUID, "set a 1 " .. CKA_LABEL .. " -",
    "get a 1 " .. CKA_LABEL, "find a " .. CKA_LABEL .. " -", "copy a 2",
    "get a 3 " .. CKA_LABEL })
  lu.assertEquals(list, { "0x0 1", "0x0 2", "0x0 " .. hex("one"), "0x0 2", "0x0", "0x0 1 2",
    list[7], OK, "0x0 " .. hex("uno"), list[7], OK, "0x0 -", "0x0 1", "0x0 3",
    "0x0 " .. hex("two") })
end

-- What SoftHSM's own folders hold, decrypted by another program.
function TestObjects.test_a_clone_is_the_original_to_the_last_attribute()
  local hsm, a, b = pair()
  a:aes("kek", "01")
  a:aes("open", "02", { "--extractable" })
  a:rsa("web", "03")
  a:ec("sign", "04")
  a:data("note", "the safe is behind the picture", { "--private" })
  a:data("public note", "hello")
  local lines = { "find a" }
  for i = 1, 8 do lines[#lines + 1] = "clone b a 0 " .. i end
  local list = both(hsm, lines)
  lu.assertEquals(list[1], "0x0 1 2 3 4 5 6 7 8")
  for i = 2, 9 do lu.assertStrMatches(list[i], "0x0 %d+") end
  local contents = a.token:contents()
  lu.assertEquals(#contents, 8)
  lu.assertEquals(b.token:contents(), contents)
end

-- What SoftHSM refuses to copy or change, an empty label, and a date (which lies there in
-- the clear).
function TestObjects.test_a_clone_of_what_cannot_be_changed_or_copied_is_exact_too()
  local hsm, a, b = pair()
  lu.assertEquals(both(hsm, { "data a fixed 00 0x170 00", "data a single 01 0x171 00",
    "data a - -", "key a dated token hidden", "copy a 4 0x110 3230323630313031",
    "clone b a 0 1", "clone b a 0 2", "clone b a 0 3", "clone b a 0 5" }),
    { "0x0 1", "0x0 2", "0x0 3", "0x0 4", "0x0 5", "0x0 2", "0x0 3", "0x0 4", "0x0 6" })
  local contents, missing = a.token:contents(), 0
  local there = {}
  for _, object in ipairs(b.token:contents()) do there[object] = true end
  for _, object in ipairs(contents) do missing = missing + (there[object] and 0 or 1) end
  lu.assertEquals({ #contents, #b.token:files(), missing }, { 5, 4, 1 })
end

function TestObjects.test_a_hidden_key_stays_hidden_on_both_sides()
  local hsm = pair()
  lu.assertEquals(both(hsm, { "key a k token hidden", "get a 1 " .. CKA_VALUE, "clone b a 0 1",
    "get b 2 " .. CKA_VALUE, "get b 2 0x103", "get b 2 0x162", "get b 2 0x163",
    "get b 2 0x164" }),
    { "0x0 1", "0x11", "0x0 2", "0x11", "0x0 01", "0x0 00", "0x0 01", "0x0 01" })
end

function TestObjects.test_a_clone_signs_as_the_original()
  local hsm, a, b = pair()
  a:rsa("web", "03")
  local list = both(hsm, { "find a", "clone b a 0 1", "clone b a 0 2" })
  lu.assertEquals(list[1], "0x0 1 2")
  local message, signatures = tmp.file("pay 100 to Alice"), {}
  for i, partition in ipairs { a, b } do
    local out = tmp.dir() .. "/signature"
    partition:tool { "--sign", "--mechanism", "SHA256-RSA-PKCS", "--id", "03", "--input-file",
      message, "--output-file", out }
    signatures[i] = shell.read(out)
  end
  lu.assertEquals(#signatures[1], 256)
  lu.assertEquals(signatures[2], signatures[1])
end

local TestRoom = {}

function TestRoom.test_a_partition_is_full_in_the_middle_of_the_work()
  local hsm, _, b = pair()
  b:set("limit", 2)
  lu.assertEquals(both(hsm, { "key a k1 token", "key a k2 token", "key a k3 token",
    "clone b a 0 1", "clone b a 0 2", "clone b a 0 3", "key b k4 token", "key b k4 session",
    "destroy b 2", "clone b a 0 3" }),
    { "0x0 1", "0x0 2", "0x0 3", "0x0 2", "0x0 3", "0x8000002C", "0x8000002C", "0x0 4", OK,
      "0x0 5" })
  lu.assertEquals(#b.token:files(), 2)
  b:set("full", "0x8000001B")
  lu.assertEquals(both(hsm, { "find a", "key a k5 token", "clone b a 0 4" }),
    { "0x0 1 2 3", "0x0 4", "0x8000001B" })
end

local TestLogin = {}

function TestLogin.test_a_login_is_of_one_partition()
  local hsm = pair { b = { pin = "4321" } }
  lu.assertEquals(drive.run(hsm, { "open a 0 rw", "open b 1 rw", "login a user 1234",
    "key b k token", "login b user 1234", "login b user 4321", "login b user 4321",
    "key b k token" }), { OK, OK, OK, "0x101", "0xA0", OK, "0x100", "0x0 2" })
end

function TestLogin.test_wrong_passwords_lock_the_role_and_a_good_one_clears_the_count()
  local hsm, a = pair()
  a:set("user.tries", 3)
  lu.assertEquals(drive.run(hsm, { "open a 0 rw", "login a user 1", "login a user bad1",
    "login a user 1234", "logout a", "login a user bad1", "login a user bad2" }),
    { OK, "0xA0", "0xA0", OK, OK, "0xA0", "0xA0" })
  lu.assertEquals(a:read("user.wrong"), "2")
  lu.assertEquals(drive.run(hsm, { "open a 0 rw", "login a user bad3", "login a user 1234",
    "login a so 12345678" }), { OK, "0xA0", "0x80000007", OK })
end

function TestLogin.test_without_being_told_ten_lock_the_officer_and_three_the_so()
  local hsm, a = pair()
  a:set("user.wrong", 9)
  a:set("so.wrong", 2)
  lu.assertEquals(drive.run(hsm, { "open a 0 rw", "login a user wrong", "login a user 1234",
    "login a so wrong-pin", "login a so 12345678" }),
    { OK, "0xA0", "0x80000007", "0xA0", "0x8000001C" })
end

function TestLogin.test_a_protected_path_takes_no_text_and_says_so()
  local hsm = pair { a = { ped = true } }
  lu.assertEquals(drive.run(hsm, { "token 0", "token 1", "open a 0 rw", "login a user 1234",
    "login a user -", "logout a", "login a so -", "logout a", "open b 1 rw",
    "login b user -" }),
    { "0x0 [payments] [1682975235230] [Safenet, Inc.] protected",
      "0x0 [backup] [1682975235231] [Safenet, Inc.]", OK, "0x7", OK, OK, OK, OK, OK, "0x7" })
end

function TestLogin.test_the_operator_is_absent_with_the_code_that_was_told()
  local hsm, a = pair { a = { ped = true } }
  a:unset("ped/black.pin")
  lu.assertEquals(drive.run(hsm, { "open a 0 rw", "login a user -" }), { OK, "0x50" })
  for _, code in ipairs { "0x80000023", "0x80000024" } do
    a:set("ped/absent", code)
    lu.assertEquals(drive.run(hsm, { "open a 0 rw", "login a user -" })[2], code)
  end
  lu.assertNil(a:read("ped/black.wrong"))
end

function TestLogin.test_a_wrong_key_is_a_failed_login_and_counts()
  local hsm, a = pair { a = { ped = true } }
  a:set("ped/black.tries", 2)
  a:set("ped/black.pin", "another key")
  lu.assertEquals(drive.run(hsm, { "open a 0 rw", "login a user -" }), { OK, "0xA0" })
  lu.assertEquals(drive.run(hsm, { "open a 0 rw", "login a user -" }), { OK, "0xA0" })
  a:set("ped/black.pin", a.pin)
  lu.assertEquals(drive.run(hsm, { "open a 0 rw", "login a user -" }), { OK, "0x80000007" })
end

function TestLogin.test_a_key_of_m_of_n_is_one_call_and_one_answer()
  local hsm, a = pair { a = { ped = true } }
  a:unset("ped/black.pin")
  process.must { "mkdir", hsm.dir .. "/" .. a.serial .. "/ped/black.keys" }
  a:set("ped/black.needs", 2)
  a:set("ped/black.keys/first", a.pin)
  lu.assertEquals(drive.run(hsm, { "open a 0 rw", "login a user -" }), { OK, "0x50" })
  a:set("ped/black.keys/third", a.pin)
  lu.assertEquals(drive.run(hsm, { "open a 0 rw", "login a user -" }), { OK, OK })
  lu.assertEquals(hsm:log("Login"), { "C_Login 0 0x50", "C_Login 0 0x0" })
end

function TestLogin.test_a_role_with_a_challenge_takes_it_as_its_password()
  local hsm, a = pair { a = { ped = true } }
  a:set("ped/black.challenge", "5t4-EEq")
  lu.assertEquals(drive.run(hsm, { "open a 0 rw", "login a user 1234", "login a user -",
    "login a user 5t4-EEq", "logout a", "login a so 12345678", "login a so -" }),
    { OK, "0x80000067", "0x80000067", OK, OK, "0x7", OK })
  a:set("ped/black.wrong", 9)
  lu.assertEquals(drive.run(hsm, { "open a 0 rw", "login a user wrong", "login a user 5t4-EEq" }),
    { OK, "0x80000067", "0x80000007" })
end

function TestRoom.test_it_says_how_much_is_free_when_told()
  local hsm, a = pair()
  a:set("free", 4096)
  lu.assertEquals(drive.run(hsm, { "token 0", "token 1" }), {
    "0x0 [payments] [1682975235230] [Safenet, Inc.] free 4096",
    "0x0 [backup] [1682975235231] [Safenet, Inc.]" })
end

return {
  TestModule = TestModule,
  TestSlots = TestSlots,
  TestCall = TestCall,
  TestDomain = TestDomain,
  TestObjects = TestObjects,
  TestRoom = TestRoom,
  TestLogin = TestLogin,
}
