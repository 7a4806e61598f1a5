-- SPDX-License-Identifier: MIT
-- README.md is true: its commands are run in order, in a fresh home, and give what it shows.
-- A block of sh has commands after "$ " and, below a command, what it writes; below one that
-- shows nothing, nothing is compared. A block "terminal" is typed at one. A block of lua is
-- the file that its first line names.
local lu = require("luaunit")
local build = require("support.build")
local process = require("support.process")
local shell = require("support.shell")
local tmp = require("support.tmp")

local ANSWERS = {
  ["the password for the HSM user partition"] = "userpin1",
  ["password for the user on the backup token"] = "backup-1",
  ["password for the Security Officer of the backup token"] = "so-pin-2",
  ["the cloning domain set"] = "domain-1",
}

local function blocks()
  local list, block = {}, nil
  for line in shell.read("README.md"):gmatch("([^\n]*)\n") do
    local kind = line:match("^```(%w*)$")
    if kind and block then
      block = nil
    elseif kind then
      block = { kind = kind, lines = {} }
      table.insert(list, block)
    elseif block then
      table.insert(block.lines, line)
    end
  end
  return list
end

-- { { command = , output = {} }, ... }
local function commands(block)
  local list, continued = {}, false
  for _, line in ipairs(block.lines) do
    local command = not continued and line:match("^%$ (.*)$")
    if command then
      table.insert(list, { command = command, output = {} })
    elseif continued then
      list[#list].command = list[#list].command .. "\n" .. line
    else
      table.insert(list[#list].output, line)
    end
    continued = (command or continued) and line:find("\\$") ~= nil
  end
  return list
end

-- What is another one every time: handles, serials, the home; the order of objects.
local function settled(lines, home)
  local objects, rest = {}, {}
  for _, line in ipairs(lines) do
    line = line:gsub("\r", ""):gsub("^.*\27%[K", ""):gsub("handle %d+", "handle N")
      :gsub("%(serial %x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%)", "(serial S)")
      :gsub("%f[%w/]" .. home:gsub("%p", "%%%0"), "/home/you")
    table.insert(line:find("^Object ") and objects or rest, line)
  end
  table.sort(objects)
  while rest[#rest] == "" do table.remove(rest) end
  return table.concat(objects, "\n") .. "\n" .. table.concat(rest, "\n")
end

local function environment(home)
  local env = { HOME = home, PATH = build.dir .. ":" .. os.getenv("PATH"),
    SOFTHSM2_CONF = "/nonexistent", XDG_CONFIG_HOME = false, XDG_DATA_HOME = false,
    KEYFERRY_HOME = false, LC_ALL = "C.UTF-8" }
  for _, name in ipairs { "PASSWORD", "TOKENPW", "TOKENSOPWD", "DOMAIN" } do
    env["KEYFERRY_" .. name], env["KEYFERRY_" .. name .. "_FILE"] = false, false
  end
  return env
end

-- The pairs of lines that spec/demo/type.exp wants.
local function answers(lines)
  local list = {}
  for i, line in ipairs(lines) do
    if line:find("^  > ") then
      for question, answer in pairs(ANSWERS) do
        if lines[i - 1]:find(question, 1, true) then
          table.insert(list, lines[i - 1]:match("^%s*(.*)$") .. "\n" .. answer)
        end
      end
    end
  end
  return table.concat(list, "\n") .. "\n"
end

-- One sh runs them all, as one person would; each command's output goes to a file of its own.
local function script_of(list, dir)
  local text = {}
  for i, item in ipairs(list) do
    if item.lua then
      shell.write(dir .. "/" .. item.name, item.lua)
    else
      local command = item.command
      if item.terminal then
        shell.write(dir .. "/answers", answers(item.output))
        command = ("expect -f %s answers %s"):format(
          shell.quote(build.root .. "/spec/demo/type.exp"), command)
      end
      -- No braces around it by themselves: export has to last.
      table.insert(text, ("{ %s\n} >out.%d 2>&1; echo $? >status.%d"):format(command, i, i))
    end
  end
  return table.concat(text, "\n") .. "\n"
end

local function collect()
  local list = {}
  for _, block in ipairs(blocks()) do
    if block.kind == "lua" then
      table.insert(list, { lua = table.concat(block.lines, "\n") .. "\n",
        name = block.lines[1]:match("^%-%- (%S+%.lua)$") })
    elseif block.kind == "sh" or block.kind == "terminal" then
      for _, item in ipairs(commands(block)) do
        item.terminal = block.kind == "terminal"
        table.insert(list, item)
      end
    end
  end
  return list
end

local function check(item, i, dir)
  local status = (shell.read(dir .. "/status." .. i) or ""):match("%d+")
  local out = shell.read(dir .. "/out." .. i) or ""
  local shown = table.concat(item.output, "\n")
  local wanted = shown:match("Command Result : (%d+)") or "0"
  lu.assertEquals(status, wanted, item.command .. "\n" .. out)
  if #item.output > 0 then
    local lines = {}
    for line in out:gmatch("([^\n]*)\n") do table.insert(lines, line) end
    lu.assertEquals(settled(lines, dir), settled(item.output, dir), item.command)
  end
end

local TestReadme = {}

function TestReadme.test_every_command_does_what_it_shows()
  local dir = tmp.dir("readme")
  process.must { "mkdir", "-p", dir .. "/spec/demo" }
  process.must { "cp", "spec/demo/fill.lua", dir .. "/spec/demo" }
  local list = collect()
  lu.assertTrue(#list > 20)
  local script = tmp.file(script_of(list, dir))
  local done = process.run { "sh", script, cwd = dir, env = environment(dir), timeout = 300 }
  lu.assertEquals(done.status, 0, done.err)
  for i, item in ipairs(list) do
    if not item.lua then check(item, i, dir) end
  end
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
  lu.assertEquals(count, 17)
end

return { TestReadme = TestReadme }
