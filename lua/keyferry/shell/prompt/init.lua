-- SPDX-License-Identifier: MIT
--- The prompt: lines read, run and answered until Ctrl-D or `exit`.
--
-- What a line is: its first word decides. A noun of the commands (`partition`), or one of
-- exit, quit, help, history, record and run, makes it a command: when it stands alone, or a
-- blank and then a word or an option follow. Except when Lua has a global of that name, and
-- the line is Lua: after `partition = keyferry.partition "x"` the line `partition` shows the
-- value, and `partition list` still is the command, since it is no Lua. What is no Lua, and
-- begins with two bare words, is taken for a command, too: `partiton list` is told what was
-- probably meant.
local core = require("keyferry.core")

local colour = require("keyferry.shell.colour")
local command = require("keyferry.shell.command")
local complete = require("keyferry.shell.completion.line")
local evaluate = require("keyferry.shell.evaluate")
local failure = require("keyferry.shell.failure")
local history = require("keyferry.shell.prompt.history")
local lexer = require("keyferry.shell.prompt.lexer")
local record = require("keyferry.shell.prompt.record")
local script = require("keyferry.shell.script")
local status = require("keyferry.shell.status")
local text = require("keyferry.shell.text")
local words = require("keyferry.shell.prompt.words")

local M = {}

local CONTINUED = "        >> "

-- -- What a line is ----------------------------------------------------------------------

local BUILT_IN = {}

local function is_noun(word)
    for _, entry in ipairs(script.all()) do
        if entry.noun == word then
            return true
        end
    end
    return false
end

-- What may follow the first word of a command; `=`, `(` and the like make it Lua.
local function is_argument(rest, built_in)
    return rest == "" or rest:find("^%s+%-?%-?[%w_]") ~= nil
        or built_in and rest:find("^%s+[^=(,%[{:]") ~= nil
end

local function two_words(line)
    local one, other = line:match("^%s*([%l][%w_-]*)%s+([%l][%w_-]*)")
    return one and not lexer.KEYWORDS[one] and not lexer.KEYWORDS[other]
end

--- Whether a line is a command; see above.
-- @string line
-- @tparam table env the globals of the prompt
-- @treturn boolean
function M.is_command(line, env)
    local word, behind = line:match("^%s*([%l][%w_-]*)()")
    local rest = word and (line:find("%S", behind) and line:sub(behind) or "")
    local compiled, problem
    if not word then
        return false
    end
    compiled, problem = evaluate.compile(line, "=prompt", env)
    if is_argument(rest, BUILT_IN[word]) and (BUILT_IN[word] or is_noun(word)) then
        return not (compiled and env[word] ~= nil)
    end
    return not compiled and not evaluate.unfinished(problem) and two_words(line) or false
end

-- -- Commands ----------------------------------------------------------------------------

local HELP_HERE = {
    "",
    "At the prompt a line is such a command, or Lua. Its own commands:",
    "  help [NOUN [VERB]]   what there is, and what one does",
    "  history              the lines typed before",
    "  record FILE          write what was done so far as a policy that does it again",
    "  run FILE [...]       a policy of your own",
    "  exit, quit, Ctrl-D   close everything and end",
    "An expression prints its value: keyferry.hsms(). What is assigned stays, without",
    "'local': p = keyferry.partition \"NAME\". A line is Lua, not a command, when it is Lua",
    "and uses a global that you made of the command's name.",
    "The prompt >> wants the rest of a statement; Ctrl-C drops it.",
    "Tab completes, Up and Ctrl-R find earlier lines; none with a secret is kept.",
}

BUILT_IN.help = function(self, list)
    local here = list[2] and BUILT_IN[list[2]] and not is_noun(list[2])
    if not here then
        command.help(self.shell, list, 2)
    end
    if here or not list[2] then
        for _, line in ipairs(HELP_HERE) do
            self.shell.out:print(line)
        end
    end
end

BUILT_IN.run = function(self, list)
    local path = list[2]
    if command.file(self.shell, list, 2) == status.SUCCESS then
        self.record:file(path)
    end
end

