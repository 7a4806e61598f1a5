-- SPDX-License-Identifier: MIT
-- What holds for every example, whichever policy it is.
local cjson = require("cjson")
local lu = require("luaunit")

local build = require("support.build")
local example = require("examples.example")
local process = require("support.process")
local scene = require("flow.scene")
local shell = require("support.shell")

-- How each is called, besides -partition, -tokenpar and -serial (false: without that one).
local WORDS = {
  expire = { "-remove", "-force" }, labels = { "-labels", "*" }, nightly = {},
  restricted = { "-without", "sign" },
  gather = { "-partitions", "payments", partition = false, tokenpar = false },
  mirror = { "-serials", scene.serial, serial = false }, ["old-domains"] = {},
  renamed = { "-tag", "nov/" }, rotate = { "-keep", "3", "-force" }, ["signing-keys"] = {},
  ["strict-ids"] = {}, ["two-people"] = {},
}

local function names()
  local list = {}
  for _, path in ipairs(shell.lines("ls scripts/examples")) do
    list[#list + 1] = assert(path:match("^([%w-]+)%.lua$"), path)
  end
  return list
end

local function words_for(s, name)
  local words = { timeout = 15 }
  for key, value in pairs(assert(WORDS[name], name .. " is not in the list")) do
    words[key] = value
  end
  if name == "nightly" then
    words[1], words[2] = "-report", s.home .. "/report"
  end
  return words
end

local Test = {}

function Test.test_each_has_a_spec_and_says_why_and_how_before_its_code()
  for _, name in ipairs(names()) do
    local text = shell.read(example.path(name))
    local head = text:match("^(.-)\n[^-]")
    lu.assertStrContains(head, "-- Why: ", false, name)
    lu.assertStrContains(head, "keyferry run scripts/examples/" .. name .. ".lua -", false, name)
    lu.assertStrContains(head:gsub("\n%-%-", ""),
      ("~/.config/keyferry/scripts/backup/%s.lua"):format(name), false, name)
    lu.assertTrue(shell.exists(("spec/examples/%s_spec.lua"):format((name:gsub("-", "_")))), name)
  end
end

function Test.test_a_copy_is_a_command_as_it_is()
  local s = scene.new()
  local own = s.home .. "/config/keyferry/scripts/backup"
  process.must { "mkdir", "-p", "-m", "700", own }
  process.must { "sh", "-c", 'cp "$1"/* "$2"', "sh", build.root .. "/scripts/examples", own }
  for _, name in ipairs(names()) do
    local done = s:run { "backup", name, "-help" }
    lu.assertEquals(done.status, 0, done.out .. done.err)
    lu.assertStrContains(done.out, "backup " .. name)
  end
  lu.assertEquals(s:run({ "backup", "rotate" }).status, 2)
end

-- Under cron, where nobody answers: no secret, so nothing is done, and the status says why.
function Test.test_without_secrets_and_a_terminal_each_ends_and_changes_nothing()
  local s = example.scene()
  local before = s:snapshot()
  for _, name in ipairs(names()) do
    local how = words_for(s, name)
    how.env, how.globals = {}, { "--json" }
    local done = example.run(s, name, how)
    lu.assertEquals(done.status, 3, name .. done.out .. done.err)
    local last
    for line in done.out:gmatch("[^\n]+") do last = cjson.decode(line) end
    lu.assertEquals({ last.event, last.exit, last.command }, { "result", 3, "backup " .. name })
  end
  lu.assertEquals(s:changes(before), {})
end

function Test.test_where_there_is_no_such_partition_each_says_so()
  local s = example.scene()
  local before = s:snapshot()
  for _, name in ipairs(names()) do
    local how = words_for(s, name)
    how.partition = how.partition == nil and "nothing" or how.partition
    how.env = scene.secrets()
    if name == "gather" then how[2], how.env.KEYFERRY_PASSWORD_NOTHING = "nothing", "1234" end
    local done = example.run(s, name, how)
    lu.assertEquals(done.status, 6, name .. done.out .. done.err)
  end
  lu.assertEquals(s:changes(before), {})
end

return { TestEvery = Test }
