-- SPDX-License-Identifier: MIT
-- HSMs with a PED of their own (a protected authentication path), through the commands: nothing is
-- asked, NULL is the PIN, the operator is told what to do before each call, and tried is once.
local lu = require("luaunit")

local liar = require("support.liar")
local scene = require("flow.scene")
local shell = require("support.shell")
local tmp = require("support.tmp")

-- Both HSMs of the scene behind a PED each. Gives by name the folder of its operator's keys and
-- the liar, and the options to put before the noun.
local function attended(s, more)
  local entries, ped = {}, {}
  for _, one in ipairs { { "prod", "100001", scene.password, "prod so pin" },
    { "vault", scene.serial, scene.tokenpw, scene.sopw } } do
    local dir = tmp.dir("operator")
    shell.write(dir .. "/user.pin", one[3])
    shell.write(dir .. "/so.pin", one[4])
    local hsm = liar.over(s:hsm(one[1]), ("pap %s\ncall-log %%LOG%%"):format(dir))
    local env = {}
    for key, value in pairs(hsm.env) do table.insert(env, ("%s = %q"):format(key, value)) end
    table.insert(entries, ("{ name = %q, serial = %q, module = %q, %s env = { %s } }"):format(
      one[1], one[2], hsm.module, more or "", table.concat(env, ", ")))
    ped[one[1]] = { dir = dir, hsm = hsm }
  end
  shell.write(s.home .. "/config.lua", ("return { system = false, hsms = { %s } }"):format(
    table.concat(entries, ", ")))
  return ped, { "--config", s.home .. "/config.lua" }
end

local function logins(hsm)
  local list = {}
  for _, line in ipairs(hsm:calls()) do
    if line:find("^C_Login ") or line:find("^C_InitToken ") then table.insert(list, line) end
  end
  return list
end

local function count(text, what)
  local n = 0
  for _ in text:gmatch((what:gsub("%p", "%%%0"))) do n = n + 1 end
  return n
end

local function assert_status(done, status, text)
  lu.assertEquals(done.status, status, done.out .. done.err)
  lu.assertStrContains(done.out .. done.err, text)
end

local BLACK = "Please attend to the PED: the black key (Crypto Officer) for partition "
  .. '"%s" on HSM "%s".'
local PAYMENTS, BACKUP = BLACK:format("payments", "prod"), BLACK:format("backup", "vault")

local TestProtectedPath = {}

-- No secret is given, and none is asked for: there is no terminal.
function TestProtectedPath.test_a_backup_asks_for_the_operator_and_for_nothing_else()
  local s = scene.new("open")
  local ped, globals = attended(s)
  local done = s:backup { "-add", "-match", "open *", globals = globals, secrets = {} }
  assert_status(done, 0, "4 cloned")
  lu.assertEquals({ count(done.err, PAYMENTS), count(done.err, BACKUP) }, { 1, 1 })
  lu.assertNotStrContains(done.err, "ignored")
  for _, name in ipairs { "prod", "vault" } do
    lu.assertEquals(logins(ped[name].hsm), { "C_Login CKR_OK" })
  end
  lu.assertEquals(s:lua([[
    for _, side in ipairs{ { "payments", "]] .. scene.password .. [[" },
      { "backup", "]] .. scene.tokenpw .. [[" } } do
      local there = assert(assert(keyferry.partition(side[1])):login(keyferry.secret(side[2])))
      local key = assert(there:find{ label = "open 3" })[1]
      io.write((assert(key:sign("sha256_hmac", "a message")):gsub(".", function(c)
        return ("%02x"):format(c:byte()) end)), " ")
    end]]):match("^(%x+) %1 $") ~= nil, true)
end

function TestProtectedPath.test_text_is_ignored_with_one_notice_and_attending_is_said_when_quiet()
  local s = scene.new("open")
  local _, globals = attended(s)
  local done = s:backup { "-add", "-match", "open *", "-tokenpw", "something", globals = globals }
  assert_status(done, 0, "4 cloned")
  lu.assertStrContains(done.err, "KEYFERRY_PASSWORD, KEYFERRY_TOKENSOPWD, KEYFERRY_DOMAIN, -tokenpw"
    .. ' are ignored: partition "payments" takes PED keys and no text.')
  lu.assertEquals(count(done.err, "ignored"), 1)
  table.insert(globals, 1, "--quiet")
  done = s:backup { "-add", "-match", "open *", globals = globals, secrets = {} }
  assert_status(done, 0, PAYMENTS)
end

