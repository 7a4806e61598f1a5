-- SPDX-License-Identifier: MIT
--- Manual pages in man(7), made from what the scripts say of themselves.
local core = require("keyferry.core")

local failure = require("keyferry.shell.failure")
local help = require("keyferry.shell.help")
local options = require("keyferry.shell.options")
local script = require("keyferry.shell.script")
local status = require("keyferry.shell.status")
local text = require("keyferry.shell.text")

local M = {}

local WIDTH = 78 -- of the source, in which nothing else depends on it

-- Letters that roff or a typesetter would make something else of (groff_char(7)).
local LETTERS = {
    ["\\"] = "\\e", ["-"] = "\\-", ["'"] = "\\(aq", ["`"] = "\\(ga", ["^"] = "\\(ha",
    ["~"] = "\\(ti", ['"'] = "\\(dq",
}

--- A text as it stands for itself in the middle of a line.
-- @string words
-- @treturn string
function M.escape(words)
    local line = text.clean((words:gsub("%s+", " "))):gsub("[\\%-'`^~\"]", LETTERS)
    return (line:gsub(utf8.charpattern, function(character)
        return #character > 1 and ("\\[u%04X]"):format(utf8.codepoint(character)) or nil
    end))
end

-- A page that grows by lines; a line of text never is a request (a dot in front).
local Page = {}
Page.__index = Page

