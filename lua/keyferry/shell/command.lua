-- SPDX-License-Identifier: MIT
--- Commands: finding the script that two words mean, its help, and running it.
local core = require("keyferry.core")

local ask = require("keyferry.shell.ask")
local context = require("keyferry.shell.context")
local failure = require("keyferry.shell.failure")
local help = require("keyferry.shell.help")
local options = require("keyferry.shell.options")
local roles = require("keyferry.shell.roles")
local script = require("keyferry.shell.script")
local status = require("keyferry.shell.status")
local text = require("keyferry.shell.text")

local M = {}

-- What a command has done that does not come to its end: what it told of a backup, else what
-- the backup has counted. It is said once.
local function counts_of(ctx)
    local counted = require("keyferry.backup").take_counts()
    if ctx.finished then
        return nil
    end
    return ctx.told or counted
end

-- How a command ends that did not come to its end.
local function fail(ctx, err)
    local counts = counts_of(ctx)
    if counts and counts == ctx.told and counts.cloned > 0 then
        ctx.output:note("What was cloned is on the target. More may be there than was told here:"
            .. " -add finds what is.")
    end
    return ctx:finish({ reason = failure.of(err), counts = counts })
end

-- What run threw or returned, as the end of the command.
local function conclude(shell, ctx, ok, code, err)
    if not ok then
        if shell.debug and type(code) == "string" then
            shell.out:err(text.clean(code, "\n\t"))
        end
        return fail(ctx, code) -- what was thrown
    end
    if code == nil and err ~= nil then
        return fail(ctx, err)
    end
    if ctx.finished then
        return ctx.finished -- what was printed and what is returned are one number
    end
    if math.type(code) ~= "integer" or code < 0 or code > 255 then
        return fail(ctx, "the script returned no status (return ctx:conclude(report), or 0)")
    end
    return ctx:finish({ status = code })
end

-- At the prompt nobody sees them, and such a line is not remembered.
local function warn_of_secrets(shell, names)
    if #names == 0 or shell.prompting then
        return
    end
    for i, name in ipairs(names) do
        names[i] = "-" .. name
    end
    shell.out:warn("%s on the command line can be seen in the process list and in the"
        .. " shell's history", table.concat(names, ", "))
end

-- The configuration is read for scripts that need a role, and for those alone.
local function check_role(shell, found)
    local configured
    local err = shell.configure()
    if err or not found.privileges then
        return err
    end
    configured, err = require("keyferry").roles()
    if configured == nil then
        return err
    end
    return select(2, roles.check(found, configured))
end

-- Help is for everybody; nothing of the script itself runs for who may not run it.
local function parse_command(shell, found, words, first, values)
    local err
    local parsed, problem, hint = options.parse(found.options or {}, words, {
        first = first, secret = core.secret, elsewhere = options.names_of(shell.globals),
        values = values,
    })
    if not parsed then
        return nil, failure.usage(problem, hint)
    elseif parsed.help then
        return parsed
    end
    err = check_role(shell, found)
    if err then
        return nil, err
    end
    problem = options.conflict(found.options or {}, parsed.values)
        or found.rules and found.rules(parsed.values)
    if not problem then
        return parsed
    elseif type(problem) ~= "string" then
        error(("rules gives a sentence or nil, not a %s"):format(type(problem)), 0)
    end
    return nil, failure.usage(problem, "see -help")
end

local function help_page(found, how)
    local entry = how.entry
    if entry and not entry.own then
        entry.copy = script.own_path(entry.noun, entry.verb)
    end
    return help.command(found, entry, how.program)
end

-- The texts that come with the program, where they are installed.
local GUIDES = {
    { "Policies of your own", "scripts/README.md" },
    { "Examples of them", "scripts/examples" },
    { "The Lua library", "lua/README.md" },
}

