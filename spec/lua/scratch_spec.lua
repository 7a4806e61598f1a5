-- SPDX-License-Identifier: MIT
-- A soft HSM for a while: of its user alone, in no list, and gone however the program ends.
local lu = require("luaunit")
local build = require("support.build")
local core = require("keyferry.core")
local keyferry = require("keyferry")
local process = require("support.process")
local shell = require("support.shell")
local tmp = require("support.tmp")

local function folders(place)
  return shell.lines("find " .. shell.quote(place) .. " -mindepth 1 -maxdepth 1")
end

-- A program of ours that runs this Lua, with its scratch folder in place.
local function program(place, code)
  return { build.keyferry, "-e", code,
    env = { XDG_RUNTIME_DIR = place, KEYFERRY_HOME = place .. "/home", HOME = place,
      XDG_CONFIG_HOME = place, SOFTHSM2_CONF = "/nonexistent" } }
end

local PARTITION = [[
  local hsm <close> = assert(keyferry.scratch_hsm())
  local pin = keyferry.secret("1234")
  local one = assert(hsm:create_partition{ label = "one", password = pin, so_password = pin })
  local session = assert(one:login(pin, { writable = true }))
  assert(session:generate{ mechanism = "aes_key_gen", value_len = 32, token = true })
]]

local TestScratch = {}

function TestScratch.test_it_works_and_goes()
  local place = tmp.dir("place")
  local out = process.must(program(place, PARTITION .. [[
    print(#assert(session:find()), hsm.name, hsm.kind, #assert(keyferry.hsms()))
    local found = io.popen("stat -c %a " .. hsm.path .. " && ls " .. hsm.path):read("a")
    print((found:gsub("\n", " ")))
    print(assert(hsm:remove()), assert(hsm:remove()))]]))
  lu.assertEquals(out, "1\tscratch\tsoft\t0\n700 softhsm2.conf tokens \ntrue\ttrue\n")
  lu.assertEquals(folders(place), {})
end

function TestScratch.test_it_goes_with_its_variable_and_with_the_program()
  for _, ending in ipairs { "", "error('no')", "os.exit(3)" } do
    local place = tmp.dir("place")
    process.run(program(place, PARTITION .. ending))
    lu.assertEquals(folders(place), {}, ending)
  end
  local place = tmp.dir("place")
  process.run(program(place, "x = assert(keyferry.scratch_hsm())")) -- never closed
  lu.assertEquals(folders(place), {})
end

local WAITING = PARTITION .. [[ io.stdout:write("ready\n") io.stdout:flush()
  while true do end ]]

function TestScratch.test_it_goes_with_a_signal()
  for _, name in ipairs { "INT", "TERM" } do
    local place = tmp.dir("place")
    local running <close> = process.start(program(place, WAITING))
    running:wait_for("ready")
    lu.assertEquals(#folders(place), 1)
    running:signal(name)
    running:wait()
    lu.assertEquals(folders(place), {}, name)
  end
end

function TestScratch.test_what_a_killed_one_left_goes_with_the_next_and_nothing_else()
  local place = tmp.dir("place")
  local killed = process.start(program(place, WAITING))
  killed:wait_for("ready")
  killed:signal("KILL")
  killed:wait()
  lu.assertEquals(#folders(place), 1)
  local living <close> = process.start(program(place, WAITING))
  living:wait_for("ready")
  local kept = folders(place)
  lu.assertEquals(#kept, 1)
  shell.write(place .. "/keyferry-other", "")
  assert(os.execute("ln -s . " .. shell.quote(place .. "/keyferry-scratch-link")))
  assert(os.execute("mkdir " .. shell.quote(place .. "/keyferry-scratch-notes"))) -- not ours
  process.must(program(place, "assert(keyferry.scratch_hsm():remove())"))
  lu.assertEquals(#folders(place), 4)
  lu.assertTrue(shell.exists(kept[1] .. "/softhsm2.conf"))
end

function TestScratch.test_a_folder_that_cannot_be_used_is_passed_over()
  local command = program("/nonexistent",
    "print((assert(keyferry.scratch_hsm()).path:match('^(.*)/')))")
  command.env.HOME, command.env.XDG_CONFIG_HOME = "/nonexistent", "/nonexistent"
  lu.assertStrMatches(process.must(command), "/[dt][em][vp].*\n")
end

local TestParts = {}

function TestParts.test_a_lock_keeps_a_folder_until_it_is_closed()
  local dir = tmp.dir()
  local first = assert(core.file.lock(dir))
  lu.assertIs(core.file.lock(dir), false)
  first:close()
  first:close()
  do
    local second <close> = assert(core.file.lock(dir)) -- luacheck: ignore second
    lu.assertIs(core.file.lock(dir), false)
  end
  local third = assert(core.file.lock(dir))
  third:close()
  local none, err = core.file.lock(dir .. "/nix")
  lu.assertNil(none)
  lu.assertEquals(err.sys, 2)
end

function TestParts.test_random_secrets_are_secrets_and_differ()
  local a, b = assert(core.random_secret()), assert(core.random_secret())
  lu.assertEquals(tostring(a), "secret")
  lu.assertFalse(a == b)
  local hsm <close> = assert(keyferry.scratch_hsm()) -- as a PIN it is taken
  assert(hsm:create_partition { label = "one", password = a, so_password = b })
end

return { TestScratch = TestScratch, TestParts = TestParts }
