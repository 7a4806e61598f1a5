-- SPDX-License-Identifier: MIT
-- partition backup: create, -add, -replace, and what each leaves behind.
local lu = require("luaunit")

local process = require("support.process")
local scene = require("flow.scene")
local shell = require("support.shell")
local tmp = require("support.tmp")

local SOURCE = { "kek", "mac", "note", "sign", "sign", "tls-web", "tls-web" }

local TestCreate = {}

function TestCreate.test_the_new_partition_holds_exactly_what_the_source_holds()
  local s = scene.new("backed")
  lu.assertEquals(scene.labels(s:source()), SOURCE)
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
end

function TestCreate.test_result_lines_counts_and_the_last_lines_are_those_of_the_page()
  local s = scene.new()
  local done = s:backup {}
  lu.assertEquals(done.status, 0, done.err)
  lu.assertEquals(scene.counts(done.out), { cloned = 7, exists = 0, failed = 0 })
  lu.assertStrContains(done.out, "\n7 cloned\n'partition backup' successful.\n\n" ..
    "Command Result : 0 (Success)\n")
  lu.assertEquals(done.err, "")
end

-- Signed by the clone, verified by the public key of the original, both through other
-- people's programs.
function TestCreate.test_clones_sign_what_the_originals_public_keys_verify()
  local s = scene.new("backed")
  local dir = tmp.dir()
  shell.write(dir .. "/message", "to be signed")
  process.must { "openssl", "dgst", "-sha256", "-binary", "-out", dir .. "/digest",
    dir .. "/message" }
  for _, case in ipairs { { "03", "SHA256-RSA-PKCS", "/message" }, { "02", "ECDSA", "/digest" } } do
    s:target():tool { "--sign", "--id", case[1], "--mechanism", case[2], "--input-file",
      dir .. case[3], "--output-file", dir .. "/sig", "--signature-format", "openssl" }
    s:source():tool { "--read-object", "--type", "pubkey", "--id", case[1], "--output-file",
      dir .. "/pub" }
    local out = process.must { "openssl", "dgst", "-sha256", "-keyform", "DER", "-verify",
      dir .. "/pub", "-signature", dir .. "/sig", dir .. "/message" }
    lu.assertStrContains(out, "Verified OK")
  end
end

function TestCreate.test_the_clone_of_a_key_nobody_may_read_decrypts_what_the_original_encrypted()
  local s = scene.new("backed")
  local dir = tmp.dir()
  local plain = tmp.file("sixteen bytes!!!")
  s:source():tool { "--encrypt", "--id", "01", "--mechanism", "AES-CBC-PAD", "--iv",
    ("00"):rep(16), "--input-file", plain, "--output-file", dir .. "/c" }
  s:target():tool { "--decrypt", "--id", "01", "--mechanism", "AES-CBC-PAD", "--iv",
    ("00"):rep(16), "--input-file", dir .. "/c", "--output-file", dir .. "/p" }
  lu.assertEquals(shell.read(dir .. "/p"), "sixteen bytes!!!")
end

function TestCreate.test_an_empty_source_is_a_success_of_none()
  local s = scene.new()
  s:inside("payments", "for _, object in ipairs(assert(session:find())) do object:destroy() end")
  local done = s:backup {}
  lu.assertEquals(done.status, 0, done.err)
  lu.assertEquals(done.out,
    "0 cloned\n'partition backup' successful.\n\nCommand Result : 0 (Success)\n")
  lu.assertEquals(scene.labels(s:target()), {})
end

-- A backup of an empty partition is one: it takes objects of that domain later on.
function TestCreate.test_a_partition_made_for_an_empty_source_has_the_domain()
  local s = scene.new()
  s:inside("payments", "for _, object in ipairs(assert(session:find())) do object:destroy() end")
  s:backup {}
  s:source():data("late", "x", { "--private" })
  local done = s:backup { "-add" }
  lu.assertEquals(done.status, 0, done.err)
  lu.assertEquals(scene.labels(s:target()), { "late" })
end

local TestAdd = {}

function TestAdd.test_the_second_run_clones_nothing()
  local s = scene.new("backed")
  local before = s:snapshot()
  local done = s:backup { "-add" }
  lu.assertEquals(done.status, 0, done.err)
  lu.assertEquals(scene.counts(done.out), { cloned = 0, exists = 7, failed = 0 })
  lu.assertStrContains(done.out, "\n0 cloned, 7 already there\n")
  lu.assertEquals(s:changes(before), {})
