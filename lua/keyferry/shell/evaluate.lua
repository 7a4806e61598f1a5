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
    local env = script.environment(shell.print, true)
    env.keyferry = require("keyferry")
    return env
end

--- As an expression first, so that its value can be printed; then as statements.
-- @treturn[1] function
-- @treturn[2] nil
-- @treturn[2] string what is wrong with it
function M.compile(code, name, env)
    local chunk = load("return " .. code, name, "t", env)
    if chunk then
        return chunk
    end
    return load(code, name, "t", env)
end

--- Whether what compile says is wrong may be mended by another line.
function M.unfinished(problem)
    return problem:sub(-5) == "<eof>"
end

local function print_values(out, results)
    local parts = {}
    for i = 2, results.n do
        parts[i - 1] = show.value(results[i])
    end
    if #parts > 0 then
        out:print(table.concat(parts, "\t"))
    end
end

-- Ctrl-C stops the Lua that runs: what is evaluated need not look for interrupts itself.
local function interruptible(run, ...)
    core.interrupt_raise(true)
    local results = table.pack(run(...))
    core.interrupt_raise(false)
    return results
end

--- Runs a chunk and prints what it returns; `nil, err` is a failure like an error thrown.
-- @param shell the program
-- @tparam function chunk
-- @treturn[1] boolean true
-- @treturn[2] boolean false
-- @treturn[2] err an error object, or a line
function M.run(shell, chunk)
    local results = interruptible(xpcall, chunk, failure.handler(shell.debug))
    if not results[1] then
        return false, results[2]
    elseif results[2] == nil and status.code(results[3]) then
        return false, results[3]
    end
    print_values(shell.out, results)
    return true
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
