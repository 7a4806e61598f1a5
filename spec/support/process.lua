-- SPDX-License-Identifier: MIT
-- process: other programs, run without a terminal and never for ever.
--
-- A command is { "program", "argument", ..., env = { NAME = "value" or false to unset },
-- input = "standard input", cwd = DIR, timeout = SECONDS (60) }; its result is
-- { status = N or nil, signal = N or nil, timed_out = bool, out = "", err = "" }.
local shell = require("support.shell")
local tmp = require("support.tmp")

local M = {}

local function environment(env)
  local unset, set = {}, {}
  for name, value in pairs(env or {}) do
    if value then
      table.insert(set, name .. "=" .. tostring(value))
    else
      table.insert(unset, "-u")
      table.insert(unset, name)
    end
  end
  table.move(set, 1, #set, #unset + 1, unset)
  return shell.words(unset)
end

M.environment = environment

-- setsid: without a controlling terminal, as under cron. timeout passes a death by signal
-- on by dying of it, and exec lets Lua see it. The program's own pid goes to dir/pid.
local starter = [[pid=$1; shift; echo $$ >"$pid"; exec "$@"]]

local function line(command, dir)
  local input = "/dev/null"
  if command.input then
    input = dir .. "/in"
    shell.write(input, command.input)
  end
  return table.concat({
    "cd", shell.quote(command.cwd or "."), "&& exec timeout -k 5", command.timeout or 60,
    "setsid env", environment(command.env), "sh -c", shell.quote(starter), "sh",
    shell.quote(dir .. "/pid"), shell.words(command),
    "<" .. shell.quote(input), ">" .. shell.quote(dir .. "/out"),
    "2>" .. shell.quote(dir .. "/err"),
  }, " ")
end

local function result(dir, how, code)
  return {
    status = how == "exit" and code or nil,
    signal = how == "signal" and code or nil,
    timed_out = how == "exit" and code == 124,
    out = shell.read(dir .. "/out") or "",
    err = shell.read(dir .. "/err") or "",
  }
end

function M.run(command)
  local dir = tmp.dir("run")
  local _, how, code = os.execute(line(command, dir))
  return result(dir, how, code)
end

-- The same, and the program must have exited with 0; gives its standard output.
function M.must(command)
  local done = M.run(command)
  if done.status ~= 0 then
    error(("%s: status %s, signal %s\n%s%s"):format(table.concat(command, " "), done.status,
      done.signal, done.out, done.err), 2)
  end
  return done.out
end

local Running = {}
Running.__index = Running

-- Runs beside us. :signal("INT"), :output(), :wait_for(text), :wait() -> result.
function M.start(command)
  local dir = tmp.dir("start")
  local self = setmetatable({ dir = dir, pipe = assert(io.popen(line(command, dir))) }, Running)
  self.pid = shell.await(10, function()
    return (shell.read(dir .. "/pid") or ""):match("^(%d+)\n")
  end)
  assert(self.pid, "did not start")
  return self
end

function Running:signal(name)
  return os.execute(("kill -%s %s 2>%s/kill"):format(name, self.pid, self.dir)) == true
end

function Running:output()
  return shell.read(self.dir .. "/out") or "", shell.read(self.dir .. "/err") or ""
end

-- Until text is on standard output or standard error.
function Running:wait_for(text, seconds)
  local seen = shell.await(seconds or 10, function()
    local out, err = self:output()
    return out:find(text, 1, true) or err:find(text, 1, true)
  end)
  if not seen then error(("never said %q, but: %s%s"):format(text, self:output()), 2) end
end

function Running:wait()
  if not self.done then
    local _, how, code = self.pipe:close()
    self.done = result(self.dir, how, code)
  end
  return self.done
end

function Running:__close()
  if not self.done then self:signal("KILL") end
  self:wait()
end

return M
