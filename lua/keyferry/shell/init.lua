-- SPDX-License-Identifier: MIT
--- The program: global options, then a command, a file, Lua, or the prompt.
local core = require("keyferry.core")

local context = require("keyferry.shell.context")
local help = require("keyferry.shell.help")
local options = require("keyferry.shell.options")
local output = require("keyferry.shell.output")
local prompt = require("keyferry.shell.prompt")
local script = require("keyferry.shell.script")
local status = require("keyferry.shell.status")
local text = require("keyferry.shell.text")

local M = {}

local GLOBALS = {
    { name = "config", kind = "path", value = "file", help = "The configuration file." },
    { name = "home", kind = "path", value = "dir",
        help = "Where soft HSMs are kept (also KEYFERRY_HOME)." },
    { name = "json", kind = "flag", help = "One JSON object a line on standard output." },
    { name = "quiet", kind = "flag", help = "Only results, warnings and errors." },
    { name = "debug", kind = "flag", help = "A traceback when a script fails." },
    { name = "version", kind = "flag", help = "Print the version." },
    { name = "e", kind = "string", value = "lua", any = true, help = "Evaluate this Lua." },
}

local MAX_INPUT = 16 * 1024 * 1024

local function global_names()
    local names = {}
    for i, option in ipairs(GLOBALS) do
        names[i] = option.name
    end
    return names
end

-- For xpcall: keeps error objects, makes a string one line and its traceback.
local function handler(debugging)
    return function(err)
        if status.code(err) then
            return err
        end
        err = tostring(err)
        if debugging then
            return debug.traceback(err, 2)
        end
        return err
    end
end

local function usage(what, hint)
    return core.error({ code = "KFR_ARGUMENT", what = what, hint = hint })
end

-- A failure outside any command.
local function fail(shell, err, hint)
    shell.out:problem(err, hint)
    return status.of(err)
end

-- A failure of a command that has no context yet (or never gets one).
local function fail_command(shell, name, err)
    return shell.out:finish({ command = name, status = status.of(err), reason = err })
end

local function one_line(err)
    return (tostring(err):match("^[^\n]*"))
end

-- What run threw or returned, as the end of the command.
local function conclude(shell, ctx, ok, code, err)
    if not ok then
        err = code -- what was thrown
        if shell.debug and type(err) == "string" then
            shell.out:err(text.clean(err, "\n\t"))
        end
        if not status.code(err) then
            err = core.error({ code = "KFR_SCRIPT", what = one_line(err) })
        end
        return ctx:finish({ reason = err })
    end
    if code == nil and err ~= nil then
        return ctx:finish({ reason = err })
    end
    if ctx.finished then
        return ctx.finished -- what was printed and what is returned are one number
    end
    if math.type(code) ~= "integer" or code < 0 or code > 255 then
        return ctx:finish({ status = status.SCRIPT, reason = "the script returned no status" })
    end
    return ctx:finish({ status = code })
end

local function warn_of_secrets(shell, names)
    if #names == 0 then
        return
    end
    for i, name in ipairs(names) do
        names[i] = "-" .. name
    end
    shell.out:warn("%s on the command line can be seen in the process list and in the"
        .. " shell's history", table.concat(names, ", "))
end

local function parse_command(found, words, first)
    local parsed, problem, hint = options.parse(found.options or {}, words, {
        first = first, secret = core.secret, elsewhere = global_names(),
    })
    if not parsed then
        return nil, usage(problem, hint)
    end
    if not parsed.help and found.rules then
        problem = found.rules(parsed.values)
        if problem then
            return nil, usage(problem, "see -help")
        end
    end
    return parsed
end

local function print_lines(shell, lines)
    for _, line in ipairs(lines) do
        shell.stdout:write(line, "\n")
    end
    return status.SUCCESS
end

-- Runs a loaded script with the words from first on.
local function execute(shell, found, words, first, how)
    local ctx, parsed, err, ok, code
    ok, parsed, err = xpcall(parse_command, handler(shell.debug), found, words, first)
    if not ok then
        parsed, err = nil, core.error({ code = "KFR_SCRIPT", what = one_line(parsed) })
    end
    if not parsed then
        return fail_command(shell, found.name, err)
    end
    if parsed.help then
        return print_lines(shell, help.command(found, how.entry, how.program))
    end
    warn_of_secrets(shell, parsed.secrets)
    err = shell.configure()
    if err then
        return fail_command(shell, found.name, err)
    end
    ctx = context.new(found, parsed.values, shell.out)
    ok, code, err = xpcall(found.run, handler(shell.debug), ctx)
    return conclude(shell, ctx, ok, code, err)
end

local function load_entry(shell, entry)
    return script.load(entry.path, {
        name = entry.noun .. " " .. entry.verb, stock = not entry.own, print = shell.print,
    })
end

