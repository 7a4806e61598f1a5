-- SPDX-License-Identifier: MIT
-- Sealed streams between processes: pipes that are slow, cut or closed, a full disk, Ctrl-C,
-- and as much memory for ten thousand objects as for a hundred.
local lu = require("luaunit")

local build = require("support.build")
local process = require("support.process")
local shell = require("support.shell")
local tmp = require("support.tmp")

local TestPipe = {}

-- A shell line in which $WRITE and $READ are programs: WRITE PLACE N writes N objects, READ PLACE
-- says what it was given.
local WRITE = [[
local core = require("keyferry.core")
local place, n, how = math.tointeger(tonumber(arg[1])) or arg[1], tonumber(arg[2]), arg[3]
local domain = assert(core.domain(core.secret("a domain for fixtures, no secret")))
local file = assert(io.open("spec/fixtures/rsa.sealed", "rb"))
local sealed = core.sealed(file:read("a"))
local function check(...)
  if ... then return ... end
  local err = select(2, ...)
  io.stderr:write(err.code, " ", tostring(err.sys), " ", err.what, "\n")
  os.exit(3, true)
end
if how == "watched" then
  core.interrupt_watch(true)
  assert(io.open(os.getenv("DIR") .. "/ready", "w")):close()
end
local writer <close> = check(core.stream.create(place, domain, {}))
for _ = 1, n do check(writer:add(sealed)) end
if how ~= "unfinished" then check(writer:finish()) end
io.stderr:write("written\n")
]]

local READ = [[
local core = require("keyferry.core")
local place = math.tointeger(tonumber(arg[1])) or arg[1]
local domain = assert(core.domain(core.secret("a domain for fixtures, no secret")))
if arg[2] == "watched" then
  core.interrupt_watch(true)
  assert(io.open(os.getenv("DIR") .. "/ready", "w")):close()
end
local reader, err = core.stream.open(place)
local n = 0
while reader do
  local sealed
  sealed, err = reader:next(domain)
  if not sealed then break end
  n = n + 1
end
print(n, err and err.code or "whole", reader and tostring(reader:seekable()))
]]

local function piped(line, timeout)
  local dir = tmp.dir("pipe")
  shell.write(dir .. "/write", WRITE)
  shell.write(dir .. "/read", READ)
  return process.run { "sh", "-c", line, timeout = timeout, env = {
    WRITE = "lua5.4 " .. dir .. "/write", READ = "lua5.4 " .. dir .. "/read", DIR = dir,
    LUA_CPATH_5_4 = build.dir .. "/lua/?.so;;" } }
end

function TestPipe.test_from_standard_output_to_standard_input()
  local done = piped("$WRITE 1 500 | $READ 0")
  lu.assertEquals(done.out, "500\twhole\tfalse\n", done.err)
  lu.assertEquals(done.err, "written\n")
end

function TestPipe.test_through_a_file_as_standard_output_and_input()
  lu.assertEquals(piped("$WRITE 1 500 >$DIR/f && $READ 0 <$DIR/f").out, "500\twhole\ttrue\n")
end

function TestPipe.test_through_a_named_pipe_whoever_comes_first()
  for _, line in ipairs { "$WRITE $DIR/p 100 & sleep 0.3; $READ $DIR/p",
    "(sleep 0.3; exec $WRITE $DIR/p 100) & $READ $DIR/p" } do
    local done = piped("mkfifo $DIR/p; " .. line)
    lu.assertEquals(done.out, "100\twhole\tfalse\n", done.err)
  end
end

function TestPipe.test_a_slow_pipe_loses_nothing()
  local done = piped([[$WRITE 1 200 | (while dd bs=3000 count=9 iflag=fullblock 2>$DIR/e &&
    ! grep -q '^0+0' $DIR/e; do sleep 0.02; done) | $READ 0]])
  lu.assertEquals(done.out, "200\twhole\tfalse\n", done.err)
end

function TestPipe.test_a_sender_that_gives_up_is_a_cut_stream()
  lu.assertStrMatches(piped("$WRITE 1 500 unfinished | $READ 0").out, "%d+\tKFR_TRUNCATED\tfalse\n")
  lu.assertStrMatches(piped("$WRITE 1 500 | head -c 100000 | $READ 0").out,
    "6%d\tKFR_TRUNCATED\tfalse\n")
  lu.assertStrMatches(piped("true | $READ 0").out, "0\tKFR_ARGUMENT\tnil\n")
end

-- Not the death by SIGPIPE that it would be by itself, and the signal stays as it was.
function TestPipe.test_a_pipe_that_nobody_reads_is_an_error()
  local done = piped("{ $WRITE 1 5000; echo status $? >&2; } | head -c 10 >/dev/null")
  lu.assertStrContains(done.err, "KFR_SYSTEM 32 standard output")
  lu.assertStrContains(done.err, "status 3")
