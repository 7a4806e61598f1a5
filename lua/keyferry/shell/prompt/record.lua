-- SPDX-License-Identifier: MIT
--- What was done at the prompt, as a policy that does it again.
--
-- Commands become ctx:run, Lua stays Lua, and the globals it made become locals. What
-- failed is left out. No secret is written, nor kept in clear until then: an option or a
-- secret("...") that held one becomes a question of the policy (its option, its variable of
-- the environment, the terminal); a line that cannot be written so is left out and said.
local core = require("keyferry.core")

local discreet = require("keyferry.shell.prompt.discreet")
local evaluate = require("keyferry.shell.evaluate")
local failure = require("keyferry.shell.failure")
local lexer = require("keyferry.shell.prompt.lexer")
local options = require("keyferry.shell.options")
local script = require("keyferry.shell.script")
local text = require("keyferry.shell.text")

local M = {}
local Record = {}
Record.__index = Record

local CATEGORIES = { reads = 1, writes = 2, destroys = 3 }
local MAX_LOCALS = 150 -- Lua has 200 in a function, and some are ours
local LITERAL = "secret" -- the option for what was a secret("...")
local HELPERS = { "ctx", "given", "checked", "run", "status", "err" }

local TOP = [[
-- Recorded at the prompt of keyferry %s on %s. What failed there is left out.
-- Run it with: keyferry run FILE
local keyferry = require("keyferry")
]]

local CHECKED = [[

-- A refusal, or a backup that is not whole, ends the policy.
local function %s(...)
    local value, err = ...
    if value == nil and err ~= nil then
        error(err, 0)
    elseif type(value) == "table" and rawget(value, "cloned") and value.status ~= "success" then
        error(value.reason, 0)
    end
    return ...
end
]]

local END = [[

return {
    name = %s,
    summary = "Recorded at the prompt.",
    category = "%s",
%s    run = %s,
}
]]

local function quoted(value)
    return (("%q"):format(value):gsub("\\\n", "\\n"))
end

local function key(name)
    return name:find("^[%a_][%w_]*$") and not lexer.KEYWORDS[name] and name
        or "[" .. quoted(name) .. "]"
end

local function names_in(env)
    local names = {}
    for name in pairs(env) do
        names[name] = true
    end
    return names
end

local function start(self)
    self.entries, self.secrets = {}, {}
end

--- An empty record.
-- @param shell the program
-- @tparam table env the globals of the prompt
function M.new(shell, env)
    local self = setmetatable({ shell = shell, env = env, own = names_in(env), made = {},
        judge = discreet.new() }, Record)
    start(self)
    return self
end

-- -- Secrets -----------------------------------------------------------------------------

