-- SPDX-License-Identifier: MIT
--- Objects for a test, from short descriptions.
--
--     { rsa = "tls-web" }                         a pair of 2048 bits that signs
--     { rsa = "mail", decrypt = true, bits = 3072 }
--     { ec = "sign" }, { ed25519 = "ssh" }        pairs that sign
--     { aes = "kek", wrap = true, unwrap = true } 32 bytes; encrypts and decrypts
--     { secret = "mac", value = "..." }           a generic secret that signs and verifies
--     { data = "note", value = "..." }
--     { certificate = "web", value = DER, subject = DER }
--     { class = "secret_key", key_type = "aes", value = ..., label = ... }   as it stands
--     { mechanism = "des3_key_gen", label = ... }                generated as it stands
--
-- Short forms make what is hardest to back up: objects of the token, private, and keys that
-- are sensitive and not extractable. Further fields are attributes (of a pair: of the private
-- key; `public` has those of the public one). Without `id` each gets the next number as one
-- byte, from the 256th as two; `id = ""` is none.
local M = {}

local P256 = "\6\8\42\134\72\206\61\3\1\7" -- OID prime256v1, RFC 5480
local ED25519 = "\19\12edwards25519" -- PrintableString, PKCS#11 3.0 section 2.3.10

-- What a public key does where its private one does that.
local OPPOSITE = { sign = "verify", decrypt = "encrypt", unwrap = "wrap" }

local USAGE = { "sign", "decrypt", "unwrap", "encrypt", "verify", "wrap" }

local function with(...)
    local all = {}
    for _, fields in ipairs({ ... }) do
        for name, value in pairs(fields) do
            all[name] = value
        end
    end
    return all
end

-- Every one of these usages, since a token's own default is not always no; the usual ones when
-- none is named.
local function usage(fields, possible, usual)
    local named, all = false, {}
    for _, name in ipairs(USAGE) do
        named = named or fields[name] ~= nil
    end
    for _, name in ipairs(possible) do
        all[name] = not named and usual[name] or fields[name] or false
    end
    return all
end

-- The attributes of a short form: its usual ones, and what stands in it.
local function key(fields, possible, usual)
    local given = with(fields)
    given.bits, given.public = nil, nil
    return with({ token = true, private = true, sensitive = true, extractable = false }, given,
        usage(fields, possible, usual))
end

local function pair(mechanism, public_of)
    return function(session, fields)
        local private = key(fields, { "sign", "decrypt", "unwrap" }, { sign = true })
        local public = { token = true, label = private.label, id = private.id }
        for name, other in pairs(OPPOSITE) do
            public[other] = private[name]
        end
        return session:generate_pair({ mechanism = mechanism, private = private,
            public = with(public, public_of(fields), fields.public or {}) })
    end
end

local MAKERS = {
    rsa = pair("rsa_pkcs_key_pair_gen", function(fields)
        return { modulus_bits = fields.bits or 2048, public_exponent = "\1\0\1" }
    end),
    ec = pair("ec_key_pair_gen", function() return { ec_params = P256 } end),
    ed25519 = pair("ec_edwards_key_pair_gen", function() return { ec_params = ED25519 } end),
    aes = function(session, fields)
        return session:generate(with({ mechanism = "aes_key_gen", value_len = 32 },
            key(fields, USAGE, { encrypt = true, decrypt = true })))
    end,
    secret = function(session, fields)
        return session:create(with({ class = "secret_key", key_type = "generic_secret",
            value = session:random(32) }, key(fields, USAGE, { sign = true, verify = true })))
    end,
    data = function(session, fields)
        local data = with({ class = "data", token = true, private = true, value = "" }, fields)
        data.id = nil -- a data object has none
        return session:create(data)
    end,
    certificate = function(session, fields)
        return session:create(with({ class = "certificate", certificate_type = "x_509",
            token = true, private = false, subject = "\48\0", value = "\48\0" }, fields))
    end,
}

-- Its attributes without the word that is no attribute.
local function attributes_of(word, wanted, number)
    local fields = with(wanted)
    fields[word] = nil
    fields.label = wanted[word]
    if fields.id == nil then
        fields.id = number < 256 and string.char(number) or string.pack(">I2", number)
    elseif fields.id == "" then
        fields.id = nil
    end
    return fields
end

--- Makes one object, or one pair.
-- @tparam session session a writable one
-- @tparam table wanted
-- @tparam integer number its place, 1 to 65535: its id when it has none
-- @treturn[1] object
-- @treturn[2] nil
-- @treturn[2] err
function M.make(session, wanted, number)
    local found
    if wanted.class then
        return session:create(with({ token = true }, wanted))
    elseif wanted.mechanism then
        return session:generate(with({ token = true }, wanted))
    end
    for word in pairs(MAKERS) do
        if type(wanted[word]) == "string" then
            found = word
        end
    end
    if not found then
        error("an object for a test is { rsa = LABEL }, { ec = LABEL }, { ed25519 = LABEL }, "
            .. "{ aes = LABEL }, { secret = LABEL }, { data = LABEL }, { certificate = LABEL } "
            .. "or a table with a class or a mechanism", 0)
    end
    return MAKERS[found](session, attributes_of(found, wanted, number))
end

return M
