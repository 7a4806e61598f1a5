-- SPDX-License-Identifier: MIT
--- Scripts: where they are, whether they may run, and what they must be.
--
-- A script is a text chunk that returns a table. A user's script of the same name stands in
-- for the stock one. What others may write is not run; a binary chunk is not run (it can
-- break the interpreter, Lua manual 6.1 load).
local core = require("keyferry.core")

local failure = require("keyferry.shell.failure")
local options = require("keyferry.shell.options")

local M = {}

local MAX_BYTES = 1024 * 1024
local MAX_STEPS = 10000000 -- of a script that is only looked at
local CATEGORIES = { reads = true, writes = true, destroys = true }
local NOT_A_NOUN = { examples = true }
local LIBRARIES = {
    "io", "math", "string", "table", "utf8",
}
local BASIC = {
    "_VERSION", "assert", "collectgarbage", "error", "getmetatable", "ipairs",
    "next", "pairs", "pcall", "rawequal", "rawget", "rawlen", "rawset",
    "select", "setmetatable", "tonumber", "tostring", "type", "warn", "xpcall",
}

local function refusal(code, what, hint)
    return core.error({ code = code, what = what, hint = hint })
end

local function broken(path, what)
    return refusal("KFR_SCRIPT", ("%s: %s"):format(path, what), nil)
end

--- The folder of the user's own scripts, nil when there can be none.
function M.user_folder()
    local base = os.getenv("XDG_CONFIG_HOME")
    if base and base:sub(1, 1) == "/" then
        return base .. "/keyferry/scripts"
    end
    base = os.getenv("HOME")
    return base and base ~= "" and base .. "/.config/keyferry/scripts" or nil
end

--- The folder of the stock scripts.
function M.stock_folder()
    return require("keyferry.root") .. "/scripts"
end

--- Where a user's own script of that name goes, nil when there is no such place.
-- @string noun
-- @string verb
-- @treturn string|nil
function M.own_path(noun, verb)
    local folder = M.user_folder()
    return folder and ("%s/%s/%s.lua"):format(folder, noun, verb)
end

local function folders()
    return { { path = M.user_folder(), own = true }, { path = M.stock_folder(), own = false } }
end

-- Only such words become parts of a path.
local function is_word(word)
    return word:find("^[a-z][a-z0-9_-]*$") ~= nil
end

local function names_in(path)
    if not path or core.file.exists(path) ~= "directory" then
        return {}
    end
    return core.file.list(path) or {}
end

local function add_verbs(found, folder, noun)
    for _, file in ipairs(names_in(folder.path .. "/" .. noun)) do
        local verb = file:match("^(.+)%.lua$")
        if verb and is_word(verb) then
            local key = noun .. " " .. verb
            local here = { noun = noun, verb = verb, own = folder.own,
                path = ("%s/%s/%s"):format(folder.path, noun, file) }
            if found[key] then
                found[key].instead_of = here.path
            else
                found[key] = here
            end
        end
    end
end

