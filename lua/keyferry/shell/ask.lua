-- SPDX-License-Identifier: MIT
--- Where secrets and confirmations come from: the option, the environment, the terminal.
local core = require("keyferry.core")

local status = require("keyferry.shell.status")
local text = require("keyferry.shell.text")

local M = {}

M.TRIES = 3
M.PROCEED = "Type 'proceed' to continue, or 'quit' to quit now."

-- Where core.terminal fails when there is no terminal, or none any more.
local NO_TERMINAL = { open = true, read = true, tcgetattr = true, tcsetattr = true }

-- Where answers come from; keyferry.testing puts a test's own here for a while.
M.sources = {
    secret = function(question) return core.terminal.ask_secret(question) end,
    line = function(question) return core.terminal.ask(question) end,
    share = function(question, words) return core.terminal.ask_share(question, words) end,
    show_share = function(share, title) return core.terminal.show_share(share, title) end,
    path = function(name) return os.getenv(name) end,
}

--- Whether a value is a secret.
-- @param value
-- @treturn boolean
function M.is_secret(value)
    return type(value) == "userdata" and tostring(value) == "secret"
end

local function layout(question)
    return " \n  " .. text.clean(question, "\n") .. "\n  > "
end

local function no_secret(what)
    local ways = {}
    if what.option then
        ways[#ways + 1] = "-" .. what.option
    end
    if what.env then
        ways[#ways + 1] = what.env .. " or " .. what.env .. "_FILE"
    end
    return core.error({
        code = "KFR_NO_SECRET",
        what = what.option and ("no value for -%s and no terminal to ask on"):format(what.option)
            or "a secret is needed and there is no terminal to ask on",
        hint = #ways > 0 and "give " .. table.concat(ways, ", or set ")
            .. (what.option == "domain"
                and " ('keyferry domain join -file' writes the file from shares)" or "") or nil,
    })
end

local function copy(secret)
    local nothing <close> = core.secret("")
    return secret .. nothing
end

-- Taking wipes the variable; at the prompt the next command looks for it, too.
local taken = {}

-- Gives a copy: a script may close what it gets.
local function take(name)
    local secret = core.secret_from_env(name)
    if secret then
        taken[name] = secret
    end
    return taken[name] and copy(taken[name])
end

M.sources.variable = take

local function from_environment(name)
    local secret, path, err
    secret = M.sources.variable(name)
    if secret then
        return secret
    end
    path = M.sources.path(name .. "_FILE")
    if not path or path == "" then
        return nil
    end
    secret, err = core.secret_from_file(path)
    if not secret then
        err = core.error({
            code = "KFR_NO_SECRET", what = ("%s_FILE: %s"):format(name, err.what),
            hint = "name a file that holds the secret and that this user can read",
        })
    end
    return secret, err
end

local function terminal(ask, question, refusal, ...)
    local answer, err = ask(layout(question), ...)
    if answer ~= nil then
        return answer
    end
    if NO_TERMINAL[status.field(err, "call")] then
        return nil, refusal()
    end
    return nil, err
end

-- The third value: whether it came of shares, each of which has its checksum.
local function ask_once(what, question, out)
    for try = 1, M.TRIES do
        local of_shares
        local line, err = terminal(M.sources.secret, question, function()
            return no_secret(what)
        end)
        if line and what.shares then
            line, err, of_shares = require("keyferry.shell.gathering").domain(line, out)
        end
        if line or status.code(err) ~= "KFR_SHARE" or try == M.TRIES then
            return line, err, of_shares
        end
        out:note("  %s", tostring(err))
    end
end

local function ask_twice(what, out)
    for _ = 1, M.TRIES do
        local first, again, err, same
        first, err, same = ask_once(what, what.prompt, out)
        if not first or same then
            return first, err
        end
        again, err = ask_once(what, what.again or "Please enter it again:", out)
        if not again then
            first:close()
            return nil, err
        end
        same = first == again
        again:close()
        if same then
            return first
        end
        first:close()
        out:note("  The two do not match.")
    end
    return nil, core.error({
        code = "KFR_NO_SECRET", what = "the two entries did not match",
        hint = "enter the same text twice",
    })
end

--- A secret: from the option, the environment (NAME, then the file NAME_FILE), the terminal.
-- @tparam table what `option`, `env`, `prompt`, `new` (asked twice), `again` (the second
--   question), `quiet` (never asked: nil without an error when it was not given), `shares`
--   (a domain, which may be typed as shares)
-- @tparam table options the values of the command's options
-- @param out the output
-- @treturn[1] secret
-- @treturn[2] nil
-- @treturn[2] err
function M.secret(what, options, out)
    local secret, err
    if what.option and options[what.option] then
        -- Wiped in the environment, too.
        local _ <close> = what.env and M.sources.variable(what.env)
        return options[what.option]
    end
    if what.env then
        secret, err = from_environment(what.env)
        if secret or err then
            return secret, err
        end
    end
    if what.quiet then
        return nil
    end
    out:settle(true)
    if what.new then
        secret, err = ask_twice(what, out)
    else
        secret, err = ask_once(what, what.prompt, out)
    end
    out.asked = secret ~= nil
    return secret, err
end

--- The password of a partition that somebody logs in to without one: from the terminal only.
-- A variable would give every partition the password of one of them.
-- @tparam table partition
-- @param out the output
-- @treturn[1] secret
-- @treturn[2] nil
-- @treturn[2] err
function M.password_of(partition, out)
    return M.secret({
        prompt = ("Please enter the password for the partition \"%s\" on %s:"):format(
            text.clean(partition.label), text.clean(partition.hsm.name)),
    }, {}, out)
end

local function refused(what, hint)
    return core.error({ code = "KFR_REFUSED", what = what, hint = hint })
end

--- One line of text from the terminal.
-- @string question
-- @param out the output
-- @treturn[1] string
-- @treturn[2] nil
-- @treturn[2] err KFR_REFUSED when there is no terminal to ask on
function M.line(question, out)
    local answer, err
    out:settle(true)
    answer, err = terminal(M.sources.line, question, function()
        return refused(("no terminal to ask on: %s"):format(text.clean(question)),
            "run it at a terminal, or give the answer as an option, if it has one")
    end)
    out.asked = answer ~= nil
    return answer, err
end

--- A share from the terminal, as words or as the path of its file.
-- @string question
-- @param out the output
-- @tparam function refusal gives the error when there is no terminal
-- @int[opt] words how many there are, when that is known
-- @treturn[1] share
-- @treturn[2] string
-- @treturn[3] nil
-- @treturn[3] err
function M.share(question, out, refusal, words)
    local answer, err
    out:settle(true)
    answer, err = terminal(M.sources.share, question, refusal, words)
    out.asked = answer ~= nil
    return answer, err
end

--- Shows a share at the terminal, until it has been written down.
-- @tparam share share
-- @string title
-- @param out the output
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] err KFR_REFUSED when there is no terminal
function M.show_share(share, title, out)
    local done, err
    out:settle(true)
    repeat
        done, err = M.sources.show_share(share, text.clean(title))
    until done ~= false
    if not done and NO_TERMINAL[status.field(err, "call")] then
        err = refused("no terminal to show the shares on", "-path writes them into files")
    end
    return done, err
end

local function no_terminal()
    return refused("no confirmation, and no terminal to ask on",
        "-force confirms without asking")
end

--- Says what is about to be done and takes "proceed" or "quit"; -force answers.
-- @tparam table lines what will happen, to which token
-- @tparam table options the values of the command's options
-- @param out the output
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] err
function M.confirm(lines, options, out)
    local question
    if options.force then
        for _, line in ipairs(lines) do
            out:note("%s", line)
        end
        return true
    end
    question = table.concat(lines, "\n  ") .. "\n  " .. M.PROCEED
    out:settle(true)
    for _ = 1, M.TRIES do
        local answer, err = terminal(M.sources.line, question, no_terminal)
        if not answer then
            return nil, err
        end
        answer = answer:match("^%s*(.-)%s*$"):lower()
        if answer == "proceed" then
            out.asked = true
            return true
        elseif answer == "quit" then
            return nil, refused("the user quit, nothing was changed")
        end
        question = M.PROCEED
    end
    return nil, refused("neither 'proceed' nor 'quit' was answered, nothing was changed")
end

return M
