-- SPDX-License-Identifier: MIT
-- Objects from Lua: their attributes, their use, and what never comes out of them.
local lu = require("luaunit")

local core = require("keyferry.core")
local shell = require("support.shell")
local zoo = require("support.zoo")

local function assert_refused(code, value, err)
  lu.assertNil(value)
  lu.assertEquals(err and err.code, code, tostring(err))
  return err
end

local function assert_raises(part, call, ...)
  local ok, message = pcall(call, ...)
  lu.assertFalse(ok, part)
  lu.assertStrContains(tostring(message), part)
end

local shared

local function session()
  shared = shared or zoo.token("objects")
  return zoo.session(shared)
end

local BYTES = "0123456789abcdef0123456789ABCDEF"

local function secret_key(more)
  local all = { class = "secret_key", key_type = "generic_secret", value = BYTES, label = "s",
    sign = true, verify = true }
  for name, value in pairs(more or {}) do all[name] = value end
  return assert(session():create(all))
end

local TestAttributes = {}

function TestAttributes.test_come_as_the_lua_values_they_are()
  local key = secret_key { id = "\0\1", sensitive = true, start_date = "20200229",
    allowed_mechanisms = { "sha512_hmac", "sha256_hmac" }, private = false, extractable = false,
    unwrap_template = { class = "secret_key", extractable = false } }
  lu.assertEquals(key.id, "\0\1")
  lu.assertEquals(key.class, "secret_key")
  lu.assertEquals(key.key_type, "generic_secret")
  lu.assertEquals(key.value_len, 32)
  lu.assertEquals({ key.sensitive, key.extractable }, { true, false })
  lu.assertEquals(key.start_date, "20200229")
  lu.assertEquals(key.allowed_mechanisms, { "sha256_hmac", "sha512_hmac" })
  lu.assertEquals(key.unwrap_template, { class = "secret_key", extractable = false })
  lu.assertEquals(key.key_gen_mechanism, "unavailable")
  lu.assertTrue(key:has("sign"))
  lu.assertFalse(key:has("derive"))
  lu.assertNil(key.modulus)
  local all = key:attributes()
  lu.assertEquals(all.sign, true)
  lu.assertEquals(all.label, "s")
  lu.assertStrMatches(tostring(key), 'secret_key generic_secret "s" %(handle %d+, id %x+%)')
end

function TestAttributes.test_an_object_is_one_line_whatever_its_label()
  local one = session()
  local made = assert(one:create { class = "data", value = "v", token = false,
    label = "a\n\27[2J\127\0z" })
  lu.assertStrMatches(tostring(made),
    'data "a\\x0A\\x1B%[2J\\x7F\\x00z" %(handle %d+%)')
  local long = assert(one:create { class = "data", value = "v", token = false,
    label = ("\u{e4}"):rep(2000) .. "\xff" })
  lu.assertStrMatches(tostring(long), 'data "' .. ("\u{e4}"):rep(40) .. '%.%.%." %(handle %d+%)')
  lu.assertTrue(made:destroy())
  lu.assertTrue(long:destroy())
end

function TestAttributes.test_a_field_that_is_no_attribute_raises()
  local key = secret_key()
  assert_raises("an object has no field 'lable'", function() return key.lable end)
  assert_raises("string expected", function() return key[{}] end)
  assert_raises("", function() key.label = "x" end)
  assert_raises("'colour' is not an attribute", key.read, key, "colour")
  assert_raises("'colour' is not an attribute", key.has, key, "colour")
end

function TestAttributes.test_a_template_in_itself_raises()
  local template = { label = "x" }
  template.wrap_template = template
  assert_raises("overflow", session().find, session(), template)
end

function TestAttributes.test_read_afresh_after_a_change()
  local key = secret_key { id = "1" }
  assert(key:change { label = "new", id = "" })
  lu.assertEquals(key.label, "s")
  lu.assertEquals(assert(key:read("label")), "new")
  lu.assertEquals(assert(key:read("CKA_ID")), "")
  lu.assertEquals(assert(key:read(0x3)), "new")
  assert_refused("CKR_ATTRIBUTE_TYPE_INVALID", key:read("modulus"))
  local err = assert_refused("CKR_ATTRIBUTE_READ_ONLY", key:change { value_len = 3 })
  lu.assertEquals(err.call, "C_SetAttributeValue")
