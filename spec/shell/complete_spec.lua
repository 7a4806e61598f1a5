-- SPDX-License-Identifier: MIT
-- Tab at the prompt: what is offered, that it is read back as what was meant, and that
-- looking changes, opens and calls nothing.
local lu = require("luaunit")

local build = require("support.build")
local hsm_class = require("keyferry.hsm")
local keyferry = require("keyferry")
local process = require("support.process")
local shell = require("support.shell")
local softhsm = require("support.softhsm")
local store = require("support.store")
local tmp = require("support.tmp")

package.loaded["keyferry.root"] = package.loaded["keyferry.root"] or build.root
local complete = require("keyferry.shell.completion.line")
local complete_lua = require("keyferry.shell.completion.lua")
local quoting = require("keyferry.shell.completion.quoting")
local script = require("keyferry.shell.script")
local words = require("keyferry.shell.prompt.words")

local LABELS = {
  "part 1", "part 2", "zeta", "a'quote\"both'\"", "b $(x) `y`", "c\\back\\\\slash\\", "d!;&|#",
  "~tilde", "e=eq:colon", "\195\169 \230\188\162", "-dash",
}
local UNSPOKEN = "f\nline"

local function make_home()
  local home = tmp.dir("complete")
  local env = { SOFTHSM2_CONF = "/nonexistent", KEYFERRY_HOME = home, HOME = home,
    XDG_CONFIG_HOME = home }
  for name, serial in pairs { vault = "496771", prod = "100001" } do
    process.must { build.keyferry, "hsm", "create", "-name", name, "-serial", serial, env = env }
  end
  local vault = softhsm.at(home .. "/hsms/vault")
  for _, label in ipairs(LABELS) do vault:init_token(label) end
  vault:init_token(UNSPOKEN)
  softhsm.at(home .. "/hsms/prod"):init_token("payments")
  return home
end

local the_home, session, environment

local function home()
  the_home = the_home or make_home()
  return the_home
end

local function fixture()
  keyferry.configure { home = home(), config = tmp.file("return { system = false }", "config.lua") }
  environment = script.environment(print, true)
  environment.keyferry = keyferry
end

