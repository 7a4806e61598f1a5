-- SPDX-License-Identifier: MIT
-- Completion in real shells: bash and zsh at a terminal, with labels that would do harm if
-- anything evaluated them. What stands on the line after Tab is read back by the shell and
-- must be the label, byte for byte.
local lu = require("luaunit")

local build = require("support.build")
local process = require("support.process")
local shell = require("support.shell")
local softhsm = require("support.softhsm")
local terminal = require("support.terminal")
local tmp = require("support.tmp")

-- Each begins with another letter, so that one letter and Tab are enough.
local HOSTILE = {
  "a$(touch PWNED)", "b`touch PWNED`", "c'quote\"both'\"", "d  two blanks\\",
  "e;touch PWNED;&|<(x)>", "f$HOME${x}\\back\\\\slash", "g!!hist!x", "h=eq:colon:=@at",
  "i~*?[a-z]{x,y}#^%", "j \195\169 \230\188\162", "k\nnew\n\nline", "l\27[31m\7\127tab\t.",
  "m\226\128\174rtl", "n\255\254bytes",
}
-- Where the first character is the one that counts: typed so, it is that.
local FIRST = { ["~tilde"] = "\\~t", ["=equals"] = "\\=e", ["#hash"] = "\\#h",
  ["$dollar"] = "\\$d", ["\"double"] = "'\"d", ["'single"] = "\"'s", ["*star"] = "'*s" }
local PLAIN = { "part 1", "part 2", "zeta" }

local PROBE = [[
return { name = "probe show", summary = "A probe.", category = "reads",
  options = {
    { name = "text", kind = "string", value = "t", complete = "partitions", help = "Any text." },
    { name = "label", kind = "label", value = "l", complete = "partitions", help = "A label." },
    { name = "password", kind = "secret", value = "p", help = "A secret." },
    { name = "add", kind = "flag", help = "Add. And more." },
    { name = "class", kind = "list", choices = { "data", "private_key" }, help = "Classes." },
    { name = "file", kind = "path", help = "A file." },
  },
  run = function(ctx) return 0 end }
]]

local function mkdir(path)
  assert(os.execute("mkdir -m 700 -p " .. shell.quote(path)))
end

