-- SPDX-License-Identifier: MIT
local lu = require("luaunit")
local core = require("keyferry.core")

local TestError = {}

function TestError.test_one_line_with_code_number_and_call()
  local err = core.error { code = "CKR_PIN_INCORRECT", what = "hsm payroll", call = "C_Login" }
  lu.assertEquals(tostring(err), "hsm payroll: CKR_PIN_INCORRECT (0xA0), in C_Login")
  lu.assertEquals(err.rv, 0xA0)
end

function TestError.test_sentences_that_are_enough_have_no_code()
  for _, code in ipairs { "KFR_ARGUMENT", "KFR_REFUSED", "KFR_NOT_FOUND", "KFR_AMBIGUOUS",
    "KFR_EXISTS", "CODE_OF_A_SCRIPT" } do
    lu.assertEquals(tostring(core.error { code = code, what = "no such thing" }), "no such thing")
  end
end

function TestError.test_fields_are_plain()
  local err = core.error { code = "KFR_REFUSED", what = "no", hint = "say yes" }
  local seen = {}
  for key, value in pairs(err) do seen[key] = value end
  lu.assertEquals(seen,
    { code = "KFR_REFUSED", rv = core.value("CKR", "KFR_REFUSED"), what = "no", hint = "say yes" })
  lu.assertEquals("payroll: " .. err .. ".", "payroll: no.")
end

function TestError.test_a_misspelt_or_missing_field_raises()
  for _, fields in ipairs { { code = "X", what = "y", hnit = "z" }, { code = "X" },
    { what = "y" }, { code = 1, what = "y" }, { code = "X", what = "y", [1] = "z" },
    { code = "X", what = "y", hint = true } } do
    lu.assertFalse((pcall(core.error, fields)))
  end
  lu.assertFalse((pcall(core.error, "text")))
end

function TestError.test_a_refusal_of_the_core_is_nil_and_an_error()
  local value, err = core.file.read("/nonexistent", 10)
  lu.assertNil(value)
  lu.assertEquals({ err.code, err.sys }, { "KFR_SYSTEM", 2 })
  lu.assertStrContains(tostring(err), "/nonexistent: No such file or directory")
end

local TestNames = {}

function TestNames.test_names_values_and_nicks()
  lu.assertEquals(core.name("CKA", 3), "CKA_LABEL")
  lu.assertEquals(core.value("CKA", "label"), 3)
  lu.assertEquals(core.value("CKA", "CKA_LABEL"), 3)
  lu.assertEquals(core.nick("CKO", 3), "private_key")
  lu.assertNil(core.value("CKR", "nothing"))
  lu.assertNil(core.nick("CKA", 0x80000123))
  lu.assertStrContains(core.name("CKA", 0x80000123), "0x80000123")
  lu.assertFalse((pcall(core.name, "CKX", 3)))
end

return { TestError = TestError, TestNames = TestNames }
