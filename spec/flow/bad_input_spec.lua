-- SPDX-License-Identifier: MIT
-- What users, administrators and file systems hand in that cannot be worked with: said in one
-- line that names it and a second that says what to do, with the right exit status, and both
-- HSMs are as they were.
local lu = require("luaunit")

local build = require("support.build")
local object_file = require("support.object_file")
local process = require("support.process")
local scene = require("flow.scene")
local shell = require("support.shell")
local tmp = require("support.tmp")

-- The form of commands.md: never a bare code, a Lua traceback or a secret.
local function assert_clear(done, status, names, case)
  local all = ("%s: status %s, signal %s\n%s%s"):format(case or "", done.status, done.signal,
    done.out, done.err)
  lu.assertEquals(done.status, status, all)
  local line, advice = done.err:match("error: ([^\n]+)\n  (%S[^\n]+)\n")
  lu.assertTrue(line ~= nil and #line > 20 and #advice > 10, all)
  for _, name in ipairs(names) do lu.assertTrue(line:find(name, 1, true) ~= nil, all) end
  lu.assertTrue(done.out:find(("\nCommand Result : %d ("):format(status), 1, true) ~= nil, all)
  for _, never in ipairs { "traceback", "/lua/keyferry/", "[C]", scene.password, scene.tokenpw,
    scene.sopw, scene.domain } do
    lu.assertTrue((done.out .. done.err):find(never, 1, true) == nil, all)
  end
end

-- A backup of that scene is refused so, and changes nothing.
local function assert_refused(s, how, status, names, case)
  local before = s:snapshot()
  assert_clear(s:backup(how), status, names, case)
  lu.assertEquals(s:changes(before), {}, case)
end

local function with_config(s, text)
  local path = s.home .. "/config.lua"
  shell.write(path, text)
  return { "--config", path }
end

local function is_root()
  return shell.lines("id -u")[1] == "0"
end

local TestModule = {}

function TestModule.test_a_file_that_is_no_pkcs11_module()
  local s = scene.new()
  for case, module in pairs {
    ["no PKCS#11 in it"] = build.tool("not_pkcs11.so"),
    ["no library"] = tmp.file("just text\n", "module.so"),
    ["a folder"] = tmp.dir("module.so"),
    ["empty"] = tmp.file("", "module.so"),
  } do
    for _, private in ipairs { "true", "false" } do
      local globals = with_config(s, ([[return { hsms = { { name = "odd", serial = "5551",
        module = %q, private_copy = %s } } }]]):format(module, private))
      assert_refused(s, { globals = globals, serial = "5551" }, 7, { '"odd"', module }, case)
    end
  end
end

function TestModule.test_a_module_that_is_not_there()
  local s = scene.new()
  local globals = with_config(s, [[return { hsms = { { name = "odd", serial = "5551",
    module = "/nonexistent/module.so" } } }]])
  assert_refused(s, { globals = globals, serial = "5551" }, 6,
    { '"odd"', "/nonexistent/module.so" })
end

function TestModule.test_one_that_does_not_start()
  local s = scene.new()
  for _, code in ipairs { "CKR_GENERAL_ERROR (0x5)", "CKR_DEVICE_ERROR (0x30)" } do
    local _, globals = s:lying("vault", "C_Initialize * " .. code:match("%S+"))
    assert_refused(s, { globals = globals }, 7, { '"vault"', code .. ", in C_Initialize" })
  end
end

-- Debian's SoftHSM is built without it, and says CKR_GENERAL_ERROR.
function TestModule.test_a_store_of_the_sqlite_kind_is_named_as_that()
  for name, partition in pairs { vault = "backup", prod = "payments" } do
    local s = scene.new()
    local conf = s:hsm(name).conf
    shell.write(conf, (shell.read(conf):gsub("backend = file", "backend = db")))
    local before = s:snapshot()
    local done = s:backup {}
    assert_clear(done, 7, { '"' .. name .. '"' }, partition)
    lu.assertStrContains(done.err, "objectstore.backend")
    lu.assertEquals(s:changes(before), {})
  end
end

function TestModule.test_a_softhsm2_conf_that_is_not_to_be_had()
  for case, spoil in pairs {
    ["not there"] = function(conf) os.remove(conf) end,
    ["a folder"] = function(conf)
      os.remove(conf)
      process.must { "mkdir", conf }
    end,
    ["no words in it"] = function(conf) shell.write(conf, ("\0\255"):rep(50)) end,
  } do
    local s = scene.new()
    spoil(s:hsm("vault").conf)
    assert_refused(s, {}, 7, { "vault" }, case)
  end
end

local TestWriteProtected = {}

function TestWriteProtected.test_the_target_is_refused_before_a_password_is_tried()
  local s = scene.new("backed")
  local hsm, globals = s:lying("vault",
    "call-log %LOG%\nC_GetTokenInfo flags +WRITE_PROTECTED")
  for _, mode in ipairs { "-add", "-replace" } do
    assert_refused(s, { mode, "-force", globals = globals }, 7,
      { "backup", "CKR_TOKEN_WRITE_PROTECTED (0xE2)" }, mode)
  end
  lu.assertNotStrContains(table.concat(hsm:calls(), "\n"), "C_Login")
end

function TestWriteProtected.test_no_partition_can_be_made_on_such_an_hsm()
  local s = scene.new()
  local _, globals = s:lying("vault", "C_GetTokenInfo flags +WRITE_PROTECTED")
  assert_refused(s, { globals = globals }, 7, { '"vault"', "CKR_TOKEN_WRITE_PROTECTED (0xE2)" })
end

-- The source is only read: whether it may be written is nothing to us.
function TestWriteProtected.test_a_source_that_is_so_can_be_backed_up()
  local s = scene.new()
  local _, globals = s:lying("prod", "C_GetTokenInfo flags +WRITE_PROTECTED")
  local done = s:backup { globals = globals }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(scene.contents(s:target()), scene.contents(s:source()))
end

local TestWords = {}

function TestWords.test_a_label_that_no_token_takes()
  local s = scene.new()
  for case, label in pairs {
    ["33 bytes"] = ("x"):rep(33), ["33 bytes, 17 characters"] = ("é"):rep(16) .. "x",
    ["not UTF-8"] = "caf\233", ["cut UTF-8"] = "x\195", empty = "",
  } do
    assert_refused(s, { tokenpar = label }, 2, { "-tokenpar" }, case)
  end
end

-- Each try counts, so one that cannot be right is none.
function TestWords.test_a_pin_longer_than_the_token_takes_is_not_tried()
  local s = scene.new("backed")
  local long = ("p"):rep(256)
  local hsm, globals = s:lying("prod", "call-log %LOG%")
  assert_refused(s, { "-add", env = { KEYFERRY_PASSWORD = long }, globals = globals }, 2,
    { "user", "4 to 255 bytes" })
  assert_refused(s, { "-add", secrets = scene.secrets { "PASSWORD" }, globals = globals,
    env = { KEYFERRY_PASSWORD_FILE = tmp.file(long) } }, 2, { "user", "4 to 255 bytes" })
  lu.assertNotStrContains(table.concat(hsm:calls(), "\n"), "C_Login")
  assert_refused(s, { "-add", env = { KEYFERRY_TOKENPW = long } }, 2, { "4 to 255 bytes" })
end

function TestWords.test_a_new_pin_that_no_token_takes_leaves_no_partition()
  local s = scene.new()
  for name, pin in pairs { TOKENPW = "cut off \226\130", TOKENSOPWD = "not \255 UTF-8" } do
    assert_refused(s, { env = { ["KEYFERRY_" .. name] = pin } }, 2, { "UTF-8" }, name)
  end
  assert_refused(s, { env = { KEYFERRY_TOKENSOPWD = ("p"):rep(256) } }, 2, { "4 to 255 bytes" })
end

function TestWords.test_a_secret_file_that_is_none()
  local s = scene.new()
  for case, path in pairs {
    ["not there"] = "/nonexistent/secret", ["too large"] = tmp.file(("x"):rep(5000)),
    empty = tmp.file(""), ["a folder"] = tmp.dir("secret"), endless = "/dev/zero",
  } do
    assert_refused(s, { secrets = scene.secrets { "PASSWORD" },
      env = { KEYFERRY_PASSWORD_FILE = path }, timeout = 10 }, 3,
      { "KEYFERRY_PASSWORD_FILE", path }, case)
  end
end

function TestWords.test_a_serial_that_no_hsm_has()
  local s = scene.new()
  for _, serial in ipairs { "999999", "0", "4967710", "49677" } do
    assert_refused(s, { serial = serial }, 6, { serial })
  end
end

local TestConfiguration = {}

local malformed = {
  ["no Lua"] = "return {",
  ["bytecode"] = string.dump(function() return {} end),
  ["returns nothing"] = "local x = 1",
  ["returns a string"] = "return 'hsms'",
  ["an error"] = "return 1 .. nil",
  ["an unknown field"] = "return { hsm = {} }",
  ["a field of a wrong type"] = "return { softhsm = 7 }",
  ["hsms that is no list"] = "return { hsms = 'vault' }",
  ["hsms with a name"] = "return { hsms = { vault = { name = 'v', module = '/x.so' } } }",
  ["an entry that is no table"] = "return { hsms = { 'vault' } }",
  ["an entry without a module"] = "return { hsms = { { name = 'vault' } } }",
  ["an unknown field of an entry"] =
    "return { hsms = { { name = 'v', module = '/x', pin = 'p' } } }",
  ["a number for a serial"] = "return { hsms = { { name = 'v', module = '/x', serial = 5 } } }",
  ["two of one name"] =
    "return { hsms = { { name = 'v', module = '/x' }, { name = 'v', module = '/y' } } }",
  ["an environment of numbers"] =
    "return { hsms = { { name = 'v', module = '/x', env = { 1 } } } }",
  ["an endless loop"] = "while true do end",
  ["an endless recursion"] = "local function f() return f() + 1 end return f()",
  ["endless tail calls"] = "local function f() return f() end return f()",
  ["a table that is alive"] =
    "return setmetatable({}, { __index = function() while true do end end })",
  ["a call of the system"] = "os.execute('true') return {}",
  ["an unknown engine"] = "return { defaults = { engine = 'steam' } }",
  ["an unknown onerror"] = "return { defaults = { onerror = 'panic' } }",
}

function TestConfiguration.test_a_malformed_file_is_named_and_nothing_is_opened()
  local s = scene.new()
  local before = s:snapshot()
  for case, text in pairs(malformed) do
    local globals = with_config(s, text)
    local done = s:backup { globals = globals, timeout = 15 }
    assert_clear(done, 2, { globals[2] }, case)
    lu.assertStrContains(done.err, "configuration file", case)
  end
  lu.assertEquals(s:changes(before), {})
end

function TestConfiguration.test_a_file_that_others_may_write_is_not_run()
  local s = scene.new()
  local path = with_config(s, "return { system = false }")[2]
  for _, mode in ipairs { "0620", "0602", "0666" } do
    process.must { "chmod", mode, path }
    assert_refused(s, { globals = { "--config", path } }, 5, { path }, mode)
  end
  process.must { "chmod", "0600", path }
  local dir = tmp.dir("open")
  process.must { "cp", path, dir .. "/config.lua" }
  process.must { "chmod", "0777", dir }
  assert_refused(s, { globals = { "--config", dir .. "/config.lua" } }, 5, { dir }, "its folder")
  if is_root() then
    process.must { "chown", "nobody", path }
    assert_refused(s, { globals = { "--config", path } }, 5, { path }, "of somebody else")
  end
end

function TestConfiguration.test_a_file_that_cannot_be_one()
  local s = scene.new()
  assert_refused(s, { globals = { "--config", "/nonexistent/c.lua" } }, 6, { "/nonexistent/c.lua" })
  local large = tmp.file("--" .. ("x"):rep(2 << 20) .. "\nreturn {}")
  for case, path in pairs { ["a folder"] = tmp.dir("config.lua"), large = large } do
    local done = s:backup { globals = { "--config", path }, timeout = 10 }
    lu.assertTrue(done.status == 2 or done.status == 7, case .. done.out .. done.err)
    assert_clear(done, done.status, { path }, case)
  end
end

local TestHome = {}

function TestHome.test_a_home_that_is_not_ours_alone()
  local s = scene.new()
  for _, mode in ipairs { "0770", "0707", "0777" } do
    process.must { "chmod", mode, s.home }
    assert_refused(s, {}, 5, { s.home }, mode)
  end
  process.must { "chmod", "0700", s.home }
  process.must { "chmod", "0777", s.home .. "/hsms" }
  assert_refused(s, {}, 5, { s.home .. "/hsms" }, "hsms")
  process.must { "chmod", "0700", s.home .. "/hsms" }
  process.must { "chmod", "0777", s.home .. "/hsms/vault" }
  assert_refused(s, {}, 5, { s.home .. "/hsms/vault" }, "hsms/vault")
end

function TestHome.test_a_home_of_somebody_else()
  if not is_root() then lu.skip("only root can give a folder away") end
  local s = scene.new()
  process.must { "chown", "nobody", s.home }
  assert_refused(s, {}, 5, { s.home })
end

function TestHome.test_a_description_that_is_none()
  local good = '{"name":"vault","serial":"%s","path":"%s"}'
  for case, text in pairs {
    empty = "", ["no JSON"] = "{", ["a list"] = "[]", ["null"] = "null",
    ["no serial"] = '{"name":"vault","path":"/x"}', ["no path"] = '{"serial":"7"}',
    ["a number"] = '{"name":"vault","serial":7,"path":"/x"}',
    ["deep"] = ("["):rep(100000), ["large"] = good:format(("7"):rep(70000), "/x"),
    ["a relative path"] = good:format("496771", "hsms/vault"),
    ["a zero byte"] = good:format("496771", "/x\\u0000/y"),
    ["a line break"] = good:format("49\\n6771", "/x"),
  } do
    local s = scene.new()
    shell.write(s.home .. "/hsms/vault/hsm.json", text)
    assert_refused(s, {}, 7, { "/hsms/vault/hsm.json" }, case)
  end
end

-- Its files name the first home: a backup would go into that one's store.
function TestHome.test_a_copied_home_does_not_work_on_the_first_one()
  local s = scene.new()
  local copy = tmp.dir("copy") .. "/home"
  process.must { "cp", "-a", s.home, copy }
  local before = s:snapshot()
  local done = setmetatable({ home = copy }, { __index = s }):backup {}
  assert_clear(done, 7, { copy .. "/hsms/", s.home .. "/hsms/" })
  lu.assertEquals(s:changes(before), {})
end

local TestScripts = {}

function TestScripts.test_a_script_that_others_may_write_is_not_run()
  local s = scene.new()
  local mark = s.home .. "/ran"
  local code = ("io.open(%q, 'w'):close() return { name = 'x y', run = function() return 0 end }")
    :format(mark)
  local file = tmp.file(code, "policy.lua")
  process.must { "chmod", "0666", file }
  local before = s:snapshot()
  assert_clear(s:run { "run", file }, 5, { file })
  local own = s.home .. "/config/keyferry/scripts/partition"
  process.must { "mkdir", "-p", "-m", "700", own }
  shell.write(own .. "/backup.lua", code)
  process.must { "chmod", "0666", own .. "/backup.lua" }
  assert_clear(s:backup {}, 5, { own .. "/backup.lua" })
  lu.assertFalse(shell.exists(mark))
  lu.assertEquals(s:changes(before), {})
end

local TestStore = {}

-- SoftHSM trusts a length word: it asks for that much memory, catches that it does not get it
-- and calls exit(5), in C_Initialize or in a search, whichever token was wanted.
local DEADLY = "99999999-9999-9999-9999-999999999999"

local function deadly_bytes()
  local bytes = object_file.encode { generation = 1, records = {
    { type = 0, kind = 2, value = string.pack(">I8", 0) },
    { type = 3, kind = 3, value = "" } } }
  return bytes:sub(1, -9) .. "\127" .. ("\255"):rep(7)
end

local function absurd(token)
  shell.write(token.dir .. "/" .. DEADLY .. ".object", deadly_bytes())
  shell.write(token.dir .. "/" .. DEADLY .. ".lock", "")
end

function TestStore.test_a_length_that_kills_softhsm_does_not_end_us_without_a_word()
  local s = scene.new("backed")
  absurd(s:source())
  assert_refused(s, { "-add" }, 7, { DEADLY .. ".object" }, "source")
  s = scene.new("backed")
  absurd(s:target())
  for _, mode in ipairs { "-add", "-replace" } do
    assert_refused(s, { mode, "-force" }, 7, { DEADLY .. ".object" },
      "target")
  end
end

-- Damaged while the program runs: nothing can keep SoftHSM from ending it, but it is said, and
-- not with the status that SoftHSM has chosen.
function TestStore.test_a_module_that_ends_the_program_is_named()
  lu.skipIf(os.getenv("ASAN_OPTIONS"), "AddressSanitizer's new aborts where new would throw")
  local s = scene.new()
  local done = s:run { "-e", ([[
    local partition = assert(keyferry.partition("payments"))
    local session <close> = assert(partition:login(keyferry.secret(%q)))
    local file <close> = assert(io.open(%q, "wb"))
    file:write(%q)
    file:close()
    session:find()
    print("went on")]]):format(scene.password, s:source().dir .. "/" ..
    s:source():labelled("kek")[1].file, deadly_bytes()) }
  lu.assertEquals(done.status, 7, done.out .. done.err)
  lu.assertStrMatches(done.err, "error: the PKCS#11 module [^\n]*softhsm[^\n]* has ended the "
    .. "program, in C_FindObjectsInit\n  %S[^\n]*\n")
end

local TestOneStore = {}

-- Two copies of SoftHSM on one store overwrite each other's counters.
function TestOneStore.test_the_systems_softhsm_that_is_a_soft_hsm_of_the_home_is_listed_once()
  local s = scene.new()
  local link = tmp.dir("link") .. "/conf"
  process.must { "ln", "-s", s:hsm("prod").conf, link }
  local other = tmp.dir("other")
  process.must { "ln", "-s", s:hsm("prod").tokendir, other .. "/tokens" }
  shell.write(other .. "/softhsm2.conf", "directories.tokendir=" .. other .. "/tokens/\n")
  for _, conf in ipairs { s:hsm("prod").conf, link, other .. "/softhsm2.conf" } do
    local env = { SOFTHSM2_CONF = conf }
    lu.assertEquals(process.must(s:program { "-e", [[
      for _, hsm in ipairs(assert(keyferry.hsms())) do print(hsm.name) end]], env = env }),
      "prod\nvault\n", conf)
  end
  local done = s:backup { env = { SOFTHSM2_CONF = s:hsm("prod").conf } }
  lu.assertEquals(done.status, 0, done.out .. done.err)
end

function TestOneStore.test_two_hsms_of_a_configuration_on_one_store_are_refused_or_one()
  local s = scene.new()
  local globals = with_config(s, ([[return { system = false, hsms = {
    { name = "mirror", serial = "777", module = %q, env = { SOFTHSM2_CONF = %q } } } }]])
    :format(build.softhsm(), s:hsm("prod").conf))
  local done = s:run { globals[1], globals[2], "-e", [[
    local stores = {}
    for _, hsm in ipairs(assert(keyferry.hsms())) do
      for _, partition in ipairs(assert(hsm:partitions())) do
        assert(not stores[partition.serial], "opened twice")
        stores[partition.serial] = true
      end
    end]] }
  lu.assertEquals(done.status, 0, done.out .. done.err)
  assert_refused(s, { "-replace", "-force", globals = globals, tokenpar = "payments",
    serial = "777" }, 5, { "same" })
end

return {
  TestModule = TestModule,
  TestWriteProtected = TestWriteProtected,
  TestWords = TestWords,
  TestConfiguration = TestConfiguration,
  TestHome = TestHome,
  TestScripts = TestScripts,
  TestStore = TestStore,
  TestOneStore = TestOneStore,
}
