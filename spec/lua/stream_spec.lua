-- SPDX-License-Identifier: MIT
-- Sealed streams from Lua: whole, or a reason, and never an object beyond what is whole.
local lu = require("luaunit")

local core = require("keyferry.core")
local process = require("support.process")
local shell = require("support.shell")
local stream_bytes = require("support.stream_bytes")
local tmp = require("support.tmp")
local zoo = require("support.zoo")

local fixture = dofile("spec/fixtures/stream.lua")

local function read(file) return assert(shell.read("spec/fixtures/" .. file)) end

local domains = {}

local function domain(text)
  domains[text] = domains[text] or assert(core.domain(core.secret(text)))
  return domains[text]
end

local function right() return domain(fixture.domain) end
local function wrong() return domain("another") end

local function assert_refused(code, ok, err)
  lu.assertNil(ok)
  lu.assertEquals(err.code, code, tostring(err))
  return err
end

local function sealed(name) return core.sealed(read(name .. ".sealed")) end

local function fresh(name) return tmp.memory("stream") .. "/" .. (name or "s") end

-- A stream of these fixtures at a new path; `options` has head, finish and digests.
local function made(names, options)
  options = options or {}
  local path = fresh()
  local writer <close> = assert(core.stream.create(path, options.domain or right(),
    options.head or {}))
  for i, name in ipairs(names) do
    assert(writer:add(sealed(name), options.digests and options.digests[i]))
  end
  assert(writer:finish(options.finish))
  return path
end

local function stream_of(names, options) return shell.read(made(names, options)) end

-- All that a reader gives: { given = bytes of each, digests =, finished =, err = }.
local function drain(path, under)
  local reader, err = core.stream.open(path)
  if not reader then return { given = {}, err = err, at = "open" } end
  local all = { given = {}, digests = {}, head = reader:head() }
  while true do
    local object, digest = reader:next(under)
    if not object then
      all.err = digest
      break
    end
    table.insert(all.given, object:bytes())
    table.insert(all.digests, digest or false)
  end
  all.finished = reader:finished()
  reader:close()
  return all
end

-- One place for all the bytes that are tried.
local place

local function drain_bytes(bytes, under)
  place = place or fresh()
  shell.write(place, bytes)
  return drain(place, under)
end

-- Whole -----------------------------------------------------------------------------------------

local TestWhole = {}

local THREE = { "aes", "rsa", "data" }

local function bytes_of(names)
  local list = {}
  for i, name in ipairs(names) do list[i] = read(name .. ".sealed") end
  return list
end

function TestWhole.test_what_goes_in_comes_out_in_order_with_its_digests()
  local digest = assert(sealed("aes"):digest(right()))
  local path = made(THREE, { digests = { digest, nil, ("d"):rep(32) },
    finish = { failed = 4, skipped = 5 } })
  for _, under in ipairs { right(), false } do
    local all = drain(path, under or nil)
    lu.assertNil(all.err)
    lu.assertEquals(all.given, bytes_of(THREE))
    lu.assertEquals(all.digests, { digest, false, ("d"):rep(32) })
    lu.assertEquals(all.finished, { objects = 3, failed = 4, skipped = 5 })
  end
end

function TestWhole.test_the_head_says_where_it_is_from()
  local head = { label = "prod keys", serial = "0011223344556677", model = "SoftHSM v2",
    manufacturer = "SoftHSM project", keyferry = "9.9", created = 1234567890, expected = 12 }
  local all = drain(made({}, { head = head }))
  head.version, head.check = 1, right():check()
  lu.assertEquals(all.head, head)
end

function TestWhole.test_it_prints_as_what_it_is_of()
  local reader = assert(core.stream.open(made(THREE, { head = { label = "payments" } })))
  lu.assertEquals(tostring(reader), 'sealed stream of "payments"')
  reader:close()
  lu.assertEquals(tostring(reader), "sealed stream (closed)")
end

function TestWhole.test_what_is_not_said_in_the_head_is_empty_or_comes_of_itself()
  local before = os.time()
  local head = drain(made({})).head
  lu.assertEquals({ head.label, head.serial, head.model, head.manufacturer }, { "", "", "", "" })
  lu.assertEquals(head.keyferry, core.version)
  lu.assertNil(head.expected)
  lu.assertTrue(head.created >= before and head.created <= os.time())
end

function TestWhole.test_no_two_streams_are_the_same()
  local head = { created = 1 }
  lu.assertNotEquals(stream_of({}, { head = head }), stream_of({}, { head = head }))
end

function TestWhole.test_more_objects_than_any_buffer_holds()
  local names = {}
  for i = 1, 300 do names[i] = ({ "rsa", "aes", "data-public-empty" })[i % 3 + 1] end
  local all = drain(made(names), right())
  lu.assertEquals(all.given, bytes_of(names))
  lu.assertEquals(all.finished, { objects = 300, failed = 0, skipped = 0 })
