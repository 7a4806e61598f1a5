-- SPDX-License-Identifier: MIT
-- The engine luna, end by end, on the stand-in (support/luna.c): what it refuses, what it
-- seals, what it leaves behind when something goes wrong.
local lu = require("luaunit")

local backup = require("keyferry.backup")
local build = require("support.build")
local core = require("keyferry.core")
local luna = require("support.luna")
local softhsm = require("support.softhsm")
local tmp = require("support.tmp")
require("keyferry.sealing")

local FULL, OTHER_DOMAIN, EXISTS = 0x8000002C, 0x8000000B, 0x8000006F

local function assert_refused(code, value, err)
  lu.assertNil(value)
  lu.assertEquals(err and err.code, code, tostring(err))
  return err
end

local function login(module, slot, pin, writable)
  local session = assert(module:session(slot, { writable = writable or false }))
  assert(session:login(core.secret(pin)))
  return session
end

local function stock(session)
  local safe = { token = true, private = true, sensitive = true, extractable = false }
  local function with(more)
    for name, value in pairs(safe) do
      if more[name] == nil then more[name] = value end
    end
    return more
  end
  assert(session:generate(with{ mechanism = "aes_key_gen", value_len = 32, label = "kek",
    id = "\1", encrypt = true, decrypt = true }))
  assert(session:generate_pair{ mechanism = "ec_key_pair_gen",
    public = { label = "sig", id = "\2", token = true, verify = true,
      ec_params = "\6\8\42\134\72\206\61\3\1\7" },
    private = with{ label = "sig", id = "\2", sign = true } })
  assert(session:create{ class = "data", label = "note", token = true, private = true,
    value = "behind the picture", application = "spec" })
end

-- Two partitions of one HSM, the first with something in it; `options` of the second.
local function scene(options, lie)
  local hsm = luna.fresh()
  local self = { hsm = hsm, a = hsm:partition("payments"), b = hsm:partition("backup", options) }
  local path, env = hsm.module, hsm.env
  if lie then
    path = build.tool("luna_liar.so")
    env = { LUNA_STATE = hsm.dir, LUNA_HONEST = hsm.module, LUNA_LIE = lie }
  end
  self.module = assert(core.module(path, { env = env }))
  local filling <close> = login(self.module, self.a.slot, self.a.pin, true)
  stock(filling)
  self.from = login(self.module, self.a.slot, self.a.pin)
  self.to = login(self.module, self.b.slot, self.b.pin, true)
  self.hsm:forget_log()
  return setmetatable(self, { __close = function() self.module:close() end })
end

local function open_end(session, domain)
  return assert(session:endpoint("luna", domain or assert(session:find_domain("luna"))))
end

local function find(session, label, class)
  return assert(session:find{ label = label, class = class, token = true })[1]
end

local function labels(session)
  local list = {}
  for i, object in ipairs(assert(session:find{ token = true })) do list[i] = object.label end
  table.sort(list)
  return table.concat(list, " ")
end

local function clones(s)
  return s.hsm:log("^CA_CloneObject")
end

local function run(s, options)
  local results = {}
  options.source, options.target = options.source or s.from, options.target or s.to
  options.mode = options.mode or "add"
  options.on_result = function(result)
    results[(result.object.label or "?") .. " " .. (result.object.class or "")] = result
  end
  return backup.run(options), results
end

local TestProbe = {}

function TestProbe.test_it_works_two_partitions_of_one_module()
  local s <close> = scene()
  lu.assertTrue(s.from:probe("luna", s.to))
  lu.assertStrContains(tostring(assert_refused("KFR_NO_ENGINE", s.from:probe("luna"))),
    "two partitions of one HSM together")
  lu.assertStrContains(tostring(assert_refused("KFR_NO_ENGINE", s.from:probe("luna", s.from))),
    "same partition")
end