function Page:request(line)
    self[#self + 1] = line
end

function Page:raw(line)
    if line ~= "" then
        self[#self + 1] = line:find("^[.']") and "\\&" .. line or line
    end
end

function Page:text(words)
    for _, line in ipairs(text.wrap(M.escape(words), WIDTH)) do
        self:raw(line)
    end
end

function Page:section(title)
    self:request(".SH " .. M.escape(title))
end

-- A tagged paragraph: the tag is roff already.
function Page:item(tag, words)
    self:request(".TP")
    self:raw(tag)
    self:text(words)
end

function Page:verbatim(lines)
    self:request(".EX")
    for _, line in ipairs(lines) do
        local roff = text.clean(line):gsub("[\\%-'`^~\"]", LETTERS)
        self[#self + 1] = roff:find("^[.']") and "\\&" .. roff or roff
    end
    self:request(".EE")
end

local function bold(words)
    return "\\fB" .. M.escape(words) .. "\\fR"
end

local function italic(words)
    return "\\fI" .. M.escape(words) .. "\\fR"
end

local function new_page(title, summary, date)
    local page = setmetatable({}, Page)
    page:request('.\\" Made from the option tables by make man.')
    page:request(('.TH "%s" 1 "%s" "keyferry %s" "User Commands"'):format(M.escape(title:upper()),
        date, M.escape(core.version)))
    page:section("NAME")
    for _, line in ipairs(text.wrap(M.escape(title) .. " \\- " .. M.escape(summary), WIDTH)) do
        page:raw(line)
    end
    return page
end

-- What stands in several pages ---------------------------------------------------------

local STATUS = {
    [0] = "Done. Objects that were there already count as there.",
    [1] = "Partial: some objects were not cloned, or a verification found differences.",
    [2] = "Wrong use. Nothing was asked or opened.",
    [3] = "Authentication: a PIN is wrong, locked or expired, or there is none to be had.",
    [4] = "Domain mismatch: nothing was cloned.",
    [5] = "Refused: the user quit, a confirmation was not to be had, something is there already, "
        .. "or the user has not the role.",
    [6] = "Not found: no such HSM, partition, file or command.",
    [7] = "The HSM or the system failed.",
    [8] = "A script failed.",
    [130] = "Interrupted. What had been done is said.",
}

local function add_statuses(page)
    local codes = {}
    for _, code in pairs(status) do
        if math.type(code) == "integer" then
            codes[#codes + 1] = code
        end
    end
    table.sort(codes)
    page:section("EXIT STATUS")
    for _, code in ipairs(codes) do
        page:item(bold(tostring(code)), STATUS[code] or status.text(code) .. ".")
    end
end

local FILES = {
    { "$XDG_CONFIG_HOME/keyferry/config.lua",
        "The configuration: HSMs, defaults, roles. Without XDG_CONFIG_HOME it is below "
            .. "~/.config, as are the scripts." },
    { "$XDG_CONFIG_HOME/keyferry/scripts/NOUN/VERB.lua",
        "A user's own command; it stands in for the stock one of that name." },
    { "$XDG_DATA_HOME/keyferry",
        "The home: where soft HSMs are. Without XDG_DATA_HOME it is below ~/.local/share." },
}

local HISTORY = { "$XDG_STATE_HOME/keyferry/history",
    "The lines typed at the prompt, none that holds a secret. Without XDG_STATE_HOME it is "
        .. "below ~/.local/state." }

local function add_files(page, more)
    page:section("FILES")
    for _, file in ipairs(FILES) do
        page:item(italic(file[1]), file[2])
    end
    if more then
        page:item(italic(more[1]), more[2])
    end
end

local function add_variables(page, variables)
    page:section("ENVIRONMENT")
    for _, variable in ipairs(variables) do
        page:item(bold(variable[1]), variable[2])
    end
end

local GENERAL = {
    { "KEYFERRY_HOME", "The home, unless --home is given." },
    { "SOFTHSM2_CONF", "The configuration of the system's SoftHSM, which is the HSM softhsm." },
    { "KEYFERRY_PED", "Files of shares, and folders with such files, ':' between them: of PED keys "
        .. "and of domains (domain join). Without enough of them shares are asked for on the "
        .. "terminal. KEYFERRY_PED_PASSWORD, KEYFERRY_PED_TOKENPW, KEYFERRY_PED_TOKENSOPWD and "
        .. "KEYFERRY_PED_DOMAIN come before it, for what stands in the place of that option." },
}
local AT_TERMINAL = {
    { "NO_COLOR", "When set and not empty: no colour." },
    { "TERM", "When unset or dumb: no colour." },
}

local function add_see_also(page, names)
    local parts = {}
    table.sort(names)
    for i, name in ipairs(names) do
        parts[i] = bold(name) .. "(1)"
    end
    page:section("SEE ALSO")
    for _, line in ipairs(text.wrap(table.concat(parts, ", "), WIDTH)) do
        page:raw(line)
    end
end

-- Options ------------------------------------------------------------------------------

local function dashed(name, dashes)
    return (#name == 1 and "-" or dashes) .. name
end

local function with_value(option, dashes)
    local tag = bold(dashed(option.name, dashes))
    if option.kind == "flag" then
        return tag
    end
    return tag .. " " .. italic(option.value or option.kind)
end

local function sentence(words)
    return words:find("[.!?]$") and words or words .. "."
end

local function variable_of(option)
    return option.kind == "secret" and (option.env or "KEYFERRY_" .. option.name:upper()) or nil
end

local function about(spec, option, dashes)
    local parts = { sentence(options.help_of(option)) }
    local shortcut, variable = options.shortcut(spec, option.name), variable_of(option)
    if option.choices then
        parts[#parts + 1] = ("One %sof %s."):format(option.kind == "list" and "or several "
            or "", table.concat(option.choices, ", "))
    end
    if option.required then
        parts[#parts + 1] = "Must be given."
    end
    if variable and not option.help:find(variable, 1, true) then
        parts[#parts + 1] = ("Better from %s, or asked on the terminal."):format(variable)
    end
    if shortcut ~= option.name then
        parts[#parts + 1] = ("Shortcut: %s."):format(dashed(shortcut, dashes))
    end
    return table.concat(parts, " ")
end

local function add_options(page, spec, dashes)
    for _, option in ipairs(spec) do
        local bare = option.word and italic(options.word_name(option)) .. ", " or ""
        page:item(bare .. with_value(option, dashes), about(spec, option, dashes))
    end
end

-- One command --------------------------------------------------------------------------

local function title_of(name)
    return "keyferry-" .. name:gsub(" ", "-")
end

-- As NAME sections say it: no capital but of a name, no full stop.
local function whatis(summary)
    local words = summary:gsub("%.$", "")
    if words:find("^%u%l") then
        words = words:sub(1, 1):lower() .. words:sub(2)
    end
    return words
end

local function add_synopsis(page, found)
    page:section("SYNOPSIS")
    page:raw(bold("keyferry " .. found.name))
    for _, option in ipairs(found.options or {}) do
        local piece = option.word and italic(options.word_name(option))
            or with_value(option, "-")
        page:raw(option.required and piece or "[" .. piece .. "]")
    end
end

local function secrets_of(found)
    local variables = {}
    for _, option in ipairs(found.options or {}) do
        local name = variable_of(option)
        if name then
            variables[#variables + 1] = { name, ("What -%s would give, where the process list "
                .. "does not show it. %s_FILE names a file that holds it."):format(option.name,
                name) }
        end
    end
    table.move(GENERAL, 1, #GENERAL, #variables + 1, variables)
    return variables
end

--- The page of a command.
-- @tparam table found its script
-- @tparam table others names of the commands to point to
-- @string date YYYY-MM-DD
-- @treturn string
function M.command(found, others, date)
    local page = new_page(title_of(found.name), whatis(found.summary), date)
    local see = { "keyferry" }
    add_synopsis(page, found)
    page:section("DESCRIPTION")
    page:text(sentence(found.summary) .. " " .. help.CATEGORY[found.category])
    if found.privileges and #found.privileges > 0 then
        page:request(".PP")
        page:text(("Privileges: %s, where the configuration maps users to roles; else everybody "
            .. "may."):format(table.concat(found.privileges, ", ")))
    end
    if found.options and #found.options > 0 then
        page:section("OPTIONS")
        page:text("The name of an option may be shortened as long as it is unique. An option is "
            .. "given with one dash or two, its value follows as the next word or after =.")
        add_options(page, found.options, "-")
    end
    if found.examples and #found.examples > 0 then
        page:section("EXAMPLES")
        page:verbatim(found.examples)
    end
    add_statuses(page)
    add_variables(page, secrets_of(found))
    add_files(page)
    for _, name in ipairs(others) do
        if name ~= found.name then
            see[#see + 1] = title_of(name)
        end
    end
    add_see_also(page, see)
    return table.concat(page, "\n") .. "\n"
end

-- The program --------------------------------------------------------------------------

local USES = {
    { "", "The prompt at a terminal, else Lua from standard input." },
    { "NOUN VERB [-option ...]", "One command." },
    { "run FILE [-option ...]", "A policy of the user's own." },
    { "-e LUA", "Evaluates Lua with the library loaded, and prints its value." },
    { "help [NOUN [VERB]]", "Help; also -help after a command." },
    { "--version", "The version." },
}

local function add_commands(page, scripts)
    page:section("COMMANDS")
    for _, found in ipairs(scripts) do
        page:item(bold(found.name), ("%s See %s(1)."):format(sentence(found.summary),
            title_of(found.name)))
    end
end

--- The page of the program.
-- @tparam table globals its option table
-- @tparam table scripts of all commands
-- @string date YYYY-MM-DD
-- @treturn string
function M.program(globals, scripts, date)
    local page = new_page("keyferry", "back up an HSM partition to another HSM", date)
    local variables, see = {}, { "pkcs11-tool", "softhsm2-util" }
    page:section("SYNOPSIS")
    page:raw(bold("keyferry") .. " [" .. italic("option") .. " ...] [" .. italic("what") .. "]")
    page:section("DESCRIPTION")
    page:text("keyferry clones the objects of a partition of an HSM to a partition of another "
        .. "HSM, over PKCS#11. Two partitions can exchange objects when they share a cloning "
        .. "domain. What it does:")
    for _, use in ipairs(USES) do
        page:item(bold((("keyferry " .. use[1]):gsub(" $", ""))), use[2])
    end
    page:section("OPTIONS")
    page:text("Before the command:")
    add_options(page, globals, "--")
    add_commands(page, scripts)
    add_statuses(page)
    table.move(GENERAL, 1, #GENERAL, 1, variables)
    table.move(AT_TERMINAL, 1, #AT_TERMINAL, #variables + 1, variables)
    add_variables(page, variables)
    add_files(page, HISTORY)
    for _, found in ipairs(scripts) do
        see[#see + 1] = title_of(found.name)
    end
    add_see_also(page, see)
    return table.concat(page, "\n") .. "\n"
end

-- All of them --------------------------------------------------------------------------

-- Every stock script, also where a user's own stands in for it here.
local function stock_scripts()
    local scripts = {}
    for _, entry in ipairs(script.all()) do
        local path = entry.own and entry.instead_of or not entry.own and entry.path
        if path then
            local found, err = script.load(path, {
                name = entry.noun .. " " .. entry.verb, stock = true, print = function() end,
            })
            if not found then
                return nil, err
            end
            scripts[#scripts + 1] = found
        end
    end
    return scripts
end

local function names_beside(scripts, found)
    local names, noun = {}, found.name:match("^%S+")
    for _, other in ipairs(scripts) do
        if other.name:match("^%S+") == noun then
            names[#names + 1] = other.name
        end
    end
    return names
end

--- All pages.
-- @tparam table globals the program's option table
-- @string date YYYY-MM-DD
-- @treturn[1] table file names to texts
-- @treturn[2] nil
-- @treturn[2] err
function M.pages(globals, date)
    local scripts, err = stock_scripts()
    local pages = {}
    if not scripts then
        return nil, err
    end
    pages["keyferry.1"] = M.program(globals, scripts, date)
    for _, found in ipairs(scripts) do
        pages[title_of(found.name) .. ".1"] = M.command(found, names_beside(scripts, found), date)
    end
    return pages
end

-- reproducible-builds.org/docs/source-date-epoch
local function today()
    return os.date("!%Y-%m-%d", tonumber(os.getenv("SOURCE_DATE_EPOCH")) or os.time())
end

--- `--man DIR`, for the Makefile: writes all pages into that folder, which must be there.
-- @param shell the program
-- @tparam table words
-- @treturn integer the exit status
function M.main(shell, words)
    local pages, ok, err
    if not words[2] or words[3] then
        return failure.plain(shell, failure.usage("--man needs one folder"))
    end
    pages, err = M.pages(shell.globals, today())
    ok = pages and true
    for name, page in pairs(pages or {}) do
        if ok then
            ok, err = core.file.write(words[2] .. "/" .. name, page, 420) -- 0644
        end
    end
    return ok and status.SUCCESS or failure.plain(shell, err)
end

return M
