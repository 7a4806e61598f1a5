-- SPDX-License-Identifier: MIT
-- Bare words of a command: taken by the one option that is declared so, refused elsewhere.
local lu = require("luaunit")
local build = require("support.build")
local process = require("support.process")
local scene = require("flow.scene")
local shell = require("support.shell")
local tmp = require("support.tmp")

package.loaded["keyferry.root"] = package.loaded["keyferry.root"] or build.root
local help = require("keyferry.shell.help")
local man = require("keyferry.shell.man")
local options = require("keyferry.shell.options")
local script = require("keyferry.shell.script")

local FILE = { name = "file", value = "file", kind = "path", word = true, help = "The file." }
local FILES = { name = "file", value = "file", kind = "list", word = true, complete = "files",
  required = true, help = "The files." }
local DOMAIN = { name = "domain", value = "domain", kind = "secret", help = "The domain." }

local function values(spec, ...)
  local parsed, problem = options.parse(spec, { ... })
  lu.assertNil(problem)
  return parsed.values
end

local function refused(spec, words, ...)
  local parsed, problem, hint = options.parse(spec, words)
  lu.assertNil(parsed)
  for _, part in ipairs { ... } do lu.assertStrContains(problem .. " / " .. (hint or ""), part) end
  return problem .. (hint or "")
end

local TestWords = {}

function TestWords.test_a_word_and_the_option_are_the_same()
  for _, words in ipairs { { "a b" }, { "-file", "a b" }, { "-f=a b" }, { "--file=a b" } } do
    lu.assertEquals(values({ FILE, DOMAIN }, table.unpack(words)), { file = "a b" })
  end
  lu.assertEquals(values({ FILE }, "-"), { file = "-" })
  lu.assertEquals(values({ FILE, DOMAIN }, "-domain", "d", "f"), { file = "f", domain = "d" })
  lu.assertEquals(values({ FILE, DOMAIN }, "f", "-domain", "d"), { file = "f", domain = "d" })
end

function TestWords.test_several_words_make_a_list_and_a_comma_parts_none()
  lu.assertEquals(values({ FILES, DOMAIN }, "a,b", "-domain", "d", "c").file, { "a,b", "c" })
  lu.assertEquals(values({ FILES }, "-file", "a,b").file, { "a", "b" })
end

function TestWords.test_one_word_is_one_word()
  refused({ FILE }, { "a", "b" }, "takes one FILE")
  refused({ FILE }, { "-file", "a", "b" }, "takes one FILE")
  refused({ FILE }, { "a", "-file", "b" }, "-file is given twice")
  refused({ FILES }, { "-file", "a", "b" }, "takes one FILE")
  refused({ FILES }, { "a", "-file", "b" }, "-file is given twice")
end

function TestWords.test_a_word_is_checked_as_the_value_is()
  refused({ FILE }, { "" }, "FILE: the value is empty")
  refused({ FILES }, { "a", "" }, "FILE ...: the value is empty")
  refused({ { name = "n", kind = "number", word = true, help = "" } }, { "x" }, "NUMBER",
    "whole number")
  refused({ { name = "n", kind = "list", word = true, choices = { "a" }, help = "" } },
    { "a", "b" }, "LIST", "one of a")
end

function TestWords.test_what_is_missing_is_called_as_help_calls_it()
  refused({ FILES, DOMAIN }, {}, "FILE is missing")
  refused({ FILES, { name = "serial", kind = "serial", required = true, help = "" } }, {},
    "FILE, -serial are missing")
end

function TestWords.test_everything_else_is_refused_and_not_repeated()
  refused({ DOMAIN }, { "word" }, "belongs to no option")
  refused({ FILE }, { "--" }, "belongs to no option")
  refused({ FILE }, { "--", "f" }, "belongs to no option")
  for _, words in ipairs { { "-domain", "a", "b", "hunter2" }, { "hunter1", "hunter2" } } do
    lu.assertNotStrContains(refused({ FILE, DOMAIN }, words), "hunter")
  end
end

function TestWords.test_a_script_declares_one_and_no_secret()
  local function problem(list)
    return select(2, script.check { name = "n v", summary = "", category = "reads",
      options = list, run = print })
  end
  lu.assertNil(problem { FILE, DOMAIN })
  lu.assertStrContains(problem { FILE, { name = "b", kind = "path", word = true, help = "" } },
    '"file" and "b" both take bare words')
  lu.assertStrContains(problem { { name = "b", kind = "secret", word = true, help = "" } },
    "is a secret")