function TestProbe.test_it_does_not_work_two_modules_or_one_without_the_call()
  local s <close> = scene()
  local token = softhsm.fresh(tmp.memory("other")):init_token("other")
  local module <close> = assert(core.module(token.hsm.module,
    { private_copy = true, env = token.hsm.env }))
  local other
  for _, slot in ipairs(module:slots()) do
    if slot.label == "other" then other = login(module, slot.slot, token.pin, true) end
  end
  lu.assertStrContains(tostring(assert_refused("KFR_NO_ENGINE", s.from:probe("luna", other))),
    "of two modules")
  lu.assertStrContains(tostring(assert_refused("KFR_NO_ENGINE", other:probe("luna", s.to))),
    "no CA_CloneObject")
end

function TestProbe.test_no_slot_of_several_hsms_is_an_end_and_that_of_the_officer_no_source()
  local hsm = luna.fresh()
  local a, b = hsm:partition("payments"), hsm:partition("backup")
  local admin, ha = hsm:admin(), hsm:ha(a)
  local module <close> = assert(core.module(hsm.module, { env = hsm.env }))
  local from, to = login(module, a.slot, a.pin), login(module, b.slot, b.pin, true)
  local virtual = assert(module:session(ha, { writable = true }))
  local officer = assert(module:session(admin.slot))
  lu.assertTrue(from:probe("luna", to))
  assert_refused("KFR_NO_ENGINE", virtual:probe("luna", to))
  assert_refused("KFR_NO_ENGINE", from:probe("luna", virtual))
  lu.assertStrContains(tostring(assert_refused("KFR_NO_ENGINE", officer:probe("luna", to))),
    "Security Officer")
end

-- By no other engine either.
function TestProbe.test_nothing_is_backed_up_from_or_to_a_slot_of_several_hsms()
  local hsm = luna.fresh()
  local a, b = hsm:partition("payments"), hsm:partition("backup")
  local ha = hsm:ha(a)
  local module <close> = assert(core.module(hsm.module, { env = hsm.env }))
  local to = login(module, b.slot, b.pin, true)
  local virtual = login(module, ha, a.pin, true)
  for _, two in ipairs{ { virtual, to }, { to, virtual } } do
    local report = backup.run{ source = two[1], target = two[2], mode = "add", engine = "wrap" }
    lu.assertEquals({ report.status, report.reason.code }, { "failed", "KFR_REFUSED" })
    lu.assertStrContains(report.reason.what, "several HSMs")
  end
end

local TestSealed = {}

function TestSealed.test_it_is_a_reference_of_which_nothing_can_be_written_down()
  local s <close> = scene()
  local from <close> = open_end(s.from)
  local sealed <close> = assert(from:seal(find(s.from, "kek")))
  local err = assert_refused("KFR_REFUSED", sealed:bytes())
  lu.assertStrContains(err.what, "this process alone")
  lu.assertEquals(sealed:head().engine, "luna")
  local domain = assert(s.from:find_domain("luna"))
  local stream <close> = assert(core.stream.create(tmp.dir("luna") .. "/stream", domain,
    { label = "x", serial = "1", model = "", manufacturer = "", keyferry = core.version,
      created = os.time(), expected = 1 }))
  assert_refused("KFR_REFUSED", stream:add(sealed))
  lu.assertEquals(clones(s), {})
end

function TestSealed.test_it_opens_by_its_own_engine_alone()
  local s <close> = scene()
  local domain = assert(core.random_domain())
  local from <close> = open_end(s.from, domain)
  local to <close> = open_end(s.to, domain)
  local wrap <close> = assert(s.to:endpoint("wrap", domain))
  local note = find(s.from, "note")
  local reference <close> = assert(from:seal(note))
  assert_refused("KFR_NO_ENGINE", wrap:stage(reference))
  local other <close> = assert(s.from:endpoint("wrap", domain))
  local whole <close> = assert(other:seal(note))
  assert_refused("KFR_NO_ENGINE", to:stage(whole))
  lu.assertEquals({ to:staged(), wrap:staged(), labels(s.to) }, { 0, 0, "" })
