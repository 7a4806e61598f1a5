-- SPDX-License-Identifier: MIT
-- zoo: a partition with one of everything that SoftHSM can hold, and each kind's way of
-- being used.
--
--   local token = zoo.token("source")            a fresh soft HSM with one token
--   zoo.stock(zoo.session(token))                one of each; zoo.close(token)
--   zoo.estrange(token)                          attributes that SoftHSM does not know
--   zoo.works_for(clone, original)               the clone's work, judged by the original
local core = require("keyferry.core")
local object_file = require("support.object_file")
local process = require("support.process")
local shell = require("support.shell")
local softhsm = require("support.softhsm")
local tmp = require("support.tmp")

local M = {}

M.curves = {
  ["p-256"] = shell.unhex("06082a8648ce3d030107"),
  ["p-384"] = shell.unhex("06052b81040022"),
  ["p-521"] = shell.unhex("06052b81040023"),
  secp256k1 = shell.unhex("06052b8104000a"),
  ed25519 = "\19\12edwards25519",
  x25519 = "\19\10curve25519",
}

-- The second Oakley group (RFC 2409, 6.2).
local DH_PRIME = shell.unhex("ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74" ..
  "020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b57662" ..
  "5e7ec6f44c42e9a637ed6b0bff5cb6f406b7edee386bfb5a899fa5ae9f24117c4b1fe649286651ece65381ffff" ..
  "ffffffffffff")

function M.token(label)
  return softhsm.fresh(tmp.memory("zoo")):init_token(label)
end

-- A copy of a token, HSM and all, for one test to spoil.
function M.copy(token)
  local hsm = softhsm.fresh(tmp.memory("zoo"))
  process.must { "cp", "-a", token.dir, hsm.tokendir }
  return hsm:tokens(token.label, token)[1]
end

-- The module of a token's HSM, a copy of its own.
function M.module(hsm)
  return assert(core.module(hsm.module, { private_copy = true, env = hsm.env }))
end

function M.slot(module, token)
  for _, slot in ipairs(assert(module:slots())) do
    if slot.serial == token.serial then return slot.slot end
  end
  error("no token " .. token.serial)
end

-- The session with a token, logged in as the user: one, since two copies of SoftHSM must not
-- have the same store open, and a logout is for all sessions. options: writable (true).
function M.session(token, options)
  if not token.session or not token.session:is_open() then
    token.module = M.module(token.hsm)
    token.session = assert(token.module:session(M.slot(token.module, token),
      { writable = not options or options.writable ~= false }))
    assert(token.session:login(core.secret(token.pin)))
  end
  return token.session
end

-- Leaves a token alone, so that its files may be looked at or changed.
function M.close(token)
  if token.session then
    token.session:close()
    token.module:close()
  end
end

-- Stock ----------------------------------------------------------------------------------

local function with(base, more)
  local all = {}
  for name, value in pairs(base) do all[name] = value end
  for name, value in pairs(more or {}) do all[name] = value end
  return all
end

local SAFE = { token = true, private = true, sensitive = true, extractable = true }

-- All eight ways of being private, sensitive and extractable, as "ps-" and so on.
local function each_protection(make)
  for bits = 0, 7 do
    local has = { private = bits & 1 ~= 0, sensitive = bits & 2 ~= 0, extractable = bits & 4 ~= 0 }
    make((has.private and "p" or "-") .. (has.sensitive and "s" or "-") ..
      (has.extractable and "x" or "-"), has)
  end
end

local next_id = 0
local function id()
  next_id = next_id + 1
  return string.pack(">I2", next_id)
end

function M.pair(session, label, mechanism, public, private)
  local name = id()
  return assert(session:generate_pair { mechanism = mechanism,
    public = with({ label = label, id = name, token = true, private = false }, public),
    private = with(with(SAFE, { label = label, id = name }), private) })
end

function M.secret(session, label, more)
  return assert(session:create(with(with(SAFE, { class = "secret_key", label = label, id = id(),
    key_type = "generic_secret", sign = true, verify = true }), more)))
end

local function bytes(n, seed)
  local list = {}
  for i = 1, n do list[i] = string.char((i * 37 + (seed or n) * 11 + 5) % 256) end
  return table.concat(list)
