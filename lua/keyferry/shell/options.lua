-- SPDX-License-Identifier: MIT
--- Options: the words of a command line, read by a script's option table.
--
-- `-x`, `-x=v`, `-x v`, and the same with two dashes. A unique prefix is enough and the
-- exact name always wins, and a declared `shortcut` over longer names. The one option that is
-- declared `word = true` takes a bare word, too (several when it is a list). Nothing is asked
-- or opened here, and no refusal repeats a word that could be a secret.
local text = require("keyferry.shell.text")

local M = {}

M.LABEL_BYTES = 32 -- CK_TOKEN_INFO.label, PKCS#11 3.2

-- Every command has it.
M.HELP = { name = "help", kind = "flag", help = "Say what this command does." }

local function bytes_between(option, value)
    local min, max = option.min or 1, option.max
    if #value < min then
        return nil, min == 1 and "the value is empty"
            or ("the value is shorter than %d bytes"):format(min)
    end
    if max and #value > max then
        return nil, ("the value is longer than %d bytes"):format(max)
    end
    return value
end

local LABEL_HINT = "letters with marks on them take several bytes; a PKCS#11 URI names a "
    .. "partition, too"

local function label(option, value)
    if value:sub(1, 7) == "pkcs11:" and option.uri ~= false then
        return bytes_between({ max = 4096 }, value)
    end
    if #value > (option.max or M.LABEL_BYTES) then
        return nil, ("a label has at most %d bytes, this one has %d"):format(
            option.max or M.LABEL_BYTES, #value), LABEL_HINT
    end
    if not utf8.len(value) then
        return nil, "a label is UTF-8 text, this one is not", LABEL_HINT
    end
    if value:find("%c") or value:find(" $") then
        return nil, "a label has no control characters and no blank at its end", LABEL_HINT
    end
    return bytes_between({}, value)
end

local function serial(_, value)
    if value:find("[%c]") or not utf8.len(value) then
        return nil, "a serial number is plain text, this one is not"
    end
    return bytes_between({ max = 64 }, value)
end

local function number(option, value)
    local n = value:find("^%-?%d+$") and math.tointeger(tonumber(value))
    if not n then
        return nil, "the value is not a whole number"
    end
    if (option.min and n < option.min) or (option.max and n > option.max) then
        return nil, ("the value is not between %s and %s"):format(
            option.min or "-2^63", option.max or "2^63-1")
    end
    return n
end

local function choice(option, value)
    for _, known in ipairs(option.choices) do
        if known == value then
            return value
        end
    end
    return nil, "the value is one of " .. table.concat(option.choices, ", ")
end

local function list(option, value)
    local items = {}
    for item in (value .. ","):gmatch("([^,]*),") do
        local ok, problem = bytes_between({}, item)
        if ok and option.choices then
            ok, problem = choice(option, item)
        end
        if not ok then
            return nil, problem
        end
        items[#items + 1] = item
    end
    return items
end

local function secret(option, value, make)
    local ok, problem = bytes_between(option, value)
    if not ok then
        return nil, problem
    end
    return make(value)
end

local READERS = {
    label = label,
    serial = serial,
    secret = secret,
    string = bytes_between,
    path = bytes_between,
    choice = choice,
    list = list,
    number = number,
}

--- The kinds an option may have, with "flag" for one without a value.
M.KINDS = { flag = true }
for kind in pairs(READERS) do
    M.KINDS[kind] = true
end

--- The kinds, as a sentence has them.
function M.kinds()
    local kinds = {}
    for kind in pairs(M.KINDS) do
        kinds[#kinds + 1] = kind
    end
    table.sort(kinds)
    return table.concat(kinds, ", ")
end

--- The names of an option table.
function M.names_of(spec)
    local names = {}
    for i, option in ipairs(spec) do
        names[i] = option.name
    end
    return names
end

-- Of a domain, which is not said in its question.
local AS_SHARES = "When it is asked for, one of its shares may be typed instead, or Enter alone: "
    .. "the other shares are asked for then."

--- The help of an option, with what follows from its other fields.
-- @tparam table option
-- @treturn string
function M.help_of(option)
    if not option.shares then
        return option.help
    end
    return option.help .. (option.help:find("[.!?]$") and " " or ". ") .. AS_SHARES
end

--- An option table with -help, which every command has.
function M.with_help(spec)
    local all = {}
    for i, option in ipairs(spec) do
        if option.name == M.HELP.name then
            return spec
        end
        all[i] = option
    end
    all[#all + 1] = M.HELP
    return all
end

--- The option that takes bare words, if one does.
-- @tparam table spec the option table
-- @treturn table|nil
function M.word_of(spec)
    for _, option in ipairs(spec) do
        if option.word then
            return option
        end
    end
    return nil
end

--- A bare word as help and the manual show it: FILE, or FILE ... where several may stand.
-- @tparam table option
-- @treturn string
function M.word_name(option)
    return (option.value or option.kind):upper() .. (option.kind == "list" and " ..." or "")
end

local function dashed(names)
    local out = {}
    for i, name in ipairs(names) do
        out[i] = "-" .. name
    end
    return table.concat(out, ", ")
end

local function unknown(word, names, elsewhere)
    local near
    for _, name in ipairs(elsewhere or {}) do
        if name == word then
            return nil, ("option --%s goes before the command"):format(name),
                ("write: keyferry --%s NOUN VERB ..."):format(name)
        end
    end
    near = text.nearest(word, names)
    return nil, ("there is no option -%s"):format(text.clean(word)),
        near and ("did you mean -%s?"):format(near)
        or "see -help for the options there are"
end

--- The names that a typed one may mean.
-- @tparam table spec the option table
-- @string word
-- @treturn table
function M.meant(spec, word)
    local found = word == "" and {} or text.matching(word, M.names_of(spec))
    for _, option in ipairs(#found > 1 and spec or {}) do
        if option.shortcut == word then
            return { option.name }
        end
    end
    return found
end

-- The option that a typed name means.
local function resolve(spec, word, elsewhere)
    local names = M.names_of(spec)
    local found = M.meant(spec, word)
    if #found > 1 then
        return nil, ("option -%s is ambiguous: %s"):format(text.clean(word), dashed(found)),
            "write more of its name"
    end
    if #found == 0 then
        return unknown(word, names, elsewhere)
    end
    for _, option in ipairs(spec) do
        if option.name == found[1] then
            return option
        end
    end
end

-- The value that follows in the next word, or a refusal.
local function next_value(option, words, i)
    local word = words[i]
    if word ~= nil and (option.any or word == "-" or word:sub(1, 1) ~= "-") then
        return word
    end
    if word == nil then
        return nil, ("option -%s needs a value"):format(option.name),
            ("write: -%s VALUE"):format(option.name)
    end
    return nil, ("option -%s needs a value, and the next word begins with a dash"):format(
        option.name), ("a value that does is written -%s=VALUE"):format(option.name)
end

-- Reads one option at words[i]; gives the index of the last word it took.
local function read(state, words, i)
    local name, value = words[i]:match("^%-%-?([^=]*)=?(.*)$")
    local inline = words[i]:find("=", 1, true) ~= nil
    local option, problem, hint = resolve(state.spec, name, state.elsewhere)
    if not option then
        return nil, problem, hint
    end
    if state.values[option.name] ~= nil then
        return nil, ("option -%s is given twice"):format(option.name), "give it once"
    end
    if option.kind == "flag" then
        if inline then
            return nil, ("option -%s takes no value"):format(option.name),
                ("write: -%s"):format(option.name)
        end
        state.values[option.name] = true
        return i
    end
    if not inline then
        i = i + 1
        value, problem, hint = next_value(option, words, i)
        if not value then
            return nil, problem, hint
        end
    end
    value, problem, hint = READERS[option.kind](option, value, state.secret)
    if value == nil then
        return nil, ("option -%s: %s"):format(option.name, problem),
            hint or "see -help for what the option takes"
    end
    if option.kind == "secret" then
        state.secrets[#state.secrets + 1] = option.name
        words[i] = inline and "-" .. option.name or "" -- what Lua collects cannot be wiped
    end
    state.values[option.name] = value
    return i
end

local function missing(state)
    local names = {}
    for _, option in ipairs(state.spec) do
        if option.required and state.values[option.name] == nil then
            names[#names + 1] = option.word and M.word_name(option):match("%S+")
                or "-" .. option.name
        end
    end
    if #names == 0 then
        return true
    end
    return nil, ("%s %s missing"):format(table.concat(names, ", "),
        #names == 1 and "is" or "are"),
        "see -help for what the command needs"
end

local function stray(words, i)
    local after = i > 1 and words[i - 1]:match("^%-%-?[^=]*")
    -- Not repeated: it may be the second half of a password with a blank in it.
    return nil, after and ("a word after %s belongs to no option"):format(text.clean(after))
        or "a word belongs to no option", "a value with blanks in it goes in quotes"
end

-- Takes the word at words[i] for the option that takes bare words; as with an option, gives
-- its index. Neither it nor the name of the option before it is repeated.
local function read_word(state, option, words, i)
    local value, problem, hint
    local before = state.values[option.name]
    if before ~= nil and not (option.kind == "list" and state.words) then
        return nil, ("a second word, and the command takes one %s"):format(
            M.word_name(option)), "a value with blanks in it goes in quotes"
    end
    if option.kind == "list" then
        value, problem, hint = bytes_between(option, words[i])
        if value and option.choices then
            value, problem = choice(option, value)
        end
        value = value and table.move({ value }, 1, 1, #(before or {}) + 1, before or {})
    else
        value, problem, hint = READERS[option.kind](option, words[i])
    end
    if value == nil then
        return nil, ("%s: %s"):format(M.word_name(option), problem),
            hint or "see -help for what the command takes"
    end
    state.values[option.name], state.words = value, true
    return i
end

-- Whether a word is none that begins an option. "-" is standard input where files are taken.
local function is_bare(word)
    return word:sub(1, 1) ~= "-" or word == "-" or word == "--"
end

-- Reads what stands at words[i]; gives the index of the last word it took. false: the words
-- end here.
local function read_next(state, words, i, stop)
    if not is_bare(words[i]) then
        return read(state, words, i)
    elseif stop then
        return false
    end
    local option = words[i] ~= "--" and M.word_of(state.spec)
    if option then
        return read_word(state, option, words, i)
    end
    return stray(words, i)
end

--- Reads words by an option table.
-- @tparam table spec array of options as scripts declare them
-- @tparam table words the words; those that held a secret are blanked
-- @tparam[opt] table how `first` index to begin at, `secret` function that makes a secret of
--   a string, `stop` true: end at the first word that is no option, `elsewhere` names of
--   options that exist but go before the command, `values` what is given already, by name
-- @treturn[1] table `values` by name, `secrets` names given as options, `next` index of the
--   first word not read, `help` true when help was asked for
-- @treturn[2] nil
-- @treturn[2] string the refusal, one sentence
-- @treturn[2] string|nil what to do
function M.parse(spec, words, how)
    local i, state, ok, problem, hint
    how = how or {}
    i = how.first or 1
    state = { spec = M.with_help(spec), values = how.values or {}, secrets = {},
        elsewhere = how.elsewhere,
        secret = how.secret or function(value) return value end }
    while i <= #words do
        ok, problem, hint = read_next(state, words, i, how.stop)
        if ok == false then
            break
        elseif not ok then
            return nil, problem, hint
        end
        i = ok
        if state.values.help == true and not how.stop then
            return { values = state.values, secrets = state.secrets, help = true, next = i + 1 }
        end
        i = i + 1
    end
    if not state.values.help then
        ok, problem, hint = missing(state)
        if not ok then
            return nil, problem, hint
        end
    end
    return { values = state.values, secrets = state.secrets, next = i,
        help = state.values.help == true }
end

--- Options that were given and exclude each other (`excludes` names the other one), as a
-- sentence: `because`, when there is one.
-- @tparam table spec the option table
-- @tparam table values by name
-- @treturn string|nil
function M.conflict(spec, values)
    for _, option in ipairs(spec) do
        local other = option.excludes
        if other and values[option.name] ~= nil and values[other] ~= nil then
            return option.because
                or ("-%s and -%s exclude each other"):format(option.name, other)
        end
    end
    return nil
end

--- The shortest form of an option's name that means it.
-- @tparam table spec the option table
-- @string name one of its names
function M.shortcut(spec, name)
    local all = M.with_help(spec)
    for size = 1, #name do
        local found = M.meant(all, name:sub(1, size))
        if #found == 1 and found[1] == name then
            return name:sub(1, size)
        end
    end
    return name
end

return M
