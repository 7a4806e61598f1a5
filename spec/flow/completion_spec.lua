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
local any = { %s }
return { name = "probe show", summary = "A probe.", category = "reads",
  options = {
    { name = "text", kind = "string", value = "t", complete = "partitions", help = "Any text." },
    { name = "any", kind = "string", value = "a", choices = any, help = "Any value." },
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
    PATH = world.bin .. ":/usr/bin:/bin", LC_ALL = "C.UTF-8", HISTFILE = false,
    ENV = false, BASH_ENV = false }
  mkdir(world.bin)
  mkdir(world.work .. "/a dir")
  mkdir(home .. "/config/keyferry/scripts/probe")
  local any = {}
  for i, text in ipairs(HOSTILE) do any[i] = ("%q"):format(text) end
  shell.write(home .. "/config/keyferry/scripts/probe/show.lua", (PROBE:gsub("%%s", function()
    return table.concat(any, ", ")
  end)))
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
  bash = function(w, how)
    shell.write(w.home .. "/bashrc", BASH_RC .. (how == "package"
      and 'BASH_COMPLETION_USER_DIR="$HOME/lazy"; . /usr/share/bash-completion/bash_completion\n'
      or ". ~/completions/keyferry\n")
      .. (how == "breaks" and "COMP_WORDBREAKS=${COMP_WORDBREAKS//[=:]/}\n" or ""))
    return { "bash", "--noprofile", "--rcfile", w.home .. "/bashrc", "-i" }
  end,
  zsh = function(w)
    shell.write(w.home .. "/.zshrc", ZSH_RC)
    return { "zsh", "-d", "-i" }
  end,
}

local function start(name, how)
  local w = world()
  local command = STARTS[name](w, how)
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

-- How one letter of a label may be typed, and the words that are to come of it.
local STYLES = {
  { "-any %s", { "-any", "%s" } }, { "-any '%s", { "-any", "%s" } },
  { '-any "%s', { "-any", "%s" } }, { "-any=%s", { "-any=%s" } },
  { "--any='%s", { "--any=%s" } }, { '-any="%s', { "-any=%s" } },
  { "-an=%s", { "-an=%s" } }, { "-text %s", { "-text", "%s" }, true },
  { '-label="%s', { "-label=%s" }, true },
}

-- A label as keyferry has it: what would move a cursor, or is no text, is a question mark.
local function shown(label)
  return (label:gsub("[%c\127]", "?"):gsub("[\254\255]", "?"))
end

local function check_style(sh, style, name)
  for _, label in ipairs(HOSTILE) do
    local wanted, typed, rest = { "probe", "show" }, style[1]:format(label:sub(1, 1)), nil
    local text = style[3] and shown(label) or label
    if name == "zsh" and typed:find(" ['\"]") and not utf8.len(text) then
      text, rest = text:sub(1, 1), typed:match("['\"]") -- zsh would write other bytes
    end
    for _, word in ipairs(style[2]) do
      table.insert(wanted, (word:gsub("%%s", function() return text end)))
    end
    lu.assertEquals(sh:words("keyferry probe show " .. typed, rest), wanted, typed)
  end
end

local function check_labels(name)
  local sh <close> = start(name)
  for _, style in ipairs(STYLES) do check_style(sh, style, name) end
  for label, typed in pairs(FIRST) do
    lu.assertEquals(sh:words("keyferry probe show -text " .. typed),
      { "probe", "show", "-text", label })
  end
  assert_no_harm()
end

local function check_words(name, how)
  local sh <close> = start(name, how)
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

-- What is typed before stays text: Tab runs no substitution in it, and shows no secret to
-- the process list.
local function check_nothing_runs(name)
  local sh <close> = start(name)
  local w = sh.world
  shell.write(w.bin .. "/keyferry.sh", ([[#!/bin/sh
for word; do printf '%%s\n' "$word"; done >>"$HOME/arguments"
exec %s "$@"
]]):format(shell.quote(build.keyferry)))
  assert(os.execute(("cd %s && chmod +x keyferry.sh && mv keyferry.sh keyferry"):format(w.bin)))
  for _, text in ipairs { '"$(touch PWNED)"', "`touch PWNED`", "$(touch PWNED)",
    "'$(touch PWNED)" } do
    -- Directly behind a substitution zsh's own Tab expands it, completion or none.
    for _, last in ipairs(name == "zsh" and { " -ad" } or { " -ad", "" }) do
      sh:type("keyferry probe show -password hunter2 -text " .. text .. last)
      sh.terminal:type("ZZ") -- echoed when the Tab before it is done
      sh.terminal:wait_for("ZZ")
      sh.terminal:key("C-c")
      sh.terminal:wait_for("ready> ")
    end
  end
  assert(os.execute(("ln -sf %s %s/keyferry"):format(shell.quote(build.keyferry), w.bin)))
  local arguments = shell.read(w.home .. "/arguments")
  lu.assertEquals((arguments:gsub("%-%-complete\n" .. name .. "\n", "")), "")
  os.remove(w.home .. "/arguments")
  assert_no_harm()
