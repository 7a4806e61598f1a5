-- SPDX-License-Identifier: MIT
-- keyferry.record: objects written down, and compared.
local lu = require("luaunit")

local cjson = require("cjson").new()
local output = require("keyferry.shell.output")
local record = require("keyferry.record")
local zoo = require("support.zoo")

local function of(attributes, unread)
  attributes.class = attributes.class or "secret_key"
  return record.of {
    attributes = function() return attributes end, unread = function() return unread or {} end,
  }
end

-- Through JSON, as a report has it.
local function through(rec)
  return record.decode(cjson.decode(output.encode(record.encode(rec))))
end

local function names(a, b)
  local list = {}
  for _, found in ipairs(record.differences(a, b)) do
    list[#list + 1] = found.name .. (found.more_rights and "!" or "")
  end
  return table.concat(list, " ")
end

local TestWriting = {}

function TestWriting.test_every_kind_of_value_comes_back_as_it_was()
  local rec = of { label = "schl\u{fc}ssel", id = "\0\255", sign = true, encrypt = false,
    value_len = 32, modulus_bits = math.mininteger, start_date = "", subject = "hex:",
    owner = "int:5", url = "nul\0and\nnewline", allowed_mechanisms = { "aes_ecb", "aes_cbc" },
    wrap_template = { class = "secret_key", extractable = true, label = "\1",
      allowed_mechanisms = { "aes_cbc" } }, unwrap_template = {},
    ["CKA_0x80001001"] = true, key_gen_mechanism = "unavailable" }
  lu.assertEquals(through(rec), rec)
  lu.assertEquals(rec.CKA_ALLOWED_MECHANISMS, { "aes_cbc", "aes_ecb" })
  lu.assertEquals(rec.CKA_WRAP_TEMPLATE.CKA_EXTRACTABLE, true)
  lu.assertTrue(rec["CKA_0x80001001"])
  lu.assertEquals(math.type(through(rec).CKA_VALUE_LEN), "integer")
end

function TestWriting.test_what_could_not_be_read_is_told()
  local rec = of({ label = "x" }, { "CKA_START_DATE" })
  lu.assertEquals(through(rec).unread, { "CKA_START_DATE" })
  lu.assertEquals(through(rec), rec)
end

function TestWriting.test_a_record_holds_no_value_of_a_data_object_and_no_number_of_its_own()
  local rec = of { class = "data", value = "the safe is behind the picture", label = "note",
    token = true }
  lu.assertNil(rec.CKA_VALUE)
  lu.assertNil(rec.CKA_TOKEN)
  lu.assertEquals(of { class = "certificate", value = "der" }.CKA_VALUE, "der")
end

function TestWriting.test_what_is_no_record_is_refused_with_a_sentence()
  for _, bad in ipairs { "text", 3, { CKA_ID = "hex:0" }, { CKA_ID = "hex:zz" },
    { CKA_VALUE_LEN = 1.5 }, { LABEL = "x" }, { [1] = "x" }, { CKA_ID = cjson.null },
    { unread = { a = 1 } }, { CKA_VALUE_LEN = "int:" }, { CKA_VALUE_LEN = "int:x" } } do
    local ok, problem = pcall(record.decode, bad)
    lu.assertFalse(ok)
    lu.assertIsString(problem)
    lu.assertNil(problem:find(".lua:"), problem)
  end
end

function TestWriting.test_every_object_of_a_zoo_comes_back_and_is_like_itself()
  local token = zoo.token("record")
  local session = zoo.session(token)
  zoo.stock(session)
  for object in session:objects() do
    local rec = record.of(object)
    lu.assertEquals(through(rec), rec)
    lu.assertEquals(record.differences(rec, through(rec)), {})
  end
  zoo.close(token)
end

local TestDifferences = {}

function TestDifferences.test_each_kind_is_found_and_named()
  local original = { label = "a", id = "\1", sign = true, value_len = 32, start_date = "20200229",
    allowed_mechanisms = { "aes_cbc" }, wrap_template = { label = "x" }, modulus = "\0\5" }
  local function changed(name, value)
    local copy = {}
    for key, old in pairs(original) do copy[key] = old end
    copy[name] = value
    return of(copy)
  end
  for name, value in pairs { label = "b", id = "\2", value_len = 16, start_date = "20200228",
    modulus = "\6" } do
    lu.assertEquals(names(of(original), changed(name, value)), "CKA_" .. name:upper())
  end
  lu.assertEquals(names(of(original), changed("sign", false)), "CKA_SIGN")
  lu.assertEquals(names(of(original), changed("extractable", true)), "CKA_EXTRACTABLE!")
  lu.assertEquals(names(of(original), changed("allowed_mechanisms", { "aes_ecb" })),
    "CKA_ALLOWED_MECHANISMS!")
  lu.assertEquals(names(of(original), changed("wrap_template", { label = "y" })),
    "CKA_WRAP_TEMPLATE!")
  lu.assertEquals(names(of(original), changed("modulus", "\0\0\5")), "")
  lu.assertEquals(record.differences(of(original), changed("sign", false)),
    { { name = "CKA_SIGN", original = true, copy = false, more_rights = false } })
end

function TestDifferences.test_more_rights_are_told_from_fewer()
  local more = { private = { true, false }, sensitive = { true, false },
    extractable = { false, true }, decrypt = { false, true }, modifiable = { false, true },
    wrap_with_trusted = { true, false }, always_authenticate = { true, nil },
    trusted = { nil, true }, copyable = { false, nil } }
  for name, pair in pairs(more) do
    local a, b = of { [name] = pair[1] }, of { [name] = pair[2] }
    lu.assertEquals(names(a, b), "CKA_" .. name:upper() .. "!")
    lu.assertEquals(names(b, a), "CKA_" .. name:upper())
  end
  local list = "allowed_mechanisms"
  lu.assertEquals(names(of { [list] = { "aes_cbc" } }, of { [list] = {} }),
    "CKA_ALLOWED_MECHANISMS!")
  lu.assertEquals(names(of { [list] = {} }, of { [list] = { "aes_cbc" } }),
    "CKA_ALLOWED_MECHANISMS")
  lu.assertEquals(names(of { [list] = { "aes_cbc", "aes_ecb" } }, of { [list] = { "aes_cbc" } }),
    "CKA_ALLOWED_MECHANISMS")
end

function TestDifferences.test_what_one_token_leaves_out_and_another_tells_is_no_difference()
  local told = of { start_date = "", value_len = 0, copyable = true, trusted = false,
    wrap_template = {}, key_gen_mechanism = "unavailable" }
  lu.assertEquals(names(told, of {}), "")
  lu.assertEquals(names(of {}, told), "")
  lu.assertEquals(names(of {}, of { copyable = false }), "CKA_COPYABLE")
end

function TestDifferences.test_what_could_not_be_read_is_passed_over()
  local known = of { start_date = "20200229" }
  lu.assertEquals(names(known, of({}, { "CKA_START_DATE" })), "")
  lu.assertEquals(names(of({}, { "CKA_START_DATE" }), known), "")
end

return { TestWriting = TestWriting, TestDifferences = TestDifferences }
