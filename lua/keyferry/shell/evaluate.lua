-- SPDX-License-Identifier: MIT
--- Lua from -e, from standard input and from the prompt.
local core = require("keyferry.core")

local failure = require("keyferry.shell.failure")
local script = require("keyferry.shell.script")
local show = require("keyferry.shell.show")
local status = require("keyferry.shell.status")
local text = require("keyferry.shell.text")

local M = {}

--- Globals that are free to be made, with keyferry there.
function M.environment(shell)
    local env = script.environment(shell.print, true, shell.leave)
    env.keyferry = require("keyferry")
    return env
end

-- With something to close a return is no tail call, and an error is told at its own line.
local HELD = "local _keyferry <close> = nil "
local RETURN = HELD .. "return "

--- Whether what is wrong with a text may be mended by another line.
function M.unfinished(problem)
    return problem:sub(-5) == "<eof>"
end

--- As an expression first, so that its value can be printed; then as statements.
-- @treturn[1] function
-- @treturn[1] string "expression" or "statement"
-- @treturn[2] nil
-- @treturn[2] string what is wrong with it
function M.compile(code, name, env)
    local chunk, first = load(RETURN .. code, name, "t", env)
    local problem
    if chunk then
        return chunk, "expression"
    end
    chunk, problem = load(HELD .. code, name, "t", env)
    if chunk then
        return chunk, "statement"
    elseif M.unfinished(first) or not code:find("^%s*[%a_]") then
        problem = first -- no statement begins so
    end
    return nil, problem
end

--- `NAME = EXPRESSION`: the name, and the expression compiled. A refusal (`nil, err`) would
-- vanish in an assignment, so the prompt looks at the values first.
-- @treturn[1] string
-- @treturn[1] function
-- @treturn[1] string the expression
-- @treturn[2] nil
function M.assignment(code, name, env)
    local target, expression = code:match("^%s*([%a_][%w_]*)%s*=(.*)$")
    local chunk = target and load(RETURN .. expression, name, "t", env)
    if not chunk or not load(target .. " = nil", name, "t", env) then
        return nil
    end
    return target, chunk, expression
end

local function print_values(shell, results)
    local out = shell.out
    local how = { colour = out.colour,
        width = shell.columns and shell.columns() or core.terminal.columns(1) }
    if results.n > 0 then
        out:value(show.values(how, table.unpack(results, 1, results.n)))
    end
end

local function refused(results)
    return results[1] == nil and status.code(results[2]) and results[2] or nil
end

-- Ctrl-C stops the Lua that runs: what is evaluated need not look for interrupts itself.
-- Printing runs what the values bring along (__tostring), so it is protected, too.
local function run_and_print(shell, chunk, target, env)
    local results = table.pack(chunk())
    local err = refused(results)
    if err then
        return err
    elseif target then
        env[target] = results[1]
    else
        print_values(shell, results)
    end
    return nil
end

--- Runs a chunk and prints what it returns; `nil, err` is a failure like an error thrown.
-- @param shell the program
-- @tparam function chunk
-- @string[opt] target a global that takes the value instead
-- @tparam[opt] table env where it is
-- @treturn[1] boolean true
-- @treturn[2] boolean false
-- @treturn[2] err an error object, or a line
function M.run(shell, chunk, target, env)
    local ok, err = core.interruptible(run_and_print, failure.handler(shell.debug), shell,
        chunk, target, env)
    if ok and err == nil then
        return true
    end
    return false, err == nil and "nil was thrown" or err
end

local function evaluate(shell, code, name)
    local chunk, problem = M.compile(code, name, M.environment(shell))
    if not chunk then
        return false, problem
    end
    return M.run(shell, chunk)
end

--- Evaluates a text with the library at hand.
-- @param shell the program
-- @string code
-- @string name how errors call it ("=(command line)")
-- @treturn integer the exit status
function M.text(shell, code, name)
    local ok
    local err = shell.configure()
    if err then
        return failure.plain(shell, err)
    end
    ok, err = evaluate(shell, code, name)
    if ok then
        return status.SUCCESS
    elseif status.code(err) then
        return failure.plain(shell, err)
    end
    shell.out:err("error: " .. text.clean(tostring(err), shell.debug and "\n\t" or nil))
    return status.SCRIPT
end

return M
