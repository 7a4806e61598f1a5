-- SPDX-License-Identifier: MIT
-- guide: a text in Markdown whose examples are run in order, in a fresh home, and give what it
-- shows.
--
-- A block of sh has commands after "$ " and, below a command, what it writes; below one that
-- shows nothing, nothing is compared. A block "terminal" is typed at one. A block of lua is
-- the file that its first line names ("-- ~/.config/x.lua"). A command ends with 0, or with the
-- N of the "Command Result : N" that is shown.
local lu = require("luaunit")
local build = require("support.build")
local process = require("support.process")
local shell = require("support.shell")
local tmp = require("support.tmp")

local M = {}

local function blocks(path)
  local list, block = {}, nil
  for line in shell.read(path):gmatch("([^\n]*)\n") do
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
    KEYFERRY_HOME = false, LC_ALL = "C.UTF-8", TERM = "dumb" }
  for _, name in ipairs { "PASSWORD", "TOKENPW", "TOKENSOPWD", "DOMAIN" } do
    env["KEYFERRY_" .. name], env["KEYFERRY_" .. name .. "_FILE"] = false, false
  end
  return env
end

-- The pairs of lines that spec/demo/type.exp wants; `known` answers by a part of the question.
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

local function typed_at_terminal(item, i, dir, known)
  shell.write(dir .. "/answers." .. i, answers(item.output, known))
  return ("expect -f %s answers.%d %s"):format(
    shell.quote(build.root .. "/spec/demo/type.exp"), i, item.command)
end

-- A file of the guide, put where its first line says when its turn comes.
local function written(item, i, dir)
  local place = shell.quote(dir .. "/" .. item.name:gsub("^~/", ""))
  shell.write(("%s/lua.%d"):format(dir, i), item.lua)
  return ("mkdir -p \"$(dirname %s)\" && cp lua.%d %s"):format(place, i, place)
end

-- One sh runs them all, as one person would; each command's output goes to a file of its own.
local function script_of(list, dir, known)
  local text = {}
  for i, item in ipairs(list) do
    local command = item.lua and written(item, i, dir)
      or item.terminal and typed_at_terminal(item, i, dir, known) or item.command
    -- No braces around it by themselves: export has to last.
    table.insert(text, ("{ %s\n} >out.%d 2>&1; echo $? >status.%d"):format(command, i, i))
  end
  return table.concat(text, "\n") .. "\n"
end

local function file_of(block, path)
  local name = block.lines[1]:match("^%-%- (%S+%.lua)$")
  assert(name, ("%s: a block of lua begins with a comment that names its file, not with: %s")
    :format(path, block.lines[1]))
  return { lua = table.concat(block.lines, "\n") .. "\n", name = name, output = {} }
end

local function collect(path)
  local list = {}
  for _, block in ipairs(blocks(path)) do
    if block.kind == "lua" then
      table.insert(list, file_of(block, path))
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
  local wanted = shown:match(".*Command Result : (%d+)") or "0" -- the last one, its own
  local what = item.command or item.name
  lu.assertEquals(status, wanted, what .. "\n" .. out)
  if #item.output > 0 then
    local lines = {}
    for line in out:gmatch("([^\n]*)\n") do table.insert(lines, line) end
    lu.assertEquals(settled(lines, dir), settled(item.output, dir), what)
  end
end

-- Runs the examples of a text and checks what they show.
--   guide.run { path = "README.md", answers = { ["part of a question"] = "answer" },
--     env = { NAME = value }, prepare = function(dir) end } -> how many there are
function M.run(how)
  local dir = tmp.dir("guide")
  if how.prepare then how.prepare(dir) end
  local list = collect(how.path)
  local env = environment(dir)
  for name, value in pairs(how.env or {}) do env[name] = value end
  local script = tmp.file(script_of(list, dir, how.answers or {}))
  local done = process.run { "sh", script, cwd = dir, env = env, timeout = 300 }
  lu.assertEquals(done.status, 0, done.err)
  for i, item in ipairs(list) do check(item, i, dir) end
  return #list
end

return M
