-- SPDX-License-Identifier: MIT
--- Completion: what may come next on a command line. Made of the scripts' option tables.
--
-- Nothing here asks, logs in, prints, raises or changes a token.
local core = require("keyferry.core")

local complete_lua = require("keyferry.shell.completion.lua")
local names = require("keyferry.shell.completion.names")
local options = require("keyferry.shell.options")
local quoting = require("keyferry.shell.completion.quoting")
local script = require("keyferry.shell.script")
local text = require("keyferry.shell.text")

local M = {}

local MAX_LINE = 65536


-- Words that stand where a noun stands: what each does, and whether only at the prompt.
local VERBS = {
    { name = "help", help = "List the commands, or explain one." },
    { name = "run", help = "Run a policy of your own." },
    { name = "history", help = "The lines typed before.", prompt = true },
    { name = "record", help = "Write what was done as a script.", prompt = true },
    { name = "exit", help = "Leave.", prompt = true },
    { name = "quit", help = "Leave.", prompt = true },
}

local function begins(value, typed)
    return value:sub(1, #typed) == typed
end

local function add(result, typed, candidate)
    if begins(candidate.value, typed) then
        result[#result + 1] = candidate
    end
end

-- Values of options ------------------------------------------------------------------

local function accepts(option, value)
    local free = {}
    for name, field in pairs(option) do
        free[name] = field
    end
    free.required = nil
    return options.parse({ free }, { "-" .. option.name .. "=" .. value }) ~= nil
end

-- A label that the option refuses (a line break in it) is named by its URI.
local function partitions(option, typed)
    local list, seen = {}, {}
    local uris = option.kind == "label" and option.uri ~= false
    for _, partition in ipairs(names.partitions()) do
        local where = ("on %s, serial %s"):format(partition.hsm, partition.serial)
        local usable = accepts(option, partition.label)
        if usable and not seen[partition.label] then
            seen[partition.label] = true
            list[#list + 1] = { value = partition.label, help = where }
        end
        if uris and (not usable or #typed > 1 and begins("pkcs11:", typed:sub(1, 7))) then
            list[#list + 1] = { value = partition.uri, help = where }
        end
    end
    return list
end

local function serials()
    local list, seen = {}, {}
    for _, hsm in ipairs(names.hsms()) do
        if hsm.serial then
            seen[hsm.serial] = true
            list[#list + 1] = { value = hsm.serial, help = "HSM " .. hsm.name }
        end
    end
    for _, partition in ipairs(names.partitions()) do
        if not seen[partition.serial] then
            list[#list + 1] = { value = partition.serial,
                help = ("partition %s on %s"):format(partition.label, partition.hsm) }
        end
    end
    return list
end

local function hsms()
    local list = {}
    for i, hsm in ipairs(names.hsms()) do
        list[i] = { value = hsm.name, help = hsm.serial and "serial " .. hsm.serial }
    end
    return list
end

local SOURCES = { partitions = partitions, serials = serials, hsms = hsms }

local function chosen(option)
    local list = {}
    for i, choice in ipairs(option.choices) do
        list[i] = { value = choice }
    end
    return list
end

-- Adds what may follow `before` (of the word) for a value of which `typed` is there.
local function add_values(result, option, before, typed)
    local source = SOURCES[option.complete]
    local given = {}
    if option.kind == "secret" or option.kind == "flag" then
        return
    elseif option.kind == "path" or option.complete == "files" then
        local items = option.kind == "list" and typed:match("^.*,") or ""
        result.files, result.before = true, before .. items
        return
    elseif option.kind == "list" then
        local items, last = typed:match("^(.*,)([^,]*)$")
        for item in (items or ""):gmatch("[^,]+") do
            given[item] = true
        end
        before, typed = before .. (items or ""), last or typed
    end
    for _, candidate in ipairs(option.choices and chosen(option)
        or source and source(option, typed) or {}) do
        local value = candidate.value
        local separate = before == "" and begins(value, "-") -- would be read as an option
        if not given[value] and not separate and accepts(option, value) then
            add(result, before .. typed, { value = before .. value, before = before,
                help = candidate.help, open = option.kind == "list" })
        end
    end
end

-- Options ----------------------------------------------------------------------------

local function find_option(spec, word)
    local found = options.meant(spec, word:match("^%-%-?([^=]*)"))
    for _, option in ipairs(spec) do
        if #found == 1 and option.name == found[1] then
            return option
        end
    end
    return nil
end

-- What the words from first on mean by an option table: the options given (by name, with
-- their words), the option whose value comes next, and the first word that belongs to none.
local function read_options(spec, words, first)
    local given, i = {}, first
    local bare = options.word_of(spec)
    while i <= #words do
        local word = words[i]
        local option = begins(word, "-") and find_option(spec, word)
        if not begins(word, "-") or word == "-" then
            if not bare or given[bare.name] and bare.kind ~= "list" then
                return given, nil, i
            end
            given[bare.name] = word
        end
        if option then
            local inline = word:match("^[^=]*=(.*)$")
            if option.kind == "flag" or inline then
                given[option.name] = inline or true
            elseif i == #words then
                return given, option, i + 1
            else
                i = i + 1
                given[option.name] = words[i]
            end
        end
        i = i + 1
    end
    return given, nil, i
end

local function add_option_names(result, spec, given, typed, dashes)
    for _, option in ipairs(spec) do
        if not given[option.name] then
            local dash = #option.name == 1 and "-" or dashes
            add(result, typed, { value = dash .. option.name, help = option.help })
        end
    end
end

-- The option that a bare word would be taken for here; one word of a list is a value by
-- itself, commas and all.
local function bare_option(spec, given)
    local bare, one = options.word_of(spec), {}
    if not bare or given[bare.name] and bare.kind ~= "list" then
        return nil
    end
    for name, field in pairs(bare) do
        one[name] = field
    end
    if one.kind == "list" then
        one.kind = one.choices and "choice" or "string"
    end
    return one
end

-- The word after options: a value, an option, or the value after an option's `=`.
local function add_of_options(result, spec, how)
    local word = how.word
    local inline = word:match("^%-[^=]*=")
    local option = inline and find_option(spec, word)
    local bare = not how.waiting and not begins(word, "-") and bare_option(spec, how.given)
    if bare then
        add_values(result, bare, "", word) -- a shell lists files only where nothing else is
    elseif how.waiting then
        if not begins(word, "-") then
            add_values(result, how.waiting, "", word)
        end
    elseif option then
        add_values(result, option, inline, word:sub(#inline + 1))
    elseif begins(word, "--") then
        add_option_names(result, spec, how.given, word, "--")
    elseif begins(word, "-") or word == "" then
        add_option_names(result, spec, how.given, word, how.dashes or "-")
    end
end

-- Nouns and verbs ----------------------------------------------------------------------

local function distinct(entries, field)
    local list, seen = {}, {}
    for _, entry in ipairs(entries) do
        if not seen[entry[field]] then
            seen[entry[field]] = true
            list[#list + 1] = entry[field]
        end
    end
    return list
end

local function verbs_of(entries, noun)
    local found = text.matching(noun, distinct(entries, "noun"))
    local list = {}
    for _, entry in ipairs(entries) do
        if #found == 1 and entry.noun == found[1] then
            list[#list + 1] = entry
        end
    end
    return list
end

local function add_nouns(result, entries, word)
    for _, noun in ipairs(distinct(entries, "noun")) do
        add(result, word, { value = noun,
            help = table.concat(distinct(verbs_of(entries, noun), "verb"), ", ") })
    end
end

local function add_verbs(result, entries, word, how)
    for _, entry in ipairs(entries) do
        if begins(entry.verb, word) then
            local found = how.describe and script.peek(entry)
            add(result, word, { value = entry.verb, help = found and found.summary })
        end
    end
end

local function verb_of_words(name, prompt)
    for _, verb in ipairs(VERBS) do
        if verb.name == name and (prompt or not verb.prompt) then
            return verb
        end
    end
    return nil
end

local function add_help(result, entries, words, i, word, how)
    if i == #words then
        add_nouns(result, entries, word)
    elseif i + 1 == #words then
        add_verbs(result, verbs_of(entries, words[i + 1]), word, how)
    end
end

-- What follows a noun: its verbs, then the options of the command.
local function add_of_noun(result, entries, words, i, word, how)
    local verbs = verbs_of(entries, words[i])
    local found
    if i == #words then
        add_verbs(result, verbs, word, how)
        if begins(word, "-") then
            add(result, word, { value = "-help", help = options.HELP.help })
        end
        return
    end
    found = text.matching(words[i + 1], distinct(verbs, "verb"))
    for _, entry in ipairs(#found == 1 and verbs or {}) do
        found.script = entry.verb == found[1] and script.peek(entry) or found.script
    end
    if found.script then
        local spec = options.with_help(found.script.options or {})
        local given, waiting, stray = read_options(spec, words, i + 2)
        if stray > #words then
            add_of_options(result, spec, { word = word, given = given, waiting = waiting })
        end
    end
end

-- What may stand where `word` is typed, after the words before it.
local function of_words(words, i, word, how)
    local result, entries = {}, script.all()
    local name = words[i]
    if not name then
        add_nouns(result, entries, word)
        for _, verb in ipairs(VERBS) do
            if how.prompt or not verb.prompt then
                add(result, word, { value = verb.name, help = verb.help })
            end
        end
    elseif not verb_of_words(name, how.prompt) then
        add_of_noun(result, entries, words, i, word, how)
    elseif name == "help" then
        add_help(result, entries, words, i, word, how)
    elseif (name == "run" or name == "record") and i == #words then
        result.files, result.before = true, ""
    end
    return result
end

local function in_home(path)
    local rest = type(path) == "string" and path:match("^~(/.*)$") or path == "~" and ""
    return rest and (os.getenv("HOME") or "") .. rest or path
end

--- What may stand on the program's own command line.
-- @param shell the program: `globals`, its option table
-- @tparam table words the words before the one that is typed, without the program
-- @string word what is there of it
-- @tparam[opt] table how `describe` true: verbs get their summaries, too
-- @treturn table array of { value (of the whole word), help, open (true: no blank follows) };
--   `files` true: names of files belong there, after `before`
function M.command(shell, words, word, how)
    local given, waiting, i = read_options(shell.globals, words, 1)
    local result = {}
    if given.e or given.version then
        return result
    elseif not waiting and i <= #words then
        require("keyferry").configure({ home = in_home(given.home),
            config = in_home(given.config) })
        return of_words(words, i, word, how or {})
    end
    if waiting or begins(word, "-") then
        add_of_options(result, options.with_help(shell.globals), { word = word, given = given,
            waiting = waiting, dashes = #word < 2 and "--" or "-" })
    end
    if not waiting and not begins(word, "-") then
        result = of_words(words, i, word, how or {})
    end
    return result
end

--- The values that may stand at words[index].
-- @param shell the program
-- @tparam table words
-- @tparam integer index
-- @treturn table array of strings
function M.words(shell, words, index)
    local list = {}
    for i, candidate in ipairs(M.command(shell, table.move(words, 1, index - 1, 1, {}),
        words[index] or "")) do
        list[i] = candidate.value
    end
    return list
end

-- The prompt's lines -----------------------------------------------------------------

--- Adds the names of files as candidates, where there is no shell that lists them.
-- @tparam table result of M.command, with `files`
-- @string word what is typed of the word
function M.add_files(result, word)
    local typed = word:sub(#result.before + 1)
    local folder, start = typed:match("^(.*/)([^/]*)$")
    start = start or typed
    for _, name in ipairs(core.file.list(folder and in_home(folder) or ".") or {}) do
        local shown = begins(name, start) and (start ~= "" or not begins(name, "."))
        if shown and name ~= "." and name ~= ".." then
            local path = (folder or "") .. name
            local is_folder = core.file.exists(in_home(path)) == "directory"
            result[#result + 1] = { value = result.before .. path .. (is_folder and "/" or ""),
                open = is_folder }
        end
    end
end

local function is_lua(word, env)
    for _, keyword in ipairs(complete_lua.KEYWORDS) do
        if word == keyword then
            return true
        end
    end
    return rawget(env, word) ~= nil
end

-- Whether a line of the prompt, up to the cursor, is a command rather than Lua: its first
-- word is a noun (or help, run, ...), and what follows is a word. `hsm = 1` and `hsm:close()`
-- are Lua; so is what begins with Lua's own word or a global, unless it is a whole noun.
local function is_command(line, env)
    local word, blank, next_char = line:match("^%s*(%a[%w_-]*)(%s*)(.?)")
    if not word or (blank == "" and next_char ~= "") then
        return false
    elseif verb_of_words(word, true) then
        return next_char == "" or next_char:find("[%w_./~'\"-]") ~= nil
    end
    local found = text.matching(word, distinct(script.all(), "noun"))
    return #found == 1 and (found[1] == word or not is_lua(word, env))
        and (next_char == "" or next_char:find("[%a-]") ~= nil)
end

-- Candidates as texts that take the place of the word from `start` on.
local function as_texts(result, word, start)
    local texts = {}
    for _, candidate in ipairs(result) do
        local piece = quoting.ending(word, start, candidate.value, "posix",
            not candidate.open)
        if piece then
            texts[#texts + 1] = piece .. (candidate.open and "" or " ")
        end
    end
    table.sort(texts)
    return texts
end

local function of_command_line(line)
    local words, word = quoting.words(line, "posix")
    local start = word.opened or 1
    local result = of_words(words, 1, word.value, { prompt = true })
    if result.files then
        M.add_files(result, word.value)
        start = math.max(start, word.raw:match("^~/()") or 1) -- stays unquoted
    end
    return word.first + start - 1, as_texts(result, word, start)
end

local function of_line(env, line, cursor)
    local before = line:sub(1, cursor)
    if before:find("^%s*%a[%w_-]*%s") and is_command(before, env) then
        return of_command_line(before)
    end
    local first, texts = complete_lua.line(env, before, line:sub(cursor + 1))
    if before:find("^%s*[%w_]*$") then
        local _, commands = of_command_line(before)
        table.move(commands, 1, #commands, #texts + 1, texts)
    end
    return first, texts
end

--- The prompt's Tab.
-- @param shell the program
-- @tparam table env the globals of the prompt's Lua
-- @string line
-- @tparam integer cursor how many bytes are before the cursor
-- @treturn integer the index where the text that is completed begins
-- @treturn table array of texts to put from there to the cursor; each ends with a blank
--   where the word is whole
function M.line(shell, env, line, cursor) -- luacheck: ignore shell
    local ok, first, texts = cursor <= MAX_LINE, nil, nil
    if ok then
        ok, first, texts = pcall(of_line, env, line, cursor)
    end
    if not ok then
        return cursor + 1, {}
    end
    return first, texts
end

return M
