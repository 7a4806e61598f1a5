-- SPDX-License-Identifier: MIT
-- docstrings: what the comments in lua/ and c/lua/ say, as data.
--
-- The form is LDoc's, a part of it: `---` and the `--` lines below in Lua, /*** ... */ with
-- @function in C. LDoc itself (1.4.6) does not fit: it takes the first docstring of a file
-- for the module's, so a C file without @module is refused and a Lua file with a licence line
-- above its head loses its first function, silently; and one class from several files (a
-- session is made of session.c, endpoint.c and sealing.lua) needs a @submodule for each.
-- What is not understood here is an error with file and line, never passed over.
--
--   docstrings.head(path) -> string
--   docstrings.read(path) -> array of
--     { file, line, name, args (from the code, nil in C), text,
--       kind = "function" | "table" | "module" | "classmod",
--       params = { { name, type, optional, default, text } }, fields = the same,
--       returns = { { { type, text }, ... }, ... }, usage = { code, ... }, is_local }
local shell = require("support.shell")

local M = {}

local kinds = { ["function"] = true, table = true, module = true, classmod = true }
local typed = { string = "string", int = "integer", number = "number", bool = "boolean",
  func = "function", tab = "table" }

local function fail(entry, what, ...)
  error(("%s:%d: " .. what):format(entry.file, entry.line, ...), 0)
end

-- "[opt="user"]" -> whether, and the default.
local function optional(modifier)
  local default = modifier:match("^%[opt=(.*)%]$")
  return modifier:find("^%[opt") ~= nil, default
end

local function parameter(entry, modifier, text, kind)
  local name, rest = text:match("^(%S+)[ \t]*(.*)$")
  if not name then fail(entry, "a parameter without a name") end
  local is_optional, default = optional(modifier)
  return { name = name, text = rest, type = typed[kind] or kind, optional = is_optional,
    default = default }
end

local function typed_parameter(entry, modifier, text)
  local kind, rest = text:match("^(%S+)[ \t]+(.*)$")
  if not kind then fail(entry, "a parameter needs a type and a name") end
  return parameter(entry, modifier, rest, kind)
end

local tags = {}

function tags.param(entry, modifier, text)
  table.insert(entry.params, parameter(entry, modifier, text))
end

function tags.tparam(entry, modifier, text)
  table.insert(entry.params, typed_parameter(entry, modifier, text))
end

function tags.field(entry, modifier, text)
  table.insert(entry.fields, parameter(entry, modifier, text))
end

function tags.tfield(entry, modifier, text)
  table.insert(entry.fields, typed_parameter(entry, modifier, text))
end

function tags.treturn(entry, modifier, text)
  local group = tonumber(modifier:match("^%[(%d+)%]$") or 1)
  local kind, rest = text:match("^(%S+)[ \t]*(.*)$")
  if not kind then fail(entry, "@treturn needs a type") end
  entry.returns[group] = entry.returns[group] or {}
  table.insert(entry.returns[group], { type = kind, text = rest })
end

function tags.usage(entry, _, text)
  table.insert(entry.usage, (text:gsub("^%s*\n", ""):gsub("%s+$", "")))
end

tags["local"] = function(entry) entry.is_local = true end

for tag, kind in pairs(typed) do
  tags[tag] = function(entry, modifier, text)
    table.insert(entry.params, parameter(entry, modifier, text, kind))
  end
end

for kind in pairs(kinds) do
  tags[kind] = function(entry, _, text)
    if text:find("\n") then fail(entry, "text below @%s belongs above it", kind) end
    entry.kind, entry.name = kind, text ~= "" and text or entry.name
  end
end

