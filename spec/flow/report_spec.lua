-- SPDX-License-Identifier: MIT
-- -report: every run leaves one, or is refused before it has begun; and a report that cannot
-- be written makes no backup worse.
local lu = require("luaunit")

local cjson = require("cjson").new()
local process = require("support.process")
local scene = require("flow.scene")
local shell = require("support.shell")
local tmp = require("support.tmp")

local function decoded(path)
  return cjson.decode(shell.read(path))
end

-- What keyferry.report.read says of it, under the scene's domain: the error's code, or the
-- value of a Lua expression about the report `r`.
local function read(s, path, expression, domain)
  return (s:lua(([[
    local r, err = keyferry.report.read(%q, keyferry.domain(keyferry.secret(%q)))
    io.write(r and tostring(%s) or err.code)]]):format(path, domain or scene.domain,
    expression or '"read"')))
end

local function statuses(report)
  local list = {}
  for _, object in ipairs(report.objects) do
    table.insert(list, object.status .. " " .. object.label)
  end
  table.sort(list)
  return list
end

local TestReport = {}

function TestReport.test_a_backup_leaves_one_that_its_domain_vouches_for()
  local s = scene.new()
  local path = s.home .. "/report.json"
  local done = s:backup { "-report", path }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(done.err, "")
  lu.assertEquals(shell.lines("stat -c %a " .. shell.quote(path)), { "600" })
  local report = decoded(path)
  lu.assertEquals({ report.keyferry_report, report.command, report.status, report.exit },
    { 1, "partition backup", "success", 0 })
  lu.assertEquals(report.asked, { partition = "payments", tokenpar = "backup",
    serial = scene.serial, report = path })
  lu.assertEquals(report.source.hsm, { name = "prod", serial = "100001" })
  lu.assertEquals(report.target.hsm, { name = "vault", serial = scene.serial })
  lu.assertEquals({ report.source.label, report.target.label }, { "payments", "backup" })
  lu.assertEquals(report.target.serial, s:target().serial)
  lu.assertEquals(report.source.module.manufacturer, "SoftHSM")
  lu.assertEquals({ report.source.check, report.target.check }, { report.domain, report.domain })
  lu.assertEquals({ report.counts.cloned, report.counts.failed, #report.objects }, { 7, 0, 7 })
  for _, object in ipairs(report.objects) do
    lu.assertEquals(object.status, "cloned")
    lu.assertStrMatches(object.digest, ("%x"):rep(64))
    lu.assertStrContains(done.out, ('Object "%s" (handle %d) cloned to handle %d on target')
      :format(object.label, object.handle, object.target_handle))
  end
  lu.assertEquals(read(s, path, "r.authenticated"), "true")
  lu.assertEquals(read(s, path, nil, "another domain"), "KFR_DOMAIN_MISMATCH")
end

function TestReport.test_it_holds_no_secret()
  local s = scene.new()
  local path = s.home .. "/report.json"
  local done = s:backup { "-report", path, "-password", scene.password, "-domain", scene.domain }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  local text = shell.read(path)
  local secrets = { scene.password, scene.tokenpw, scene.sopw, scene.domain, ("m"):rep(16),
    "behind the picture" }
  for _, object in pairs(s:source():objects()) do
    for type, attribute in pairs(object) do -- the value, and the numbers of private keys
      if type == scene.CKA_VALUE or type >= 0x123 and type <= 0x128 then
        table.insert(secrets, attribute.value)
      end
    end
  end
  lu.assertTrue(#secrets > 10)
  for _, secret in ipairs(secrets) do
    if #secret > 3 then
      lu.assertNil(text:find(secret, 1, true))
      lu.assertNil(text:find(shell.hex(secret), 1, true))
      lu.assertNil(text:find(shell.hex(secret:sub(-16)), 1, true))
    end
  end
  lu.assertNotStrContains(text, '"CKA_VALUE":')
  lu.assertNotStrContains(text, '"CKA_CHECK_VALUE":')
end

function TestReport.test_what_was_there_what_was_left_out_and_what_would_be()
  local s = scene.new("open")
  local path = s.home .. "/report.json"
  local done = s:backup { "-report", path, "-add", "-match", "open*", "-plan" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  local report = decoded(path)
  lu.assertEquals({ report.counts.planned, report.counts.skipped, report.asked.plan },
    { 4, 7, true })
  done = s:backup { "-report", path, "-force", "-add", "-class", "secret_key" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(statuses(decoded(path)), { "cloned open 1", "cloned open 2", "cloned open 3",
    "cloned open 4", "exists kek", "exists mac", "skipped note", "skipped sign", "skipped sign",
    "skipped tls-web", "skipped tls-web" })
  lu.assertEquals(decoded(path).asked.class, { "secret_key" })
  done = s:backup { "-report", path, "-force", "-replace" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(decoded(path).counts.removed, 11)
  lu.assertEquals(read(s, path), "read")
end

function TestReport.test_the_way_of_a_partial_run()
  local s = scene.new()
  local path = s.home .. "/report.json"
  local done = s:backup { "-report", path, "-engine", "wrap" }
  lu.assertEquals(done.status, 1, done.out .. done.err)
  local report = decoded(path)
  lu.assertEquals({ report.status, report.exit }, { "partial", 1 })
  local failed = 0
  for _, object in ipairs(report.objects) do
    if object.status == "failed" then
      failed = failed + 1
      lu.assertStrContains(done.out, ('(handle %d) not cloned: %s'):format(object.handle,
        object.reason))
      lu.assertNotNil(object.code)
    end
  end
  lu.assertEquals({ failed, report.counts.failed }, { failed, failed })
  lu.assertTrue(failed > 0)
  lu.assertNotNil(report.reason)
  lu.assertEquals(read(s, path), "read")
end

function TestReport.test_a_mismatch_of_domains_is_told_object_by_object()
  local s = scene.new("backed")
  local path = s.home .. "/report.json"
  local done = s:backup { "-report", path, tokenpar = "other", secrets = (function()
    local secrets = scene.secrets()
    secrets.KEYFERRY_DOMAIN = "another one"
    return secrets
  end)() }
  lu.assertEquals(done.status, 4, done.out .. done.err)
  local report = decoded(path)
  lu.assertEquals({ report.exit, report.status, report.code, #report.objects },
    { 4, "failed", "KFR_DOMAIN_MISMATCH", 7 })
end

-- Nobody vouches for what came to nothing, and what there was to be told is told.
local function assert_failed(path, status, code)
  local report = decoded(path)
  lu.assertEquals({ report.status, report.exit, report.code, #report.objects, report.mac },
    { "failed", status, code, 0, cjson.null })
  lu.assertNotNil(report.reason)
end

function TestReport.test_a_command_that_does_not_get_to_a_backup_leaves_one_too()
  local s = scene.new("backed")
  local function report_of(how, status, code)
    local path = tmp.dir() .. "/report.json"
    table.insert(how, "-report")
    table.insert(how, path)
    local done = s:backup(how)
    lu.assertEquals(done.status, status, done.out .. done.err)
    assert_failed(path, status, code)
    lu.assertEquals(read(s, path), "KFR_REFUSED")
  end
  report_of({}, 5, "KFR_REFUSED")
  report_of({ "-add", env = { KEYFERRY_PASSWORD = "wrong" } }, 3, "CKR_PIN_INCORRECT")
  report_of({ "-add", secrets = scene.secrets { "TOKENPW" } }, 3, "KFR_NO_SECRET")
  report_of({ partition = "none" }, 6, "KFR_NOT_FOUND")
  report_of({ serial = "5" }, 6, "KFR_NOT_FOUND")
end

-- A script of somebody's own, on the scene; gives what came of it and the report's path.
local function run_own(s, code)
  local dir = tmp.dir()
  shell.write(dir .. "/own.lua", ([[local keyferry = require("keyferry")
    return { name = "own thing", summary = "x", category = "reads",
      options = { keyferry.option("report"), keyferry.option("force") },
      run = function(ctx) local paper = ctx:report() %s end }]]):format(code))
  return s:run { "run", dir .. "/own.lua", "-report", dir .. "/r" }, dir .. "/r"
end

function TestReport.test_own_scripts()
  local s = scene.new()
  for code, want in pairs {
    ["return 0"] = { 0, "success" }, ["return 3"] = { 3, "failed" },
    ["error('oh')"] = { 8, "failed" }, ["os.exit(5)"] = { 5, "failed" },
    ["os.exit(0)"] = { 0, "success" }, ["return nil, keyferry.error{ code = 'KFR_EXISTS', "
      .. "what = 'there' }"] = { 5, "failed" },
    ["return ctx:finish{ reason = 'so', code = 'KFR_NOT_FOUND' }"] = { 6, "failed" },
    ["ctx:finish{ status = 1, reason = 'half' } os.exit(1)"] = { 1, "failed" },
  } do
    local done, path = run_own(s, code)
    lu.assertEquals(done.status, want[1], code .. done.out .. done.err)
    local report = decoded(path)
    lu.assertEquals({ report.exit, report.status, report.mac }, { want[1], want[2], cjson.null },
      code)
    lu.assertEquals(report.asked, { report = path })
  end
end

function TestReport.test_a_policy_that_fails_in_a_hook_leaves_what_it_has_done()
  local s = scene.new("backed")
  local done, path = run_own(s, ([[
    local function login(name, pin, how)
      return assert(assert(keyferry.partition(name)):login(keyferry.secret(pin), how))
    end
    keyferry.backup{ source = login("payments", %q), target = login("backup", %q,
      { writable = true }), mode = "add", report = paper,
      on_result = function(result) if result.object.label == "note" then error("oh") end end }]])
    :format(scene.password, scene.tokenpw))
  lu.assertEquals(done.status, 8, done.out .. done.err)
  local report = decoded(path)
  lu.assertEquals(report.status, "failed")
  lu.assertStrContains(report.reason, "oh")
  lu.assertTrue(#report.objects > 0)
  lu.assertEquals(read(s, path), "read")
end

-- A signal in a hook that never ends.
function TestReport.test_a_run_that_is_interrupted()
  local s = scene.new("backed")
  local done, path = run_own(s, ([[
    local function login(name, pin, how)
      return assert(assert(keyferry.partition(name)):login(keyferry.secret(pin), how))
    end
    return ctx:conclude(keyferry.backup{ source = login("payments", %q),
      target = login("backup", %q, { writable = true }), mode = "add", report = paper,
      on_result = function()
        io.popen("kill -INT $PPID"):close()
        while true do end
      end }) ]]):format(scene.password, scene.tokenpw))
  lu.assertEquals(done.status, 130, done.out .. done.err)
  local report = decoded(path)
  lu.assertEquals({ report.status, report.exit, report.code }, { "failed", 130, "KFR_INTERRUPTED" })
  lu.assertTrue(#report.objects > 0)
  lu.assertEquals(read(s, path), "read")
end

local TestVerify = {}

-- A backup, its report, and what partition verify says of the two.
local function verified(edit, secrets)
  local s = scene.new("backed")
  local path = s.home .. "/report.json"
  lu.assertEquals(s:backup { "-add", "-report", path }.status, 0)
  shell.write(path, (edit(shell.read(path))))
  return s:run { "partition", "verify", "-tokenpar", "backup", "-serial", scene.serial, "-report",
    path, env = secrets or scene.secrets { "DOMAIN" } }
end

local function as_it_is(text) return text end

function TestVerify.test_by_the_report_alone()
  local done = verified(as_it_is)
  lu.assertEquals(done.status, 0, done.out .. done.err)
end

function TestVerify.test_an_edited_report_is_found_out()
  for _, edit in ipairs {
    function(text) return text:gsub('"label":"mac"', '"label":"cam"', 1) end,
    function(text) return text:gsub('{"status"[^\n]*\n', "", 1) end,
    function(text) return text:sub(1, -2) end,
    function(text) return text .. "\n" end,
  } do
    local done = verified(edit)
    lu.assertEquals(done.status, 7, done.out .. done.err)
    lu.assertStrContains(done.err, "KFR_DAMAGED")
  end
end

function TestVerify.test_the_report_of_another_domain()
  local secrets = scene.secrets()
  secrets.KEYFERRY_DOMAIN = "another one"
  local done = verified(as_it_is, secrets)
  lu.assertEquals(done.status, 4, done.out .. done.err)
end

function TestVerify.test_what_is_no_report()
  local done = verified(function() return "{}" end)
  lu.assertEquals(done.status, 2, done.out .. done.err)
  lu.assertStrContains(done.err, "is no report of keyferry")
end

local TestRefused = {}

-- Without secrets: what is refused first is the file.
local function assert_refused(s, path, status, words, more)
  local before = s:snapshot()
  local done = s:backup { "-add", "-report", path, more, secrets = {} }
  lu.assertEquals(done.status, status, done.out .. done.err)
  lu.assertStrContains(done.err, words)
  lu.assertEquals(s:changes(before), {})
  return done
end

function TestRefused.test_before_anything_is_asked_or_opened()
  local s = scene.new("backed")
  local dir = tmp.dir()
  shell.write(dir .. "/there", "mine")
  assert(os.execute("ln -s nowhere " .. dir .. "/link; mkfifo " .. dir .. "/pipe"))
  assert_refused(s, dir .. "/there", 5, "there is there already")
  assert_refused(s, dir .. "/link", 5, "link is there already")
  lu.assertStrContains(assert_refused(s, dir .. "/pipe", 5, "pipe").err, "-force overwrites it")
  assert_refused(s, dir, 2, "is a folder")
  assert_refused(s, dir .. "/none/r", 6, "there is no folder " .. dir .. "/none")
  assert_refused(s, dir .. "/there/r", 7, "Not a directory")
  assert_refused(s, dir .. "/pipe", 2, "is not a regular file", "-force")
  assert_refused(s, "/dev/full", 2, "is not a regular file", "-force")
  lu.assertEquals(shell.read(dir .. "/there"), "mine")
  lu.assertEquals(shell.lines("ls -A " .. dir), { "link", "pipe", "there" })
end

function TestRefused.test_a_folder_that_may_not_be_written()
  local s = scene.new("backed")
  local dir = tmp.dir()
  assert(os.execute("chmod 500 " .. dir))
  if process.run { "sh", "-c", "echo > " .. dir .. "/x" }.status == 0 then
    assert(os.execute("rm " .. dir .. "/x"))
    if process.run { "mount", "-t", "tmpfs", "-o", "ro", "tmpfs", dir }.status ~= 0 then
      lu.skip("everything may be written")
    end
  end
  local ok, problem = pcall(assert_refused, s, dir .. "/r", 7, dir)
  process.run { "umount", "-l", dir }
  if not ok then error(problem, 0) end
end

function TestRefused.test_force_overwrites()
  local s = scene.new("backed")
  local path = tmp.file("old")
  local done = s:backup { "-add", "-report", path, "-force" }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(decoded(path).counts.exists, 7)
  lu.assertEquals(shell.lines("stat -c %a " .. shell.quote(path)), { "600" })
end

-- With -force a report would take the place of the very stream that it is of.
function TestRefused.test_a_report_in_the_place_of_the_stream()
  local s = scene.new("backed")
  local stream = s.home .. "/stream"
  for _, report in ipairs { stream, s.home .. "/./stream", s.home .. "/../"
    .. s.home:match("[^/]+$") .. "/stream" } do
    local done = s:run { "partition", "send", "-partition", "payments", "-file", stream, "-report",
      report, "-force", env = scene.secrets() }
    lu.assertEquals(done.status, 2, done.out .. done.err)
    lu.assertStrContains(done.err, "-report and -file name the same file")
    lu.assertFalse(shell.exists(stream))
  end
  local done = s:run { "partition", "send", "-partition", "payments", "-file", stream,
    env = scene.secrets() }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  done = s:run { "partition", "send", "-partition", "payments", "-file", stream,
    env = scene.secrets() }
  lu.assertEquals(done.status, 5, done.out .. done.err)
  lu.assertStrContains(done.err, "-force overwrites it")
  local bytes = shell.read(stream)
  done = s:run { "partition", "receive", "-tokenpar", "new", "-serial", scene.serial, "-file",
    stream, "-report", stream, "-force", env = scene.secrets() }
  lu.assertEquals(done.status, 2, done.out .. done.err)
  lu.assertTrue(shell.read(stream) == bytes)
end

-- A folder on a disk that is full.
local function on_full_disk(work)
  local dir = tmp.dir()
  if process.run { "mount", "-t", "tmpfs", "-o", "size=16k,nr_inodes=20,mode=700", "tmpfs",
    dir }.status ~= 0 then
    lu.skip("no right to mount a small disk")
  end
  local ok, problem = xpcall(function()
    os.execute("head -c 12k /dev/zero > " .. dir .. "/filler")
    work(dir)
  end, debug.traceback)
  process.run { "umount", "-l", dir }
  if not ok then error(problem, 0) end
end

function TestRefused.test_a_disk_that_is_full_at_the_end()
  local s = scene.new()
  on_full_disk(function(dir)
    local done = s:backup { "-report", dir .. "/r" }
    lu.assertEquals(done.status, 7, done.out .. done.err)
    lu.assertEquals(scene.counts(done.out), { cloned = 7, exists = 0, failed = 0 })
    lu.assertStrContains(done.err, "all is done, but its report could not be written: ")
    lu.assertStrContains(done.err, "No space left")
    lu.assertEquals(shell.lines("ls -A " .. dir), { "filler" })
    lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
    done = s:backup { "-add", "-report", dir .. "/r", globals = { "--json" } }
    lu.assertEquals(done.status, 7)
    local last
    for line in done.out:gmatch("[^\n]+") do last = cjson.decode(line) end
    lu.assertEquals({ last.event, last.exit, last.exists, last.code }, { "result", 7, 7 })
    -- and where the run itself had failed, that is what is told
    done = s:backup { "-engine", "wrap", "-report", dir .. "/r", tokenpar = "other" }
    lu.assertEquals(done.status, 1, done.out .. done.err)
    lu.assertStrContains(done.err, "warning: the report could not be written: ")
  end)
end

function TestRefused.test_a_disk_that_is_full_for_a_command_that_failed()
  local s = scene.new("backed")
  on_full_disk(function(dir)
    os.execute("cat /dev/zero >> " .. dir .. "/filler 2>/dev/null")
    local done = s:backup { "-report", dir .. "/r" }
    lu.assertEquals(done.status, 5, done.out .. done.err)
    lu.assertStrContains(done.err, "warning: the report could not be written: ")
    lu.assertEquals(shell.lines("ls -A " .. dir), { "filler" })
  end)
end

return { TestReport = TestReport, TestVerify = TestVerify, TestRefused = TestRefused }
