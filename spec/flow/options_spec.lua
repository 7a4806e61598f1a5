-- SPDX-License-Identifier: MIT
-- partition backup: its options, their short forms, and those that choose and check.
local lu = require("luaunit")

local scene = require("flow.scene")

-- Refused as usage, before anything is asked or opened.
local function assert_usage(done, ...)
  lu.assertEquals(done.status, 2, done.out .. done.err)
  lu.assertStrContains(done.out, "Command Result : 2 (")
  for _, text in ipairs { ... } do lu.assertStrContains(done.err, text) end
end

local TestNames = {}

function TestNames.test_the_shortcuts_of_the_reference_page()
  local s = scene.new()
  local done = s:run { "partition", "backup", "-par", "payments", "-tokenpa", "backup", "-s",
    scene.serial, "-pas", scene.password, "-tokens", scene.sopw, "-do", scene.domain, "-tokenpw",
    scene.tokenpw }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
  done = s:backup { "-a" }
  lu.assertEquals(scene.counts(done.out), { cloned = 0, exists = 7, failed = 0 }, done.err)
  done = s:backup { "-r", "-f" }
  lu.assertEquals(scene.counts(done.out), { cloned = 7, exists = 0, failed = 0 }, done.err)
  done = s:backup { "-de", "-a", secrets = scene.secrets { "DOMAIN" } }
  lu.assertStrContains(done.err, "-defaultdomain is deprecated")
end

function TestNames.test_an_equals_sign_and_two_dashes_are_the_same()
  local s = scene.new("backed")
  local done = s:backup { "--add", "--partition=payments", "-tokenpar=backup", "--serial",
    scene.serial, partition = false, tokenpar = false, serial = false }
  lu.assertEquals(done.status, 0, done.out .. done.err)
end

function TestNames.test_an_ambiguous_prefix_names_the_candidates()
  local s = scene.new()
  assert_usage(s:backup { "-tokenp", "x" }, "-tokenp", "-tokenpar", "-tokenpw")
  assert_usage(s:backup { "-t", "x" }, "-tokenpar", "-tokensopwd", "-tokenpw")
  assert_usage(s:backup { "-p", "x" }, "-partition", "-password", "-plan")
  assert_usage(s:backup { "-d", "x" }, "-domain", "-defaultdomain")
end

function TestNames.test_an_unknown_option_is_refused_and_the_nearest_one_named()
  local s = scene.new()
  assert_usage(s:backup { "-repalce" }, "-repalce", "-replace")
  assert_usage(s:backup { "-xyzzy" }, "-xyzzy")
end

function TestNames.test_what_is_missing_twice_or_without_a_value_is_refused()
  local s = scene.new()
  assert_usage(s:backup { serial = false }, "-serial")
  assert_usage(s:backup { partition = false, tokenpar = false }, "-partition", "-tokenpar")
  assert_usage(s:backup { "-partition", "payments" }, "-partition", "twice")
  assert_usage(s:backup { "-match" }, "-match")
  assert_usage(s:backup { "-tokenpw", "" }, "-tokenpw")
  assert_usage(s:backup { "stray" }, "belongs to")
end

function TestNames.test_a_value_too_long_for_the_token_is_refused()
  local s = scene.new()
  assert_usage(s:backup { tokenpar = ("x"):rep(33) }, "-tokenpar", "32")
  assert_usage(s:backup { "-password", ("x"):rep(256) }, "-password", "255")
  assert_usage(s:backup { "-class", "private_key,socks" }, "-class", "secret_key")
  assert_usage(s:backup { "-onerror", "panic" }, "-onerror", "stop")
  assert_usage(s:backup { "-engine", "steam" }, "-engine", "wrap")
end

function TestNames.test_options_that_exclude_each_other()
  local s = scene.new()
  assert_usage(s:backup { "-add", "-replace" }, "-add", "-replace")
  assert_usage(s:backup { "-domain", "x", "-defaultdomain" }, "-domain", "-defaultdomain")
  assert_usage(s:backup { "-plan", "-verify" }, "-plan", "-verify")
end

local TestSelect = {}

function TestSelect.test_a_run_that_selects_nothing_warns()
  local s = scene.new("backed")
  local done = s:backup { "-add", "-match", "nothing like it", globals = { "--quiet" } }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertStrContains(done.err, "warning: no object was selected: all 7 were skipped\n")
