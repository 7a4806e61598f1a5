-- SPDX-License-Identifier: MIT
--- Help, all of it made from the option tables.
local options = require("keyferry.shell.options")
local text = require("keyferry.shell.text")

local M = {}

local WIDTH = 80

local USAGE = {
    "keyferry                          the shell; Lua from standard input when that is no terminal",
    "keyferry NOUN VERB [-option ...]  one command",
    "keyferry run FILE.lua [...]       a policy of your own",
    "keyferry -e 'LUA'                 evaluate Lua with the library loaded",
    "keyferry help [NOUN [VERB]]       also: keyferry NOUN VERB -help",
    "keyferry --version",
    "keyferry --completion bash|zsh    the completion file of that shell (make install puts it)",
}

-- What the commands of a noun have in common, above their list.
local ABOUT = {
    ped = {
        "PED keys open soft HSMs that were made with 'hsm create -ped', in the place of",
        "passwords. A blue key is the Security Officer, a black key the Crypto Officer, a red",
        "key the cloning domain; each is made as shares, M of which are needed. First 'ped",
        "create' for each colour, then 'hsm create -ped' (asks for blue), 'partition create'",
        "(black, blue, red) and 'partition backup'. KEYFERRY_PED names files and folders of",
        "shares, ':' between them; KEYFERRY_PED_PASSWORD, _TOKENPW, _TOKENSOPWD and _DOMAIN",
        "those for one option each. What is lacking is asked for: the words, or the path of a",
        "file.",
    },
    hsm = {
        "Soft HSMs are made by 'hsm create'. Others are entries of the configuration, which say",
        "where the module is (README.md, Configuration); 'hsm check' tells what works with one.",
    },
}

--- What a category means, as a sentence.
M.CATEGORY = {
    reads = "Changes nothing.",
    writes = "Writes.",
    destroys = "Destroys: asks before it does, unless -force is given.",
}

local function value_of(option)
    if option.kind == "flag" then
        return ""
    end
    return " <" .. (option.value or option.kind) .. ">"
end

local function append(lines, more, indent)
    for _, line in ipairs(more) do
        lines[#lines + 1] = (indent or "") .. line
    end
end

-- Lines like text.wrap, but an option and its value stay together.
local function syntax(script, program)
    local lines, line = {}, "  " .. program
    for _, option in ipairs(script.options or {}) do
        local piece = option.word and options.word_name(option)
            or "-" .. option.name .. value_of(option)
        if not option.required then
            piece = "[" .. piece .. "]"
        end
        if #line + 1 + #piece > WIDTH then
            lines[#lines + 1] = line
            line = "     "
        end
        line = line .. " " .. piece
    end
    lines[#lines + 1] = line
    return lines
end

local function dashed(name, dashes)
    return (#name == 1 and "-" or dashes) .. name
end

local function option_rows(spec, dashes)
    local left, size = {}, 0
    for i, option in ipairs(spec) do
        left[i] = { (option.word and options.word_name(option) .. ", " or "")
            .. dashed(option.name, dashes) .. value_of(option),
            dashed(options.shortcut(spec, option.name), dashes), options.help_of(option) }
        size = math.max(size, #left[i][1])
    end
    return left, size
end

local function describe_options(spec, dashes)
    local lines, short = {}, 8
    local rows, size = option_rows(spec, dashes)
    for _, row in ipairs(rows) do
        short = math.max(short, #row[2])
    end
    size = math.max(size, #"Option")
    lines[1] = ("  %-" .. size .. "s  %-" .. short .. "s  %s"):format(
        "Option", "Shortcut", "Description")
    for _, row in ipairs(rows) do
        local room = math.max(WIDTH - size - short - 6, 24)
        for i, line in ipairs(text.wrap(row[3], room)) do
            lines[#lines + 1] = ("  %-" .. size .. "s  %-" .. short .. "s  %s"):format(
                i == 1 and row[1] or "", i == 1 and row[2] or "", line)
        end
    end
    return lines
end

local function origin(entry)
    if entry and entry.own then
        return ("Your own script %s%s."):format(text.clean(entry.path),
            entry.instead_of and " stands in for the stock command" or "")
    end
    if entry and entry.copy then
        return ("Its script: %s (a copy in %s stands in for it)"):format(
            text.clean(entry.path), text.clean(entry.copy))
    end
    return nil
end

--- The help of one command.
-- @tparam table script
-- @tparam[opt] table entry where it was found (keyferry.shell.script); of a stock command
--   also `copy`: where a user's own one goes
-- @string[opt] program the words that start it, when it has no noun and verb
-- @treturn table lines
function M.command(script, entry, program)
    local lines = { script.name, "" }
    append(lines, text.wrap(script.summary .. " " .. M.CATEGORY[script.category], WIDTH))
    append(lines, { origin(entry) }) -- one line: who copies a path wants it whole
    append(lines, { "", "Syntax" })
    append(lines, syntax(script, program or "keyferry " .. script.name))
    if script.privileges and #script.privileges > 0 then
        append(lines, { "" })
        append(lines, text.wrap(("User privileges: %s (a guard rail, no security boundary)")
            :format(table.concat(script.privileges, ", ")), WIDTH))
    end
    if script.options and #script.options > 0 then
        append(lines, { "" })
        append(lines, describe_options(script.options, "-"))
    end
    if script.examples and #script.examples > 0 then
        append(lines, { "", "Examples" })
        append(lines, script.examples, "  ")
    end
    return lines
end

--- The list of commands, by noun.
-- @tparam table entries what keyferry.shell.script.all gives, each with `script`, or with
--   `problem` (a sentence) when it does not load
-- @tparam[opt] table globals the option table of the program
-- @tparam[opt] table guides { { title, path }, ... }
-- @treturn table lines
function M.commands(entries, globals, guides)
    local lines, size, noun = {}, 0, nil
    if globals then
        append(lines, { "keyferry backs up an HSM partition to another HSM.", "" })
        append(lines, USAGE, "  ")
        append(lines, { "", "Before the noun" })
        append(lines, describe_options(globals, "--"))
        append(lines, { "", "Commands" })
    end
    if not globals and entries[1] and ABOUT[entries[1].noun] then
        append(lines, text.wrap(table.concat(ABOUT[entries[1].noun], " "), WIDTH))
        append(lines, { "" })
    end
    for _, entry in ipairs(entries) do
        size = math.max(size, #entry.noun + 1 + #entry.verb)
    end
    for _, entry in ipairs(entries) do
        if globals and noun and noun ~= entry.noun then
            append(lines, { "" })
        end
        noun = entry.noun
        lines[#lines + 1] = ("  %-" .. size .. "s  %s"):format(
            entry.noun .. " " .. entry.verb,
            entry.script and entry.script.summary
                or "cannot be loaded: " .. text.clean(entry.problem or "?"))
        if entry.own then
            lines[#lines + 1] = (" "):rep(size + 4) .. "(" .. origin(entry) .. ")"
        end
    end
    if guides and #guides > 0 then
        append(lines, { "", "To read" })
        append(lines, text.fields(guides), "  ")
    end
    return lines
end

return M
