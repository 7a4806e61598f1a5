-- SPDX-License-Identifier: MIT
-- scripts/README.md is true: its examples are run in order, in a fresh home, and give what it
-- shows (support/guide.lua says how); and it leaves nothing out.
local lu = require("luaunit")
local build = require("support.build")
local context = require("keyferry.shell.context")
local guide = require("support.guide")
local options = require("keyferry.shell.options")
local shell = require("support.shell")

local PATH = "scripts/README.md"

local ANSWERS = { ["First half"] = "user-", ["Second half"] = "pin" }

-- The library as `make install-lua` gives it to a plain lua5.4.
local ENV = {
  LUA_PATH = ("%s/lua/?.lua;%s/lua/?/init.lua;;"):format(build.root, build.root),
  LUA_CPATH = build.dir .. "/lua/?.so;;",
}

local TestGuide = {}

function TestGuide.test_every_example_does_what_it_shows()
  lu.assertTrue(guide.run { path = PATH, answers = ANSWERS, env = ENV } > 50)
end

local function assert_in_a_table(text, what)
  local found = false
  for row in text:gmatch("\n|([^\n]*)") do found = found or row:find(what, 1, true) ~= nil end
  lu.assertTrue(found, what .. " is in no table of " .. PATH)
end

function TestGuide.test_every_method_of_ctx_is_there_and_no_other()
  local text = shell.read(PATH)
  local methods = getmetatable(context.new({}, {}, {}))
  for name, method in pairs(methods) do
    if type(method) == "function" then assert_in_a_table(text, "`ctx:" .. name) end
  end
  for name in text:gmatch("ctx:([%w_]+)") do lu.assertNotNil(methods[name], "ctx:" .. name) end
end

function TestGuide.test_every_field_of_a_script_and_every_kind_of_option_is_there()
  local text = shell.read(PATH)
  local checked = shell.read("lua/keyferry/shell/script.lua"):match("local FIELDS = (%b{})")
  for name in checked:gmatch('{ "(%w+)"') do assert_in_a_table(text, " `" .. name .. "` |") end
  for kind in pairs(options.KINDS) do assert_in_a_table(text, ('"%s"'):format(kind)) end
  local used = shell.read("lua/keyferry/shell/options.lua")
  for name in used:gmatch("option%.(%w+)") do assert_in_a_table(text, "`" .. name .. "`") end
end

function TestGuide.test_every_example_file_is_named_and_no_other()
  local text = shell.read(PATH)
  local list = text:match("\n## Examples\n(.*)$")
  for _, path in ipairs(shell.lines("find scripts/examples -name '*.lua'")) do
    local name = path:match("[^/]*$")
    lu.assertNotNil(list:find("`" .. name .. "`", 1, true), name)
  end
  for name in list:gmatch("`([%w-]+%.lua)`") do
    lu.assertTrue(shell.exists("scripts/examples/" .. name), name)
  end
end

return { TestGuide = TestGuide }
