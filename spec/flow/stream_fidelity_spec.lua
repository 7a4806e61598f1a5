-- SPDX-License-Identifier: MIT
-- A clone that came through a sealed stream, from a file or through a pipe, is its original:
-- every attribute of every kind, and at work. What cannot be kept is said at one of the ends.
local lu = require("luaunit")

local fidelity = require("flow.fidelity")
local keyferry = require("keyferry")
local once = require("support.once")
local shell = require("support.shell")
local store = require("support.store")
local tmp = require("support.tmp")
local zoo = require("support.zoo")

local domain, source = fidelity.domain, fidelity.source

-- Sends all of a token into a file: { file =, engine =, report =, source = the session,
-- results = all, sealed = { the result of the object with that place in the stream } }.
local function send(token, engine, select)
  local stream = { file = tmp.dir("stream") .. "/stream", engine = engine, results = {},
    sealed = {}, source = zoo.session(token, { writable = false }) }
  stream.report = keyferry.send { source = stream.source, to = stream.file, domain = domain(),
    engine = engine, select = select, on_result = function(result)
      table.insert(stream.results, result)
      if result.status == "sealed" then table.insert(stream.sealed, result) end
    end }
  return stream
end

local sent = {
  softhsm = once(function() return send(source(), "softhsm") end),
  wrap = once(function() return send(source(), "wrap") end),
}

-- The file as it is, or through a pipe that somebody else fills.
local function open(stream, through)
  if through == "file" then return assert(keyferry.archive.open(stream.file)) end
  local fifo = tmp.dir("pipe") .. "/fifo"
  assert(os.execute(("mkfifo %s && cat %s >%s &"):format(shell.quote(fifo),
    shell.quote(stream.file), shell.quote(fifo))))
  assert(shell.await(10, function() return shell.exists(fifo) end))
  return assert(keyferry.archive.open(fifo))
end

local function join(a, b)
  return a ~= "" and b ~= "" and a .. ", " .. b or a .. b
end

-- Takes it in; options: through ("file"), engine, to, mode ("add"), verify.
local function receive(stream, options)
  local token = options.to or zoo.token("target")
  local run = { token = token, results = {}, source = stream.source, sealed_by = stream.engine,
    target = zoo.session(token) }
  local reader <close> = open(stream, options.through or "file")
  run.report = keyferry.backup {
    source = reader, target = run.target, domain = domain(), mode = options.mode or "add",
    engine = options.engine, verify = options.verify,
    on_result = function(result)
      local from = stream.sealed[result.handle]
      result.original = from.object
      if result.lost then result.lost = join(from.lost, result.lost) end
      table.insert(run.results, result)
    end,
  }
  return run
end

local TestSend = {}

