-- SPDX-License-Identifier: MIT
-- keyferry.option, and the commands that use it: a name means the same in all of them.
local lu = require("luaunit")

local keyferry = require("keyferry")
local options = require("keyferry.shell.options")
local shell = require("support.shell")

local STANDARD = { "partition", "tokenpar", "serial", "password", "tokensopwd", "tokenpw",
  "domain", "defaultdomain", "add", "replace", "force", "match", "class", "verify", "challenge",
  "onerror", "plan", "engine", "report", "file" }

local TestOption = {}

function TestOption.test_each_is_a_declared_option()
  for _, name in ipairs(STANDARD) do
    local option = keyferry.option(name)
    lu.assertEquals(option.name, name)
    lu.assertTrue(options.KINDS[option.kind], name)
    lu.assertStrMatches(option.help, "%u.*%.")
    lu.assertTrue(option.kind ~= "secret" or option.prompt:find(":$") ~= nil, name)
  end
end

function TestOption.test_changes_are_made_in_a_copy()
  local changed = keyferry.option("class", { help = "Mine.", required = true })
  lu.assertEquals({ changed.help, changed.required, changed.kind }, { "Mine.", true, "list" })
  table.remove(changed.choices)
  changed.kind = "flag"
  lu.assertNotEquals(keyferry.option("class").help, "Mine.")
  lu.assertEquals(keyferry.option("class").kind, "list")
  lu.assertEquals(#keyferry.option("class").choices, #changed.choices + 1)
end

function TestOption.test_one_that_there_is_not_raises_at_the_line_that_asks()
  local ok, problem = pcall(function()
    local option = keyferry.option("tokenpwd")
    return option
  end)
  lu.assertFalse(ok)
  lu.assertStrMatches(problem, ".*option_spec.lua:%d+: there is no standard option 'tokenpwd'")
end

local TestCommands = {}

function TestCommands.test_a_name_is_the_same_kind_of_thing_in_every_command()
  local known, count = {}, 0
  for _, name in ipairs(STANDARD) do known[name] = keyferry.option(name) end
  for _, path in ipairs(shell.lines("ls scripts/*/*.lua")) do
    local script = not path:find("/examples/", 1, true) and dofile(path)
    for _, option in ipairs(script and script.options or {}) do
      local like = not option.word and known[option.name]
      if like then
        count = count + 1
        for _, field in ipairs { "kind", "value", "max", "choices", "excludes", "shortcut" } do
          lu.assertEquals(option[field], like[field], path .. " -" .. option.name)
        end
      end
    end
  end
  lu.assertTrue(count > 60, count)
end

return { TestOption = TestOption, TestCommands = TestCommands }
