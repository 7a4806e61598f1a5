-- SPDX-License-Identifier: MIT
--- The prompt: lines read, run and answered until Ctrl-D.
local core = require("keyferry.core")

local evaluate = require("keyferry.shell.evaluate")
local failure = require("keyferry.shell.failure")
local status = require("keyferry.shell.status")

local M = {}

local PROMPT = "keyferry:> "
local CONTINUED = "        >> "

local function unfinished(problem)
    return problem:sub(-5) == "<eof>"
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

-- Reads lines until they are a whole chunk. Gives the text, then its chunk or nil and what
-- is wrong with it; nil and the refusal when the user answered with Ctrl-C or Ctrl-D.
local function read_chunk(env)
    local code, chunk, problem
    local line, err = ask_line(PROMPT)
    while line do
        code = code and code .. "\n" .. line or line
        chunk, problem = evaluate.compile(code, "=prompt", env)
        if chunk or not unfinished(problem) then
            return code, chunk, problem
        end
        line, err = ask_line(CONTINUED)
    end
    return nil, err
end

local function take(shell, code, chunk, problem)
    local ok, err = true, nil
    if chunk and code and code:find("%S") then
        ok, err = evaluate.run(shell, chunk)
        core.interrupt_clear() -- it stopped that run, not the next line
    elseif code and not chunk then
        ok, err = false, problem
    end
    if not ok then
        shell.out:problem(err)
    end
end

--- The prompt, until Ctrl-D on an empty line.
-- @param shell the program
-- @treturn integer the exit status
function M.loop(shell)
    local env
    local err = shell.configure()
    if err then
        return failure.plain(shell, err)
    end
    env = evaluate.environment(shell)
    while true do
        local code, chunk, problem = read_chunk(env)
        if not code and status.code(chunk) ~= "KFR_INTERRUPTED" then
            return status.SUCCESS
        end
        take(shell, code, chunk, problem)
    end
end

return M
