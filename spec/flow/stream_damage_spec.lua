-- SPDX-License-Identifier: MIT
-- A stream that is cut, damaged, newer, forged or another's never plants more than its mode
-- promises: of a file nothing at all, through a pipe what came whole before the flaw; and an
-- old backup is never replaced by it.
local lu = require("luaunit")

local core = require("keyferry.core")
local keyferry = require("keyferry")
local once = require("support.once")
local process = require("support.process")
local shell = require("support.shell")
local stream_bytes = require("support.stream_bytes")
local tmp = require("support.tmp")
local zoo = require("support.zoo")

local domains = {}

local function domain(text)
  domains[text] = domains[text] or assert(core.domain(core.secret(text)))
  return domains[text]
end

-- A token with n notes and a key, and the stream of it.
local function source_of(n)
  local token = zoo.token("source")
  local session = zoo.session(token)
  zoo.secret(session, "key", { value = ("k"):rep(32) })
  for i = 1, n do
    assert(session:create { class = "data", label = "note " .. i, value = "number " .. i,
      token = true, private = true })
  end
  return session
end

local function stream_of(session, text)
  local path = tmp.memory("stream") .. "/s"
  local report = keyferry.send { source = session, to = path, domain = domain(text or "right") }
  assert(report.status == "success")
  return shell.read(path)
end

local small = once(function() return stream_of(source_of(2)) end)

-- More than a run keeps back: what comes first is on the target before the end is seen.
local many = once(function() return stream_of(source_of(150)) end)

-- One target for all of it: it has a key of its own, and it stays as it is.
local target = once(function()
  local token = zoo.token("target")
  zoo.secret(zoo.session(token), "old", { value = ("o"):rep(32) })
  return token
end)

-- Every file of the target's store, in one string.
local function state(token)
  local names, list = assert(core.file.list(token.dir)), {}
  table.sort(names)
  for _, name in ipairs(names) do
    table.insert(list, name .. "\0" .. (shell.read(token.dir .. "/" .. name) or "") .. "\0")
  end
  return table.concat(list)
end

-- Runs --------------------------------------------------------------------------------------

-- What came of one stream: { code =, cloned =, what = }.
local function take_in(path, mode, under)
  local reader, err = keyferry.archive.open(path)
  if not reader then return { code = err.code, what = tostring(err), cloned = 0 } end
  local told = 0
  local report = keyferry.backup {
    source = reader, target = zoo.session(target()), domain = domain(under or "right"),
    mode = mode, on_result = function(result)
      if result.status == "cloned" then told = told + 1 end
    end,
  }
  reader:close()
  lu.assertEquals(told, report.cloned)
  return { code = report.reason and report.reason.code, what = tostring(report.reason),
    cloned = report.cloned, removed = report.removed, status = report.status }
end