BUILT_IN.history = function(self)
    for i, line in ipairs(self.history:lines()) do
        self.shell.out:print(("%5d  "):format(i) .. line:gsub("\n", "\n       "))
    end
end

BUILT_IN.record = function(self, list)
    local err
    if #list ~= 2 then
        err = failure.usage("record needs one file", "write: record FILE.lua")
    else
        err = select(2, self.record:write(list[2]))
    end
    if err then
        self.shell.out:problem(err)
    else
        self.shell.out:print("Recorded in %s; run it with: keyferry run %s", list[2],
            text.shell_word(list[2]))
    end
end

BUILT_IN.exit = function(self)
    self.over = true
end

BUILT_IN.quit = BUILT_IN.exit

local function run_command(self, line)
    local list, problem = words.split(line)
    local ok, code
    if not list then
        self.shell.out:problem(failure.usage(problem, "close the quote"))
        return
    end
    if list[1] == "keyferry" and list[2] then
        table.remove(list, 1)
    end
    if BUILT_IN[list[1]] then
        BUILT_IN[list[1]](self, list)
        return
    end
    self.record:prepare(list)
    ok, code = xpcall(command.run, failure.handler(self.shell.debug), self.shell, list, 1)
    if not ok then
        self.shell.out:problem(code)
    end
    self.record:command(ok and code == status.SUCCESS)
end

-- -- Lua ---------------------------------------------------------------------------------

local LOCAL_HINT = "note: a local lives for this line only; without 'local' it stays"

local function hint_at_locals(self, code)
    if not self.hinted and code:find("^%s*local%s") and not code:find("[\n;]") then
        self.hinted = true
        self.shell.out:note(LOCAL_HINT)
    end
end

-- What the library has was called without its name; a method that there is not.
local function hint_at_names(err)
    local said = type(err) == "string" and err:match("attempt to call a nil value %((.-)%)") or ""
    local name = said:match("^global '(.*)'$")
    if name and require("keyferry")[name] ~= nil then
        return ("write: keyferry.%s"):format(name)
    end
    return said:find("^method ") and "Tab behind the colon lists the methods" or nil
end

local function run_lua(self, code, chunk, problem)
    local ok, err, target, value
    if not chunk then
        self.shell.out:problem(problem)
        return
    end
    target, value = evaluate.assignment(code, "=prompt", self.env)
    ok, err = evaluate.run(self.shell, value or chunk, target, self.env)
    if not ok then
        self.shell.out:problem(err, hint_at_names(err))
    end
    hint_at_locals(self, code)
    self.record:lua(code, ok, self.secrets)
end

-- -- Reading -----------------------------------------------------------------------------

local function unfinished_words(line)
    return words.split(line) == nil
end

-- Reads lines until they are a whole statement or command. Gives the text, and its chunk or
-- what is wrong with it, or true for a command. nil, err: Ctrl-C. nil: the end.
local function read(self)
    local code, chunk, problem
    local line, err = self.editor:read(self.prompts[1])
    while line do
        code = code and code .. "\n" .. line or line
        if not code:find("%S") then
            return code
        end
        if M.is_command(code, self.env) then
            if not unfinished_words(code) then
                return code, true
            end
        else
            chunk, problem = evaluate.compile(code, "=prompt", self.env)
            if chunk or not evaluate.unfinished(problem) then
                return code, chunk, problem
            end
        end
        line, err = self.editor:read(self.prompts[2])
    end
    return nil, err
end

-- An error anywhere in the handling of a line must not take open sessions with it.
local function protected(self, run, ...)
    local ok, err = xpcall(run, failure.handler(self.shell.debug), ...)
    if not ok then
        self.shell.out:problem(err)
    end
end

-- A command is kept before it runs, Lua after it: it shows then whether it made a secret.
local function take(self, code, chunk, problem)
    self.secrets = 0
    if chunk == true then
        self.history:take(self.editor, code, { command = true })
        protected(self, run_command, self, code)
    else
        protected(self, run_lua, self, code, chunk, problem)
        self.history:take(self.editor, code, { secret = self.secrets > 0 })
    end
    core.interrupt_clear() -- it stopped that run, not the next line
