-- SPDX-License-Identifier: MIT
--- trial: each kind of object made as a session object, sealed, and foreseen at the same
-- partition. For hsm:check.
-- @module keyferry.hsm.trial

local core = require "keyferry.core"

local M = {}

local LABEL = "keyferry check"
local KEY = { token = false, private = true, sensitive = true, extractable = true, label = LABEL }

local function with(base, more)
    local all = {}
    for name, value in pairs(base) do all[name] = value end
    for name, value in pairs(more or {}) do all[name] = value end
    return all
end

local function hex(text)
    return (text:gsub("%s", ""):gsub("%x%x", function(byte)
        return string.char(tonumber(byte, 16))
    end))
end

-- RFC 3526, section 2: 1536 bits.
local DH_PRIME = hex[[
    FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22
    514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6
    F44C42E9A637ED6B0BFF5CB6F406B7EDEE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3D
    C2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD961C62F356208552BB
    9ED529077096966D670C354E4ABC9804F1746C08CA237327FFFFFFFFFFFFFFFF]]

-- Some of 1024 bits, of nobody's.
local DSA = {
    prime = hex[[
    8EFAD3787B03CA6E7B1E938B1927A95A9BCAA81426F72644DE4DD3586EE5FFF70DCFAE93D54B471D
    42E9DA4BA5360C89468CBAE444324AC1D52886E37A7F100EC8AC351430C85EA35FC75D4AD565DDB6
    25B345973CFA6936B2ACD80371D149C437C97F3CC0B99300FD05B3307CE8E1C2EF38794F218A57EC
    43E3D71220FA9F69]],
    subprime = hex"98B6C7AFB93F60313F600306631DAC50D18869C104A5427734032073",
    base = hex[[
    51DACB546B88EA3835107A57A9DC670ED4516A79B65944D627566BD949725F09CD908A9882EA1211
    2057CAE038DDC513482ACE533CF2DBD0D2759ABD16AEB2C896C801ABAA4FF9E5F14F2144F1F9517F
    74A38276B8F68345EBED7CE045A4E46D3441153DC3727702CCC2FC9FC876A7C82950EE400F3B76D3
    0654BB2EC09B7384]],
}

-- Self-signed, /CN=keyferry check; its key is thrown away.
local CERTIFICATE = hex[[
    308201883082012FA003020102021445CDF96EB0A37C79244278B54E6D579B9506B1B4300A06082A
    8648CE3D04030230193117301506035504030C0E6B6579666572727920636865636B3020170D3236
    313132343136313834395A180F32313236313033313136313834395A30193117301506035504030C
    0E6B6579666572727920636865636B3059301306072A8648CE3D020106082A8648CE3D0301070342
    0004771672499D64D51E9545C2A84EBF00D7848E2BD26401D51BB18BDE1B9BA1E49E29851BF392C6
    389CAB1BA7BE3BEE94B7797B534B41503282DD68CD9F49E0E8ACA3533051301D0603551D0E041604
    147302C8820F1B77A1D9E19A9F2B96C0DFD17E75B7301F0603551D230418301680147302C8820F1B
    77A1D9E19A9F2B96C0DFD17E75B7300F0603551D130101FF040530030101FF300A06082A8648CE3D
    040302034700304402203A78341403930BE94929186C6F7ACB8360FBC7C0B21BF88DA84CD2081BAC
    804102202893A726FE2578499996F958C3F2C88B2E49852E5E234B7877A5DC4502E31570]]
local NAME = hex"30193117301506035504030C0E6B6579666572727920636865636B"

local function pair(mechanism, public, private)
    return function(session)
        local public_key, private_key = session:generate_pair{
            mechanism = mechanism, public = with({ token = false, private = false, label = LABEL },
                                                 public),
            private = with(with(KEY, { sign = true }), private),
        }
        if not public_key then
            return nil, private_key
        end
        return private_key, public_key
    end
end

local function curve(parameters, mechanism)
    return pair(mechanism or "ec_key_pair_gen", { ec_params = parameters, verify = true })
end

local function secret(mechanism, more)
    return function(session)
        return session:generate(with(with(KEY, { mechanism = mechanism }), more))
    end
end

local function plain(fields)
    return function(session)
        return session:create(with({ token = false, private = false, label = LABEL }, fields))
    end
end

local CIPHER = { encrypt = true, decrypt = true }

local kinds = {
    { "AES keys", secret("aes_key_gen", with(CIPHER, { value_len = 32 })) },
    { "DES3 keys", secret("des3_key_gen", CIPHER) },
    { "generic and HMAC secrets", secret("generic_secret_key_gen", { value_len = 37, sign = true,
        verify = true }) },
    { "RSA keys", pair("rsa_pkcs_key_pair_gen", { modulus_bits = 2048, public_exponent = "\1\0\1",
        verify = true }) },
    { "P-256 keys", curve(hex"06082A8648CE3D030107") },
    { "P-384 keys", curve(hex"06052B81040022") },
    { "P-521 keys", curve(hex"06052B81040023") },
    { "secp256k1 keys", curve(hex"06052B8104000A") },
    { "Ed25519 keys", curve("\19\12edwards25519", "ec_edwards_key_pair_gen") },
    { "DSA keys", pair("dsa_key_pair_gen", with(DSA, { verify = true })) },
    { "DH keys", pair("dh_pkcs_key_pair_gen", { prime = DH_PRIME, base = "\2" },
        { sign = false, derive = true }) },
    { "public keys", function(session)
        local private, public = curve(hex"06082A8648CE3D030107")(session)
        if not private then
            return nil, public
        end
        return public, private
    end },
    { "certificates", plain{ class = "certificate", certificate_type = "x_509", subject = NAME,
        issuer = NAME, serial_number = "\2\1\1", value = CERTIFICATE } },
    { "data objects", plain{ class = "data", value = "keyferry", application = "keyferry" } },
}

