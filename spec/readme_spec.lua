-- SPDX-License-Identifier: MIT
-- README.md is true: its commands are run in order, in a fresh home, and give what it shows
-- (support/guide.lua says how).
local lu = require("luaunit")
local build = require("support.build")
local guide = require("support.guide")
local process = require("support.process")
local shell = require("support.shell")

local ANSWERS = {
  ["the password for the HSM user partition"] = "userpin1",
  ['password for the partition "sa78par1" on network'] = "userpin1",
  ['password for the partition "sa78par1backup" on backup'] = "backup-1",
  ["password for the user on the backup token"] = "backup-1",
  ["password for the Security Officer of the backup token"] = "so-pin-2",
  ["the cloning domain set"] = "domain-1",
}

local TestReadme = {}

function TestReadme.test_every_command_does_what_it_shows()
  local count = guide.run { path = "README.md", answers = ANSWERS, prepare = function(dir)
    process.must { "mkdir", "-p", dir .. "/spec/demo" }
    process.must { "cp", "spec/demo/fill.lua", dir .. "/spec/demo" }
  end }
  lu.assertTrue(count > 20)
end

-- The table of options is that of the program.
function TestReadme.test_options_are_those_there_are()
  local help = process.must { build.keyferry, "help", "partition", "backup" }
  local text = shell.read("README.md")
  local count = 0
  for option, shortcut in help:gmatch("\n  %-(%w+)[^\n]-%s+%-(%w+)  ") do
    count = count + 1
    lu.assertNotNil(text:find("\n| `%-" .. option .. "[^`]*` | `%-" .. shortcut .. "` |"), option)
  end
  lu.assertEquals(count, 18)
end

return { TestReadme = TestReadme }