end

function TestSealed.test_it_is_good_for_another_partition_of_its_module_only()
  local s <close> = scene()
  local from <close> = open_end(s.from)
  local sealed <close> = assert(from:seal(find(s.from, "kek")))
  local same <close> = open_end(s.from)
  assert_refused("CKR_SESSION_READ_ONLY", same:stage(sealed))
  local writable = login(s.module, s.a.slot, s.a.pin, true)
  local itself <close> = open_end(writable)
  lu.assertStrContains(tostring(assert_refused("KFR_REFUSED", itself:stage(sealed))),
    "this very partition")
  local copy <close> = assert(core.module(s.hsm.module, { env = s.hsm.env, private_copy = true }))
  local there = login(copy, s.b.slot, s.b.pin, true)
  local elsewhere <close> = open_end(there)
  lu.assertStrContains(tostring(assert_refused("KFR_REFUSED", elsewhere:stage(sealed))),
    "another HSM")
  lu.assertEquals(clones(s), {})
end

function TestSealed.test_the_hardwares_domain_has_no_check_value_and_goes_nowhere()
  local s <close> = scene()
  local domain = assert(s.from:find_domain("luna"))
  lu.assertTrue(domain:in_hardware())
  lu.assertFalse(assert(core.random_domain()):in_hardware())
  lu.assertEquals(domain, assert(s.to:find_domain("luna")))
  assert_refused("KFR_NOT_FOUND", domain:check())
  assert_refused("KFR_NOT_FOUND", domain:authenticate("x"))
  assert_refused("KFR_REFUSED", s.to:install_domain(domain))
  lu.assertEquals(tostring(domain), "domain (kept by the HSM)")
  lu.assertEquals(labels(s.to), "")
end

local TestClone = {}

function TestClone.test_every_object_is_its_original_and_the_target_comes_first()
  local s <close> = scene()
  local report, results = run(s, { verify = true })
  lu.assertEquals({ report.status, report.cloned, report.lossy, report.unproved },
    { "success", 4, 0, 0 })
  for name, result in pairs(results) do
    local clone = assert(s.to:object(result.target_handle))
    lu.assertEquals(clone:attributes(), result.object:attributes(), name)
    lu.assertTrue(core.challenge(result.object, clone), name)
    lu.assertTrue(result.verified, name)
  end
  -- The slots are the target's, then the source's.
  lu.assertEquals(clones(s), { "CA_CloneObject 1 0 0x0", "CA_CloneObject 1 0 0x0",
    "CA_CloneObject 1 0 0x0", "CA_CloneObject 1 0 0x0" })
end

function TestClone.test_the_source_is_as_it_was_and_a_read_only_session_is_enough()
  local s <close> = scene()
  local before = s.a.token:objects()
  lu.assertFalse(s.from:is_writable())
  lu.assertEquals(run(s, {}).status, "success")
  lu.assertEquals(s.a.token:objects(), before)
  lu.assertEquals(labels(s.to), labels(s.from))
end

function TestClone.test_both_ends_are_logged_in_or_nothing_is_called()
  local s <close> = scene()
  local from <close> = open_end(s.from)
  local to <close> = open_end(s.to)
  local sealed <close> = assert(from:seal(find(s.from, "note")))
  assert(s.from:logout())
  lu.assertStrContains(tostring(assert_refused("CKR_USER_NOT_LOGGED_IN", to:stage(sealed))),
    "the source")
  lu.assertEquals(clones(s), {})
end

function TestClone.test_a_plan_calls_nothing_and_opens_no_session_with_the_source()
  local s <close> = scene()
  local report = run(s, { plan = true })
  lu.assertEquals({ report.status, report.planned }, { "success", 4 })
  report = run(s, { plan = true, mode = "replace" })
  lu.assertEquals({ report.status, report.planned, report.to_remove }, { "success", 4, 0 })
  lu.assertEquals(s.hsm:log("^C[A_]_?CloneObject"), {})
  lu.assertEquals(s.hsm:log("^C_OpenSession"), {})
