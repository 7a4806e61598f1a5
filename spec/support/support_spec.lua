-- SPDX-License-Identifier: MIT
-- The ground that all other specs stand on: what judges the product is right itself.
local lu = require("luaunit")
local build = require("support.build")
local liar = require("support.liar")
local object_file = require("support.object_file")
local process = require("support.process")
local shell = require("support.shell")
local softhsm = require("support.softhsm")
local store = require("support.store")
local terminal = require("support.terminal")
local tmp = require("support.tmp")

local CKA_CLASS, CKA_LABEL, CKA_ID, CKA_VALUE = 0x0, 0x3, 0x102, 0x11
local CKA_MODULUS, CKA_EXTRACTABLE = 0x120, 0x162

local function sh(text)
  return { "sh", "-c", text }
end

local TestProcess = {}

function TestProcess.test_status_output_and_error_are_told_apart()
  local done = process.run(sh("echo out; echo err >&2; exit 3"))
  lu.assertEquals({ done.status, done.signal, done.out, done.err }, { 3, nil, "out\n", "err\n" })
end

function TestProcess.test_a_death_by_signal_is_told_from_a_status()
  local done = process.run(sh("kill -SEGV $$"))
  lu.assertEquals({ done.status, done.signal }, { nil, 11 })
  lu.assertEquals(process.run(sh("kill -KILL $$")).signal, 9)
end

function TestProcess.test_words_input_and_environment_arrive_as_they_are()
  local done = process.run { "sh", "-c", 'cat; printf %s "$1|$A|${HOME-none}"', "sh", "a 'b' $c",
    env = { A = "x y", HOME = false }, input = "in\n" }
  lu.assertEquals(done.out, "in\na 'b' $c|x y|none")
end

function TestProcess.test_what_hangs_is_stopped()
  local done = process.run { "sleep", "30", timeout = 1 }
  lu.assertTrue(done.timed_out)
end

function TestProcess.test_there_is_no_terminal()
  lu.assertNotEquals(process.run(sh("exec 2>/dev/null; : </dev/tty")).status, 0)
end

function TestProcess.test_a_running_program_hears_signals()
  local running <close> = process.start(sh("trap 'echo heard; exit 7' INT; echo ready; " ..
    "while :; do sleep 0.05; done"))
  running:wait_for("ready")
  running:signal("INT")
  local done = running:wait()
  lu.assertEquals({ done.status, done.out }, { 7, "ready\nheard\n" })
end

function TestProcess.test_a_running_program_can_be_killed()
  local running <close> = process.start { "sleep", "30" }
  running:signal("KILL")
  lu.assertEquals(running:wait().signal, 9)
end

local TestTerminal = {}

local asks = [[printf 'name: '; read -r name; stty -echo; printf 'secret: '; read -r secret;
stty echo; printf '\n<%s><%s>\n' "$name" "$secret"; test -t 0 && exit 5]]

function TestTerminal.test_keys_are_typed_and_edited_and_echo_is_seen()
  local t <close> = terminal.start(sh(asks))
  t:wait_for("name: ")
  lu.assertTrue(t:has("echo"))
  t:type("wrong")
  t:key("C-u")
  t:type("annb")
  t:key("BSpace", "a", "Enter")
  t:wait_for("secret: ")
  t:wait_until("echo", false)
  t:line("hush")
  local done = t:finish()
  lu.assertStrContains(done.text, "<anna><hush>")
  lu.assertNotStrContains(done.text:gsub("<.*", ""), "hush")
  lu.assertStrContains(done.screen, "<anna><hush>")
  lu.assertEquals({ done.status, done.restored }, { 5, true })
end

function TestTerminal.test_a_terminal_left_without_echo_is_noticed()
  local t <close> = terminal.start(sh("stty -echo -icanon"))
  local done = t:finish()
  lu.assertEquals({ done.status, done.restored }, { 0, false })
end

function TestTerminal.test_ctrl_c_reaches_the_program()
  local t <close> = terminal.start(sh("trap 'exit 130' INT; echo ready; sleep 20"))
  t:wait_for("ready")
  t:key("C-c")
  local done = t:finish(5)
  lu.assertEquals({ done.status, done.restored }, { 130, true })