-- One of the words that there are: exact, or a unique prefix.
local function pick(kind, word, names, before)
    local found = text.matching(word, names)
    local near
    if #found == 1 then
        return found[1]
    end
    if #found > 1 then
        return nil, usage(("%s '%s' is ambiguous: %s"):format(kind, word,
            table.concat(found, ", ")), "write more of it")
    end
    near = text.nearest(word, names)
    return nil, core.error({ code = "KFR_NOT_FOUND",
        what = ("there is no command '%s%s'"):format(before, text.clean(word)),
        hint = near and ("did you mean '%s%s'?"):format(before, near)
            or "see keyferry help" })
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
        return nil, usage(("'%s' needs a verb: %s"):format(noun,
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
            entry.problem = err and one_line(err)
            entries[#entries + 1] = entry
        end
    end
    return print_lines(shell, help.commands(entries, not noun and GLOBALS or nil))
end

local function run_help(shell, words, first)
    local noun, verb = words[first], words[first + 1]
    local entry, found, err
    if not noun then
        return list_commands(shell)
    end
    if not verb then
        noun, err = pick("noun", noun, nouns_and_verbs(), "")
        return noun and list_commands(shell, noun) or fail(shell, err)
    end
    entry, err = resolve(noun, verb)
    if entry then
        found, err = load_entry(shell, entry)
    end
    if not found then
        return fail(shell, err)
    end
    return print_lines(shell, help.command(found, entry))
end

local function run_command(shell, words, first)
    local entry, found, err
    if words[first + 1] == "-help" or words[first + 1] == "--help" then
        return run_help(shell, { words[first] }, 1)
    end
    entry, err = resolve(words[first], words[first + 1])
    if not entry then
        return fail_command(shell, text.clean(words[first]), err)
    end
    found, err = load_entry(shell, entry)
    if not found then
        return fail_command(shell, entry.noun .. " " .. entry.verb, err)
    end
    return execute(shell, found, words, first + 2, { entry = entry })
end

local function run_file(shell, words, first)
    local path = words[first]
    local found, err
    if not path then
        return fail(shell, usage("run needs a file", "write: keyferry run FILE.lua"))
    end
    found, err = script.load(path, { print = shell.print })
    if not found then
        return fail_command(shell, "run " .. path, err)
    end
    return execute(shell, found, words, first + 1, { program = "keyferry run " .. path })
end

-- Globals for -e, standard input and the prompt: free to be made, keyferry is there.
local function lua_environment(shell)
    local env = script.environment(shell.print, true)
    env.keyferry = require("keyferry")
    return env
end

-- Ctrl-C stops the Lua that runs: what is evaluated need not look for interrupts itself.
local function interruptible(run, ...)
    core.interrupt_raise(true)
    local results = table.pack(run(...))
    core.interrupt_raise(false)
    return table.unpack(results, 1, results.n)
end

local function evaluate(shell, code, name)
    local ok
    local err = shell.configure()
    if err then
        return fail(shell, err)
    end
    ok, err = interruptible(prompt.evaluate, code, name, lua_environment(shell), shell.out,
        handler(shell.debug))
    if ok then
        return status.SUCCESS
    end
    if status.code(err) then
        return fail(shell, err)
    end
    shell.out:err("error: " .. text.clean(tostring(err), shell.debug and "\n\t" or nil))
    return status.SCRIPT
end

-- Not core.terminal.ask: that drops what was typed ahead, and people paste.
local function ask_line(question)
    io.stderr:write(question)
    local line = io.read("l")
    if core.interrupted() then
        core.interrupt_clear()
        return nil, core.error({ code = "KFR_INTERRUPTED", what = "interrupted" })
    end
    if not line then
        io.stderr:write("\n")
    end
    return line
end

local function interactive(shell)
    local err = shell.configure()
    if err then
        return fail(shell, err)
    end
    prompt.loop({
        env = lua_environment(shell), out = shell.out, handler = handler(shell.debug),
        ask = ask_line, run = function(...)
            local ran, problem = interruptible(prompt.run, ...)
            core.interrupt_clear() -- it stopped that run, not the next line
            return ran, problem
        end,
    })
    return status.SUCCESS
end

local function from_input(shell)
    local code
    if core.terminal.is(0) then
        return interactive(shell)
    end
    code = io.read(MAX_INPUT + 1) or ""
    if #code > MAX_INPUT then
        return fail(shell, usage("standard input is too long to be Lua"))
    end
    return evaluate(shell, (code:gsub("^#[^\n]*", "")), "=stdin")
end

local VERBS = { help = run_help, run = run_file }

local function new_shell(values)
    local shell = {
        debug = values.debug, stdout = io.stdout,
        out = output.new({ json = values.json, quiet = values.quiet,
            terminal = core.terminal.is }),
    }
    shell.print = function(line)
        shell.out:print(line)
    end
    -- Late: help and usage errors read no configuration. Gives an error or nil.
    shell.configure = function()
        if values.config and not core.file.exists(values.config) then
            return core.error({ code = "KFR_NOT_FOUND",
                what = "there is no configuration file " .. values.config,
                hint = "name one that is there, or leave --config out" })
        end
        return select(2, require("keyferry").configure({
            home = values.home, config = values.config,
        }))
    end
    return shell
end

local function dispatch(shell, parsed, words)
    local word = words[parsed.next]
    if parsed.values.version then
        io.stdout:write("keyferry ", core.version, "\n")
        return status.SUCCESS
    end
    if parsed.help then
        return run_help(shell, words, parsed.next)
    end
    if parsed.values.e then
        if word then
            return fail(shell, usage("a word after -e's Lua belongs to nothing"))
        end
        return evaluate(shell, parsed.values.e, "=(command line)")
    end
    if not word then
        return from_input(shell)
    end
    return (VERBS[word] or run_command)(shell, words,
        VERBS[word] and parsed.next + 1 or parsed.next)
end

--- The program.
-- @tparam table words its arguments, from 1; words that hold a secret are blanked
-- @treturn integer the exit status
function M.main(words)
    local shell, ok, code, parsed, problem, hint
    if words[1] == "-h" then
        words[1] = "--help"
    end
    parsed, problem, hint = options.parse(GLOBALS, words, { stop = true })
    shell = new_shell(parsed and parsed.values or {})
    if not parsed then
        return shell.out:close(fail(shell, usage(problem, hint)))
    end
    ok, code = xpcall(dispatch, debug.traceback, shell, parsed, words)
    if not ok then
        shell.out:err("error: " .. text.clean(shell.debug and code or one_line(code), "\n\t"))
        code = status.SCRIPT
    end
    return shell.out:close(code)
end

return M
