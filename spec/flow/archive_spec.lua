-- SPDX-License-Identifier: MIT
-- What is said of a sealed stream that lies in a file: whole, cut, damaged, of another domain,
-- incomplete, or no stream at all.
local lu = require("luaunit")
local cjson = require("cjson")
local core = require("keyferry.core")
local report = require("keyferry.report")
local process = require("support.process")
local scene = require("flow.scene")
local shell = require("support.shell")
local tmp = require("support.tmp")

local the_scene, domain

-- The scene, and a folder with the stream of its partition; each spec copies the stream.
local function fixture()
  if not the_scene then
    the_scene = scene.new()
    the_scene:lua(([[local source = assert(keyferry.partition("payments"))
      local session <close> = assert(source:login(keyferry.secret(%q)))
      local report = keyferry.send{ source = session, to = %q }
      assert(report.status == "success", report.reason)]]):format(scene.password,
      the_scene.home .. "/whole"))
    domain = assert(core.domain(core.secret(scene.domain)))
  end
  return the_scene, shell.read(the_scene.home .. "/whole")
end

local function stream(bytes)
  return tmp.file(bytes or select(2, fixture()), "payments.stream")
end

local function archive(words, how)
  local s = fixture()
  local command = { "archive" }
  table.move(words, 1, #words, 2, command)
  for _, name in ipairs(how and how.globals or {}) do table.insert(command, 1, name) end
  command.env = { KEYFERRY_DOMAIN = how and how.domain }
  command.input, command.cwd = how and how.input, how and how.cwd
  return s:run(command)
end

local function events(done)
  local list = {}
  for line in done.out:gmatch("[^\n]+") do table.insert(list, cjson.decode(line)) end
  return list
end

local function ends(done, status, ...)
  lu.assertEquals(done.status, status, done.out .. done.err)
  for _, text in ipairs { ... } do lu.assertStrContains(done.out .. done.err, text) end
  lu.assertNotStrContains(done.out .. done.err, "traceback")
end

-- The same stream written anew, with another end.
local function rewritten(last)
  local path = tmp.dir() .. "/payments.stream"
  local reader <close> = assert(core.stream.open(stream()))
  local head = reader:head()
  head.version, head.check = nil, nil
  local writer <close> = assert(core.stream.create(path, domain, head))
  while true do
    local sealed, digest = reader:next(domain)
    if not sealed then break end
    assert(writer:add(sealed, digest))
  end
  assert(writer:finish(last))
  return path
end

local DAMAGED_AT = 0.7

local function damaged()
  local _, bytes = fixture()
  local at = math.floor(#bytes * DAMAGED_AT)
  return stream(bytes:sub(1, at) .. string.char(bytes:byte(at + 1) ~ 1) .. bytes:sub(at + 2))
end

local function cut()
  local _, bytes = fixture()
  return stream(bytes:sub(1, math.floor(#bytes * DAMAGED_AT)))
end

local TestList = {}

function TestList.test_one_line_for_each_file()
  local s = fixture()
  local path = stream()
  local done = archive { "list", path, cut() }
  ends(done, 1, "1 of 2 archives not whole", "Nothing of this is authenticated")
  local serial = s:source().serial
  local line = done.out:match("\n(" .. path:gsub("%p", "%%%0") .. " [^\n]*)\n")
  lu.assertStrMatches(line, ".* payments +" .. serial .. " +%d+%-%d+%-%d+ %d+:%d+ UTC +7 +"
    .. domain:check() .. " +whole")
  lu.assertStrMatches(done.out, ".*cut off after [1-6] objects?\n.*")
  ends(archive { "list", path }, 0, "\n1 archive\n")
  shell.write(path .. ".no", "no")
  ends(archive { "list", path, cut(), path .. ".no" }, 1,
    "1 of 3 files could not be read, 1 of 2 archives not whole\n", "sent again")
end

function TestList.test_a_folder_stands_for_the_streams_in_it()
  local dir = tmp.dir("vault")
  local _, bytes = fixture()
  shell.write(dir .. "/b.stream", bytes)
  shell.write(dir .. "/a file", bytes)
  shell.write(dir .. "/.hidden", bytes)
  shell.write(dir .. "/note.txt", "KFSTREA")
  assert(os.execute(("mkdir %s/inner.stream && mkfifo %s/pipe.stream"):format(dir, dir)))
  local done = archive { "list", dir .. "/" }
  ends(done, 0, "\n2 archives\n")
  local first, second = done.out:find("a file", 1, true), done.out:find("b.stream", 1, true)
  lu.assertTrue(first < second)
  shell.write(dir .. "/wrong.stream", "no")
  ends(archive { "list", dir }, 1, "wrong.stream is no sealed stream", "1 of 3 files")
  ends(archive { "list", tmp.dir("empty") }, 0, "0 archives")
end

function TestList.test_json()
  local path = cut()
  local done = archive({ "list", path }, { globals = { "--json" } })
  local found = events(done)
  lu.assertEquals({ #found, found[1].event, found[2].exit }, { 2, "archive", 1 })
  for name, value in pairs { file = path, label = "payments", whole = false, domain =
    domain:check(), authenticated = false, code = "KFR_TRUNCATED" } do
    lu.assertEquals(found[1][name], value, name)
  end
  found = events(archive({ "list", stream() }, { globals = { "--json" } }))
  lu.assertEquals({ found[1].objects, found[1].failed, found[1].whole }, { 7, 0, true })
end

local TestContents = {}

function TestContents.test_every_object_without_the_domain_and_with_it()
  local path = stream()
  local done = archive { "contents", path }
  ends(done, 0, "\n7 objects\n",
    "Nothing of this is authenticated; with KEYFERRY_DOMAIN, -domain or -ped it is.")
  for _, line in ipairs { "secret_key +aes +01 +kek", "private_key +ec +02 +sign",
    "data +%- +%- +note", "private_key +rsa +03 +tls%-web", "secret_key +generic_secret +04 +mac" }
  do
    lu.assertStrMatches(done.out, ".*\n" .. line .. "\n.*")
  end
  done = archive({ "contents", path }, { domain = scene.domain })
  ends(done, 0, "\n7 objects\n")
  lu.assertNotStrContains(done.out, "authenticated")
  lu.assertNotStrContains(done.out, "behind the picture")
end

function TestContents.test_standard_input_and_json()
  local _, bytes = fixture()
  local done = archive({ "contents", "-" }, { globals = { "--json" }, input = bytes,
    domain = scene.domain })
  local found = events(done)
  lu.assertEquals(done.status, 0, done.err)
  lu.assertEquals(#found, 8)
  for i = 1, 7 do
    lu.assertEquals({ found[i].event, found[i].number, found[i].authenticated },
      { "object", i, true })
  end
  lu.assertEquals(found[8].event, "result")
end

function TestContents.test_what_cannot_be_authenticated_is_not_shown()
  local done = archive({ "contents", stream() }, { domain = "another" })
  ends(done, 4, "another cloning domain")
  lu.assertNotStrContains(done.out, "kek")
  ends(archive { "contents", cut() }, 7, "ends too early", "KFR_TRUNCATED")
  ends(archive { "contents", rewritten { failed = 2 } }, 0, "2 objects of the partition could")
end

local TestVerify = {}

function TestVerify.test_a_whole_one_is_good()
  local path = stream()
  local done = archive({ "verify", path }, { domain = scene.domain })
  ends(done, 0, "Source:          payments\n", domain:check(), "7 objects, authentic and complete")
  lu.assertStrContains(archive({ "verify", "-file", path }, { domain = scene.domain }).out, "7 obj")
  local found = events(archive({ "verify", path }, { domain = scene.domain,
    globals = { "--json" } }))
  lu.assertEquals({ found[1].objects, found[1].whole, found[1].authenticated, found[2].exit },
    { 7, true, true, 0 })
  ends(archive({ "verify", "-" }, { domain = scene.domain, input = select(2, fixture()) }), 0)
end

function TestVerify.test_another_domain()
  local done = archive({ "verify", stream() }, { domain = "another" })
  ends(done, 4, "another cloning domain", "Command Result : 4")
  lu.assertNotStrContains(done.out, "Source:")
  ends(archive { "verify", stream(), "-defaultdomain" }, 4)
end

function TestVerify.test_no_domain_to_be_had()
  ends(archive { "verify", stream() }, 3, "no value for -domain")
end

function TestVerify.test_what_is_not_whole_is_told_with_how_much_was()
  ends(archive({ "verify", damaged() }, { domain = scene.domain }), 7, "KFR_DAMAGED",
    "whole and authentic; what follows is not")
  ends(archive({ "verify", cut() }, { domain = scene.domain }), 7, "KFR_TRUNCATED",
    "ends too early, after ", "whole and authentic")
  local _, bytes = fixture()
  ends(archive({ "verify", stream(bytes .. "x") }, { domain = scene.domain }), 7, "KFR_DAMAGED")
  ends(archive({ "verify", stream(bytes:sub(1, 20)) }, { domain = scene.domain }), 7,
    "KFR_TRUNCATED")
end

function TestVerify.test_a_newer_one()
  local opening = ("c8"):pack("KFSTREAM") .. (">I2I4"):pack(2, 8 + 2 + 4 + 16 + 20 + 32)
  local head = opening .. core.sha256(opening):sub(1, 16) .. ("what is to come"):rep(2):sub(1, 20)
  ends(archive({ "verify", stream(head .. core.sha256(head) .. "more") },
    { domain = scene.domain }), 7, "KFR_NEWER_VERSION")
end

function TestVerify.test_one_that_holds_less_than_its_source_is_no_whole_backup()
  local done = archive({ "verify", rewritten { failed = 2, skipped = 1 } },
    { domain = scene.domain })
  ends(done, 1, "2 objects of the partition could not be put into it",
    "1 object of the partition left out", "Command Result : 1")
  ends(archive({ "verify", rewritten { skipped = 1 } }, { domain = scene.domain }), 0)
end

local TestBadFiles = {}

local function report_file()
  local path = tmp.dir() .. "/report.json"
  local paper = assert(report.create(path, { command = "partition backup" }))
  paper:begin { source = { label = "payments" } }
  assert(paper:finish({ status = "success", cloned = 0 }, domain))
  return path
end

function TestBadFiles.test_each_is_one_sentence_in_every_command()
  local loop = tmp.dir() .. "/loop"
  assert(os.execute(("ln -s loop %s"):format(loop)))
  local bad = {
    { tmp.dir() .. "/nix", 6, "there is no file " }, { tmp.file("", "empty"), 2, "it is empty" },
    { tmp.file(("x"):rep(5000), "other"), 2, "is no sealed stream" },
    { tmp.dir(), 2, "is a folder" }, { loop, 7, "loop" }, { report_file(), 2, "report of a run" },
  }
  for _, verb in ipairs { "contents", "verify", "list" } do
    for _, case in ipairs(bad) do
      if not (verb == "list" and case[3] == "is a folder") then
        local done = archive({ verb, case[1] }, { domain = scene.domain })
        ends(done, case[2], case[3], "Command Result : " .. case[2])
        lu.assertEquals(select(2, done.err:gsub("error: ", "")), 1, done.err)
      end
    end
  end
end

function TestBadFiles.test_what_may_not_be_read()
  local path = stream()
  assert(os.execute("chmod 0 " .. shell.quote(path)))
  if process.run({ "cat", path }).status == 0 then lu.skip("root may read everything") end
  for _, verb in ipairs { "contents", "verify", "list" } do
    ends(archive({ verb, path }, { domain = scene.domain }), 7, "Permission denied")
  end
end

function TestBadFiles.test_wrong_use()
  ends(archive { "verify" }, 2, "FILE is missing")
  ends(archive { "verify", "a", "b" }, 2, "takes one FILE")
  ends(archive { "contents", "a", "-domain", "x", "-defaultdomain" }, 2, "exclude each other")
  ends(archive { "list" }, 2, "FILE is missing")
end

return { TestList = TestList, TestContents = TestContents, TestVerify = TestVerify,
  TestBadFiles = TestBadFiles }