end

function TestAdd.test_to_what_another_run_left_unfinished_is_warned_of()
  local s = scene.new("backed")
  s:inside("backup", [[assert(session:mark_unfinished("1234 mail"))]])
  local done = s:backup { "-add" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertStrContains(done.err, 'warning: partition "backup" is the unfinished backup of another '
    .. "partition (1234 mail), and stays it\n")
end

function TestAdd.test_only_what_is_new_is_cloned()
  local s = scene.new("backed")
  s:source():aes("kek2", "21")
  local done = s:backup { "-add" }
  lu.assertEquals(done.status, 0, done.err)
  lu.assertEquals(scene.counts(done.out), { cloned = 1, exists = 7, failed = 0 })
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
end

-- Two keys by the name of one: neither may be taken for the other.
function TestAdd.test_the_same_label_and_id_with_another_key_is_another_object()
  local s = scene.new("backed")
  local old = s:target():labelled("mac")[1][scene.CKA_VALUE].value
  s:inside("payments", [[
    for _, object in ipairs(assert(session:find{ label = "mac" })) do object:destroy() end
    assert(session:create{ class = "secret_key", key_type = "generic_secret", label = "mac",
      id = "\4", value = ("n"):rep(32), token = true, private = true, sensitive = true,
      extractable = true, sign = true, verify = true })]])
  local done = s:backup { "-add" }
  lu.assertEquals(done.status, 0, done.err)
  lu.assertEquals(scene.counts(done.out), { cloned = 1, exists = 6, failed = 0 })
  local values = {}
  for _, object in ipairs(s:target():labelled("mac")) do
    table.insert(values, object[scene.CKA_VALUE].value)
  end
  table.sort(values)
  lu.assertEquals(values, { old, ("n"):rep(32) })
end

local function pair_up(s)
  s:inside("payments", [[
    for _, byte in ipairs{ "a", "b", "a" } do
      assert(session:create{ class = "secret_key", key_type = "generic_secret", label = "twin",
        id = "\9", value = byte:rep(24), token = true, private = true, sensitive = true,
        extractable = true, sign = true, verify = true })
    end]])
end

function TestAdd.test_twins_in_the_source_arrive_as_many_as_they_are_and_once()
  for _, engine in ipairs { "softhsm", "wrap" } do
    local s = scene.new()
    pair_up(s)
    local done = s:backup { "-engine", engine, "-match", "twin" }
    lu.assertEquals(done.status, 0, done.err)
    local values = {}
    for _, object in ipairs(s:target():labelled("twin")) do
      table.insert(values, object[scene.CKA_VALUE].value:sub(1, 1))
    end
    table.sort(values)
    lu.assertEquals(values, { "a", "a", "b" }, engine)
    done = s:backup { "-engine", engine, "-match", "twin", "-add" }
    lu.assertEquals(scene.counts(done.out), { cloned = 0, exists = 3, failed = 0 }, engine)
    lu.assertEquals(#s:target():labelled("twin"), 3)
  end
end

-- One of the twins is there: the other two are still to come.
function TestAdd.test_one_twin_on_the_target_does_not_stand_for_both()
  local s = scene.new()
  pair_up(s)
  s:backup { "-match", "twin" }
  s:inside("backup", [[
    for _, object in ipairs(assert(session:find{ label = "twin" })) do
      object:destroy()
      break
    end]])
  local done = s:backup { "-match", "twin", "-add" }
  lu.assertEquals(scene.counts(done.out), { cloned = 1, exists = 2, failed = 0 }, done.err)
  lu.assertEquals(scene.contents(s:target()), (function()
    local list = {}
    for _, text in ipairs(scene.contents(s:source())) do
      if text:find(shell.hex("twin"), 1, true) then table.insert(list, text) end
    end
    return list
  end)())
end

-- Its public half is the original's, so it is told as there; only use shows that it is broken.
function TestAdd.test_verify_finds_a_broken_key_that_was_there_already()
  local s = scene.new("backed")
  s:inside("backup", [[
    local key = session:find{ class = "private_key", key_type = "rsa" }[1]
    local broken = { class = "private_key", key_type = "rsa", token = true, private = true,
      sensitive = true, label = key.label, id = key.id, sign = true,
      modulus = key.modulus, public_exponent = key.public_exponent }
    for _, part in ipairs{ "private_exponent", "prime_1", "prime_2", "exponent_1",
      "exponent_2", "coefficient" } do
      broken[part] = ("\7"):rep(128)
    end
    assert(key:destroy())
    assert(session:create(broken))]])
  lu.assertEquals(scene.counts(s:backup({ "-add" }).out), { cloned = 0, exists = 7, failed = 0 })
  local done = s:backup { "-add", "-verify" }
  lu.assertEquals(done.status, 1, done.out .. done.err)
  lu.assertEquals(scene.counts(done.out), { cloned = 0, exists = 6, failed = 1 })
  lu.assertEquals(s:backup({ "-replace", "-force", "-verify" }).status, 0)
  lu.assertEquals(s:backup({ "-add", "-verify" }).status, 0)
end

local TestReplace = {}

function TestReplace.test_afterwards_the_target_holds_exactly_what_was_selected()
  local s = scene.new("backed")
  for i = 1, 3 do s:target():data("old" .. i, "x") end
  local done = s:backup { "-replace", "-force", "-match", "s*" }
  lu.assertEquals(done.status, 0, done.err)
  lu.assertEquals(scene.labels(s:target()), { "sign", "sign" })
  lu.assertStrContains(done.out, "\n2 cloned, 5 skipped, 10 removed\n")
  done = s:backup { "-replace", "-force" }
  lu.assertEquals(done.status, 0, done.err)
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
end

-- The domain is the partition's, not the backup's: it outlives the objects.
function TestReplace.test_the_domain_of_the_target_stays()
  local s = scene.new("backed")
  lu.assertEquals(s:backup { "-replace", "-force" }.status, 0)
  local done = s:backup { "-add" }
  lu.assertEquals(scene.counts(done.out), { cloned = 0, exists = 7, failed = 0 }, done.err)
end

-- A key that the engine wrap cannot take out, and which is last by no chance: whichever place
-- it has, nothing of the old backup may go.
function TestReplace.test_a_run_that_cannot_clone_one_object_leaves_the_old_backup_whole()
  local s = scene.new("backed")
  s:target():data("old", "x")
  local before = s:snapshot()
  local done = s:backup { "-replace", "-force", "-engine", "wrap" }
  lu.assertEquals(done.status, 1, done.out .. done.err)
  lu.assertStrContains(done.out, "'partition backup' failed: ")
  lu.assertNotStrContains(done.out, "cloned to handle")
  lu.assertEquals(s:changes(before), {})
end

function TestReplace.test_with_onerror_stop_it_leaves_the_old_backup_whole_too()
  local s = scene.new("backed")
  local before = s:snapshot()
  local done = s:backup { "-replace", "-force", "-engine", "wrap", "-onerror", "stop" }
  lu.assertEquals(done.status, 1, done.out .. done.err)
  lu.assertEquals(s:changes(before), {})
end

function TestReplace.test_an_empty_selection_replaces_nothing_and_says_so()
  local s = scene.new("backed")
  local before = s:snapshot()
  local done = s:backup { "-replace", "-force", "-match", "nothing like it" }
  lu.assertEquals(done.status, 5, done.err)
  lu.assertStrContains(done.out, "nothing is selected")
  lu.assertEquals(s:changes(before), {})
end

local TestNeither = {}

function TestNeither.test_an_existing_target_needs_add_or_replace()
  local s = scene.new("backed")
  local before = s:snapshot()
  local done = s:backup { "-force" }
  lu.assertEquals(done.status, 5, done.out .. done.err)
  lu.assertStrContains(done.err, "-add")
  lu.assertStrContains(done.err, "-replace")
  lu.assertStrContains(done.out, "Command Result : 5 (")
  lu.assertEquals(s:changes(before), {})
end

function TestNeither.test_both_are_refused_before_anything_is_opened()
  local s = scene.new("backed")
  local before = s:snapshot()
  local done = s:backup { "-add", "-replace", "-force" }
  lu.assertEquals(done.status, 2, done.out .. done.err)
  lu.assertStrContains(done.out, "Command Result : 2 (")
  lu.assertEquals(s:changes(before), {})
end

function TestNeither.test_replace_without_a_terminal_and_without_force_is_refused()
  local s = scene.new("backed")
  local before = s:snapshot()
  local done = s:backup { "-replace" }
  lu.assertEquals(done.status, 5, done.out .. done.err)
  lu.assertStrContains(done.err, "-force")
  lu.assertEquals(s:changes(before), {})
end

return {
  TestCreate = TestCreate,
  TestAdd = TestAdd,
  TestReplace = TestReplace,
  TestNeither = TestNeither,
}
