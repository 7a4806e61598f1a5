-- SPDX-License-Identifier: MIT
local lu = require("luaunit")
local core = require("keyferry.core")
local build = require("support.build")
local process = require("support.process")
local tmp = require("support.tmp")

local TestSecret = {}

function TestSecret.test_neither_bytes_nor_length_show()
  local secret = core.secret("hunter2")
  lu.assertEquals(tostring(secret), "secret")
  lu.assertFalse((pcall(function() return #secret end)))
  lu.assertFalse((pcall(function() return secret .. "" end)))
  lu.assertFalse((pcall(function() return secret.data or secret:sub(1) end)))
  lu.assertEquals(getmetatable(secret), "keyferry.secret")
  lu.assertFalse((pcall(setmetatable, secret, {})))
end

function TestSecret.test_equal_when_the_bytes_are()
  lu.assertTrue(core.secret("a\0b") == core.secret("a\0b"))
  lu.assertFalse(core.secret("a\0b") == core.secret("a\0c"))
  lu.assertFalse(core.secret("a") == core.secret("ab"))
  lu.assertFalse(core.secret("a") == "a")
end

function TestSecret.test_two_halves_are_one_secret_and_stay_one_themselves()
  local first, second = core.secret("1234"), core.secret("\0six")
  local whole = first .. second
  lu.assertEquals(tostring(whole), "secret")
  lu.assertTrue(whole == core.secret("1234\0six"))
  second:close()
  lu.assertTrue(whole .. core.secret("") == core.secret("1234\0six"))
  lu.assertTrue(first == core.secret("1234"))
  lu.assertErrorMsgContains("a secret is wanted, not a string",
    function() return first .. "six" end)
  lu.assertErrorMsgContains("a secret is wanted", function() return "six" .. first end)
  lu.assertErrorMsgContains("closed", function() return first .. second end)
  local large = core.secret(("x"):rep(200 * 1024))
  lu.assertErrorMsgContains("too long", function() return large .. large end)
end

function TestSecret.test_closes_once_and_for_all()
  local kept
  do
    local secret <close> = core.secret("a")
    kept = secret
  end
  kept:close()
  lu.assertFalse(kept == core.secret("a"))
  lu.assertEquals(tostring(kept), "secret")
end

function TestSecret.test_a_number_is_no_secret()
  lu.assertFalse((pcall(core.secret, 123)))
  lu.assertFalse((pcall(core.secret)))
end

function TestSecret.test_from_a_file_without_its_newline()
  for text, secret in pairs { ["pin"] = "pin", ["pin\n"] = "pin", ["pin\r\n"] = "pin",
    ["pin\n\n"] = "pin\n", [" p n "] = " p n ", [("x"):rep(4096)] = ("x"):rep(4096) } do
    lu.assertTrue(core.secret_from_file(tmp.file(text)) == core.secret(secret), text)
  end
end

function TestSecret.test_a_file_that_cannot_be_one_is_refused()
  for _, path in ipairs { "/nonexistent", "/", "/dev/null", tmp.file(""), tmp.file("\n"),
    tmp.file(("x"):rep(4097)) } do
    local secret, err = core.secret_from_file(path)
    lu.assertNil(secret)
    lu.assertStrContains(err.what, path)
  end
end

-- In another process, which then looks at its own environment as others see it.
local from_env = [[
  local core = require("keyferry.core")
  assert(core.secret_from_env("KF_EMPTY") == nil and core.secret_from_env("KF_NONE") == nil)
  assert(core.secret_from_env("KF_PIN") == core.secret("hunter2"))
  assert(core.secret_from_env("KF_PIN") == nil and os.getenv("KF_PIN") == nil)
  local file <close> = io.open("/proc/self/environ", "rb")
  local text = file:read("a")
  assert(#text > 0 and not text:find("hunter2", 1, true))]]

function TestSecret.test_the_environment_gives_it_up()
  process.must { arg[-1] or "lua5.4", "-e", from_env, env = { KF_PIN = "hunter2", KF_EMPTY = "",
    LUA_CPATH_5_4 = build.dir .. "/lua/?.so;;" } }
end

return { TestSecret = TestSecret }
