-- SPDX-License-Identifier: MIT
-- The kinds of object of the matrix: how one is made on a token that takes it, and how a clone of
-- it is judged by its original.
--
--   kinds[i] = { name =, class =, make = function(session, label, id), use =, quick = bool }
-- A kind's object has the kind's name for a label. `use` works the clone and judges by the original
-- (or its public key): true, or a sentence that says what is wrong; a kind without it is one that
-- does no work, whose attributes are all there is.
local shell = require("support.shell")

local CURVES = {
  ["p-256"] = shell.unhex("06082a8648ce3d030107"),
  ["p-384"] = shell.unhex("06052b81040022"),
  ["p-521"] = shell.unhex("06052b81040023"),
  secp256k1 = shell.unhex("06052b8104000a"),
  ed25519 = "\19\12edwards25519",
}

local DSA = {
  prime = shell.unhex(
    "8ca134340f6184801d25648494e9ab1ef65fd7f24dd8959c7a5db66875837939ba7cbcb43a" ..
    "fe15146141d045305b72a28677d1d45c1a8ea307e5940a689552b224de395ae07be7e34c65" ..
    "e421f935ac621ae329f803780a5682c806573b49306aaf60b2fe43c795cbb0c5fa2bbc26b3" ..
    "dd6ea8c4a366ae2eaa9c7a81573b2d0f71"),
  subprime = shell.unhex("859656b5a862661d3b93a05e5f280a19d0610735"),
  base = shell.unhex("4a7fb7e17d9763eb72cee673f4f7504ba7a1d198a8bc08b71ab7907f2b30433e9e0c46c2c3" ..
    "028bd7d65df1d3f7c19d84489aa3391638d78bf9c985ba5f759b03cb8c4b6ab51080a2bdec" ..
    "585da342c3993602ea23048814b13f873f46e6ec5615ce9be310fb27288235f4cb010490b4" ..
    "6eee6d854001c0c01037f8510eeb803926"),
}

-- The second Oakley group (RFC 2409, 6.2).
local DH = {
  prime = shell.unhex("ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74" ..
    "020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b57662" ..
    "5e7ec6f44c42e9a637ed6b0bff5cb6f406b7edee386bfb5a899fa5ae9f24117c4b1fe649286651ece65381ffff" ..
    "ffffffffffff"),
  base = "\2",
}

local MESSAGE, OTHER = ("message to sign."):rep(2), ("another message."):rep(2)

-- Use -----------------------------------------------------------------------------------------

local function public_of(key)
  local found, err = key:session():find { class = "public_key", id = key.id }
  if not found or #found ~= 1 then
    return nil, "no public key of the original: " .. tostring(err)
  end
  return found[1]
end

-- What the clone signs is good to the original's public key, and only that.
local function signs(mechanism)
  return function(clone, original)
    local public, problem = public_of(original)
    if not public then return problem end
    local signature, err = clone:sign(mechanism, MESSAGE)
    if not signature then return "it does not sign: " .. tostring(err) end
    if public:verify(mechanism, MESSAGE, signature) ~= true then
      return "its signature is not good to the original's public key"
    elseif public:verify(mechanism, OTHER, signature) then
      return "its signature is good for anything"
    end
    return true
  end
end

-- The public key that was cloned takes what the original private key signs.
local function verifies(mechanism)
  return function(clone, original)
    local private = original:session():find({ class = "private_key", id = original.id })[1]
    local signature = private and private:sign(mechanism, MESSAGE)
    if not signature then return "the original's private key does not sign" end
    if clone:verify(mechanism, MESSAGE, signature) ~= true then
      return "it does not take the original's signature"
    elseif clone:verify(mechanism, OTHER, signature) then
      return "it takes any signature"
    end
    return true
  end
end

local function ciphers(mechanism)
  return function(clone, original)
    for _, pair in ipairs { { clone, original }, { original, clone } } do
      local secret, err = pair[1]:encrypt(mechanism, MESSAGE)
      if not secret then return "it does not encrypt: " .. tostring(err) end
      if pair[2]:decrypt(mechanism, secret) ~= MESSAGE then return "it is another key" end
    end
    return true
  end
end

local function macs(mechanism)
  return function(clone, original)
    local a, err = clone:sign(mechanism, MESSAGE)
    local b, err2 = original:sign(mechanism, MESSAGE)
    if not a or not b then return "it makes no MAC: " .. tostring(err or err2) end
    if a ~= b then return "its MAC is another" end
    return true
  end
end

local AES = ciphers { "aes_cbc_pad", iv = ("i"):rep(16) }
local DES = ciphers { "des3_cbc_pad", iv = ("i"):rep(8) }

-- Making --------------------------------------------------------------------------------------

local function with(...)
  local all = {}
  for _, some in ipairs { ... } do
    for name, value in pairs(some) do all[name] = value end
  end
  return all
end

local SAFE = { token = true, private = true, sensitive = true, extractable = true }

local function pair(mechanism, public, private)
  return function(session, label, id)
    local named = { label = label, id = id, token = true }
    local made, key = session:generate_pair { mechanism = mechanism,
      public = with(named, { private = false, verify = true }, public),
      private = with(SAFE, named, { sign = true }, private) }
    if not made then return nil, key end
    return key
  end
end

local function rsa(private)
  return pair("rsa_pkcs_key_pair_gen", { modulus_bits = 2048, public_exponent = "\1\0\1" }, private)
