-- SPDX-License-Identifier: MIT
-- terminal: a program at a real terminal (a tmux of its own), typed at as people type.
--
--   local t <close> = terminal.start { "keyferry", "partition", "list", env = ..., cwd = ... }
--   t:wait_for("password:")  t:type("secret")  t:key("BSpace", "C-u", "C-c", "Enter")
--   local done = t:finish()  -- status, output, screen, restored (the terminal's settings)
local process = require("support.process")
local shell = require("support.shell")
local tmp = require("support.tmp")

local M = {}
local Terminal = {}
Terminal.__index = Terminal

-- An operating system command that no terminal knows: it is in the bytes, not on screen.
local END = "\27]9999;end\7"

-- The shell around the program outlives Ctrl-C and notes how it ended and how it left the
-- terminal. A death by signal N is status 128 + N, as in every shell.
local around = [[
trap : INT QUIT
cd %s || exit
stty -g >before
tmux -S tmux wait-for go
( cd %s && exec env -u TMUX -u TMUX_PANE %s %s )
echo $? >status.new
stty -g >after
printf '\033]9999;end\007'
mv status.new status
tmux -S tmux wait-for stop
]]

function Terminal:tmux(...)
  local command = "env -u TMUX LC_ALL=C.UTF-8 tmux -u -f /dev/null -S " ..
    shell.quote(self.dir .. "/tmux") .. " " .. shell.words { ... }
  local pipe <close> = assert(io.popen(command .. " 2>>" .. shell.quote(self.dir .. "/err")))
  return pipe:read("a")
end

function M.start(command)
  local self = setmetatable({ dir = tmp.dir("terminal"), seen = 1 }, Terminal)
  shell.write(self.dir .. "/around", around:format(shell.quote(self.dir),
    shell.quote(command.cwd or shell.absolute(".")), process.environment(command.env),
    shell.words(command)))
  self:tmux("new-session", "-d", "-x", command.width or 120, "-y", command.height or 40,
    "sh " .. shell.quote(self.dir .. "/around"))
  self:tmux("pipe-pane", "-o", "exec cat >" .. shell.quote(self.dir .. "/output"))
  self.tty = self:tmux("display-message", "-p", "#{pane_tty}"):match("%S+")
  assert(self.tty, "tmux: " .. (shell.read(self.dir .. "/err") or ""))
  assert(shell.await(30, function() return shell.exists(self.dir .. "/output") end))
  self:tmux("wait-for", "-S", "go")
  return self
end

-- All that was written to the terminal, as it was; and without control sequences.
function Terminal:output()
  return ((shell.read(self.dir .. "/output") or ""):gsub(END, "", 1))
end

function Terminal:text()
  return (self:output():gsub("\27%[[%d;?]*[%a@]", ""):gsub("\27[%(%)]%w", "")
    :gsub("\27[=>]", ""):gsub("\r", ""))
end

-- What is on the screen now, lines scrolled away included.
function Terminal:screen()
  return self:tmux("capture-pane", "-p", "-J", "-S", "-")
end

-- Until text is written after what was waited for last; raises when it is not.
function Terminal:wait_for(text, seconds)
  local found = shell.await(seconds or 30, function()
    local _, last = self:text():find(text, self.seen, true)
    return last
  end)
  if not found then
    error(("never wrote %q; the screen:\n%s"):format(text, self:screen()), 2)
  end
  self.seen = found + 1
end

function Terminal:type(text)
  self:tmux("send-keys", "-l", "--", text)
end

-- Names as tmux has them: Enter, BSpace, Tab, Up, Escape, C-c, C-u, C-d.
function Terminal:key(...)
  self:tmux("send-keys", ...)
end

function Terminal:line(text)
  self:type(text)
  self:key("Enter")
end

-- Whether the terminal has that setting now: "echo", "icanon", "isig".
function Terminal:has(setting)
  local settings = table.concat(shell.lines("stty -a -F " .. shell.quote(self.tty)), " ")
  return (" " .. settings .. " "):find("[ ;]" .. setting .. "[ ;]") ~= nil
end

-- Until the setting is as wanted: a program that asks for a secret turns "echo" off.
function Terminal:wait_until(setting, wanted, seconds)
  local so = shell.await(seconds or 30, function() return self:has(setting) == wanted end)
  if not so then error(("%s is not %s"):format(setting, wanted), 2) end
end

function Terminal:finish(seconds)
  local status = shell.await(seconds or 60, function()
    local whole = (shell.read(self.dir .. "/output") or ""):find(END, 1, true)
    return whole and tonumber(shell.read(self.dir .. "/status"))
  end)
  if not status then error("did not end; the screen:\n" .. self:screen(), 2) end
  local before, after = shell.read(self.dir .. "/before"), shell.read(self.dir .. "/after")
  local done = {
    status = status,
    output = self:output(),
    text = self:text(),
    screen = self:screen(),
    restored = before == after and before ~= "",
  }
  self:close()
  return done
end

function Terminal:close()
  if not self.closed then
    self.closed = true
    self:tmux("kill-server")
  end
end

Terminal.__close = Terminal.close
Terminal.__gc = Terminal.close

return M
