-- SPDX-License-Identifier: MIT
-- keyferry.report: written down, and read again; whatever is done to it in between is seen.
local lu = require("luaunit")

local cjson = require("cjson").new()
local core = require("keyferry.core")
local keyferry = require("keyferry")
local record = require("keyferry.record")
local shell = require("support.shell")
local tmp = require("support.tmp")
local zoo = require("support.zoo")

local report = keyferry.report
local domain = assert(core.random_domain())

local function assert_raises(part, call, ...)
  local ok, message = pcall(call, ...)
  lu.assertFalse(ok, part)
  lu.assertStrContains(tostring(message), part)
end

-- An object that there is none of.
local function fake(attributes, unread)
  return setmetatable({
    attributes = function() return attributes end, unread = function() return unread or {} end,
  }, { __index = attributes })
end

local function result(label, more)
  local made = { status = "cloned", handle = 7, target_handle = 8, lost = "",
    object = fake { class = "secret_key", key_type = "aes", label = label, id = "\1\255",
      sign = true, value_len = 32 } }
  for name, value in pairs(more or {}) do made[name] = value end
  return made
end

local ENDS = { source = { label = "payments", serial = "0123", model = "m", manufacturer = "f",
  check = domain:check() }, target = { label = "backup", serial = "4567" } }

