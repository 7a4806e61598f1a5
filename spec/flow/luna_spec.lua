-- SPDX-License-Identifier: MIT
-- From one partition of an HSM that clones by itself to another, as people run it: on the
-- stand-in for its library (support/luna.c). Nothing here was run on the hardware.
local lu = require("luaunit")

local build = require("support.build")
local luna = require("support.luna")
local process = require("support.process")
local shell = require("support.shell")
local softhsm = require("support.softhsm")
local tmp = require("support.tmp")

local SERIAL = "496771"

local Place = {}
Place.__index = Place

-- An HSM with "payments" (all kinds of keys, none of which may leave by C_WrapKey) and an empty
-- "backup"; `options` of the second, `more` entries of the configuration.
local function place(options, more)
  local self = setmetatable({ hsm = luna.fresh(), home = tmp.dir("home") }, Place)
  self.a = self.hsm:partition("payments", { pin = "officer 1" })
  options = options or {}
  options.pin = "officer 2"
  self.b = self.hsm:partition("backup", options)
  local entries = { self.hsm:entry("luna", nil, ("serial = %q"):format(SERIAL)) }
  table.move(more or {}, 1, #(more or {}), 2, entries)
  self.config = tmp.file("return { hsms = { " .. table.concat(entries, ", ") .. " } }\n")
  return self
end

local function stocked(options, more)
  local self = place(options, more)
  self.a:rsa("web", "03", { "--usage-sign" })
  self.a:aes("kek", "01")
  self.a:ec("sig", "02")
  self.a:data("note", "behind the picture")
  self.hsm:forget_log()
  return self
end

function Place:run(command)
  local all = { build.keyferry, "--home", self.home, "--config", self.config }
  table.move(command, 1, #command, #all + 1, all)
  all.env = { KEYFERRY_PASSWORD = self.a.pin, KEYFERRY_TOKENPW = self.b.pin,
    KEYFERRY_TOKENSOPWD = false, KEYFERRY_DOMAIN = false, KEYFERRY_PED = false,
    SOFTHSM2_CONF = "/nonexistent", HOME = self.home, XDG_CONFIG_HOME = self.home .. "/config",
    XDG_DATA_HOME = false }
  for name, value in pairs(command.env or {}) do all.env[name] = value end
  all.timeout = command.timeout
  return process.run(all)
end

function Place:backup(more)
  local command = { "partition", "backup", "-partition", "payments", "-tokenpar", "backup",
    "-serial", SERIAL, env = more.env }
  table.move(more, 1, #more, #command + 1, command)
  return self:run(command)
end

-- The target's objects, as pkcs11-tool sees them: "Private Key Object; RSA web".
function Place.listed(_, partition)
  local names = {}
  local kind
  for line in partition:tool({ "--list-objects" }):gmatch("[^\n]+") do
    kind = line:match("^(%a[%a ]*) [Oo]bject") or kind
    local label = line:match("^%s+label:%s+'?([^']*)")
    if label then table.insert(names, kind .. " " .. label) end
  end
  table.sort(names)
  return names
end

function Place:clones()
  return self.hsm:log("^CA_CloneObject")
end

local function assert_status(status, done)
  lu.assertEquals(done.status, status, done.out .. done.err)
end

local function count(text, pattern)
  return select(2, text:gsub(pattern, ""))
end

local TestBackup = {}

function TestBackup.test_the_clone_of_a_key_signs_for_its_original()
  local p = stocked()
  assert_status(0, p:backup{ "-add", "-verify" })
  lu.assertEquals(p:listed(p.b), p:listed(p.a))
  local dir = tmp.dir("signing")
  shell.write(dir .. "/letter", "a letter")
  p.b:tool{ "--sign", "--mechanism", "SHA256-RSA-PKCS", "--id", "03", "--input-file",
    dir .. "/letter", "--output-file", dir .. "/signature" }
  p.a:tool{ "--read-object", "--type", "pubkey", "--id", "03", "--output-file", dir .. "/key" }
  process.must{ "openssl", "dgst", "-sha256", "-verify", dir .. "/key", "-keyform", "DER",
    "-signature", dir .. "/signature", dir .. "/letter" }
end

function TestBackup.test_the_hsm_is_called_with_the_target_first_for_each_object()
  local p = stocked()
  local done = p:backup{ "-add" }
  assert_status(0, done)
  lu.assertEquals(count(done.out, "cloned to handle %d+ on target\n"), 6)
  local calls = {}
  for i = 1, 6 do calls[i] = ("CA_CloneObject %d %d 0x0"):format(p.b.slot, p.a.slot) end
  lu.assertEquals(p:clones(), calls)
end

function TestBackup.test_nothing_of_ours_is_put_onto_either_partition()
  local p = stocked()
  local before = p.a.token:objects()
  assert_status(0, p:backup{ "-add" })
  lu.assertEquals(p.a.token:objects(), before)
  lu.assertEquals(#p.b.token:files(), 6)
  lu.assertEquals(p.hsm:log("^C_CreateObject"), {})
  lu.assertEquals(p.hsm:log("^C_GenerateKey"), {})
end

function TestBackup.test_adding_twice_clones_nothing_the_second_time()
  local p = stocked()
  assert_status(0, p:backup{ "-add" })
  local before = p.b.token:objects()
  local done = p:backup{ "-add" }
  assert_status(0, done)
  lu.assertEquals(count(done.out, "already exists on target"), 6)
  lu.assertEquals(p.b.token:objects(), before)
end

function TestBackup.test_replacing_leaves_exactly_what_was_selected()
  local p = stocked()
  p.b:data("old", "an old note")
  local done = p:backup{ "-replace", "-force", "-match", "web", "-verify" }
  assert_status(0, done)
  lu.assertEquals(p:listed(p.b), { "Private Key web", "Public Key web" })
  done = p:backup{ "-replace", "-force" }
  assert_status(0, done)
  lu.assertEquals(count(done.out, "already exists on target"), 2)
  lu.assertEquals(p:listed(p.b), p:listed(p.a))
end

function TestBackup.test_verify_says_that_the_backup_is_its_source_and_when_it_is_not()
  local p = stocked()
  assert_status(0, p:backup{ "-add" })
  local verify = { "partition", "verify", "-partition", "payments", "-tokenpar", "backup",
    "-serial", SERIAL }
  assert_status(0, p:run(verify))
  p.b:tool{ "--delete-object", "--type", "secrkey", "--id", "01" }
  assert_status(1, p:run(verify))
end

function TestBackup.test_a_domain_that_is_given_is_ignored_and_said_to_be()
  local p = stocked()
  local done = p:backup{ "-add", env = { KEYFERRY_DOMAIN = "a domain" } }
  assert_status(0, done)
  lu.assertEquals(count(done.err, "cloning domain that was given is ignored"), 1)
  lu.assertEquals(p:listed(p.b), p:listed(p.a))
end

-- Where another engine is asked for, it is that one's domain.
function TestBackup.test_another_engine_may_be_asked_for()
  local p = place()
  p.a:aes("open", "09", { "--extractable" })
  p.hsm:forget_log()
  assert_status(0, p:backup{ "-add", "-engine", "wrap", env = { KEYFERRY_DOMAIN = "a domain" } })
  lu.assertEquals({ p:clones(), p:listed(p.b) }, { {}, p:listed(p.a) })
end

-- The domain that would vouch for it is in the HSM.
function TestBackup.test_its_report_tells_all_and_is_not_relied_upon()
  local p = stocked()
  local file = tmp.dir("report") .. "/run.json"
  assert_status(0, p:backup{ "-add", "-report", file })
  local text = shell.read(file)
  lu.assertEquals({ count(text, '"status":"cloned"'), count(text, '"mac":null') }, { 6, 1 })
  local done = p:run{ "partition", "verify", "-report", file, "-tokenpar", "backup", "-serial",
    SERIAL, env = { KEYFERRY_DOMAIN = "a domain" } }
  assert_status(5, done)
  lu.assertStrContains(done.out .. done.err, "keeps its cloning domain itself")
end

-- The other way is the same way.
function TestBackup.test_restore_brings_it_back()
  local p = stocked()
  assert_status(0, p:backup{ "-add" })
  local before = p:listed(p.a)
  p.a:tool{ "--delete-object", "--type", "secrkey", "--id", "01" }
  assert_status(0, p:run{ "partition", "restore", "-partition", "payments", "-tokenpar", "backup",
    "-serial", SERIAL, "-add" })
  lu.assertEquals(p:listed(p.a), before)
end

function TestBackup.test_a_plan_says_it_and_does_nothing()
  local p = stocked()
  local done = p:backup{ "-add", "-plan" }
  assert_status(0, done)
  lu.assertEquals(count(done.out, "%(handle %d+%) would be cloned"), 6)
  lu.assertEquals({ p:clones(), #p.b.token:files() }, { {}, 0 })
end

local TestTrouble = {}

function TestTrouble.test_another_domain_fails_object_by_object_to_the_end()
  for _, mode in ipairs{ { "-add" }, { "-replace", "-force" } } do
    local p = stocked({ domain = "blue" })
    p.b:data("old", "an old note")
    p.hsm:forget_log()
    local before = p.b.token:objects()
    local done = p:backup(mode)
    assert_status(1, done)
    lu.assertEquals(count(done.out, "not cloned: [^\n]*cloning domains of the two partitions differ"
      .. "[^\n]*0x8000000B"), 6)
    lu.assertEquals(#p:clones(), 6)
    lu.assertEquals(p.b.token:objects(), before)
  end
end

function TestTrouble.test_a_full_partition_ends_the_run_and_what_was_copied_is_told()
  local p = stocked()
  p.b:set("limit", 2)
  local done = p:backup{ "-add" }
  assert_status(1, done)
  lu.assertEquals(count(done.out, "cloned to handle %d+ on target\n"), 2)
  lu.assertEquals(count(done.out, "not cloned: "), 1)
  lu.assertStrContains(done.out .. done.err, "CKR_CONTAINER_OBJECT_STORAGE_FULL (0x8000002C)")
  lu.assertStrContains(done.out, "2 cloned")
  lu.assertEquals(#p.b.token:files(), 2)
end

function TestTrouble.test_an_operator_who_is_not_there_is_asked_once()
  local p = stocked({ ped = true })
  p.a:on_protected_path()
  p.b:unset("ped/black.pin")
  local done = p:backup{ "-add" }
  assert_status(3, done)
  lu.assertStrContains(done.err, "attend to the PED")
  lu.assertStrContains(done.out .. done.err, "CKR_FUNCTION_CANCELED")
  lu.assertEquals(#p.hsm:log("^C_Login " .. p.b.slot), 1)
  lu.assertEquals({ p:clones(), #p.b.token:files() }, { {}, 0 })
end

function TestTrouble.test_an_operator_who_is_there_opens_both()
  local p = stocked({ ped = true })
  p.a:on_protected_path()
  local done = p:backup{ "-add", env = { KEYFERRY_PASSWORD = false, KEYFERRY_TOKENPW = false } }
  assert_status(0, done)
  lu.assertEquals(#p:clones(), 6)
  lu.assertEquals(p.hsm:log("^C_Login"), { ("C_Login %d 0x0"):format(p.a.slot),
    ("C_Login %d 0x0"):format(p.b.slot) })
end

function TestTrouble.test_a_wrong_role_ends_the_run_at_once()
  local p = stocked()
  p.hsm:answers("CA_CloneObject", { 0x8000001A })
  local done = p:backup{ "-add" }
  assert_status(1, done)
  lu.assertStrContains(done.out .. done.err, "CKR_USER_NOT_AUTHORIZED (0x8000001A)")
  lu.assertEquals(#p:clones(), 1)
end

local TestNot = {}

-- A partition of another module, and one of the engine's; `more` on the command line.
local function elsewhere(more)
  local other = softhsm.fresh(tmp.memory("other"))
  local token = other:init_token("archive", { pin = "officer 2" })
  local p = stocked(nil, { ("{ name = \"soft\", serial = \"77\", module = %q, env = "
    .. "{ SOFTHSM2_CONF = %q }, private_copy = true }"):format(other.module, other.conf) })
  p.a:aes("open", "09", { "--extractable" })
  p.hsm:forget_log()
  local command = { "partition", "backup", "-partition", "payments", "-tokenpar", "archive",
    "-serial", "77", "-add", env = { KEYFERRY_DOMAIN = "a domain" } }
  table.move(more, 1, #more, #command + 1, command)
  return p, token, p:run(command)
end

function TestNot.test_asked_for_between_two_modules_it_says_why_not()
  local p, token, done = elsewhere{ "-engine", "luna" }
  lu.assertNotEquals(done.status, 0)
  lu.assertStrContains(done.out .. done.err, "of two modules")
  lu.assertEquals({ p:clones(), #token:files() }, { {}, 0 })
end

function TestNot.test_it_is_never_chosen_between_two_modules()
  local p, token, done = elsewhere{}
  assert_status(1, done) -- what may not leave stays, and says so
  lu.assertStrContains(done.out, "CKA_EXTRACTABLE is false")
  lu.assertEquals(p:clones(), {})
  lu.assertEquals(#token:labelled("open"), 1)
end

function TestNot.test_it_is_not_asked_to_make_a_partition_and_the_vendors_tool_is_named()
  local p = stocked()
  p.hsm:placeholder()
  local none = { KEYFERRY_PASSWORD = false, KEYFERRY_TOKENPW = false }
  for _, command in ipairs{
    { "partition", "backup", "-partition", "payments", "-tokenpar", "new", "-serial", SERIAL },
    { "partition", "create", "-partition", "new", "-serial", SERIAL },
    { "partition", "plan", "-partition", "payments", "-tokenpar", "new", "-serial", SERIAL },
  } do
    command.env = none
    local done = p:run(command)
    assert_status(5, done)
    lu.assertStrContains(done.out .. done.err, "vendor's own tool")
    lu.assertEquals(p.hsm:log("^C_InitToken"), {})
    lu.assertEquals(p.hsm:log("^C_Login"), {})
  end
end

function TestNot.test_it_gives_nothing_that_could_be_sent_or_kept()
  local p = stocked()
  local file = tmp.dir("sent") .. "/stream"
  local done = p:run{ "partition", "send", "-partition", "payments", "-file", file, "-engine",
    "luna", env = { KEYFERRY_DOMAIN = "a domain" } }
  lu.assertNotEquals(done.status, 0)
  lu.assertStrContains(done.out .. done.err, "nothing that could be kept")
  lu.assertFalse(shell.exists(file))
  lu.assertEquals(p:clones(), {})
end

return { TestBackup = TestBackup, TestTrouble = TestTrouble, TestNot = TestNot }
