-- SPDX-License-Identifier: MIT
-- A module that lists fewer objects than its token has: with the store at hand nothing that was
-- made of such a listing is called good. Programs that make and remove objects meanwhile are no
-- such module.
local lu = require("luaunit")

local build = require("support.build")
local lies = require("support.lies")
local process = require("support.process")
local scene = require("flow.scene")

local NOTHING = "C_FindObjects * CKR_OK"
local TOLD = "is an object of the token, and the module does not list it"

local function words(done)
  return ("status %s\n%s%s"):format(done.status, done.out, done.err)
end

local function run(s, globals, command)
  local all = { globals[1], globals[2], env = scene.secrets { "TOKENSOPWD" } }
  for word in command:gmatch("%S+") do table.insert(all, word) end
  return s:run(all)
end

local TestEmpty = {}

function TestEmpty.test_no_backup_of_an_empty_listing_is_good()
  local s = scene.new("backed")
  local _, globals = s:lying("prod", NOTHING)
  local before = s:snapshot()
  for _, how in ipairs { { "-add" }, { "-replace", "-force" }, { "-add", "-match", "note" } } do
    how.globals = globals
    local done = s:backup(how)
    lu.assertEquals(done.status, 1, words(done))
    lu.assertStrContains(done.out, TOLD)
    lu.assertTrue(scene.counts(done.out).failed > 0, words(done))
    lu.assertEquals(s:changes(before), {}, words(done))
  end
end

function TestEmpty.test_no_new_backup_stays()
  local s = scene.new()
  local _, globals = s:lying("prod", NOTHING)
  local done = s:backup { globals = globals }
  lu.assertEquals(done.status, 1, words(done))
  lu.assertStrContains(done.out, TOLD)
  lu.assertEquals(#s:hsm("vault"):tokens("backup"), 0, words(done))
end

function TestEmpty.test_plan_send_and_verify_say_so()
  local s = scene.new("backed")
  local _, globals = s:lying("prod", NOTHING)
  for _, command in ipairs { "plan -partition payments",
    "plan -partition payments -tokenpar backup -serial 496771 -replace",
    "send -partition payments -file " .. s.home .. "/stream",
    "verify -partition payments -tokenpar backup -serial 496771" } do
    local done = run(s, globals, "partition " .. command)
    lu.assertEquals(done.status, 1, command .. "\n" .. words(done))
    lu.assertStrContains(done.out, TOLD)
  end
end

local TestRenumbered = {}

-- After N calls each handle is the object found next: in the middle of the listing one object is
-- read twice and one never.
function TestRenumbered.test_every_backup_is_whole_or_is_told_not_to_be()
  local list, short = {}, 0
  for n = 20, 110, 3 do table.insert(list, ("* rotate %d"):format(n)) end
  for _, told in ipairs(lies.tell(scene.new("open"), "prod", list,
    { engine = { "softhsm", "softhsm" } })) do
    local all = ("%s: %s, %d cloned, %d good, %d bad, %s"):format(told.lie, told.status,
      told.cloned, told.good, told.bad, told.reason)
    lu.assertEquals(told.bad, 0, all)
    lu.assertEquals(told.cloned, told.good, all)
    lu.assertTrue(told.status ~= "success" or told.good == 4, all)
    short = short + (told.status ~= "success" and 1 or 0)
  end
  lu.assertTrue(short < #list)
end

function TestRenumbered.test_every_stream_is_whole_or_is_told_not_to_be()
  local s = scene.new("open")
  local hsm, globals = s:lying("prod", "")
  local out = process.must(s:program { globals[1], globals[2], "-e", ([[
    local session = assert(assert(keyferry.partition("payments")):login(keyferry.secret(%q)))
    local function lie(text)
      local path = %q
      local file = assert(io.open(path .. ".new", "w"))
      file:write(text, "\n")
      file:close()
      assert(os.rename(path .. ".new", path))
    end
    local stream = %q
    for n = 20, 110, 3 do
      lie(("* rotate %%d"):format(n))
      local report = keyferry.send{ source = session, to = stream, force = true, select = "open *" }
      lie("")
      local labels = {}
      if report.status == "success" then
        keyferry.archive.read(assert(keyferry.archive.open(stream)), {
          on_object = function(object) labels[#labels + 1] = object.label end })
        table.sort(labels)
      end
      print(n, report.status, table.concat(labels, ","))
    end]]):format(scene.password, hsm.script, s.home .. "/stream") })
  local good = 0
  for n, status, labels in out:gmatch("(%d+)\t(%w+)\t([^\n]*)\n") do
    good = good + (status == "success" and 1 or 0)
    lu.assertTrue(status ~= "success" or labels == "open 1,open 2,open 3,open 4",
      n .. " " .. labels)
  end
  lu.assertTrue(good > 0, out)
end

local TestOthers = {}

-- Another program makes and removes objects all the while.
local CHURN = [[
for i = 1, 400 do
  local object = assert(session:create{ class = "data", label = "passing " .. i, value = "x",
    token = true, private = false })
  assert(object:destroy())
end]]

function TestOthers.test_what_others_make_and_remove_is_no_lie_of_the_module()
  local s = scene.new("open")
  local out = process.must { build.dir .. "/keyferry", "--home", s.home, "-e", ([[
    local pid = assert(io.popen(%q))
    local function open(label, pin, how)
      return assert(assert(keyferry.partition(label)):login(keyferry.secret(pin), how))
    end
    local source = open("payments", %q)
    local target = open("backup", %q, { writable = true })
    for i = 1, 12 do
      local report = keyferry.backup{ source = source, target = target, mode = "add",
        plan = i %% 2 == 0 or nil, select = "open *",
        on_result = function(result)
          if result.status == "failed" and result.handle == 0 then
            print("told:", tostring(result.err))
          end
        end }
      print(report.status)
    end
    pid:close()]]):format(("'%s/keyferry' --home '%s' -e '%s'"):format(build.dir, s.home,
      ([[local session = assert(assert(keyferry.partition("payments")):login(
        keyferry.secret("%s"), { writable = true })) %s]]):format(scene.password, CHURN)),
      scene.password, scene.tokenpw) }
  lu.assertNotStrContains(out, "told:")
  lu.assertStrContains(out, "success")
end

-- What comes while a stream is written is in it, and what goes is not missed.
function TestOthers.test_a_stream_takes_what_comes_while_it_is_written()
  local s = scene.new("open")
  local out = s:lua(([[
    local session <close> = assert(assert(keyferry.partition("payments")):login(
      keyferry.secret(%q), { writable = true }))
    local first = true
    local report = keyferry.send{ source = session, to = %q, on_result = function(result)
      if first then
        first = false
        assert(session:create{ class = "data", label = "late", value = "x", token = true,
          private = false })
        assert(session:find{ label = "open 4" }[1]:destroy())
      end
      print(result.status, result.object.label)
    end }
    print(report.status, report.failed)]]):format(scene.password, s.home .. "/stream"))
  lu.assertStrContains(out, "success\t0")
  lu.assertStrContains(out, "sealed\tlate")
end

return { TestEmpty = TestEmpty, TestRenumbered = TestRenumbered, TestOthers = TestOthers }