end

-- What the token has and does not give is not taken for absent.
function TestAttributes.test_dates_of_private_objects_are_told_as_unread()
  local key = secret_key { private = true, start_date = "20200229", token = true }
  lu.assertEquals(key:unread(), { "CKA_START_DATE" })
  lu.assertNil(key.start_date)
  lu.assertEquals(key.label, "s")
  lu.assertEquals(key.value_len, 32)
  assert(key:destroy())
  lu.assertEquals(secret_key({ private = false }):unread(), {})
end

-- Key bytes of an extractable key that is not sensitive: PKCS#11 would give them, we do not.
function TestAttributes.test_no_way_gives_key_bytes()
  local key = secret_key { sensitive = false, extractable = true }
  lu.assertNil(key.value)
  lu.assertNil(key:attributes().value)
  assert_refused("CKR_ATTRIBUTE_SENSITIVE", key:read("value"))
  assert_refused("CKR_ATTRIBUTE_SENSITIVE", key:read(0x11))
  lu.assertNotStrContains(tostring(key), BYTES)
  local _, private = assert(session():generate_pair { mechanism = "rsa_pkcs_key_pair_gen",
    public = { modulus_bits = 1024, public_exponent = "\1\0\1" },
    private = { sensitive = false, extractable = true } })
  lu.assertEquals(#private.modulus, 128)
  for _, name in ipairs { "private_exponent", "prime_1", "prime_2", "exponent_1", "exponent_2",
    "coefficient" } do
    lu.assertNil(private[name], name)
    assert_refused("CKR_ATTRIBUTE_SENSITIVE", private:read(name))
  end
  for name, value in pairs(private:attributes()) do
    lu.assertTrue(name == "modulus" or name == "public_key_info" or #tostring(value) < 40, name)
  end
end

-- A secret may be put into a template, so that no string of it need ever be.
function TestAttributes.test_key_bytes_go_in_as_a_secret()
  local a = assert(session():create { class = "secret_key", key_type = "generic_secret",
    value = core.secret(BYTES), sign = true, verify = true })
  lu.assertTrue(secret_key():verify("sha256_hmac", "m", assert(a:sign("sha256_hmac", "m"))))
end

-- Use -------------------------------------------------------------------------------------------

local TestUse = {}

function TestUse.test_signing_and_verifying()
  local key = secret_key()
  local mac = assert(key:sign("sha256_hmac", "message"))
  lu.assertEquals(#mac, 32)
  lu.assertIs(key:verify("sha256_hmac", "message", mac), true)
  lu.assertIs(key:verify("sha256_hmac", "massage", mac), false)
  lu.assertIs(key:verify("sha256_hmac", "message", mac:sub(2)), false)
  assert_refused("CKR_MECHANISM_INVALID", key:sign("aes_ecb", "message"))
  local mute = secret_key { sign = false }
  assert_refused("CKR_KEY_FUNCTION_NOT_PERMITTED", mute:sign("sha256_hmac", "message"))
end

-- A value of FIPS 197 and one of SP 800-38A and the GCM specification's test case 14.
function TestUse.test_encrypting_as_the_standards_have_it()
  local function aes(hex)
    return assert(session():create { class = "secret_key", key_type = "aes", encrypt = true,
      decrypt = true, value = shell.unhex(hex) })
  end
  local zero = aes(("00"):rep(32))
  local gcm = { "aes_gcm", iv = ("\0"):rep(12), tag_bits = 128 }
  lu.assertEquals(shell.hex(assert(zero:encrypt(gcm, ("\0"):rep(16)))),
    "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919")
  local fips = aes("000102030405060708090a0b0c0d0e0f")
  local plain = shell.unhex("00112233445566778899aabbccddeeff")
  local cipher = assert(fips:encrypt("aes_ecb", plain))
  lu.assertEquals(shell.hex(cipher), "69c4e0d86a7b0430d8cdb78070b4c55a")
  lu.assertEquals(assert(fips:decrypt("aes_ecb", cipher)), plain)
  local cbc = aes("2b7e151628aed2a6abf7158809cf4f3c")
  local iv = shell.unhex("000102030405060708090a0b0c0d0e0f")
  lu.assertEquals(shell.hex(assert(cbc:encrypt({ "aes_cbc", iv = iv },
    shell.unhex("6bc1bee22e409f96e93d7e117393172a")))), "7649abac8119b246cee98e9b12e9197d")
  local padded = assert(cbc:encrypt({ "aes_cbc_pad", parameter = iv }, "seven.."))
  lu.assertEquals(assert(cbc:decrypt({ "CKM_AES_CBC_PAD", iv = iv }, padded)), "seven..")
  lu.assertNil((zero:decrypt(gcm, ("\0"):rep(32))))
end

function TestUse.test_rsa_with_its_parameters()
  local public, private = assert(session():generate_pair { mechanism = "rsa_pkcs_key_pair_gen",
    public = { modulus_bits = 1024, public_exponent = "\1\0\1", verify = true, encrypt = true },
    private = { sign = true, decrypt = true } })
  local pss = { "sha256_rsa_pkcs_pss", hash = "sha256", mgf = 2, salt_len = 32 }
  lu.assertTrue(public:verify(pss, "m", assert(private:sign(pss, "m"))))
  lu.assertFalse(public:verify(pss, "n", assert(private:sign(pss, "m"))))
  local oaep = { "rsa_pkcs_oaep", hash = "sha_1", mgf = 1 }
  lu.assertEquals(private:decrypt(oaep, assert(public:encrypt(oaep, "m"))), "m")
end

function TestUse.test_misuse_raises()
  local key = secret_key()
  assert_raises("'cat' is not a mechanism", key.sign, key, "cat", "m")
  assert_raises("is not a mechanism", key.sign, key, {}, "m")
  assert_raises("string expected", key.sign, key, "sha256_hmac")
  assert_raises("string expected", key.verify, key, "sha256_hmac", "m")
  assert_raises("keyferry.object", key.sign, session(), "sha256_hmac", "m")
  assert_raises("'cat' is not a digest", key.sign, key, { "rsa_pkcs_pss", hash = "cat" }, "m")
  assert_raises("number expected", key.sign, key, { "rsa_pkcs_pss", salt_len = "x" }, "m")
end

-- Copies and ends -------------------------------------------------------------------------------

-- What __index answers belongs to nobody by the time the token looks at it.
function TestUse.test_the_bytes_of_a_mechanism_lie_in_its_table()
  local key = assert(session():generate { mechanism = "aes_key_gen", value_len = 16,
    encrypt = true })
  local mechanism = setmetatable({ "aes_cbc_pad" }, { __index = function(_, name)
    return name == "iv" and ("i"):rep(16) or nil
  end })
  lu.assertNil((key:encrypt(mechanism, "data")))
  rawset(mechanism, "iv", ("i"):rep(16))
  lu.assertEquals(#assert(key:encrypt(mechanism, "data")), 16)
end

local TestCopy = {}

function TestCopy.test_a_copy_is_the_object_with_some_changes()
  local key = secret_key { id = "1" }
  local copy = assert(key:copy { label = "copy", token = true })
  lu.assertEquals({ copy.label, copy.id, copy.token }, { "copy", "1", true })
  lu.assertNotEquals(copy.handle, key.handle)
  lu.assertTrue(key:verify("sha256_hmac", "m", assert(copy:sign("sha256_hmac", "m"))))
  assert(copy:destroy())
  lu.assertEquals(assert(key:copy()).label, "s")
  local err = assert_refused("CKR_ACTION_PROHIBITED", secret_key({ copyable = false }):copy())
  lu.assertEquals(err.call, "C_CopyObject")
end

function TestCopy.test_one_that_is_gone_says_so()
  local key = secret_key()
  assert(key:destroy())
  for _, call in ipairs { function() return key:destroy() end, function() return key:copy() end,
    function() return key:sign("sha256_hmac", "m") end, function() return key:read("label") end } do
    local value, err = call()
    lu.assertNil(value)
    lu.assertTrue(err.code == "KFR_VANISHED" or err.code == "CKR_OBJECT_HANDLE_INVALID",
      tostring(err))
  end
  lu.assertEquals(key.label, "s")
end

function TestCopy.test_one_that_may_not_be_destroyed_stays()
  local key = secret_key { destroyable = false }
  lu.assertNil((key:destroy()))
  lu.assertEquals(assert(key:read("label")), "s")
end

-- A challenge -----------------------------------------------------------------------------------

local TestChallenge = {}

local function different(key)
  return (key:sub(1, -2) .. string.char(key:byte(-1) ~ 1))
end

-- Every kind: itself, a copy of it, and another key of the same kind.
function TestChallenge.test_tells_the_same_key_from_another()
  local function ec(curve, mechanism)
    return function()
      return select(2, assert(session():generate_pair { mechanism = mechanism or "ec_key_pair_gen",
        public = { ec_params = zoo.curves[curve], verify = true },
        private = { sign = curve ~= "x25519", derive = curve == "x25519" } }))
    end
  end
  local flip = BYTES
  local function symmetric(more)
    return function()
      flip = different(flip:sub(2) .. flip:sub(1, 1))
      local all = { class = "secret_key", value = flip, encrypt = true, decrypt = true }
      for name, value in pairs(more) do all[name] = value end
      return assert(session():create(all))
    end
  end
  for name, make in pairs {
    p256 = ec("p-256"), p521 = ec("p-521"),
    ed25519 = ec("ed25519", "ec_edwards_key_pair_gen"),
    x25519 = ec("x25519", "ec_edwards_key_pair_gen"),
    aes = symmetric { key_type = "aes" },
    generic = symmetric { key_type = "generic_secret", encrypt = false, decrypt = false,
      sign = true, verify = true },
    rsa = function()
      return select(2, assert(session():generate_pair { mechanism = "rsa_pkcs_key_pair_gen",
        public = { modulus_bits = 1024, public_exponent = "\1\0\1", verify = true },
        private = { sign = true } }))
    end,
  } do
    local a, b = make(), make()
    lu.assertIs(core.challenge(a, a), true, name)
    lu.assertIs(core.challenge(a, assert(a:copy())), true, name)
    lu.assertIs(core.challenge(a, b), false, name)
  end
end

function TestChallenge.test_says_which_flags_forbid_every_operation()
  local mute = select(2, assert(session():generate_pair { mechanism = "ec_key_pair_gen",
    public = { ec_params = zoo.curves["p-256"], verify = false },
    private = { sign = false, derive = false } }))
  local err = assert_refused("KFR_NOT_FOUND", core.challenge(mute, assert(mute:copy())))
  lu.assertStrContains(err.what, "CKA_")
end

function TestChallenge.test_compares_the_bytes_of_data()
  local function data(value)
    return assert(session():create { class = "data", label = "d", value = value, private = true })
  end
  lu.assertIs(core.challenge(data("same"), data("same")), true)
  lu.assertIs(core.challenge(data("same"), data("other")), false)
  lu.assertIs(core.challenge(data(("x"):rep(5000)), data(("x"):rep(4999) .. "y")), false)
end

function TestChallenge.test_leaves_nothing_behind()
  local before = #assert(session():find {})
  local a = select(2, assert(session():generate_pair { mechanism = "ec_key_pair_gen",
    public = { ec_params = zoo.curves["p-256"] }, private = { derive = true } }))
  core.challenge(a, a)
  lu.assertEquals(#assert(session():find {}), before + 2)
end

return {
  TestAttributes = TestAttributes,
  TestUse = TestUse,
  TestCopy = TestCopy,
  TestChallenge = TestChallenge,
}
