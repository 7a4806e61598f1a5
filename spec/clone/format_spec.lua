-- SPDX-License-Identifier: MIT
-- The formats and the floors below Lua: fixtures that must open for ever, decoders fed with
-- changed bytes, and core_check.c, which tries the C contracts from within.
local lu = require("luaunit")

local build = require("support.build")
local object_file = require("support.object_file")
local process = require("support.process")
local scene = require("flow.scene")
local shell = require("support.shell")
local tmp = require("support.tmp")

local TestSealed = {}

-- Every one opens with what spec/fixtures/sealed.lua says is in it, is refused with each of its
-- bits flipped, and that of a version to come is called just that.
function TestSealed.test_all_fixtures_open_as_what_they_were()
  local out = process.must { build.tool("sealed"), "check", "spec/fixtures" }
  local files = shell.lines("ls spec/fixtures/*.sealed")
  lu.assertStrContains(out, ("%d sealed objects, 0 failures"):format(#files))
end

local TestDecoders = {}

-- A driver aborts when what it decoded is not what it writes (spec/fuzz/README.md). A hundred
-- thousand changed copies are for a fuzzer; these few find what is broken today.
local MUTATIONS = 300

for driver, files in pairs {
  sealed = "spec/fixtures/*.sealed spec/fuzz/seeds/sealed-*",
  attributes = "spec/fuzz/seeds/attributes-*",
  material = "spec/fuzz/seeds/material-*",
  softhsm_store = "spec/fuzz/seeds/softhsm_store-*",
  stream = "spec/fixtures/*.stream spec/fuzz/seeds/stream-*",
  share = "spec/fuzz/seeds/share-*",
} do
  TestDecoders["test_" .. driver .. "_survives_changed_bytes_and_keeps_its_promises"] = function()
    local seeds = shell.lines("ls " .. files)
    lu.assertTrue(#seeds > 0)
    local command = { build.tool("fuzz_" .. driver), "-mutate", MUTATIONS, timeout = 30 }
    table.move(seeds, 1, #seeds, #command + 1, command)
    local done = process.run(command)
    lu.assertEquals(done.status, 0, done.out .. done.err .. tostring(done.signal))
    lu.assertStrContains(done.out, ("%d files"):format(#seeds))
  end
end

local TestFloors = {}

local function holds(check, path)
  local done = process.run { build.tool("core_check"), check, path }
  lu.assertEquals(done.out, "ok\n", done.err .. tostring(done.signal))
  lu.assertEquals(done.status, 0)
end

function TestFloors.test_wire_is_bounded_and_sticky() holds("wire", "-") end
function TestFloors.test_attribute_records_are_strict() holds("attributes", "-") end
function TestFloors.test_names_are_in_order_and_found_by_all_their_names() holds("names", "-") end
function TestFloors.test_a_bare_point_is_told_from_a_wrapped_one() holds("plan", "-") end

function TestFloors.test_files_are_read_bounded_written_whole_locked_and_trusted()
  holds("file", tmp.dir("floor"))
end

-- Of real objects: each class that a token holds.
function TestFloors.test_every_truncation_of_an_object_file_is_refused_or_a_shorter_object()
  local token = scene.new():source()
  for _, name in ipairs(token:files()) do holds("store", token.dir .. "/" .. name) end
end

local TestJournal = {}

local HEAD = "keyferry journal 1: remove these files, then this one"

local function uuid(n)
  return ("%08x-0000-0000-0000-000000000000"):format(n)
end

-- A copy of an object of the token under another name, as a run has it that was killed.
local function plant(token, n)
  local name = token:labelled("note")[1].file
  local bytes = shell.read(token.dir .. "/" .. name)
  shell.write(token.dir .. "/" .. uuid(n) .. ".object", bytes)
  shell.write(token.dir .. "/" .. uuid(n) .. ".lock", "")
  return uuid(n) .. ".object"
end

local function journal(token, names)
  local lines = { HEAD }
  table.move(names, 1, #names, 2, lines)
  table.insert(lines, "end\n")
  shell.write(token.dir .. "/keyferry.journal", table.concat(lines, "\n"))
end

local function litter(token)
  return shell.lines("cd " .. shell.quote(token.dir) .. " && ls | grep -e keyferry -e tmp")
end

-- Killed between publishing and deciding: the new objects go.
function TestJournal.test_what_was_not_decided_is_undone_by_the_next_run()
  local s = scene.new("backed")
  local token = s:target()
  local before = scene.contents(token)
  local names = { plant(token, 1), plant(token, 2) }
  journal(token, names)
  local done = s:backup { "-add" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(scene.contents(token), before)
  lu.assertEquals(litter(token), {})
end

-- Killed after deciding, while the old objects were being removed (some are gone already).
function TestJournal.test_what_was_decided_is_finished_by_the_next_run()
  local s = scene.new("backed")
  local token = s:target()
  local old = { token:labelled("kek")[1].file, token:labelled("mac")[1].file, plant(token, 7) }
  os.remove(token.dir .. "/" .. old[3])
  journal(token, old)
  local done = s:backup { "-add", "-match", "note" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(#token:labelled("kek") + #token:labelled("mac"), 0)
  lu.assertEquals(#token:labelled("note"), 1)
  lu.assertEquals(litter(token), {})
end

-- Killed while writing: files without a name, a lock for an object that never came, a journal
-- that is not whole and therefore was never in force.
function TestJournal.test_files_that_never_got_their_name_are_removed()
  local s = scene.new("backed")
  local token = s:target()
  local before = scene.contents(token)
  shell.write(token.dir .. "/keyferry-" .. uuid(3) .. ".tmp", "half")
  shell.write(token.dir .. "/" .. uuid(3) .. ".lock", "")
  shell.write(token.dir .. "/keyferry.journal.tmp", HEAD .. "\n" .. token:labelled("kek")[1].file)
  shell.write(token.dir .. "/keyferry.lock", "")
  s:source():data("new", "x", { "--private" })
  local done = s:backup { "-add", "-match", "new" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(#scene.contents(token), #before + 1)
  lu.assertEquals(litter(token), {})
  lu.assertFalse(shell.exists(token.dir .. "/" .. uuid(3) .. ".lock"))
end

-- Whoever wrote it: nothing but object files of this very token is ever removed.
function TestJournal.test_a_journal_removes_nothing_but_objects_of_its_token()
  local s = scene.new("backed")
  local token = s:target()
  local outside = s.home .. "/outside.object"
  shell.write(outside, "x")
  local before = scene.contents(token)
  journal(token, { "token.object", "../" .. outside:match("[^/]+$"), outside, "generation",
    "token.lock", ".object", "..", "/", "" })
  local done = s:backup { "-add" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertTrue(shell.exists(outside))
  lu.assertEquals(scene.contents(token), before)
end

function TestJournal.test_a_journal_of_a_version_to_come_is_left_to_that()
  local s = scene.new("backed")
  local token = s:target()
  local before = scene.contents(token)
  shell.write(token.dir .. "/keyferry.journal", "keyferry journal 2: x\n" ..
    token:labelled("kek")[1].file .. "\nend\n")
  s:source():data("new", "x", { "--private" })
  local done = s:backup { "-add", "-match", "new" }
  lu.assertNotEquals(done.status, 0)
  lu.assertStrContains(done.err, "keyferry.journal")
  lu.assertEquals(scene.contents(token), before)
  lu.assertTrue(shell.exists(token.dir .. "/keyferry.journal"))
end

local TestWritten = {}

-- What we write is what SoftHSM would have: strict, ascending, no length that could hurt it.
function TestWritten.test_every_file_of_a_backup_is_one_that_softhsm_could_have_written()
  local token = scene.new("backed"):target()
  for _, name in ipairs(token:files()) do
    local bytes = shell.read(token.dir .. "/" .. name)
    local object, problem = object_file.parse(bytes)
    lu.assertTrue(object ~= nil, problem)
    lu.assertEquals(object_file.encode(object), bytes)
    for i = 2, #object.records do
      lu.assertTrue(math.ult(object.records[i - 1].type, object.records[i].type), name)
    end
    lu.assertTrue(shell.exists(token.dir .. "/" .. name:gsub("object$", "lock")))
  end
end

return {
  TestSealed = TestSealed,
  TestDecoders = TestDecoders,
  TestFloors = TestFloors,
  TestJournal = TestJournal,
  TestWritten = TestWritten,
}
