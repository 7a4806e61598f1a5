-- SPDX-License-Identifier: MIT
-- demo fill: makes keys and a note in a partition, through the library.
--   keyferry run spec/demo/fill.lua -partition sa78par1
local keyferry = require("keyferry")

local P256 = "\6\8\42\134\72\206\61\3\1\7" -- OID prime256v1, RFC 5480
local ED25519 = "\19\12edwards25519" -- PrintableString, PKCS#11 3.0 section 2.3.10

-- Private keys that no PKCS#11 call gives out, in clear or wrapped.
local function locked(more)
    local attributes = { token = true, private = true, sensitive = true, extractable = false }
    for name, value in pairs(more) do
        attributes[name] = value
    end
    return attributes
end

local function pair(session, mechanism, label, id, more)
    local public = { token = true, label = label .. " Public KeyGen", id = id, verify = true }
    for name, value in pairs(more) do
        public[name] = value
    end
    assert(session:generate_pair{
        mechanism = mechanism, public = public,
        private = locked{ label = label .. " Private KeyGen", id = id, sign = true },
    })
end

local function fill(session)
    for id = 1, 3 do
        pair(session, "rsa_pkcs_key_pair_gen", "MT RSA 4096-bit", string.char(id),
             { modulus_bits = 4096, public_exponent = "\1\0\1" })
    end
    pair(session, "ec_key_pair_gen", "MT EC P-256", "\4", { ec_params = P256 })
    pair(session, "ec_edwards_key_pair_gen", "MT Ed25519", "\5", { ec_params = ED25519 })
    assert(session:generate(locked{
        mechanism = "aes_key_gen", value_len = 32, label = "MT AES 256-bit KeyGen",
        id = "\6", encrypt = true, decrypt = true,
    }))
    assert(session:create{
        class = "data", token = true, private = true, label = "note",
        application = "demo", value = "The spare fuse is in the second drawer.",
    })
end

local function run(ctx)
    local partition = assert(keyferry.partition(ctx.options.partition))
    local session = assert(ctx:login(partition, { writable = true }))
    fill(session)
    ctx:print("%d objects made", #assert(session:find()))
    session:close()
    return 0
end

return {
    name = "demo fill",
    summary = "Make keys and a note in a partition.",
    category = "writes",
    options = {
        { name = "partition", value = "name", kind = "label", required = true,
          help = "The partition to fill." },
        { name = "password", value = "password", kind = "secret",
          prompt = "Please enter the password for the HSM user partition:",
          help = "Its Crypto Officer password; KEYFERRY_PASSWORD, or asked for, without it." },
    },
    run = run,
}
