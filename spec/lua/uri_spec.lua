-- SPDX-License-Identifier: MIT
-- RFC 7512 through the door.
local lu = require("luaunit")
local core = require("keyferry.core")

local TestUri = {}

function TestUri.test_every_attribute_is_parsed()
  lu.assertEquals(core.uri_parse("pkcs11:token=The%20token;serial=12;manufacturer=M;model=X;" ..
    "object=k%3B;id=%00%ff;type=private;slot-id=4;slot-manufacturer=S;slot-description=D;" ..
    "library-manufacturer=L;library-description=N?module-name=n&module-path=/p.so"), {
    token = "The token", serial = "12", manufacturer = "M", model = "X", object = "k;",
    id = "\0\255", type = "private_key", slot_id = 4, slot_manufacturer = "S",
    slot_description = "D", library_manufacturer = "L", library_description = "N",
    module_name = "n", module_path = "/p.so" })
  lu.assertEquals(core.uri_parse("pkcs11:"), {})
end

function TestUri.test_there_and_back()
  for _, fields in ipairs { { token = "a b;ü&?", serial = "0012", manufacturer = "M",
    model = "SoftHSM v2", object = "naïve/%", id = "\0\1\255", type = "secret_key" },
    { type = "public_key" }, { type = "certificate" }, { type = "data", object = "" }, {} } do
    lu.assertEquals(core.uri_parse(core.uri_format(fields)), fields)
  end
end

function TestUri.test_a_pin_in_it_is_refused_and_not_repeated()
  for _, text in ipairs { "pkcs11:token=t?pin-value=hunter2",
    "pkcs11:token=t?pin-source=file:/hunter2" } do
    local fields, err = core.uri_parse(text)
    lu.assertNil(fields)
    lu.assertEquals(err.code, "KFR_ARGUMENT")
    lu.assertNil((tostring(err) .. err.hint):find("hunter2", 1, true))
  end
end

function TestUri.test_what_would_be_ignored_is_refused()
  for _, text in ipairs { "", "token", "http://x", "pkcs11:nonsense=1", "pkcs11:token=%zz",
    "pkcs11:token", "pkcs11:token=" .. ("x"):rep(33), "pkcs11:token=a;token=b;x" } do
    local fields, err = core.uri_parse(text)
    lu.assertNil(fields, text)
    lu.assertEquals(err.code, "KFR_ARGUMENT")
  end
  lu.assertFalse((pcall(core.uri_parse, "pkcs11:token=a\0b")))
end

function TestUri.test_formatting_refuses_what_is_no_field()
  lu.assertFalse((pcall(core.uri_format, { tokn = "x" })))
  lu.assertFalse((pcall(core.uri_format, { token = 1 })))
  lu.assertFalse((pcall(core.uri_format, { token = ("x"):rep(33) })))
end

return { TestUri = TestUri }
