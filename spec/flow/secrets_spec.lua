-- SPDX-License-Identifier: MIT
-- partition backup: where its secrets come from, and where they never go.
local lu = require("luaunit")

local process = require("support.process")
local scene = require("flow.scene")
local shell = require("support.shell")
local tmp = require("support.tmp")

local TestSources = {}

function TestSources.test_files_named_in_the_environment()
  local s = scene.new()
  local env = {}
  for name, value in pairs(scene.secrets()) do
    env[name .. "_FILE"] = tmp.file(value .. "\n")
  end
  local done = s:backup { secrets = {}, env = env }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(done.err, "")
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
end

function TestSources.test_the_name_itself_goes_before_the_file()
  local s = scene.new()
  local done = s:backup { env = { KEYFERRY_PASSWORD_FILE = tmp.file("not it") } }
  lu.assertEquals(done.status, 0, done.out .. done.err)
end

function TestSources.test_options_go_before_the_environment_and_are_warned_of()
  local s = scene.new()
  local done = s:backup { "-password", scene.password, "-tokenpw", scene.tokenpw, "-tokensopwd",
    scene.sopw, "-domain", scene.domain, secrets = { KEYFERRY_PASSWORD = "no",
      KEYFERRY_TOKENPW = "no", KEYFERRY_TOKENSOPWD = "no", KEYFERRY_DOMAIN = "no" } }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertStrMatches(done.err, "warning: [^\n]*%-password[^\n]*process list[^\n]*\n")
  for _, name in ipairs { "-password", "-tokenpw", "-tokensopwd", "-domain" } do
    lu.assertStrContains(done.err, name)
  end
  lu.assertEquals(#scene.labels(s:target()), 7)
end

function TestSources.test_a_file_that_holds_no_secret_is_no_empty_one()
  local s = scene.new()
  local before = s:snapshot()
  for _, path in ipairs { "/nonexistent/secret", tmp.file(""), tmp.file("\n"), "/" } do
    local done = s:backup { secrets = scene.secrets { "PASSWORD" },
      env = { KEYFERRY_PASSWORD_FILE = path } }
    lu.assertEquals(done.status, 3, done.out .. done.err)
    lu.assertStrContains(done.err, "KEYFERRY_PASSWORD_FILE: " .. path)
  end
  lu.assertEquals(s:changes(before), {})
end

-- As under cron: no terminal, so there is nobody to ask, and nothing may hang.
function TestSources.test_without_a_terminal_each_missing_secret_ends_the_run_at_once()
  for option, name in pairs { password = "PASSWORD", tokenpw = "TOKENPW",
    tokensopwd = "TOKENSOPWD", domain = "DOMAIN" } do
    local s = scene.new()
    local before = s:snapshot()
    local done = s:backup { secrets = scene.secrets { name }, timeout = 10 }
    lu.assertEquals(done.status, 3, done.out .. done.err)
    lu.assertStrContains(done.err, "-" .. option)
    lu.assertStrContains(done.err, "KEYFERRY_" .. name)
    lu.assertStrContains(done.out, "Command Result : 3 (")
    lu.assertEquals(s:changes(before), {}, option)
  end
end

function TestSources.test_the_so_password_is_not_needed_for_a_partition_that_is_there()
  local s = scene.new("backed")
  local done = s:backup { "-add", secrets = scene.secrets { "TOKENSOPWD" } }
  lu.assertEquals(done.status, 0, done.out .. done.err)
end

function TestSources.test_the_default_domain_is_warned_of()
  local s = scene.new()
  s:hsm("prod"):init_token("bare", { pin = scene.password }):aes("old", "01")
  local done = s:backup { "-defaultdomain", partition = "bare",
    secrets = scene.secrets { "DOMAIN" } }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertStrMatches(done.err, "warning: [^\n]*default[^\n]*\n")
end

local TestPins = {}

local function logins(hsm)
  local list = {}
  for _, line in ipairs(hsm:calls()) do
    if line:find("^C_Login ") then table.insert(list, line) end
  end
  return list
end

function TestPins.test_a_wrong_pin_is_tried_once()
  local s = scene.new()
  local hsm, globals = s:lying("prod", "call-log %LOG%")
  local before = s:snapshot()
  local done = s:backup { globals = globals, env = { KEYFERRY_PASSWORD = "wrong pin" } }
  lu.assertEquals(done.status, 3, done.out .. done.err)
  lu.assertStrContains(done.err, "CKR_PIN_INCORRECT (0xA0), in C_Login")
  lu.assertEquals(logins(hsm), { "C_Login CKR_PIN_INCORRECT" })
  lu.assertEquals(s:changes(before), {})
  lu.assertEquals(s:hsm("vault"):tokens(), {})
end

function TestPins.test_a_wrong_pin_of_the_target_is_told_and_changes_nothing()
  local s = scene.new("backed")
  local before = s:snapshot()
  local done = s:backup { "-add", env = { KEYFERRY_TOKENPW = "wrong pin" } }
  lu.assertEquals(done.status, 3, done.out .. done.err)
  lu.assertStrContains(done.err, "CKR_PIN_INCORRECT (0xA0), in C_Login")
  lu.assertStrContains(done.err, "backup")
  lu.assertEquals(s:changes(before), {})
end

function TestPins.test_a_locked_pin_is_status_3()
  local s = scene.new()
  local hsm, globals = s:lying("prod", "call-log %LOG%\nC_Login * CKR_PIN_LOCKED")
  local done = s:backup { globals = globals }
  lu.assertEquals(done.status, 3, done.out .. done.err)
  lu.assertStrContains(done.err, "CKR_PIN_LOCKED (0xA4), in C_Login")
  lu.assertEquals(logins(hsm), { "C_Login CKR_PIN_LOCKED" })
  lu.assertEquals(s:hsm("vault"):tokens(), {})
end

-- A PIN shorter than SoftHSM takes.
function TestPins.test_a_new_pin_that_the_token_does_not_take_leaves_no_partition()
  local s = scene.new()
  local before = s:snapshot()
  local done = s:backup { env = { KEYFERRY_TOKENPW = "abc" } }
  lu.assertEquals(done.status, 2, done.out .. done.err)
  lu.assertStrContains(done.err, "4 to 255 bytes")
  lu.assertEquals(s:changes(before), {})
  lu.assertEquals(s:hsm("vault"):tokens(), {})
end

local TestNowhere = {}

local function proc(pid, name)
  return shell.read(("/proc/%s/%s"):format(pid, name)) or ""
end

-- Caught while it waits in the middle of its login: arguments and environment as everybody
-- with the right to look sees them then.
function TestNowhere.test_no_secret_in_the_process_list_while_it_runs()
  local s = scene.new()
  local hsm, globals = s:lying("prod", "call-log %LOG%\ndelay C_Login 1500")
  local run <close> = process.start(s:command { "-password", scene.password, "-tokenpw=" ..
    scene.tokenpw, globals = globals, secrets = scene.secrets { "PASSWORD", "TOKENPW" } })
  assert(shell.await(10, function()
    return table.concat(hsm:calls(), "\n"):find("C_OpenSession")
  end))
  local seen = proc(run.pid, "cmdline") .. proc(run.pid, "environ")
  lu.assertStrContains(proc(run.pid, "status"), "keyferry")
  local done = run:wait()
  lu.assertEquals(done.status, 0, done.out .. done.err)
  for _, secret in ipairs { scene.password, scene.tokenpw, scene.sopw, scene.domain } do
    lu.assertNotStrContains(seen, secret)
    lu.assertNotStrContains(done.out .. done.err, secret)
  end
end

function TestNowhere.test_no_secret_in_what_is_printed_however_it_ends()
  local secrets = { "hidden-1-pin", "hidden-2-pin", "hidden-3-pin", "hidden-4-domain" }
  local s = scene.new("backed")
  for _, more in ipairs { {}, { "-add" }, { "-add", "-replace" }, { "-nonsense" }, { "-plan" } } do
    for _, globals in ipairs { {}, { "--json" } } do
      local how = { globals = globals, secrets = {}, "-password", secrets[1], "-tokenpw",
        secrets[2], "-tokensopwd", secrets[3], "-domain", secrets[4] }
      table.move(more, 1, #more, #how + 1, how)
      local done = s:backup(how)
      lu.assertNotEquals(done.status, 0)
      lu.assertNotStrContains(done.out .. done.err, "hidden")
    end
  end
end

-- What follows a mistyped option may be a secret.
function TestNowhere.test_a_secret_behind_a_misspelt_option_is_not_repeated()
  local s = scene.new()
  local done = s:backup { "-pasword", "hidden-pin" }
  lu.assertEquals(done.status, 2)
  lu.assertStrContains(done.err, "-password")
  lu.assertNotStrContains(done.out .. done.err, "hidden")
  done = s:backup { "-pasword=hidden-pin" }
  lu.assertEquals(done.status, 2)
  lu.assertNotStrContains(done.out .. done.err, "hidden")
  done = s:backup { "-password", "two", "hidden-words" }
  lu.assertEquals(done.status, 2)
  lu.assertNotStrContains(done.out .. done.err, "hidden")
end

return {
  TestSources = TestSources,
  TestPins = TestPins,
  TestNowhere = TestNowhere,
}
