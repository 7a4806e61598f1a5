-- SPDX-License-Identifier: MIT
-- partition send and partition receive as people run them: through a pipe, through a file, with
-- every mode, and with all that can be wrong at either end.
local lu = require("luaunit")

local cjson = require("cjson")
local build = require("support.build")
local process = require("support.process")
local scene = require("flow.scene")
local shell = require("support.shell")
local stream_bytes = require("support.stream_bytes")
local terminal = require("support.terminal")
local tmp = require("support.tmp")

local function words(done)
  return ("status %s, signal %s\n%s%s"):format(done.status, done.signal, done.out:sub(1, 2000),
    done.err)
end

local function extended(list, how)
  table.move(how, 1, #how, #list + 1, list)
  list.env = how.secrets or scene.secrets()
  for name, value in pairs(how.env or {}) do list.env[name] = value end
  list.input, list.timeout = how.input, how.timeout
  return list
end

local function globals_of(how)
  return table.move(how.globals or {}, 1, #(how.globals or {}), 1, {})
end

local function send_command(s, how)
  local list = globals_of(how)
  for _, word in ipairs { "partition", "send", "-partition", how.partition or "payments" } do
    table.insert(list, word)
  end
  return s:program(extended(list, how))
end

local function receive_command(s, how)
  local list = globals_of(how)
  for _, word in ipairs { "partition", "receive", "-tokenpar", how.tokenpar or "backup",
    "-serial", scene.serial } do
    table.insert(list, word)
  end
  return s:program(extended(list, how))
end

local function send(s, how) return process.run(send_command(s, how or {})) end
local function receive(s, how) return process.run(receive_command(s, how or {})) end

-- A stream of the scene's source; options of send in the list part.
local function stream_of(s, how)
  local file = tmp.dir("stream") .. "/s"
  local all = { "-file", file }
  table.move(how or {}, 1, #(how or {}), 3, all)
  local done = send(s, all)
  lu.assertEquals(done.status, 0, words(done))
  return file
end

-- One for every test that only reads it, with the scene that it is of.
local made

local function ready(kind)
  made = made or { fresh = scene.new() }
  made.file = made.file or stream_of(made.fresh)
  local s = made.fresh:copy()
  if kind == "backed" then
    made.backed = made.backed or (function()
      local one = made.fresh:copy()
      local done = receive(one, { "-file", made.file })
      lu.assertEquals(done.status, 0, words(done))
      return one
    end)()
    s = made.backed:copy()
  end
  return s, made.file
end

local function counts_of(done) return scene.counts(done.out) end

-- Two commands with a pipe between them, as a shell runs them: the result of the second, with
-- what the first said and came to.
local function through_pipe(s, from, to)
  local dir = tmp.dir("pipe")
  local first, second = send_command(s, from), receive_command(s, to)
  local line = "{ env %s %s 2>%s/err; echo $? >%s/status; } | env %s %s"
  local done = process.run { "sh", "-c", line:format(process.environment(first.env),
    shell.words(first), dir, dir, process.environment(second.env), shell.words(second)),
    timeout = 100 }
  done.sent = { err = shell.read(dir .. "/err"), status = tonumber(shell.read(dir .. "/status")) }
  return done
end

local TestWays = {}

function TestWays.test_through_a_pipe()
  local s = ready()
  local done = through_pipe(s, {}, {})
  lu.assertEquals({ done.status, done.sent.status }, { 0, 0 }, done.sent.err .. words(done))
  lu.assertEquals(counts_of(done), { cloned = 7, exists = 0, failed = 0 })
  lu.assertStrContains(done.sent.err, "7 sealed\n'partition send' successful.\n")
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
  lu.assertEquals(#s:target():labelled("keyferry unfinished backup"), 0)
end

function TestWays.test_through_a_file()
  local s, file = ready("backed")
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
  lu.assertEquals(shell.lines("stat -c %a " .. shell.quote(file)), { "600" })
end

function TestWays.test_a_hyphen_is_the_pipe()
  local s, file = ready()
  local done = send(s, { "-file", "-" })
  lu.assertEquals(done.status, 0, done.err)
  lu.assertEquals(done.out:sub(1, 8), "KFSTREAM")
  done = receive(s, { "-file", "-", input = shell.read(file) })
  lu.assertEquals(done.status, 0, words(done))
end

function TestWays.test_add_twice_clones_nothing()
  local s, file = ready("backed")
  local before = s:snapshot()
  for _, how in ipairs { { "-add", "-file", file }, { "-add", input = shell.read(file) } } do
    local done = receive(s, how)
    lu.assertEquals(done.status, 0, words(done))
    lu.assertEquals(counts_of(done), { cloned = 0, exists = 7, failed = 0 })
    lu.assertEquals(s:changes(before), {})
  end
end

function TestWays.test_without_add_or_replace_a_partition_that_is_there_is_left_alone()
  local s, file = ready("backed")
  local before = s:snapshot()
  local done = receive(s, { "-file", file })
  lu.assertEquals(done.status, 5, words(done))
  lu.assertStrContains(done.err, "-add")
  lu.assertEquals(s:changes(before), {})
end

function TestWays.test_replace_leaves_exactly_what_is_in_the_stream()
  local s, file = ready("backed")
  s:inside("backup", [[assert(session:create { class = "data", label = "old", value = "x",
    token = true, private = true })]])
  local done = receive(s, { "-replace", "-file", file })
  lu.assertEquals(done.status, 5, words(done)) -- nobody is there to say proceed
  done = receive(s, { "-replace", "-force", "-verify", "-file", file })
  lu.assertEquals(done.status, 0, words(done))
  lu.assertStrContains(done.out, "7 cloned, 8 removed\n")
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
end

-- An object that the target does not take: the old backup stays, byte for byte.
function TestWays.test_replace_is_all_or_nothing()
  local s, file = ready("backed")
  s:inside("backup", [[assert(session:create { class = "data", label = "old", value = "x",
    token = true, private = true })]])
  local _, globals = s:lying("vault", "C_UnwrapKey after 1 CKR_DEVICE_MEMORY")
  local before = scene.contents(s:target())
  local done = receive(s, { "-replace", "-force", "-engine", "wrap", "-file", file,
    globals = globals })
  lu.assertEquals(done.status, 1, words(done))
  lu.assertEquals(counts_of(done).cloned, 0)
  lu.assertEquals(scene.contents(s:target()), before)
end

function TestWays.test_only_what_is_selected_is_sent_or_taken()
  local s, file = ready()
  local done = receive(s, { "-match", "s*", "-file", file })
  lu.assertEquals(done.status, 0, words(done))
  lu.assertStrContains(done.out, "2 cloned, 5 skipped\n")
  local part = stream_of(s, { "-class", "data" })
  done = receive(s, { "-add", "-file", part })
  lu.assertEquals(done.status, 0, words(done))
  lu.assertEquals(scene.labels(s:target()), { "note", "sign", "sign" })
end

function TestWays.test_a_plan_of_a_stream_changes_nothing()
  local s, file = ready()
  local before = s:snapshot()
  local done = receive(s, { "-plan", "-file", file })
  lu.assertEquals(done.status, 0, words(done))
  lu.assertStrContains(done.out, "would be cloned exactly")
  lu.assertEquals(s:changes(before), {})
  lu.assertEquals(s:hsm("vault"):tokens(), {})
end

function TestWays.test_verify_uses_every_clone()
  local s, file = ready()
  local done = receive(s, { "-verify", "-file", file, globals = { "--json" } })
  lu.assertEquals(done.status, 0, words(done))
  local verified = 0
  for line in done.out:gmatch("[^\n]+") do
    local event = cjson.decode(line)
    if event.event == "object" and event.verified then verified = verified + 1 end
  end
  lu.assertTrue(verified >= 4, done.out)
end

-- Flaws: what the library does with all of them (stream_damage_spec), by the command ----------

local TestFlaws = {}

local function flip(bytes, at)
  return bytes:sub(1, at - 1) .. string.char(bytes:byte(at) ~ 4) .. bytes:sub(at + 1)
end

local function flaws(bytes)
  local ends = stream_bytes.parse(bytes).frames
  local swapped = stream_bytes.parse(bytes)
  swapped.frames[1], swapped.frames[2] = swapped.frames[2], swapped.frames[1]
  return {
    { "", 2 }, { "no stream at all\n", 2 }, { bytes:sub(1, 7), 2 }, { bytes:sub(1, 40), 7 },
    { bytes:sub(1, ends[1].at + 20), 7 }, { bytes:sub(1, ends[3].after - 1), 7 },
    { bytes:sub(1, -2), 7 }, { flip(bytes, 12), 7 }, { flip(bytes, ends[2].at + 50), 7 },
    { flip(bytes, #bytes), 7 }, { bytes .. "\n", 7 }, { stream_bytes.join(swapped), 7 },
    { stream_bytes.join(stream_bytes.chain(swapped)), 7 },
    { shell.read("spec/fixtures/version-2.stream"), 7 },
  }
end

-- A partition that is made for a stream goes again when nothing of the stream came.
function TestFlaws.test_nothing_is_made_of_it()
  local s, file = ready()
  local before = s:snapshot()
  for i, flaw in ipairs(flaws(shell.read(file))) do
    for _, how in ipairs { { "-file", tmp.file(flaw[1]) }, { input = flaw[1] } } do
      local done = receive(s, how)
      lu.assertEquals(done.status, flaw[2], i .. ": " .. words(done))
      lu.assertEquals(counts_of(done).cloned, 0, i)
      lu.assertEquals(s:hsm("vault"):tokens(), {}, i)
      lu.assertEquals(s:changes(before), {}, i)
    end
  end
end

function TestFlaws.test_nothing_is_added_or_replaced()
  local s, file = ready("backed")
  local before = s:snapshot()
  for i, flaw in ipairs(flaws(shell.read(file))) do
    local mode = i % 2 == 0 and "-add" or "-replace"
    local how = i % 4 < 2 and { mode, "-force", "-file", tmp.file(flaw[1]) } or
      { mode, "-force", input = flaw[1] }
    local done = receive(s, how)
    lu.assertEquals(done.status, flaw[2], i .. ": " .. words(done))
    lu.assertEquals(s:changes(before), {}, i)
  end
end

function TestFlaws.test_another_domain_is_4_and_makes_nothing()
  local s, file = ready()
  for _, how in ipairs { { "-file", file }, { input = shell.read(file) } } do
    how.env = { KEYFERRY_DOMAIN = "another river" }
    local before = s:snapshot()
    local done = receive(s, how)
    lu.assertEquals(done.status, 4, words(done))
    lu.assertStrContains(done.out, "Domain Mismatch")
    lu.assertEquals(s:hsm("vault"):tokens(), {})
    lu.assertEquals(s:changes(before), {})
  end
end

-- Where there is no file to be read, or nothing to be read in it.
function TestFlaws.test_places_that_are_no_stream()
  local s = ready()
  for path, status in pairs { ["/nonexistent/s"] = 6, [tmp.dir()] = 2, ["/dev/null"] = 2 } do
    local done = receive(s, { "-file", path })
    lu.assertEquals(done.status, status, path .. ": " .. words(done))
    lu.assertStrContains(done.err, path)
  end
  lu.assertEquals(receive(s, {}).status, 2) -- standard input is /dev/null
  lu.assertEquals(s:hsm("vault"):tokens(), {})
end

local function as_nobody(s, command)
  local program = tmp.dir("program")
  process.must { "mkdir", program .. "/bin" }
  process.must { "cp", build.keyferry, program .. "/bin" }
  process.must { "cp", "-rL", "lua", "scripts", program }
  process.must { "chmod", "-R", "a+rX", program }
  process.must { "chmod", "711", program:match("^(.*)/[^/]+$") }
  process.must { "chown", "-R", "nobody:", s.home }
  command[1] = program .. "/bin/keyferry"
  for i, word in ipairs { "setpriv", "--reuid=nobody", "--clear-groups" } do
    table.insert(command, i, word)
  end
  return process.run(command)
end

function TestFlaws.test_a_file_that_may_not_be_read()
  if shell.lines("id -u")[1] ~= "0" then lu.skip("needs root, to become somebody else") end
  local s, file = ready()
  local done = as_nobody(s, receive_command(s, { "-file", file }))
  lu.assertEquals(done.status, 7, words(done))
  lu.assertStrContains(done.err, "Permission denied")
end

-- The other end ------------------------------------------------------------------------------

local TestSend = {}

function TestSend.test_a_file_that_is_there_is_left_alone_without_force()
  local s = ready()
  local file = tmp.file("precious")
  local done = send(s, { "-file", file })
  lu.assertEquals(done.status, 5, words(done))
  lu.assertStrContains(done.err, "-force")
  lu.assertEquals(shell.read(file), "precious")
  done = send(s, { "-file", file, "-force" })
  lu.assertEquals(done.status, 0, words(done))
  lu.assertEquals(shell.read(file):sub(1, 8), "KFSTREAM")
end

-- Refused before anything is asked or opened.
function TestSend.test_places_where_no_stream_can_be()
  local s = ready()
  for path, status in pairs { [tmp.dir()] = 2, ["/nonexistent/s"] = 6 } do
    local done = send(s, { "-file", path, secrets = {} })
    lu.assertEquals(done.status, status, path .. ": " .. words(done))
    lu.assertStrContains(done.err, path)
  end
end

-- A command of send with its standard output somewhere; no more than its status and its words.
local function send_to(s, where)
  local command = send_command(s, {})
  return process.run { "sh", "-c", ("exec %s %s"):format(shell.words(command), where),
    env = command.env }
end

local LARGE = [[assert(session:create { class = "data", label = "large",
  value = ("x"):rep(3000000), token = true, private = true })]]

function TestSend.test_a_full_disk()
  local s = ready()
  local done = send_to(s, ">/dev/full")
  lu.assertEquals(done.status, 7, words(done))
  lu.assertStrContains(done.err, "No space left")
end

function TestSend.test_a_file_that_may_not_grow_so_far_is_none()
  local s = ready()
  local dir = tmp.dir()
  s:inside("payments", LARGE)
  local command = send_command(s, { "-file", dir .. "/s" })
  for i, word in ipairs { "prlimit", "--fsize=1500000" } do table.insert(command, i, word) end
  local done = process.run(command)
  lu.assertEquals(done.status, 7, words(done))
  lu.assertStrContains(done.err, "File too large")
  lu.assertEquals(shell.lines("ls -A " .. shell.quote(dir)), {})
end

function TestSend.test_a_pipe_that_is_closed_is_an_error_and_no_signal()
  local s = ready()
  s:inside("payments", LARGE)
  local command = send_command(s, {})
  local dir = tmp.dir()
  local line = ("{ env %s %s 2>%s/err; echo $? >%s/status; } | head -c 100 >/dev/null"):format(
    process.environment(command.env), shell.words(command), dir, dir)
  process.run { "sh", "-c", line }
  lu.assertEquals(shell.read(dir .. "/status"), "7\n", shell.read(dir .. "/err"))
  lu.assertStrContains(shell.read(dir .. "/err"), "Broken pipe")
end

function TestSend.test_a_closed_standard_output_is_an_error()
  local s = ready()
  local done = send_to(s, ">&-")
  lu.assertNotEquals(done.status, 0, words(done))
  lu.assertNotNil(done.status)
end

-- Of everything that goes into it.
function TestSend.test_no_secret_is_in_the_stream()
  local s, file = ready()
  local bytes = shell.read(file)
  for _, secret in ipairs { scene.password, scene.tokenpw, scene.sopw, scene.domain,
    "prod so pin" } do
    lu.assertNil(bytes:find(secret, 1, true))
  end
  local looked = 0
  for _, object in pairs(s:source():objects()) do
    for _, type in ipairs { 0x11, 0x122, 0x123, 0x124, 0x125, 0x126, 0x127, 0x128 } do
      local attribute = object[type]
      local class = object[0].value:byte(8)
      local secret = class == 3 and type ~= 0x122 or class == 4 or class == 0
      if attribute and secret and #attribute.value >= 16 then
        looked = looked + 1
        for at = 1, #attribute.value - 15, 16 do
          lu.assertNil(bytes:find(attribute.value:sub(at, at + 15), 1, true),
            object[3].value .. (" %x"):format(type))
        end
      end
    end
  end
  lu.assertTrue(looked >= 8, looked)
end

function TestSend.test_the_events_are_on_standard_error_when_the_stream_is_on_the_other()
  local s, file = ready()
  local done = send(s, { globals = { "--json" } })
  lu.assertEquals(done.status, 0, done.err)
  lu.assertEquals(done.out:sub(1, 8), "KFSTREAM")
  local events, objects = {}, 0
  for line in done.err:gmatch("[^\n]+") do
    local event = cjson.decode(line)
    table.insert(events, event)
    if event.event == "object" then
      objects = objects + 1
      lu.assertEquals(event.status, "sealed")
    end
  end
  lu.assertEquals(objects, 7)
  lu.assertEquals(events[#events].event, "result")
  lu.assertEquals(events[#events].sealed, 7, done.err)
  done = send(s, { "-file", file .. ".2", globals = { "--json" } })
  lu.assertEquals(done.err, "")
  lu.assertEquals(cjson.decode(done.out:match("([^\n]+)\n$")).event, "result")
  done = receive(s, { input = shell.read(file), globals = { "--json" } })
  lu.assertEquals(done.status, 0, words(done))
  lu.assertEquals(cjson.decode(done.out:match("([^\n]+)\n$")).cloned, 7)
end

-- What wrap cannot take out is told at both ends, and such a stream replaces nothing.
function TestSend.test_a_stream_that_lacks_an_object()
  local s = ready("backed")
  local file = tmp.dir() .. "/s"
  local done = send(s, { "-engine", "wrap", "-file", file })
  lu.assertEquals(done.status, 1, words(done))
  lu.assertStrContains(done.out, "CKA_EXTRACTABLE is false")
  local before = s:snapshot()
  for _, how in ipairs { { "-replace", "-force", "-file", file },
    { "-replace", "-force", input = shell.read(file) } } do
    done = receive(s, how)
    lu.assertEquals(done.status, 1, words(done))
    lu.assertEquals(counts_of(done).cloned, 0)
    lu.assertStrContains(done.err, "could not be put into the stream")
    lu.assertEquals(s:changes(before), {})
  end
  local t = scene.new()
  done = receive(t, { "-file", file })
  lu.assertEquals(done.status, 1, words(done))
  lu.assertTrue(counts_of(done).cloned > 0)
  lu.assertEquals(counts_of(done).failed, 0)
  lu.assertEquals(#scene.labels(t:target()), counts_of(done).cloned)
end

-- Stopped by the policy: there is no stream.
function TestSend.test_onerror_stop_leaves_no_file()
  local s = ready()
  local file = tmp.dir() .. "/s"
  local done = send(s, { "-engine", "wrap", "-onerror", "stop", "-file", file })
  lu.assertEquals(done.status, 1, words(done))
  lu.assertFalse(shell.exists(file))
  done = through_pipe(s, { "-engine", "wrap", "-onerror", "stop" }, {})
  lu.assertEquals({ done.sent.status, done.status }, { 1, 7 }, done.sent.err .. words(done))
  lu.assertEquals(s:hsm("vault"):tokens(), {})
end

local TestReports = {}

function TestReports.test_of_both_ends()
  local s = ready()
  local sent, got = s.home .. "/sent.json", s.home .. "/got.json"
  local done = through_pipe(s, { "-report", sent }, { "-report", got })
  lu.assertEquals({ done.status, done.sent.status }, { 0, 0 }, done.sent.err .. words(done))
  for path, status in pairs { [sent] = "sealed", [got] = "cloned" } do
    local report = cjson.decode(shell.read(path))
    lu.assertEquals(#report.objects, 7, path)
    for _, object in ipairs(report.objects) do lu.assertEquals(object.status, status, path) end
    lu.assertEquals(type(report.mac), "string", path)
    for _, secret in ipairs { scene.password, scene.tokenpw, scene.sopw, scene.domain } do
      lu.assertNotStrContains(shell.read(path), secret)
    end
  end
  local before = s:snapshot()
  done = send(s, { "-file", s.home .. "/s", "-report", sent })
  lu.assertEquals(done.status, 5, words(done))
  lu.assertFalse(shell.exists(s.home .. "/s"))
  done = receive(s, { "-add", "-file", made.file, "-report", got })
  lu.assertEquals(done.status, 5, words(done))
  lu.assertEquals(s:changes(before), {})
end

local TestDomain = {}

-- Neither the partition that is sent nor a target that has a domain needs anybody to know it.
function TestDomain.test_none_is_asked_for_where_it_is()
  local s, file = ready("backed")
  local done = send(s, { "-file", s.home .. "/s", secrets = scene.secrets { "DOMAIN" } })
  lu.assertEquals(done.status, 0, words(done))
  done = receive(s, { "-add", "-file", file, secrets = scene.secrets { "DOMAIN", "PASSWORD",
    "TOKENSOPWD" } })
  lu.assertEquals(done.status, 0, words(done))
  lu.assertEquals(counts_of(done).exists, 7)
end

function TestDomain.test_a_new_partition_needs_it()
  local s, file = ready()
  local done = receive(s, { "-file", file, secrets = scene.secrets { "DOMAIN" } })
  lu.assertEquals(done.status, 3, words(done))
  lu.assertStrContains(done.err, "KEYFERRY_DOMAIN")
  lu.assertEquals(s:hsm("vault"):tokens(), {})
end

function TestDomain.test_a_target_of_another_domain_takes_nothing()
  local s = ready("backed")
  s:lua(([[assert(assert(keyferry.hsm("prod")):create_partition { label = "other",
    password = keyferry.secret(%q), so_password = keyferry.secret("prod so pin"),
    domain = assert(keyferry.domain(keyferry.secret("another river"))) })]])
    :format(scene.password))
  s:inside("other", [[assert(session:create { class = "data", label = "of the other",
    value = "x", token = true, private = true })]])
  local file = tmp.dir() .. "/s"
  local done = send(s, { "-file", file, partition = "other",
    secrets = scene.secrets { "DOMAIN" } })
  lu.assertEquals(done.status, 0, words(done))
  local before = s:snapshot()
  for _, secrets in ipairs { scene.secrets { "DOMAIN" }, scene.secrets() } do
    for _, domain in ipairs { scene.domain, "another river" } do
      if secrets.KEYFERRY_DOMAIN then secrets.KEYFERRY_DOMAIN = domain end
      done = receive(s, { "-add", "-file", file, secrets = secrets })
      lu.assertEquals(done.status, 4, words(done))
      lu.assertEquals(s:changes(before), {})
    end
  end
end

-- At a terminal -------------------------------------------------------------------------------

local TestTerminal = {}

local DOMAIN = "Please enter the cloning domain set when the HSM user partition was created:"
local AGAIN = "The cloning domain does not match. Please enter it again:"

local function answer(t, question, text)
  t:wait_for(question, 20)
  t:wait_for("> ")
  t:wait_until("echo", false)
  t:line(text)
end

function TestTerminal.test_a_wrong_domain_may_be_typed_again()
  local s, file = ready()
  local t <close> = terminal.start(receive_command(s, { "-file", file,
    secrets = scene.secrets { "DOMAIN" } }))
  answer(t, DOMAIN, "wrong")
  answer(t, AGAIN, "wrong too")
  answer(t, AGAIN, scene.domain)
  local done = t:finish(60)
  lu.assertEquals(done.status, 0, done.screen)
  lu.assertTrue(done.restored)
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
end

function TestTerminal.test_three_times_and_no_more()
  local s, file = ready()
  local t <close> = terminal.start(receive_command(s, { "-file", file,
    secrets = scene.secrets { "DOMAIN" } }))
  answer(t, DOMAIN, "wrong")
  answer(t, AGAIN, "wrong too")
  answer(t, AGAIN, "still wrong")
  local done = t:finish(60)
  lu.assertEquals(done.status, 4, done.screen)
  lu.assertEquals(s:hsm("vault"):tokens(), {})
end

function TestTerminal.test_a_terminal_is_neither_end_of_a_stream()
  local s = ready()
  for _, command in ipairs { send_command(s, {}), receive_command(s, {}) } do
    local t <close> = terminal.start(command)
    local done = t:finish()
    lu.assertEquals(done.status, 5, done.screen)
    lu.assertStrContains(done.screen, "is a terminal")
    lu.assertStrContains(done.screen, "-file")
    lu.assertNotStrContains(done.output, "KFSTREAM")
  end
  lu.assertEquals(s:hsm("vault"):tokens(), {})
end

return {
  TestWays = TestWays,
  TestFlaws = TestFlaws,
  TestSend = TestSend,
  TestReports = TestReports,
  TestDomain = TestDomain,
  TestTerminal = TestTerminal,
}