function TestSend.test_everything_is_in_the_stream_and_nothing_is_said_to_be_lost()
  local stream = sent.softhsm()
  lu.assertEquals(stream.report.status, "success")
  lu.assertEquals(stream.report.sealed, #source():files())
  lu.assertTrue(stream.report.sealed >= 100)
  lu.assertEquals(stream.report.lossy, 0)
end

-- What wrap cannot seal is not in it, and the stream says that it is not the whole partition.
function TestSend.test_what_cannot_be_sealed_is_said_and_the_stream_says_so_too()
  local report = sent.wrap().report
  lu.assertEquals({ report.status, report.failed }, { "partial", 11 })
  local reader <close> = assert(keyferry.archive.open(sent.wrap().file))
  while assert(reader:next(domain()) or reader:finished()) ~= nil do
    if reader:finished() then break end
  end
  lu.assertEquals(reader:finished(), { objects = report.sealed, failed = 11, skipped = 0 })
end

function TestSend.test_the_source_is_not_written_to()
  local before = store.snapshot(source().hsm.dir)
  send(source(), "softhsm")
  send(source(), "wrap")
  lu.assertEquals(store.compare(before, store.snapshot(source().hsm.dir),
    { ignore_logins = true }), {})
end

-- Exact ------------------------------------------------------------------------------------

local TestSofthsm = {}

for _, through in ipairs { "file", "pipe" } do
  local exact = once(function()
    return receive(sent.softhsm(), { through = through, engine = "softhsm" })
  end)

  TestSofthsm["test_through_a_" .. through .. "_the_two_stores_hold_the_same"] = function()
    local run = exact()
    lu.assertEquals(fidelity.failures(run), {})
    lu.assertEquals(run.report.status, "success")
    lu.assertEquals(run.report.cloned, #source():files())
    lu.assertEquals(run.token:contents(), source():contents())
  end

  TestSofthsm["test_through_a_" .. through .. "_every_attribute_is_the_same"] = function()
    local run = exact()
    for _, result in ipairs(run.results) do
      lu.assertEquals(fidelity.clone_of(run, result):attributes(), result.original:attributes(),
        tostring(result.original))
    end
  end

  TestSofthsm["test_through_a_" .. through .. "_every_key_works_for_its_original"] = function()
    fidelity.assert_all_work(exact(), fidelity.SILENT)
  end

  TestSofthsm["test_through_a_" .. through .. "_a_second_time_clones_nothing"] = function()
    local run = exact()
    local before = run.token:contents()
    local again = receive(sent.softhsm(), { through = through, engine = "softhsm", to = run.token })
    lu.assertEquals({ again.report.status, again.report.cloned, again.report.exists },
      { "success", 0, #source():files() })
    lu.assertEquals(run.token:contents(), before)
  end

  TestSofthsm["test_through_a_" .. through .. "_in_place_of_what_was_there"] = function()
    local token = zoo.token("target")
    zoo.secret(zoo.session(token), "old", { value = ("o"):rep(32) })
    local run = receive(sent.softhsm(), { through = through, engine = "softhsm", to = token,
      mode = "replace" })
    lu.assertEquals({ run.report.status, run.report.removed }, { "success", 1 })
    lu.assertEquals(token:contents(), source():contents())
  end
end

-- A key whose digest is in the stream is seen to be that key, and to work.
function TestSofthsm.test_with_verify_every_clone_is_used()
  local run = receive(sent.softhsm(), { engine = "softhsm", verify = true })
  lu.assertEquals(fidelity.failures(run), {})
  local unproved = 0
  for _, result in ipairs(run.results) do
    if not result.verified then
      lu.assertStrContains(result.unproved, "CKA_")
      unproved = unproved + 1
    end
  end
  lu.assertEquals(unproved, run.report.unproved)
  lu.assertEquals(run.token:contents(), source():contents())
end

function TestSofthsm.test_attributes_that_softhsm_does_not_know_come_along()
  local strange = zoo.copy(source())
  zoo.estrange(strange)
  local run = receive(send(strange, "softhsm"), { engine = "softhsm" })
  lu.assertEquals(fidelity.failures(run), {})
  lu.assertEquals(run.token:contents(), strange:contents())
end

-- Other engines ------------------------------------------------------------------------------

local TestEngines = {}

local refused_by_wrap = once(function()
  local expected = { ["private_key ed25519"] = "CKR_KEY_NOT_WRAPPABLE",
    ["private_key x25519"] = "CKR_KEY_NOT_WRAPPABLE",
    ["secret_key trusted wrapping only"] = "CKA_WRAP_WITH_TRUSTED is true" }
  for _, name in ipairs { "---", "p--", "-s-", "ps-" } do
    expected["private_key ec " .. name] = "CKA_EXTRACTABLE is false"
    expected["secret_key aes " .. name] = "CKA_EXTRACTABLE is false"
  end
  return expected
end)

for _, through in ipairs { "file", "pipe" } do
  for _, ends in ipairs { { "wrap", "wrap" }, { "softhsm", "wrap" }, { "wrap", "softhsm" } } do
    local from, to = ends[1], ends[2]
    local name = ("test_%s_to_%s_through_a_%s_says_what_is_lost_and_all_work"):format(from, to,
      through)
    TestEngines[name] = function()
      local stream = sent[from]()
      local run = receive(stream, { through = through, engine = to })
      lu.assertEquals(fidelity.refused { results = stream.results },
        from == "wrap" and refused_by_wrap() or {})
      lu.assertEquals(fidelity.failures(run), {})
      lu.assertEquals(run.report.cloned, stream.report.sealed)
      lu.assertEquals(run.report.status, from == "wrap" and "partial" or "success")
      fidelity.assert_losses_are_said(source(), run)
      fidelity.assert_all_work(run, fidelity.SILENT)
    end
  end
end

-- A key that wrap cannot take out of the target cannot be told from the one in the stream: it is
-- neither doubled nor called the same.
function TestEngines.test_what_wrap_cannot_compare_is_not_cloned_twice()
  local run = receive(sent.softhsm(), { engine = "softhsm" })
  local before = run.token:contents()
  local again = receive(sent.softhsm(), { engine = "wrap", to = run.token })
  lu.assertEquals({ again.report.status, again.report.cloned, again.report.failed },
    { "partial", 0, 11 })
  for _, result in ipairs(again.results) do
    if result.status == "failed" then
      lu.assertEquals(result.err.code, "KFR_CONFLICT", tostring(result.err))
      lu.assertNotNil(refused_by_wrap()[result.object.class .. " " .. result.object.label],
        tostring(result.object))
    end
  end
  lu.assertEquals(run.token:contents(), before)
end

-- A stream that lacks objects of its source is no backup to replace another by.
function TestEngines.test_a_stream_that_is_not_whole_replaces_nothing()
  for _, through in ipairs { "file", "pipe" } do
    local token = zoo.token("target")
    zoo.secret(zoo.session(token), "old", { value = ("o"):rep(32) })
    local before = token:contents()
    local run = receive(sent.wrap(), { through = through, engine = "softhsm", to = token,
      mode = "replace" })
    lu.assertEquals({ run.report.status, run.report.cloned, run.report.removed },
      { "failed", 0, 0 }, through)
    lu.assertStrContains(tostring(run.report.reason), "11 objects", false, through)
    lu.assertEquals(token:contents(), before)
  end
end

-- Twins: objects that differ in key material only ---------------------------------------------

local TestTwins = {}

local function twins()
  local token = zoo.token("twins")
  local session = zoo.session(token)
  for i = 1, 2 do
    zoo.secret(session, "twin", { id = "one id", value = ("k"):rep(31) .. i })
    assert(session:create { class = "data", label = "twin", value = "note " .. i, token = true,
      private = true })
    local _, private = zoo.pair(session, "twin", "ec_key_pair_gen",
      { ec_params = zoo.curves["p-256"], verify = true }, { sign = true })
    assert(private:change { id = "one id" })
  end
  zoo.close(token)
  return token
end

local function values(token)
  local list = {}
  for _, object in pairs(token:objects()) do
    if object[0x11] then table.insert(list, shell.hex(object[0x11].value)) end
  end
  table.sort(list)
  return list
end

-- The public key of a private one whose id it does not have.
local function public_of(private, message)
  local signature = assert(private:sign("ecdsa", message))
  for _, public in ipairs(private:session():find { class = "public_key" }) do
    if public:verify("ecdsa", message, signature) then return public end
  end
end

-- Every clone works for the very original that its result names.
local function assert_belong_together(run)
  local message = ("m"):rep(32)
  for _, result in ipairs(run.results) do
    local mechanism = ({ private_key = "ecdsa", secret_key = "sha256_hmac" })[result.object.class]
    if mechanism then
      local judge = mechanism == "ecdsa" and public_of(result.original, message)
        or result.original
      lu.assertTrue(result.verified, tostring(result.original))
      lu.assertTrue(judge:verify(mechanism, message, assert(
        fidelity.clone_of(run, result):sign(mechanism, message))), tostring(result.original))
    end
  end
end

function TestTwins.test_both_arrive_and_are_known_again()
  local token = twins()
  for _, from in ipairs { "softhsm", "wrap" } do
    local stream = send(token, from)
    lu.assertEquals(stream.report.status, "success")
    for _, to in ipairs { "softhsm", "wrap" } do
      for _, verify in ipairs { false, true } do
        local name = ("%s, %s, verify %s"):format(from, to, verify)
        local run = receive(stream, { engine = to, verify = verify })
        lu.assertEquals(fidelity.failures(run), {}, name)
        lu.assertEquals(values(run.token), values(token), name)
        if verify then assert_belong_together(run) end
        local again = receive(stream, { engine = to, to = run.token, verify = verify })
        lu.assertEquals({ again.report.cloned, again.report.exists }, { 0, 8 }, name)
      end
    end
  end
end

return {
  TestSend = TestSend,
  TestSofthsm = TestSofthsm,
  TestEngines = TestEngines,
  TestTwins = TestTwins,
}
