-- SPDX-License-Identifier: MIT
-- How keys are wrapped is found out by use: whatever a module speaks is served, and whatever
-- it calls by the wrong name is found out. NSS speaks all forms there are; the liar leaves it
-- one at a time, and calls one by another's number.
local lu = require("luaunit")

local core = require("keyferry.core")
local keyferry = require("keyferry")
local nss = require("support.nss")
local once = require("support.once")
local zoo = require("support.zoo")

-- CKM_AES_KEY_WRAP_KWP, CKM_AES_KEY_WRAP_PAD, CKM_AES_KEY_WRAP, CKM_AES_CBC_PAD
local KWP, PAD, KW, CBC = "0x210B", "0x210A", "0x2109", "0x1085"
local NONE = "0x80000BAD" -- no mechanism

local domain = once(function() return assert(core.domain(core.secret("forms"))) end)

local LENGTHS = { 1, 5, 8, 15, 16, 33, 64, 65 }

-- Keys that may leave by C_WrapKey, of every length and kind that both sides have.
local source = once(function()
  local token = zoo.token("forms")
  local session = zoo.session(token)
  for _, n in ipairs(LENGTHS) do
    zoo.secret(session, "generic " .. n, { value = ("\0\1k"):rep(n):sub(1, n - 1) .. "\0" })
    zoo.secret(session, "hmac " .. n, { key_type = "sha256_hmac", value = ("h"):rep(n) })
  end
  for _, n in ipairs { 16, 24, 32 } do
    zoo.secret(session, "aes " .. n, { key_type = "aes", value = ("a"):rep(n), encrypt = true,
      decrypt = true, sign = false, verify = false })
  end
  for _, curve in ipairs { "p-256", "p-521" } do
    zoo.pair(session, curve, "ec_key_pair_gen", { ec_params = zoo.curves[curve], verify = true },
      { sign = true })
  end
  zoo.pair(session, "rsa", "rsa_pkcs_key_pair_gen", { modulus_bits = 1024, verify = true,
    public_exponent = "\1\0\1" }, { sign = true })
  return token
end)

local function ferry(from, to, more)
  local failed, cloned = {}, 0
  local options = { source = from, target = to, domain = domain(), mode = "add", verify = true,
    source_engine = "wrap", on_result = function(result)
      if result.err then table.insert(failed, result.object.label .. ": " .. tostring(result.err))
      elseif result.status == "cloned" then cloned = cloned + 1 end
    end }
  for name, value in pairs(more or {}) do options[name] = value end
  keyferry.backup(options)
  return cloned, failed
end

-- Those of the source, by label: the bytes that SoftHSM's store has.
local function values(token)
  local map = {}
  for _, object in pairs(token:objects()) do
    if object[0x11] and object[0].value:byte(8) ~= 2 then -- no public keys
      map[object[0x3].value .. object[0].value] = object[0x11].value
    end
  end
  return map
end