end

local function stock_pairs(session)
  M.pair(session, "rsa", "rsa_pkcs_key_pair_gen",
    { modulus_bits = 2048, public_exponent = "\1\0\1", verify = true, encrypt = true,
      wrap = false, subject = "0\0" },
    { sign = true, decrypt = true, unwrap = false, subject = "0\0",
      allowed_mechanisms = { "sha256_rsa_pkcs", "rsa_pkcs", "rsa_pkcs_oaep" } })
  for _, curve in ipairs { "p-256", "p-384", "p-521", "secp256k1" } do
    M.pair(session, curve, "ec_key_pair_gen", { ec_params = M.curves[curve], verify = true },
      { sign = true, derive = true })
  end
  each_protection(function(name, has)
    M.pair(session, "ec " .. name, "ec_key_pair_gen",
      { ec_params = M.curves["p-256"], verify = true, private = has.private },
      with(has, { sign = true }))
  end)
  M.pair(session, "ed25519", "ec_edwards_key_pair_gen",
    { ec_params = M.curves.ed25519, verify = true }, { sign = true })
  M.pair(session, "ed25519 readable", "ec_edwards_key_pair_gen",
    { ec_params = M.curves.ed25519, verify = true }, { sign = true, sensitive = false })
  M.pair(session, "x25519", "ec_edwards_key_pair_gen",
    { ec_params = M.curves.x25519 }, { derive = true, sign = false })
  M.pair(session, "dh", "dh_pkcs_key_pair_gen", { prime = DH_PRIME, base = "\2" },
    { derive = true })
end

local function stock_parameters(session)
  local dsa = assert(session:generate { mechanism = "dsa_parameter_gen", prime_bits = 1024,
    label = "dsa parameters", token = true, private = true })
  local known = dsa:attributes()
  M.pair(session, "dsa", "dsa_key_pair_gen",
    { prime = known.prime, subprime = known.subprime, base = known.base, verify = true },
    { sign = true })
  assert(session:create { class = "domain_parameters", key_type = "dh", label = "dh parameters",
    token = true, private = false, prime = DH_PRIME, base = "\2" })
end

local CIPHER = { encrypt = true, decrypt = true, wrap = true, unwrap = true }

local function generate(session, label, mechanism, more)
  return assert(session:generate(with(with(with(SAFE, CIPHER),
    { mechanism = mechanism, label = label, id = id() }), more)))
end

local function stock_ciphers(session)
  each_protection(function(name, has)
    generate(session, "aes " .. name, "aes_key_gen", with(has, { value_len = 32 }))
  end)
  generate(session, "aes 128", "aes_key_gen", { value_len = 16 })
  generate(session, "aes 192", "aes_key_gen", { value_len = 24 })
  generate(session, "des", "des_key_gen")
  generate(session, "des2", "des2_key_gen")
  generate(session, "des3", "des3_key_gen")
  generate(session, "flags all false", "aes_key_gen", { value_len = 32, encrypt = false,
    decrypt = false, wrap = false, unwrap = false, sign = false, verify = false, derive = false })
  generate(session, "trusted wrapping only", "aes_key_gen", { value_len = 32,
    wrap_with_trusted = true })
end

-- Lengths on both sides of every block and every digest.
M.lengths = { 1, 5, 12, 16, 17, 20, 24, 31, 32, 33, 48, 63, 64, 65, 128, 255 }

