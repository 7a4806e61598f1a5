-- SPDX-License-Identifier: MIT
-- The protected path that liar plays (`pap`), and its operator: as stubborn as a real one.
local lu = require("luaunit")
local drive = require("support.drive")
local liar = require("support.liar")
local process = require("support.process")
local shell = require("support.shell")
local tmp = require("support.tmp")

local OK = "0x0"

-- A token on a protected path: its HSM, its slot and `put`, which lays a file for the
-- operator (nil: takes it away).
local function scene(more)
  local hsm = liar.fresh()
  local token = hsm:init_token("t", { pin = "black key", so_pin = "blue key" })
  local dir = tmp.dir("pad")
  local slot = drive.run(hsm, { "slots present" })[1]:match("0x0 (%d+)")
  hsm:lie("pap " .. dir .. "\n" .. (more or ""))
  local function put(name, text)
    local folder = (dir .. "/" .. name):match("(.*)/")
    process.must { "mkdir", "-p", folder }
    if text then
      shell.write(dir .. "/" .. name .. ".new", text .. "\n")
      assert(os.rename(dir .. "/" .. name .. ".new", dir .. "/" .. name))
    else
      os.remove(dir .. "/" .. name)
    end
  end
  return hsm, put, slot, dir, token
end

local function login(hsm, slot, ...)
  local lines = { "open a " .. slot .. " rw" }
  for _, word in ipairs { ... } do
    table.insert(lines, "login a user " .. word)
  end
  local list = drive.run(hsm, lines)
  return table.concat(list, " ", 2)
end

local function acts(dir)
  return (shell.read(dir .. "/acts") or ""):gsub("\n", ";")
end

local TestOneKey = {}

function TestOneKey.test_the_key_at_hand_is_the_pin_and_text_is_none()
  local hsm, put, slot = scene()
  put("user.pin", "black key")
  lu.assertEquals(login(hsm, slot, "black", "-"), "0x7 0x0")
  lu.assertStrContains(drive.run(hsm, { "token " .. slot })[1], " protected")
end

function TestOneKey.test_no_operator_and_a_wrong_key_are_told_apart()
  local hsm, put, slot = scene()
  lu.assertEquals(login(hsm, slot, "-"), "0x50")
  put("user.pin", "red key")
  lu.assertEquals(login(hsm, slot, "-"), "0xA0")
  put("user.pin")
  put("absent", "0x80000023")
  lu.assertEquals(login(hsm, slot, "-"), "0x80000023")
end

function TestOneKey.test_the_officers_key_makes_a_token_and_its_own_pin()
  local hsm, put, slot = scene()
  put("so.pin", "blue key")
  put("user.pin", "new black key")
  lu.assertEquals(drive.run(hsm, { "init-token " .. slot .. " blue t",
    "init-token " .. slot .. " - t", "open a " .. slot .. " rw", "login a so -",
    "init-pin a text", "init-pin a -", "logout a", "login a user -" }),
    { "0x7", OK, OK, OK, "0x7", OK, OK, OK })
end

