-- SPDX-License-Identifier: MIT
-- partition plan: what it says of each object is what partition backup then does, and it
-- changes nothing.
local lu = require("luaunit")
local cjson = require("cjson")

local build = require("support.build")
local scene = require("flow.scene")
local shell = require("support.shell")

local function plan(s, how)
  local words = {}
  table.move(how.globals or {}, 1, #(how.globals or {}), 1, words)
  table.move({ "partition", "plan", "-partition", how.partition or "payments" }, 1, 4,
    #words + 1, words)
  if how.serial ~= false then
    table.move({ "-serial", scene.serial, "-tokenpar", "backup" }, 1, 4, #words + 1, words)
  end
  table.move(how, 1, #how, #words + 1, words)
  words.env = how.secrets or scene.secrets()
  return s:run(words)
end

local function events(done)
  local list = {}
  for line in done.out:gmatch("[^\n]+") do list[#list + 1] = cjson.decode(line) end
  return list
end

-- What is said of each object, sorted; "planned" and "cloned" are the same word here.
local function said(done)
  local list = {}
  for _, event in ipairs(events(done)) do
    if event.event == "object" and event.status ~= "removes" then
      local reason = (event.reason or ""):gsub("old object %d+", "old object")
      list[#list + 1] = table.concat({ event.class or "?", event.key_type or "", event.id or "",
        event.label or "", event.status == "planned" and "cloned" or event.status,
        event.lost or "exact", reason }, "|")
    end
  end
  table.sort(list)
  return list
end

-- The lines of a list that another has not (as often).
local function only_in(list, other)
  local there, more = {}, {}
  for _, line in ipairs(other) do there[line] = (there[line] or 0) + 1 end
  for _, line in ipairs(list) do
    there[line] = (there[line] or 0) - 1
    if there[line] < 0 then table.insert(more, line) end
  end
  return more
end

local function result(done)
  local list = events(done)
  return list[#list]
end

local function with(list, more)
  local all = { table.unpack(list) }
  table.move(more, 1, #more, #all + 1, all)
  return all
end

-- The HSM of that name worked by the engine wrap; gives the options before the noun.
local function worked_by_wrap(s, name)
  local hsm = s:hsm(name)
  shell.write(s.home .. "/config.lua", ([[return { system = false, hsms = { { name = %q,
    serial = %q, module = %q, private_copy = true, engine = "wrap",
    env = { SOFTHSM2_CONF = %q } } } }]]):format(name,
    name == "vault" and scene.serial or "100001", build.softhsm(), hsm.conf))
  return { "--config", s.home .. "/config.lua" }
end

-- Plans, looks that nothing has changed, and backs up.
local function compare(s, globals, options)
  local before = s:snapshot()
  globals = with({ "--json" }, globals)
  local planned = plan(s, { globals = globals, table.unpack(options) })
  lu.assertEquals(s:changes(before), {})
  local done = s:backup { globals = globals, table.unpack(options) }
  lu.assertEquals(only_in(said(planned), said(done)), {}, done.err)
  lu.assertEquals(only_in(said(done), said(planned)), {}, planned.err)
  lu.assertEquals(planned.status, done.status)
  return planned, done
end

-- To a partition that is not there yet is planned by rules; this one is there, and empty.
local function make_target(s)
  s:lua(([[assert(assert(keyferry.hsm("vault")):create_partition{ label = "backup",
    password = keyferry.secret(%q), so_password = keyferry.secret(%q),
    domain = assert(keyferry.domain(keyferry.secret(%q))) })]])
    :format(scene.tokenpw, scene.sopw, scene.domain))
end

local TestAgreement = {}

local function awkward()
  local s = scene.new("awkward")
  make_target(s)
  return s
end

function TestAgreement.test_softhsm_to_softhsm()
  local planned = compare(awkward(), {}, { "-add" })
  lu.assertEquals({ planned.status, result(planned).failed }, { 1, 3 }, planned.out)
end

function TestAgreement.test_wrap_to_wrap()
  local planned = compare(awkward(), {}, { "-add", "-engine", "wrap" })
  lu.assertTrue(result(planned).failed > 15 and result(planned).planned > 70, planned.out)
  lu.assertStrContains(planned.out, "CKA_WRAP_WITH_TRUSTED is true")
  lu.assertStrContains(planned.out, "CKR_KEY_NOT_WRAPPABLE")
  lu.assertStrContains(planned.out, '"lost":"CKA_START_DATE, CKA_END_DATE')
end

function TestAgreement.test_softhsm_to_wrap()
  local s = awkward()
  local planned = compare(s, worked_by_wrap(s, "vault"), { "-add" })
  lu.assertTrue(result(planned).failed <= 3 and result(planned).planned > 100, planned.out)
end

function TestAgreement.test_wrap_to_softhsm()
  local s = awkward()
  local planned = compare(s, worked_by_wrap(s, "prod"), { "-add" })
  lu.assertTrue(result(planned).failed > 15 and result(planned).planned > 70, planned.out)
end

function TestAgreement.test_of_a_partition_that_is_to_be_made()
  compare(scene.new("awkward"), {}, {})
end

function TestAgreement.test_of_what_is_there_already_and_what_is_not()
  local s = scene.new("open")
  local planned, done = compare(s, {}, { "-add" })
  lu.assertEquals({ result(planned).exists, result(planned).planned }, { 7, 4 })
  lu.assertEquals(result(done).cloned, 4)
end

local TestReplacing = {}

-- Of each old object: removed, or replaced by its like.
function TestReplacing.test_each_old_object_is_told()
  local s = scene.new("open")
  s:inside("backup", [[assert(session:create{ class = "data", label = "old", value = "x",
    token = true, private = true })]])
  local before = s:snapshot()
  local done = plan(s, { "-replace" })
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(select(2, done.out:gsub(
    'Object "[^\n]*" %(handle %d+%) on target would be replaced by its like\n', "")), 7)
  lu.assertStrMatches(done.out, '.*Object "old" %(handle %d+%) on target would be removed\n.*')
  lu.assertStrContains(done.out, "11 would be cloned, 8 would be removed\n")
  lu.assertEquals(s:changes(before), {})
  compare(s, {}, { "-replace" , "-force" })
end

-- A backup that would fail replaces nothing; so the plan says of every object.
function TestReplacing.test_what_cannot_be_whole_removes_nothing()
  local s = scene.new("open")
  local planned = plan(s, { globals = { "--json" }, "-replace", "-engine", "wrap" })
  local before = s:snapshot()
  local done = s:backup { globals = { "--json" }, "-replace", "-force", "-engine", "wrap" }
  lu.assertEquals(s:changes(before), {})
  lu.assertEquals({ planned.status, done.status }, { 1, 1 })
  lu.assertEquals({ result(planned).failed, result(planned).to_remove }, { 11, 0 })
  lu.assertEquals(result(done).failed, 11)
  lu.assertNotStrContains(planned.out, '"removes"')
end

-- C_DestroyObject is all that the engine wrap has.
function TestReplacing.test_what_may_not_be_removed_is_in_the_way_of_wrap()
  local s = scene.new("open")
  s:inside("backup", [[assert(session:create{ class = "data", label = "stays", value = "x",
    token = true, private = true, destroyable = false })]])
  compare(s, {}, { "-replace", "-force", "-match", "open*", "-engine", "wrap" })
  local planned = compare(s, {}, { "-replace", "-force", "-match", "open*" })
  lu.assertEquals({ planned.status, result(planned).to_remove }, { 0, 8 })
end

local TestAlone = {}

-- At key creation, in a CI job: no target, no domain.
function TestAlone.test_the_engine_alone_tells_what_cannot_be_backed_up()
  local s = scene.new()
  local before = s:snapshot()
  local how = { serial = false, secrets = { KEYFERRY_PASSWORD = scene.password } }
  local done = plan(s, how)
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(select(2, done.out:gsub(" would be cloned exactly\n", "")), 7)
  lu.assertNotStrContains(done.out, "Room")
  how[1], how[2] = "-engine", "wrap"
  done = plan(s, how)
  lu.assertEquals(done.status, 1, done.out .. done.err)
  lu.assertStrMatches(done.out, '.*Object "kek" %(handle %d+%) cannot be cloned: '
    .. "CKA_EXTRACTABLE is false[^\n]+; the engine softhsm can clone it: KFR_NOT_CLONABLE\n.*")
  lu.assertStrMatches(done.out, '.*Object "sign" %(handle %d+%) would be cloned; not kept: '
    .. "CKA_LOCAL, CKA_KEY_GEN_MECHANISM, as far as can be told without the target\n.*")
  lu.assertEquals(s:changes(before), {})
end

-- Also of a partition that nobody has used keyferry on.
function TestAlone.test_no_domain_is_asked_for()
  local s = scene.new()
  s:hsm("prod"):init_token("bare", { pin = scene.password }):aes("one", "01")
  local done = plan(s, { partition = "bare", serial = false,
    secrets = { KEYFERRY_PASSWORD = scene.password } })
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertStrContains(done.out, 'Object "one"')
end

function TestAlone.test_the_hsm_is_asked_where_the_partition_is_not_there_yet()
  local s = scene.new()
  local before = s:snapshot()
  local done = plan(s, {})
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertStrContains(done.out, "\nRoom on target: unknown, since its HSM does not say; about ")
  local _, globals = s:lying("vault", "C_GetTokenInfo free 1000")
  done = plan(s, { globals = globals })
  lu.assertEquals(done.status, 1, done.out .. done.err)
  lu.assertEquals(s:changes(before), {})
end

local TestRoom = {}

function TestRoom.test_too_little_of_it_is_a_failure()
  local s = scene.new("open")
  local hsm, globals = s:lying("vault", "C_GetTokenInfo free 1000")
  local done = plan(s, { globals = globals })
  lu.assertEquals(done.status, 1, done.out .. done.err)
  lu.assertStrMatches(done.out,
    ".*\nRoom on target: 1000 bytes free; about %d+ bytes needed: not enough\n.*")
  lu.assertStrContains(done.err, "the target has not room enough for what would be cloned")
  hsm:lie("C_GetTokenInfo free 1000000")
  done = plan(s, { globals = globals })
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertStrContains(done.out, "\nRoom on target: 1000000 bytes free; about ")
  done = plan(s, { globals = with(globals, { "--json" }) })
  lu.assertStrContains(done.out, '"event":"room","command":"partition plan","enough":true,')
end

local TestUse = {}

function TestUse.test_combinations_that_make_no_sense_are_refused()
  local s = scene.new()
  for _, words in ipairs { { "-tokenpar", "backup" }, { "-add" }, { "-replace" },
    { "-add", "-replace" } } do
    lu.assertEquals(plan(s, { serial = false, table.unpack(words) }).status, 2)
  end
  lu.assertEquals(plan(s, { serial = false, partition = "none" }).status, 6)
  lu.assertEquals(plan(s, { "-domain", "another" }).status, 4)
end

function TestUse.test_of_a_stream_whose_partition_is_to_be_made()
  local s = scene.new()
  local stream = s.home .. "/stream"
  local done = s:run { "partition", "send", "-partition", "payments", "-file", stream,
    env = scene.secrets() }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  local before = s:snapshot()
  done = s:run { "partition", "receive", "-tokenpar", "backup", "-serial", scene.serial, "-file",
    stream, "-plan", env = scene.secrets() }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertStrContains(done.out, "\n7 would be cloned\n")
  lu.assertEquals(s:changes(before), {})
end

function TestUse.test_a_report_of_it_can_be_written()
  local s = scene.new("backed")
  local file = s.home .. "/plan.json"
  local done = plan(s, { "-report", file })
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertStrContains(shell.read(file), '"partition plan"')
  lu.assertEquals(plan(s, { "-report", file }).status, 5)
  lu.assertEquals(plan(s, { "-report", file, "-force" }).status, 0)
end

-- A read-only session is all it takes: one that takes no token object.
function TestUse.test_the_token_is_not_made_to_write()
  local s = scene.new("open")
  local hsm, globals = s:lying("vault", "call-log %LOG%")
  local done = plan(s, { globals = globals, "-engine", "wrap" })
  lu.assertEquals(done.status, 0, done.out .. done.err)
  for _, call in ipairs(hsm:calls()) do
    for _, name in ipairs { "C_InitToken", "C_InitPIN", "C_SetPIN" } do
      lu.assertNotEquals(call:match("^%S+"), name)
    end
    lu.assertNotStrContains(call, "CKR_SESSION_READ_ONLY")
  end
end

return { TestAgreement = TestAgreement, TestReplacing = TestReplacing, TestAlone = TestAlone,
  TestRoom = TestRoom, TestUse = TestUse }