end

function TestTerminal.test_a_program_that_dies_of_ctrl_c_has_a_status_too()
  local t <close> = terminal.start { "sh", "-c", "echo ready; exec sleep 20" }
  t:wait_for("ready")
  t:key("C-c")
  lu.assertEquals(t:finish(5).status, 130)
end

function TestTerminal.test_what_is_never_written_raises_with_the_screen()
  local t <close> = terminal.start(sh("echo hello; sleep 20"))
  t:wait_for("hello")
  lu.assertErrorMsgContains("hello", t.wait_for, t, "goodbye", 0.2)
end

local TestStore = {}

function TestStore.test_every_kind_of_change_is_seen()
  local dir = tmp.dir()
  for _, name in ipairs { "same", "bytes", "mode", "gone" } do
    shell.write(dir .. "/" .. name, "text")
  end
  local before = store.snapshot(dir)
  os.remove(dir .. "/gone")
  shell.write(dir .. "/bytes", "TEXT")
  shell.write(dir .. "/new", "")
  process.must { "chmod", "400", dir .. "/mode" }
  local lines = store.compare(before, store.snapshot(dir))
  lu.assertEquals(#lines, 4)
  lu.assertStrContains(table.concat(lines, "\n"), "changed bytes: 4 bytes, were 4")
  lu.assertStrContains(table.concat(lines, "\n"), "changed mode: mode 400")
end

function TestStore.test_a_login_can_be_ignored_and_a_new_label_cannot()
  local hsm = softhsm.fresh()
  local token = hsm:init_token("one")
  local before = store.snapshot(hsm.dir)
  token:tool { "--list-objects" }
  local after = store.snapshot(hsm.dir)
  lu.assertEquals(store.compare(before, after, { ignore_logins = true }), {})
  lu.assertEquals(#store.compare(before, after), 1)
  process.must { "softhsm2-util", "--init-token", "--serial", token.serial, "--label", "two",
    "--so-pin", token.so_pin, "--pin", token.pin, "--force", env = hsm.env }
  local lines = store.compare(before, store.snapshot(hsm.dir), { ignore_logins = true })
  lu.assertStrContains(table.concat(lines, "\n"), "/token.object: ")
end

local TestObjectFile = {}

local sample = { generation = 7, records = {
  { type = 0x1, kind = 1, value = "\xff" },
  { type = 0x0, kind = 2, value = ("\0"):rep(7) .. "\4" },
  { type = 0x3, kind = 3, value = "label" },
  { type = 0x40000211, kind = 4, value = "" },
  { type = 0x40000600, kind = 5, value = ("\0"):rep(16) },
} }

function TestObjectFile.test_what_is_written_reads_back()
  lu.assertEquals(object_file.parse(object_file.encode(sample)), sample)
end

function TestObjectFile.test_no_shortened_file_reads_except_between_records()
  local bytes, whole = object_file.encode(sample), {}
  for cut = 0, #bytes do
    local object = object_file.parse(bytes:sub(1, cut))
    if object then table.insert(whole, #object.records) end
  end
  lu.assertEquals(whole, { 0, 1, 2, 3, 4, 5 })
end

function TestObjectFile.test_hostile_lengths_are_refused()
  local head = string.pack(">I8I8", 1, 3)
  for _, record in ipairs { string.pack(">I8i8", 3, -1), string.pack(">I8I8", 3, 1 << 40),
    string.pack(">I8I8", 5, 1 << 61), string.pack(">I8", 9) } do
    lu.assertNil((object_file.parse(head .. record)))
  end
end

function TestObjectFile.test_files_of_softhsm_come_out_byte_for_byte()
  local token = softhsm.fresh():init_token("t")
  token:aes("key", "01")
  for _, name in ipairs { "token.object", token:files()[1] } do
    local bytes = shell.read(token.dir .. "/" .. name)
    lu.assertEquals(object_file.encode(assert(object_file.parse(bytes))), bytes)
  end
end

local TestDump = {}

function TestDump.test_it_says_what_pkcs11_tool_says()
  local token = softhsm.fresh():init_token("t")
  token:aes("kek", "0a0b")
  token:rsa("web", "02", { "--extractable" })
  token:data("note", "attack at dawn", { "--private" })
  local key = token:labelled("kek")[1]
  lu.assertEquals({ key[CKA_ID].value, key[CKA_LABEL].form, key[CKA_EXTRACTABLE].value },
    { "\x0a\x0b", "encrypted", "\0" })
  lu.assertEquals(#key[CKA_VALUE].value, 32)
  lu.assertEquals(token:labelled("note")[1][CKA_VALUE].value, "attack at dawn")
  lu.assertEquals(#token:labelled("web"), 2)
  for _, half in ipairs(token:labelled("web")) do
    local is_private = half[CKA_CLASS].value:byte(-1) == 3
    lu.assertEquals(half[CKA_LABEL].form, is_private and "encrypted" or "clear")
  end
  local listed = select(2, token:tool { "--list-objects" }:gsub("[Oo]bject[ ;]", ""))
  lu.assertEquals({ #token:files(), listed }, { 4, 4 })
end

function TestDump.test_the_secret_value_is_the_one_the_token_gives()
  local token = softhsm.fresh():init_token("t")
  local value = shell.unhex("000102030405060708090a0b0c0d0e0f")
  token:import("secrkey", "imported", "03", value, { "--key-type", "AES:16", "--extractable" })
  lu.assertEquals(token:labelled("imported")[1][CKA_VALUE].value, value)
end

function TestDump.test_the_so_pin_opens_the_same_and_a_wrong_pin_nothing()
  local token = softhsm.fresh():init_token("t")
  token:aes("kek", "01")
  local dump = build.tool("softhsm_dump")
  local user = process.must { dump, token.dir, input = token.pin }
  lu.assertEquals(process.must { dump, "-so", token.dir, input = token.so_pin }, user)
  local wrong = process.run { dump, token.dir, input = "4321" }
  lu.assertEquals({ wrong.status, wrong.out, wrong.err }, { 1, "", "the PIN is wrong\n" })
end

function TestDump.test_a_torn_file_ends_it()
  local token = softhsm.fresh():init_token("t")
  token:aes("kek", "01")
  local path = token.dir .. "/" .. token:files()[1]
  shell.write(path, shell.read(path):sub(1, -2))
  lu.assertEquals(process.run { build.tool("softhsm_dump"), token.dir,
    input = token.pin }.status, 1)
end

local TestLiar = {}

-- A token behind a liar, and its HSM. Made before the lies begin.
local function lying(script)
  local hsm = liar.fresh()
  local token = hsm:init_token("t")
  hsm:lie(script)
  return token, hsm
end

local function logged_in(token, command)
  local all = { "--token-label", token.label, "--login", "--pin", token.pin }
  return token.hsm:tool(table.move(command, 1, #command, #all + 1, all))
end

function TestLiar.test_without_lies_it_is_softhsm()
  local token = lying("# nothing\n\n")
  token:aes("kek", "01")
  lu.assertStrContains(token:tool { "--list-objects" }, "kek")
  lu.assertEquals(#token:files(), 1)
end

function TestLiar.test_a_call_fails_with_the_code_and_without_being_made()
  local token = lying("C_GenerateKey 1 CKR_DEVICE_MEMORY")
  local done = logged_in(token, { "--keygen", "--key-type", "AES:32", "--label", "x" })
  lu.assertStrContains(done.err, "CKR_DEVICE_MEMORY")
  lu.assertEquals(#token:files(), 0)
end

function TestLiar.test_a_call_fails_after_it_was_made()
  local token = lying("C_GenerateKey 1 did CKR_DEVICE_ERROR")
  local done = logged_in(token, { "--keygen", "--key-type", "AES:32", "--label", "x" })
  lu.assertStrContains(done.err, "CKR_DEVICE_ERROR")
  lu.assertEquals(#token:files(), 1)
end

function TestLiar.test_calls_are_counted_and_logged_without_a_pin()
  local token, hsm = lying("C_GetSlotList after 1 CKR_GENERAL_ERROR\ncall-log %LOG%")
  logged_in(token, { "--list-objects" })
  lu.assertEquals(hsm:calls(), { "C_Initialize CKR_OK", "C_GetSlotList CKR_OK",
    "C_GetSlotList CKR_GENERAL_ERROR", "C_Finalize CKR_OK" })
end

function TestLiar.test_the_log_has_no_argument()
  local token, hsm = lying("call-log %LOG%")
  token:aes("visible-label", "01")
  lu.assertTableContains(hsm:calls(), "C_Login CKR_OK")
  for _, line in ipairs(hsm:calls()) do
    lu.assertStrMatches(line, "C_%w+ [%w_]+")
  end
end

function TestLiar.test_token_flags_label_and_serial_lie()
  local token, hsm = lying("C_GetTokenInfo flags +USER_PIN_LOCKED|+WRITE_PROTECTED\n" ..
    "C_GetTokenInfo flags -RNG\nC_GetTokenInfo label not mine\nC_GetTokenInfo serial 4711\n")
  local out = hsm:tool { "--list-slots" }.out
  lu.assertStrContains(out, "not mine")
  lu.assertStrContains(out, "4711")
  lu.assertStrContains(out, "readonly")
  lu.assertNotStrContains(out, "rng")
  lu.assertNotNil(token)
end

function TestLiar.test_a_protected_path_takes_pins_from_its_keyboard()
  local dir = tmp.dir()
  local token, hsm = lying("pap " .. dir)
  shell.write(dir .. "/user.pin", token.pin .. "\n")
  lu.assertEquals(hsm:tool { "--token-label", "t", "--login", "--keygen", "--key-type",
    "AES:32", "--label", "x" }.status, 0)
  lu.assertStrContains(hsm:tool { "--list-slots" }.out, "PIN pad present")
  os.remove(dir .. "/user.pin")
  local done = hsm:tool { "--token-label", "t", "--login", "--list-objects" }
  lu.assertStrContains(done.err, "CKR_FUNCTION_CANCELED")
end

function TestLiar.test_a_search_never_ends_or_fails_midway()
  local token = lying("C_FindObjects fail-after 2 CKR_DEVICE_REMOVED")
  for i = 1, 3 do token:data("d" .. i, "x") end
  local done = logged_in(token, { "--list-objects" })
  lu.assertEquals(select(2, done.out:gsub("Data object", "")), 2)
  lu.assertStrContains(done.err, "CKR_DEVICE_REMOVED")
  token.hsm:lie("C_FindObjects loop")
  local all = { "--token-label", "t", "--list-objects", timeout = 1 }
  lu.assertTrue(token.hsm:tool(all).timed_out)
end

function TestLiar.test_attributes_lie_in_value_and_by_refusal()
  local token = lying("C_GetAttributeValue value CKA_LABEL 6c696172\n" ..
    "C_GetAttributeValue refuse CKA_ID CKR_ATTRIBUTE_SENSITIVE")
  token:aes("kek", "77")
  local out = logged_in(token, { "--list-objects" }).out
  lu.assertStrContains(out, "label:      liar")
  lu.assertNotStrContains(out, "77")
end

function TestLiar.test_what_is_stored_is_not_what_was_asked_for()
  local token = lying("C_GenerateKey attr-set CKA_EXTRACTABLE 01\n" ..
    "C_GenerateKey attr-drop CKA_ID\n" ..
    "C_CreateObject attr-set CKA_VALUE 6576696c")
  token:aes("kek", "77")
  token:data("note", "good")
  local key = token:labelled("kek")[1]
  lu.assertEquals({ key[CKA_EXTRACTABLE].value, key[CKA_ID].value }, { "\xff", "" })
  lu.assertEquals(token:labelled("note")[1][CKA_VALUE].value, "evil")
end

function TestLiar.test_calls_are_slow_or_the_last()
  local token = lying("delay C_Login 1200\n")
  local started = os.time()
  logged_in(token, { "--list-objects" })
  lu.assertTrue(os.time() - started >= 1)
  token.hsm:lie("crash C_Login 1")
  lu.assertEquals(logged_in(token, { "--list-objects" }).signal, 9)
end

function TestLiar.test_a_script_that_is_not_understood_is_no_script()
  for _, line in ipairs { "C_Login", "C_Login 1", "C_Login 1 CKR_WHATEVER", "C_Nothing * CKR_OK",
    "C_GetTokenInfo flags USER_PIN_LOCKED", "flags +RNG", "C_Login * CKR_OK more", "pap" } do
    local _, hsm = lying(line)
    lu.assertEquals(hsm:tool { "--list-slots" }.signal, 6, line)
  end
end

function TestLiar.test_a_library_that_is_no_module_is_one()
  local hsm = softhsm.fresh()
  hsm.module = build.tool("not_pkcs11.so")
  lu.assertNotEquals(hsm:tool { "--list-slots" }.status, 0)
end

-- The plain loop of spec/bench is a program that wraps and unwraps by our own rules.
-- Its source is made once: nothing writes to it.
local filled

local function looped(script)
  local source = filled or softhsm.fresh():init_token("t")
  local target = softhsm.fresh():init_token("t")
  if not filled then source:fill(40) end
  filled = source
  local done = process.run { build.tool("loop"), source.hsm.conf, target.hsm.conf,
    input = "1234\n", env = { KEYFERRY_SOFTHSM = build.tool("liar.so"),
      LIAR_MODULE = build.softhsm(), LIAR_SCRIPT = tmp.file(script) } }
  return done, source, target
end

local function values(token)
  local list = {}
  for _, object in pairs(token:objects()) do
    table.insert(list, ("%s %s %s"):format(object[CKA_LABEL].value,
      shell.hex(object[CKA_ID].value),
      shell.hex((object[CKA_VALUE] or object[CKA_MODULUS]).value)))
  end
  table.sort(list)
  return list
end

function TestLiar.test_an_unwrapped_key_is_another_one()
  local done, source, target = looped("C_UnwrapKey ok-but-other")
  lu.assertEquals(done.status, 0)
  lu.assertEquals(#target:files(), #source:files())
  for _, object in pairs(target:objects()) do
    if object[CKA_CLASS].value:byte(-1) == 4 then
      lu.assertEquals(object[CKA_VALUE].value, ("Z"):rep(32))
    end
  end
  local first, second = target:labelled("rsa-private-0"), target:labelled("rsa-private-1")
  lu.assertEquals(first[1][CKA_MODULUS].value, second[1][CKA_MODULUS].value)
end

function TestLiar.test_a_wrapped_key_is_damaged_or_in_another_format()
  lu.assertStrContains(looped("C_WrapKey flip").err, "C_UnwrapKey: 0x5\n")
  lu.assertStrContains(looped("C_WrapKey mechanism CKM_AES_KEY_WRAP_PAD CKM_AES_KEY_WRAP").err,
    "C_UnwrapKey: 0x5\n")
  lu.assertStrContains(looped("C_UnwrapKey 3 CKR_DEVICE_MEMORY").err, "C_UnwrapKey: 0x31\n")
end

function TestLiar.test_two_liars_in_one_process_count_apart()
  local done, source, target = looped("C_Login 2 CKR_PIN_LOCKED\nC_Initialize 2 CKR_OK")
  lu.assertEquals(done.status, 0, done.err)
  lu.assertEquals(values(target), values(source))
end

function TestLiar.test_a_length_lies_and_a_function_is_missing()
  local _, _, target = looped("C_GetAttributeValue len CKA_LABEL 3")
  lu.assertEquals(#target:labelled("aes") + #target:labelled("rsa"), 40)
  lu.assertEquals(looped("null C_WrapKey").signal, 11)
end

function TestLiar.test_all_calls_together_are_counted()
  local _, hsm = lying("* after 2 CKR_DEVICE_REMOVED\ncall-log %LOG%")
  hsm:tool { "--list-slots" }
  lu.assertEquals(hsm:calls()[2]:match("%S+$"), "CKR_OK")
  for i = 3, #hsm:calls() do
    lu.assertEquals(hsm:calls()[i]:match("%S+$"), "CKR_DEVICE_REMOVED")
  end
end

function TestLiar.test_a_mechanism_is_not_listed()
  local token, hsm = lying("C_GetMechanismList drop CKM_AES_KEY_WRAP_PAD")
  local list = { "--list-mechanisms", "--token-label", token.label }
  lu.assertNotStrContains(hsm:tool(list).out:lower(), "210a")
  hsm:lie("")
  lu.assertStrContains(hsm:tool(list).out:lower(), "210a")
end

local TestBench = {}

function TestBench.test_the_plain_loop_copies_what_fill_made()
  local source = softhsm.fresh():init_token("source")
  local target = softhsm.fresh():init_token("target")
  source:fill(40)
  lu.assertEquals(#source:files(), 40)
  local out = process.must { build.tool("loop"), source.hsm.conf, target.hsm.conf,
    input = source.pin .. "\n" }
  lu.assertStrMatches(out, "40 objects, %d+%.%d+ seconds\n")
  lu.assertEquals(values(target), values(source))
end

local TestRunner = {}

local function run_specs(text, ...)
  local dir = tmp.dir()
  process.must { "mkdir", dir .. "/spec" }
  for _, name in ipairs { "support", "run.lua" } do
    process.must { "ln", "-s", build.root .. "/spec/" .. name, dir .. "/spec/" .. name }
  end
  if text then shell.write(dir .. "/spec/x_spec.lua", text) end
  local done = process.run { "lua5.4", "spec/run.lua", ..., cwd = dir }
  return done, done.out:match("([^\n]*)\n$")
end

function TestRunner.test_the_last_line_and_the_status_say_how_it_went()
  local done, last = run_specs([[local lu = require "luaunit"
    return { TestIt = { test_good = function() end, test_bad = function() lu.assertEquals(1, 2) end,
      test_not_here = function() lu.skip("no tool") end } }]])
  lu.assertEquals({ done.status, last }, { 1, "1 passed, 1 failed, 1 skipped" })
  lu.assertStrContains(done.out, "FAILED   spec/x_spec.lua TestIt.test_bad")
  lu.assertStrContains(done.out, "skipped  spec/x_spec.lua TestIt.test_not_here: no tool")
  done, last = run_specs("return { TestIt = { test_good = function() end } }")
  lu.assertEquals({ done.status, last }, { 0, "1 passed, 0 failed" })
end

function TestRunner.test_nothing_run_is_a_failure()
  lu.assertEquals(run_specs().status, 1)
  local one = "return { TestIt = { test_good = function() end } }"
  lu.assertEquals(run_specs(one, "nosuchtest").status, 1)
  lu.assertEquals(run_specs(one, "x_spec", "TestIt.test_good").status, 0)
end

function TestRunner.test_what_would_not_run_is_refused()
  for _, text in ipairs {
    "return { TestIt = { test_good = function() end, claims = function() end } }",
    "return { It = { test_good = function() end } }", "return { TestIt = {} }", "return {}",
    "return nil", "syntax error", "error('boom')" } do
    local done, last = run_specs(text)
    lu.assertEquals({ done.status, last }, { 1, "0 passed, 1 failed" }, text)
    lu.assertStrContains(done.out, "FAILED   spec/x_spec.lua", text)
  end
end

function TestRunner.test_temporary_directories_go_also_after_a_failure()
  local done = run_specs([[local tmp = require "support.tmp"
    return { TestIt = { test_bad = function() print(tmp.dir()) error({}) end } }]])
  local dir = done.out:match("(/[^\n]+)\n")
  lu.assertNotNil(dir)
  lu.assertEquals(process.run { "test", "-e", dir }.status, 1)
end

return {
  TestProcess = TestProcess,
  TestTerminal = TestTerminal,
  TestStore = TestStore,
  TestObjectFile = TestObjectFile,
  TestDump = TestDump,
  TestLiar = TestLiar,
  TestBench = TestBench,
  TestRunner = TestRunner,
}