function TestProtectedPath.test_an_absent_operator_and_a_wrong_key_are_told_apart_and_tried_once()
  local absent = "nobody presented the black key (Crypto Officer) at the PED in time"
  local wrong = "the black key (Crypto Officer) is not that of this partition"
  for _, case in ipairs {
    { answer = "CKR_FUNCTION_CANCELED", text = absent },
    { answer = "CKR_FUNCTION_REJECTED", number = "0x200", text = absent },
    { answer = "CKR_CALLBACK_ERROR", number = "0x80000021", text = absent },
    { answer = "CKR_SP_TIMEOUT", number = "0x80000023", text = absent },
    { answer = "CKR_TIMEOUT", number = "0x80000024", text = absent },
    { answer = "CKR_PIN_INCORRECT", text = wrong },
  } do
    local s = scene.new("open")
    local ped, globals = attended(s)
    local before = s:snapshot()
    ped.vault.hsm:lie(("pap %s\ncall-log %%LOG%%\nC_Login * %s"):format(ped.vault.dir,
      case.number or case.answer))
    local done = s:backup { "-add", globals = globals, secrets = {} }
    assert_status(done, 3, case.text)
    lu.assertStrContains(done.err, case.answer)
    lu.assertEquals(#logins(ped.vault.hsm), 1, case.answer)
    lu.assertEquals(count(done.err, BACKUP), 1)
    lu.assertEquals(s:changes(before), {})
  end
end

function TestProtectedPath.test_nobody_there_is_not_asked_again_by_any_command()
  for _, words in ipairs { { "contents", "-partition", "payments" },
    { "show", "-partition", "payments", "-login" },
    { "plan", "-partition", "payments" },
    { "send", "-partition", "payments", "-file", "%s" },
    { "verify", "-partition", "payments", "-tokenpar", "backup", "-serial", scene.serial },
    { "restore", "-partition", "payments", "-tokenpar", "backup", "-serial", scene.serial, "-add" },
  } do
    local s = scene.new("backed")
    local ped, globals = attended(s)
    assert(os.remove(ped.prod.dir .. "/user.pin"))
    local command = { globals[1], globals[2], "partition" }
    for _, word in ipairs(words) do
      table.insert(command, word == "%s" and s.home .. "/stream" or word)
    end
    local done = s:run(command)
    assert_status(done, 3, "nobody presented the black key")
    lu.assertEquals(#logins(ped.prod.hsm), 1, words[1])
    lu.assertEquals(count(done.err, PAYMENTS), 1, words[1])
  end
end

-- What is set at the PED of an HSM no call of PKCS#11 sets.
function TestProtectedPath.test_no_partition_is_made_behind_a_ped()
  local s = scene.new("open")
  local ped, globals = attended(s)
  local before = s:snapshot()
  local done = s:backup { tokenpar = "another", globals = globals, secrets = {} }
  assert_status(done, 5, "the vendor's own tool")
  done = s:run { globals[1], globals[2], "partition", "create", "-partition", "another", "-serial",
    scene.serial }
  assert_status(done, 5, "at its own PED")
  done = s:backup { verb = "plan", tokenpar = "another", globals = globals, secrets = {} }
  assert_status(done, 5, "at its own PED")
  lu.assertEquals({ logins(ped.prod.hsm), logins(ped.vault.hsm) }, { {}, {} })
  lu.assertEquals(s:changes(before), {})
end

function TestProtectedPath.test_a_drill_cannot_take_the_domain_out()
  local s = scene.new("backed")
  local _, globals = attended(s)
  assert_status(s:run { globals[1], globals[2], "partition", "drill", "-tokenpar", "backup",
    "-serial", scene.serial }, 5, "stays behind its PED")
end

function TestProtectedPath.test_verify_and_restore_are_attended_to()
  local s = scene.new("open")
  local _, globals = attended(s)
  assert_status(s:backup { "-add", "-match", "open *", globals = globals, secrets = {} }, 0,
    "4 cloned")
  assert_status(s:backup { verb = "verify", "-match", "open *", globals = globals, secrets = {} },
    0, "4 the same")
  local done = s:restore { "-add", "-match", "open *", globals = globals, secrets = {} }
  assert_status(done, 0, "4 already there")
  lu.assertEquals({ count(done.err, PAYMENTS), count(done.err, BACKUP) }, { 1, 1 })
end

-- A role with a challenge has a password; the domain still is the matter of the PED.
function TestProtectedPath.test_a_challenge_is_given_as_the_password()
  local s = scene.new("open")
  local ped, globals = attended(s, "challenge = true,")
  shell.write(ped.prod.dir .. "/user.challenge", "prod challenge")
  shell.write(ped.vault.dir .. "/user.challenge", "vault challenge")
  local done = s:backup { "-add", "-match", "open *", globals = globals, secrets = {
    KEYFERRY_PASSWORD = "prod challenge", KEYFERRY_TOKENPW = "vault challenge",
    KEYFERRY_DOMAIN = "another one" } }
  assert_status(done, 0, "4 cloned")
  lu.assertStrContains(done.err, "KEYFERRY_DOMAIN is ignored")
  lu.assertNotStrContains(done.err, "attend")
  done = s:backup { "-add", globals = globals, secrets = {} }
  assert_status(done, 3, "no value for -password")
end

return { TestProtectedPath = TestProtectedPath }
