-- SPDX-License-Identifier: MIT
-- render: lua/README.md, from the docstrings and from template.md, which has what belongs to
-- no single function. A line of the template may say
--   {{contents}}              a list of links to all that follows
--   {{functions PREFIX}}      all functions of that name: keyferry. hsm: session: ...
--   {{head FILE}}             the words that a source begins with
--   {{table NAME}}            the fields of a documented table
--   {{list PREFIX}}           functions with one sentence each
--   {{codes}}                 the codes of our own and what exit status they give
--   {{when PREFIX}}           the rest of that chapter only when there is such a function
local docstrings = require("reference.docstrings")
local library = require("reference.library")
local shell = require("support.shell")

local M = {}

local WIDTH = 96

-- A word that would begin a list or a heading must not begin a line.
local function may_begin(word)
  return not word:find("^[-+*#>]") and not word:find("^%d+[.)]$")
end

-- Code stays on one line.
local function fill(text, indent)
  local lines, line = {}, nil
  text = text:gsub("`[^`]*`", function(code) return (code:gsub("%s+", "\1")) end)
  for word in text:gmatch("%S+") do
    if line and #line + #word + 1 + #indent > WIDTH and may_begin(word) then
      table.insert(lines, line)
      line = word
    else
      line = line and line .. " " .. word or word
    end
  end
  table.insert(lines, line)
  return (table.concat(lines, "\n" .. indent):gsub("\1", " "))
end

-- "<" outside of code would begin HTML.
local function escape(text)
  return (("`" .. text .. "`"):gsub("`([^`]*)`([^`]*)", function(outside, code)
    outside = outside:gsub("<", "\\<")
    return outside .. (code ~= "" and "`" .. code .. "`" or "")
  end))
end

-- Paragraphs and lists of a docstring; `indent` is for all lines but the first.
local function prose(text, indent)
  local blocks, block = {}, nil
  for line in (text .. "\n"):gmatch("([^\n]*)\n") do
    local item = line:match("^%s*%* (.*)$")
    local is_code = line:find("^    ") and not item and (not block or block.code)
    if item or line:find("^%s*$") or block and block.code ~= is_code then
      block = nil
    end
    if is_code then
      block = block or { code = true }
      if #block == 0 then table.insert(blocks, block) end
      table.insert(block, line)
    elseif item then
      block = { item, item = true }
      table.insert(blocks, block)
    elseif line:find("%S") then
      if not block then
        block = {}
        table.insert(blocks, block)
      end
      table.insert(block, line)
    end
  end
  local out, last = {}, nil
  for _, one in ipairs(blocks) do
    local words = one.code and "" or escape(table.concat(one, " "))
    if last then table.insert(out, (one.item and last.item) and "\n" or "\n\n") end
    if last or one.item then table.insert(out, indent) end
    table.insert(out, one.code and "```\n" .. table.concat(one, "\n"):gsub("%f[^\n\0]    ", "")
      .. "\n```" or one.item and "* " .. fill(words, indent .. "  ") or fill(words, indent))
    last = one
  end
  return table.concat(out)
end

local nouns = { hsm = "hsm", partition = "partition", session = "session", object = "object",
  secret = "secret", domain = "domain", sealed = "sealed", plan = "plan", err = "errors",
  endpoint = "endpoint", module = "module", report = "the-report", result = "a-result",
  token = "a-token", item = "an-item", mechanism = "a-mechanism" }

-- "?secret" -> "[secret](#secret) or nil"
local function type_text(kind)
  local maybe, name = kind:match("^(%??)(.*)$")
  if name == "int" then name = "integer" end
  local words = {}
  for word in name:gmatch("[^|]+") do
    table.insert(words, nouns[word] and ("[%s](#%s)"):format(word, nouns[word]) or word)
  end
  return table.concat(words, " or ") .. (maybe == "?" and " or nil" or "")
end

