-- SPDX-License-Identifier: MIT
-- partition backup: the source stays as it was, and both HSMs are in use meanwhile.
local lu = require("luaunit")

local build = require("support.build")
local process = require("support.process")
local scene = require("flow.scene")
local shell = require("support.shell")
local tmp = require("support.tmp")

local TestSource = {}

-- Byte for byte, whatever the run does (a login writes the flags of token.object).
function TestSource.test_it_is_never_written_to()
  local s = scene.new()
  local before = s:snapshot()
  for _, how in ipairs { {}, { "-add" }, { "-replace", "-force", "-verify" },
    { "-add", "-engine", "wrap" }, { "-add", env = { KEYFERRY_DOMAIN = "another" } },
    { "-add", "-plan" }, { "-add", env = { KEYFERRY_PASSWORD = "wrong pin" } } } do
    s:backup(how)
    lu.assertEquals(s:changes(before, "prod"), {}, table.concat(how, " "))
  end
end

-- A partition nobody has used keyferry on: not even its domain is written there.
function TestSource.test_also_one_without_a_domain_that_has_odd_files()
  local s = scene.new()
  local token = s:hsm("prod"):init_token("bare", { pin = scene.password })
  token:aes("one", "01")
  shell.write(token.dir .. "/notes.txt", "not of SoftHSM")
  shell.write(token.dir .. "/half.tmp", "left by somebody")
  local before = s:snapshot()
  local done = s:backup { partition = "bare", "-verify" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(s:changes(before, "prod"), {})
end

local TestTorn = {}

-- One object is torn, and a foreign file calls itself an object. Neither is ever called
-- backed up, the others are, and nothing is mended.
function TestTorn.test_of_a_torn_object_no_backup_is_claimed()
  for _, cut in ipairs { 0.3, 0.9 } do
    local s = scene.new()
    local source = s:source()
    local victim = source:labelled("kek")[1].file
    local bytes = shell.read(source.dir .. "/" .. victim)
    shell.write(source.dir .. "/" .. victim, bytes:sub(1, math.floor(#bytes * cut)))
    local before = s:snapshot()
    local done = s:backup {}
    lu.assertNotEquals(done.status, 0, done.out .. done.err)
    lu.assertNotStrContains(done.out, "kek")
    lu.assertStrContains(done.out .. done.err, victim:match("^[^.]+"))
    lu.assertEquals(s:changes(before, "prod"), {})
    lu.assertEquals(scene.labels(s:target()), { "mac", "note", "sign", "sign", "tls-web",
      "tls-web" })
  end
end

function TestTorn.test_a_foreign_file_is_told_and_the_rest_is_backed_up()
  local s = scene.new()
  shell.write(s:source().dir .. "/foreign.object", "this is no object of SoftHSM at all, really")
  local before = s:snapshot()
  local done = s:backup {}
  lu.assertNotEquals(done.status, 0, done.out .. done.err)
  lu.assertStrContains(done.out .. done.err, "foreign")
  lu.assertEquals(scene.counts(done.out).cloned, 7)
  lu.assertEquals(s:changes(before, "prod"), {})
end

-- A replacement by what is left over from damage would lose the good copy.
function TestTorn.test_replace_does_not_drop_the_good_backup_of_a_torn_object()
  local s = scene.new("backed")
  local source = s:source()
  local victim = source.dir .. "/" .. source:labelled("kek")[1].file
  shell.write(victim, shell.read(victim):sub(1, 401))
  local before = s:snapshot()
  local done = s:backup { "-replace", "-force" }
  lu.assertNotEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(s:changes(before), {})
end

local TestLive = {}

-- Another process that keeps a session open and does as `code` says for each line it reads.
local function neighbour(dir, pin, label, code)
  local script = ([[
    package.path, package.cpath = %q, %q
    local core = require("keyferry.core")
    local module = assert(core.module(%q, { env = { SOFTHSM2_CONF = %q } }))
    local slot
    for _, token in ipairs(module:slots()) do
      if token.label == %q then slot = token.slot end
    end
    local session = assert(module:session(slot, {}))
    assert(session:login(core.secret(%q), "user"))
    local go = %q
    local function say(text) io.write(text, "\n") io.flush() end
    local function gone() return core.file.exists(go) end
    %s]]):format(build.root .. "/lua/?.lua", build.dir .. "/lua/?.so", build.softhsm(),
    dir .. "/softhsm2.conf", label, pin, dir .. "/go", code)
  return process.start { "lua5.4", tmp.file(script), timeout = 60 }
end

-- The session was open before, nothing is reopened, and the new keys are there and work.
function TestLive.test_a_session_open_on_the_target_sees_the_new_objects()
  local s = scene.new("backed")
  s:source():aes("brand new", "31")
  local dir = s.home .. "/hsms/vault"
  local other <close> = neighbour(dir, scene.tokenpw, "backup", [[
    local function count() return #session:find{ label = "brand new" } end
    say("before " .. count())
    while not gone() do end
    local key = session:find{ label = "brand new" }[1]
    say("after " .. count())
    say("cipher " .. #key:encrypt({ "aes_ecb" }, ("x"):rep(16)))]])
  other:wait_for("before 0")
  local done = s:backup { "-add" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  shell.write(dir .. "/go", "")
  local seen = other:wait()
  lu.assertEquals(seen.out, "before 0\nafter 1\ncipher 16\n", seen.err)
end

-- A replacement is seen as well: the old handle is dead, the new key is found.
function TestLive.test_a_session_open_on_the_target_sees_the_replacement()
  local s = scene.new("backed")
  local dir = s.home .. "/hsms/vault"
  local other <close> = neighbour(dir, scene.tokenpw, "backup", [[
    local old = session:find{ label = "kek" }[1]
    say("ready " .. #session:find{ label = "kek" } .. #session:find{ label = "mac" })
    while not gone() do end
    say("after " .. #session:find{ label = "kek" } .. #session:find{ label = "mac" })
    say(tostring(old:encrypt({ "aes_ecb" }, ("x"):rep(16)) == nil))
    say("cipher " .. #session:find{ label = "kek" }[1]:encrypt({ "aes_ecb" }, ("x"):rep(16)))]])
  other:wait_for("ready 11")
  local done = s:backup { "-replace", "-force", "-match", "kek" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  shell.write(dir .. "/go", "")
  local seen = other:wait()
  lu.assertEquals(seen.out, "ready 11\nafter 10\ntrue\ncipher 16\n", seen.err)
end

-- Applications go on signing while their partition is backed up, and write to it, too.
function TestLive.test_the_source_works_for_others_during_the_run()
  local s = scene.new()
  local dir = s.home .. "/hsms/prod"
  local other <close> = neighbour(dir, scene.password, "payments", [[
    local key, failed, n = session:find{ label = "tls-web", class = "private_key" }[1], 0, 0
    say("ready")
    while not gone() do
      n = n + 1
      local signature = key:sign({ "sha256_rsa_pkcs" }, "message " .. n)
      if not signature or #signature ~= 256 then failed = failed + 1 end
    end
    say(("failed %d"):format(failed))
    say(n > 20 and "busy" or "idle")]])
  other:wait_for("ready")
  local done = s:backup {}
  local again = s:backup { "-add", "-verify" }
  shell.write(dir .. "/go", "")
  local seen = other:wait()
  lu.assertEquals(seen.out, "ready\nfailed 0\nbusy\n", seen.err)
  lu.assertEquals({ done.status, again.status }, { 0, 0 }, done.err .. again.err)
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
end

return { TestSource = TestSource, TestTorn = TestTorn, TestLive = TestLive }
