-- SPDX-License-Identifier: MIT
--- A value as a person reads it.
--
-- Nothing here logs in, opens or changes anything; whatever a value does when it is looked
-- at (a metamethod that throws, a token that is gone) ends as a line about it. All text that
-- comes from elsewhere is cleaned: only the colours are control sequences.
local core = require("keyferry.core")
local Hsm = require("keyferry.hsm")
local Partition = require("keyferry.partition")

local colour = require("keyferry.shell.colour")
local text = require("keyferry.shell.text")

local M = {}

local WIDTH = 80
local ROWS_MAX = 1000     -- of a list
local ITEMS_MAX = 100     -- of one plain table
local ALL_ITEMS_MAX = 1000
local DEPTH_MAX = 5
local TEXT_MAX = 200      -- bytes of a text inside something else
local CELL_MAX = 40       -- of a label in a list
local LINE_MAX = 2000     -- of what tostring gives
local BINARY_MAX = 256    -- bytes of a result that is no text
local ODD_TEXT_MAX = 4096 -- bytes of a result that is text with control characters in it
local HEX_MAX = 16

local show_plain

-- Looking at foreign values ------------------------------------------------------------

-- What a function gives, or nil and what it threw; the user's Ctrl-C goes on.
local function attempt(run, ...)
    local ok, value = pcall(run, ...)
    if ok then
        return value
    end
    if type(value) == "table" and rawget(value, "code") == "KFR_INTERRUPTED" then
        error(value, 0)
    end
    return nil, value
end

local function shortened(bytes, most)
    if #bytes <= most then
        return bytes
    end
    local cut = most
    while cut > most - 4 and (bytes:byte(cut + 1) & 0xC0) == 0x80 do
        cut = cut - 1
    end
    return bytes:sub(1, cut) .. "..."
end

local function clean(bytes, most)
    return text.clean(shortened(bytes, most or TEXT_MAX))
end

local function quoted(bytes)
    return '"' .. clean(bytes) .. '"'
end

-- tostring of anything, as one clean line.
local function line_of(value)
    local line, problem = attempt(tostring, value)
    if line then
        return clean(line, LINE_MAX)
    end
    return ("%s (it cannot be shown: %s)"):format(type(value),
        type(problem) == "string" and clean(problem) or type(problem))
end

local function field(value, name)
    return (attempt(function() return value[name] end))
end

-- The name of a userdata's kind, as C registered it; a table cannot claim to be one.
local function kind_of(value)
    if type(value) ~= "userdata" then
        return nil
    end
    local meta = debug.getmetatable(value)
    local name = type(meta) == "table" and rawget(meta, "__name")
    return type(name) == "string" and name:match("^keyferry%.(%a+)$") or nil
end

local function is_object(value)
    return kind_of(value) == "object"
end

local function is_a(value, class)
    return type(value) == "table" and debug.getmetatable(value) == class
end

local function string_or_nil(value)
    return type(value) == "string" and value or nil
end

local function text_field(value, name)
    local found = type(value) == "table" and rawget(value, name)
    return type(found) == "string" and clean(found) or nil
end

local function yes(value)
    return value and "yes" or "no"
end

-- Pieces ---------------------------------------------------------------------------------