end

function TestSelect.test_match_takes_labels_as_a_shell_does()
  for glob, labels in pairs { ["t*"] = { "tls-web", "tls-web" }, ["?ac"] = { "mac" },
    ["[kn]*"] = { "kek", "note" }, ["tls-we?"] = { "tls-web", "tls-web" }, ["tls.web"] = {} } do
    local s = scene.new()
    local done = s:backup { "-match", glob }
    lu.assertEquals(done.status, 0, done.out .. done.err)
    lu.assertEquals(scene.labels(s:target()), labels, glob)
  end
end

function TestSelect.test_class_takes_one_or_several()
  local s = scene.new()
  local done = s:backup { "-class", "private_key,data" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(scene.labels(s:target()), { "note", "sign", "tls-web" })
  lu.assertStrContains(done.out, "\n3 cloned, 4 skipped\n")
  done = s:backup { "-add", "-class", "public_key", "-match", "sign" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(scene.labels(s:target()), { "note", "sign", "sign", "tls-web" })
end

local TestPlan = {}

function TestPlan.test_it_says_what_would_be_done_and_changes_nothing_at_all()
  local s = scene.new()
  local before = s:snapshot()
  local done = s:backup { "-plan" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(select(2, done.out:gsub("Object [^\n]* would be cloned exactly\n", "")), 7)
  lu.assertEquals(s:changes(before), {})
  lu.assertEquals(s:hsm("vault"):tokens(), {})
end

function TestPlan.test_of_add_and_of_replace()
  local s = scene.new("backed")
  s:source():aes("kek2", "21")
  local before = s:snapshot()
  local done = s:backup { "-plan", "-add" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertStrContains(done.out, "7 already there, 1 would be cloned\n")
  done = s:backup { "-plan", "-replace" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertStrContains(done.out, "8 would be cloned, 7 would be removed\n")
  lu.assertEquals(s:changes(before), {})
end

function TestPlan.test_it_tells_what_could_not_be_cloned()
  local s = scene.new("backed")
  local before = s:snapshot()
  local done = s:backup { "-plan", "-replace", "-engine", "wrap" }
  lu.assertEquals(done.status, 1, done.out .. done.err)
  lu.assertStrContains(done.out, 'Object "kek" (handle')
  lu.assertStrMatches(done.out, '.*Object "kek" %(handle %d+%) cannot be cloned: [^\n]+\n.*')
  lu.assertEquals(s:changes(before), {})
end

local TestErrors = {}

-- The engine wrap cannot take out what is not extractable.
function TestErrors.test_continue_goes_on_to_the_end_of_the_list()
  local s = scene.new()
  local done = s:backup { "-engine", "wrap" }
  lu.assertEquals(done.status, 1, done.out .. done.err)
  lu.assertEquals(scene.counts(done.out), { cloned = 4, exists = 0, failed = 3 })
  lu.assertStrContains(done.out, "\n4 cloned, 3 not cloned\n")
  lu.assertStrContains(done.out, "'partition backup' failed: 3 of 7 objects were not cloned")
  lu.assertStrContains(done.out, "\n\nCommand Result : 1 (")
  lu.assertEquals(scene.labels(s:target()), { "mac", "note", "sign", "tls-web" })
  for line in done.out:gmatch("[^\n]* not cloned: [^\n]*") do
    lu.assertStrContains(line:lower(), "extractable")
  end
end

function TestErrors.test_stop_clones_nothing_behind_the_first_failure()
  local s = scene.new()
  s:inside("payments", [[
    for _, object in ipairs(assert(session:find())) do
      if object.label ~= "kek" then object:destroy() end
    end]])
  s:source():data("later", "x", { "--private" })
  local order = s:lua(([[local session <close> = assert(keyferry.partition("payments"):login(
    keyferry.secret(%q)))
    for _, object in ipairs(session:find()) do print(object.label) end]]):format(scene.password))
  local done = s:backup { "-engine", "wrap", "-onerror", "stop" }
  lu.assertEquals(done.status, 1, done.out .. done.err)
  local first = order:match("^[^\n]*") == "kek"
  lu.assertEquals(scene.counts(done.out), { cloned = first and 0 or 1, exists = 0, failed = 1 })
end

-- A partition that this run made and could not fill is not left behind.
function TestErrors.test_a_new_partition_that_got_nothing_is_removed_again()
  local s = scene.new()
  local done = s:backup { "-engine", "wrap", "-match", "kek" }
  lu.assertEquals(done.status, 1, done.out .. done.err)
  lu.assertEquals(s:hsm("vault"):tokens(), {})
end

local TestVerify = {}

function TestVerify.test_every_clone_is_challenged()
  for _, engine in ipairs { "softhsm", "wrap" } do
    local s = scene.new()
    local done = s:backup { "-verify", "-engine", engine, "-match", "mac", globals = { "--json" } }
    lu.assertEquals(done.status, 0, done.out .. done.err)
    lu.assertStrContains(done.out, '"verified":true')
  end
  local s = scene.new()
  local done = s:backup { "-verify" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
  done = s:backup { "-verify", "-replace", "-force" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
end

-- A module that is honest while its format is being proved (one call) and then says OK and
-- stores another key.
local OTHER = "C_UnwrapKey ok-but-other-after 1"

-- The clone was made, and it is for what it is that it was refused.
local function assert_found_out(done)
  lu.assertEquals(done.status, 1, done.out .. done.err)
  lu.assertEquals(scene.counts(done.out).cloned, 0)
  lu.assertStrMatches(done.out, ".*not cloned: [^\n]*KFR_DIFFERS[^\n]*\n.*")
  lu.assertNotStrContains(done.out, "proved to be")
end

local function one_fresh_key(s)
  s:inside("payments", [[
    for _, object in ipairs(assert(session:find())) do object:destroy() end
    assert(session:create{ class = "secret_key", key_type = "aes", label = "fresh", id = "\8",
      value = ("v"):rep(32), token = true, private = true, sensitive = true,
      extractable = true, encrypt = true, decrypt = true })]])
end

-- Such a clone is never called a backup, also where no -verify was asked for.
function TestVerify.test_a_clone_that_is_another_key_is_no_backup()
  for _, more in ipairs { { "-verify" }, {} } do
    local s = scene.new("backed")
    local before = scene.contents(s:target())
    one_fresh_key(s)
    local _, globals = s:lying("vault", OTHER)
    assert_found_out(s:backup { "-add", "-engine", "wrap", globals = globals,
      table.unpack(more) })
    lu.assertEquals(scene.contents(s:target()), before)
  end
end

-- Where the module cannot digest a key, only the challenge tells.
function TestVerify.test_the_challenge_finds_it_where_nothing_else_can()
  local s = scene.new("backed")
  local before = scene.contents(s:target())
  one_fresh_key(s)
  local _, globals = s:lying("vault", OTHER .. "\nC_DigestKey * CKR_FUNCTION_NOT_SUPPORTED")
  assert_found_out(s:backup { "-add", "-engine", "wrap", "-verify", globals = globals })
  lu.assertEquals(scene.contents(s:target()), before)
end

function TestVerify.test_replace_by_other_keys_keeps_the_old_backup()
  for _, more in ipairs { { "-verify" }, {} } do
    local s = scene.new("backed")
    one_fresh_key(s)
    local before = s:snapshot()
    local contents = scene.contents(s:target())
    local _, globals = s:lying("vault", OTHER)
    assert_found_out(s:backup { "-replace", "-force", "-engine", "wrap", globals = globals,
      table.unpack(more) })
    lu.assertEquals(scene.contents(s:target()), contents)
    lu.assertEquals(s:changes(before, "prod"), {})
  end
end

local TestEngine = {}

function TestEngine.test_wrap_clones_what_may_be_taken_out_and_it_works()
  local s = scene.new()
  local done = s:backup { "-engine", "wrap", "-match", "mac", "-verify" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(s:target():labelled("mac")[1][scene.CKA_VALUE].value, ("m"):rep(32))
end

-- What cannot be kept is said, object by object.
function TestEngine.test_wrap_says_what_a_clone_could_not_keep()
  local s = scene.new()
  local done = s:backup { "-engine", "wrap", "-match", "mac" }
  lu.assertStrMatches(done.out, '.*Object "mac" [^\n]* on target; not kept: [^\n]*CKA_%u[^\n]*\n.*')
end

return {
  TestNames = TestNames,
  TestSelect = TestSelect,
  TestPlan = TestPlan,
  TestErrors = TestErrors,
  TestVerify = TestVerify,
  TestEngine = TestEngine,
}
