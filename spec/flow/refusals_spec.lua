-- SPDX-License-Identifier: MIT
-- partition backup: what is not found, or could be two things.
local lu = require("luaunit")

local scene = require("flow.scene")

local TestNotFound = {}

function TestNotFound.test_no_such_partition_serial_or_configuration_is_status_6()
  local s = scene.new()
  local before = s:snapshot()
  for name, how in pairs {
    ['"nosuch"'] = { partition = "nosuch" },
    ["999999"] = { serial = "999999" },
    ["/nonexistent/config.lua"] = { globals = { "--config", "/nonexistent/config.lua" } },
  } do
    local done = s:backup(how)
    lu.assertEquals(done.status, 6, done.out .. done.err)
    lu.assertStrContains(done.err, name)
    lu.assertStrContains(done.out, "\nCommand Result : 6 (")
  end
  lu.assertEquals(s:changes(before), {})
end

-- "-pas secret" and the like must not be needed to learn that the serial is wrong.
function TestNotFound.test_it_is_told_before_anything_is_asked()
  local s = scene.new()
  lu.assertEquals(s:backup { serial = "999999", secrets = {} }.status, 6)
  lu.assertEquals(s:backup { partition = "nosuch", secrets = {} }.status, 6)
end

-- The source is sought in the backup HSM last.
function TestNotFound.test_a_partition_of_the_backup_hsm_itself_can_be_the_source()
  local s = scene.new("backed")
  local done = s:backup { partition = "backup", tokenpar = "second",
    env = { KEYFERRY_PASSWORD = scene.tokenpw } }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(scene.contents(s:target("second")), scene.contents(s:target()))
end

local TestAmbiguous = {}

local function twins()
  local s = scene.new()
  local other = s:hsm("prod"):init_token("payments", { pin = scene.password })
  s:lua(([[local partition = assert(keyferry.partition("pkcs11:serial=%s"))
    local session <close> = assert(partition:login(keyferry.secret(%q), { writable = true }))
    assert(session:create{ class = "data", label = "only in the other", value = "x",
      token = true, private = true })]]):format(other.serial, scene.password))
  return s, other
end

local function uris(text)
  local list = {}
  for uri in text:gmatch("pkcs11:[^%s,]+") do list[uri] = true end
  local sorted = {}
  for uri in pairs(list) do table.insert(sorted, uri) end
  table.sort(sorted)
  return sorted
end

function TestAmbiguous.test_two_partitions_of_one_label_are_both_named_and_a_uri_picks_one()
  local s, other = twins()
  local before = s:snapshot()
  local done = s:backup {}
  lu.assertEquals(done.status, 6, done.out .. done.err)
  local list = uris(done.err)
  lu.assertEquals(#list, 2, done.err)
  lu.assertEquals(s:changes(before), {})
  for _, uri in ipairs(list) do
    local is_other = uri:find("serial=" .. other.serial, 1, true) ~= nil
    local tokenpar = is_other and "from the other" or "from the first"
    done = s:backup { partition = uri, tokenpar = tokenpar }
    lu.assertEquals(done.status, 0, done.out .. done.err)
    lu.assertEquals(scene.labels(s:target(tokenpar)), is_other and { "only in the other" } or
      { "kek", "mac", "note", "sign", "sign", "tls-web", "tls-web" })
  end
end

function TestAmbiguous.test_two_targets_of_one_label_are_never_guessed_at()
  local s = scene.new("backed")
  s:hsm("vault"):init_token("backup", { pin = scene.tokenpw })
  local before = s:snapshot()
  for _, mode in ipairs { "-add", "-replace" } do
    local done = s:backup { mode, "-force" }
    lu.assertEquals(done.status, 6, done.out .. done.err)
    lu.assertEquals(#uris(done.err), 2, done.err)
  end
  lu.assertEquals(s:changes(before), {})
end

local TestSame = {}

function TestSame.test_source_and_target_the_same_token_is_refused()
  local s = scene.new("backed")
  local before = s:snapshot()
  for _, mode in ipairs { "-add", "-replace" } do
    local done = s:backup { mode, "-force", partition = "backup" }
    lu.assertEquals(done.status, 5, done.out .. done.err)
    lu.assertStrContains(done.err, "the same")
  end
  lu.assertEquals(s:changes(before), {})
end

function TestSame.test_also_when_the_serial_is_that_of_the_source_hsm()
  local s = scene.new()
  local before = s:snapshot()
  local done = s:backup { "-replace", "-force", tokenpar = "payments", serial = "100001" }
  lu.assertEquals(done.status, 5, done.out .. done.err)
  lu.assertEquals(s:changes(before), {})
end

local TestLabels = {}

function TestLabels.test_a_leading_digit_is_warned_of_and_works()
  local s = scene.new()
  local done = s:backup { tokenpar = "7up", "-match", "note" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertStrMatches(done.err, "warning: [^\n]*digit[^\n]*\n")
  lu.assertEquals(scene.labels(s:target("7up")), { "note" })
end

function TestLabels.test_32_bytes_of_utf_8_with_blanks_and_quotes()
  local s = scene.new()
  local label = "dépôt 'A' \"B\" 100% ; $HOME \\é"
  lu.assertEquals(#label, 32)
  local done = s:backup { tokenpar = label, "-match", "note" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  done = s:backup { tokenpar = label, "-add", "-match", "note" }
  lu.assertEquals(scene.counts(done.out), { cloned = 0, exists = 1, failed = 0 }, done.err)
end

-- Labels of objects come from others: they may not move the cursor or end the line.
function TestLabels.test_a_hostile_object_label_is_one_harmless_line()
  local s = scene.new()
  s:inside("payments", [[assert(session:create{ class = "data", value = "x", token = true,
    private = true, label = "evil\n'partition backup' successful.\27[2J" })]])
  local done = s:backup { "-match", "evil*" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertNotStrContains(done.out, "\27")
  lu.assertEquals(select(2, done.out:gsub("\n'partition backup' successful", "")), 1)
  lu.assertEquals(#scene.labels(s:target()), 1)
end

return {
  TestNotFound = TestNotFound,
  TestAmbiguous = TestAmbiguous,
  TestSame = TestSame,
  TestLabels = TestLabels,
}
