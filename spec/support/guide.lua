-- SPDX-License-Identifier: MIT
-- guide: a text whose examples are true, since they are run in order, by one person, in a
-- fresh home.
--
-- A block of sh has commands after "$ " and, below a command, what it writes; below one that
-- shows nothing, nothing is compared. A command ends with the N of the "Command Result : N"
-- that it shows, else with 0. A block "terminal" is typed at one; a line after "keyferry:> " is
-- typed at the prompt. A block of lua is the file that its first line names, "-- name.lua",
-- from there on. Other blocks are for reading.
--
--   guide.check("README.md", { dir = dir, least = 20, answers = { [QUESTION] = "typed" } })
local lu = require("luaunit")
local build = require("support.build")
local process = require("support.process")
local shell = require("support.shell")
local tmp = require("support.tmp")

local M = {}

-- { { kind = "sh", lines = {} }, ... }
function M.blocks(path)
  local list, block = {}, nil
  for line in assert(shell.read(path)):gmatch("([^\n]*)\n") do
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

-- { { command = , output = {}, terminal = bool }, ... }
local function commands(block)
  local list, continued = {}, false
  for _, line in ipairs(block.lines) do
    local command = not continued and line:match("^%$ (.*)$")
    if command then
      table.insert(list, { command = command, output = {}, terminal = block.kind == "terminal" })
    elseif continued then
      list[#list].command = list[#list].command .. "\n" .. line
    else
      table.insert(list[#list].output, line)
    end
    continued = (command or continued) and line:find("\\$") ~= nil
  end
  return list
end

-- What is to be written and run, in order.
local function collect(path)
  local list = {}
  for _, block in ipairs(M.blocks(path)) do
    local name = block.kind == "lua" and block.lines[1]:match("^%-%- (%S+%.lua)$")
    if name then
      table.insert(list, { name = name, lua = table.concat(block.lines, "\n") .. "\n" })
    elseif block.kind == "sh" or block.kind == "terminal" then
      for _, item in ipairs(commands(block)) do table.insert(list, item) end
    elseif block.kind == "lua" then
      error(("%s: a block of lua names no file: %s"):format(path, block.lines[1]))
    end
  end
  return list
end

-- What is another one every time: handles, serials, the home, times; the order of objects.
local function settled(lines, home)
  local objects, rest = {}, {}
  for _, line in ipairs(lines) do
    line = line:gsub("\r", ""):gsub("^.*\27%[K", ""):gsub("handle %d+", "handle N")
      :gsub("%(serial %x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%)", "(serial S)")
      :gsub("in %d+%.%d+ seconds", "in N seconds")
      :gsub("%f[%w/]" .. home:gsub("%p", "%%%0"), "/home/you")
    table.insert(line:find("^Object ") and objects or rest, line)
  end
  table.sort(objects)
  while rest[#rest] == "" do table.remove(rest) end
  return table.concat(objects, "\n") .. "\n" .. table.concat(rest, "\n")
end

local function environment(home, more)
  local env = { HOME = home, PATH = build.dir .. ":" .. os.getenv("PATH"),
    SOFTHSM2_CONF = "/nonexistent", XDG_CONFIG_HOME = false, XDG_DATA_HOME = false,
    KEYFERRY_HOME = false, LC_ALL = "C.UTF-8", TERM = "dumb" }
  for _, name in ipairs { "PASSWORD", "TOKENPW", "TOKENSOPWD", "DOMAIN" } do
    env["KEYFERRY_" .. name], env["KEYFERRY_" .. name .. "_FILE"] = false, false
  end
  for name, value in pairs(more or {}) do env[name] = value end
  return env
end

-- The pairs of lines that spec/demo/type.exp wants.
local function answers(lines, known)
  local list = {}
  for i, line in ipairs(lines) do
    local typed = line:match("^keyferry:> (.*)$")
    if typed then
      table.insert(list, "keyferry:\n" .. typed)
    elseif line:find("^  > ") then
      for question, answer in pairs(known) do
        if lines[i - 1]:find(question, 1, true) then
          table.insert(list, lines[i - 1]:match("^%s*(.*)$") .. "\n" .. answer)
        end
      end
    end
  end
  return table.concat(list, "\n") .. "\n"
end

-- A file is put in place when its turn comes, since a later one may take its place.
local function placing(item, i, dir)
  shell.write(("%s/file.%d"):format(dir, i), item.lua)
  return ("mkdir -p \"$(dirname %s)\" && cp file.%d %s || exit")
    :format(shell.quote(item.name), i, shell.quote(item.name))
end

-- One sh runs them all; each command's output goes to a file of its own.
local function script_of(list, dir, known)
  local text = {}
  for i, item in ipairs(list) do
    local command = item.command
    if item.lua then
      table.insert(text, placing(item, i, dir))
    elseif item.terminal then
      shell.write(dir .. "/answers." .. i, answers(item.output, known))
      command = ("expect -f %s answers.%d %s"):format(
        shell.quote(build.root .. "/spec/demo/type.exp"), i, command)
    end
    if command then -- no braces around it by themselves: export has to last
      table.insert(text, ("{ %s\n} >out.%d 2>&1; echo $? >status.%d"):format(command, i, i))
    end
  end
  return table.concat(text, "\n") .. "\n"
end

local function check(item, i, dir)
  local status = (shell.read(dir .. "/status." .. i) or ""):match("%d+")
  local out = shell.read(dir .. "/out." .. i) or ""
  local wanted = table.concat(item.output, "\n"):match("Command Result : (%d+)") or "0"
  lu.assertEquals(status, wanted, item.command .. "\n" .. out)
  if #item.output > 0 then
    local lines = {}
    for line in out:gmatch("([^\n]*)\n") do table.insert(lines, line) end
    lu.assertEquals(settled(lines, dir), settled(item.output, dir), item.command)
  end
end

-- how: dir (a fresh home), answers (what is typed at a question that has the text in it), env,
-- least (how many commands and files there are, so that none is lost to a slip in a fence).
function M.check(path, how)
  local list = collect(path)
  lu.assertTrue(#list >= how.least, ("%s has %d examples"):format(path, #list))
  local script = tmp.file(script_of(list, how.dir, how.answers or {}))
  local done = process.run { "sh", script, cwd = how.dir, env = environment(how.dir, how.env),
    timeout = 300 }
  lu.assertEquals(done.status, 0, done.err)
  for i, item in ipairs(list) do
    if not item.lua then check(item, i, how.dir) end
  end
end

return M