end

function TestPipe.test_a_full_disk_is_an_error()
  for _, n in ipairs { 0, 1, 500 } do
    local done = piped(("$WRITE 1 %d >/dev/full; echo status $?"):format(n))
    lu.assertStrContains(done.err, "KFR_SYSTEM 28 standard output")
    lu.assertStrContains(done.out, "status 3")
  end
end

-- Else a file with a hole in it might get to its place.
function TestPipe.test_what_could_not_be_written_has_no_next_object_and_no_end()
  local done = piped([[cat >$DIR/more <<'END'
    local writer = assert(core.stream.create(place, domain, {}))
    local ok, err = true, nil
    while ok do ok, err = writer:add(sealed) end
    print(err.code, select(2, writer:add(sealed)).sys, select(2, writer:finish()).sys)
END
    sed -i '/^local writer/,$d' $DIR/write; cat $DIR/more >>$DIR/write
    trap '' XFSZ; ulimit -f 100; $WRITE $DIR/f 0; ls $DIR]])
  lu.assertEquals(done.out, "KFR_SYSTEM\t27\t27\nmore\nread\nwrite\n", done.err)
end

function TestPipe.test_a_pipe_cannot_be_read_again()
  local done = piped([[echo 'print(select(2, reader:rewind()).code)' >>$DIR/read
    $WRITE 1 2 | $READ 0]])
  lu.assertEquals(done.out, "2\twhole\tfalse\nKFR_ARGUMENT\n", done.err)
end

function TestPipe.test_a_file_that_may_not_grow_is_an_error_and_goes()
  local done = piped("trap '' XFSZ; ulimit -f 100; $WRITE $DIR/f 500; echo status $?; ls $DIR")
  lu.assertStrContains(done.err, "KFR_SYSTEM 27 ")
  lu.assertEquals(done.out, "status 3\nread\nwrite\n")
end

function TestPipe.test_closed_places_are_errors()
  lu.assertStrContains(piped("$WRITE 1 1 >&-").err, "KFR_SYSTEM 9 standard output")
  lu.assertStrContains(piped("$READ 0 <&-").out, "0\tKFR_SYSTEM")
  lu.assertStrContains(piped("$READ 0 <$DIR").out, "0\tKFR_ARGUMENT")
end

-- Ctrl-C while the other side does nothing.
function TestPipe.test_waiting_can_be_broken_off()
  for _, line in ipairs { "sleep 20 | $READ 0 watched", "$READ $DIR/p watched",
    "$WRITE $DIR/p 1 watched", "$WRITE 1 5000 watched | sleep 20" } do
    local done = piped(([[
      mkfifo $DIR/p; trap '' INT; (trap - INT; exec setsid sh -c 'echo $$ >$DIR/pid; %s') &
      until [ -e $DIR/ready ]; do sleep 0.1; done; sleep 0.3; trap - INT
      group=$(cat $DIR/pid); kill -INT -$group; kill -TERM $(pgrep -g $group sleep); wait
    ]]):format(line), 15)
    lu.assertStrContains(done.out .. done.err, "KFR_INTERRUPTED", line)
  end
end

-- Memory ----------------------------------------------------------------------------------------

local TestMemory = {}

local GROWTH = [[
local function peak()
  local status = assert(io.open("/proc/self/status")):read("a")
  return tonumber(status:match("VmHWM:%s*(%d+)"))
end
]]

-- A hundred times the objects take no more memory: 4 MB is what Lua's collector leaves to chance.
function TestMemory.test_it_is_the_same_at_any_size()
  if build.dir:find("asan") then return end -- keeps what was freed
  local peaks = {}
  for _, n in ipairs { 100, 10000 } do
    local dir = tmp.memory("peak")
    shell.write(dir .. "/write", WRITE .. GROWTH .. "print(peak())")
    shell.write(dir .. "/read", READ .. GROWTH .. "print(peak())")
    local env = { LUA_CPATH_5_4 = build.dir .. "/lua/?.so;;" }
    local out = process.must { "lua5.4", dir .. "/write", dir .. "/s", n, env = env } ..
      process.must { "lua5.4", dir .. "/read", dir .. "/s", env = env }
    lu.assertStrContains(out, n .. "\twhole\ttrue")
    local written, got = out:match("^(%d+)\n.*\n(%d+)\n$")
    table.insert(peaks, { tonumber(written), tonumber(got) })
  end
  lu.assertTrue(peaks[2][1] - peaks[1][1] < 4096, "writing")
  lu.assertTrue(peaks[2][2] - peaks[1][2] < 4096, "reading")
end

return { TestPipe = TestPipe, TestMemory = TestMemory }
