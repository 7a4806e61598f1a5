-- SPDX-License-Identifier: MIT
-- lua/README.md is what the docstrings give, names all that there is and nothing else, and
-- its examples do what they show.
local lu = require("luaunit")

local core = require("keyferry.core")
local examples = require("reference.examples")
local keyferry = require("keyferry")
local library = require("reference.library")
local render = require("reference.render")
local shell = require("support.shell")

local all = library.read()

local function sorted(set)
  local list = {}
  for name in pairs(set) do table.insert(list, name) end
  table.sort(list)
  return list
end

local function set_of(list)
  local set = {}
  for _, name in ipairs(list) do set[name] = true end
  return set
end

-- Documented functions of a prefix, without it.
local function documented(prefix)
  local set = {}
  for name, entry in pairs(all.by_name) do
    local rest = entry.kind == "function" and name:sub(1, #prefix) == prefix
      and name:sub(#prefix + 1)
    if rest and not rest:find("[.:]") then set[rest] = true end
  end
  return set
end

local function names_of(fields)
  local set = {}
  for _, field in ipairs(fields) do set[field.name] = true end
  return set
end

local function functions_in(methods)
  local set = {}
  for name, value in pairs(methods) do
    if type(value) == "function" and name:sub(1, 2) ~= "__" then set[name] = true end
  end
  return set
end

local TestReference = {}

function TestReference.test_it_is_what_the_docstrings_give()
  lu.assertTrue(shell.read("lua/README.md") == render.text(),
    "lua/README.md is not what the docstrings give: run `make reference`, and look at what "
    .. "`git diff lua/README.md` shows")
end

-- A link that leads nowhere.
function TestReference.test_every_link_has_its_heading()
  local text = shell.read("lua/README.md")
  local headings, count = {}, 0
  for title in ("\n" .. text):gmatch("\n##+ ([^\n]*)") do
    local anchor = render.anchor(title)
    lu.assertNil(headings[anchor], anchor .. " is there twice")
    headings[anchor] = true
  end
  for anchor in text:gmatch("%]%(#([^)]+)%)") do
    count = count + 1
    lu.assertTrue(headings[anchor] or false, anchor)
  end
  lu.assertTrue(count > 200)
end

-- Functions that are documented are in the text, too, once.
function TestReference.test_every_documented_function_is_printed()
  local text = shell.read("lua/README.md")
  for _, entry in ipairs(all.list) do
    if entry.kind == "function" and not entry.public:find("^core%.") then
      local _, count = text:gsub("\n### " .. entry.public:gsub("%p", "%%%0") .. "%(", "")
      lu.assertEquals(count, 1, entry.public)
    end
  end
end

function TestReference.test_keyferry_is_documented_name_by_name()
  local there = {}
  for name, value in pairs(keyferry) do
    if type(value) == "function" then there[name] = true end
  end
  lu.assertEquals(sorted(documented("keyferry.")), sorted(there))
  lu.assertEquals(sorted(documented("testing.")),
    sorted(functions_in(require("keyferry.testing"))))
  for name, value in pairs(keyferry) do
    if type(value) ~= "function" then
      lu.assertStrContains(shell.read("spec/reference/template.md"), "`keyferry." .. name .. "`")
    end
  end
end

-- The methods of a kind of userdata: its metatable is in the registry under its name.
local function methods_of(kind)
  local meta = debug.getregistry()["keyferry." .. kind]
  local index = meta.__index
  if type(index) == "function" then
    local _, methods = debug.getupvalue(index, 1)
    return methods
  end
  return index
end

function TestReference.test_userdata_is_documented_method_by_method()
  local count = 0
  for name, meta in pairs(debug.getregistry()) do
    local kind = type(name) == "string" and type(meta) == "table" and meta.__name == name
      and name:match("^keyferry%.(%l+)$")
    if kind and meta.__index then
      local known = documented(kind .. ":")
      if next(known) then
        count = count + 1
        lu.assertEquals(sorted(known), sorted(functions_in(methods_of(kind))), name)
      else -- what the library keeps to itself
        lu.assertTrue(kind == "lock" or kind == "held", name .. " is not documented")
      end
    end
  end
  lu.assertTrue(count >= 7, count)
end

-- The methods of a value that lives in a class of its own.
local function class_of(value)
  return getmetatable(value).__index
end

local classes = {
  hsm = { file = "lua/keyferry/hsm.lua", class = "Hsm",
    methods = function() return require("keyferry.hsm") end },
  partition = { file = "lua/keyferry/partition.lua", class = "Partition",
    more = "lua/keyferry/authentication.lua",
    methods = function() return require("keyferry.partition") end },
  plan = { file = "lua/keyferry/plan.lua", class = "Plan",
    methods = function() return require("keyferry.plan") end },
  ctx = { file = "lua/keyferry/shell/context.lua", class = "Context",
    methods = function() return class_of(require("keyferry.shell.context").new({}, {}, {})) end },
  scene = { file = "lua/keyferry/testing.lua", class = "Scene",
    methods = function()
      local scene <close> = require("keyferry.testing").scene({})
      return class_of(scene)
    end },
}

-- A method is documented: for readers, or with @local for those who read the source.
function TestReference.test_classes_are_documented_method_by_method()
  local docstrings = require("reference.docstrings")
  for noun, class in pairs(classes) do
    local known = documented(noun .. ":")
    for _, entry in ipairs(docstrings.read(class.file)) do
      local name = entry.kind == "function" and entry.name:match("^" .. class.class .. "[.:](.+)$")
      if name and (entry.is_local or name == "new") then known[name] = true end
    end
    for _, entry in ipairs(class.more and docstrings.read(class.more) or {}) do
      if entry.is_local then known[entry.name:match("[.:](.+)$")] = true end
    end
    lu.assertEquals(sorted(known), sorted(functions_in(class.methods())), noun)
  end
end

-- A local that a function, or one that it calls, can see.
local function upvalue(f, wanted, depth)
  for i = 1, 60 do
    local name, value = debug.getupvalue(f, i)
    if name == wanted then return value end
    if type(value) == "function" and depth > 0 then
      local found = upvalue(value, wanted, depth - 1)
      if found then return found end
    end
  end
end

-- The options that a parameter's text has: in front of a colon when it is a list, else all
-- names in backticks.
local function options_in(text)
  local known, is_list = {}, false
  for item in text:gmatch("\n%s*%* ([^\n]*)") do
    is_list = true
    local names = item:match("^([`%w_, ]+):") or error("which option is it? " .. item)
    for name in names:gmatch("`([%w_]+)`") do known[name] = true end
  end
  for name in text:gmatch(is_list and "%z" or "`([%w_]+)`") do known[name] = true end
  return known
end

function TestReference.test_options_are_those_that_are_taken()
  local session_methods = methods_of("session")
  for _, case in ipairs {
    { "keyferry.backup", 1, set_of(require("keyferry.backup").OPTIONS) },
    { "keyferry.verify", 1, set_of(require("keyferry.verify").OPTIONS) },
    { "session:open", 2, upvalue(session_methods.seal, "fields", 2) },
    { "plan:run", 1, upvalue(require("keyferry.plan").run, "run_hooks", 2) },
  } do
    local name, param, taken = table.unpack(case)
    lu.assertIsTable(taken, name .. ": the names that it takes")
    lu.assertEquals(sorted(options_in(all.by_name[name].params[param].text)), sorted(taken), name)
  end
end

-- What the prompt offers between the braces is what is documented.
function TestReference.test_the_prompt_offers_the_options_that_are_documented()
  local offered = require("keyferry.shell.completion.lua").FIELDS
  for option, name in pairs { backup = "keyferry.backup", configure = "keyferry.configure",
    create_hsm = "keyferry.create_hsm", create_partition = "hsm:create_partition",
    error = "keyferry.error" } do
    local known = options_in(all.by_name[name].params[1].text)
    known.rv = nil -- it comes of itself
    lu.assertEquals(sorted(set_of(offered[option])), sorted(known), name)
  end
end

-- The core is for those who change the library: its functions are told where they are defined.
function TestReference.test_the_core_is_documented_function_by_function()
  local docstrings = require("reference.docstrings")
  local known, there = {}, {}
  for _, path in ipairs(shell.lines("ls c/lua/*.c")) do
    for _, entry in ipairs(docstrings.read(path)) do
      if entry.kind == "function" and not entry.name:find(":", 1, true) then
        known[entry.name] = true
      end
    end
  end
  for name, value in pairs(core) do
    if type(value) == "function" then there[name] = true end
  end
  for _, room in ipairs { "file", "share", "softhsm", "stream", "terminal" } do
    for name in pairs(core[room]) do there[room .. "." .. name] = true end
  end
  known.editor = nil -- the program's alone
  lu.assertEquals(sorted(known), sorted(there))
end

-- Every code of ours that is used is in the table of codes.
function TestReference.test_codes_are_those_there_are()
  local text = shell.read("lua/README.md")
  for _, path in ipairs(shell.lines("find lua c scripts -name '*.lua' -o -name '*.[ch]'")) do
    for code in shell.read(path):gmatch("\"(KFR_[%u_]+)\"") do
      if code ~= "KFR_OK" then
        lu.assertTrue(text:find(("\n| `%s` | "):format(code), 1, true) ~= nil,
          ("%s, of %s, is not in the table of codes"):format(code, path))
      end
    end
  end
end

local TestReferenceFields = {}

local function assert_fields(value, noun)
  local known = names_of(all.by_name[noun].fields)
  for name in pairs(value) do
    lu.assertTrue(known[name] or false, ("%s.%s is not documented"):format(noun, name))
  end
  for _, field in ipairs(all.by_name[noun].fields) do
    if not field.optional and noun ~= "ctx" then
      lu.assertNotNil(value[field.name], ("%s.%s is not there"):format(noun, field.name))
    end
  end
end

-- A value has the fields that are documented, and those that are not optional are there.
function TestReferenceFields.test_fields_are_those_there_are()
  local result, report, plan
  examples.inside(function(env)
    assert_fields(env.hsm, "hsm")
    assert_fields(env.partition, "partition")
    assert_fields(env.partition.token, "token")
    assert_fields(select(2, env.session:object(999999)), "err")
    plan = keyferry.plan { source = env.session, target = env.target, mode = "add" }
    assert_fields(plan, "plan")
    assert_fields(plan.items[1], "item")
    report = keyferry.backup { source = env.session, target = env.target, mode = "replace",
      verify = true, on_result = function(one) result = one end }
    assert_fields(report, "report")
    assert_fields(result, "result")
    plan = keyferry.plan { source = env.session, target = env.target, mode = "add" }
    assert_fields(assert(plan:run()), "report")
    assert_fields(plan, "plan")
    assert_fields(plan.items[1], "item")
  end)
  local context = require("keyferry.shell.context").new({ name = "x" }, {}, { json = false })
  assert_fields(context, "ctx")
  lu.assertEquals(core.version, keyferry.version)
end

local TestReferenceExamples = {}

for _, example in ipairs(examples.blocks("lua/README.md")) do
  TestReferenceExamples[("test_line_%d_does_what_it_shows"):format(example.line)] = function()
    lu.assertEquals(examples.run(example, "lua/README.md"), example.expected)
  end
end

-- Something of each kind is shown.
function TestReferenceExamples.test_each_noun_has_an_example()
  local chapter, shown = nil, {}
  for line in shell.read("lua/README.md"):gmatch("([^\n]*)\n") do
    chapter = line:match("^## (.*)$") or chapter
    if line == "```lua" then shown[chapter] = true end
  end
  for _, noun in ipairs { "Errors", "keyferry", "hsm", "partition", "session", "object", "secret",
    "domain", "sealed", "The backup", "plan", "endpoint", "module", "testing", "ctx" } do
    lu.assertTrue(shown[noun] or false, noun)
  end
end

return { TestReference = TestReference, TestReferenceFields = TestReferenceFields,
  TestReferenceExamples = TestReferenceExamples }