--- Every command: the user's own before the stock one of the same name.
-- @treturn table array of { noun, verb, path, own, instead_of }, sorted
function M.all()
    local found, list = {}, {}
    for _, folder in ipairs(folders()) do
        for _, noun in ipairs(names_in(folder.path)) do
            if is_word(noun) and not NOT_A_NOUN[noun] then
                add_verbs(found, folder, noun)
            end
        end
    end
    for _, entry in pairs(found) do
        list[#list + 1] = entry
    end
    table.sort(list, function(a, b)
        if a.noun ~= b.noun then
            return a.noun < b.noun
        end
        return a.verb < b.verb
    end)
    return list
end

--- One command by its exact name.
-- @treturn table|nil
function M.find(noun, verb)
    local found
    for _, entry in ipairs(M.all()) do
        if entry.noun == noun and entry.verb == verb then
            found = entry
        end
    end
    return found
end

-- Scripts see the library, not the core below it nor the shell above it.
local function guarded_require(name)
    if name == "keyferry.core" or name:find("^keyferry%.shell") then
        error(("a script requires \"keyferry\", not %q"):format(name), 2)
    end
    return require(name)
end

-- A test runs a policy (-e, standard input); a policy that ran a test would be given the HSMs
-- of the test in the middle of its work.
local function policys_require(name)
    if name:find("^keyferry%.testing") then
        error(("a policy is run by a test: it requires \"keyferry\", not %q"):format(name), 2)
    end
    return guarded_require(name)
end

local function exit(code)
    os.exit(code, true) -- closes sessions: a plain os.exit runs no finalizer
end

-- What the program itself calls cannot be taken from it; a script may add to it, since
-- ("x"):trim() finds only what is in the one table string.
local function shared(library, name)
    return setmetatable({}, {
        __index = library,
        __pairs = function() return pairs(library) end,
        __newindex = function(_, key, value)
            if library[key] ~= nil then
                error(("assignment to %s.%s, which is Lua's"):format(name, tostring(key)), 2)
            end
            library[key] = value
        end,
    })
end

-- A hook of a script's own would take the place of the one by which Ctrl-C stops it.
local function no_hook()
    error("a script sets no hook: Ctrl-C needs it", 2)
end

-- Text only, and with the script's own globals unless it says otherwise.
local function guarded_load(env)
    return function(chunk, name, _, globals)
        return load(chunk, name, "t", globals or env)
    end
end

-- Coroutines that Ctrl-C stops as it stops the rest.
local function stoppable_coroutines()
    local copy = {}
    for name, value in pairs(coroutine) do
        copy[name] = value
    end
    function copy.create(f)
        return core.watched(coroutine.create, f)
    end
    function copy.wrap(f)
        return core.watched(coroutine.wrap, f)
    end
    return copy
end

local function share_libraries(env)
    for _, name in ipairs(LIBRARIES) do
        env[name] = shared(_G[name], name)
    end
    env.debug = setmetatable({ sethook = no_hook }, { __index = debug })
    env.getmetatable = function(value)
        if type(value) == "string" then
            return { __index = env.string }
        end
        return getmetatable(value)
    end
end

local function add_globals(env, print_line, leave)
    for _, name in ipairs(BASIC) do
        env[name] = _G[name]
    end
    for _, name in ipairs(LIBRARIES) do
        env[name] = _G[name]
    end
    env._G, env.debug, env.package = env, debug, package
    env.coroutine = stoppable_coroutines()
    env.load = guarded_load(env)
    env.os = setmetatable({ exit = leave }, { __index = os })
    env.require = guarded_require
    env.print = function(...)
        local parts = table.pack(...)
        for i = 1, parts.n do
            parts[i] = tostring(parts[i])
        end
        print_line(table.concat(parts, "\t"))
    end
end

--- The globals of a script: the standard library and print, nothing of other scripts.
-- @tparam function print_line takes a line that the script prints
-- @tparam[opt] boolean free true: new globals may be made, Lua's own changed (the prompt)
-- @tparam[opt] function leave what os.exit is
function M.environment(print_line, free, leave)
    local env = {}
    add_globals(env, print_line, leave or exit)
    if free then
        return env
    end
    env.require = policys_require
    share_libraries(env)
    return setmetatable(env, {
        __index = function(_, name) -- as nil, a text without its quotes would select everything
            error(("there is no global %q (a text wants quotes)"):format(tostring(name)), 2)
        end,
        __newindex = function(_, name)
            error(("assignment to the global %q (write local)"):format(tostring(name)), 2)
        end,
    })
end

local function list_of_strings(value)
    if type(value) ~= "table" then
        return false
    end
    for key, item in pairs(value) do
        if math.type(key) ~= "integer" or type(item) ~= "string" then
            return false
        end
    end
    return true
end

local function check_option(option, seen)
    local name = type(option) == "table" and option.name
    if type(name) ~= "string" or not is_word(name) then
        return nil, "an option has no name of small letters and digits"
    end
    if seen[name] then
        return nil, ("option %q is declared twice"):format(name)
    end
    seen[name] = true
    if not options.KINDS[option.kind] then
        return nil, ("option %q has the kind %q, none of %s"):format(name,
            tostring(option.kind), options.kinds())
    end
    if type(option.help) ~= "string" then
        return nil, ("option %q has no help"):format(name)
    end
    if option.kind == "choice" and not list_of_strings(option.choices) then
        return nil, ("option %q has no choices"):format(name)
    end
    return true
end

-- What takes bare words: one option at most, and none of which a word would be a secret.
local function check_word(option, words)
    if not option.word then
        return true
    elseif option.kind == "secret" or option.kind == "flag" then
        return nil, ("option %q takes no bare word, since it is a %s"):format(option.name,
            option.kind)
    elseif words[1] then
        return nil, ("options %q and %q both take bare words"):format(words[1], option.name)
    end
    words[1] = option.name
    return true
end

local function check_options(list)
    local seen, words = {}, {}
    if list == nil then
        return true
    end
    if type(list) ~= "table" then
        return nil, "field options is not a table"
    end
    for _, option in ipairs(list) do
        local ok, problem = check_option(option, seen)
        if ok then
            ok, problem = check_word(option, words)
        end
        if not ok then
            return nil, problem
        end
    end
    return true
end

local FIELDS = {
    { "name", "string", true }, { "summary", "string", true }, { "category", "string", true },
    { "privileges", "table", false }, { "options", "table", false },
    { "rules", "function", false }, { "examples", "table", false }, { "run", "function", true },
}

--- Whether a value is a script.
-- @param value what the chunk returned
-- @string[opt] name the name it must have
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] string what is wrong
function M.check(value, name)
    if type(value) ~= "table" then
        return nil, "a script ends with: return { name = ..., run = ... }"
    end
    for _, field in ipairs(FIELDS) do
        local found = type(value[field[1]])
        if found ~= field[2] and (field[3] or found ~= "nil") then
            return nil, ("field %s is %s, not a %s"):format(field[1],
                found == "nil" and "missing" or "a " .. found, field[2])
        end
    end
    if not CATEGORIES[value.category] then
        return nil, ("category %q is none of reads, writes, destroys"):format(value.category)
    end
    if value.privileges and (not value.privileges[1] or not list_of_strings(value.privileges)) then
        return nil, "field privileges is no list of roles (everybody may run it without)"
    end
    if name and value.name ~= name then
        return nil, ("its name is %q, its place says %q"):format(value.name, name)
    end
    return check_options(value.options)
