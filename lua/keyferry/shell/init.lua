-- SPDX-License-Identifier: MIT
--- The program: global options, then a command, a file, Lua, or the prompt.
local core = require("keyferry.core")

local colour = require("keyferry.shell.colour")
local command = require("keyferry.shell.command")
local completion = require("keyferry.shell.completion")
local context = require("keyferry.shell.context")
local evaluate = require("keyferry.shell.evaluate")
local failure = require("keyferry.shell.failure")
local man = require("keyferry.shell.man")
local options = require("keyferry.shell.options")
local output = require("keyferry.shell.output")
local prompt = require("keyferry.shell.prompt")
local secrets = require("keyferry.shell.secrets")
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

local function from_input(shell)
    local code, problem
    if core.terminal.is(0) then
        return prompt.loop(shell)
    end
    code, problem = io.read(MAX_INPUT + 1)
    if problem then
        return failure.plain(shell, core.error({ code = "KFR_SYSTEM",
            what = "standard input: " .. problem }))
    end
    code = code or ""
    if #code > MAX_INPUT then
        return failure.plain(shell, failure.usage("standard input is too long to be Lua"))
    end
    return evaluate.text(shell, (code:gsub("^#[^\n]*", "")), "=stdin")
end

-- For the Makefile and for other shells, not for people: the first word says.
local INTERNAL = {
    ["--man"] = man.main, ["--complete"] = completion.run, ["--completion"] = completion.run,
}

local VERBS = { help = command.help, run = command.file }

local function new_shell(values)
    local shell = {
        debug = values.debug, stdout = io.stdout, globals = GLOBALS,
        out = output.new({ json = values.json, quiet = values.quiet,
            terminal = core.terminal.is, colour = colour.wanted }),
    }
    shell.print = function(line)
        shell.out:print(line)
    end
    shell.leave = function(code)
        command.leave(shell, code)
    end
    -- Late: help and usage errors read no configuration. Once: what is open at the prompt
    -- stays so. Gives an error or nil.
    shell.configure = function()
        if shell.configured then
            return nil
        end
        shell.configured = true
        if values.config and not core.file.exists(values.config) then
            return core.error({ code = "KFR_NOT_FOUND",
                what = "there is no configuration file " .. values.config,
                hint = "name one that is there, or leave --config out" })
        end
        return select(2, require("keyferry").configure({
            home = values.home, config = values.config, traceback = values.debug,
            ask = function(partition)
                return secrets.of_partition(context.new({}, {}, shell.out), partition)
            end,
            attend = function(partition, role)
                secrets.attend(shell.out, partition, role)
            end,
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
        return command.help(shell, words, parsed.next)
    end
    if parsed.values.e then
        if word then
            return failure.plain(shell, failure.usage("a word after -e's Lua belongs to nothing"))
        end
        return evaluate.text(shell, parsed.values.e, "=(command line)")
    end
    if not word then
        return from_input(shell)
    end
    return (VERBS[word] or command.run)(shell, words,
        VERBS[word] and parsed.next + 1 or parsed.next)
end

--- The program.
-- @tparam table words its arguments, from 1; words that hold a secret are blanked
-- @treturn integer the exit status
function M.main(words)
    local shell, ok, code, parsed, problem, hint
    if INTERNAL[words[1]] then
        shell = new_shell({})
        return shell.out:close(INTERNAL[words[1]](shell, words))
    elseif words[1] == "-h" then
        words[1] = "--help"
    end
    parsed, problem, hint = options.parse(GLOBALS, words, { stop = true })
    shell = new_shell(parsed and parsed.values or {})
    if not parsed then
        return shell.out:close(failure.plain(shell, failure.usage(problem, hint)))
    end
    ok, code = xpcall(dispatch, failure.handler(shell.debug), shell, parsed, words)
    if not ok then
        shell.out:err("error: " .. text.clean(shell.debug and code or failure.one_line(code),
            "\n\t"))
        code = status.SCRIPT
    end
    return shell.out:close(code)
end

return M
