-- SPDX-License-Identifier: MIT
--- Lua from -e, from standard input and at the prompt.
local status = require("keyferry.shell.status")

local M = {}

-- As an expression first, so that its value can be printed; then as statements.
local function compile(code, name, env)
    local chunk = load("return " .. code, name, "t", env)
    if chunk then
        return chunk
    end
    return load(code, name, "t", env)
end

local function unfinished(problem)
    return problem:sub(-5) == "<eof>"
end

--- One value for a person: strings that are a result print as they are, tables one level.
local function show(value)
    if type(value) ~= "table" or (getmetatable(value) or {}).__tostring then
        return tostring(value)
    end
    local parts, seen = {}, {}
    for i, item in ipairs(value) do
        parts[i], seen[i] = tostring(item), true
    end
    local names = {}
    for name, item in pairs(value) do
        if not seen[name] then
            names[#names + 1] = ("%s = %s"):format(tostring(name), tostring(item))
        end
    end
    table.sort(names)
    table.move(names, 1, #names, #parts + 1, parts)
    return "{ " .. table.concat(parts, ", ") .. " }"
end

local function print_values(out, results)
    local parts = {}
    for i = 2, results.n do
        parts[i - 1] = show(results[i])
    end
    if #parts > 0 then
        out:print(table.concat(parts, "\t"))
    end
end

--- Runs a chunk and prints what it returns; `nil, err` is a failure like an error thrown.
-- @tparam function chunk
-- @param out the output
-- @tparam function handler for xpcall
-- @treturn[1] boolean true
-- @treturn[2] boolean false
-- @treturn[2] err what handler made of the error
function M.run(chunk, out, handler, ...)
    local results = table.pack(xpcall(chunk, handler, ...))
    if not results[1] then
        return false, results[2]
    elseif results[2] == nil and status.code(results[3]) then
        return false, results[3]
    end
    print_values(out, results)
    return true
end

--- Evaluates a text.
-- @string code
-- @string name how errors call it ("=(command line)")
-- @tparam table env its globals
-- @param out the output
-- @tparam function handler for xpcall
-- @return as M.run; a syntax error is `false` and its line
function M.evaluate(code, name, env, out, handler)
    local chunk, problem = compile(code, name, env)
    if not chunk then
        return false, problem
    end
    return M.run(chunk, out, handler)
end

-- Reads lines until they are a whole chunk. Gives the text, then its chunk or nil and what
-- is wrong with it; nil and the refusal when the user answered with Ctrl-C or Ctrl-D.
local function read_chunk(how)
    local code, chunk, problem
    local line, err = how.ask("keyferry> ")
    while line do
        code = code and code .. "\n" .. line or line
        chunk, problem = compile(code, "=prompt", how.env)
        if chunk or not unfinished(problem) then
            return code, chunk, problem
        end
        line, err = how.ask("       >> ")
    end
    return nil, err
end

--- The prompt, until Ctrl-D on an empty line.
-- @tparam table how `env`, `out`, `handler`, `ask(prompt)` -> line or nil and an error,
--   `run` as M.run
function M.loop(how)
    while true do
        local code, chunk, problem = read_chunk(how)
        if not code and status.code(chunk) ~= "KFR_INTERRUPTED" then
            return
        end
        local ok, err = true, nil
        if chunk and code and code:find("%S") then
            ok, err = how.run(chunk, how.out, how.handler)
        elseif code and not chunk then
            ok, err = false, problem
        end
        if not ok then
            how.out:problem(err)
        end
    end
end

return M
