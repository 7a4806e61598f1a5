-- SPDX-License-Identifier: MIT
-- partition backup: two at once, one that was killed before, and other things nobody plans.
local lu = require("luaunit")

local build = require("support.build")
local process = require("support.process")
local scene = require("flow.scene")
local shell = require("support.shell")
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

local function at_once(s, n, how)
  local runs = {}
  for i = 1, n do runs[i] = process.start(s:command(how)) end
  for i = 1, n do runs[i] = runs[i]:wait() end
  return runs
end

local TestTwo = {}

-- Each looks at the target and then changes it: the second must not act on the first look.
function TestTwo.test_replacements_at_once_leave_one_backup()
  local s = scene.new("backed")
  more_keys(s, 60)
  local good = 0
  for _, done in ipairs(at_once(s, 3, { "-replace", "-force" })) do
    -- SoftHSM does not list a token at the moment of a login elsewhere: an honest failure.
    good = good + (done.status == 0 and 1 or 0)
    lu.assertTrue(done.status == 0 or not done.out:find("cloned to handle"), done.out .. done.err)
  end
  lu.assertTrue(good > 0)
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
end

function TestTwo.test_additions_at_once_duplicate_nothing()
  local s = scene.new("backed")
  more_keys(s, 60)
  at_once(s, 3, { "-add" })
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
end

