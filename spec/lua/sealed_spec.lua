-- SPDX-License-Identifier: MIT
-- Sealed objects from Lua: three answers that are never mixed up, and fixtures that open for
-- ever.
local lu = require("luaunit")

local core = require("keyferry.core")
local shell = require("support.shell")
local zoo = require("support.zoo")

local fixture = dofile("spec/fixtures/sealed.lua")

local function read(file)
  return assert(shell.read("spec/fixtures/" .. file))
end

local domains = {}

local function domain(text)
  domains[text] = domains[text] or assert(core.domain(core.secret(text)))
  return domains[text]
end

local function right() return domain(fixture.domain) end
local function wrong() return domain("another") end

-- "opens", or the code of the refusal.
local function answer(bytes, under)
  local sealed <close> = core.sealed(bytes)
  local ok, err = sealed:opens(under)
  return ok and "opens" or err.code
end

local TestSealed = {}

function TestSealed.test_the_bytes_are_what_was_written_down()
  local bytes = read("aes.sealed")
  local sealed = core.sealed(bytes)
  lu.assertEquals(sealed:bytes(), bytes)
  lu.assertEquals(#sealed, #bytes)
  lu.assertEquals(tostring(sealed), ("sealed object (%d bytes)"):format(#bytes))
end

function TestSealed.test_its_head_is_for_everybody_and_nothing_else_is()
  local bytes = read("aes.sealed")
  local head = assert(core.sealed(bytes):head())
  lu.assertEquals(head.version, 1)
  lu.assertEquals(head.engine, bytes:match("^" .. ("."):rep(34) .. "(.%a+)"):sub(2))
  lu.assertEquals(head.check, right():check())
  lu.assertEquals(head.attributes.class, "secret_key")
  lu.assertNil(head.attributes.value)
  lu.assertStrMatches(head.serial, "%x*")
end

function TestSealed.test_a_damaged_one_has_no_head()
  local bytes = read("aes.sealed")
  for at = 1, #bytes, 7 do
    local other = bytes:sub(1, at - 1) .. string.char(bytes:byte(at) ~ 1) .. bytes:sub(at + 1)
    local head, err = core.sealed(other):head()
    lu.assertNil(head)
    lu.assertEquals(err.code, "KFR_DAMAGED")
  end
  lu.assertEquals(select(2, core.sealed(read("version-2.sealed")):head()).code,
    "KFR_NEWER_VERSION")
end

function TestSealed.test_closed_and_misused()
  local sealed = core.sealed(read("aes.sealed"))
  sealed:close()
  sealed:close()
  for _, call in ipairs { sealed.bytes, sealed.head, sealed.opens } do
    local ok, message = pcall(call, sealed, right())
    lu.assertFalse(ok)
    lu.assertStrContains(message, "the sealed object is closed")
  end
  lu.assertFalse((pcall(core.sealed)))
  lu.assertFalse((pcall(core.sealed, {})))
  local ok, message = pcall(sealed.opens, core.sealed("x"), "a domain")
  lu.assertFalse(ok)
  lu.assertStrContains(message, "keyferry.domain")
end

function TestSealed.test_no_key_byte_is_to_be_seen_in_it()
  for _, one in ipairs(fixture) do
    local bytes = read(one.file)
    for _, hidden in pairs(one.hidden) do
      lu.assertNotStrContains(bytes, shell.unhex(hidden))
    end
    if one.body then lu.assertNotStrContains(bytes, shell.unhex(one.body):sub(-20, -5)) end
  end
end

-- Three answers ---------------------------------------------------------------------------------

local TestAnswers = {}

function TestAnswers.test_each_opens_under_its_domain_and_under_no_other()
  for _, one in ipairs(fixture) do
    lu.assertEquals(answer(read(one.file), right()), "opens", one.file)
    lu.assertEquals(answer(read(one.file), wrong()), "KFR_DOMAIN_MISMATCH", one.file)
  end
end

function TestAnswers.test_a_newer_version_says_so_whatever_the_domain()
  lu.assertEquals(answer(read(fixture.newer), right()), "KFR_NEWER_VERSION")
  lu.assertEquals(answer(read(fixture.newer), wrong()), "KFR_NEWER_VERSION")
end

local function flip(bytes, bit)
  local at = bit // 8 + 1
  return bytes:sub(1, at - 1) .. string.char(bytes:byte(at) ~ (1 << bit % 8)) .. bytes:sub(at + 1)
end

local function answers_of_all_bits(bytes, under)
  local answers = {}
  for bit = 0, #bytes * 8 - 1 do answers[answer(flip(bytes, bit), under)] = true end
  return answers
end

function TestAnswers.test_any_flipped_bit_is_damage_under_the_right_domain()
  for _, one in ipairs(fixture) do
    lu.assertEquals(answers_of_all_bits(read(one.file), right()), { KFR_DAMAGED = true }, one.file)
  end
end

-- Damage is not called a wrong domain, nor a newer version.
function TestAnswers.test_any_flipped_bit_is_damage_under_a_wrong_domain_and_in_a_newer_version()
  lu.assertEquals(answers_of_all_bits(read("data.sealed"), wrong()), { KFR_DAMAGED = true })
  lu.assertEquals(answers_of_all_bits(read(fixture.newer), right()), { KFR_DAMAGED = true })
end

function TestAnswers.test_whatever_is_cut_off_or_added_is_damage()
  local bytes = read("aes.sealed")
  for n = 0, #bytes - 1 do
    lu.assertEquals(answer(bytes:sub(1, n), right()), "KFR_DAMAGED", n)
    lu.assertEquals(answer(bytes:sub(-n - 1, -2), right()), "KFR_DAMAGED", n)
  end
  for _, more in ipairs { "\0", "x", bytes } do
    lu.assertEquals(answer(bytes .. more, right()), "KFR_DAMAGED")
    lu.assertEquals(answer(more .. bytes, right()), "KFR_DAMAGED")
  end
end

function TestAnswers.test_what_never_was_one_is_damage()
  for _, bytes in ipairs { "", "\0", ("\0"):rep(1000), ("\255"):rep(1000), ("keyferry"):rep(99),
    read("rsa.sealed"):sub(1, 200) .. read("ed25519.sealed") } do
    lu.assertEquals(answer(bytes, right()), "KFR_DAMAGED")
  end
end

function TestAnswers.test_the_sentences_tell_them_apart()
  local bytes = read("data.sealed")
  local said = {}
  for code, case in pairs { KFR_DAMAGED = { flip(bytes, 900), right() },
    KFR_DOMAIN_MISMATCH = { bytes, wrong() },
    KFR_NEWER_VERSION = { read(fixture.newer), right() } } do
    local _, err = core.sealed(case[1]):opens(case[2])
    lu.assertEquals(err.code, code)
    said[code] = err.what
  end
  lu.assertStrContains(said.KFR_DOMAIN_MISMATCH, "domain")
  lu.assertStrContains(said.KFR_DAMAGED, "damaged")
  lu.assertStrContains(said.KFR_NEWER_VERSION, "version")
  lu.assertNotStrContains(said.KFR_DAMAGED, "domain")
end

-- Fixtures --------------------------------------------------------------------------------------

local TestFixtures = {}

-- Plants a fixture into a new token; its attributes as the store has them.
local function plant(one, engine)
  local token = zoo.token("fixture")
  local session = zoo.session(token)
  local endpoint <close> = assert(session:endpoint(engine, right()))
  assert(endpoint:stage(core.sealed(read(one.file))))
  local planted = assert(endpoint:commit())
  lu.assertNil(planted[1].err and tostring(planted[1].err), one.file)
  local object = assert(session:object(planted[1].handle))
  local _, stored = next(token:objects())
  lu.assertEquals(#token:files(), 1)
  return object, stored, planted[1].lost, token
end

local BOOLEAN = { ["00"] = "00", ff = "01" }

local function as_written(attribute)
  local hex = shell.hex(attribute.value)
  return attribute.kind == 1 and BOOLEAN[hex] or hex
end

local function assert_has(stored, attributes, lost, what)
  for name, hex in pairs(attributes) do
    local attribute = stored[core.value("CKA", name)]
    local kept = not (", " .. lost .. ","):find(" " .. name .. ",", 1, true)
    if kept then
      lu.assertNotNil(attribute, what .. " " .. name)
      lu.assertEquals(as_written(attribute), hex, what .. " " .. name)
    end
  end
end

local function assert_body(stored, one)
  if one.body_kind == 1 then
    lu.assertEquals(shell.hex(stored[0x11].value), one.body, one.file)
  elseif one.body_kind == 2 then
    local numbers = stored[0x123] or stored[0x11]
    local hex = shell.hex(numbers.value):gsub("^0420", ""):gsub("^00", "")
    lu.assertStrContains(one.body, hex)
    lu.assertTrue(#hex >= 64)
  end
end

function TestFixtures.test_softhsm_plants_them_as_they_are_written()
  for _, one in ipairs(fixture) do
    local _, stored, lost, token = plant(one, "softhsm")
    if one.exact then lu.assertEquals(lost, "", one.file) end
    assert_has(stored, one.open, "", one.file)
    assert_has(stored, one.hidden, "", one.file)
    assert_body(stored, one)
    zoo.close(token)
  end
end

-- What C_UnwrapKey and C_CreateObject leave to the token.
local LOSABLE = { CKA_LOCAL = true, CKA_KEY_GEN_MECHANISM = true, CKA_ALWAYS_SENSITIVE = true,
  CKA_NEVER_EXTRACTABLE = true, CKA_CHECK_VALUE = true, CKA_VALUE_LEN = true }

function TestFixtures.test_wrap_plants_them_and_says_what_it_could_not_keep()
  for _, one in ipairs(fixture) do
    local _, stored, lost, token = plant(one, "wrap")
    assert_has(stored, one.open, lost, one.file)
    assert_has(stored, one.hidden, lost, one.file)
    assert_body(stored, one)
    for name in lost:gmatch("[^ ,]+") do
      lu.assertTrue(LOSABLE[name], one.file .. " " .. name)
    end
    zoo.close(token)
  end
end

function TestFixtures.test_the_keys_in_them_work()
  for _, engine in ipairs{ "softhsm", "wrap" } do
    for _, one in ipairs(fixture) do
      if one.file == "rsa.sealed" then
        local object, _, _, token = plant(one, engine)
        local modulus = object.modulus
        local public = assert(object:session():create { class = "public_key", key_type = "rsa",
          modulus = modulus, public_exponent = "\1\0\1", verify = true })
        lu.assertTrue(public:verify("sha256_rsa_pkcs", "m",
          assert(object:sign("sha256_rsa_pkcs", "m"))))
        zoo.close(token)
      end
    end
  end
end

return { TestSealed = TestSealed, TestAnswers = TestAnswers, TestFixtures = TestFixtures }
