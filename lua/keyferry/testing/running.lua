-- SPDX-License-Identifier: MIT
--- A command run inside a test: its output kept, its questions answered, its pauses not waited
-- for.
local core = require("keyferry.core")

local outputs = require("keyferry.testing.outputs")
local place = require("keyferry.testing.place")

package.loaded["keyferry.root"] = package.loaded["keyferry.root"] or place.root()

local ask = require("keyferry.shell.ask")
local command = require("keyferry.shell.command")
local context = require("keyferry.shell.context")
local secrets = require("keyferry.shell.secrets")

local M = {}

local run -- the one that is going on

-- " \n  Question\n  > " as a person would say it.
local function plain(question)
    return (question:gsub("^%s+", ""):gsub("%s*>%s*$", ""))
end

local function next_of(answer)
    if type(answer) == "table" then
        return table.remove(answer, 1)
    end
    return answer
end

local function answer_to(question)
    local answers, best = run.answers, nil
    table.insert(run.asked, question)
    if type(answers) == "function" then
        return answers(question)
    end
    for part in pairs(answers) do -- the longest part tells most
        if question:find(part, 1, true) and (not best or #part > #best) then
            best = part
        end
    end
    return best and next_of(answers[best])
end

local function answer(question)
    question = plain(question)
    local text = answer_to(question)
    if text == nil then
        return nil, core.error({ code = "KFR_NO_SECRET",
            what = "the test has no answer to: " .. question })
    end
    return text
end

local function secret(question)
    local text, err = answer(question)
    return text and core.secret(text), err
end

-- As core.terminal.ask_share has it: words, or the path of a file.
local function share(question)
    local text, err = answer(question)
    if not text or text:find("^[/.~]") then
        return text, err
    end
    return core.share.parse(core.secret(text))
end

-- Whether a share has been written down.
local function show_share(_, title)
    local text, err = answer(title)
    if not text then
        return nil, err
    end
    return text == "yes"
end

-- What stands for the world outside while a policy runs.
local function sources(env)
    return {
        secret = secret, line = answer, share = share, show_share = show_share,
        variable = function(name) return env[name] and core.secret(env[name]) end,
        path = function(name) return env[name] end,
    }
end

-- Time passes without anybody waiting.
local function clock(pauses)
    local ahead, now = 0, core.now
    return function(seconds)
        local whole = math.floor(seconds * 1000 + 0.5) / 1000
        ahead = ahead + seconds
        if whole > 0 then
            table.insert(pauses, math.tointeger(whole) or whole)
        end
        return not core.interrupted()
    end, function()
        return now() + ahead
    end
end

local function new_shell(out)
    local shell = { out = out, globals = {}, stdout = out.stdout, configure = function() end }
    shell.print = function(line)
        out:print("%s", line)
    end
    shell.leave = function(code)
        run.left = code == nil or code == true and 0 or code == false and 1 or code
        error(core.error({ code = "KFR_SCRIPT",
            what = ("the policy ended itself: os.exit(%s)"):format(tostring(code)) }), 0)
    end
    return shell
end

--- The answer to who asks for a partition's password; outside of a run there is none.
function M.password_of(partition)
    if not run then
        return nil, core.error({ code = "KFR_NO_SECRET",
            what = ('no password for the partition "%s"'):format(partition.label) })
    end
    return secrets.of_partition(context.new({}, {}, run.out), partition)
end

--- Runs what `work` does with a program and its commands.
-- @tparam function work of the program and keyferry.shell.command; gives the exit status
-- @tparam[opt] table how `answers`, `env`, `quiet`
-- @treturn table as keyferry.testing's Scene:run gives it
function M.run(work, how)
    local kept, sleep, now = ask.sources, core.sleep, core.now
    local out, collect, done, ok, status
    how = how or {}
    if run then
        error("a policy in a test runs no test", 3)
    end
    out, collect = outputs.new(how)
    run = { answers = how.answers or {}, asked = {}, pauses = {}, out = out }
    ask.sources = sources(how.env or {})
    core.sleep, core.now = clock(run.pauses)
    ok, status = xpcall(work, debug.traceback, new_shell(out), command)
    ask.sources, core.sleep, core.now = kept, sleep, now
    done, run = run, nil
    if not ok then
        error(status, 0)
    end
    local result = collect()
    result.status = done.left or status
    result.asked, result.pauses = done.asked, done.pauses
    return result
end

return M
