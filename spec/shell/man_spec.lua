-- SPDX-License-Identifier: MIT
-- The manual pages: all that the scripts say is in them, and roff takes nothing else from it.
local lu = require("luaunit")
local build = require("support.build")
local man = require("keyferry.shell.man")
local process = require("support.process")
local shell = require("support.shell")
local tmp = require("support.tmp")

local DATE = "2026-01-02"

local function lint(path)
  return process.run { "mandoc", "-T", "lint", "-W", "warning", path }
end

-- What a reader sees, in one line: without overstriking and breaks.
local function rendered(path)
  local text = process.must { "mandoc", "-T", "utf8", "-O", "width=200", path }
  return (text:gsub("[^\8]\8", ""):gsub("\u{ad}", "-"):gsub("%s+", " "))
end

local function rendered_page(page)
  return rendered(tmp.file(page, "page.1"))
end

local pages

-- The folder with all pages, as the program writes them.
local function written()
  if not pages then
    pages = tmp.dir("man")
    process.must { build.keyferry, "--man", pages, env = { SOURCE_DATE_EPOCH = "0" } }
  end
  return pages
end

local function stock()
  local list = {}
  for _, path in ipairs(shell.lines("find scripts -name '*.lua' | LC_ALL=C sort")) do
    if not path:find("^scripts/examples/") then
      table.insert(list, assert(loadfile(path))())
    end
  end
  return list
end

local function path_of(found)
  return ("%s/keyferry-%s.1"):format(written(), (found.name:gsub(" ", "-")))
end

local function script(fields)
  local found = { name = "noun verb", summary = "Do it.", category = "reads", options = {} }
  for name, value in pairs(fields) do found[name] = value end
  return found
end

local TestMan = {}

function TestMan.test_there_is_a_page_of_every_stock_command_and_of_the_program()
  local names = { "keyferry.1" }
  for _, found in ipairs(stock()) do
    table.insert(names, path_of(found):match("[^/]+$"))
  end
  table.sort(names)
  lu.assertTrue(#names > 10)
  lu.assertEquals(shell.lines("ls " .. shell.quote(written()) .. " | LC_ALL=C sort"), names)
end

function TestMan.test_no_page_has_anything_that_a_linter_would_say()
  for _, name in ipairs(shell.lines("ls " .. shell.quote(written()))) do
    local done = lint(written() .. "/" .. name)
    lu.assertEquals(done.out .. done.err, "", name)
    lu.assertEquals(done.status, 0, name)
  end
end

function TestMan.test_a_page_says_all_that_the_script_says()
  for _, found in ipairs(stock()) do
    local page = rendered(path_of(found))
    local function says(words)
      lu.assertStrContains(page, (words:gsub("%s+", " ")), false, false, found.name)
    end
    says(found.summary)
    for _, option in ipairs(found.options or {}) do
      local value = option.kind ~= "flag" and " " .. (option.value or option.kind) or ""
      says((" -%s%s "):format(option.name, value) .. option.help)
      for _, choice in ipairs(option.choices or {}) do says(choice) end
      if option.kind == "secret" then
        says(option.env or "KEYFERRY_" .. option.name:upper() .. "_FILE")
      end
    end
    for _, example in ipairs(found.examples or {}) do says(example) end
    for _, privilege in ipairs(found.privileges or {}) do says(privilege) end
  end
end

function TestMan.test_the_page_of_the_program_names_every_command_and_global_option()
  local page = rendered(written() .. "/keyferry.1")
  for _, found in ipairs(stock()) do
    lu.assertStrContains(page, found.name .. " " .. found.summary)
  end
  for option in process.must { build.keyferry, "help" }:gmatch("\n  (%-%-%l+)") do
    lu.assertStrContains(page, " " .. option .. " ")
  end
end

function TestMan.test_every_exit_status_has_a_sentence()
  local page = rendered(written() .. "/keyferry-partition-backup.1")
  local section = page:match(" EXIT STATUS (.-) ENVIRONMENT ")
  for name, code in pairs(require("keyferry.shell.status")) do
    if math.type(code) == "integer" then
      lu.assertStrMatches(" " .. section, ".* " .. code .. " %u.*", nil, nil, name)
    end
  end
end

function TestMan.test_the_pages_are_the_same_at_every_hour()
  lu.assertStrContains(shell.read(written() .. "/keyferry.1"), '"1970-01-01"')
end

function TestMan.test_text_is_text_whatever_is_in_it()
  local odd = [[.SH is 'no' request \fB \n(.g "q" --x ^~` \\ ]]
  local found = script { summary = odd .. "end.",
    options = { { name = "x", kind = "string", value = "a\\fBb", help = odd .. "\27[2J \u{e4}" } },
    examples = { ".SH EXAMPLE", "'br", "  a  \\e 'b' -c", odd } }
  local page = man.command(found, {}, DATE)
  local path = tmp.file(page, "odd.1")
  local done = lint(path)
  lu.assertEquals(done.out .. done.err, "")
  page = rendered(path)
  lu.assertStrContains(page, "noun-verb - " .. odd .. "end ")
  lu.assertStrContains(page, "-x a\\fBb " .. odd .. "\\x1B[2J \u{e4}")
  lu.assertStrContains(page, " .SH EXAMPLE 'br a \\e 'b' -c " .. odd)
end

function TestMan.test_a_break_within_a_text_starts_no_request()
  local found = script { summary = ("word "):rep(15) .. ".SH x " .. ("'br "):rep(40) .. "." }
  local page = rendered_page(man.command(found, {}, DATE))
  lu.assertStrContains(page, (found.summary:gsub("%s+", " ")))
end

function TestMan.test_a_users_own_command_does_not_change_the_pages()
  local config = tmp.dir("config")
  assert(os.execute("mkdir -p " .. config .. "/keyferry/scripts/partition"))
  local own = config .. "/keyferry/scripts/partition/%s.lua"
  for _, verb in ipairs { "backup", "mine" } do
    shell.write(own:format(verb), ('return { name = "partition %s", summary = "Mine.", '
      .. 'category = "reads", run = function() end }'):format(verb))
  end
  local dir = tmp.dir("man")
  process.must { build.keyferry, "--man", dir,
    env = { XDG_CONFIG_HOME = config, SOURCE_DATE_EPOCH = "0" } }
  process.must { "diff", "-r", written(), dir }
end

function TestMan.test_a_folder_that_is_not_there_is_told()
  local done = process.run { build.keyferry, "--man", tmp.dir() .. "/nix" }
  lu.assertNotEquals(done.status, 0)
  lu.assertStrContains(done.err, "/nix")
  lu.assertEquals(process.run { build.keyferry, "--man" }.status, 2)
end

return { TestMan = TestMan }