end

function TestWhole.test_an_object_larger_than_any_buffer()
  local token = zoo.token("large")
  local session = zoo.session(token)
  local object = assert(session:create { class = "data", token = true, private = false,
    label = "large", value = ("0123456789abcdef"):rep(20000) })
  local endpoint <close> = assert(session:endpoint("softhsm", right()))
  local large = assert(endpoint:seal(object))
  local path = fresh()
  local writer <close> = assert(core.stream.create(path, right()))
  for _, one in ipairs { sealed("aes"), large, large, sealed("data") } do
    assert(writer:add(one))
  end
  assert(writer:finish())
  local all = drain(path, right())
  lu.assertEquals(#all.given, 4)
  lu.assertTrue(all.given[2] == large:bytes() and all.given[3] == large:bytes())
  lu.assertEquals(all.finished.objects, 4)
  zoo.close(token)
end

function TestWhole.test_the_end_stays_the_end()
  local reader <close> = assert(core.stream.open(made({ "aes" })))
  lu.assertNil(reader:finished())
  lu.assertNotNil(reader:next(right()))
  lu.assertNil(reader:finished())
  for _ = 1, 3 do
    lu.assertEquals(table.pack(reader:next(right())), { n = 1 })
    lu.assertEquals(reader:finished().objects, 1)
  end
end

function TestWhole.test_a_file_can_be_read_again_at_any_point()
  local reader <close> = assert(core.stream.open(made(THREE)))
  lu.assertTrue(reader:seekable())
  for given = 0, 3 do
    for _ = 1, given do lu.assertNotNil(reader:next(right())) end
    lu.assertTrue(reader:rewind())
    lu.assertNil(reader:finished())
  end
  for i = 1, 3 do lu.assertEquals(reader:next():bytes(), bytes_of(THREE)[i]) end
  lu.assertNil(reader:next())
  lu.assertEquals(reader:finished().objects, 3)
end

-- The bytes that were looked at first are those that are taken later.
function TestWhole.test_another_stream_in_its_place_is_no_rewind()
  local path = made({ "aes" })
  local reader <close> = assert(core.stream.open(path))
  shell.write(path, stream_of { "data" })
  assert_refused("KFR_DAMAGED", reader:rewind())
  assert_refused("KFR_DAMAGED", reader:next(right()))
end

function TestWhole.test_an_object_lives_on_when_its_reader_is_closed()
  local reader = assert(core.stream.open(made({ "aes", "data" })))
  local object = assert(reader:next())
  reader:next()
  reader:close()
  lu.assertEquals(object:bytes(), read("aes.sealed"))
  lu.assertTrue(object:opens(right()))
end

-- Domains ---------------------------------------------------------------------------------------

local TestDomain = {}

function TestDomain.test_another_domain_gets_nothing_and_may_be_changed_for_the_right_one()
  local reader <close> = assert(core.stream.open(made({ "aes", "data" })))
  assert_refused("KFR_DOMAIN_MISMATCH", reader:opens(wrong()))
  assert_refused("KFR_DOMAIN_MISMATCH", reader:next(wrong()))
  lu.assertTrue(reader:opens(right()))
  lu.assertEquals(reader:next(right()):bytes(), read("aes.sealed"))
  assert_refused("KFR_DOMAIN_MISMATCH", reader:next(wrong()))
  lu.assertEquals(reader:next(right()):bytes(), read("data.sealed"))
  assert_refused("KFR_DOMAIN_MISMATCH", reader:next(wrong()))
  lu.assertNil(reader:finished())
  lu.assertEquals(select("#", reader:next(right())), 1)
end

function TestDomain.test_an_object_of_another_domain_does_not_get_in_and_spoils_nothing()
  local token = zoo.token("another")
  local session = zoo.session(token)
  local endpoint <close> = assert(session:endpoint("softhsm", wrong()))
  local other = assert(endpoint:seal(zoo.secret(session, "k", { value = ("k"):rep(32) })))
  local path = fresh()
  local writer <close> = assert(core.stream.create(path, right()))
  assert(writer:add(sealed("aes")))
  assert_refused("KFR_DOMAIN_MISMATCH", writer:add(other))
  assert_refused("KFR_DAMAGED", writer:add(core.sealed("no sealed object")))
  assert_refused("KFR_DAMAGED", writer:add(core.sealed(read("aes.sealed") .. "x")))
  assert(writer:add(sealed("data")))
  assert(writer:finish())
  lu.assertEquals(drain(path, right()).given, bytes_of { "aes", "data" })
  zoo.close(token)
end

-- The domain of a partition's own, whose keys do not leave it: in both engines.
function TestDomain.test_a_domain_that_lives_in_a_token_writes_and_reads()
  local token = zoo.token("home")
  local session = zoo.session(token)
  assert(session:install_domain(right()))
  for _, engine in ipairs{ "softhsm", "wrap" } do
    local own <close> = assert(session:find_domain(engine))
    local path = made(THREE, { domain = own })
    lu.assertEquals(drain(path, right()).given, bytes_of(THREE))
    lu.assertEquals(drain(path, own).given, bytes_of(THREE))
    local forged = stream_bytes.parse(shell.read(path))
    table.remove(forged.frames, 1)
    lu.assertEquals(drain_bytes(stream_bytes.join(stream_bytes.chain(forged)), own).err.code,
      "KFR_DAMAGED")
  end
  zoo.close(token)
end

-- Cut and flawed --------------------------------------------------------------------------------

local SMALL = { "data-public-empty", "hmac-20-bytes" }

-- Where each frame ends: of two objects and the end.
local function frame_ends(bytes)
  local ends = {}
  for i, frame in ipairs(stream_bytes.parse(bytes).frames) do ends[i] = frame.after - 1 end
  return ends
end

-- How many objects end within the first n bytes.
local function whole_within(ends, n)
  local count = 0
  for i = 1, #ends - 1 do
    if ends[i] <= n then count = count + 1 end
  end
  return count
end

local TestCut = {}

local function check_cuts(bytes, under)
  local ends = frame_ends(bytes)
  lu.assertEquals(ends[#ends], #bytes)
  for n = 0, #bytes - 1 do
    local all = drain_bytes(bytes:sub(1, n), under)
    lu.assertEquals(all.err.code, n < 8 and "KFR_ARGUMENT" or "KFR_TRUNCATED", n)
    lu.assertEquals(all.given, table.move(bytes_of(SMALL), 1, whole_within(ends, n), 1, {}), n)
    lu.assertNil(all.finished, n)
  end
  lu.assertNil(drain_bytes(bytes, under).err)
end

function TestCut.test_at_every_byte_with_the_domain()
  check_cuts(stream_of(SMALL, { digests = { ("d"):rep(32) } }), right())
end

function TestCut.test_at_every_byte_without_it()
  check_cuts(stream_of(SMALL), nil)
end

function TestCut.test_the_sentence_says_how_much_there_was()
  local bytes = stream_of(SMALL)
  local ends = frame_ends(bytes)
  for n, words in pairs { [20] = "in its head, before any object",
    [ends[1] - 1] = "after 0 objects", [ends[1]] = "after 1 object", [ends[2]] = "after 2 objects",
    [#bytes - 1] = "after 2 objects" } do
    local err = drain_bytes(bytes:sub(1, n)).err
    lu.assertStrContains(err.what, words)
    lu.assertStrContains(err.what, place)
    lu.assertNotNil(err.hint)
  end
end

function TestCut.test_the_failure_stays()
  local bytes = stream_of(SMALL)
  shell.write(fresh(), "")
  local path = tmp.file(bytes:sub(1, -2))
  local reader <close> = assert(core.stream.open(path))
  while reader:next(right()) do end
  shell.write(path, bytes)
  assert_refused("KFR_TRUNCATED", reader:next(right()))
  assert_refused("KFR_TRUNCATED", reader:next())
  lu.assertNil(reader:finished())
end

local TestFlaw = {}

local function flip(bytes, bit)
  local at = bit // 8 + 1
  return bytes:sub(1, at - 1) .. string.char(bytes:byte(at) ~ (1 << bit % 8)) .. bytes:sub(at + 1)
end

local function check_flips(bytes, under)
  local ends = frame_ends(bytes)
  for bit = 0, #bytes * 8 - 1 do
    local all = drain_bytes(flip(bytes, bit), under)
    lu.assertEquals(all.err.code, "KFR_DAMAGED", bit)
    lu.assertEquals(#all.given, whole_within(ends, bit // 8), bit)
    lu.assertNil(all.finished, bit)
  end
end

function TestFlaw.test_any_flipped_bit_is_damage_with_the_domain()
  check_flips(stream_of(SMALL, { digests = { ("d"):rep(32) }, head = { label = "l",
    expected = 2 } }), right())
end

function TestFlaw.test_any_flipped_bit_is_damage_without_it()
  check_flips(stream_of(SMALL), nil)
end

-- Damage of the head is not called another domain.
function TestFlaw.test_any_flipped_bit_is_damage_under_a_wrong_domain()
  local bytes = stream_of({})
  local head = stream_bytes.parse(bytes).head.length
  for bit = 0, head * 8 - 1 do
    lu.assertEquals(drain_bytes(flip(bytes, bit), wrong()).err.code, "KFR_DAMAGED", bit)
  end
  lu.assertEquals(drain_bytes(bytes, wrong()).err.code, "KFR_DOMAIN_MISMATCH")
end

function TestFlaw.test_whatever_stands_after_the_end_is_damage()
  local bytes = stream_of(SMALL)
  for _, more in ipairs { "\0", "x", "\n", bytes, ("\0"):rep(100000) } do
    local all = drain_bytes(bytes .. more, right())
    lu.assertEquals(all.err.code, "KFR_DAMAGED")
    lu.assertNil(all.finished)
  end
end

function TestFlaw.test_a_byte_more_or_less_anywhere_is_damage_or_a_cut()
  local bytes = stream_of(SMALL)
  local ends = frame_ends(bytes)
  for at = 0, #bytes - 1 do
    for _, other in ipairs { bytes:sub(1, at) .. "\0" .. bytes:sub(at + 1),
      bytes:sub(1, at) .. bytes:sub(at + 2) } do
      local all = drain_bytes(other, right())
      local code = all.err.code
      lu.assertTrue(code == "KFR_DAMAGED" or at < 30 and code == "KFR_ARGUMENT" or
        at >= ends[2] and code == "KFR_TRUNCATED" or
        at >= 30 and at < ends[2] and code == "KFR_TRUNCATED" and #other < #bytes, code .. at)
      lu.assertTrue(#all.given <= whole_within(ends, at), at)
      lu.assertNil(all.finished, at)
    end
  end
end

-- Forged ----------------------------------------------------------------------------------------

local TestForged = {}

-- As somebody without the domain does it: frames as they are, or with digests made right.
local function check_forged(name, change, given)
  for _, repair in ipairs { function(parts) return parts end, stream_bytes.chain } do
    local parts = stream_bytes.parse(stream_of(THREE))
    change(parts)
    local all = drain_bytes(stream_bytes.join(repair(parts)), right())
    lu.assertEquals(all.err and all.err.code, "KFR_DAMAGED", name)
    lu.assertEquals(#all.given, given, name)
    lu.assertNil(all.finished, name)
  end
end

local function renumber(parts)
  for i, frame in ipairs(parts.frames) do frame.number = i end
end

-- `change`, and the same with the numbers of the frames made right.
local function check_moved(name, change, given)
  check_forged(name, change, given)
  check_forged(name .. ", renumbered", function(parts)
    change(parts)
    renumber(parts)
  end, given)
end

function TestForged.test_two_objects_swapped()
  check_moved("swapped", function(parts)
    parts.frames[1], parts.frames[2] = parts.frames[2], parts.frames[1]
  end, 0)
  check_moved("swapped later", function(parts)
    parts.frames[2], parts.frames[3] = parts.frames[3], parts.frames[2]
  end, 1)
end

function TestForged.test_an_object_twice()
  check_moved("doubled", function(parts)
    table.insert(parts.frames, 3, parts.frames[2])
    parts.frames[2] = setmetatable({}, { __index = parts.frames[3] })
  end, 2)
end

function TestForged.test_an_object_left_out()
  for at = 1, 3 do
    check_moved("left out", function(parts) table.remove(parts.frames, at) end, at - 1)
  end
end

function TestForged.test_the_last_objects_left_out_and_the_end_told_so()
  check_moved("shorter", function(parts)
    table.remove(parts.frames, 3)
    parts.frames[3].payload = (">I8I8I8"):pack(2, 0, 0)
  end, 2)
end

function TestForged.test_an_object_of_another_stream_of_the_same_domain()
  local other = stream_bytes.parse(stream_of { "ec-p256", "ed25519", "rsa" })
  for at = 1, 4 do
    check_forged("spliced", function(parts) parts.frames[at] = other.frames[at] end, at - 1)
  end
end

function TestForged.test_the_rest_of_another_stream()
  local other = stream_bytes.parse(stream_of(THREE))
  check_forged("grafted", function(parts)
    for at = 2, 4 do parts.frames[at] = other.frames[at] end
  end, 1)
end

function TestForged.test_another_object_digest_or_count_in_a_frame()
  check_forged("object", function(parts)
    parts.frames[2].payload = "\0" .. read("ed25519.sealed")
  end, 1)
  check_forged("digest", function(parts)
    parts.frames[2].payload = "\1" .. ("x"):rep(32) .. parts.frames[2].payload:sub(2)
  end, 1)
  check_forged("counts", function(parts)
    parts.frames[4].payload = (">I8I8I8"):pack(3, 0, 7)
  end, 3)
end

function TestForged.test_another_head_before_the_same_frames()
  for field, value in pairs { label = "mine", created = 1, expected = 3, id = ("i"):rep(16) } do
    check_forged(field, function(parts) parts.head[field] = value end, 0)
  end
  local parts = stream_bytes.parse(stream_of(THREE))
  parts.head.check = shell.unhex(wrong():check())
  lu.assertEquals(drain_bytes(stream_bytes.join(stream_bytes.chain(parts)), wrong()).err.code,
    "KFR_DAMAGED")
end

-- Who knows the domain and writes what no keyferry writes.
local key

local function by_one_who_knows(change)
  key = key or stream_bytes.key(fixture.domain)
  local parts = stream_bytes.parse(stream_of({ "aes" }))
  change(parts)
  return drain_bytes(stream_bytes.join(stream_bytes.authenticate(parts, key)), right())
end

function TestForged.test_the_second_implementation_is_one()
  local all = by_one_who_knows(function(parts)
    table.insert(parts.frames, 2, stream_bytes.object(2, read("data.sealed"), ("d"):rep(32)))
    parts.frames[3] = stream_bytes.last(3, 2, 1, 0)
  end)
  lu.assertNil(all.err and tostring(all.err))
  lu.assertEquals(all.given, bytes_of { "aes", "data" })
  lu.assertEquals(all.digests, { false, ("d"):rep(32) })
  lu.assertEquals(all.finished, { objects = 2, failed = 1, skipped = 0 })
end

function TestForged.test_frames_that_no_keyferry_writes_are_damage()
  local otherwise = read("data.sealed")
  for name, frame in pairs {
    ["no such kind"] = { kind = 3 }, ["kind 0"] = { kind = 0 }, ["another number"] = { number = 7 },
    empty = { payload = "" }, ["a digest that is not there"] = { payload = "\1abc" },
    ["no such form"] = { payload = "\2" .. otherwise },
    ["no sealed object"] = { payload = "\0something" },
    ["a sealed object that is damaged"] = { payload = "\0" .. flip(otherwise, 2000) } } do
    local all = by_one_who_knows(function(parts)
      parts.frames[2] = stream_bytes.object(2, otherwise)
      for field, value in pairs(frame) do parts.frames[2][field] = value end
      parts.frames[3] = stream_bytes.last(3, 2, 0, 0)
    end)
    lu.assertEquals(all.err and all.err.code, "KFR_DAMAGED", name)
    lu.assertEquals(#all.given, 1, name)
  end
end

function TestForged.test_ends_that_no_keyferry_writes_are_damage()
  for name, payload in pairs { ["too many"] = (">I8I8I8"):pack(2, 0, 0),
    ["too few"] = (">I8I8I8"):pack(0, 0, 0), short = (">I8I8"):pack(1, 0),
    long = (">I8I8I8"):pack(1, 0, 0) .. "\0", none = "" } do
    local all = by_one_who_knows(function(parts) parts.frames[2].payload = payload end)
    lu.assertEquals(all.err and all.err.code, "KFR_DAMAGED", name)
    lu.assertNil(all.finished, name)
  end
  local all = by_one_who_knows(function(parts)
    table.insert(parts.frames, stream_bytes.last(3, 1, 0, 0))
  end)
  lu.assertEquals(all.err.code, "KFR_DAMAGED")
end

-- Whoever opens the object is the judge of it.
function TestForged.test_an_object_of_a_newer_version_is_given()
  local all = by_one_who_knows(function(parts)
    parts.frames[2] = stream_bytes.object(2, read("version-2.sealed"))
    parts.frames[3] = stream_bytes.last(3, 2, 0, 0)
  end)
  lu.assertNil(all.err)
  assert_refused("KFR_NEWER_VERSION", core.sealed(all.given[2]):opens(right()))
end

-- Fixtures --------------------------------------------------------------------------------------

local TestFixtures = {}

function TestFixtures.test_each_opens_as_what_it_was_for_ever()
  for _, one in ipairs(fixture) do
    local all = drain("spec/fixtures/" .. one.file, right())
    lu.assertNil(all.err and tostring(all.err), one.file)
    one.head.version, one.head.check = 1, fixture.check
    lu.assertEquals(all.head, one.head)
    lu.assertEquals(#all.given, #one.objects)
    for i, object in ipairs(one.objects) do
      lu.assertEquals(all.given[i], read(object.file), object.file)
      lu.assertEquals(all.digests[i] and shell.hex(all.digests[i]), object.digest or false)
      lu.assertTrue(core.sealed(all.given[i]):opens(right()))
    end
    lu.assertEquals(all.finished, { objects = #one.objects, failed = one.finish.failed,
      skipped = one.finish.skipped })
    lu.assertEquals(drain("spec/fixtures/" .. one.file, wrong()).err.code, "KFR_DOMAIN_MISMATCH")
  end
end

function TestFixtures.test_there_is_none_that_nobody_looks_at()
  local listed = { ["spec/fixtures/" .. fixture.newer] = true }
  for _, one in ipairs(fixture) do listed["spec/fixtures/" .. one.file] = true end
  for _, path in ipairs(shell.lines("ls spec/fixtures/*.stream")) do
    lu.assertTrue(listed[path], path)
  end
end

-- README and program agree, as far as a second implementation can tell.
function TestFixtures.test_every_digest_and_mac_in_them_is_as_it_is_written_down()
  key = key or stream_bytes.key(fixture.domain)
  for _, one in ipairs(fixture) do
    local bytes = read(one.file)
    local parts = stream_bytes.parse(bytes)
    lu.assertEquals(stream_bytes.join(stream_bytes.authenticate(parts, key)), bytes)
  end
end

function TestFixtures.test_a_newer_version_says_so_and_damage_in_it_says_that()
  local bytes = read(fixture.newer)
  local err = drain_bytes(bytes, right()).err
  lu.assertEquals(err.code, "KFR_NEWER_VERSION")
  lu.assertStrContains(err.what, "version 2")
  local head = (">I4"):unpack(bytes, 11)
  for bit = 0, head * 8 - 1 do
    lu.assertEquals(drain_bytes(flip(bytes, bit), right()).err.code, "KFR_DAMAGED", bit)
  end
  for n = 8, head - 1 do
    lu.assertEquals(drain_bytes(bytes:sub(1, n)).err.code, "KFR_TRUNCATED", n)
  end
end

-- Places ----------------------------------------------------------------------------------------

local TestSource = {}

function TestSource.test_what_is_no_stream_says_that()
  for _, bytes in ipairs { "", "K", "KFSTREA", "x", ("\0"):rep(1000), "KFSEALED" .. ("x"):rep(99),
    read("aes.sealed"), "kfstream" .. ("\0"):rep(99), "\239\187\191" .. stream_of({}),
    "Welcome to vault\n" .. stream_of({}) } do
    local all = drain_bytes(bytes)
    lu.assertEquals(all.at, "open")
    lu.assertEquals(all.err.code, "KFR_ARGUMENT")
    lu.assertStrContains(all.err.what, "is no sealed stream")
  end
  lu.assertStrContains(drain_bytes("").err.what, "it is empty")
end

function TestSource.test_what_only_begins_like_one_is_damaged_or_cut()
  lu.assertEquals(drain_bytes("KFSTREAM").err.code, "KFR_TRUNCATED")
  lu.assertEquals(drain_bytes("KFSTREAM" .. ("\0"):rep(99)).err.code, "KFR_DAMAGED")
  lu.assertEquals(drain_bytes("KFSTREAM" .. ("\255"):rep(99999)).err.code, "KFR_DAMAGED")
end

-- A length that somebody made up is bounded, and believed only with its check.
function TestSource.test_a_length_out_of_bounds_is_damage()
  for _, length in ipairs { 0, 61, 4097, 0xffffffff } do
    local opening = "KFSTREAM" .. (">I2I4"):pack(1, length)
    lu.assertEquals(drain_bytes(opening .. core.sha256(opening):sub(1, 16) .. ("x"):rep(9999))
      .err.code, "KFR_DAMAGED")
  end
  local parts = stream_bytes.parse(stream_of({}))
  local head = stream_bytes.join({ head = parts.head, frames = {} })
  local frame = (">I1I8I4"):pack(1, 1, 0xffffffff)
  lu.assertEquals(drain_bytes(head .. frame ..
    core.sha256(parts.head.digest .. frame):sub(1, 16) .. "x").err.code, "KFR_DAMAGED")
end

function TestSource.test_places_that_cannot_be_read()
  local dir = tmp.dir()
  local err = assert_refused("KFR_ARGUMENT", core.stream.open(dir))
  lu.assertStrContains(err.what, "is a folder")
  err = assert_refused("KFR_SYSTEM", core.stream.open(dir .. "/none"))
  lu.assertEquals(err.sys, 2)
  assert_refused("KFR_ARGUMENT", core.stream.open(""))
  assert_refused("KFR_ARGUMENT", core.stream.open(("x"):rep(5000)))
  assert_refused("KFR_ARGUMENT", core.stream.open("/dev/null"))
end

function TestSource.test_a_file_that_may_not_be_read()
  local path = made({})
  os.execute("chmod 000 " .. shell.quote(path))
  if (process.run { "id", "-u" }).out ~= "0\n" then
    lu.assertEquals(assert_refused("KFR_SYSTEM", core.stream.open(path)).sys, 13)
  end
end

local TestTarget = {}

local function listing(dir) return table.concat(shell.lines("ls -A " .. shell.quote(dir)), " ") end

function TestTarget.test_a_file_is_there_only_when_finished_and_is_nobody_elses()
  local dir = tmp.dir()
  local path = dir .. "/s"
  local writer = assert(core.stream.create(path, right()))
  assert(writer:add(sealed("aes")))
  lu.assertEquals(listing(dir), "s.keyferry-unfinished")
  lu.assertStrContains(process.must { "stat", "-c", "%a", dir .. "/s.keyferry-unfinished" }, "600")
  assert(writer:finish())
  lu.assertEquals(listing(dir), "s")
  lu.assertEquals(process.must { "stat", "-c", "%a", path }, "600\n")
end

function TestTarget.test_a_file_that_is_not_finished_goes()
  local dir = tmp.dir()
  for _, how in ipairs { "close", "scope", "collect" } do
    local writer = assert(core.stream.create(dir .. "/s", right()))
    assert(writer:add(sealed("aes")))
    if how == "close" then
      writer:close()
    elseif how == "scope" then
      local scoped <close> = writer
      lu.assertNotNil(scoped)
    end
    writer = nil
    collectgarbage()
    lu.assertNil(writer)
    lu.assertEquals(listing(dir), "", how)
  end
end

function TestTarget.test_what_is_there_is_left_alone_without_force()
  local path = tmp.file("precious", "s")
  local err = assert_refused("KFR_EXISTS", core.stream.create(path, right(), {}))
  lu.assertStrContains(err.what, path)
  lu.assertNotNil(err.hint)
  assert_refused("KFR_EXISTS", core.stream.create(path, right(), { force = false }))
  lu.assertEquals(shell.read(path), "precious")
end

function TestTarget.test_with_force_it_stays_until_the_new_one_is_whole()
  local path = tmp.file("precious", "s")
  local writer = assert(core.stream.create(path, right(), { force = true }))
  assert(writer:add(sealed("aes")))
  lu.assertEquals(shell.read(path), "precious")
  writer:close()
  lu.assertEquals(shell.read(path), "precious")
  writer = assert(core.stream.create(path, right(), { force = true }))
  assert(writer:finish())
  lu.assertEquals(drain(path, right()).finished.objects, 0)
end

function TestTarget.test_what_came_there_meanwhile_stays_too()
  local dir = tmp.dir()
  local writer = assert(core.stream.create(dir .. "/s", right()))
  shell.write(dir .. "/s", "precious")
  assert_refused("KFR_EXISTS", writer:finish())
  lu.assertEquals(shell.read(dir .. "/s"), "precious")
  lu.assertEquals(listing(dir), "s")
end

function TestTarget.test_a_link_is_something_that_is_there()
  local dir = tmp.dir()
  os.execute(("ln -s nowhere %s/s"):format(dir))
  assert_refused("KFR_EXISTS", core.stream.create(dir .. "/s", right()))
  lu.assertEquals(listing(dir), "s")
end

function TestTarget.test_two_writers_of_one_file_do_not_mix()
  local dir = tmp.dir()
  local writer = assert(core.stream.create(dir .. "/s", right()))
  local err = assert_refused("KFR_EXISTS", core.stream.create(dir .. "/s", right()))
  lu.assertStrContains(err.what, "another keyferry is writing")
  assert(writer:add(sealed("aes")))
  assert(writer:finish())
  lu.assertEquals(drain(dir .. "/s", right()).given, bytes_of { "aes" })
end

function TestTarget.test_what_a_killed_one_left_is_no_hindrance()
  local dir = tmp.dir()
  shell.write(dir .. "/s.keyferry-unfinished", ("left over"):rep(1000))
  local writer = assert(core.stream.create(dir .. "/s", right()))
  assert(writer:finish())
  lu.assertEquals(listing(dir), "s")
  lu.assertNil(drain(dir .. "/s", right()).err)
end

function TestTarget.test_places_that_cannot_be_written_are_refused_at_once()
  local dir = tmp.dir()
  for _, force in ipairs { true, false } do
    assert_refused("KFR_ARGUMENT", core.stream.create(dir, right(), { force = force }))
    assert_refused("KFR_ARGUMENT", core.stream.create(dir .. "/", right(), { force = force }))
    assert_refused("KFR_ARGUMENT", core.stream.create("", right(), { force = force }))
    local err = select(2, core.stream.create(dir .. "/none/s", right(), { force = force }))
    lu.assertStrContains(err.what, "folder")
  end
  lu.assertEquals(listing(dir), "")
end

function TestTarget.test_a_folder_without_leave_to_write_is_refused_at_once()
  if (process.run { "id", "-u" }).out == "0\n" then return end
  local dir = tmp.dir()
  os.execute("chmod 500 " .. shell.quote(dir))
  lu.assertEquals(assert_refused("KFR_SYSTEM", core.stream.create(dir .. "/s", right())).sys, 13)
end

function TestTarget.test_a_full_device_says_so()
  local err = assert_refused("KFR_SYSTEM", core.stream.create("/dev/full", right(), {}))
  lu.assertEquals(err.sys, 28)
  lu.assertStrContains(err.what, "/dev/full")
end

-- Digests ---------------------------------------------------------------------------------------

local TestDigest = {}

-- For one of everything: the sealed object tells what the engines tell of the object itself.
function TestDigest.test_a_sealed_object_has_the_digest_of_its_object()
  local token = zoo.token("digests")
  local session = zoo.session(token)
  zoo.stock(session)
  local told = 0
  for _, engine in ipairs{ "softhsm", "wrap" } do
    local endpoint <close> = assert(session:endpoint(engine, right()))
    local best <close> = assert(session:endpoint("softhsm", right()))
    for _, object in ipairs(assert(endpoint:find())) do
      local one = endpoint:seal(object)
      local digest = one and assert(best:digest(object))
      if one then
        lu.assertEquals(shell.hex(assert(one:digest(right()))), shell.hex(digest), object.label)
        told = told + 1
      end
    end
  end
  lu.assertTrue(told > 100, told)
  zoo.close(token)
end

function TestDigest.test_it_is_told_only_under_its_domain_and_of_what_is_whole()
  assert_refused("KFR_DOMAIN_MISMATCH", sealed("aes"):digest(wrong()))
  assert_refused("KFR_DAMAGED", core.sealed(read("aes.sealed"):sub(1, -2)):digest(right()))
  assert_refused("KFR_NEWER_VERSION", core.sealed(read("version-2.sealed")):digest(right()))
end

-- A key that only its wrapped body has: the token does not unwrap it into this process.
function TestDigest.test_under_the_domain_of_a_token_what_is_wrapped_stays_unknown()
  local token = zoo.token("home")
  local session = zoo.session(token)
  assert(session:install_domain(right()))
  local own <close> = assert(session:find_domain("wrap"))
  assert_refused("KFR_NOT_FOUND", sealed("ec-p256"):digest(own))
  for _, name in ipairs { "aes", "data", "data-public-empty" } do
    lu.assertEquals(assert(sealed(name):digest(own)), assert(sealed(name):digest(right())), name)
  end
  zoo.close(token)
end

-- Misuse ----------------------------------------------------------------------------------------

local TestMisuse = {}

local function raises(words, call, ...)
  local ok, message = pcall(call, ...)
  lu.assertFalse(ok)
  lu.assertStrContains(tostring(message), words)
end

function TestMisuse.test_a_head_has_these_fields_and_no_others()
  local path = fresh()
  local create = core.stream.create
  raises("no field 'labl'", create, path, right(), { labl = "x" })
  raises("have names", create, path, right(), { "x" })
  raises("'label' is a text of at most 32 bytes", create, path, right(), { label = ("x"):rep(33) })
  raises("'serial' is a text of at most 16 bytes", create, path, right(), { serial = 12 })
  raises("'model'", create, path, right(), { model = "a\0b" })
  raises("'expected'", create, path, right(), { expected = -1 })
  raises("'created'", create, path, right(), { created = "now" })
  raises("'created'", create, path, right(), { created = 1.5 })
  lu.assertFalse(shell.exists(path))
end

function TestMisuse.test_places_and_domains_are_what_they_must_be()
  raises("a path or 1 expected", core.stream.create, 0, right())
  raises("a path or 1 expected", core.stream.create, nil, right())
  raises("a path or 0 expected", core.stream.open, 1)
  raises("a path or 0 expected", core.stream.open, {})
  raises("a NUL byte", core.stream.open, "a\0b")
  raises("keyferry.domain", core.stream.create, fresh(), "a domain")
  local closed = assert(core.domain(core.secret("closed")))
  closed:close()
  raises("the domain is closed", core.stream.create, fresh(), closed)
end

function TestMisuse.test_a_writer_that_is_closed_or_finished()
  local writer = assert(core.stream.create(fresh(), right()))
  raises("keyferry.sealed", writer.add, writer, read("aes.sealed"))
  raises("not a digest of 32 bytes", writer.add, writer, sealed("aes"), "short")
  raises("'failed'", writer.finish, writer, { failed = -1 })
  raises("'skipped'", writer.finish, writer, { skipped = "none" })
  assert(writer:finish())
  raises("the stream is closed", writer.add, writer, sealed("aes"))
  raises("the stream is closed", writer.finish, writer)
  writer:close()
  writer:close()
end

function TestMisuse.test_a_reader_that_is_closed()
  local reader = assert(core.stream.open(made({})))
  raises("keyferry.domain", reader.next, reader, "a domain")
  reader:close()
  reader:close()
  for _, name in ipairs { "head", "next", "finished", "seekable", "rewind", "opens" } do
    raises("the stream is closed", reader[name], reader, right())
  end
end

return {
  TestWhole = TestWhole, TestDomain = TestDomain, TestCut = TestCut, TestFlaw = TestFlaw,
  TestForged = TestForged, TestFixtures = TestFixtures, TestSource = TestSource,
  TestTarget = TestTarget, TestDigest = TestDigest, TestMisuse = TestMisuse,
}