local function guides()
    local list = {}
    for _, guide in ipairs(GUIDES) do
        local path = require("keyferry.root") .. "/" .. guide[2]
        if core.file.exists(path) then
            list[#list + 1] = { guide[1], path }
        end
    end
    return list
end

local function print_lines(shell, lines)
    for _, line in ipairs(lines) do
        shell.stdout:write(line, "\n")
    end
    return status.SUCCESS
end

-- Runs a loaded script with the words from first on.
local function execute(shell, found, words, first, how)
    local ctx, parsed, err, ok, code, outer
    ok, parsed, err = xpcall(parse_command, failure.handler(shell.debug), shell, found, words,
        first, how.values)
    if not ok then
        parsed, err = nil, failure.of(parsed)
    end
    if not parsed then
        return failure.command(shell, found.name, err)
    end
    if parsed.help then
        return print_lines(shell, help_page(found, how))
    end
    if not how.values then
        warn_of_secrets(shell, parsed.secrets)
    end
    ctx = context.new(found, parsed.values, shell.out, function(...)
        return M.call(shell, ...)
    end)
    outer, shell.running = shell.running, { ctx = ctx, outer = shell.running }
    require("keyferry.backup").take_counts() -- of whoever ran before
    ok, code, err = core.interruptible(found.run, failure.handler(shell.debug), ctx)
    shell.running = outer
    ok, code = pcall(conclude, shell, ctx, ok, code, err)
    if not ok then -- the script has broken its ctx
        return failure.command(shell, found.name, failure.of(code))
    end
    return code
end

-- Says how a command ends that os.exit ends; gives the exit status. One that has said that it
-- failed does not end as a success.
local function leave_command(ctx, code, asked)
    local told = math.type(ctx.finished) == "integer" and ctx.finished or nil
    if told and code == status.SUCCESS then
        return told
    elseif told ~= code then
        pcall(ctx.finish, ctx, { status = code, counts = counts_of(ctx),
            reason = code ~= status.SUCCESS
                and ("the script called os.exit(%d)"):format(asked) or nil })
    end
    return code
end

--- os.exit of a script: the end of the command that runs, of those that called it (ctx:run),
-- of the output and of the program.
-- @param shell the program
-- @param code as os.exit takes it
function M.leave(shell, code)
    local running = shell.running
    local asked
    if code == nil or code == true then
        code = status.SUCCESS
    elseif code == false then
        code = status.PARTIAL
    elseif math.type(code) ~= "integer" or code < 0 or code > 255 then
        error("os.exit takes a status, 0 to 255", 3)
    end
    shell.running, asked = nil, code
    pcall(require("keyferry.backup").abandon)
    while running do
        code = leave_command(running.ctx, code, asked)
        running = running.outer
    end
    os.exit(shell.out:close(code), true) -- closes sessions: without true no finalizer runs
end

local function load_entry(shell, entry)
    return script.load(entry.path, {
        name = entry.noun .. " " .. entry.verb, stock = not entry.own, print = shell.print,
        leave = shell.leave,
    })
end

-- One of the words that there are: exact, or a unique prefix.
local function pick(kind, word, names, before, hint)
    local found = text.matching(word, names)
    local near
    if #found == 1 then
        return found[1]
    end
    if #found > 1 then
        return nil, failure.usage(("%s '%s' is ambiguous: %s"):format(kind, word,
            table.concat(found, ", ")), "write more of it")
    end
    near = text.nearest(word, names)
    return nil, core.error({ code = "KFR_NOT_FOUND",
        what = ("there is no command '%s%s'"):format(before, text.clean(word)),
        hint = near and ("did you mean '%s%s'?"):format(before, near)
            or word:find("%.lua$") and ("write: keyferry run %s"):format(text.shell_word(word))
            or hint or "see keyferry help" })
end

local function nouns_and_verbs(noun)
    local names, seen = {}, {}
    for _, entry in ipairs(script.all()) do
        local name = noun and entry.verb or entry.noun
        if (not noun or entry.noun == noun) and not seen[name] then
            seen[name] = true
            names[#names + 1] = name
        end
    end
    return names
end

-- The command that two typed words mean.
local function resolve(noun, verb)
    local err
    noun, err = pick("noun", noun, nouns_and_verbs(), "")
    if not noun then
        return nil, err
    end
    if not verb or verb:sub(1, 1) == "-" then
        return nil, failure.usage(("'%s' needs a verb: %s"):format(noun,
            table.concat(nouns_and_verbs(noun), ", ")), "see keyferry help " .. noun)
    end
    verb, err = pick("verb", verb, nouns_and_verbs(noun), noun .. " ")
    if not verb then
        return nil, err
    end
    return script.find(noun, verb)
end

local function list_commands(shell, noun)
    local entries = {}
    for _, entry in ipairs(script.all()) do
        if not noun or entry.noun == noun then
            local err
            entry.script, err = load_entry(shell, entry)
            entry.problem = err and failure.one_line(err)
            entries[#entries + 1] = entry
        end
    end
    if noun then
        return print_lines(shell, help.commands(entries))
    end
    return print_lines(shell, help.commands(entries, shell.globals, guides()))
end

-- Whoever asks for help with a name of the library's.
local function library_hint()
    local path = require("keyferry.root") .. "/lua/README.md"
    return core.file.exists(path) and "see keyferry help; what Lua has is in " .. path or nil
end

--- `help`, and the words after it.
function M.help(shell, words, first)
    local noun, verb = words[first], words[first + 1]
    local entry, found, err
    if not noun then
        return list_commands(shell)
    end
    if not verb then
        noun, err = pick("noun", noun, nouns_and_verbs(), "", library_hint())
        return noun and list_commands(shell, noun) or failure.plain(shell, err)
    end
    entry, err = resolve(noun, verb)
    if entry then
        found, err = load_entry(shell, entry)
    end
    if not found then
        return failure.plain(shell, err)
    end
    return print_lines(shell, help_page(found, { entry = entry }))
end

--- The command that words[first] and the next one name.
-- @param shell the program
-- @tparam table words
-- @tparam integer first
-- @treturn integer the exit status
function M.run(shell, words, first)
    local entry, found, err
    if words[first + 1] == "-help" or words[first + 1] == "--help" then
        return M.help(shell, { words[first] }, 1)
    end
    entry, err = resolve(words[first], words[first + 1])
    if not entry then
        return failure.command(shell, text.clean(words[first]), err)
    end
    found, err = load_entry(shell, entry)
    if not found then
        return failure.command(shell, entry.noun .. " " .. entry.verb, err)
    end
    return execute(shell, found, words, first + 2, { entry = entry })
end

-- Whether texts can be bare words: then a comma in one of them does not part it.
local function are_bare(list)
    for _, item in ipairs(list) do
        if type(item) ~= "string" or item:sub(1, 1) == "-" then
            return false
        end
    end
    return true
end

-- Options by name as the words of a command line; a secret goes by itself. Or nil and what is
-- wrong.
local function words_of(given, spec)
    local kinds, names, words, values = {}, {}, {}, {}
    local bare = options.word_of(spec or {})
    for _, option in ipairs(spec or {}) do
        kinds[option.name] = option.kind
    end
    for name in pairs(given) do
        names[#names + 1] = tostring(name)
    end
    table.sort(names)
    for _, name in ipairs(names) do
        local value = given[name]
        if type(value) == "userdata" and not (ask.is_secret(value) and kinds[name] == "secret")
        then -- as text it would be the word "secret"
            return nil, failure.usage(("option -%s takes no such value"):format(text.clean(name)),
                "a secret goes to an option of that kind, by its whole name")
        elseif value == true then
            words[#words + 1] = "-" .. name
        elseif type(value) == "userdata" then
            values[name] = value
        elseif type(value) == "table" and bare and bare.name == name and are_bare(value) then
            table.move(value, 1, #value, #words + 1, words)
        elseif type(value) == "table" then
            words[#words + 1] = ("-%s=%s"):format(name, table.concat(value, ","))
        elseif value then
            words[#words + 1] = ("-%s=%s"):format(name, tostring(value))
        end
    end
    return words, values
end

local function execute_given(shell, name, found, given, how)
    local words, values = words_of(given, found.options)
    if not words then
        return failure.command(shell, name, values)
    end
    how.values = values
    return execute(shell, found, words, 1, how)
end

--- A command that another one runs, with its options by name (Context:run).
-- @param shell the program
-- @string name "partition backup"
-- @tparam table given its options
-- @treturn integer the exit status
function M.call(shell, name, given)
    local found, err
    local noun, verb = name:match("^(%S+) (%S+)$")
    local entry = noun and script.find(noun, verb)
    if not entry then
        return failure.command(shell, name, core.error({ code = "KFR_NOT_FOUND",
            what = ("there is no command '%s'"):format(text.clean(name)),
            hint = "see keyferry help" }))
    end
    found, err = load_entry(shell, entry)
    if not found then
        return failure.command(shell, name, err)
    end
    return execute_given(shell, name, found, given, { entry = entry })
end

--- A script by itself, with its options by name; keyferry.testing runs policies so.
-- @param shell the program
-- @param what the path of its file, or its table
-- @tparam table given its options
-- @treturn integer the exit status
function M.policy(shell, what, given)
    local found, ok, err
    local name = "policy"
    if type(what) == "string" then
        found, err = script.load(what, { print = shell.print, leave = shell.leave })
        name = "run " .. what
    else
        ok, err = script.check(what)
        found = ok and what
        err = not ok and core.error({ code = "KFR_SCRIPT", what = err })
    end
    if not found then
        return failure.command(shell, name, err)
    end
    return execute_given(shell, name, found, given, { program = "keyferry " .. name })
end

--- `run`, and the words after it: a file and its options.
function M.file(shell, words, first)
    local path = words[first]
    local found, err
    if not path then
        return failure.plain(shell, failure.usage("run needs a file",
            "write: keyferry run FILE.lua"))
    end
    found, err = script.load(path, { print = shell.print, leave = shell.leave })
    if not found then
        return failure.command(shell, "run " .. path, err)
    end
    return execute(shell, found, words, first + 1, { program = "keyferry run " .. path })
end

return M