function TestTwo.test_one_partition_is_made_not_two()
  local s = scene.new()
  local runs = at_once(s, 2, {})
  lu.assertEquals(#s:hsm("vault"):tokens(), 1)
  lu.assertTrue(runs[1].status == 0 or runs[2].status == 0, runs[1].err .. runs[2].err)
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
end

local TestKilled = {}

-- A replacement that was killed between giving its objects names and deciding left a journal
-- by which they go. They are gone before anything is called there already.
function TestKilled.test_what_will_go_is_not_already_there()
  local s = scene.new("backed")
  more_keys(s, 1)
  local old = {}
  for _, file in ipairs(s:target():files()) do old[file] = true end
  lu.assertEquals(s:backup { "-add" }.status, 0)
  local new = {}
  for _, file in ipairs(s:target():files()) do
    if not old[file] and file:find("%.object$") then table.insert(new, file) end
  end
  lu.assertEquals(#new, 1)
  shell.write(s:target().dir .. "/keyferry.journal",
    "keyferry journal 1: remove these files, then this one\n" .. new[1] .. "\nend\n")
  local done = s:backup { "-add" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(scene.counts(done.out), { cloned = 1, exists = 7, failed = 0 })
  s:backup { "-add" }
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
end

-- An old object that cannot be removed, once removing has begun: the new ones are the backup
-- and are told as that.
function TestKilled.test_an_old_object_that_stays_is_told_and_the_new_ones_are_kept()
  for _, verify in ipairs { false, "-verify" } do
    local s = scene.new("backed")
    local stays = s:target().dir .. "/" .. s:target():labelled("kek")[1].file
    if process.run { "chattr", "+i", stays }.status ~= 0 then
      lu.skip("no right, or a file system without, to make a file immutable")
    end
    local done = s:backup { "-replace", "-force", verify or nil }
    process.must { "chattr", "-i", stays }
    lu.assertEquals(done.status, 7, done.out .. done.err)
    lu.assertEquals(scene.counts(done.out).cloned, 7)
    lu.assertStrContains(done.out, "could not be removed")
    lu.assertEquals(#s:target():labelled("kek"), 2)
    done = s:backup { "-add" }
    lu.assertEquals(done.status, 0, done.out .. done.err)
    lu.assertEquals(scene.counts(done.out), { cloned = 0, exists = 7, failed = 0 })
    lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
  end
end

-- The terminal is closed in the middle: the run ends as on Ctrl-C and leaves nothing about.
function TestKilled.test_a_hangup_ends_a_replacement_in_order()
  local s = scene.new("backed")
  more_keys(s, 160)
  local hsm, globals = s:lying("prod", "call-log %LOG%\ndelay C_WrapKey 15")
  local before = s:snapshot()
  local run <close> = process.start(s:command { "-replace", "-force", "-engine", "wrap", "-match",
    "key*", globals = globals })
  assert(shell.await(30, function()
    return table.concat(hsm:calls(), "\n"):find("C_WrapKey")
  end))
  run:signal("HUP")
  lu.assertEquals(run:wait().status, 130)
  lu.assertEquals(s:changes(before), {})
end

-- Killed while it learns what the target's module does: the key made for that goes with the
-- next run, and one of the user's that has only the label stays.
function TestKilled.test_the_key_of_a_trial_goes_with_the_next_run()
  local s = scene.new("backed")
  more_keys(s, 1)
  s:inside("backup", [[
    assert(session:generate{ mechanism = "aes_key_gen", value_len = 32, token = true,
      label = "keyferry trial", id = "my own", private = true })]])
  local how = { "-add", "-engine", "wrap", "-match", "key *" }
  local _, globals = s:lying("vault", "crash C_GenerateKey 2")
  how.globals = globals
  lu.assertNotEquals(s:backup(how).status, 0)
  lu.assertEquals(#s:target():labelled("keyferry trial"), 2)
  how.globals = nil
  local done = s:backup(how)
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(scene.counts(done.out), { cloned = 1, exists = 0, failed = 0 })
  lu.assertEquals(#s:target():labelled("keyferry trial"), 1)
  lu.assertEquals(#s:target():labelled("key 001"), 1)
end

-- SoftHSM writes in place: what it was writing when the program was killed stays cut off.
-- Within a record it is nothing to SoftHSM; between two it is a key with other rights, which
-- must not be taken for the backup of the whole one.
local function cut(s, whole, length)
  local name = "11111111-2222-3333-4444-555555555555.object"
  shell.write(s:target().dir .. "/" .. name, whole:sub(1, length))
  return name
end

function TestKilled.test_a_cut_off_object_on_the_target_is_told()
  local s = scene.new("backed")
  local name = cut(s, shell.read(s:target().dir .. "/" .. s:target():labelled("mac")[1].file), 95)
  for _, how in ipairs { { "-add", "-engine", "softhsm" }, { "-add", "-engine", "wrap" },
    { "-replace", "-force" } } do
    local done = s:backup { "-match", "mac", table.unpack(how) }
    lu.assertEquals(done.status, 0, done.out .. done.err)
    lu.assertStrContains(done.err, name)
  end
end

function TestKilled.test_a_key_cut_between_its_records_is_not_already_there()
  local s = scene.new("backed")
  local file = s:target():labelled("mac")[1].file
  local whole = shell.read(s:target().dir .. "/" .. file)
  local at = assert(whole:find(string.pack(">I8I8", 0x162, 1), 1, true)) -- CKA_EXTRACTABLE
  assert(os.remove(s:target().dir .. "/" .. file))
  local name = cut(s, whole, at - 1)
  local before = s:snapshot()
  for _, engine in ipairs { "softhsm", "wrap" } do
    local done = s:backup { "-add", "-match", "mac", "-engine", engine }
    lu.assertEquals(done.status, 7, done.out .. done.err)
    lu.assertStrContains(done.err, name)
    lu.assertEquals(s:changes(before), {})
  end
  assert(os.remove(s:target().dir .. "/" .. name))
  lu.assertEquals(s:backup { "-add" }.status, 0)
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
end

local TestSelected = {}

-- A source that lost its objects must not cost the only copy.
function TestSelected.test_an_empty_source_replaces_nothing()
  local s = scene.new("backed")
  for file, object in pairs(s:source():objects()) do
    local label = object[scene.CKA_LABEL] and object[scene.CKA_LABEL].value
    if label ~= "keyferry domain" then assert(os.remove(s:source().dir .. "/" .. file)) end
  end
  local before = s:snapshot()
  local done = s:backup { "-replace", "-force" }
  lu.assertEquals(done.status, 5, done.out .. done.err)
  lu.assertEquals(s:changes(before), {})
end

function TestSelected.test_any_pattern_is_one()
  local s = scene.new("backed")
  for pattern, exists in pairs { ["["] = 0, ["[!"] = 0, ["a["] = 0, ["[]"] = 0, ["%"] = 0,
    ["[!a]*"] = 7, ["[^a]*"] = 7, ["[m-n]*"] = 2, ["?ac"] = 1, ["\\note"] = 1, ["*"] = 7 } do
    local done = s:backup { "-add", "-match", pattern }
    lu.assertEquals(done.status, 0, pattern .. done.out .. done.err)
    lu.assertEquals(scene.counts(done.out).exists, exists, pattern)
  end
end

-- The same key with more rights on the target than at the source is there, and not alike.
function TestSelected.test_other_flags_on_the_target_are_named()
  local s = scene.new("backed")
  s:inside("payments", [[
    for _, key in ipairs(session:find{ label = "mac" }) do
      assert(key:change{ extractable = false, sign = false })
    end]])
  local done = s:backup { "-add" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(scene.counts(done.out), { cloned = 0, exists = 7, failed = 0 })
  lu.assertStrContains(done.err, "differ in CKA_EXTRACTABLE, CKA_SIGN;")
  local _, warnings = done.err:gsub("differ in", "")
  lu.assertEquals(warnings, 1)
end

local TestLabels = {}

-- A token gives such a label back as another one, and the partition is not found again.
function TestLabels.test_one_that_a_token_would_change_is_refused_before_anything_is_made()
  local s = scene.new()
  local before = s:snapshot()
  for _, label in ipairs { "backup ", "back\nup", "back\27[2Jup" } do
    lu.assertEquals(s:backup { tokenpar = label }.status, 2, label)
  end
  lu.assertEquals(s:changes(before), {})
end

local TestPlaces = {}

local function create_hsm(home, cwd)
  return process.run { "sh", "-c", cwd .. [[; exec "$0" --home "$1" hsm create -name a]],
    build.keyferry, home }
end

function TestPlaces.test_a_working_folder_that_is_gone()
  local dir = tmp.dir("gone")
  local done = create_hsm("home", ("cd %s && rmdir %s"):format(shell.quote(dir), shell.quote(dir)))
  lu.assertEquals(done.status, 2, done.out .. done.err)
  lu.assertStrContains(done.err, "the current folder is gone")
end

-- Every command after it would refuse a home whose folder others may write.
function TestPlaces.test_no_home_is_made_where_it_would_be_refused()
  local dir = tmp.dir("open")
  process.must { "chmod", "2775", dir }
  local done = create_hsm(dir .. "/home", "true")
  lu.assertEquals(done.status, 5, done.out .. done.err)
  lu.assertEquals(shell.lines("ls -A " .. shell.quote(dir)), {})
end

return {
  TestPlaces = TestPlaces,
  TestTwo = TestTwo,
  TestKilled = TestKilled,
  TestSelected = TestSelected,
  TestLabels = TestLabels,
}