local LOCKED = "non-extractable keys"

-- Our own codes say nothing to who reads a table.
local function words_of(err)
    return err.code:find("^KFR_") and err.what or tostring(err)
end

-- Whether it goes out, and in again at the same partition. The engine softhsm has token objects
-- leave by the store, where no session object is.
local function clone(ends, object, result)
    local sealed, lost = ends.out:seal(object)
    if not sealed then
        result.out = words_of(lost)
        if ends.by_store then
            result.by_store = true
        end
        return
    end
    result.leaves, result.lost = true, lost
    local foreseen, err = ends.back:foresee(sealed)
    if foreseen then
        result.arrives = true
        result.lost = (lost ~= "" and foreseen ~= "" and lost .. ", " or lost) .. foreseen
    else
        result.back = words_of(err)
    end
end

local function try(session, ends, make)
    local result = {}
    local object, other = make(session)
    if not object then
        result.none = words_of(other)
        return result
    end
    local ok, err = pcall(clone, ends, object, result)
    for _, one in ipairs{ object, type(other) == "userdata" and other or nil } do
        local gone, why = one:destroy()
        result.left = not gone and tostring(why) or result.left
    end
    if not ok then
        error(err, 0)
    end
    return result
end

-- The verdict on one kind, and the words for it.
local function judge(result)
    local lost = result.lost ~= "" and result.lost
    if result.none then
        return "unknown", "the HSM makes none to try with: " .. result.none
    elseif result.by_store then
        return "yes", "the engine softhsm reads and writes them in the store; by C_WrapKey not: "
            .. result.out
    elseif not result.leaves then
        return "no", "they cannot leave: " .. result.out
    elseif not result.arrives then
        return "partly", "they leave, and cannot come in: " .. result.back
    elseif lost then
        return "partly", "they leave and come in; not kept: " .. lost
    end
    return "yes", "they leave and come in, exactly"
end

local function add(list, what, verdict, why)
    list[#list + 1] = { what = what, verdict = verdict, why = why }
end

local function try_wrapping(session, domain, list)
    local ways = core.wrap_ways(session, domain)
    for _, way in ipairs{ { "wrap", "C_WrapKey" }, { "unwrap", "C_UnwrapKey" } } do
        local text = ways[way[1]]
        add(list, way[2], text and "yes" or "no",
            text or "no way of wrapping stood the proof with a known key")
    end
end

local function open_ends(session, engines, domain)
    local by_store = engines[1] == "softhsm"
    local out, err = session:endpoint("wrap", domain)
    local back = out
    if out and by_store then
        back, err = session:endpoint("softhsm", domain)
    end
    if not back then
        return nil, err
    end
    return { out = out, back = back, by_store = by_store }
end

local function locked(session)
    return session:generate(with(with(KEY, CIPHER), { mechanism = "aes_key_gen", value_len = 32,
        extractable = false }))
end

--- Tries each kind of object.
-- @tparam session session logged in
-- @tparam table engines the names of those that can work it
-- @tparam table list where the findings go
-- @treturn ?table what M.conclude takes; nil: nothing could be tried
function M.run(session, engines, list)
    local domain <close> = core.domain(core.random_secret())
    try_wrapping(session, domain, list)
    local ends, err = open_ends(session, engines, domain)
    if not ends then
        add(list, "cloning", "no", words_of(err))
        return nil
    end
    local tried = {}
    for _, kind in ipairs(kinds) do
        local result = try(session, ends, kind[2])
        result.what = kind[1]
        add(list, kind[1], judge(result))
        tried[#tried + 1] = result
    end
    local result = try(session, ends, locked)
    add(list, LOCKED, judge(result))
    tried.locked = result
    ends.out:close()
    ends.back:close()
    return tried
end

local function names(list)
    return table.concat(list, ", ")
end

-- What was made here, by what became of it.
local function sort_out(tried)
    local sorted = { good = {}, stay = {}, out_only = {}, lossy = {} }
    for _, result in ipairs(tried) do
        local verdict = judge(result)
        local to = verdict == "yes" and sorted.good or verdict == "no" and sorted.stay
            or result.arrives and sorted.lossy or not result.none and sorted.out_only or nil
        if to then
            to[#to + 1] = result.what
        end
    end
    return sorted
end

--- What was found, in the words that a user needs before buying.
-- @tparam table tried of M.run
-- @treturn string "yes", "partly" or "no"
-- @treturn string
function M.conclude(tried)
    local sorted, words = sort_out(tried), {}
    local locked_verdict = judge(tried.locked)
    if #sorted.good + #sorted.lossy + #sorted.out_only == 0 then
        return "no", "Nothing that was tried can leave this HSM by keyferry"
    end
    if locked_verdict == "no" then
        words[1] = "Keys made with CKA_EXTRACTABLE false cannot leave this HSM by keyferry"
    end
    if #sorted.stay > 0 then
        words[#words + 1] = (#words > 0 and "nor can %s" or "%s cannot leave this HSM by keyferry")
            :format(names(sorted.stay))
    end
    words[#words + 1] = #words == 0 and "Everything that was tried can leave this HSM by keyferry"
        or "all others that were tried can"
    if #sorted.out_only > 0 then
        words[#words + 1] = "it does not take back " .. names(sorted.out_only)
    end
    if #sorted.lossy > 0 then
        words[#words + 1] = "some attributes are not kept"
    end
    local verdict = #words > 1 and "partly" or "yes"
    return verdict, table.concat(words, "; ")
end

return M
