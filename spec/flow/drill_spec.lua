-- SPDX-License-Identifier: MIT
-- The drill: a backup or a stream is brought back into a scratch HSM, compared and used; what
-- is not good is told, nothing else is touched, and the scratch HSM is gone afterwards.
local lu = require("luaunit")
local build = require("support.build")
local cjson = require("cjson")
local core = require("keyferry.core")
local process = require("support.process")
local report = require("keyferry.report")
local scene = require("flow.scene")
local shell = require("support.shell")
local tmp = require("support.tmp")

local domain

local function the_domain()
  domain = domain or assert(core.domain(core.secret(scene.domain)))
  return domain
end

-- The command, with a place of its own for the scratch HSM; `env` of the secrets.
local function command(s, words, how)
  how = how or {}
  s.place = s.place or tmp.memory("place")
  local all = {}
  for _, word in ipairs(how.globals or {}) do table.insert(all, word) end
  table.move({ "partition", "drill" }, 1, 2, #all + 1, all)
  table.move(words, 1, #words, #all + 1, all)
  all.env = how.env or { KEYFERRY_TOKENPW = scene.tokenpw, KEYFERRY_DOMAIN = scene.domain }
  all.env.XDG_RUNTIME_DIR = s.place
  return s:program(all)
end

local function scratches(s)
  return shell.lines("ls -A " .. shell.quote(s.place))
end

local function drill(s, words, how)
  local done = process.run(command(s, words, how))
  lu.assertEquals(scratches(s), {}, done.out .. done.err)
  lu.assertNotStrContains(done.err, "traceback")
  return done
end

local BACKUP = { "-tokenpar", "backup", "-serial", scene.serial }

local function ends(done, status, ...)
  lu.assertEquals(done.status, status, done.out .. done.err)
  for _, text in ipairs { ... } do lu.assertStrContains(done.out .. done.err, text) end
end

local function send(s)
  local path = tmp.dir() .. "/payments.stream"
  s:lua(([[local source = assert(keyferry.partition("payments"))
    local session <close> = assert(source:login(keyferry.secret(%q)))
    local report = keyferry.send{ source = session, to = %q }
    assert(report.status == "success", report.reason)]]):format(scene.password, path))
  return path
end

-- A partition of the vault, with this Lua run in a `session` with it.
local function make(s, label, code, more)
  s:lua(([[local pin = keyferry.secret(%q)
    local domain = assert(keyferry.domain(keyferry.secret(%q)))
    local vault = assert(keyferry.hsm("vault"))
    local partition = assert(vault:create_partition{ label = %q, password = pin,
      so_password = keyferry.secret("so pin 12"), %s })
    local session <close> = assert(partition:login(pin, { writable = true }))
    %s]]):format(scene.tokenpw, scene.domain, label, more or "domain = domain", code))
  return { "-tokenpar", label, "-serial", scene.serial }
end

local function keys(count, how)
  return ([[for i = 1, %d do
    assert(session:generate{ mechanism = "aes_key_gen", value_len = 32, label = "key " .. i,
      id = string.pack(">I2", i), token = true, private = true, sensitive = true,
      encrypt = true, decrypt = true, extractable = %s }) end]]):format(count,
    how or "false")
end

local TestPartition = {}

function TestPartition.test_a_good_backup_is_exercised_and_nothing_else_is_touched()
  local s = scene.new("backed")
  local before = s:snapshot()
  local done = drill(s, BACKUP, { env = { KEYFERRY_TOKENPW = scene.tokenpw } })
  ends(done, 0, "7 restored, 7 verified, 4 challenged\n", "The scratch HSM is removed.")
  lu.assertEquals(s:changes(before), {})
end

function TestPartition.test_json()
  local done = drill(scene.new("backed"), BACKUP, { globals = { "--json" } })
  local found = {}
  for line in done.out:gmatch("[^\n]+") do table.insert(found, cjson.decode(line)) end
  lu.assertEquals(#found, 9)
  lu.assertEquals({ found[1].event, found[1].status }, { "object", "restored" })
  lu.assertEquals({ found[8].event, found[8].label, found[8].restored, found[8].verified,
    found[8].challenged, found[8].failed }, { "drill", "backup", 7, 7, 4, 0 })
  lu.assertEquals({ found[9].status, found[9].exit }, { "success", 0 })
end

function TestPartition.test_a_backup_without_a_domain_of_its_own_takes_one()
  local s = scene.new()
  local words = make(s, "bare", keys(2), "")
  ends(drill(s, words), 0, "2 restored, 2 verified, 2 challenged")
  ends(drill(s, words, { env = { KEYFERRY_TOKENPW = scene.tokenpw } }), 3,
    "no value for -domain")
end

function TestPartition.test_a_domain_that_is_given_must_be_that_of_the_backup()
  local s = scene.new("backed")
  local words = table.move({ "-domain", "another" }, 1, 2, 5, { table.unpack(BACKUP) })
  ends(drill(s, words), 4, "0 restored")
  words[6] = scene.domain
  ends(drill(s, words), 0, "7 restored")
end

function TestPartition.test_a_backup_that_only_c_wrapkey_takes_out()
  local s = scene.new()
  local words = make(s, "wrapped", keys(3, "true"))
  shell.write(s.home .. "/config.lua", ([[return { system = false, hsms = { { name = "vault",
    serial = %q, module = %q, env = { SOFTHSM2_CONF = %q }, engine = "wrap" } } }]]):format(
    scene.serial, build.softhsm(), s.home .. "/hsms/vault/softhsm2.conf"))
  ends(drill(s, words, { globals = { "--config", s.home .. "/config.lua" } }), 0,
    "3 restored, 3 verified, 3 challenged")
end

function TestPartition.test_what_is_damaged_in_it_is_told()
  local s = scene.new("backed")
  local files = shell.lines("ls -S " .. shell.quote(s.home) .. "/hsms/vault/tokens/*/*.object")
  assert(os.execute("truncate -s 200 " .. shell.quote(files[1]))) -- the RSA key is the largest
  local done = drill(s, BACKUP)
  ends(done, 1, "6 restored, ", "not restored: ", "Command Result : 1")
end

function TestPartition.test_an_unfinished_one_is_no_backup()
  local s = scene.new("backed")
  s:inside("backup", [[assert(session:mark_unfinished("100001 payments"))]])
  local done = drill(s, BACKUP)
  ends(done, 5, "unfinished backup", "finish it with the same command")
  lu.assertNotStrContains(done.out .. done.err, "-force") -- which is for -report
end

function TestPartition.test_an_empty_one_exercises_nothing()
  local s = scene.new()
  ends(drill(s, make(s, "empty", "")), 1, "0 restored", "nothing was exercised")
end

function TestPartition.test_wrong_secrets_and_names()
  local s = scene.new("backed")
  ends(drill(s, BACKUP, { env = { KEYFERRY_TOKENPW = "wrong" } }), 3, "CKR_PIN_INCORRECT")
  ends(drill(s, BACKUP, { env = {} }), 3, "no value for -tokenpw")
  ends(drill(s, { "-tokenpar", "nix", "-serial", scene.serial }), 6, "no partition")
  ends(drill(s, { "-tokenpar", "backup", "-serial", "1" }), 6)
end

local TestStream = {}

function TestStream.test_a_whole_one()
  local s = scene.new()
  local paper = tmp.dir() .. "/drill.json"
  ends(drill(s, { "-file", send(s), "-report", paper }), 0,
    "7 restored, 7 verified, 4 challenged\n")
  local read = assert(report.read(paper, the_domain()))
  lu.assertEquals({ read.command, read.status, read.exit, read.count },
    { "partition drill", "success", 0, 7 })
end

function TestStream.test_another_domain_and_none()
  local s = scene.new()
  local path = send(s)
  ends(drill(s, { "-file", path }, { env = { KEYFERRY_DOMAIN = "another" } }), 4, "0 restored")
  ends(drill(s, { "-file", path }, { env = {} }), 3, "no value for -domain")
end

function TestStream.test_one_that_is_cut_or_damaged_restores_nothing()
  local s = scene.new()
  local bytes = shell.read(send(s))
  local paper = tmp.dir() .. "/drill.json"
  ends(drill(s, { "-file", tmp.file(bytes:sub(1, -30)), "-report", paper }), 7, "0 restored",
    "KFR_TRUNCATED")
  lu.assertEquals({ report.head(paper).status, report.head(paper).exit }, { "failed", 7 })
  local at = #bytes // 2
  bytes = bytes:sub(1, at) .. string.char(bytes:byte(at + 1) ~ 4) .. bytes:sub(at + 2)
  ends(drill(s, { "-file", tmp.file(bytes) }), 7, "0 restored", "KFR_DAMAGED")
end

-- The stream written anew: `change` gives the digest of each object, `last` is its end.
local function rewritten(path, change, last)
  local new = tmp.dir() .. "/payments.stream"
  local reader <close> = assert(core.stream.open(path))
  local head = reader:head()
  head.version, head.check = nil, nil
  local writer <close> = assert(core.stream.create(new, the_domain(), head))
  for sealed, digest in function() return reader:next(the_domain()) end do
    assert(writer:add(sealed, change(sealed:head().attributes, digest)))
  end
  assert(writer:finish(last))
  return new
end

function TestStream.test_one_that_holds_less_than_its_source()
  local s = scene.new()
  local less = rewritten(send(s), function(_, digest) return digest end, { failed = 2 })
  ends(drill(s, { "-file", less }), 1, "7 restored, 7 verified", "2 objects of the partition")
end

-- Its sender saw another key than the one that comes out.
function TestStream.test_what_comes_back_otherwise_is_told()
  local s = scene.new()
  local paper = tmp.dir() .. "/drill.json"
  local other = rewritten(send(s), function(attributes, digest)
    return attributes.label == "kek" and ("x"):rep(32) or digest
  end, {})
  local done = drill(s, { "-file", other, "-report", paper })
  ends(done, 1, 'Object "kek"', "7 restored, 6 verified", "not as in the backup")
  local read = assert(report.read(paper, the_domain()))
  lu.assertEquals({ read.status, read.exit }, { "partial", 1 })
end

function TestStream.test_what_can_be_read_once_only()
  local s = scene.new()
  local fifo = tmp.dir() .. "/fifo"
  assert(os.execute(("mkfifo %s && (cat %s >%s &)"):format(fifo, send(s), fifo)))
  ends(drill(s, { "-file", fifo }), 5, "can be read only once")
end

local TestUse = {}

function TestUse.test_wrong_use()
  local s = scene.new()
  ends(drill(s, {}), 2, "needs -tokenpar and -serial, or -file")
  ends(drill(s, { "-tokenpar", "x" }), 2, "needs")
  ends(drill(s, { "-file", "x", "-serial", "1" }), 2, "-file names a stream")
  ends(drill(s, { "-file", "-" }), 2, "twice")
  ends(drill(s, { "-file", "x", "-force" }), 2, "no effect")
  ends(drill(s, { "-file", tmp.dir() .. "/nix" }), 6, "there is no file")
  ends(drill(s, { "-file", tmp.dir() }), 2, "is a folder")
  local there = tmp.file("x")
  ends(drill(s, { "-file", send(s), "-report", there }), 5, there)
  lu.assertEquals(shell.read(there), "x")
end

local TestEnd = {}

-- A drill of many keys, seen to be at work.
local function at_work()
  local s = scene.new()
  local words = make(s, "many", keys(200))
  local running = process.start(command(s, words))
  running:wait_for("Restoring")
  local seen = shell.await(10, function()
    return #shell.lines("ls " .. shell.quote(s.place) .. "/*/tokens/*/*.object 2>/dev/null") > 10
  end)
  lu.assertTrue(seen ~= nil and seen)
  return s, running, words
end

function TestEnd.test_an_interrupted_one_leaves_nothing()
  for _, name in ipairs { "INT", "TERM" } do
    local s, running = at_work()
    running:signal(name)
    local done = running:wait()
    lu.assertEquals(done.status, 130, done.out .. done.err)
    lu.assertEquals(scratches(s), {})
  end
end

function TestEnd.test_what_a_killed_one_leaves_goes_with_the_next()
  local s, running, words = at_work()
  running:signal("KILL")
  running:wait()
  lu.assertEquals(#scratches(s), 1)
  ends(drill(s, words), 0, "200 restored, 200 verified, 200 challenged")
end

return { TestPartition = TestPartition, TestStream = TestStream, TestUse = TestUse,
  TestEnd = TestEnd }