end

function TestClone.test_a_policys_changes_are_made_and_give_no_more_rights()
  local s <close> = scene()
  local report, results = run(s, { select = "kek",
    changes = function() return { label = "old kek", decrypt = false } end })
  lu.assertEquals(report.status, "success", tostring(report.reason))
  local clone = assert(s.to:object(results["kek secret_key"].target_handle))
  lu.assertEquals({ clone.label, clone:has("decrypt"), clone:has("encrypt") },
    { "old kek", false, true })
  report = run(s, { select = "sig", changes = function() return { extractable = true } end })
  lu.assertEquals({ report.failed, report.reason.code }, { 2, "KFR_REFUSED" })
  lu.assertEquals(labels(s.to), "old kek")
end

function TestClone.test_a_busy_hsm_is_asked_again_and_not_for_ever()
  local s <close> = scene()
  s.hsm:answers("CA_CloneObject", { 0x80001604, 0x80001604, 0 })
  lu.assertEquals(run(s, { select = "kek" }).status, "success")
  local busy = {}
  for i = 1, 100 do busy[i] = 0x80001604 end
  s.hsm:answers("CA_CloneObject", busy)
  s.hsm:forget_log()
  local report = run(s, { select = "note" })
  lu.assertEquals({ report.failed, report.reason.code }, { 1, "CKR_BUSY" })
  lu.assertTrue(#clones(s) > 2 and #clones(s) < 20, #clones(s))
end

local TestThere = {}

function TestThere.test_what_the_hsm_has_is_known_by_its_ouid_under_any_label()
  local s <close> = scene()
  assert(run(s, {}).status == "success")
  assert(find(s.to, "kek"):change{ label = "renamed" })
  s.hsm:forget_log()
  local report, results = run(s, {})
  lu.assertEquals({ report.status, report.exists, report.cloned }, { "success", 4, 0 })
  lu.assertEquals(results["kek secret_key"].target_handle, find(s.to, "renamed").handle)
  lu.assertEquals(clones(s), {})
end

-- The HSM's own answer: a policy wants it cloned all the same.
function TestThere.test_an_answer_that_it_is_there_is_no_failure_and_the_run_goes_on()
  local s <close> = scene()
  run(s, { select = "kek" })
  s.hsm:forget_log()
  local report, results = run(s, { verify = true, on_exists = function() return "clone" end })
  lu.assertEquals({ report.status, report.exists, report.cloned }, { "success", 1, 3 })
  lu.assertEquals(results["kek secret_key"].target_handle, find(s.to, "kek").handle)
  lu.assertTrue(results["kek secret_key"].verified)
  lu.assertEquals(#s.hsm:log("^CA_CloneObject 1 0 0x8000006F"), 1)
end

-- Said of an object that is not to be found it is no reason to call the backup whole.
function TestThere.test_an_answer_that_it_is_there_is_not_believed()
  local s <close> = scene()
  s.hsm:answers("CA_CloneObject", { EXISTS, EXISTS, EXISTS, EXISTS })
  local report = run(s, {})
  lu.assertEquals({ report.status, report.exists, report.failed }, { "failed", 0, 4 })
  lu.assertEquals(report.reason.code, "CKR_OBJECT_ALREADY_EXISTS")
end

local TestReplace = {}

local function old_backup(s)
  local note = assert(s.to:create{ class = "data", label = "old", token = true, private = true,
    value = "old", application = "spec" })
  run(s, { select = "kek" })
  s.hsm:forget_log()
  return note.handle, find(s.to, "kek").handle
end

function TestReplace.test_what_is_there_stays_what_is_not_wanted_goes_and_the_rest_comes()
  for _, verify in ipairs{ true, false } do
    local s <close> = scene()
    local _, kek = old_backup(s)
    local report, results = run(s, { mode = "replace", verify = verify })
    lu.assertEquals({ report.status, report.cloned, report.exists, report.removed },
      { "success", 3, 1, 1 })
    lu.assertEquals(results["kek secret_key"].target_handle, kek)
    lu.assertEquals(labels(s.to), labels(s.from))
  end
end

function TestReplace.test_one_failure_leaves_the_old_backup_as_it_was()
  for _, code in ipairs{ OTHER_DOMAIN, FULL, 0x80000076 } do
    for _, verify in ipairs{ true, false } do
      local s <close> = scene()
      old_backup(s)
      local before = s.b.token:objects()
      s.hsm:answers("CA_CloneObject", { 0, 0, 0, code })
      local report = run(s, { mode = "replace", verify = verify })
      lu.assertEquals({ report.cloned, report.exists, report.removed }, { 0, 0, 0 })
      lu.assertTrue(report.failed >= 1)
      lu.assertEquals(s.b.token:objects(), before)
    end
  end
end

-- The HSM takes no second one, and the first would have to go before.
function TestReplace.test_one_that_is_there_and_is_another_is_a_conflict()
  local s <close> = scene()
  old_backup(s)
  assert(find(s.to, "kek"):change{ label = "renamed" })
  local before = s.b.token:objects()
  local plan = run(s, { mode = "replace", plan = true })
  lu.assertEquals({ plan.failed, plan.to_remove }, { 4, 0 })
  local report, results = run(s, { mode = "replace" })
  lu.assertEquals({ report.status, report.cloned, report.failed }, { "failed", 0, 4 })
  lu.assertEquals(results["kek secret_key"].err.code, "KFR_CONFLICT")
  lu.assertStrContains(tostring(results["kek secret_key"].err), "CKA_LABEL")
  lu.assertEquals(s.b.token:objects(), before)
end

function TestReplace.test_an_old_object_that_cannot_go_is_found_before()
  local s <close> = scene()
  assert(s.to:create{ class = "data", label = "rock", token = true, private = true, value = "x",
    application = "spec", destroyable = false })
  local before = s.b.token:objects()
  local report = run(s, { mode = "replace" })
  lu.assertEquals({ report.status, report.cloned }, { "failed", 0 })
  lu.assertEquals(report.reason.code, "CKR_ACTION_PROHIBITED")
  lu.assertEquals(s.b.token:objects(), before)
end

function TestReplace.test_a_run_that_does_not_come_to_its_end_leaves_the_old_backup_as_it_was()
  local s <close> = scene()
  old_backup(s)
  local before = s.b.token:objects()
  local ok, err = pcall(backup.run, { source = s.from, target = s.to, mode = "replace",
    on_progress = function(done) if done == 3 then error("pulled the plug", 0) end end })
  lu.assertEquals({ ok, tostring(err) }, { false, "pulled the plug" })
  lu.assertEquals(#clones(s), 3)
  lu.assertEquals(s.b.token:objects(), before)
end

-- Nobody was left to take the clones away: they are whole, and the next run's.
function TestReplace.test_after_a_run_that_was_killed_the_next_one_ends_it()
  local s <close> = scene()
  old_backup(s)
  local from <close> = open_end(s.from)
  local killed = open_end(s.to)
  local sealed <close> = assert(from:seal(find(s.from, "note")))
  assert(killed:stage(sealed))
  s.to:close()
  s.to = login(s.module, s.b.slot, s.b.pin, true)
  lu.assertEquals(labels(s.to), "kek note old")
  local report = run(s, { mode = "replace" })
  lu.assertEquals({ report.status, report.cloned, report.exists, report.removed },
    { "success", 2, 2, 1 })
  lu.assertEquals(labels(s.to), labels(s.from))
end

function TestReplace.test_what_cannot_be_undone_is_cloned_last()
  local s <close> = scene()
  local filling <close> = login(s.module, s.a.slot, s.a.pin, true)
  assert(filling:create{ class = "data", label = "a rock", token = true, private = true,
    value = "x", application = "spec", destroyable = false })
  s.hsm:answers("CA_CloneObject", { 0, 0, 0, FULL })
  local report = run(s, { mode = "replace" })
  lu.assertEquals({ report.cloned, labels(s.to) }, { 0, "" })
  report = run(s, { mode = "replace" })
  lu.assertEquals({ report.status, report.cloned }, { "success", 5 })
  lu.assertFalse(find(s.to, "a rock").destroyable)
end

local TestEnd = {}

function TestEnd.test_a_full_partition_ends_the_run_and_what_was_copied_stays()
  for _, code in ipairs{ 0x8000001B, 0x8000002A, 0x8000002C } do
    local s <close> = scene()
    s.b:set("limit", 2)
    s.b:set("full", ("0x%X"):format(code))
    local report = run(s, {})
    lu.assertEquals({ report.status, report.cloned, report.failed }, { "partial", 2, 1 })
    lu.assertEquals(report.reason.rv, code)
    lu.assertStrContains(report.reason.hint, "full")
    lu.assertEquals(#clones(s), 3)
    lu.assertEquals(#s.to:find{ token = true }, 2)
  end
end

-- Whatever the policy would say.
function TestEnd.test_no_call_follows_a_lock_a_tamper_or_a_silent_ped()
  for _, code in ipairs{ 0x80000007, 0x80000009, 0x8000001A, 0x8000001F, 0x80000020, 0x80000024,
    0x8000002E, 0x8000006E, 0x80000076, 0x8000009E } do
    local s <close> = scene()
    s.hsm:answers("CA_CloneObject", { 0, code })
    local report = run(s, { on_error = function() return "retry" end })
    lu.assertEquals({ report.status, report.cloned, report.failed }, { "partial", 1, 1 })
    lu.assertEquals(report.reason.rv, code)
    lu.assertNil(report.reason.code:find("0x")) -- it has a name
    lu.assertTrue((report.reason.hint or "") ~= "")
    lu.assertEquals(#clones(s), 2)
  end
end

function TestEnd.test_each_code_of_another_domain_gives_the_same_hint()
  for _, code in ipairs{ 0x8000000A, 0x8000000B, 0x8000000D, 0x8000000E, 0x8000000F, 0x80000014 } do
    local s <close> = scene({ domain = "blue" })
    s.hsm:mismatch(code)
    local report, results = run(s, {})
    lu.assertEquals({ report.status, report.failed, #clones(s) }, { "failed", 4, 4 })
    for _, result in pairs(results) do
      lu.assertEquals(result.err.rv, code)
      lu.assertStrContains(tostring(result.err), "cloning domains of the two partitions differ")
      lu.assertStrContains(result.err.hint, "red key")
    end
    lu.assertEquals(labels(s.to), "")
  end
end

local TestLies = {}

local function lied(lie)
  local s <close> = scene(nil, lie)
  assert(s.to:create{ class = "data", label = "old", token = true, private = true,
    value = "old", application = "spec" })
  local before = s.b.token:objects()
  for _, mode in ipairs{ "add", "replace" } do
    local report = run(s, { mode = mode })
    lu.assertEquals({ report.status, report.cloned }, { "failed", 0 }, lie)
    lu.assertTrue(report.failed > 0, lie)
    lu.assertEquals(s.b.token:objects(), before, lie .. " " .. mode)
  end
end

for _, lie in ipairs{ "nothing", "no-handle", "old", "late", "label" } do
  TestLies["test_" .. lie:gsub("-", "_") .. "_is_no_clone_and_leaves_nothing"] = function()
    lied(lie)
  end
end

return { TestProbe = TestProbe, TestSealed = TestSealed, TestClone = TestClone,
  TestThere = TestThere, TestReplace = TestReplace, TestEnd = TestEnd, TestLies = TestLies }