local function hex(bytes, most)
    local shown = bytes:sub(1, most):gsub(".", function(byte)
        return ("%02x"):format(byte:byte())
    end)
    if #bytes <= most then
        return shown
    end
    return ("%s... (%d bytes)"):format(shown, #bytes)
end

-- A title, and its fields below; how is what show.value was given.
local function sheet(how, title, rows)
    local lines = { how.brush("title", title) }
    for _, line in ipairs(text.fields(rows)) do
        local name, value = line:match("^([^:]+:)(.*)$")
        lines[#lines + 1] = "  " .. how.brush("name", name) .. value
    end
    return table.concat(lines, "\n")
end

local function fitted(line, width)
    if #line <= width or (utf8.len(line) or #line) <= width then
        return line
    end
    local last = utf8.len(line) and utf8.offset(line, width - 2) or width - 2
    return line:sub(1, last - 1) .. "..."
end

local function columns(how, head, values, row_of, width)
    local rows = {}
    for i = 1, math.min(#values, ROWS_MAX) do
        rows[i] = row_of(values[i])
    end
    local lines = text.columns(head, rows)
    for i, line in ipairs(lines) do
        line = fitted(line, width or how.width)
        lines[i] = i == 1 and how.brush("title", line) or line
    end
    if #values > ROWS_MAX then
        lines[#lines + 1] = ("... and %d more"):format(#values - ROWS_MAX)
    end
    return table.concat(lines, "\n")
end

-- HSMs and partitions ----------------------------------------------------------------------

local function where_of(hsm)
    return text_field(hsm, "path") or text_field(hsm, "module_path")
end

local function show_hsm(hsm, how)
    local soft = rawget(hsm, "kind") == "soft"
    return sheet(how, ('HSM "%s"'):format(text_field(hsm, "name") or "?"), {
        { "Serial", text_field(hsm, "serial") or "none of its own" },
        { "Kind", soft and "soft HSM" or "PKCS#11 module" },
        { "Where", text_field(hsm, "path") },
        { "Module", text_field(hsm, "module_path") },
        { "Engine", text_field(hsm, "engine") },
        { "Authentication", text_field(hsm, "authentication") },
        { "Loaded", yes(rawget(hsm, "loaded")) },
    })
end

local function space(token)
    local parts = {}
    for _, name in ipairs({ "private", "public" }) do
        local free, total = rawget(token, "free_" .. name), rawget(token, "total_" .. name)
        if math.type(free) == "integer" then
            parts[#parts + 1] = ("%d bytes%s %s"):format(free,
                math.type(total) == "integer" and (" of %d"):format(total) or "", name)
        end
    end
    return parts[1] and table.concat(parts, ", ") or nil
end

local CONDITIONS = {
    { "write_protected", "write-protected" }, { "protected_path", "PINs by a trusted path" },
    { "user_pin_locked", "user PIN locked" }, { "so_pin_locked", "SO PIN locked" },
    { "user_pin_final_try", "last try for the user PIN" },
    { "so_pin_final_try", "last try for the SO PIN" },
}

local function conditions(token)
    local parts = {}
    for _, condition in ipairs(CONDITIONS) do
        if rawget(token, condition[1]) then
            parts[#parts + 1] = condition[2]
        end
    end
    return parts[1] and table.concat(parts, ", ") or nil
end

local function initialised(token)
    if not rawget(token, "initialized") then
        return "no"
    end
    return rawget(token, "user_pin_initialized") and "yes" or "yes, but it has no user PIN"
end

local function hsm_name(partition)
    local hsm = rawget(partition, "hsm")
    return text_field(hsm, "name")
end

local function show_partition(partition, how)
    local token = rawget(partition, "token")
    token = type(token) == "table" and token or {}
    return sheet(how, ('partition "%s"'):format(text_field(partition, "label") or "?"), {
        { "Serial", text_field(partition, "serial") },
        { "HSM", hsm_name(partition) },
        { "Initialised", initialised(token) },
        { "State", conditions(token) },
        { "Free space", space(token) },
        { "URI", string_or_nil(rawget(partition, "uri")) },
    })
end

-- Sessions and objects --------------------------------------------------------------------

local USERS = { user = "Crypto Officer (user)", so = "security officer (SO)" }

local function show_session(session, how)
    if not session:is_open() then
        return "session (closed)"
    end
    local token = session:token()
    local user, err = session:user()
    return sheet(how, ('session with partition "%s"'):format(clean(token.label)), {
        { "Serial", clean(token.serial) },
        { "Logged in", err and line_of(err) or user and USERS[user] or "nobody" },
        { "Access", session:is_writable() and "read/write" or "read-only" },
    })
end

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

-- Attribute tables -------------------------------------------------------------------------

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

local function attribute_value(attributes, name, value)
    if is_secret(attributes, name) then
        return "(secret)"
    elseif is_constant(name, value) then
        return clean(value)
    elseif type(value) == "string" then
        return bytes_of(name, value)
    elseif name == "allowed_mechanisms" and type(value) == "table" then
        return value[1] and clean(table.concat(value, ", ")) or "(none)"
    elseif type(value) == "table" then
        return show_plain(value, { brush = colour.brush(false), width = math.huge })
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
        rows[i] = { name, attribute_value(attributes, name, attributes[name]) }
    end
    local lines = text.fields(rows)
    for i, line in ipairs(lines) do
        local name, rest = line:match("^([^:]+:)(.*)$")
        lines[i] = how.brush("name", name) .. rest
    end
    return table.concat(lines, "\n")
end

-- What C made besides ------------------------------------------------------------------------

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

local USERDATA = { session = show_session, object = show_object, sealed = show_sealed }

-- Plans, reports and errors --------------------------------------------------------------------

local function is_error(value)
    local meta = type(value) == "table" and debug.getmetatable(value)
    return type(meta) == "table" and rawget(meta, "__name") == "keyferry.error"
end

local function show_error(err, how)
    local hint = text_field(err, "hint")
    local line = how.brush("error", line_of(err))
    return hint and hint ~= "" and line .. "\n  " .. hint or line
end

local COUNTS = {
    "selected", "cloned", "planned", "clone", "exists", "skipped", "skip", "failed", "fail",
    "removed", "to_remove",
}

local function counts_of(counts)
    local parts = {}
    for _, name in ipairs(COUNTS) do
        local n = rawget(counts, name)
        if math.type(n) == "integer" and (n > 0 or name == "cloned") then
            parts[#parts + 1] = ("%s %d"):format((name:gsub("_", " ")), n)
        end
    end
    return table.concat(parts, ", ")
end

local function is_report(value)
    return type(value) == "table" and not debug.getmetatable(value)
        and type(value.status) == "string" and math.type(value.cloned) == "integer"
        and math.type(value.failed) == "integer"
end

local function show_report(report, how)
    return sheet(how, "backup: " .. clean(report.status), {
        { "Counts", counts_of(report) },
        { "Created", report.created and "a new partition" or nil },
        { "Lossy", report.lossy ~= 0 and report.lossy or nil },
        { "Unproved", report.unproved ~= 0 and report.unproved or nil },
        { "Target damaged", report.target_damaged and line_of(report.target_damaged) },
        { "Reason", report.reason and line_of(report.reason) },
    })
end

local function is_plan(value)
    return type(value) == "table" and debug.getmetatable(value)
        and type(field(value, "items")) == "table" and type(field(value, "counts")) == "table"
end

local function item_row(item)
    item = type(item) == "table" and item or {}
    local object = item.object
    local known = is_object(object) and object:attributes() or {}
    local why = item.err and line_of(item.err) or nil
    if not why and type(item.lost) == "string" and item.lost ~= "" then
        why = "without " .. clean(item.lost)
    end
    return { item.status and line_of(item.status), known.class, known.key_type,
        label_of(known, CELL_MAX), id_of(known), is_object(object) and object.handle or nil,
        why }
end

local ITEM_HEAD = { "Status", "Class", "Key type", "Label", "Id", "Handle", "Reason" }

local function show_plan(plan, how)
    local title = ("plan%s: %s"):format(
        type(plan.mode) == "string" and (" (%s)"):format(clean(plan.mode)) or "",
        counts_of(plan.counts))
    if #plan.items == 0 then
        return how.brush("title", title)
    end
    -- The reasons are what one looks for: the terminal breaks them, nothing cuts them.
    return columns(how, ITEM_HEAD, plan.items, item_row, math.huge) .. "\n"
        .. how.brush("title", title)
end

-- Lists ------------------------------------------------------------------------------------

local LISTS = {
    {
        is = is_object,
        head = { "Class", "Key type", "Label", "Id", "Handle" },
        row = function(object)
            local known = object:attributes()
            return { known.class, known.key_type or known.certificate_type,
                label_of(known, CELL_MAX), id_of(known), object.handle }
        end,
    },
    {
        is = function(value) return is_a(value, Partition) end,
        head = { "Partition", "Serial", "HSM", "Free space" },
        row = function(partition)
            local token = rawget(partition, "token")
            return { text_field(partition, "label"), text_field(partition, "serial"),
                hsm_name(partition), type(token) == "table" and space(token) or nil }
        end,
    },
    {
        is = function(value) return is_a(value, Hsm) end,
        head = { "HSM", "Serial", "Kind", "Where" },
        row = function(hsm)
            return { text_field(hsm, "name"), text_field(hsm, "serial"),
                rawget(hsm, "kind") == "soft" and "soft" or "module", where_of(hsm) }
        end,
    },
    {
        is = function(value) -- module:slots()
            return type(value) == "table" and not debug.getmetatable(value)
                and math.type(value.slot) == "integer" and value.present ~= nil
        end,
        head = { "Slot", "Token", "Serial", "Model", "Initialised" },
        row = function(token)
            return { token.slot, text_field(token, "label"), text_field(token, "serial"),
                text_field(token, "model"), yes(token.initialized) }
        end,
    },
}

-- The kind of list of which every element is one; nil for anything else.
local function list_kind(value)
    if type(value) ~= "table" or debug.getmetatable(value) or value[1] == nil then
        return nil
    end
    local size = 0
    for name in next, value do
        size = size + 1
        if math.type(name) ~= "integer" then
            return nil
        end
    end
    for _, kind in ipairs(LISTS) do
        if kind.is(value[1]) then
            for i = 1, size do
                if not kind.is(value[i]) then
                    return nil
                end
            end
            return kind
        end
    end
    return nil
end

-- Plain tables ---------------------------------------------------------------------------------

local function function_line(value)
    local info = debug.getinfo(value, "S")
    if info.what == "C" then
        return "function (built in)"
    end
    return ("function (%s:%d)"):format(clean(info.short_src), info.linedefined)
end

local function name_of(name)
    if type(name) == "string" and name:find("^[%a_][%w_]*$") and #name <= TEXT_MAX then
        return name
    elseif type(name) == "string" then
        return "[" .. quoted(name) .. "]"
    elseif type(name) == "number" then
        return ("[%s]"):format(name)
    end
    return "[" .. line_of(name) .. "]"
end

local function before(a, b)
    local x, y = type(a), type(b)
    if x == y and (x == "number" or x == "string") then
        return a < b
    end
    return x < y
end

-- The keys of a table: its array part first, then the others sorted; at most ITEMS_MAX, and
-- how many there are besides.
local function keys_of(value)
    local array, others, all = rawlen(value), {}, 0
    for name in next, value do
        all = all + 1
        if not (math.type(name) == "integer" and name >= 1 and name <= array)
            and #others < ALL_ITEMS_MAX then
            others[#others + 1] = name
        end
    end
    table.sort(others, before)
    local keys = {}
    for i = 1, math.min(array, ITEMS_MAX) do
        keys[i] = i
    end
    table.move(others, 1, math.max(0, ITEMS_MAX - #keys), #keys + 1, keys)
    return keys, array, all - #keys
end

local show_nested

local function one_item(value, name, array, state, depth)
    local shown
    if is_secret(value, name) then
        shown = "(secret)"
    else
        shown = show_nested(rawget(value, name), state, depth + 1)
    end
    if math.type(name) == "integer" and name >= 1 and name <= array then
        return shown
    end
    return name_of(name) .. " = " .. shown
end

local function items_of(value, state, depth)
    local items = {}
    local keys, array, more = keys_of(value)
    for _, name in ipairs(keys) do
        if state.left <= 0 then
            break
        end
        state.left = state.left - 1
        items[#items + 1] = one_item(value, name, array, state, depth)
    end
    more = more + #keys - #items
    if more > 0 then
        items[#items + 1] = ("... %d more"):format(more)
    end
    return items
end

-- On one line when it fits, else an item a line.
local function laid_out(items, width, depth)
    local line = "{ " .. table.concat(items, ", ") .. " }"
    if #items == 0 then
        return "{}"
    elseif #line + 4 * depth <= width and not line:find("\n", 1, true) then
        return line
    end
    local indent = ("    "):rep(depth + 1)
    return ("{\n%s%s,\n%s}"):format(indent, table.concat(items, ",\n" .. indent),
        ("    "):rep(depth))
end

local function nested_table(value, state, depth)
    if state.open[value] then
        return "{ ... itself }"
    elseif depth > DEPTH_MAX then
        return next(value) == nil and "{}" or "{ ... }"
    end
    state.open[value] = true
    local items = items_of(value, state, depth)
    state.open[value] = nil
    return laid_out(items, state.width, depth)
end

local function has_own_line(value)
    local meta = debug.getmetatable(value)
    return type(meta) == "table"
        and (rawget(meta, "__tostring") ~= nil or rawget(meta, "__name") ~= nil)
end

local NESTED = {
    string = function(value)
        local note = #value > TEXT_MAX and (" (%d bytes)"):format(#value) or ""
        return quoted(value) .. note
    end,
    ["function"] = function_line,
    table = function(value, state, depth)
        if has_own_line(value) then
            return line_of(value)
        end
        return nested_table(value, state, depth)
    end,
}

function show_nested(value, state, depth)
    return (NESTED[type(value)] or line_of)(value, state, depth)
end

function show_plain(value, how)
    return nested_table(value, { open = {}, left = ALL_ITEMS_MAX, width = how.width }, 0)
end

-- Strings that are the result -----------------------------------------------------------------

local function show_string(value)
    local is_text = utf8.len(value) and not value:find("[\0-\8\14-\31\127]")
    local odd_text = utf8.len(value) and not value:find("\0", 1, true)
    if is_text or #value <= (odd_text and ODD_TEXT_MAX or BINARY_MAX) then
        return text.clean(value, "\n\t")
    end
    return ("%s... (%d bytes)"):format(text.clean(value:sub(1, BINARY_MAX)), #value)
end

-- All together ---------------------------------------------------------------------------------

local TABLES = {
    { function(value) return is_a(value, Hsm) end, show_hsm },
    { function(value) return is_a(value, Partition) end, show_partition },
    { is_error, show_error },
    { is_plan, show_plan },
    { has_own_line, line_of },
    { is_report, show_report },
    { is_attributes, show_attributes },
}

local function show_table(value, how)
    for _, kind in ipairs(TABLES) do
        if kind[1](value) then
            return kind[2](value, how)
        end
    end
    local list = list_kind(value)
    if list then
        return columns(how, list.head, value, list.row)
    end
    return show_plain(value, how)
end

local SHOW = {
    string = show_string,
    ["function"] = function_line,
    table = show_table,
    userdata = function(value, how)
        return (USERDATA[kind_of(value)] or line_of)(value, how)
    end,
}

--- A value as a person reads it: what matters of a keyferry value, other values as Lua.
-- @param value anything
-- @tparam[opt] table how `colour` (boolean), `width` (columns of the terminal)
-- @treturn string clean text, perhaps of several lines
function M.value(value, how)
    how = {
        brush = colour.brush(how and how.colour), width = how and how.width or WIDTH,
    }
    return attempt(SHOW[type(value)] or line_of, value, how) or line_of(value)
end

--- Several values: on one line, or each from a line of its own when one has several. The
-- nil of `value, nil` (no error) is not one.
-- @tparam table how as for value
-- @param ... the values
-- @treturn string
function M.values(how, ...)
    local parts = table.pack(...)
    while parts.n > 1 and parts[parts.n] == nil do
        parts.n = parts.n - 1
    end
    for i = 1, parts.n do
        parts[i] = M.value(parts[i], how)
    end
    local between = table.concat(parts):find("\n", 1, true) and "\n" or "\t"
    return table.concat(parts, between, 1, parts.n)
end

return M