function TestOneKey.test_a_wrong_officers_key_makes_no_token()
  local hsm, put, slot, dir, token = scene()
  hsm:lie("")
  token:tool { "--keygen", "--key-type", "AES:32", "--label", "k" }
  hsm:lie("pap " .. dir)
  lu.assertEquals(drive.run(hsm, { "init-token " .. slot .. " - t" }), { "0x50" })
  put("so.pin", "another key")
  lu.assertEquals(drive.run(hsm, { "init-token " .. slot .. " - t" }), { "0xA0" })
  lu.assertEquals(#token:files(), 1)
  put("so.pin", "blue key")
  lu.assertEquals(drive.run(hsm, { "init-token " .. slot .. " - t" }), { OK })
  lu.assertEquals(#token:files(), 0)
end

function TestOneKey.test_a_token_may_have_keys_of_its_own()
  local hsm, put, slot = scene()
  put("user.pin", "key of all others")
  put("t/user.pin", "black key")
  lu.assertEquals(login(hsm, slot, "-"), OK)
  put("t/user.pin")
  lu.assertEquals(login(hsm, slot, "-"), "0x50")
end

local TestParts = {}

function TestParts.test_m_of_n_keys_make_one_call_good()
  local hsm, put, slot, dir = scene("call-log %LOG%")
  put("user.needs", "2")
  put("user.keys/1", "black key")
  lu.assertEquals(login(hsm, slot, "-"), "0x50")
  put("user.keys/3", "black key")
  lu.assertEquals(login(hsm, slot, "-"), OK)
  lu.assertEquals(acts(dir), "user 1 of 2;user 2 of 2;")
  local logins = 0
  for _, line in ipairs(hsm:calls()) do
    logins = logins + (line:find("^C_Login") and 1 or 0)
  end
  lu.assertEquals(logins, 2)
end

function TestParts.test_keys_of_two_sets_are_a_wrong_key()
  local hsm, put, slot = scene()
  put("user.needs", "2")
  put("user.keys/1", "black key")
  put("user.keys/2", "another key")
  lu.assertEquals(login(hsm, slot, "-"), "0xA0")
  put("user.keys/1", "another key")
  put("user.keys/2", "black key")
  lu.assertEquals(login(hsm, slot, "-"), "0xA0")
end

function TestParts.test_more_keys_than_needed_are_not_asked_for()
  local hsm, put, slot, dir = scene()
  put("user.needs", "2")
  for i = 1, 3 do put("user.keys/" .. i, "black key") end
  lu.assertEquals(login(hsm, slot, "-"), OK)
  lu.assertEquals(acts(dir), "user 2 of 2;")
end

function TestParts.test_the_call_waits_for_keys_to_come()
  local hsm, put, slot, dir = scene()
  put("user.needs", "2")
  put("patience", "20000")
  put("user.keys/1", "black key")
  local running <close> = drive.start(hsm, { "open a " .. slot .. " rw", "login a user -" })
  running:wait_for(OK)
  lu.assertEquals(running:output(), OK .. "\n")
  lu.assertEquals(acts(dir), "")
  put("user.keys/2", "black key")
  lu.assertEquals(drive.wait(running), { OK, OK })
  lu.assertEquals(acts(dir), "user 2 of 2;")
end

function TestParts.test_patience_has_an_end()
  local hsm, put, slot = scene()
  put("patience", "60")
  put("absent", "0x80000024")
  lu.assertEquals(login(hsm, slot, "-"), "0x80000024")
end

function TestParts.test_the_operator_takes_time_with_keys_at_hand_too()
  local hsm, put, slot = scene()
  put("user.pin", "black key")
  put("takes", "1200")
  local started = os.time()
  lu.assertEquals(login(hsm, slot, "-"), OK)
  lu.assertTrue(os.time() - started >= 1)
end

local TestLock = {}

function TestLock.test_wrong_keys_lock_the_role_for_the_right_one_too()
  local hsm, put, slot = scene()
  put("user.tries", "2")
  put("user.pin", "red key")
  lu.assertEquals(login(hsm, slot, "-", "-"), "0xA0 0xA0")
  put("user.pin", "black key")
  lu.assertEquals(login(hsm, slot, "-"), "0xA4")
  put("locked", "0x80000007")
  lu.assertEquals(login(hsm, slot, "-"), "0x80000007")
end

function TestLock.test_a_good_key_clears_the_count_and_an_absent_operator_counts_nothing()
  local hsm, put, slot, dir = scene()
  put("user.tries", "2")
  put("user.pin", "red key")
  lu.assertEquals(login(hsm, slot, "-"), "0xA0")
  put("user.pin")
  lu.assertEquals(login(hsm, slot, "-"), "0x50")
  lu.assertEquals(shell.read(dir .. "/user.wrong"), "1\n")
  put("user.pin", "black key")
  lu.assertEquals(login(hsm, slot, "-"), OK)
  lu.assertEquals(shell.read(dir .. "/user.wrong"), "0\n")
end

function TestLock.test_roles_are_locked_apart()
  local hsm, put, slot = scene()
  put("user.tries", "1")
  put("so.tries", "1")
  put("user.pin", "red key")
  put("so.pin", "blue key")
  lu.assertEquals(drive.run(hsm, { "open a " .. slot .. " rw", "login a user -",
    "login a user -", "login a so -" }), { OK, "0xA0", "0xA4", OK })
end

function TestLock.test_an_officers_wrong_keys_count_when_a_token_is_made()
  local hsm, put, slot = scene()
  put("so.tries", "1")
  put("so.pin", "red key")
  lu.assertEquals(drive.run(hsm, { "init-token " .. slot .. " - t" }), { "0xA0" })
  put("so.pin", "blue key")
  lu.assertEquals(drive.run(hsm, { "init-token " .. slot .. " - t" }), { "0xA4" })
end

local TestChallenge = {}

function TestChallenge.test_the_text_of_the_challenge_is_needed_and_the_key_is_not_asked_for()
  local hsm, put, slot, dir = scene()
  put("user.pin", "black key")
  put("user.challenge", "5t4-EEq")
  lu.assertEquals(login(hsm, slot, "-", "1234", "5t4-EEq"), "0xA0 0xA0 0x0")
  lu.assertEquals(acts(dir), "")
end

function TestChallenge.test_a_wrong_one_counts()
  local hsm, put, slot = scene()
  put("user.pin", "black key")
  put("user.challenge", "5t4-EEq")
  put("user.tries", "1")
  put("incorrect", "0x80000067")
  lu.assertEquals(login(hsm, slot, "wrong", "5t4-EEq"), "0x80000067 0xA4")
end

local TestScript = {}

function TestScript.test_what_is_no_number_ends_it()
  local hsm, put, slot = scene()
  put("user.pin", "black key")
  put("user.needs", "two")
  lu.assertEquals(drive.try(hsm, { "open a " .. slot .. " rw", "login a user -" }).signal, 6)
end

return {
  TestOneKey = TestOneKey,
  TestParts = TestParts,
  TestLock = TestLock,
  TestChallenge = TestChallenge,
  TestScript = TestScript,
}
