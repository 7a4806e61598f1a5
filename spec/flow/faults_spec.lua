-- SPDX-License-Identifier: MIT
-- partition backup: when the disk is full, the target may not be written, an object goes away
-- or somebody stops it.
local lu = require("luaunit")
local build = require("support.build")

local process = require("support.process")
local scene = require("flow.scene")
local shell = require("support.shell")
local terminal = require("support.terminal")
local tmp = require("support.tmp")

local function more_keys(s, n)
  s:inside("payments", ([[
    for i = 1, %d do
      assert(session:create{ class = "secret_key", key_type = "generic_secret", sign = true,
        label = ("key %%03d"):format(i), id = string.pack(">I2", i), verify = true,
        value = ("%%032d"):format(i), token = true, private = true, sensitive = true,
        extractable = true })
    end]]):format(n))
end

-- Every one of the target's "key N" is whole: its value is the one of its number.
local function assert_whole_keys(token, at_least, at_most)
  local n = 0
  for _, object in pairs(token:objects()) do
    local i = object[scene.CKA_LABEL] and object[scene.CKA_LABEL].value:match("^key (%d+)$")
    if i then
      n = n + 1
      lu.assertEquals(object[scene.CKA_VALUE].value, ("%032d"):format(tonumber(i)))
    end
  end
  lu.assertTrue(n >= at_least and n <= at_most, ("%d keys"):format(n))
  return n
end

local TestFull = {}

-- The store of the vault on a disk with `kb` left. Only root may mount.
local function on_small_disk(s, kb, work)
  local dir = s:hsm("vault").tokendir
  local kept = dir .. ".kept"
  assert(os.rename(dir, kept))
  assert(os.execute("mkdir -m 700 " .. shell.quote(dir)))
  if process.run { "mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", dir }.status ~= 0 then
    lu.skip("no right to mount a small disk")
  end
  local good, problem = xpcall(function()
    process.must { "cp", "-a", kept .. "/.", dir }
    local left = tonumber(shell.lines("df -k --output=avail " .. shell.quote(dir))[2])
    process.must { "dd", "if=/dev/zero", "of=" .. dir .. "/filler", "bs=1k",
      "count=" .. (left - kb) }
    work()
  end, debug.traceback)
  process.run { "umount", "-l", dir }
  if not good then error(problem, 0) end
end

function TestFull.test_replace_leaves_the_old_backup_byte_for_byte()
  local s = scene.new("backed")
  more_keys(s, 5)
  on_small_disk(s, 24, function()
    local before = s:snapshot()
    local done = s:backup { "-replace", "-force" }
    lu.assertEquals(done.status, 1, done.out .. done.err)
    lu.assertStrMatches(done.out, ".*\n'partition backup' failed: [^\n]*No space left[^\n]*\n.*")
    lu.assertNotStrContains(done.out, "cloned to handle")
    lu.assertEquals(s:changes(before), {})
  end)
end

function TestFull.test_add_keeps_what_went_in_whole_and_nothing_half()
  local s = scene.new("backed")
  more_keys(s, 12)
  on_small_disk(s, 24, function()
    local done = s:backup { "-add" }
    lu.assertEquals(done.status, 1, done.out .. done.err)
    local counts = scene.counts(done.out)
    lu.assertEquals(counts.exists, 7)
    lu.assertTrue(counts.failed > 0, done.out)
    lu.assertEquals(assert_whole_keys(s:target(), 0, 11), counts.cloned)
    for _, name in ipairs(shell.lines("ls " .. shell.quote(s:target().dir))) do
      lu.assertNotStrContains(name, ".tmp")
    end
  end)
end

function TestFull.test_no_partition_is_left_where_there_is_no_room_for_one()
  local s = scene.new()
  on_small_disk(s, 8, function()
    local done = s:backup {}
    lu.assertEquals(done.status, 7, done.out .. done.err)
    lu.assertEquals(s:hsm("vault"):tokens(), {})
  end)
end