-- Lines of one comment, without the comment's own marks.
local function interpret(entry, lines)
  local at, modifier, text = nil, "", {}
  local function finish()
    local all = table.concat(text, "\n"):gsub("%s+$", "")
    if not at then
      entry.text = all
    else
      tags[at](entry, modifier, all)
    end
  end
  for i, line in ipairs(lines) do
    local tag, how, rest = line:match("^@(%a+)(%b[])[ \t]*(.*)$")
    if not tag then tag, rest = line:match("^@(%a+)[ \t]*(.*)$") end
    if tag and not tags[tag] then
      entry.line = entry.line + i - 1
      fail(entry, "what is @%s?", tag)
    elseif tag then
      finish()
      at, modifier, text = tag, how or "", { rest }
    else
      table.insert(text, line)
    end
  end
  finish()
  return entry
end

local function new(file, line)
  return { file = file, line = line, kind = "function", params = {}, fields = {}, returns = {},
    usage = {} }
end

local function args_of(text)
  local list = {}
  for name in text:gmatch("[%w_.]+") do
    if name ~= "_" and name ~= "self" then table.insert(list, name) end
  end
  return list
end

-- What the line below a comment defines.
local function look(entry, line)
  local name, args = line:match("^%s*function%s+([%w_.:]+)%s*(%b())")
  if not name then name, args = line:match("^%s*local%s+function%s+([%w_]+)%s*(%b())") end
  if not name then name, args = line:match("^%s*([%w_.]+)%s*=%s*function%s*(%b())") end
  if not name then args = line:match("^return%s+function%s*(%b())") end
  entry.args = args and args_of(args) or nil
  entry.name = entry.name or name or args and "return"
end

local function read_lua(path, lines)
  local list, i = {}, 1
  while i <= #lines do
    local first = lines[i]:match("^%s*%-%-%-%s?(.*)$")
    if first and not first:find("^%-") then
      local entry, comment = new(path, i), { first }
      while lines[i + 1] and lines[i + 1]:find("^%s*%-%-") do
        i = i + 1
        table.insert(comment, (lines[i]:gsub("^%s*%-%-[ ]?", "")))
      end
      interpret(entry, comment)
      if entry.kind == "function" then look(entry, lines[i + 1] or "") end
      table.insert(list, entry)
    end
    i = i + 1
  end
  return list
end

local function read_c(path, lines)
  local list, i = {}, 1
  while i <= #lines do
    if lines[i]:find("^/%*%*%*") then
      local entry, comment = new(path, i), { (lines[i]:gsub("^/%*%*%*%s?", "")) }
      repeat
        i = i + 1
        table.insert(comment, (lines[i]:gsub("%s*%*/%s*$", "")))
      until lines[i]:find("%*/%s*$")
      if comment[1] == "" then table.remove(comment, 1) end
      table.insert(list, interpret(entry, comment))
    end
    i = i + 1
  end
  return list
end

local function check(entry)
  if not entry.name and entry.kind == "function" then return false end -- a head without @module
  if entry.kind ~= "function" or not entry.args or #entry.params == 0 then return true end
  local documented = {}
  for _, param in ipairs(entry.params) do table.insert(documented, param.name) end
  local args = table.concat(entry.args, ", ")
  if args ~= table.concat(documented, ", ") then
    fail(entry, "%s takes (%s) and documents (%s)", entry.name, args,
      table.concat(documented, ", "))
  end
  return true
end

-- The words that a Lua file begins with, without their tags.
function M.head(path)
  local text = assert(shell.read(path), path):match("^%-%- SPDX[^\n]*\n%-%-%-( .-)\n[^-]")
    or error(path .. " does not begin with a docstring", 0)
  text = ("\n" .. text):gsub("\n%-?%-? ?", "\n"):gsub("\n@.*", "")
  return (text:gsub("^\n%a+: (%a)", string.upper):gsub("^\n", ""))
end

function M.read(path)
  local text = assert(shell.read(path), path)
  local lines = {}
  for line in text:gmatch("([^\n]*)\n") do table.insert(lines, line) end
  local list = {}
  for _, entry in ipairs((path:find("%.c$") and read_c or read_lua)(path, lines)) do
    if check(entry) then table.insert(list, entry) end
  end
  return list
end

return M