end

-- Whatever name secret() was called by.
local function watch_secrets(self)
    local library = require("keyferry")
    local make = library.secret
    library.secret = function(value)
        self.secrets = self.secrets + (type(value) == "string" and 1 or 0)
        return make(value)
    end
end

-- -- Completion --------------------------------------------------------------------------

local function common_prefix(list)
    local first = list[1]
    local size = #first
    for _, other in ipairs(list) do
        while first:sub(1, size) ~= other:sub(1, size) do
            size = size - 1
        end
    end
    while size < #first and size > 0 and not utf8.len(first:sub(1, size)) do
        size = size - 1
    end
    return first:sub(1, size)
end

local function in_columns(list, columns)
    local width, lines = 1, {}
    for _, item in ipairs(list) do
        width = math.max(width, (utf8.len(item) or #item) + 2)
    end
    local per_line = math.max(1, columns // width)
    local rows = (#list + per_line - 1) // per_line
    for row = 1, math.min(rows, 100) do
        local cells = {}
        for i = row, #list, rows do
            cells[#cells + 1] = list[i] .. (" "):rep(width - (utf8.len(list[i]) or #list[i]))
        end
        lines[row] = (table.concat(cells):gsub("%s+$", ""))
    end
    if rows > 100 then
        lines[#lines + 1] = ("... %d in all"):format(#list)
    end
    return table.concat(lines, "\n")
end

-- A label can hold anything; what would move the cursor is not put on the line.
local function plain(candidates)
    local list = {}
    for _, candidate in ipairs(candidates) do
        if type(candidate) == "string" and utf8.len(candidate) and not candidate:find("%c") then
            list[#list + 1] = candidate
        end
    end
    return list
end

-- -> first, what to put there, what to list below; what core.editor wants.
local function completer(shell, env)
    return function(line, cursor)
        local first, candidates = complete.line(shell, env, line, cursor)
        local list = plain(candidates or {})
        if #list == 0 then
            return nil
        elseif #list == 1 then
            return first, list[1]
        end
        for i, item in ipairs(list) do
            list[i] = text.clean(item)
        end
        return first, common_prefix(list), in_columns(list, shell.columns())
    end
end

-- -- The loop ----------------------------------------------------------------------------

-- What takes no column stands between two \1 (keyferry.core's editor).
local function prompts(shell)
    local brush = colour.brush(colour.wanted(shell.out.stdout_terminal))
    local title = brush("title", "keyferry:>"):gsub("\27%[%d*m", "\1%0\1")
    return { title .. " ", CONTINUED }
end

local function new(shell)
    local env = evaluate.environment(shell)
    local self = { shell = shell, env = env, prompts = prompts(shell) }
    self.editor = core.editor({ complete = completer(shell, env) })
    shell.prompting = true
    shell.columns = function()
        return self.editor:columns()
    end
    self.history = history.open(shell)
    self.history:give(self.editor)
    self.record = record.new(shell, env)
    watch_secrets(self)
    return self
end

--- The prompt, until Ctrl-D on an empty line or `exit`.
-- @param shell the program
-- @treturn integer the exit status
function M.loop(shell)
    local self
    local err = shell.configure()
    if err then
        return failure.plain(shell, err)
    end
    self = new(shell)
    shell.out:note("keyferry %s: help says what there is, Ctrl-D ends", core.version)
    while not self.over do
        local code, chunk, problem = read(self)
        local ending = select(2, core.interrupted())
        if ending then
            break
        elseif code and code:find("%S") then
            take(self, code, chunk, problem)
            collectgarbage() -- the keys and passwords that nothing holds any more are wiped now
        elseif not code and not chunk then
            io.stderr:write("\n")
            break
        elseif not code then
            self.editor:forget() -- nobody has looked at what stood there
            if status.code(chunk) ~= "KFR_INTERRUPTED" then
                shell.out:problem(chunk)
            end
        end
    end
    self.editor:close()
    return select(2, core.interrupted()) and status.INTERRUPTED or status.SUCCESS
end

return M