-- A limit on file sizes is a full disk for one object, and not the end of the program.
function TestFull.test_an_object_too_large_for_the_limit_fails_by_itself()
  local s = scene.new("backed")
  s:inside("payments", [[
    for label, size in pairs{ large = 3000000, small = 1 } do
      assert(session:create{ class = "data", label = label, value = ("x"):rep(size), token = true,
        private = true })
    end]])
  local command = s:command { "-add" }
  table.insert(command, 1, "--fsize=1500000")
  table.insert(command, 1, "prlimit")
  local done = process.run(command)
  lu.assertEquals(done.status, 1, done.out .. done.err .. tostring(done.signal))
  lu.assertEquals(scene.counts(done.out), { cloned = 1, exists = 7, failed = 1 })
  lu.assertEquals(#s:target():labelled("small"), 1)
  lu.assertEquals(#s:target():labelled("large"), 0)
end

-- As an HSM says it that has a memory of its own: after the first key it has no more.
function TestFull.test_a_token_without_memory()
  local s = scene.new("backed")
  more_keys(s, 3)
  local _, globals = s:lying("vault", "C_CopyObject * CKR_DEVICE_MEMORY\n" ..
    "C_UnwrapKey after 4 CKR_DEVICE_MEMORY")
  local before = scene.contents(s:target())
  for _, mode in ipairs { "-add", "-replace" } do
    local done = s:backup { mode, "-force", "-engine", "wrap", "-match", "key*",
      globals = globals }
    lu.assertEquals(done.status, 1, done.out .. done.err)
    lu.assertStrContains(done.out .. done.err, "CKR_DEVICE_MEMORY (0x31)")
    lu.assertEquals(scene.contents(s:target()), before, mode)
  end
end

local TestPermissions = {}

-- The program where anybody can read it: this repository may lie in root's own folder.
local function program_for_anybody()
  local dir = tmp.dir("program")
  process.must { "mkdir", dir .. "/bin" }
  process.must { "cp", build.keyferry, dir .. "/bin" }
  process.must { "cp", "-r", "lua", "scripts", dir }
  process.must { "chmod", "-R", "a+rX", dir }
  process.must { "chmod", "711", (dir:match("^(.*)/[^/]+$")) }
  return dir .. "/bin/keyferry"
end

-- Root writes everywhere: the program is run as somebody else.
local function as_nobody(s, how)
  process.must { "chown", "-R", "nobody:", s.home }
  local command = s:command(how)
  command[1] = program_for_anybody()
  for i, word in ipairs { "setpriv", "--reuid=nobody", "--clear-groups" } do
    table.insert(command, i, word)
  end
  return process.run(command)
end

function TestPermissions.test_a_target_that_may_not_be_written_stays_as_it_is()
  if shell.lines("id -u")[1] ~= "0" then lu.skip("needs root, to become somebody else") end
  for _, mode in ipairs { "-add", "-replace" } do
    local s = scene.new("backed")
    os.execute("chmod 711 " .. shell.quote(s.home:match("^(.*)/[^/]+$")))
    more_keys(s, 2)
    process.must { "chmod", "500", s:target().dir }
    local before = s:snapshot()
    local done = as_nobody(s, { mode, "-force" })
    lu.assertEquals(done.status, 1, done.out .. done.err)
    lu.assertStrContains(done.out, "Permission denied")
    lu.assertNotStrContains(done.out, "cloned to handle")
    lu.assertEquals(s:changes(before), {}, mode)
  end
end

local TestVanish = {}

-- An application deletes its key while the run is at it: that one is not cloned, and said so.
function TestVanish.test_an_object_that_is_deleted_meanwhile_is_not_called_backed_up()
  local s = scene.new("backed")
  more_keys(s, 4)
  local hsm, globals = s:lying("prod", "call-log %LOG%\ndelay C_WrapKey 300")
  local run <close> = process.start(s:command { "-add", "-engine", "wrap", "-match", "key*",
    globals = globals })
  local function wraps()
    return select(2, table.concat(hsm:calls(), "\n"):gsub("C_WrapKey", ""))
  end
  assert(shell.await(20, function()
    local out = run:output()
    return wraps() > 0 or out:find("Command Result")
  end))
  for _, object in ipairs(s:source():labelled("key 001")) do
    os.remove(s:source().dir .. "/" .. object.file)
  end
  for i = 2, 4 do
    for _, object in ipairs(s:source():labelled(("key %03d"):format(i))) do
      os.remove(s:source().dir .. "/" .. object.file)
    end
  end
  local done = run:wait()
  lu.assertEquals(done.status, 1, done.out .. done.err)
  local counts = scene.counts(done.out)
  lu.assertTrue(counts.failed >= 1, done.out)
  lu.assertEquals(counts.failed + counts.cloned, 4)
  lu.assertEquals(assert_whole_keys(s:target(), 0, 3), counts.cloned)
end

local TestReport = {}

-- The backup is worth more than its report, and a report that is lost is no success.
function TestReport.test_a_report_that_cannot_be_written()
  local s = scene.new()
  local command = s:command {}
  local all = { "sh", "-c", 'exec "$@" >/dev/full', "sh", env = command.env }
  table.move(command, 1, #command, #all + 1, all)
  local done = process.run(all)
  lu.assertEquals(done.status, 7, done.err)
  lu.assertStrContains(done.err, "standard output")
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
end

local TestStopped = {}

-- Ctrl-C in the middle of a run that is slow enough to be met there.
local function interrupted(s, signal, how)
  local hsm, globals = s:lying("prod", "call-log %LOG%\ndelay C_WrapKey 15")
  how.globals = globals
  for _, word in ipairs { "-engine", "wrap", "-match", "key*" } do table.insert(how, word) end
  local run <close> = process.start(s:command(how))
  assert(shell.await(30, function()
    return select(2, table.concat(hsm:calls(), "\n"):gsub("C_WrapKey", "")) > 75
  end))
  run:signal(signal)
  local done = run:wait()
  lu.assertEquals(done.status, 130, done.out .. done.err)
  lu.assertStrContains(done.out, "Command Result : 130 (")
  return done
end

function TestStopped.test_add_keeps_what_it_said_was_cloned()
  for _, signal in ipairs { "INT", "TERM" } do
    local s = scene.new("backed")
    more_keys(s, 160)
    local done = interrupted(s, signal, { "-add" })
    lu.assertEquals(assert_whole_keys(s:target(), 0, 159), scene.counts(done.out).cloned)
    done = s:backup { "-add", "-match", "key*" }
    lu.assertEquals(done.status, 0, done.out .. done.err)
    assert_whole_keys(s:target(), 160, 160)
  end
end

function TestStopped.test_replace_leaves_the_old_backup()
  local s = scene.new("backed")
  more_keys(s, 160)
  local before = s:snapshot()
  local done = interrupted(s, "INT", { "-replace", "-force" })
  lu.assertNotStrContains(done.out, "cloned to handle")
  lu.assertEquals(s:changes(before), {})
end

function TestStopped.test_a_new_partition_holds_what_was_said_or_is_gone()
  local s = scene.new()
  more_keys(s, 160)
  local done = interrupted(s, "INT", {})
  local cloned = scene.counts(done.out).cloned
  if cloned == 0 then
    lu.assertEquals(s:hsm("vault"):tokens(), {})
  else
    lu.assertEquals(assert_whole_keys(s:target(), 1, 159), cloned)
  end
end

-- The engine that works the store itself, many objects, Ctrl-C typed at a terminal.
function TestStopped.test_control_c_at_the_terminal_with_many_objects()
  local s = scene.new("backed")
  s:source():fill(1500)
  local before = s:snapshot()
  local t <close> = terminal.start(s:command { "-replace", "-force", "-verify" })
  t:wait_for(" of 1 507")
  t:key("C-c")
  local done = t:finish(60)
  lu.assertEquals(done.status, 130, done.screen:sub(1, 2000))
  lu.assertTrue(done.restored)
  lu.assertEquals(s:changes(before), {})
end

return {
  TestFull = TestFull,
  TestPermissions = TestPermissions,
  TestVanish = TestVanish,
  TestReport = TestReport,
  TestStopped = TestStopped,
}