-- The question that stands for a secret; the same one for the same secret, unless it is
-- another option's.
local function question(self, value, name, prompt)
    local count = 1
    for _, known in ipairs(self.secrets) do
        local alike = known.base == name or known.base == LITERAL or name == LITERAL
        if alike and known.value == value then
            return known
        end
        count = known.base == name and count + 1 or count
    end
    local option = count == 1 and name or ("%s_%d"):format(name, count)
    local known = { value = value, base = name, option = option, prompt = prompt,
        env = "KEYFERRY_" .. option:upper():gsub("[^%w]", "_") }
    self.secrets[#self.secrets + 1] = known
    return known
end

-- A placeholder in the text of an entry, which becomes given.NAME when it is written.
local function placeholder(known)
    return "\1" .. known.option .. "\1"
end

-- The first token of `a.b.secret`, whose last is at i.
local function chain(tokens, i)
    while i > 2 and tokens[i - 1].text == "." and tokens[i - 2].kind == "name" do
        i = i - 2
    end
    return i
end

-- The string that secret() at i is called with, and the token that ends the call.
local function argument(tokens, i)
    local one, two, three = tokens[i + 1], tokens[i + 2], tokens[i + 3]
    if one and one.kind == "string" then
        return one, one
    elseif one and one.text == "(" and two and two.kind == "string" and three
        and three.text == ")" then
        return two, three
    end
    return nil
end

-- The code with every secret("...") taken out; nil when one stays in it.
local function without_secrets(self, code)
    local tokens, parts, at = lexer.tokens(code), {}, 1
    if code:find("\1", 1, true) then
        return nil
    end
    for i, token in ipairs(tokens) do
        local literal, last = nil, nil
        if token.kind == "name" and token.text == "secret" then
            literal, last = argument(tokens, i)
        end
        local value = literal and load("return " .. literal.text, "=record", "t", {})
        if value then
            parts[#parts + 1] = code:sub(at, tokens[chain(tokens, i)].first - 1)
            parts[#parts + 1] = placeholder(question(self, core.secret(value()), LITERAL,
                "Please enter the secret:"))
            at = last.last + 1
        end
    end
    parts[#parts + 1] = code:sub(at)
    code = table.concat(parts)
    return not self.judge:may_hold_secret(code, false) and code or nil
end

-- -- Lua ---------------------------------------------------------------------------------

local function has(code, ...)
    for _, token in ipairs(lexer.tokens(code)) do
        for _, word in ipairs({ ... }) do
            if token.text == word then
                return true
            end
        end
    end
    return false
end

-- A call of checked() with code in it, which may end in a comment.
local function checked(code)
    local stripped = code:match("^.*[^;%s]") or ""
    return "\2(" .. stripped .. (code:find("--", 1, true) and "\n" or "") .. ")"
end

local function as_statement(code)
    if has(code, "return") then
        return checked("(function()\n" .. code .. "\nend)()")
    elseif has(code, "local", "::") then
        return "do\n" .. code .. "\nend"
    end
    return code
end

-- Whether it can stand in a function after other lines.
local function compiles(code)
    code = code:gsub("\1[^\1]*\1", "given"):gsub("\2", "checked")
    return load("local function run()\n;" .. code .. "\n;end", "=record", "t") ~= nil
end

-- The ways to write a line, the best one first.
local function forms(code, env)
    local plain = code:gsub("\1[^\1]*\1", "nil")
    local target = evaluate.assignment(plain, "=prompt", env)
    local list = {}
    if target then
        local before, expression = code:match("^%s*([%a_][%w_]*%s*=)(.*)$")
        list[1] = before .. " " .. checked(expression:match("^%s*(.*)$"))
    elseif load("return " .. plain, "=prompt", "t", env) then
        list[1] = load(plain, "=prompt", "t", env) and checked(code)
            or "print" .. checked(code):sub(2)
    end
    list[#list + 1] = as_statement(code)
    return list
end

local function add(self, entry)
    self.entries[#self.entries + 1] = entry
end

local function leave_out(self, why)
    add(self, { code = "-- Left out: " .. why, category = "reads" })
end

--- A line of Lua was run.
-- @string code
-- @tparam boolean ok
-- @tparam integer secrets how many it made of texts
function Record:lua(code, ok, secrets)
    for name in pairs(self.env) do
        if not self.own[name] and type(name) == "string" then
            self.made[name] = true
        end
    end
    if not ok or #lexer.tokens(code) == 0 then
        return
    end
    code = without_secrets(self, code)
    -- One that was made otherwise than by secret("...") still stands there.
    if code and secrets > select(2, code:gsub("\1[^\1]*\1", "")) and code:find("[\"'[]") then
        code = nil
    end
    if not code then
        leave_out(self, "a line that held a secret in a way that cannot be asked for.")
        return
    end
    for _, form in ipairs(forms(code, self.env)) do
        if compiles(form) then
            add(self, { code = form, category = "writes" })
            return
        end
    end
    leave_out(self, "a line that cannot be part of a function.")
end

-- -- Commands ----------------------------------------------------------------------------

local function value_of(self, option, value)
    if option.kind == "secret" then
        local prompt = type(option.prompt) == "string" and option.prompt
            or ("Please enter the %s (-%s):"):format(option.value or "secret", option.name)
        return placeholder(question(self, value, option.name, prompt))
    elseif type(value) == "string" then
        return quoted(value)
    elseif type(value) == "table" then
        local items = {}
        for i, item in ipairs(value) do
            items[i] = quoted(item)
        end
        return "{ " .. table.concat(items, ", ") .. " }"
    end
    return tostring(value)
end

--- A command is about to run: what it is is read now, since its secrets are wiped then.
-- @tparam table list its words
function Record:prepare(list)
    local found, first, parsed
    self.pending = nil
    found, first = discreet.script_of(list)
    if not found then
        return
    end
    parsed = options.parse(found.options or {}, table.move(list, 1, #list, 1, {}),
        { first = first, secret = core.secret })
    if parsed and not parsed.help then
        self.pending = { script = found, values = parsed.values }
    end
end

--- The command that was prepared has run.
-- @tparam boolean ok
function Record:command(ok)
    local pending, fields = self.pending, {}
    self.pending = nil
    if not pending or not ok then
        return
    end
    for _, option in ipairs(pending.script.options or {}) do
        local value = pending.values[option.name]
        if value ~= nil then
            fields[#fields + 1] = key(option.name) .. " = " .. value_of(self, option, value)
        end
    end
    add(self, { command = pending.script.name, category = pending.script.category,
        fields = fields })
end

--- A file was run: a policy can run commands, no files.
function Record:file(path)
    leave_out(self, "run " .. text.clean(path) .. "; copy what it does, or make it a command.")
end

-- -- Writing -----------------------------------------------------------------------------

-- The globals that the lines use and made, sorted.
local function globals_of(self)
    local used, list = {}, {}
    for _, entry in ipairs(self.entries) do
        for _, token in ipairs(lexer.tokens(entry.code or "")) do
            used[token.text] = token.kind == "name" or nil
        end
    end
    for name in pairs(self.made) do
        if used[name] and name ~= "keyferry" then
            list[#list + 1] = name
        end
    end
    table.sort(list)
    return list, used
end

-- What our own names are called when the lines use them, too.
local function helper_names(used)
    local names = {}
    for _, name in ipairs(HELPERS) do
        local free = name
        while used[free] do
            free = free .. "_"
        end
        names[name] = free
    end
    return names
end

local function finished(code, names)
    return (code:gsub("\1([^\1]*)\1", function(option)
        return names.given .. "." .. option:gsub("%-", "_")
    end):gsub("\2", names.checked))
end

local function indented(code)
    -- A long string of several lines must not get blanks.
    return code:find("\n", 1, true) and code:find("%[=*%[") and code .. "\n"
        or (code:gsub("[^\n]+", "    %0")) .. "\n"
end

local function declaration(globals)
    if #globals == 0 then
        return ""
    elseif #globals > MAX_LOCALS then
        return "\nlocal _ENV = setmetatable({}, { __index = _ENV }) -- many globals\n"
    end
    local lines = text.wrap("local " .. table.concat(globals, ", "), 90)
    return "\n" .. table.concat(lines, "\n    ") .. "\n"
end

local function questions(self, names)
    local parts = {}
    for i, known in ipairs(self.secrets) do
        parts[i] = ("        %s = %s(%s:secret{ option = %q, env = %q,\n"
            .. "            prompt = %s }),\n"):format((known.option:gsub("%-", "_")),
            names.checked, names.ctx, known.option, known.env, quoted(known.prompt))
    end
    if #parts == 0 then
        return ""
    end
    return ("    local %s = {\n%s    }\n"):format(names.given, table.concat(parts))
end

local function option_table(self)
    local parts = {}
    for i, known in ipairs(self.secrets) do
        parts[i] = ("        { name = %q, value = \"secret\", kind = \"secret\",\n"):format(
            known.option) .. ("            help = %s },\n"):format(quoted(
            ("What was %s at the prompt; %s, or asked for, without it."):format(
            known.base == LITERAL and "a secret" or "-" .. known.base, known.env)))
    end
    return #parts > 0 and "    options = {\n" .. table.concat(parts) .. "    },\n" or ""
end

local function command_lines(entry, names)
    local fields = #entry.fields == 0 and "{}"
        or "{ " .. table.concat(entry.fields, ", ") .. " }"
    if #fields > 40 then
        fields = "{\n        " .. table.concat(entry.fields, ",\n        ") .. ",\n    }"
    end
    return ("    %s, %s = %s:run(%s, %s)\n    if %s ~= 0 then\n        return %s, %s\n"
        .. "    end\n"):format(names.status, names.err, names.ctx, quoted(entry.command),
        finished(fields, names), names.status, names.status, names.err)
end

local function body(self, names)
    local parts, commands = {}, false
    for i, entry in ipairs(self.entries) do
        if entry.command then
            commands = true
            parts[i] = command_lines(entry, names)
        else
            parts[i] = indented(finished(entry.code, names))
        end
    end
    return (commands and ("    local %s, %s\n"):format(names.status, names.err) or "")
        .. questions(self, names) .. table.concat(parts)
end

local function category_of(self)
    local category = "reads"
    for _, entry in ipairs(self.entries) do
        if CATEGORIES[entry.category] > CATEGORIES[category] then
            category = entry.category
        end
    end
    return category
end

local function compose(self, path)
    local globals, used = globals_of(self)
    local names = helper_names(used)
    local name = (path:match("([^/]*)$"):gsub("%.lua$", ""))
    return TOP:format(core.version, os.date("%Y-%m-%d %H:%M")) .. declaration(globals)
        .. CHECKED:format(names.checked)
        .. ("\nlocal function %s(%s)\n"):format(names.run, names.ctx) .. body(self, names)
        .. "    return 0\nend\n"
        .. END:format(quoted(name), category_of(self), option_table(self), names.run)
end

-- Whether the text is a script: it is loaded, and not run.
local function check(code)
    local chunk, problem = load(code, "=record", "t", script.environment(print))
    local ok, value
    if chunk then
        ok, value = pcall(chunk)
        problem = not ok and value or select(2, script.check(value))
    end
    if problem then
        return nil, core.error({ code = "KFR_SCRIPT",
            what = "what was done cannot be written as a policy: " .. failure.text(problem) })
    end
    return true
end

--- Writes the policy, to a file that is not there yet, and begins anew.
-- @string path
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] err
function Record:write(path)
    local code, ok, err
    if #self.entries == 0 then
        return nil, core.error({ code = "KFR_REFUSED", what = "nothing was done yet that could "
            .. "be recorded", hint = "commands that succeed and Lua are" })
    end
    code = compose(self, path)
    ok, err = check(code)
    if ok then
        ok, err = core.file.create(path, code, 384) -- 0600
    end
    if ok then
        start(self)
    end
    return ok, err
end

return M