-- A home with a soft HSM "vault" that has all those tokens, the two files, a script of the
-- user's own, and a folder with the program for PATH.
local function make_world()
  local home = tmp.dir("completion")
  local world = { home = home, bin = home .. "/bin", work = home .. "/work" }
  world.env = { HOME = home, XDG_CONFIG_HOME = home .. "/config", XDG_DATA_HOME = false,
    KEYFERRY_HOME = home .. "/kf", SOFTHSM2_CONF = "/nonexistent", ZDOTDIR = home,
    PATH = world.bin .. ":" .. os.getenv("PATH"), LC_ALL = "C.UTF-8", HISTFILE = false,
    ENV = false, BASH_ENV = false }
  mkdir(world.bin)
  mkdir(world.work .. "/a dir")
  mkdir(home .. "/config/keyferry/scripts/probe")
  shell.write(home .. "/config/keyferry/scripts/probe/show.lua", PROBE)
  assert(os.execute(("ln -s %s %s/keyferry"):format(shell.quote(build.keyferry), world.bin)))
  process.must { build.keyferry, "hsm", "create", "-name", "vault", "-serial", "496771",
    env = world.env }
  world.hsm = softhsm.at(home .. "/kf/hsms/vault")
  local labels = {}
  table.move(HOSTILE, 1, #HOSTILE, 1, labels)
  table.move(PLAIN, 1, #PLAIN, #labels + 1, labels)
  for label in pairs(FIRST) do table.insert(labels, label) end
  for _, label in ipairs(labels) do
    process.must { "softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin",
      "12345678", "--pin", "1234", env = world.hsm.env }
  end
  mkdir(home .. "/completions")
  for name, file in pairs { bash = "keyferry", zsh = "_keyferry" } do
    shell.write(home .. "/completions/" .. file, process.must { build.keyferry,
      "--completion", name, env = world.env })
  end
  return world
end

local the_world
local function world()
  the_world = the_world or make_world()
  return the_world
end

-- What the shell makes of the line goes to a file: a function stands before the program,
-- which completion starts all the same.
local RECORD = [[
keyferry() { printf '%s\0' "$@" >"$HOME/args.new"; mv "$HOME/args.new" "$HOME/args"; }
]]
local BASH_RC = RECORD .. [[
PS1='ready> '
bind 'set bell-style none'; bind 'set completion-query-items -1'; bind 'set page-completions off'
set -o history -o histexpand
]]
local ZSH_RC = RECORD .. [[
PS1='ready> '
fpath=(~/completions $fpath)
autoload -Uz compinit && compinit -u -D
unsetopt beep
setopt extended_glob bang_hist
]]

local Shell = {}
Shell.__index = Shell

local STARTS = {
  bash = function(w, package)
    shell.write(w.home .. "/bashrc", BASH_RC .. (package
      and 'BASH_COMPLETION_USER_DIR="$HOME/lazy"; . /usr/share/bash-completion/bash_completion\n'
      or ". ~/completions/keyferry\n"))
    return { "bash", "--noprofile", "--rcfile", w.home .. "/bashrc", "-i" }
  end,
  zsh = function(w)
    shell.write(w.home .. "/.zshrc", ZSH_RC)
    return { "zsh", "-d", "-i" }
  end,
}

local function start(name, package)
  local w = world()
  local command = STARTS[name](w, package)
  command.env, command.cwd, command.width, command.height = w.env, w.work, 200, 50
  local self = setmetatable({ terminal = terminal.start(command), world = w, name = name }, Shell)
  self.terminal:wait_for("ready> ")
  return self
end

function Shell:type(line)
  os.remove(self.world.home .. "/args")
  self.terminal:type(line)
  self.terminal:key("Tab")
end

-- The words that the shell has after Enter, without the program.
function Shell:enter()
  self.terminal:key("Enter")
  local bytes = shell.await(10, function() return shell.read(self.world.home .. "/args") end)
  assert(bytes, "nothing was run; the screen:\n" .. self.terminal:screen())
  local words = {}
  for word in bytes:gmatch("([^%z]*)%z") do table.insert(words, word) end
  return words
end

-- Types, presses Tab, types the rest, Enter.
function Shell:words(line, rest)
  self:type(line)
  if rest then self.terminal:type(rest) end
  return self:enter()
end

function Shell:close()
  self.terminal:close()
end
Shell.__close = Shell.close

local function assert_no_harm()
  lu.assertEquals(shell.lines("find " .. shell.quote(world().home) .. " -name PWNED"), {})
end

-- How one letter of a label may be typed, and what the words are then.
local STYLES = {
  { "-text %s", { "-text", "%s" } }, { "-text '%s", { "-text", "%s" } },
  { '-text "%s', { "-text", "%s" } }, { "-text=%s", { "-text=%s" } },
  { "--text='%s", { "--text=%s" } }, { '-text="%s', { "-text=%s" } },
  { "-te=%s", { "-te=%s" } },
}

local function check_labels(name, package)
  local sh <close> = start(name, package)
  for _, style in ipairs(STYLES) do
    for _, label in ipairs(HOSTILE) do
      local wanted = { "probe", "show" }
      for _, word in ipairs(style[2]) do
        table.insert(wanted, (word:gsub("%%s", function() return label end)))
      end
      if name == "zsh" and style[1]:find(" ['\"]") and not utf8.len(label) then
        wanted[#wanted] = wanted[#wanted]:sub(1, -#label) -- left alone
        lu.assertEquals(sh:words("keyferry probe show " .. style[1]:format(label:sub(1, 1)),
          style[1]:match("['\"]")), wanted, style[1])
      else
        lu.assertEquals(sh:words("keyferry probe show " .. style[1]:format(label:sub(1, 1))),
          wanted, style[1])
      end
    end
  end
  for label, typed in pairs(FIRST) do
    lu.assertEquals(sh:words("keyferry probe show -text " .. typed),
      { "probe", "show", "-text", label })
  end
  assert_no_harm()
end

local function check_words(name, package)
  local sh <close> = start(name, package)
  local cases = {
    { "keyferry prob", { "probe" } },
    { "keyferry probe sh", { "probe", "show" } },
    { "keyferry probe show -pas", { "probe", "show", "-password" } },
    { "keyferry probe show --pas", { "probe", "show", "--password" } },
    { "keyferry --qui", { "--quiet" } },
    { "keyferry --json hel", { "--json", "help" } },
    { "keyferry hsm show -name v", { "hsm", "show", "-name", "vault" } },
    { "keyferry hsm show -name=v", { "hsm", "show", "-name=vault" } },
    { "keyferry partition list -serial 4967", { "partition", "list", "-serial", "496771" } },
    { "keyferry probe show -password x", { "probe", "show", "-password", "x" } },
    { "keyferry probe show -class da", { "probe", "show", "-class", "data,private_key" }, ",pr\t" },
    { "keyferry probe show -class=da", { "probe", "show", "-class=data,private_key" }, ",pr\t" },
    { "keyferry probe show -text par", { "probe", "show", "-text", "part 2" }, "2" },
    { "keyferry probe show -text 'par", { "probe", "show", "-text", "part 2" }, "2'" },
    { "keyferry probe show -text=par", { "probe", "show", "-text=part 2" }, "2" },
    { "keyferry probe show -file a", { "probe", "show", "-file", "a dir/b" }, "b" },
    { "keyferry probe show -file=a", { "probe", "show", "-file=a dir/b" }, "b" },
    { "keyferry probe show -label z", { "probe", "show", "-label", "zeta" } },
  }
  for _, case in ipairs(cases) do
    lu.assertEquals(sh:words(case[1], case[3]), case[2], case[1])
  end
end

local TestBash, TestZsh = {}, {}

function TestBash.test_hostile_labels_are_read_back_as_they_are_and_run_nothing()
  check_labels("bash")
end

function TestBash.test_words_options_and_values()
  check_words("bash")
end

function TestZsh.test_hostile_labels_are_read_back_as_they_are_and_run_nothing()
  check_labels("zsh")
end

function TestZsh.test_words_options_and_values()
  check_words("zsh")
end

return { TestBash = TestBash, TestZsh = TestZsh }