end

local function found(option)
  return { name = "archive look", summary = "Look.", category = "reads", run = print,
    options = { option, DOMAIN } }
end

local TestShown = {}

function TestShown.test_help()
  local page = table.concat(help.command(found(FILE)), "\n")
  lu.assertStrContains(page, "keyferry archive look [FILE] [-domain <domain>]")
  lu.assertStrMatches(page, ".*\n  FILE, %-file <file>  %-f +The file.*")
  page = table.concat(help.command(found(FILES)), "\n")
  lu.assertStrContains(page, "keyferry archive look FILE ... [-domain <domain>]")
end

function TestShown.test_manual()
  local path = tmp.file(man.command(found(FILES), {}, "2026-01-02"), "page.1")
  local text = process.must { "mandoc", "-T", "utf8", "-O", "width=200", path }
  text = text:gsub("[^\8]\8", ""):gsub("\u{ad}", "-"):gsub("%s+", " ")
  lu.assertStrContains(text, "keyferry archive look FILE ... [-domain domain]")
  lu.assertStrContains(text, "FILE ..., -file file The files. Must be given.")
  lu.assertEquals(process.run({ "mandoc", "-T", "lint", "-W", "warning", path }).out, "")
end

-- A command of a user's own with that option, "archive look".
local function own(s, option)
  local folder = s.home .. "/config/keyferry/scripts/mine"
  assert(os.execute("mkdir -p -m 700 " .. shell.quote(folder)))
  shell.write(folder .. "/look.lua", ([[return { name = "mine look", summary = "Look.",
    category = "reads", options = { { name = "file", value = "file", word = true, %s,
      help = "The file." }, { name = "deep", kind = "flag", help = "Deep." } },
    run = function(ctx)
      local file = ctx.options.file or "none"
      ctx:result("<%%s>", type(file) == "table" and table.concat(file, "|") or file)
      return 0
    end }]]):format(option))
  assert(os.execute("chmod -R go-w " .. shell.quote(s.home .. "/config")))
end

local TestProgram = {}

function TestProgram.test_a_command_gets_its_words()
  local s = scene.new()
  own(s, 'kind = "list"')
  lu.assertStrContains(s:run({ "mine", "look", "a,b", "-deep", "c d" }).out, "<a,b|c d>\n")
  local done = s:run { "mine", "look", "-nix" }
  lu.assertEquals(done.status, 2)
  local caller = tmp.file([[return { name = "caller", summary = "Call.", category = "reads",
    run = function(ctx) return ctx:run("mine look", { file = { "a,b", "c" } }) end }]])
  assert(os.execute("chmod 600 " .. caller))
  lu.assertStrContains(s:run({ "run", caller }).out, "<a,b|c>\n")
end

-- What bash's completion file is told behind a line.
local function answer(s, line)
  return process.must { build.keyferry, "--complete", "bash", env = s:program({}).env,
    input = line .. "\0" .. line:match("%S*$") .. "\0" }
end

function TestProgram.test_completion_gives_files_where_a_word_goes()
  local s = scene.new()
  own(s, 'kind = "path"')
  lu.assertEquals(answer(s, "keyferry mine look "), "!files\n")
  lu.assertEquals(answer(s, "keyferry mine look some"), "!files\n")
  lu.assertEquals(answer(s, "keyferry mine look -deep "), "!files\n")
  lu.assertStrContains(answer(s, "keyferry mine look -"), "=-deep")
  lu.assertStrContains(answer(s, "keyferry mine look one "), "=-deep")
  lu.assertNotStrContains(answer(s, "keyferry mine look one "), "-file")
  lu.assertEquals(answer(s, "keyferry mine look one two"), "")
  lu.assertEquals(answer(s, "keyferry mine look one two -"), "")
  own(s, 'kind = "list", complete = "files"')
  lu.assertEquals(answer(s, "keyferry mine look one two"), "!files\n")
end

function TestProgram.test_a_list_of_choices_is_completed_word_by_word()
  local s = scene.new()
  own(s, 'kind = "list", choices = { "one", "two" }')
  lu.assertEquals(answer(s, "keyferry mine look one t"), "=two\n")
end

return { TestWords = TestWords, TestShown = TestShown, TestProgram = TestProgram }
