-- SPDX-License-Identifier: MIT
-- Domains from Lua, and where they live.
local lu = require("luaunit")

local core = require("keyferry.core")
local keyferry = require("keyferry")
local shell = require("support.shell")
local zoo = require("support.zoo")

local function assert_raises(part, call, ...)
  local ok, message = pcall(call, ...)
  lu.assertFalse(ok, part)
  lu.assertStrContains(tostring(message), part)
end

local fixture = dofile("spec/fixtures/sealed.lua")

local made = {}

local function domain(text)
  made[text] = made[text] or assert(core.domain(core.secret(text)))
  return made[text]
end

local TestDomain = {}

-- What a text gives may never change: backups would not open any more.
function TestDomain.test_a_text_gives_the_same_domain_for_ever()
  lu.assertEquals(domain(fixture.domain):check(), fixture.check)
  lu.assertEquals(keyferry.default_domain():check(), "4154d79f0faa7ec8367b25bd45b42aca")
end

function TestDomain.test_random_ones_are_never_equal()
  local one, other = assert(core.random_domain()), assert(core.random_domain())
  lu.assertFalse(one == other)
  lu.assertEquals(#one:check(), 32)
end

function TestDomain.test_equal_when_the_texts_are()
  local again = assert(core.domain(core.secret(fixture.domain)))
  lu.assertTrue(again == domain(fixture.domain))
  lu.assertFalse(domain("another") == domain(fixture.domain))
  lu.assertFalse(domain("another") == "another")
  lu.assertFalse(domain("another") == core.secret("another"))
end

function TestDomain.test_shows_its_check_value_and_nothing_else()
  local one = domain(fixture.domain)
  lu.assertEquals(tostring(one), "domain " .. fixture.check)
  lu.assertFalse((pcall(function() return #one end)))
  lu.assertFalse((pcall(function() return one .. "" end)))
  lu.assertFalse((pcall(function() return one < one end)))
  lu.assertFalse((pcall(function() for _ in pairs(one) do error() end end)))
  lu.assertNil(one.key)
  lu.assertFalse((pcall(setmetatable, one, {})))
end

function TestDomain.test_a_string_is_no_secret()
  assert_raises("a secret is wanted, not a string", core.domain, "text")
  assert_raises("keyferry.secret", core.domain, nil)
  assert_raises("keyferry.secret", core.domain, {})
end

function TestDomain.test_an_empty_text_is_refused()
  local value, err = core.domain(core.secret(""))
  lu.assertNil(value)
  lu.assertTrue(#err.what > 5)
end

function TestDomain.test_closes_once_and_for_all()
  local one = assert(core.domain(core.secret("short-lived")))
  one:close()
  one:close()
  lu.assertEquals(tostring(one), "domain (closed)")
  assert_raises("the domain is closed", one.check, one)
  local session = zoo.session(zoo.token("closed"))
  assert_raises("the domain is closed", session.install_domain, session, one)
  assert_raises("the domain is closed", session.endpoint, session, "wrap", one)
end

-- In a partition --------------------------------------------------------------------------------

local TestInstalled = {}

-- Private, sensitive, not extractable, and of use for nothing else.
function TestInstalled.test_its_keys_never_leave_by_pkcs11()
  local token = zoo.token("installed")
  assert(zoo.session(token):install_domain(domain(fixture.domain)))
  zoo.close(token)
  local count = 0
  for _, object in pairs(token:objects()) do
    count = count + 1
    lu.assertEquals(object[0x3].value, "keyferry domain")
    lu.assertEquals({ object[0x2].value, object[0x103].value, object[0x162].value },
      { "\255", "\255", "\0" })
    lu.assertEquals(object[0x11].form, "encrypted")
  end
  lu.assertEquals(count, 3)
  local bytes = ""
  for _, name in ipairs(token:files()) do bytes = bytes .. shell.read(token.dir .. "/" .. name) end
  for _, object in pairs(token:objects()) do
    lu.assertNotStrContains(bytes, object[0x11].value)
  end
end

function TestInstalled.test_both_engines_find_the_domain_that_was_installed()
  local token = zoo.token("found")
  local session = zoo.session(token)
  assert(session:install_domain(domain(fixture.domain)))
  for _, engine in ipairs{ "softhsm", "wrap" } do
    local found = assert(session:find_domain(engine))
    lu.assertTrue(found == domain(fixture.domain), engine)
    lu.assertEquals(found:check(), fixture.check)
  end
  zoo.close(token)
end

-- Half a domain is none to work with, and is not taken for "has none".
function TestInstalled.test_a_domain_with_a_key_missing_is_said_to_be_damaged()
  for i = 1, 3 do
    local token = zoo.token("half")
    assert(zoo.session(token):install_domain(domain(fixture.domain)))
    zoo.close(token)
    assert(os.remove(token.dir .. "/" .. token:files()[i]))
    local session = zoo.session(token)
    for _, engine in ipairs{ "softhsm", "wrap" } do
      local value, err = session:find_domain(engine)
      lu.assertNil(value)
      lu.assertEquals(err.code, "KFR_DAMAGED", engine)
    end
    zoo.close(token)
  end
end

function TestInstalled.test_not_in_a_read_only_session_and_not_without_login()
  local token = zoo.token("read-only")
  local module <close> = zoo.module(token.hsm)
  local session <close> = assert(module:session(zoo.slot(module, token)))
  lu.assertNil((session:install_domain(domain(fixture.domain))))
  assert(session:login(core.secret(token.pin)))
  local value, err = session:install_domain(domain(fixture.domain))
  lu.assertNil(value)
  lu.assertEquals(err.code, "CKR_SESSION_READ_ONLY")
  lu.assertEquals(token:files(), {})
end

return { TestDomain = TestDomain, TestInstalled = TestInstalled }