-- Writes a report of these results; gives its path.
local function write(results, how)
  how = how or {}
  local path = tmp.memory() .. "/report.json"
  local paper = assert(report.create(path, how.options or { command = "partition backup" }))
  paper:begin(how.ends or ENDS)
  for _, one in ipairs(results) do paper:add(one, one.digest or ("d"):rep(32)) end
  local sum = how.report or { status = "success", cloned = #results, failed = 0 }
  local under = how.domain
  if under == nil then under = domain end
  assert(paper:finish(sum, under or nil))
  return path
end

local function small()
  return write { result("one"), result("two"), result("three") }
end

local function code_of(path, under)
  local read, err = report.read(path, under or domain)
  return read and "read" or err.code, err
end

local function lines_of(text)
  local list = {}
  for line in text:gmatch("[^\n]*\n") do list[#list + 1] = line end
  return list
end

local TestWriting = {}

function TestWriting.test_what_is_written_is_what_is_read()
  local results = { result("one", { verified = true, lost = "CKA_LOCAL" }),
    result("two", { status = "failed", target_handle = false,
      err = core.error { code = "KFR_NOT_CLONABLE", what = "no", hint = "so" } }),
    result("three", { changes = { label = "drei", sign = false, value = "secret" } }) }
  results[2].target_handle = nil
  local path = write(results, {
    options = { command = "partition backup", asked = { add = true, class = { "data" } },
      exit = function(of) return of.failed end },
    report = { status = "partial", cloned = 2, failed = 1, exists = 0,
      reason = results[2].err } })
  local read = assert(report.read(path, domain))
  lu.assertTrue(read.authenticated)
  lu.assertEquals(read.version, 1)
  lu.assertEquals({ read.keyferry, read.command, read.status, read.exit, read.count },
    { core.version, "partition backup", "partial", 1, 3 })
  lu.assertEquals({ read.reason, read.code, read.hint },
    { tostring(results[2].err), "KFR_NOT_CLONABLE", "so" })
  lu.assertEquals(read.asked, { add = true, class = { "data" } })
  lu.assertEquals(read.counts, { cloned = 2, failed = 1, exists = 0 })
  lu.assertEquals(read.source, ENDS.source)
  lu.assertEquals(read.target, ENDS.target)
  lu.assertEquals(read.domain, domain:check())
  lu.assertEquals(read.user.uid, core.user().uid)
  lu.assertEquals(read.host, shell.lines("uname -n")[1])
  lu.assertStrMatches(read.start, "%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%dZ")
  lu.assertTrue(read.finish >= read.start)
  local one, two, three = table.unpack(read.objects)
  lu.assertEquals({ one.status, one.label, one.id, one.class, one.key_type, one.handle,
    one.target_handle, one.digest, one.lost, one.verified },
    { "cloned", "one", "\1\255", "secret_key", "aes", 7, 8, ("d"):rep(32), "CKA_LOCAL", true })
  lu.assertEquals(one.record, record.of(results[1].object))
  lu.assertEquals(math.type(one.record.CKA_VALUE_LEN), "integer")
  lu.assertEquals({ two.status, two.code, two.hint, two.reason, two.target_handle, two.lost },
    { "failed", "KFR_NOT_CLONABLE", "so", tostring(results[2].err) })
  lu.assertEquals(three.changes, { CKA_LABEL = "drei", CKA_SIGN = false, unread = {} })
end

function TestWriting.test_bytes_come_back_as_they_were()
  for _, bytes in ipairs { "", "\0", "\255\254", "hex:00", "int:5", "a\nb", 'q"\\/', "sch\u{f6}n",
    "\u{202e}", "\127", ("\0\1\2\3"):rep(5000), "\xed\xa0\x80", "\r\n\t" } do
    local err = core.error { code = "KFR_STORE", what = bytes .. "x", hint = bytes }
    local path = write({ result(bytes, { lost = "x" .. bytes, unproved = bytes, err = err }) }, {
        options = { command = bytes, asked = { match = bytes } },
        ends = { source = { label = bytes, hsm = { name = bytes } } },
        report = { status = "failed", reason = bytes } })
    local read = assert(report.read(path, domain))
    lu.assertEquals(read.objects[1].label, bytes)
    lu.assertEquals(read.objects[1].record.CKA_LABEL, bytes)
    lu.assertEquals(read.objects[1].unproved, bytes)
    lu.assertEquals(read.objects[1].lost, "x" .. bytes)
    lu.assertEquals(read.objects[1].reason, tostring(err))
    lu.assertEquals({ read.command, read.reason }, { bytes, bytes })
    lu.assertEquals(read.asked, { match = bytes })
    lu.assertEquals(read.source, { label = bytes, hsm = { name = bytes } })
    lu.assertTrue(utf8.len(shell.read(path)) ~= nil)
  end
end

function TestWriting.test_numbers_that_json_has_no_room_for()
  for _, n in ipairs { 0, -1, math.mininteger, math.maxinteger, 1 << 53, (1 << 53) + 1 } do
    local path = write { result("n", { handle = n, target_handle = n,
      object = fake { class = n, label = "n", value_len = n } }) }
    local one = assert(report.read(path, domain)).objects[1]
    lu.assertEquals({ one.handle, one.target_handle, one.class, one.record.CKA_VALUE_LEN },
      { n, n, n, n })
  end
end

-- One object a line, the names in one order: diff shows what is different.
function TestWriting.test_two_reports_can_be_compared_line_by_line()
  local function written() return shell.read(small()) end
  local function without_times(text)
    return (text:gsub('"start".-\n', ""):gsub('"end".-\n', ""):gsub('"sha256".*', ""))
  end
  local text = written()
  lu.assertEquals(without_times(text), without_times(written()))
  lu.assertStrContains(text, '\n"objects":[\n{"status":"cloned","class":"secret_key",'
    .. '"key_type":"aes","label":"one","id":"01ff","handle":7,"target_handle":8,"digest":"6464')
  local first, last = 0, 0
  for i, line in ipairs(lines_of(text)) do
    if line:find('^{"status"') then
      first, last = first == 0 and i or first, i
      lu.assertEquals(type(cjson.decode((line:gsub(",\n$", "")))), "table")
    end
  end
  lu.assertEquals(last - first, 2)
  lu.assertEquals(cjson.decode(text).keyferry_report, 1)
end

function TestWriting.test_no_objects_at_all()
  local read = assert(report.read(write {}, domain))
  lu.assertEquals({ read.objects, read.count }, { {}, 0 })
  local paper = assert(report.create(tmp.dir() .. "/r"))
  assert(paper:finish({ status = "failed" }, domain)) -- never begun
  lu.assertNil(assert(report.read(paper.path, domain)).source)
end

-- What nobody can read has neither attributes nor a name.
function TestWriting.test_an_object_that_nobody_can_read()
  local path = write { { object = { handle = 0 }, handle = 0, status = "failed",
    err = core.error { code = "KFR_DAMAGED", what = "half a file" } } }
  local one = assert(report.read(path, domain)).objects[1]
  lu.assertEquals({ one.status, one.handle, one.code, one.label }, { "failed", 0, "KFR_DAMAGED" })
  lu.assertEquals(one.record, { unread = {} })
end

function TestWriting.test_no_value_and_no_check_value()
  local path = write { result("x", { object = fake { class = "certificate", label = "c",
    value = "SECRET-1", check_value = "SECRET-2",
    wrap_template = { label = "t", value = "SECRET-3", unwrap_template = { value = "SECRET-4" } },
    }, changes = { check_value = "SECRET-5" } }) }
  local text = shell.read(path)
  for i = 1, 5 do
    lu.assertNotStrContains(text, "SECRET-" .. i)
    lu.assertNotStrContains(text, shell.hex("SECRET-" .. i))
  end
  local one = assert(report.read(path, domain)).objects[1]
  lu.assertEquals(one.record.CKA_WRAP_TEMPLATE, { CKA_LABEL = "t", CKA_UNWRAP_TEMPLATE = {} })
  -- who compares does not take that for a difference
  local full = record.of(fake { class = "certificate", label = "c", value = "v",
    check_value = "k", wrap_template = { label = "t", unwrap_template = {} } })
  lu.assertEquals(record.differences(one.record, full), {})
end

-- Every kind of object that SoftHSM has: what was read is what is there.
function TestWriting.test_the_zoo()
  local token = zoo.token("report")
  local session = zoo.session(token)
  zoo.stock(session)
  local there = assert(session:endpoint("softhsm", domain))
  local objects, results = assert(session:find { token = true }), {}
  for i, object in ipairs(objects) do
    results[i] = { object = object, handle = object.handle, status = "cloned",
      digest = there:digest(object) }
  end
  lu.assertTrue(#results > 90)
  local read = assert(report.read(write(results), domain))
  for i, one in ipairs(read.objects) do
    lu.assertEquals(one.digest, results[i].digest)
    lu.assertEquals({ one.label, one.id }, { objects[i].label, objects[i].id })
    lu.assertEquals(record.differences(one.record, record.of(objects[i])), {})
  end
  zoo.close(token)
end

function TestWriting.test_misuse_raises()
  assert_raises("the name of a file", report.create)
  assert_raises("no option 'frobnicate'", report.create, "/x", { frobnicate = true })
  assert_raises("asked must be a table", report.create, "/x", { asked = "x" })
  assert_raises("needs the domain", report.read, "/x")
end

local TestPlace = {}

local function refused(path, options)
  local paper, err = report.create(path, options)
  lu.assertNil(paper)
  return err.code, err
end

function TestPlace.test_what_cannot_be_written_is_refused_at_once()
  local dir = tmp.dir()
  shell.write(dir .. "/there", "mine")
  assert(os.execute("ln -s nowhere " .. dir .. "/link; mkfifo " .. dir .. "/pipe"))
  for _, case in ipairs {
    { "there", "KFR_EXISTS" }, { "link", "KFR_EXISTS" }, { "pipe", "KFR_EXISTS" },
    { ".", "KFR_ARGUMENT" }, { "", "KFR_ARGUMENT" }, { "new/", "KFR_ARGUMENT" },
    { "none/report", "KFR_NOT_FOUND" }, { "there/report", "KFR_SYSTEM" },
    { ("x"):rep(300), "KFR_SYSTEM" }, { "/dev/null", "KFR_EXISTS" }, { "/proc/r", "KFR_NOT_FOUND" },
  } do
    local path = case[1]:sub(1, 1) == "/" and case[1] or dir .. "/" .. case[1]
    local code, err = refused(path)
    lu.assertEquals(code, case[2], path)
    lu.assertTrue(#tostring(err) > 0)
  end
  lu.assertEquals((refused("")), "KFR_ARGUMENT")
  lu.assertEquals((refused(dir .. "/pipe", { force = true })), "KFR_ARGUMENT")
  lu.assertEquals((refused("/dev/null", { force = true })), "KFR_ARGUMENT")
  lu.assertEquals((refused(dir, { force = true })), "KFR_ARGUMENT")
  lu.assertEquals(shell.read(dir .. "/there"), "mine")
  lu.assertEquals(core.file.list(dir), { "link", "pipe", "there" })
end

function TestPlace.test_nothing_is_written_before_the_end()
  local dir = tmp.dir()
  local paper = assert(report.create(dir .. "/r"))
  paper:begin(ENDS)
  paper:add(result("one"))
  lu.assertEquals(core.file.list(dir), {})
  assert(paper:finish({ status = "success" }, domain))
  lu.assertEquals(core.file.list(dir), { "r" })
  lu.assertEquals(shell.lines("stat -c %a " .. shell.quote(dir .. "/r")), { "600" })
  lu.assertTrue(paper:finish({ status = "failed" }, domain)) -- once is enough
  lu.assertEquals(assert(report.read(dir .. "/r", domain)).status, "success")
end

function TestPlace.test_force_writes_over_what_is_there_and_only_at_the_end()
  local path = tmp.file("old")
  local paper = assert(report.create(path, { force = true }))
  lu.assertEquals(shell.read(path), "old")
  assert(paper:finish({ status = "success" }, domain))
  lu.assertEquals(code_of(path), "read")
end

function TestPlace.test_a_file_that_comes_meanwhile_stays()
  local path = tmp.dir() .. "/r"
  local paper = assert(report.create(path))
  shell.write(path, "another's")
  local ok, err = paper:finish({ status = "success" }, domain)
  lu.assertNil(ok)
  lu.assertEquals(err.code, "KFR_EXISTS")
  lu.assertEquals(shell.read(path), "another's")
  lu.assertEquals(#core.file.list(path:match("(.*)/")), 1)
end

local TestReading = {}

function TestReading.test_a_byte_that_is_another_one_is_seen()
  local path = small()
  local text = shell.read(path)
  for i = 1, #text do
    local byte = text:byte(i)
    for bit = 0, 7 do
      shell.write(path, text:sub(1, i - 1) .. string.char(byte ~ 1 << bit) .. text:sub(i + 1))
      local code = code_of(path)
      if code ~= "KFR_DAMAGED" then
        lu.fail(("byte %d, bit %d: %s"):format(i, bit, code))
      end
    end
  end
  shell.write(path, text)
  lu.assertEquals(code_of(path), "read")
end

function TestReading.test_what_is_cut_off_or_has_grown_is_seen()
  local path = small()
  local text = shell.read(path)
  for n = 0, #text - 1 do
    shell.write(path, text:sub(1, n))
    lu.assertEquals(code_of(path), n < 5 and "KFR_ARGUMENT" or "KFR_DAMAGED", n)
    lu.assertEquals(select(2, report.head(path)).code, code_of(path))
  end
  for _, more in ipairs { "\n", " ", "\0", "}", text, "x\n" } do
    shell.write(path, text .. more)
    lu.assertEquals(code_of(path), "KFR_DAMAGED")
    shell.write(path, more .. text)
    lu.assertEquals(code_of(path), "KFR_DAMAGED")
  end
end

function TestReading.test_lines_removed_swapped_or_doubled_are_seen()
  local path = small()
  local lines = lines_of(shell.read(path))
  for i = 1, #lines do
    for _, edit in ipairs { function(list) table.remove(list, i) end,
      function(list) table.insert(list, i, list[i]) end,
      function(list) list[i], list[i % #list + 1] = list[i % #list + 1], list[i] end } do
      local list = table.move(lines, 1, #lines, 1, {})
      edit(list)
      shell.write(path, table.concat(list))
      lu.assertEquals(code_of(path), "KFR_DAMAGED", i)
    end
  end
end

-- Somebody who knows how it is written, and not the domain.
local function forge(path, edit)
  local text = edit(shell.read(path))
  local body, mac = text:match('^(.*)"sha256":"%x+",\n"mac":(.*)\n}\n$')
  shell.write(path, ('%s"sha256":"%s",\n"mac":%s\n}\n'):format(body,
    shell.hex(core.sha256(body)), mac))
  return path
end

function TestReading.test_a_forged_one_is_seen()
  local function edit(from, to)
    return forge(small(), function(text)
      local edited, n = text:gsub(from, to, 1)
      assert(n == 1, from)
      return edited
    end)
  end
  lu.assertEquals(code_of(edit('"label":"two"', '"label":"owt"')), "KFR_DAMAGED")
  lu.assertEquals(code_of(edit('{"status"[^\n]*\n', "")), "KFR_DAMAGED")
  lu.assertEquals(code_of(edit('"domain":"%x+"', '"domain":"' .. ("0"):rep(32) .. '"')),
    "KFR_DOMAIN_MISMATCH")
  lu.assertEquals(code_of(edit('"mac":"%x+"', '"mac":null')), "KFR_REFUSED")
  lu.assertEquals(code_of(edit('"keyferry_report":1', '"keyferry_report":2')), "KFR_NEWER_VERSION")
  lu.assertEquals(code_of(edit('"keyferry_report":1',
    '"keyferry_report":99999999999999999999')), "KFR_DAMAGED")
end

function TestReading.test_one_of_another_domain()
  local other = assert(core.random_domain())
  local code, err = code_of(small(), other)
  lu.assertEquals(code, "KFR_DOMAIN_MISMATCH")
  lu.assertStrContains(err.what, domain:check())
end

function TestReading.test_one_of_a_run_that_came_to_nothing()
  local path = write({}, { domain = false, report = { status = "failed",
    reason = core.error { code = "KFR_NOT_FOUND", what = "there is no such thing" } } })
  lu.assertEquals(code_of(path), "KFR_REFUSED")
  local head = assert(report.head(path))
  lu.assertEquals({ head.status, head.code, head.domain, head.authenticated },
    { "failed", "KFR_NOT_FOUND", nil, false })
end

function TestReading.test_what_can_be_told_without_the_domain()
  local head = assert(report.head(small()))
  lu.assertEquals({ head.status, head.count, head.domain, head.authenticated },
    { "success", 3, domain:check(), false })
  lu.assertNil(head.objects)
  lu.assertEquals(head.source.label, "payments")
end

local function seal(body, under)
  local vouched = ('%s"sha256":"%s",\n'):format(body, shell.hex(core.sha256(body)))
  return ('%s"mac":"%s"\n}\n'):format(vouched, shell.hex(under:authenticate(vouched)))
end

-- Also one that the domain vouches for, since a broken keyferry may have written it.
function TestReading.test_nonsense_is_refused_however_well_sealed()
  local head = '{\n"keyferry_report":1,\n'
  local good = '"keyferry":"1","user":{},"host":"h","start":"s","end":"e","counts":{},"status":"x",'
  local line = '{"status":"cloned","handle":1'
  for _, body in ipairs {
    head, head .. '"objects":[]\n,', head .. good, head .. good .. '"objects":5,',
    head .. good .. '"objects":[5],', head .. good .. '"objects":[{}],',
    head .. good .. '"objects":[' .. ("["):rep(500000), head .. good .. '"objects":"\255",',
    head .. good .. '"objects":[' .. ("["):rep(40) .. ("]"):rep(40) .. "],",
    head .. good .. '"objects":[],"exit":1e999,', head .. good .. '"objects":[],"exit":1.5,',
    head .. good .. '"objects":[],"exit":NaN,', head .. good .. '"objects":[],"exit":0x1p4,',
    head .. good .. '"objects":[],"exit":123456789012345678901234567890,',
    head .. good .. '"objects":[],"domain":"abc",', head .. good .. '"objects":[],"host":5,',
    head .. good .. '"objects":[],"asked":{"x":"hex:0"},', head .. good .. '"objects":[],\0',
    head .. good .. '"objects":[' .. line .. ',"attributes":{"CKA_LABEL":"hex:zz"}}],',
    head .. good .. '"objects":[' .. line .. ',"attributes":{"label":"x"}}],',
    head .. good .. '"objects":[' .. line .. ',"attributes":[1]}],',
    head .. good .. '"objects":[' .. line .. ',"digest":"00"}],',
    head .. good .. '"objects":[' .. line .. ',"digest":null,"label":[]}],',
    head .. good .. '"objects":{"1":' .. line .. "}},",
    head .. good .. '"objects":[null],', head .. good .. '"objects":[' .. line .. "},null],",
    head .. good .. '"objects":[{"status":"cloned","handle":"7"}],',
  } do
    local path = tmp.file(seal(body, domain))
    local read, err = report.read(path, domain)
    lu.assertNil(read, body:sub(1, 200))
    lu.assertEquals(err.code, "KFR_DAMAGED", body:sub(1, 200))
    lu.assertTrue(#tostring(err) < 400)
    report.head(path)
  end
  local added = head .. good .. '"objects":[' .. line .. ',"later":[1]}],"later":{"x":null},'
  lu.assertEquals(code_of(tmp.file(seal(added, domain))), "read")
end

function TestReading.test_what_is_no_report()
  local dir = tmp.dir()
  for _, bytes in ipairs { "", "{}", "{}\n", "no", "\0", ("x"):rep(100000), '{"keyferry":1}\n',
    "{\n", "[\n1]\n", ("["):rep(1000000) } do
    local path = tmp.file(bytes)
    lu.assertEquals(code_of(path), "KFR_ARGUMENT", bytes:sub(1, 20))
    lu.assertEquals(select(2, report.head(path)).code, "KFR_ARGUMENT")
  end
  lu.assertEquals(code_of(dir), "KFR_ARGUMENT")
  lu.assertEquals(code_of("/dev/zero"), "KFR_ARGUMENT")
  lu.assertEquals(select(2, code_of(dir .. "/none")).sys, 2)
  assert(os.execute("mkfifo " .. dir .. "/pipe"))
  lu.assertEquals(code_of(dir .. "/pipe"), "KFR_ARGUMENT")
  assert(os.execute("truncate -s 300M " .. dir .. "/large"))
  lu.assertEquals(code_of(dir .. "/large"), "KFR_LIMIT")
end

-- As jq, an editor or a mail program leaves it.
function TestReading.test_one_that_was_written_again_is_damaged_and_no_stranger()
  local text = shell.read(small())
  for _, edited in ipairs { text:gsub("\n", "\r\n"), (text:gsub("\n", "")), "\u{feff}" .. text,
    (text:gsub(":", ": ")), text .. "\n" } do
    lu.assertEquals(code_of(tmp.file(edited)), "KFR_DAMAGED", edited:sub(1, 30))
  end
end

function TestReading.test_one_that_nobody_may_read()
  local path = small()
  assert(os.execute("chmod 000 " .. shell.quote(path)))
  local _, err = code_of(path)
  if core.user().uid == 0 then lu.skip("root reads everything") end
  lu.assertEquals(err.sys, 13)
end

local TestMac = {}

function TestMac.test_is_of_the_domain_and_of_every_byte()
  local other = assert(core.random_domain())
  local mac = domain:authenticate("a")
  lu.assertEquals(#mac, 32)
  lu.assertEquals(mac, domain:authenticate("a"))
  for _, bytes in ipairs { "", "b", "a\0", "\0a", "aa" } do
    lu.assertNotEquals(domain:authenticate(bytes), mac)
  end
  lu.assertNotEquals(other:authenticate("a"), mac)
  assert_raises("string expected", domain.authenticate, domain)
end

function TestMac.test_sha256_is_what_everybody_has()
  lu.assertEquals(shell.hex(core.sha256("")),
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
  local path = tmp.file("some\0bytes")
  lu.assertEquals(shell.hex(core.sha256("some\0bytes")),
    shell.lines("sha256sum " .. shell.quote(path))[1]:match("^%x+"))
end

-- What a text's domain vouches for today it vouches for in ten years: HMAC-SHA256, computed by
-- another implementation of c/clone/domain.h.
function TestMac.test_the_mac_of_a_text_never_changes()
  lu.assertEquals(shell.hex(keyferry.default_domain():authenticate("abc")),
    "e92c2c76e8cd8b16a0fc2851ae62ee93b4ddef0be6b5082c95e2e55be2078552")
end

-- A domain that lives in a token vouches as its text does.
function TestMac.test_a_domain_in_a_token_gives_the_same()
  local token = zoo.token("mac")
  local session = zoo.session(token)
  assert(session:install_domain(domain))
  local there = assert(session:find_domain("wrap"))
  lu.assertEquals(there:authenticate("a"), domain:authenticate("a"))
  zoo.close(token)
  local mac, err = there:authenticate("a")
  lu.assertNil(mac)
  lu.assertEquals(err.code, "KFR_CLOSED")
end

return { TestWriting = TestWriting, TestPlace = TestPlace, TestReading = TestReading,
  TestMac = TestMac }