-- What Tab offers behind the line, each as the line that it makes.
local function lines(line, rest)
  local first, list = complete.line({}, environment, line .. (rest or ""), #line)
  local out = {}
  for i, text in ipairs(list) do out[i] = line:sub(1, first - 1) .. text end
  return out
end

local function offers(line, rest)
  local first, list = complete.line({}, environment, line .. (rest or ""), #line)
  return list, first
end

local TestCommands = { setUp = fixture }

function TestCommands.test_nouns_and_the_words_of_the_prompt()
  local list = offers("")
  for _, word in ipairs { "partition ", "hsm ", "token ", "domain ", "help ", "run ", "history ",
    "record ", "exit ", "keyferry", "print" } do
    lu.assertTableContains(list, word)
  end
  lu.assertNotTableContains(list, "examples ")
  lu.assertEquals(offers("part"), { "partition " })
end

function TestCommands.test_verbs_also_of_a_shortened_noun()
  lu.assertEquals(lines("partition li"), { "partition list " })
  lu.assertEquals(lines("part li"), { "part list " })
  lu.assertEquals(lines("help partition ba"), { "help partition backup " })
  lu.assertEquals(lines("help dom"), { "help domain " })
end

function TestCommands.test_options_that_are_given_are_left_out()
  lu.assertEquals(lines("partition backup -tokenp"),
    { "partition backup -tokenpar ", "partition backup -tokenpw " })
  lu.assertEquals(lines("partition backup -tokenpar x -tokenp"),
    { "partition backup -tokenpar x -tokenpw " })
  lu.assertEquals(lines("partition backup -tokenpar=x -tokenp"),
    { "partition backup -tokenpar=x -tokenpw " })
  lu.assertEquals(lines("partition backup -tokenpa x -tokenp"),
    { "partition backup -tokenpa x -tokenpw " })
  lu.assertEquals(lines("partition backup --repl"), { "partition backup --replace " })
  lu.assertNotTableContains(offers("partition backup -add "), "-add ")
end

function TestCommands.test_values_by_what_the_option_says()
  lu.assertEquals(offers("partition backup -onerror "), { "continue ", "stop " })
  lu.assertEquals(offers("hsm show -name "), { "prod ", "vault " })
  lu.assertEquals(lines("hsm show -name=v"), { "hsm show -name=vault " })
  lu.assertEquals(lines("partition list -serial 4967"), { "partition list -serial 496771 " })
  local serial = softhsm.at(home() .. "/hsms/prod"):tokens()[1].serial
  lu.assertTableContains(offers("partition list -serial "), serial .. " ")
  lu.assertEquals(lines("partition backup -class data,se"),
    { "partition backup -class data,secret_key" })
  lu.assertNotTableContains(offers("partition backup -class=data,"), "-class=data,data")
end

function TestCommands.test_a_secret_is_never_completed()
  for _, option in ipairs { "password", "tokenpw", "tokensopwd", "domain" } do
    lu.assertEquals(offers("partition backup -" .. option .. " "), {})
    lu.assertEquals(offers("partition backup -" .. option .. "=p"), {})
  end
end

function TestCommands.test_files_behind_a_comma()
  local dir = tmp.dir("shares")
  for _, name in ipairs { "one.share", "two.share" } do shell.write(dir .. "/" .. name, "") end
  local line = ("ped combine -from %s/one.share,%s/tw"):format(dir, dir)
  lu.assertEquals(lines(line), { line .. "o.share " })
end

function TestCommands.test_files()
  local dir = tmp.dir("files")
  shell.write(dir .. "/my policy.lua", "")
  assert(os.execute("mkdir " .. shell.quote(dir .. "/inner")))
  lu.assertEquals(lines("run " .. dir .. "/m"), { "run " .. dir .. "/my\\ policy.lua " })
  lu.assertEquals(lines("run '" .. dir .. "/my p"), { "run '" .. dir .. "/my policy.lua' " })
  lu.assertEquals(lines("record " .. dir .. "/in"), { "record " .. dir .. "/inner/" })
end

-- How the first character of a label is typed.
local STYLES = {
  { "-partition '", "^[^']" }, { '-partition "', '^[^"$`\\]' }, { "-partition='", "^[^']" },
  { "-partition ", "^%w" }, { "-partition=", "^%w" }, { "-part=\\", "." }, { "-part \\", "^[^-]" },
}

function TestCommands.test_a_label_is_quoted_so_that_the_prompt_reads_it_back()
  local count = 0
  for _, style in ipairs(STYLES) do
    for _, label in ipairs(LABELS) do
      local typed = label:match("^" .. utf8.charpattern)
      if typed:find(style[2]) and not (typed == "-" and not style[1]:find("=")) then
        local found = false
        for _, line in ipairs(lines("partition show " .. style[1] .. typed)) do
          local list = assert(words.split(line), line)
          found = found or list[#list]:gsub("^%-part.-=", "") == label
        end
        lu.assertTrue(found, style[1] .. label)
        count = count + 1
      end
    end
  end
  lu.assertTrue(count > 50)
end

function TestCommands.test_a_label_with_a_line_break_is_what_every_listing_shows()
  local found
  for _, line in ipairs(lines("partition show -partition ")) do
    lu.assertNotStrContains(line, "\n")
    lu.assertNotStrContains(line, "dash") -- would be read as an option
    found = line:find("f\\?line", 1, true) and words.split(line)[4] or found
  end
  lu.assertEquals(assert(keyferry.partition(found)).label, "f?line")
end

function TestCommands.test_a_uri_names_the_partition_that_it_was_offered_for()
  local list = offers("partition show -partition 'pkcs11:")
  local seen = {}
  for _, text in ipairs(list) do
    local partition = assert(keyferry.partition((text:gsub("' $", ""))))
    seen[partition.label] = true
  end
  for _, label in ipairs(LABELS) do lu.assertTrue(seen[label], label) end
end

function TestCommands.test_uris_when_one_is_begun()
  lu.assertEquals(#offers("partition show -partition pkcs11:"), #LABELS + 2)
end

function TestCommands.test_a_new_partition_is_noticed()
  lu.assertEquals(offers("partition show -partition late"), {})
  local token = softhsm.at(home() .. "/hsms/prod"):init_token("latecomer")
  lu.assertEquals(offers("partition show -partition late"), { "latecomer " })
  assert(os.execute("rm -r " .. shell.quote(token.dir)))
  lu.assertEquals(offers("partition show -partition late"), {})
end

-- Whatever a value holds, bash reads back what is written for each state of a word.
local TestQuoting = {}

local VALUES = { "a\nb", "\n", "\27[31m\7\127\t", "n\255\254", "\255", "a\226\128\174b",
  "'", "''a'",
  '"', 'x"', "$(touch PWNED)", "`touch PWNED`", "!!", "\\", "a\\", "~", "=x", "#",
  "* ? [a] {a,b}", "a;b&c|d<e>(f)", "\1272\\x41", "\195\169", "$'x'", " ", "-x", "\14\065", "^a^b" }

function TestQuoting.test_bash_reads_every_value_back()
  local script_lines, wanted = {}, {}
  for _, value in ipairs(VALUES) do
    for _, open in ipairs { "", "'", '"', "$'" } do
      local word = { raw = open, opened = open ~= "" and #open + 1 or nil }
      local text = open .. quoting.ending(word, #open + 1, value, "bash", true)
      lu.assertNil(text:find("[\1-\31\127\255]"), value)
      table.insert(script_lines, "printf '%s\\0' " .. text .. "\n")
      table.insert(wanted, value)
      local _, last = quoting.words("x " .. text, "bash")
      lu.assertEquals(last.value, value)
    end
  end
  local dir = tmp.dir("quoting")
  local path = tmp.file("set -H 2>/dev/null\n" .. table.concat(script_lines), "words")
  lu.assertEquals(process.must { "bash", path, cwd = dir, env = { LC_ALL = "C.UTF-8" } },
    table.concat(wanted, "\0") .. "\0")
  lu.assertEquals(shell.lines("ls " .. dir), {})
end

local TestLua = {}

function TestLua.setUp()
  fixture()
  environment.h = assert(keyferry.hsm("prod"))
  environment.p = assert(environment.h:partition("payments"))
  session = assert(environment.p:login(keyferry.secret("1234"), { writable = true }))
  environment.s = session
  environment.o = assert(session:create { class = "data", label = "a", value = "b" })
end

function TestLua.tearDown()
  session:close()
  keyferry.configure()
end

function TestLua.test_globals_and_words_of_lua()
  lu.assertEquals(offers("x = keyf"), { "keyferry" })
  lu.assertEquals(lines("for i in ipa"), { "for i in ipairs" })
  lu.assertEquals(offers("x = fals"), { "false" })
end

function TestLua.test_fields_and_methods()
  lu.assertEquals(lines("x = keyferry.backup_"), { "x = keyferry.backup_hsm" })
  lu.assertEquals(lines("keyferry.hs"), { "keyferry.hsm", "keyferry.hsms" })
  lu.assertEquals(lines("string.form"), { "string.format" })
  lu.assertEquals(lines('"a"..string.form'), { '"a"..string.form' .. "at" })
  lu.assertEquals(lines("os.getn"), {})
  lu.assertEquals(lines("os.gete"), { "os.getenv" })
  lu.assertEquals(lines("h:partitio"), { "h:partition", "h:partitions" })
  lu.assertEquals(lines("h.partitio"), {})
  lu.assertEquals(lines("h.seri"), { "h.serial" })
  lu.assertEquals(lines("p.hsm.seri"), { "p.hsm.serial" })
  lu.assertEquals(lines("p:logi"), { "p:login" })
  lu.assertEquals(lines("s:generate_"), { "s:generate_pair" })
  lu.assertEquals(lines("print(o.key_ty"), { "print(o.key_type" })
  lu.assertEquals(lines("o.labe"), { "o.label" })
  lu.assertEquals(lines("o:attri"), { "o:attributes" })
end

function TestLua.test_a_noun_that_is_used_in_lua_is_lua()
  lu.assertEquals(lines("hsm = keyf"), { "hsm = keyferry" })
  environment.hsm = environment.h
  lu.assertEquals(lines("hsm:partitio"), { "hsm:partition", "hsm:partitions" })
  lu.assertEquals(lines("do loc"), { "do local" })
end

function TestLua.test_names_inside_strings_are_escaped_for_lua()
  lu.assertEquals(lines('keyferry.hsm "v'), { 'keyferry.hsm "vault"' })
  lu.assertEquals(lines("keyferry.hsm('v", "')"), { "keyferry.hsm('vault" })
  lu.assertEquals(lines('h:partition "pay'), { 'h:partition "payments"' })
  lu.assertEquals(lines('h:partition "part'), {})
  lu.assertEquals(lines('keyferry.hsm "vault":partition "zet'),
    { 'keyferry.hsm "vault":partition "zeta"' })
  lu.assertEquals(lines('keyferry.backup_hsm("49677'), { 'keyferry.backup_hsm("496771"' })
  environment.kf = keyferry
  local seen = {}
  for _, quote in ipairs { '"', "'" } do
    for _, line in ipairs(lines("x = kf.partition(" .. quote)) do
      seen[assert(load(line:gsub("^x = kf.partition%(", "return ")))()] = true
    end
  end
  for _, label in ipairs(LABELS) do lu.assertTrue(seen[label], label) end
  lu.assertEquals(offers('print("v'), {})
end

function TestLua.test_options_of_send()
  lu.assertEquals(offers("keyferry.send{ so"), { "source", "source_engine" })
  lu.assertEquals(offers('keyferry.send{ to = "a", fo'), { "force" })
end

function TestLua.test_options_of_backup_and_plan()
  lu.assertEquals(lines("r = keyferry.backup{ source = s, on_e"),
    { "r = keyferry.backup{ source = s, on_error", "r = keyferry.backup{ source = s, on_exists" })
  lu.assertEquals(offers("keyferry.plan({ mo"), { "mode", "more_rights" })
  lu.assertEquals(offers("keyferry.backup{ source = keyf"), { "keyferry" })
  for _, name in ipairs(complete_lua.FIELDS.backup) do
    local _, problem = pcall(keyferry.backup, { [name] = false })
    lu.assertNotStrContains(tostring(problem), "has no option")
  end
end

-- A value whose every door is a function of the user's.
local function trapped()
  local called = {}
  local function trap(...) table.insert(called, { ... }) end
  return setmetatable({ inner = 1 }, { __index = trap, __pairs = trap, __len = trap, __call = trap,
    __tostring = trap, __eq = trap, __name = "trap" }), called
end

function TestLua.test_no_function_of_the_users_is_called()
  local value, called = trapped()
  environment.value = value
  lu.assertEquals(lines("value."), { "value.inner" })
  for _, line in ipairs { "value:", "value.x.", "value.x.y:z", 'value "', 'value:partition "',
    "value{ ", "value.hsm('" } do
    offers(line)
  end
  environment.loop = setmetatable({}, {})
  getmetatable(environment.loop).__index = environment.loop
  lu.assertEquals(offers("loop.x."), {})
  setmetatable(environment, { __index = trapped })
  offers("unknown.")
  setmetatable(environment, nil)
  lu.assertEquals(called, {})
end

local TestHarmless = { setUp = fixture }

local LINES = {
  'partition show -partition "', "partition backup -serial ", "hsm show -name ",
  'keyferry.partition "', "keyferry.hsm '", 'keyferry.backup_hsm("',
  "partition show -partition pk",
}

function TestHarmless.test_nothing_is_opened_and_no_file_is_changed()
  local before = store.snapshot(home())
  for _, line in ipairs(LINES) do lu.assertTrue(#offers(line) > 0, line) end
  for _, hsm in ipairs(keyferry.hsms()) do lu.assertNil(hsm.loaded) end
  lu.assertEquals(store.compare(before, store.snapshot(home())), {})
end

function TestHarmless.test_no_line_raises()
  local pieces = { "partition ", "show ", "-", "-partition", "=", "'", '"', "\\", "keyferry", ".",
    ":", "(", "{", "[[", "--", "\0", "\255", " ", ",", "pkcs11:", "run ", "$'", "%", "[", "x", "1",
    "..", "-class ", "help ", "hsm \"" }
  local seed = 7
  local function random(n)
    seed = (seed * 1103515245 + 12345) & 0x7fffffff
    return (seed >> 8) % n + 1
  end
  for _ = 1, 2000 do
    local parts = {}
    for i = 1, random(8) do parts[i] = pieces[random(#pieces)] end
    local line = table.concat(parts)
    local cursor = random(#line + 1) - 1
    local first, list = complete.line({}, environment, line, cursor)
    lu.assertTrue(math.type(first) == "integer" and first >= 1 and first <= cursor + 1, line)
    for _, text in ipairs(list) do lu.assertEquals(type(text), "string") end
  end
  for _, piece in ipairs { "x", "{", " ", "(", "a.", "\\", "x ", ",", "[=", '"' } do
    for _, size in ipairs { 60000, 1000000 } do
      lu.assertEquals(type(offers(piece:rep(size // #piece) .. ";")), "table")
    end
  end
end

function TestHarmless.test_an_hsm_that_cannot_be_read_is_left_out()
  local path = hsm_class.new { name = "broken", kind = "module", module_path = "/nonexistent.so" }
  table.insert(keyferry.hsms(), path)
  lu.assertEquals(offers("hsm show -name b"), { "broken " })
  lu.assertEquals(lines("partition show -partition z"), { "partition show -partition zeta " })
end

return { TestCommands = TestCommands, TestQuoting = TestQuoting, TestLua = TestLua,
  TestHarmless = TestHarmless }