-- Fills pipes one after another, each with the bytes of the file beside it, in a process of
-- its own: { path of the pipe, ... }.
local feeder = [[for i = 1, %d do
  local bytes = assert(io.open(%q .. i)):read("a")
  local pipe = assert(io.open(%q .. i, "w"))
  pipe:setvbuf("full", #bytes + 1)
  pipe:write(bytes)
  pipe:close()
end]]

local function pipes(list)
  local dir = tmp.memory("pipes")
  local names = {}
  for i, bytes in ipairs(list) do
    shell.write(dir .. "/b" .. i, bytes)
    names[i] = dir .. "/p" .. i
  end
  process.must { "sh", "-c", ("mkfifo $(seq -f %s/p%%.0f 1 %d)"):format(dir, #list) }
  assert(os.execute(("lua5.4 -e %s &"):format(shell.quote(feeder:format(#list, dir .. "/b",
    dir .. "/p")))))
  return names
end

local function files(list)
  local dir = tmp.memory("files")
  local names = {}
  for i, bytes in ipairs(list) do
    names[i] = dir .. "/f" .. i
    shell.write(names[i], bytes)
  end
  return names
end

local function every(list, step)
  local some = {}
  for i = 1, #list, step do table.insert(some, list[i]) end
  return some
end

-- Each of the streams, from a file and through a pipe, added and in place of what is there:
-- nothing changes, and the reason is the one that `code_of` tells for its number. Of many
-- streams that are much alike, all are added from a file; pipes and "replace" get some.
local function assert_nothing(list, code_of, under)
  local before = state(target())
  local alike = #list > 100
  for how, give in pairs { file = files, pipe = pipes } do
    for _, mode in ipairs { "add", "replace" } do
      local step = alike and (how == "pipe" and 3 or 1) * (mode == "replace" and 2 or 1) or 1
      for k, path in ipairs(give(every(list, step))) do
        local i = (k - 1) * step + 1
        local name = ("%d, %s, %s"):format(i, how, mode)
        local came = take_in(path, mode, under)
        lu.assertEquals(came.code, code_of(i), name .. ": " .. came.what)
        lu.assertEquals(came.cloned, 0, name)
        if state(target()) ~= before then error(name .. ": the target is another now") end
      end
    end
  end
end

local function always(code)
  return function() return code end
end

local TestCut = {}

function TestCut.test_at_every_byte()
  local list = {}
  for n = 0, #small() - 1 do list[n + 1] = small():sub(1, n) end
  assert_nothing(list, function(i) return i <= 8 and "KFR_ARGUMENT" or "KFR_TRUNCATED" end)
end

local TestFlaw = {}

local function flip(bytes, bit)
  local at = bit // 8 + 1
  return bytes:sub(1, at - 1) .. string.char(bytes:byte(at) ~ (1 << bit % 8)) .. bytes:sub(at + 1)
end

function TestFlaw.test_any_bit_of_a_file_flipped()
  local before = state(target())
  local dir = tmp.memory("flips")
  for bit = 0, #small() * 8 - 1 do
    shell.write(dir .. "/s", flip(small(), bit))
    local came = take_in(dir .. "/s", "add")
    lu.assertEquals({ came.code, came.cloned }, { "KFR_DAMAGED", 0 }, bit .. ": " .. came.what)
    if state(target()) ~= before then error(bit .. ": the target is another now") end
  end
end

function TestFlaw.test_a_bit_of_each_byte_flipped()
  local list = {}
  for at = 0, #small() - 1 do list[at + 1] = flip(small(), at * 8 + at % 8) end
  assert_nothing(list, always("KFR_DAMAGED"))
end

function TestFlaw.test_more_after_the_end()
  assert_nothing({ small() .. "\0", small() .. small(), small() .. ("x"):rep(50000) },
    always("KFR_DAMAGED"))
end

-- By somebody who has no domain: as they are, renumbered, every digest made right.
function TestFlaw.test_objects_swapped_doubled_left_out_and_spliced_in()
  local other = stream_bytes.parse(stream_of(source_of(2)))
  local changes = {
    function(frames) frames[1], frames[2] = frames[2], frames[1] end,
    function(frames) table.insert(frames, 2, frames[1]) end,
    function(frames) table.remove(frames, 1) end,
    function(frames) table.remove(frames, 3) end,
    function(frames) table.insert(frames, 2, other.frames[1]) end,
    function(frames) frames[1] = other.frames[1] end,
    function(frames) frames[#frames] = other.frames[#other.frames] end,
  }
  local list = {}
  for _, change in ipairs(changes) do
    for level = 1, 3 do
      local parts = stream_bytes.parse(small())
      change(parts.frames)
      for i, frame in ipairs(parts.frames) do
        if level > 1 then
          parts.frames[i] = setmetatable({ number = i }, { __index = frame })
        end
      end
      table.insert(list, stream_bytes.join(level > 2 and stream_bytes.chain(parts) or parts))
    end
  end
  assert_nothing(list, always("KFR_DAMAGED"))
end

-- The head is whose it says it is: no stream of one partition goes on as that of another.
function TestFlaw.test_a_head_that_somebody_has_changed()
  local list = {}
  for _, field in ipairs { "label", "serial", "model", "manufacturer" } do
    local parts = stream_bytes.parse(small())
    parts.head[field] = "changed"
    table.insert(list, stream_bytes.join(stream_bytes.chain(parts)))
  end
  local parts = stream_bytes.parse(small())
  parts.head.check = domain("wrong"):check():gsub("%x%x", function(digits)
    return string.char(tonumber(digits, 16))
  end)
  assert_nothing(list, always("KFR_DAMAGED"))
  assert_nothing({ stream_bytes.join(stream_bytes.chain(parts)) }, always("KFR_DAMAGED"), "wrong")
end

function TestFlaw.test_a_newer_version()
  assert_nothing({ shell.read("spec/fixtures/version-2.stream") }, always("KFR_NEWER_VERSION"))
end

-- Whole, and not ours to open: 4, whatever there is in it.
function TestFlaw.test_another_domain()
  assert_nothing({ small(), stream_of(source_of(0)) }, always("KFR_DOMAIN_MISMATCH"), "wrong")
end

function TestFlaw.test_what_is_no_stream()
  assert_nothing({ "", "x", ("\0"):rep(1000), shell.read("spec/fixtures/aes.sealed"),
    "KFSTREAN" .. small():sub(9), "\n" .. small() }, function(i)
      return i == 5 and "KFR_DAMAGED" or "KFR_ARGUMENT"
    end)
end

-- A pipe that brought something whole before its flaw ---------------------------------------

local TestLate = {}

-- The frames of a stream that end before a byte.
local function whole_before(bytes, at)
  local n = 0
  for _, frame in ipairs(stream_bytes.parse(bytes).frames) do
    if frame.kind == stream_bytes.OBJECT and frame.after - 1 <= at then n = n + 1 end
  end
  return n
end

-- "note 1" ... of a token, as a set; each is whole.
local function notes(token)
  local found = {}
  for _, object in pairs(token:objects()) do
    local number = object[0x3].value:match("^note (%d+)$")
    if number then
      lu.assertNil(found[number])
      lu.assertEquals(object[0x11].value, "number " .. number)
      found[number] = true
    end
  end
  return found
end

local function remove_notes(token)
  for _, object in ipairs(assert(zoo.session(token):find { class = "data" })) do
    assert(object:destroy())
  end
  for _, object in ipairs(assert(zoo.session(token):find { label = "key" })) do
    assert(object:destroy())
  end
end

-- What is wrong, and at which byte it begins.
local function late_flaws()
  local bytes = many()
  local frames = stream_bytes.parse(bytes).frames
  local list = {}
  for _, n in ipairs { 64, 65, 66, 100, 151, 152 } do
    local frame = frames[n]
    table.insert(list, { bytes:sub(1, frame.at - 1), frame.at - 1, "KFR_TRUNCATED" })
    table.insert(list, { bytes:sub(1, frame.at + 40), frame.at - 1, "KFR_TRUNCATED" })
    table.insert(list, { flip(bytes, (frame.at + 60) * 8), frame.at - 1, "KFR_DAMAGED" })
  end
  table.insert(list, { bytes .. "x", #bytes, "KFR_DAMAGED" })
  return list
end

local function only_bytes(flaws)
  local list = {}
  for i, flaw in ipairs(flaws) do list[i] = flaw[1] end
  return list
end

function TestLate.test_what_is_added_came_whole_before_the_flaw_and_is_counted()
  local flaws = late_flaws()
  local some = 0
  for i, path in ipairs(pipes(only_bytes(flaws))) do
    local came = take_in(path, "add")
    lu.assertEquals({ came.code, i }, { flaws[i][3], i }, came.what)
    local n = 0
    for _ in pairs(notes(target())) do n = n + 1 end
    n = n + #target():labelled("key")
    lu.assertEquals(n, came.cloned, i)
    lu.assertTrue(n <= whole_before(many(), flaws[i][2]), i)
    lu.assertEquals(came.status, "failed", i)
    some = some + n
    remove_notes(target())
  end
  lu.assertTrue(some > 0)
end

function TestLate.test_of_a_file_nothing_is_added()
  local flaws = late_flaws()
  local before = state(target())
  for i, path in ipairs(files(only_bytes(flaws))) do
    local came = take_in(path, "add")
    lu.assertEquals({ came.code, came.cloned }, { flaws[i][3], 0 }, i .. ": " .. came.what)
    lu.assertTrue(state(target()) == before, i)
  end
end

function TestLate.test_nothing_is_replaced()
  local flaws = late_flaws()
  local before = state(target())
  for _, give in ipairs { files, pipes } do
    for i, path in ipairs(give(only_bytes(flaws))) do
      local came = take_in(path, "replace")
      lu.assertEquals({ came.code, came.cloned, came.removed }, { flaws[i][3], 0, 0 },
        i .. ": " .. came.what)
      lu.assertTrue(state(target()) == before, i)
    end
  end
end

-- The same stream, whole this time, brings what is missing and doubles nothing.
function TestLate.test_what_was_cut_off_is_completed_by_the_whole()
  local cut = late_flaws()[10]
  lu.assertEquals(take_in(pipes({ cut[1] })[1], "add").code, "KFR_TRUNCATED")
  lu.assertEquals(#target():labelled("note 1") + #target():labelled("note 2"), 2)
  local came = take_in(pipes({ many() })[1], "add")
  lu.assertEquals(came.status, "success", came.what)
  local n = 0
  for _ in pairs(notes(target())) do n = n + 1 end
  lu.assertEquals({ n, #target():labelled("key"), #target():labelled("old") }, { 150, 1, 1 })
  remove_notes(target())
end

return {
  TestCut = TestCut,
  TestFlaw = TestFlaw,
  TestLate = TestLate,
}