end

local function ec(curve, private)
  local edwards = curve == "ed25519"
  return pair(edwards and "ec_edwards_key_pair_gen" or "ec_key_pair_gen",
    { ec_params = CURVES[curve] }, private)
end

local function generated(mechanism, more)
  return function(session, label, id)
    return session:generate(with(SAFE, { mechanism = mechanism, label = label, id = id,
      encrypt = true, decrypt = true }, more))
  end
end

local function secret(length, key_type, more)
  return function(session, label, id)
    local bytes = {}
    for i = 1, length do bytes[i] = string.char((i * 37 + length * 11 + #label) % 256) end
    return session:create(with(SAFE, { class = "secret_key", key_type = key_type, label = label,
      id = id, value = table.concat(bytes), sign = true, verify = true }, more))
  end
end

local function created(template)
  return function(session, label, id)
    return session:create(with(template(id), { label = label, token = true, private = false }))
  end
end

-- An RSA key of nobody, self-signed, as DER; made when first asked for.
local der
local function certificate(id)
  if not der then
    local pipe <close> = assert(io.popen("openssl req -x509 -newkey ec -pkeyopt " ..
      "ec_paramgen_curve:P-256 -nodes -keyout /dev/null -outform DER -subj /CN=matrix -days 2 " ..
      "2>/dev/null"))
    der = pipe:read("a")
  end
  local name = shell.unhex("3011310f300d06035504030c066d6174726978")
  return { class = "certificate", certificate_type = "x_509", value = der, id = id, subject = name,
    issuer = name, serial_number = "\2\1\5" }
end

-- With what makes it of its kind, which is looked for when it was made.
local function being(is, kind)
  kind.is = is
  return kind
end

local NO = { extractable = false }
local TRUSTED, ALWAYS, FIXED = { wrap_with_trusted = true }, { always_authenticate = true },
  { modifiable = false }

-- The class, when it is not said, is that of the private half or of the secret key.
local list = {
  { name = "RSA 2048", quick = true, make = rsa(), use = signs("sha256_rsa_pkcs") },
  { name = "P-256", quick = true, make = ec("p-256"), use = signs("ecdsa") },
  { name = "P-384", make = ec("p-384"), use = signs("ecdsa") },
  { name = "P-521", quick = true, make = ec("p-521"), use = signs("ecdsa") },
  { name = "secp256k1", make = ec("secp256k1"), use = signs("ecdsa") },
  { name = "Ed25519", quick = true, make = ec("ed25519"), use = signs("eddsa") },
  { name = "DSA 1024", make = pair("dsa_key_pair_gen", DSA), use = signs("dsa_sha1") },
  { name = "DH", make = pair("dh_pkcs_key_pair_gen", with(DH, { verify = false }),
    { sign = false, derive = true }), agreement = true },
  { name = "AES-256", quick = true, use = AES,
    make = generated("aes_key_gen", { value_len = 32 }) },
  { name = "AES-128", make = generated("aes_key_gen", { value_len = 16 }), use = AES },
  { name = "DES3", make = generated("des3_key_gen"), use = DES },
  { name = "generic, 37 bytes", quick = true, make = secret(37, "generic_secret"),
    use = macs("sha256_hmac") },
  { name = "generic, 100 bytes", make = secret(100, "generic_secret"), use = macs("sha256_hmac") },
  { name = "HMAC-SHA-256, 65 bytes", make = secret(65, "sha256_hmac"), use = macs("sha256_hmac") },
  { name = "certificate", quick = true, class = "certificate", make = created(certificate) },
  { name = "data", quick = true, class = "data", make = created(function()
    return { class = "data", application = "matrix", value = ("data "):rep(20) }
  end) },
  { name = "public key, RSA", class = "public_key", of = "RSA 2048",
    use = verifies("sha256_rsa_pkcs") },
  { name = "public key, P-256", quick = true, class = "public_key", of = "P-256",
    use = verifies("ecdsa") },
  { name = "domain parameters, DH", class = "domain_parameters", make = created(function()
    return with(DH, { class = "domain_parameters", key_type = "dh" })
  end) },
  being(NO, { name = "P-256 non-extractable", quick = true, make = ec("p-256", NO),
    use = signs("ecdsa") }),
  being(NO, { name = "AES non-extractable", quick = true,
    make = generated("aes_key_gen", with({ value_len = 32 }, NO)), use = AES }),
  being({ sensitive = false }, { name = "AES readable",
    make = generated("aes_key_gen", { value_len = 32, sensitive = false }), use = AES }),
  being(TRUSTED, { name = "AES wrap-with-trusted", quick = true,
    make = generated("aes_key_gen", with({ value_len = 32 }, TRUSTED)), use = AES }),
  -- A use asks for the PIN once more, which this bench does not give.
  being(ALWAYS, { name = "P-256 always-authenticate", make = ec("p-256", ALWAYS) }),
  being(FIXED, { name = "AES non-modifiable",
    make = generated("aes_key_gen", with({ value_len = 32 }, FIXED)), use = AES }),
  being(FIXED, { name = "P-256 non-modifiable", make = ec("p-256", FIXED),
    use = signs("ecdsa") }),
}

for i, kind in ipairs(list) do
  kind.label = kind.of or kind.name
  kind.id = "kind" .. string.pack(">I2", i)
end

return list