local function parameter(param)
  local notes = {}
  if param.type then table.insert(notes, type_text(param.type)) end
  if param.default then
    table.insert(notes, "default `" .. param.default .. "`")
  elseif param.optional then
    table.insert(notes, "optional")
  end
  local head = ("`%s`%s"):format(param.name,
    #notes > 0 and " (" .. table.concat(notes, ", ") .. ")" or "")
  local text = param.text:gsub("^%s+", "")
  local list = text:match("^\n") or param.text:find("^%s*\n%s*\n") or param.text:find("^%s*%*")
  if text == "" then return "* " .. head end
  if list then return "* " .. head .. ":\n\n" .. prose(text, "  ") end
  return "* " .. prose(head .. ": " .. text, "  ")
end

local function joined(text)
  return (text:gsub("%s*\n%s*", " "))
end

-- A word of Lua as it is, else the type.
local function value(one)
  local word = one.type
  if word == "err" then return "[err](#errors)" end
  return (word == "nil" or word == "true" or word == "false") and ("`%s`"):format(word)
    or type_text(word)
end

-- "[sealed](#sealed), string (what was lost)"; what is said of the last one, or of an err,
-- is said of them all.
local function group_text(group)
  local words, last = {}, ""
  for i, one in ipairs(group) do
    local text = joined(one.text)
    if text ~= "" and (#group == 1 or one.type == "err") then
      last = ": " .. text
      text = ""
    end
    words[i] = value(one) .. (text ~= "" and " (" .. text .. ")" or "")
  end
  return table.concat(words, ", ") .. last
end

local function returns(entry)
  local lines = {}
  for _, group in ipairs(entry.returns) do table.insert(lines, group_text(group)) end
  local text = table.concat(lines, "; or ")
  if text == "" then return nil end
  return fill(escape("Returns " .. text .. (text:find("%.$") and "" or ".")), "")
end

-- Those that the template has nowhere by themselves.
local function functions(all, prefix)
  local list = {}
  for _, entry in ipairs(all.list) do
    if entry.kind == "function" and entry.public:sub(1, #prefix) == prefix
      and not entry.public:sub(#prefix + 1):find("[.:]") and not all.placed[entry.public] then
      table.insert(list, entry)
    end
  end
  return list
end

local function heading(entry)
  return "### " .. library.signature(entry)
end

local function render_function(entry)
  local parts = { heading(entry), prose(entry.text, "") }
  local params = {}
  for _, param in ipairs(entry.params) do table.insert(params, parameter(param)) end
  if #params > 0 then table.insert(parts, table.concat(params, "\n")) end
  table.insert(parts, returns(entry))
  for _, code in ipairs(entry.usage) do
    table.insert(parts, "```lua\n" .. code .. "\n```")
  end
  return table.concat(parts, "\n\n")
end

local function render_table(entry)
  local lines = {}
  for _, field in ipairs(entry.fields) do table.insert(lines, parameter(field)) end
  local text = entry.text ~= "" and prose(entry.text, "") .. "\n\n" or ""
  local examples = {}
  for _, code in ipairs(entry.usage) do
    table.insert(examples, "\n\n```lua\n" .. code .. "\n```")
  end
  return text .. table.concat(lines, "\n") .. table.concat(examples)
end

-- The anchor that GitHub gives a heading.
function M.anchor(text)
  return (text:lower():gsub("[^%w%s_-]", ""):gsub("%s", "-"))
end

-- Codes: the numbered ones where they are defined, others as the template has them.
local function codes(more)
  local status = require("keyferry.shell.status")
  local lines = { "| `err.code` | what it means | exit status |", "| --- | --- | --- |" }
  local function row(name, text)
    table.insert(lines, ("| `%s` | %s | %d |"):format(name, text, status.of { code = name }))
  end
  local define = "#define (KFR_[%u_]+) 0x%x+UL%s*/%* (.-) %*/"
  for name, text in shell.read("c/base/error.h"):gmatch(define) do
    row(name, (text:gsub("err%->(%a+)", "`err.%1`")))
  end
  for name, text in more:gmatch("(KFR_[%u_]+): ([^\n]+)") do row(name, text) end
  return table.concat(lines, "\n")
end

local directives = {}

function directives.functions(all, prefix)
  local list = functions(all, prefix)
  if #list == 0 then error("no function begins with " .. prefix, 0) end
  local parts = {}
  for _, entry in ipairs(list) do table.insert(parts, render_function(entry)) end
  return table.concat(parts, "\n\n")
end

function directives.head(_, path)
  return prose(docstrings.head(path), "")
end

directives["function"] = function(all, name)
  return render_function(all.by_name[name] or error("there is no " .. name, 0))
end

function directives.table(all, name)
  local entry = all.by_name[name]
  if not entry or entry.kind ~= "table" then error("there is no @table " .. name, 0) end
  return render_table(entry)
end

function directives.list(all, prefix)
  local lines = {}
  for _, entry in ipairs(functions(all, prefix)) do
    local sentence = (entry.text:gsub("%s*\n%s*", " ") .. " "):match("^(.-[.:;]) ") or entry.text
    table.insert(lines, ("* `%s`: %s"):format(library.signature(entry),
      fill(escape(sentence), "  ")))
  end
  return table.concat(lines, "\n")
end

function directives.codes(_, more) return codes(more:gsub(" KFR_", "\nKFR_") .. "\n") end

local function contents(text)
  local lines, open = {}, nil
  local inside = false
  for line in text:gmatch("([^\n]*)\n") do
    if line:find("^```") then inside = not inside end
    local level, title = line:match("^(###?) (.*)$")
    if inside then level = nil end
    if level == "##" then
      open = ("* [%s](#%s)"):format(title, M.anchor(title))
      table.insert(lines, open)
    elseif level == "###" then
      local short = title:match("^[%w_.:]+[.:]([%w_]+)%(") or title
      open = ("%s[%s](#%s)"):format(open:find("#.*#") and ", " or ": ", short, M.anchor(title))
      lines[#lines] = lines[#lines] .. open
      open = lines[#lines]
    end
  end
  for i, line in ipairs(lines) do lines[i] = fill(line, "  ") end
  return table.concat(lines, "\n")
end

-- The chapters of the template; those that need what is not there are left out.
local function chapters(all, template)
  local out, chapter, wanted = {}, {}, true
  for line in (template .. "## \n"):gmatch("([^\n]*)\n") do
    local prefix = line:match("^{{when (%S+)}}$")
    if line:find("^## ") then
      if wanted then table.move(chapter, 1, #chapter, #out + 1, out) end
      chapter, wanted = { line }, true
    elseif prefix then
      wanted = #functions(all, prefix) > 0
    else
      table.insert(chapter, line)
    end
  end
  return table.concat(out, "\n") .. "\n"
end

function M.text()
  local all = library.read()
  local template = shell.read("spec/reference/template.md")
  all.placed = {}
  for name in template:gmatch("{{function (%S+)}}") do all.placed[name] = true end
  local text = chapters(all, template)
  text = text:gsub("{{(%a+) ([^}]*)}}", function(directive, what)
    return (directives[directive] or error("what is {{" .. directive .. "}}?", 0))(all, what)
  end)
  local first, last = text:find("{{contents}}", 1, true)
  return text:sub(1, first - 1) .. contents(text:sub(last + 1)) .. text:sub(last + 1)
end

return M