end

-- Without a program, or with one that fails, nothing is offered and nothing is said.
local function check_silence(name)
  local sh <close> = start(name)
  local w = sh.world
  os.remove(w.bin .. "/keyferry")
  sh:type("keyferry prob")
  lu.assertEquals(sh:enter(), { "prob" })
  shell.write(w.bin .. "/keyferry", "#!/bin/sh\necho noise; echo noise >&2; exit 3\n")
  assert(os.execute("chmod +x " .. w.bin .. "/keyferry"))
  sh:type("keyferry prob")
  lu.assertEquals(sh:enter(), { "prob" })
  assert(os.execute(("ln -sf %s %s/keyferry"):format(shell.quote(build.keyferry), w.bin)))
  lu.assertNotStrContains(sh.terminal:screen(), "noise")
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

function TestBash.test_nothing_that_is_typed_runs()
  check_nothing_runs("bash")
end

function TestZsh.test_nothing_that_is_typed_runs()
  check_nothing_runs("zsh")
end

function TestBash.test_a_program_that_is_missing_or_broken_is_silent()
  check_silence("bash")
end

function TestZsh.test_a_program_that_is_missing_or_broken_is_silent()
  check_silence("zsh")
end

-- The package loads the file by its name when it is first needed.
function TestBash.test_with_the_package_bash_completion()
  local w = world()
  assert(shell.exists("/usr/share/bash-completion/bash_completion"), "see make deps-test")
  mkdir(w.home .. "/lazy/completions")
  assert(os.execute(("cp %s/completions/keyferry %s/lazy/completions/"):format(w.home, w.home)))
  check_words("bash", "package")
end

-- Many take ":" and "=" out of what bash breaks words at.
function TestBash.test_other_word_breaks()
  check_words("bash", "breaks")
  local sh <close> = start("bash", "breaks")
  lu.assertEquals(sh:words("keyferry probe show -any=h"),
    { "probe", "show", "-any=h=eq:colon:=@at" })
end

function TestZsh.test_options_are_listed_with_their_help()
  local sh <close> = start("zsh")
  sh:type("keyferry probe show -")
  sh.terminal:wait_for("-- A secret.")
  local screen = sh.terminal:screen()
  lu.assertTrue(screen:find("%-add +%-%- Add%.") ~= nil, screen)
  lu.assertTrue(screen:find("%-text +%-%- Any text%.") ~= nil, screen)
  lu.assertNil(screen:find("And more"), screen)
end

-- The program's own prompt, at a terminal.
local TestPrompt = {}

local function at_prompt(lines)
  local w = world()
  local t <close> = terminal.start { build.keyferry, env = w.env, cwd = w.work, width = 200 }
  for _, line in ipairs(lines) do
    t:wait_for("keyferry:> ")
    t:type(line[1])
    t:key("Tab")
    if line[2] then t:wait_for(line[2]) end
    t:type(line[3] or "")
    t:key("Enter")
    t:wait_for(line[4])
  end
  t:wait_for("keyferry:> ")
  t:key("C-d")
  lu.assertEquals(t:finish().status, 0)
  assert_no_harm()
end

function TestPrompt.test_tab_completes_commands_and_lua()
  at_prompt {
    { "hsm sho", "show ", "-name=vault", "496771" },
    { "hsm show -na", "-name ", "vault", "496771" },
    { "hsm show -name v", "vault ", "", "496771" },
    { "x = keyferry.backup_", "backup_hsm", "; print(x == keyferry.backup_hsm)", "true" },
    { 'keyferry.partition("a$', "PWNED", ").label", "a$(touch PWNED)" },
    { "keyferry.partition('c", "both", ").label", "c'quote\"both'\"" },
    { "partition show -partition zet", "zeta ", "-password x", "Command Result" },
    { "partition show -partition 'b", "PWNED", "-password x", "Command Result" },
  }
end

function TestPrompt.test_two_candidates_are_listed_and_completed_as_far_as_they_go()
  at_prompt {
    { 'print(keyferry.partition("par', "part 2", '2").label)', "part 2" },
    { 'print("n=" .. #keyferry.hs', "hsms", "s())", "n=1" },
  }
end

-- How long bash and zsh wait for an answer, with the labels of all those tokens in it; the
-- best of some, since the machine has other work, too.
return { TestBash = TestBash, TestZsh = TestZsh, TestPrompt = TestPrompt }