-- Through an NSS that has only what the script leaves it, and back into a new SoftHSM: all there,
-- each byte of it. `stays`: labels of what does not come back, in the source's order.
local function there_and_back(script, stays)
  local db, token = nss.fresh("NSS-L", { lies = script }), zoo.token("back")
  local cloned, failed = ferry(zoo.session(source()), db:session())
  local back, kept = ferry(db:session(), zoo.session(token))
  db:close() -- also when it goes wrong: NSS cleans up behind all its copies
  zoo.close(token)
  lu.assertEquals(failed, {}, script)
  lu.assertEquals(cloned, #source():files())
  lu.assertEquals(#kept, #(stays or {}), script .. table.concat(kept, "\n"))
  lu.assertEquals(back, cloned - #kept)
  local expected = values(source())
  for _, label in ipairs(stays or {}) do expected[label .. "\0\0\0\0\0\0\0\4"] = nil end
  lu.assertEquals(values(token), expected, script)
end

-- The module does not list it, and has it no more.
local function without(...)
  local lines = {}
  for _, name in ipairs { ... } do
    table.insert(lines, ("C_GetMechanismList drop %s\nC_WrapKey mechanism %s %s\n" ..
      "C_UnwrapKey mechanism %s %s"):format(name, name, NONE, name, NONE))
  end
  return table.concat(lines, "\n")
end

local TestForm = {}

function TestForm.test_rfc_5649_by_the_mechanism_of_pkcs11_3()
  there_and_back(without(PAD, KW, CBC))
end

-- Keys of less than a block are too short for it; they go in by their attributes, and not out.
function TestForm.test_rfc_3394_after_pkcs7_padding()
  there_and_back(without(KWP, KW, CBC), { "generic 1", "hmac 1", "generic 5", "hmac 5" })
end

-- It has no room for keys that are no whole blocks: those take the other way.
function TestForm.test_rfc_3394_and_for_what_does_not_fit_cbc_under_a_key_of_the_moment()
  there_and_back(without(KWP, PAD))
end

function TestForm.test_cbc_under_a_key_of_the_moment()
  there_and_back(without(KWP, PAD, KW))
end

function TestForm.test_no_mechanism_is_believed_by_its_number()
  there_and_back(without(KWP, KW) .. "\nC_WrapKey mechanism 0x210A 0x210B\n" ..
    "C_UnwrapKey mechanism 0x210A 0x210B") -- PAD is RFC 5649
  there_and_back(without(KW) .. "\nC_WrapKey mechanism 0x210B 0x210A\n" ..
    "C_UnwrapKey mechanism 0x210B 0x210A") -- KWP is not
end

function TestForm.test_a_mechanism_that_is_two_things_is_used_for_neither_wrongly()
  there_and_back("C_WrapKey mechanism 0x210B 0x210A\n" .. without(KW))
  there_and_back("C_UnwrapKey mechanism 0x210B 0x210A\n" .. without(KW))
end

-- Without any of them keys that may be read go by their attributes; and others do not, for a
-- reason that is told of each.
function TestForm.test_attributes_where_nothing_wraps()
  local db = nss.fresh("NSS-L", { lies = without(KWP, PAD, KW, CBC) })
  local cloned, failed = ferry(zoo.session(source()), db:session())
  lu.assertEquals(failed, {})
  lu.assertEquals(cloned, #source():files())
  local token = zoo.token("back")
  cloned, failed = ferry(db:session(), zoo.session(token))
  lu.assertEquals(cloned, 3) -- public keys
  lu.assertEquals(#failed, #source():files() - 3)
  for _, reason in ipairs(failed) do
    lu.assertStrContains(reason, "no way of wrapping keys that this token lists proved to be")
  end
  db:close()
  zoo.close(token)
end

-- What is wrapped by CBC vouches for nothing by itself.
function TestForm.test_a_blob_with_a_flipped_bit_is_not_sealed()
  for _, gone in ipairs { without(KWP, PAD, KW), without(KWP, KW, CBC), without(PAD, KW, CBC) } do
    local db = nss.fresh("NSS-L", { lies = gone })
    ferry(zoo.session(source()), db:session())
    db:close()
    local liar = nss.empty("NSS-L", { dir = db.dir, lies = gone .. "\nC_WrapKey flip" })
    local token = zoo.token("back")
    local cloned, failed = ferry(liar:session(), zoo.session(token))
    lu.assertEquals({ cloned, #failed }, { 3, #source():files() - 3 })
    liar:close()
    zoo.close(token)
  end
end

local TestTokenDomain = {}

-- A domain whose keys stay in the token is no help in turning one form into another.
function TestTokenDomain.test_needs_rfc_5649_and_says_what_would_do()
  local db = nss.fresh("NSS-L", { lies = without(KWP) })
  assert(db:session():install_domain(domain()))
  local own = assert(db:session():find_domain("wrap"))
  local cloned, failed = ferry(zoo.session(source()), db:session(),
    { source_engine = "softhsm", domain = own, select = "aes*" })
  lu.assertEquals({ cloned, #failed }, { 3, 0 }) -- the source's own domain is one of keys
  local token = zoo.token("back")
  local report
  ferry(db:session(), zoo.session(token), { domain = own, on_result = function(result)
    report = report or result.err
  end })
  lu.assertStrContains(tostring(report), "RFC 5649")
  lu.assertStrContains(report.hint, "give the domain with -domain")
  db:close()
  zoo.close(token)
end

return { TestForm = TestForm, TestTokenDomain = TestTokenDomain }