local function stock_secrets(session)
  for _, n in ipairs(M.lengths) do
    M.secret(session, "generic " .. n, { value = bytes(n) })
  end
  for _, hash in ipairs { "md5", "sha_1", "sha224", "sha256", "sha384", "sha512" } do
    M.secret(session, hash .. " hmac", { key_type = hash .. "_hmac", value = bytes(65, #hash) })
  end
end

M.labels = { "", "again", "again", ("x"):rep(200), "schl\u{fc}ssel \u{2603} \u{1f511}",
  "nul\0and\nnewline" }

local function stock_names(session)
  for i, label in ipairs(M.labels) do
    M.secret(session, label, { value = bytes(32, i), id = "same id" })
    assert(session:create { class = "data", label = label, value = "data " .. i, token = true,
      private = i % 2 == 0, application = i > 3 and "" or label })
  end
  M.secret(session, "no id", { value = bytes(32, 77), id = "" })
end

local function stock_rest(session)
  local dates = { start_date = "20200229", end_date = "20991231" }
  M.secret(session, "dates, private", with(dates, { value = bytes(32, 71) }))
  M.secret(session, "dates, public", with(dates, { value = bytes(32, 72), private = false }))
  M.secret(session, "one date", { value = bytes(32, 73), start_date = "20200229", private = false })
  M.secret(session, "mechanisms", { value = bytes(32, 74),
    allowed_mechanisms = { "sha512_hmac", "sha256_hmac" } })
  generate(session, "templates", "aes_key_gen", { value_len = 32,
    wrap_template = { class = "secret_key", extractable = true, label = "only these" },
    unwrap_template = { sensitive = true, extractable = false, key_type = "aes",
      allowed_mechanisms = { "aes_cbc", "aes_ecb" } } })
  M.secret(session, "fixed", { value = bytes(32, 75), modifiable = false, copyable = false })
  for _, private in ipairs { true, false } do
    local name = private and "private" or "public"
    assert(session:create { class = "data", label = "data " .. name, value = bytes(50),
      application = "spec", object_id = "\6\3\42\3\4", token = true, private = private })
    assert(session:create { class = "data", label = "large " .. name, token = true,
      private = private, value = bytes(200 * 1024) })
    assert(session:create { class = "data", label = "empty " .. name, token = true,
      private = private, value = "" })
  end
end

-- A certificate made by openssl, as DER.
local function certificate()
  local dir = tmp.dir("certificate")
  process.must { "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
    "ec_paramgen_curve:P-256", "-nodes", "-keyout", dir .. "/key", "-out", dir .. "/cert",
    "-outform", "DER", "-subj", "/CN=zoo", "-days", "2" }
  return assert(shell.read(dir .. "/cert"))
end

local function stock_certificates(session)
  local der = certificate()
  for _, private in ipairs { true, false } do
    assert(session:create { class = "certificate", certificate_type = "x_509",
      label = private and "certificate private" or "certificate public", token = true,
      private = private, value = der, id = "\1\2", subject = "0\0", issuer = "0\0",
      serial_number = "\2\1\5", certificate_category = 1,
      start_date = not private and "20200101" or nil })
  end
end

-- One of each into the partition of a read/write session.
function M.stock(session)
  stock_pairs(session)
  stock_parameters(session)
  stock_ciphers(session)
  stock_secrets(session)
  stock_names(session)
  stock_rest(session)
  stock_certificates(session)
end

-- Strange attributes -----------------------------------------------------------------------

-- Adds one attribute of each kind to every file of the token, which no program may have open.
-- Byte strings of a private object lie there encrypted: the label's own bytes are such.
function M.estrange(token)
  for _, name in ipairs(token:files()) do
    local path = token.dir .. "/" .. name
    local object = assert(object_file.parse(shell.read(path)))
    local private = object_file.get(object, 0x2) ~= "\0"
    local encrypted = object_file.get(object, 0x3)
    if encrypted == "" or not private then encrypted = private and "" or "\0strange" end
    for _, record in ipairs {
      { type = 0x80001001, kind = 1, value = "\255" },
      { type = 0x80001002, kind = 2, value = string.pack(">I8", 0xFFFFFFFF00000001) },
      { type = 0x80001003, kind = 3, value = encrypted },
      { type = 0x80001004, kind = 4, value = string.pack(">I8I8s8", 0x3, 3, "inner") ..
        string.pack(">I8I8B", 0x103, 1, 255) },
      { type = 0x80001005, kind = 5, value = string.pack(">I8I8", 0x1081, 0x80000001) },
      { type = 0x80001006, kind = 3, value = "" },
    } do
      table.insert(object.records, record)
    end
    shell.write(path, object_file.encode(object))
  end
end

-- Use ---------------------------------------------------------------------------------------

local MESSAGE = bytes(32, 9)

local function public_of(key)
  local found = assert(key:session():find { class = "public_key", id = key.id,
    key_type = key.key_type })
  assert(#found == 1, tostring(key))
  return found[1]
end

local function signs(mechanism)
  return function(clone, original)
    local signature = assert(clone:sign(mechanism, MESSAGE))
    assert(public_of(original):verify(mechanism, MESSAGE, signature) == true, tostring(clone))
    assert(not public_of(original):verify(mechanism, bytes(32, 10), signature), tostring(clone))
  end
end

local function ciphers(mechanism)
  return function(clone, original)
    assert(original:decrypt(mechanism, assert(clone:encrypt(mechanism, MESSAGE))) == MESSAGE,
      tostring(clone))
    assert(clone:decrypt(mechanism, assert(original:encrypt(mechanism, MESSAGE))) == MESSAGE,
      tostring(clone))
  end
end

local function macs(mechanism)
  return function(clone, original)
    local signature = assert(clone:sign(mechanism, MESSAGE))
    assert(original:verify(mechanism, MESSAGE, signature) == true, tostring(clone))
  end
end

local function both(first, second)
  return function(...)
    first(...)
    second(...)
  end
end

local function public_checks(sign)
  return function(clone, original)
    local private = assert(original:session():find { class = "private_key", id = original.id,
      key_type = original.key_type })[1]
    assert(clone:verify(sign, MESSAGE, assert(private:sign(sign, MESSAGE))) == true,
      tostring(clone))
  end
end

local function decrypts(clone, original)
  local oaep = { "rsa_pkcs_oaep", hash = "sha_1" }
  assert(clone:decrypt(oaep, assert(public_of(original):encrypt(oaep, MESSAGE))) == MESSAGE,
    tostring(clone))
end

-- What the module's Lua does not do (key agreement) the challenge does.
local function agrees(clone, original)
  assert(core.challenge(original, clone) == true, tostring(clone))
end

local CBC = { "aes_cbc_pad", iv = ("i"):rep(16) }
local DES_CBC = { "des3_cbc_pad", iv = ("i"):rep(8) }

local uses = {
  ["private_key rsa"] = both(signs("sha256_rsa_pkcs"), decrypts),
  ["private_key ec"] = signs("ecdsa"),
  ["private_key ec_edwards"] = signs("eddsa"),
  ["private_key dsa"] = signs("dsa_sha1"),
  ["private_key dh"] = agrees,
  ["public_key rsa"] = public_checks("sha256_rsa_pkcs"),
  ["public_key ec"] = public_checks("ecdsa"),
  ["public_key ec_edwards"] = public_checks("eddsa"),
  ["public_key dsa"] = public_checks("dsa_sha1"),
  ["secret_key aes"] = ciphers(CBC),
  ["secret_key des2"] = ciphers(DES_CBC),
  ["secret_key des3"] = ciphers(DES_CBC),
  ["secret_key md5_hmac"] = macs("md5_hmac"),
  ["secret_key sha_1_hmac"] = macs("sha_1_hmac"),
  ["secret_key sha224_hmac"] = macs("sha224_hmac"),
  ["secret_key sha256_hmac"] = macs("sha256_hmac"),
  ["secret_key sha384_hmac"] = macs("sha384_hmac"),
  ["secret_key sha512_hmac"] = macs("sha512_hmac"),
}

-- SoftHSM wants as many bytes of key as the digest has.
local function generic_use(clone, original)
  local n = original.value_len
  if n >= 32 then return macs("sha256_hmac")(clone, original) end
  if n >= 16 then return macs("md5_hmac")(clone, original) end
end

-- Works the clone and judges by the original, or the other way round. False: this kind has no
-- operation (data, certificates, a secret too short for any, a key with no right to any).
function M.works_for(clone, original)
  local name = ("%s %s"):format(original.class, original.key_type)
  local use = uses[name]
  if name == "secret_key generic_secret" and original.value_len >= 16 then use = generic_use end
  if original.label == "x25519" and original.class == "private_key" then use = agrees end
  if original.label == "x25519" and original.class == "public_key" then use = nil end
  if original.label == "flags all false" then use = nil end
  if use then use(clone, original) end
  return use ~= nil
end

return M
