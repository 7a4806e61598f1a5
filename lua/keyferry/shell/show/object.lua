-- SPDX-License-Identifier: MIT
--- Objects, attribute tables and sealed objects as a person reads them.
local core = require("keyferry.core")

local piece = require("keyferry.shell.show.piece")
local text = require("keyferry.shell.text")

local clean, quoted, line_of = piece.clean, piece.quoted, piece.line_of
local yes, hex, sheet = piece.yes, piece.hex, piece.sheet

local HEX_MAX = 16

local RIGHTS = {
    "encrypt", "decrypt", "sign", "verify", "sign_recover", "verify_recover", "wrap", "unwrap",
    "derive",
}
local GUARDS = {
    "private", "sensitive", "always_sensitive", "extractable", "never_extractable",
    "wrap_with_trusted", "always_authenticate", "trusted", "local",
}

-- Those of the names that are true, in their order.
local function set_flags(attributes, names)
    local found = {}
    for _, name in ipairs(names) do
        if attributes[name] == true then
            found[#found + 1] = (name:gsub("_", " "))
        end
    end
    return found[1] and table.concat(found, ", ") or nil
end

local function guards(attributes)
    local set = set_flags(attributes, GUARDS)
    local function add(words)
        set = (set and set .. ", " or "") .. words
    end
    if attributes.extractable == false and not attributes.never_extractable then
        add("not extractable")
    end
    if attributes.sensitive == false then
        add("not sensitive")
    end
    return set
end

local function size_of(attributes)
    local modulus, bytes = attributes.modulus, attributes.value_len
    if type(modulus) == "string" and #modulus > 0 then
        return (" (%d bits)"):format(#(modulus:gsub("^\0+", "")) * 8)
    elseif math.type(bytes) == "integer" then
        return (" (%d bits)"):format(bytes * 8)
    end
    return ""
end

local function key_type_of(attributes)
    local name = attributes.key_type or attributes.certificate_type
    return name and tostring(name) .. size_of(attributes) or nil
end

local function id_of(attributes)
    local id = attributes.id
    return type(id) == "string" and id ~= "" and hex(id, 2 * HEX_MAX) or nil
end

local function label_of(attributes, most)
    return type(attributes.label) == "string" and clean(attributes.label, most) or nil
end

local function place_of(attributes, object)
    if not object:session():is_open() then
        return "closed"
    end
    return attributes.token == false and "open; the object goes with it" or nil
end

local function show_object(object, how)
    local attributes = object:attributes()
    local unread = object:unread()
    return sheet(how, ('%s "%s"'):format((tostring(attributes.class or "object"):gsub("_", " ")),
            label_of(attributes) or ""), {
        { "Class", attributes.class },
        { "Key type", key_type_of(attributes) },
        { "Label", label_of(attributes) },
        { "Id", id_of(attributes) },
        { "Handle", object.handle },
        { "May", set_flags(attributes, RIGHTS) },
        { "Protection", guards(attributes) },
        { "Session", place_of(attributes, object) },
        { "Trouble", object.trouble and line_of(object.trouble) },
        { "Not given", unread[1] and clean(table.concat(unread, ", ")) },
    })
end

local KEY_MATERIAL = {}
for _, name in ipairs({ "value", "private_exponent", "prime_1", "prime_2", "exponent_1",
    "exponent_2", "coefficient", "prime", "seed" }) do
    KEY_MATERIAL[name] = true
end
local SECRET_CLASSES = { private_key = true, secret_key = true, otp_key = true }
local TEXTS = { label = true, application = true, url = true, hw_feature_type = true }

-- CKA_PRIME of a private key is one of DSA's public numbers.
local function is_secret(attributes, name)
    local class = rawget(attributes, "class")
    if SECRET_CLASSES[class] then
        return KEY_MATERIAL[name] and (name ~= "prime" or class ~= "private_key")
    end
    return class == "data" and rawget(attributes, "private") == true and name == "value"
end

local function date(bytes)
    local year, month, day = bytes:match("^(%d%d%d%d)(%d%d)(%d%d)$")
    return year and ("%s-%s-%s"):format(year, month, day) or nil
end

local function bytes_of(name, bytes)
    if bytes == "" then
        return "(empty)"
    elseif name:find("_date$") and date(bytes) then
        return date(bytes)
    elseif TEXTS[name] and utf8.len(bytes) then
        return quoted(bytes)
    end
    return hex(bytes, name == "id" and 2 * HEX_MAX or HEX_MAX)
end

local function is_constant(name, value)
    return type(value) == "string" and (name == "class" or name == "key_type"
        or name == "certificate_type" or name:find("mechanism$") or name:find("algorithm$"))
end

-- A template is a table of attributes, too: how.nested shows it, on one line.
local function attribute_value(attributes, name, value, how)
    if is_secret(attributes, name) then
        return "(secret)"
    elseif is_constant(name, value) then
        return clean(value)
    elseif type(value) == "string" then
        return bytes_of(name, value)
    elseif name == "allowed_mechanisms" and type(value) == "table" then
        return value[1] and clean(table.concat(value, ", ")) or "(none)"
    elseif type(value) == "table" then
        return how.nested(value)
    end
    return line_of(value)
end

-- Every name is one of an attribute, and one says which class.
local function is_attributes(value)
    if type(value) ~= "table" or debug.getmetatable(value) or type(value.class) ~= "string" then
        return false
    end
    for name in next, value do
        if type(name) ~= "string" or not (name:find("^CKA_0x%x+$")
            or not name:find("\0", 1, true) and core.value("CKA", name)) then
            return false
        end
    end
    return true
end

local function show_attributes(attributes, how)
    local names, rows = {}, {}
    for name in next, attributes do
        names[#names + 1] = name
    end
    table.sort(names)
    for i, name in ipairs(names) do
        rows[i] = { name, attribute_value(attributes, name, attributes[name], how) }
    end
    local lines = text.fields(rows)
    for i, line in ipairs(lines) do
        local name, rest = line:match("^([^:]+:)(.*)$")
        lines[i] = how.brush("name", name) .. rest
    end
    return table.concat(lines, "\n")
end

local function show_sealed(sealed, how)
    local line = line_of(sealed)
    if line:find("closed", 1, true) then
        return line
    end
    local head, err = sealed:head()
    if not head then
        return sheet(how, "sealed object", {
            { "Size", ("%d bytes"):format(#sealed) }, { "Trouble", line_of(err) },
        })
    end
    local attributes = head.attributes
    return sheet(how, "sealed object", {
        { "Version", head.version },
        { "Engine", clean(head.engine) },
        { "Class", attributes.class and line_of(attributes.class) },
        { "Key type", key_type_of(attributes) },
        { "Label", label_of(attributes) },
        { "Id", id_of(attributes) },
        { "From", "token with serial " .. clean(head.serial) },
        { "Exact", yes(head.exact) },
        { "Domain", head.check },
        { "Size", ("%d bytes"):format(#sealed) },
    })
end

return {
    id_of = id_of, label_of = label_of, is_secret = is_secret,
    is_attributes = is_attributes, show_attributes = show_attributes,
    show_object = show_object, show_sealed = show_sealed,
}