end

--- A chunk of a file that may be run.
-- @string path
-- @tparam table env its globals
-- @tparam[opt] boolean stock true: belongs to the program, trusted as the program is
-- @treturn[1] function
-- @treturn[2] nil
-- @treturn[2] err
function M.chunk(path, env, stock)
    local ok, bytes, chunk, err
    if core.file.exists(path) ~= "file" then
        return nil, refusal("KFR_NOT_FOUND", ("there is no file %s"):format(path))
    end
    if not stock then
        ok, err = core.file.trusted(path)
        if not ok then
            return nil, err
        end
    end
    bytes, err = core.file.read(path, MAX_BYTES)
    if not bytes then
        return nil, err
    end
    bytes = bytes:gsub("^#[^\n]*", "")
    chunk, err = load(bytes, "@" .. path, "t", env)
    if not chunk then
        return nil, refusal("KFR_SCRIPT", err)
    end
    return chunk
end

local function as_thrown(err)
    return err
end

--- Loads a script and checks it.
-- @string path
-- @tparam table how `print` (takes a line), `name` it must have, `stock`, `leave` (os.exit)
-- @treturn[1] table
-- @treturn[2] nil
-- @treturn[2] err
function M.load(path, how)
    local env, chunk, ok, value, good, problem, err
    env = M.environment(how.print, false, how.leave)
    chunk, err = M.chunk(path, env, how.stock)
    if not chunk then
        return nil, err
    end
    ok, value = core.interruptible(chunk, as_thrown)
    if not ok then
        return nil, failure.of(value)
    end
    ok, good, problem = pcall(M.check, value, how.name)
    if not ok then
        return nil, failure.of(good)
    elseif not good then
        return nil, broken(path, problem)
    end
    return value
end

--- A script loaded only to be looked at; nil when there is none to be had. One that does not
-- come to an end is none.
-- @tparam table entry of M.all(), or { path= } of any file
function M.peek(entry)
    local thread = coroutine.create(M.load)
    local ok, found
    debug.sethook(thread, function()
        error("it does not come to an end", 0)
    end, "", MAX_STEPS)
    ok, found = coroutine.resume(thread, entry.path, {
        name = entry.noun and entry.noun .. " " .. entry.verb,
        stock = entry.noun and not entry.own, print = function() end,
    })
    return ok and type(found) == "table" and found or nil
end

return M
