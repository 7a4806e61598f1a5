-- SPDX-License-Identifier: MIT
-- Policies that fail: one clear line, what was done, the exit status, and nothing broken.
local lu = require("luaunit")
local cjson = require("cjson")
local build = require("support.build")
local process = require("support.process")
local scene = require("flow.scene")
local shell = require("support.shell")
local terminal = require("support.terminal")
local tmp = require("support.tmp")

local function file(text)
    local path = tmp.file(text, "policy.lua")
    assert(os.execute("chmod 600 " .. shell.quote(path)))
    return path
end

-- A policy whose run has that body; the body begins on line 3.
local function policy(body, fields)
    return file(([[return { name = "mine", summary = "Mine.", category = "writes", %s
run = function(ctx)
%s
end }]]):format(fields or "", body))
end

local function command(...)
    local words = { build.keyferry, ... }
    words.env = { KEYFERRY_HOME = tmp.dir("data"), XDG_CONFIG_HOME = tmp.dir("config"),
        SOFTHSM2_CONF = "/nonexistent" }
    return words
end

-- One line that says why, no traceback, exit status 8.
local function fails(done, said)
    lu.assertEquals(done.status, 8, done.out .. done.err)
    lu.assertStrContains(done.out, "failed: ")
    lu.assertStrContains(done.out, said)
    lu.assertStrContains(done.out, "\n\nCommand Result : 8 (Script Failure)\n")
    lu.assertNil((done.out .. done.err):find("traceback", 1, true), done.out .. done.err)
    lu.assertNil((done.out .. done.err):find("table: 0x", 1, true), done.out .. done.err)
    lu.assertEquals(select(2, done.err:gsub("\n", "")), 1, done.err)
end

local TestThrown = {}

function TestThrown.test_an_error_of_its_own()
    local path = policy("error('boom')")
    fails(process.run(command("run", path)), "policy.lua:3: boom")
    local done = process.run(command("--debug", "run", path))
    lu.assertEquals(done.status, 8)
    lu.assertStrContains(done.err, "stack traceback")
end

function TestThrown.test_whatever_is_thrown_is_one_line()
    for body, said in pairs({
        ["error(nil)"] = "nil was thrown",
        ["error({})"] = "a table without a text was thrown",
        ["error(function() end)"] = "function",
        ["error(setmetatable({}, { __tostring = function() error('x') end }))"] =
            "an error that cannot be shown",
        ["error(setmetatable({}, { __tostring = function() return {} end }))"] =
            "an error that cannot be shown",
        ["error(setmetatable({}, { __index = function() error('x') end }))"] =
            "a table without a text was thrown",
        ["error(setmetatable({ code = 'X' }, { __tostring = function() error('x') end }))"] =
            "an error that cannot be shown",
        ["error('one\\ntwo\\27[2J')"] = "policy.lua:3: one\n",
        ["return nil, 'because of it'"] = "because of it",
        ["return nil, setmetatable({ code = 'X' }, { __tostring = error })"] =
            "an error that cannot be shown",
        ["return nil, { code = 'KFR_SCRIPT', what = {}, hint = {} }"] = "a table without a text",
        ["local e = require('keyferry').error{ code = 'KFR_SCRIPT', what = 'w' } e.hint = {} " ..
            "error(e)"] = "w",
    }) do
        fails(process.run(command("run", policy(body))), said)
    end
end

function TestThrown.test_no_status_is_no_success()
    for _, body in ipairs({ "", "return nil", "return '0'", "return 256", "return -1",
        "return 0.5", "return false, 'x'", "return {}" }) do
        fails(process.run(command("run", policy(body))), "the script returned no status")
    end
end

function TestThrown.test_recursion_without_an_end()
    for _, body in ipairs({
        "local function f() return 1 + f() end return f()",
        "local function f() return (string.gsub('a', '.', f)) end return f()",
        "local t = setmetatable({}, {}) getmetatable(t).__index = function(s, k) " ..
            "return s[k .. 1] end return t.x",
        "local function f() return 1 + f() end local _, e = xpcall(f, f) error(e, 0)",
    }) do
        fails(process.run(command("run", policy(body))), "")
    end
    fails(process.run(command("run", policy("local function f() pcall(f) end f()"))),
        "the script returned no status")
    local done = process.run(command("--json", "run",
        policy("local t = {} t.t = t ctx:event(t) return 0")))
    lu.assertEquals(done.status, 8)
    lu.assertStrContains(done.out, "stack overflow")
end

function TestThrown.test_before_it_runs()
    fails(process.run(command("run", file("error(nil)"))), "nil was thrown")
    fails(process.run(command("run", file("error({})"))), "a table without a text was thrown")
    fails(process.run(command("run",
        file("error(setmetatable({}, { __tostring = error }))"))), "cannot be shown")
    fails(process.run(command("run",
        file("return setmetatable({}, { __index = function() error('x') end })"))), ":1: x")
    fails(process.run(command("run", policy("return 0", "rules = function() error({}) end,"))),
        "a table without a text was thrown")
    fails(process.run(command("run", policy("return 0", "rules = function() return 5 end,"))),
        "rules gives a sentence or nil")
end

function TestThrown.test_in_a_coroutine_and_while_closing()
    fails(process.run(command("run", policy("coroutine.wrap(function() error('in it') end)()"))),
        "in it")
    fails(process.run(command("run", policy("coroutine.yield() return 0"))), "yield")
    fails(process.run(command("run", policy([[
        local x <close> = setmetatable({}, { __close = function() error("at the end") end })
        return 0]]))), "at the end")
end

local TestBroken = {}

function TestBroken.test_globals_are_not_made()
    fails(process.run(command("run", policy("x = 5 return 0"))),
        'policy.lua:3: assignment to the global "x" (write local)')
    fails(process.run(command("run", file("local a = 1\nfunction helper() end return {}"))),
        ':2: assignment to the global "helper"')
end

function TestBroken.test_what_is_lua_s_own_stays()
    for name, body in pairs({
        ["string.format"] = "string.format = nil", ["table.concat"] = "table.concat = print",
        ["io.write"] = "io.write = nil", ["utf8.len"] = "function utf8.len() end",
        ["math.floor"] = "math.floor = 5",
    }) do
        fails(process.run(command("run", policy(body .. " return 0"))),
            "policy.lua:3: assignment to " .. name)
    end
    fails(process.run(command("run", policy("debug.sethook(function() end, 'l') return 0"))),
        "a script sets no hook")
end

-- Its own names are the script's alone.
function TestBroken.test_what_it_redefines_is_its_own()
    for _, body in ipairs({
        "print = function() end", "rawset(_G, 'print', nil)", "os.getenv = nil",
        "tostring = nil", "error = nil pcall = nil", "getmetatable('').__index = nil",
        "coroutine.create = nil", "_G.string = nil", "rawset(string, 'format', nil)",
    }) do
        local done = process.run(command("run", policy(body .. " ctx:print('%s it', 'did') " ..
            "return 0")))
        lu.assertEquals(done.status, 0, body .. done.out .. done.err)
        lu.assertStrContains(done.out, "did it\n", body)
    end
end

function TestBroken.test_what_it_adds_to_strings_is_there()
    local done = process.run(command("run", policy([[
        function string.shout(s) return s:upper() .. "!" end
        local n = 0
        for _ in pairs(string) do n = n + 1 end
        ctx:print("%s %s", ("hey"):shout(), n > 10) return 0]])))
    lu.assertStrContains(done.out, "HEY! true\n")
end

function TestBroken.test_a_ctx_that_was_broken()
    fails(process.run(command("run", policy("ctx.output = nil ctx:print('x') return 0"))), "output")
    fails(process.run(command("run", policy("ctx.finish = 5 return 0"))), "finish")
end

function TestBroken.test_wrong_use_of_ctx_is_told_at_its_line()
    for body, said in pairs({
        ["ctx:print('%d', 'x')"] = "policy.lua:3: bad argument #2",
        ["ctx:progress('x', 2)"] = "policy.lua:3: progress takes two whole numbers",
        ["ctx:pause('x')"] = "policy.lua:3: pause takes a number",
        ["ctx:pause(-1)"] = "policy.lua:3: pause takes a number",
        ["ctx:ask()"] = "policy.lua:3: ask takes a question",
        ["ctx:run(5)"] = "policy.lua:3: run takes the name of a command",
        ["ctx:run('hsm list', 5)"] = "policy.lua:3: run takes options by name",
        ["ctx:run('hsm show', { 'vault' })"] = "policy.lua:3: run takes options by name",
        ["ctx:run('hsm show', { name = print })"] = "policy.lua:3: run: what is given for the "
            .. "option 'name' is none of",
        ["ctx:run('hsm show', { name = io.stdout })"] = "policy.lua:3: run: what is given",
        ["ctx:run('hsm show', { name = {} })"] = "policy.lua:3: run: what is given",
        ["ctx:tell()"] = "policy.lua:3: tell takes a result",
        ["ctx:tell({ object = {}, status = 'cloned' })"] = "policy.lua:3: tell takes the partition",
        ["ctx:conclude()"] = "policy.lua:3: conclude takes the report",
        ["ctx:confirm('x')"] = "policy.lua:3: confirm takes lines",
        ["ctx:finish('x')"] = "policy.lua:3: finish takes a table",
        ["ctx:event('x')"] = "policy.lua:3: event takes a table",
        ["ctx:columns('x')"] = "policy.lua:3: columns takes the titles and the rows",
        ["ctx:fields('x')"] = "policy.lua:3: fields takes rows",
        ["ctx:secret('x')"] = 'policy.lua:3: the script has no option "x"',
        ["ctx.print('x')"] = "policy.lua:3: write ctx:print, with a colon",
        ["ctx.event{ event = 'x' }"] = "policy.lua:3: write ctx:event, with a colon",
    }) do
        fails(process.run(command("run", policy(body .. " return 0"))), said)
    end
end

local TestExit = {}

function TestExit.test_it_ends_the_command_with_its_result()
    for body, status in pairs({ ["os.exit(3)"] = 3, ["os.exit(false)"] = 1, ["os.exit(0)"] = 0,
        ["os.exit(true)"] = 0, ["os.exit()"] = 0, ["os.exit(77, false)"] = 77 }) do
        local done = process.run(command("run", policy("ctx:print('before') " .. body)))
        lu.assertEquals(done.status, status, body)
        lu.assertStrContains(done.out, "before\n")
        lu.assertStrContains(done.out, ("\n\nCommand Result : %d ("):format(status))
    end
    local done = process.run(command("--json", "run", policy("os.exit(3)")))
    lu.assertEquals(cjson.decode(done.out).exit, 3)
    lu.assertEquals(process.run(command("run", file("os.exit(4)"))).status, 4)
    lu.assertEquals(process.run(command("-e", "os.exit(5)")).status, 5)
end

local function own_command(noun, verb, body)
    local home = tmp.dir("home")
    local folder = home .. "/keyferry/scripts/" .. noun
    assert(os.execute("chmod 700 " .. home .. " && mkdir -p -m 700 " .. folder))
    shell.write(folder .. "/" .. verb .. ".lua", ([[return { name = "%s %s", summary = "Mine.",
        category = "writes", run = function(ctx) %s end }]]):format(noun, verb, body))
    assert(os.execute("chmod -R go-w " .. home))
    return home
end

function TestExit.test_in_a_command_that_another_runs_both_end()
    local words = command("run", policy("ctx:run('my exit') return 0"))
    words.env.XDG_CONFIG_HOME = own_command("my", "exit", "os.exit(9)")
    local done = process.run(words)
    lu.assertEquals(done.status, 9, done.out .. done.err)
    lu.assertStrContains(done.out, "'my exit' failed: the script called os.exit(9)")
    lu.assertStrContains(done.out, "'mine' failed: the script called os.exit(9)")
end

function TestExit.test_a_failure_that_was_told_is_not_left_as_a_success()
    local words
    local done = process.run(command("run",
        policy("ctx:finish{ status = 1, reason = 'one of two' } os.exit(0)")))
    lu.assertEquals(done.status, 1, done.out .. done.err)
    lu.assertEquals(done.out,
        "'mine' failed: one of two\n\nCommand Result : 1 (Partial)\n")
    words = command("run", policy("ctx:run('my half') return 0"))
    words.env.XDG_CONFIG_HOME = own_command("my", "half",
        "ctx:finish{ status = 1, reason = 'one of two' } os.exit(0)")
    done = process.run(words)
    lu.assertEquals(done.status, 1, done.out .. done.err)
    lu.assertStrContains(done.out, "'my half' failed: one of two\n")
    lu.assertStrContains(done.out, "'mine' failed: the script called os.exit(0)\n")
end

function TestExit.test_the_last_result_is_the_exit_status()
    local done = process.run(command("run", policy("ctx:finish{ status = 0 } os.exit(3)")))
    lu.assertEquals(done.status, 3, done.out .. done.err)
    lu.assertStrContains(done.out, "'mine' failed: the script called os.exit(3)\n\n" ..
        "Command Result : 3 (Authentication)\n")
    done = process.run(command("run", policy("ctx:finish{ status = 3 } os.exit(3)")))
    lu.assertEquals(select(2, done.out:gsub("Command Result", "")), 1, done.out)
end

function TestExit.test_a_command_that_runs_itself_comes_to_an_end()
    local words = command("my", "self")
    words.env.XDG_CONFIG_HOME = own_command("my", "self", "return ctx:run('my self')")
    local done = process.run(words)
    lu.assertEquals(done.status, 8, done.out .. done.err)
    lu.assertNil((done.out .. done.err):find("traceback", 1, true))
end

function TestExit.test_what_is_no_status_is_wrong_use()
    for _, value in ipairs({ "256", "-1", "'x'", "{}", "1.5" }) do
        fails(process.run(command("run", policy("os.exit(" .. value .. ")"))),
            "policy.lua:3: os.exit takes a status")
    end
end

function TestExit.test_finalizers_run()
    local mark = tmp.dir("mark") .. "/closed"
    local done = process.run(command("run", policy(([[
        local keep = setmetatable({}, { __gc = function() io.open(%q, "w"):close() end })
        local open <close> = setmetatable({}, { __close = function() ctx.keep = keep end })
        os.exit(0)]]):format(mark))))
    lu.assertEquals(done.status, 0, done.err)
    lu.assertTrue(shell.exists(mark))
end

function TestExit.test_a_report_that_cannot_be_written_is_a_failure()
    for _, body in ipairs({ "ctx:print('x') os.exit(0)", "os.exit(0)", "return 0" }) do
        local words = command("run", policy(body))
        local done = process.run({ "sh", "-c", shell.words(words) .. " >/dev/full",
            env = words.env })
        lu.assertEquals(done.status, 7, done.err)
        lu.assertStrContains(done.err, "standard output")
    end
end

function TestExit.test_the_terminal_is_as_before()
    local t <close> = terminal.start(command("run", policy([[
        ctx:progress(1, 5)
        ctx:ask("Well?")
        ctx:progress(2, 5)
        os.exit(3)]])))
    t:wait_for("Well?")
    t:line("yes")
    local done = t:finish()
    lu.assertEquals(done.status, 3, done.screen)
    lu.assertTrue(done.restored)
    lu.assertNil(done.screen:find(" of 5", 1, true), done.screen)
end

function TestExit.test_at_the_prompt()
    local t <close> = terminal.start(command())
    t:wait_for("keyferry:>")
    t:line("os.exit(6)")
    local done = t:finish()
    lu.assertEquals(done.status, 6, done.screen)
    lu.assertTrue(done.restored)
end

local TestAsking = {}

function TestAsking.test_a_line_is_asked_and_given()
    local t <close> = terminal.start(command("run",
        policy("ctx:print('got %s', assert(ctx:ask('Which one?'))) return 0")))
    t:wait_for("Which one?")
    t:wait_for("> ")
    t:line("that one")
    local done = t:finish()
    lu.assertEquals(done.status, 0, done.screen)
    lu.assertStrContains(done.screen, "got that one")
end

function TestAsking.test_without_a_terminal_it_is_refused()
    local done = process.run(command("run",
        policy("local text, err = ctx:ask('Which one?') return text and 0, err")))
    lu.assertEquals(done.status, 5, done.out)
    lu.assertStrContains(done.out, "no terminal to ask on: Which one?")
end

function TestAsking.test_ctrl_c_ends_a_pause()
    local t <close> = terminal.start(command("run",
        policy("ctx:print('it waits') assert(ctx:pause(60)) return 0")))
    t:wait_for("it waits")
    t:key("C-c")
    local done = t:finish(5)
    lu.assertEquals(done.status, 130, done.screen)
end

local TestBackup = {}

-- A policy that backs "payments" up and does `more` in hooks.
local function backup(more, s, globals)
    local words = globals or {}
    table.insert(words, "run")
    table.insert(words, policy(([[
        local keyferry = require("keyferry")
        local partition = assert(keyferry.partition("payments"))
        local target = assert(assert(keyferry.hsm("vault")):partition("backup"))
        local told = 0
        local report = keyferry.backup{ mode = "add",
            source = assert(partition:login(keyferry.secret(%q))),
            target = assert(target:login(keyferry.secret(%q), { writable = true })),
            on_result = function(result) ctx:tell(result, partition) told = told + 1 end,
            %s }
        return ctx:conclude(report)]]):format(scene.password, scene.tokenpw, more)))
    return s:run(words)
end

function TestBackup.test_any_hook_that_throws_is_one_line_and_leaves_the_target_whole()
    local s = scene.new("backed")
    local before = s:snapshot()
    for _, name in ipairs({ "select", "on_exists", "on_progress" }) do
        fails(backup(name .. " = function() error('my mistake') end", s),
            "policy.lua:11: my mistake")
        fails(backup(name .. " = function() error({}) end", s), "a table without a text")
    end
    lu.assertEquals(s:changes(before), {})
end

function TestBackup.test_what_was_cloned_before_is_said()
    local s = scene.new("backed")
    s:source():rsa("new", "77")
    local done = backup("on_result = function(result) ctx:tell(result, partition) " ..
        "if result.status == 'cloned' then error('my mistake') end end", s)
    lu.assertEquals(done.status, 8, done.out .. done.err)
    lu.assertStrMatches(done.out, ".*\n1 cloned[^\n]*\n'mine' failed: .*")
    lu.assertStrContains(done.err, "What was cloned is on the target.")
    lu.assertStrContains(table.concat(scene.labels(s:target()), " "), "new")
end

function TestBackup.test_results_so_far_are_counted()
    local s = scene.new("backed")
    local hook = "on_result = function(result) ctx:tell(result, partition) told = told + 1 " ..
        "if told == 3 then error('my mistake') end end"
    local done = backup(hook, s)
    lu.assertEquals(done.status, 8, done.out .. done.err)
    lu.assertEquals(scene.counts(done.out).exists, 3)
    lu.assertStrContains(done.out, "\n0 cloned, 3 already there\n'mine' failed: ")
    lu.assertStrContains(done.out, "my mistake")
    done = backup(hook, s, { "--json" })
    local last = cjson.decode(done.out:match("([^\n]+)\n$"))
    lu.assertEquals({ last.exists, last.exit, last.status }, { 3, 8, "failed" })
end

function TestBackup.test_exit_in_a_hook_says_it_too_and_leaves_the_target_whole()
    local s = scene.new("backed")
    local before = s:snapshot()
    local done = backup("on_result = function(result) ctx:tell(result, partition) " ..
        "os.exit(9) end", s)
    lu.assertEquals(done.status, 9, done.out .. done.err)
    lu.assertStrContains(done.out, "\n0 cloned, 1 already there\n'mine' failed: ")
    lu.assertEquals(s:changes(before), {})
    lu.assertEquals(s:backup({ "-add" }).status, 0)
end

-- An empty partition of the backup's name would pass for one.
function TestBackup.test_exit_in_a_hook_takes_back_the_partition_that_was_made()
    local s = scene.new()
    local before = s:snapshot()
    local stock = shell.read("scripts/partition/backup.lua")
    for _, exit in ipairs({ "os.exit(9)", "coroutine.wrap(os.exit)(9)" }) do
        local text, times = stock:gsub("(on_progress = function%(done, total%)) [^\n]* end,",
            "%1 if done == 3 then " .. exit .. " end end,")
        lu.assertEquals(times, 1)
        local words = { "run", file(text), "-partition", "payments", "-tokenpar", "backup",
            "-serial", scene.serial, env = scene.secrets() }
        local done = s:run(words)
        lu.assertEquals(done.status, 9, done.out .. done.err)
        lu.assertStrContains(done.err, 'Partition "backup" has been removed again.')
        lu.assertEquals(s:changes(before), {}, exit)
    end
    lu.assertEquals(s:backup({}).status, 0)
end

-- The run is in a coroutine, os.exit is not the thread that closes.
function TestBackup.test_exit_in_a_backup_in_a_coroutine_takes_it_back_too()
    local s = scene.new()
    local before = s:snapshot()
    local text, times = shell.read("scripts/partition/backup.lua"):gsub(
        "ctx:conclude%(backup%(ctx, found%),",
        "ctx:conclude(coroutine.wrap(backup)(ctx, found),")
    lu.assertEquals(times, 1)
    text, times = text:gsub("(on_progress = function%(done, total%)) [^\n]* end,",
        "%1 os.exit(9) end,")
    lu.assertEquals(times, 1)
    local done = s:run({ "run", file(text), "-partition", "payments", "-tokenpar", "backup",
        "-serial", scene.serial, env = scene.secrets() })
    lu.assertEquals(done.status, 9, done.out .. done.err)
    lu.assertEquals(s:changes(before), {})
end

-- Nothing is told object by object, and 64 are durable when the hook fails. A token names its
-- objects in no order: how many of those that were there come before the 64th is chance.
function TestBackup.test_what_was_cloned_is_counted_without_a_line_for_each()
    for _, json in ipairs({ false, true }) do
        for body, status in pairs({ ["error('my mistake')"] = 8, ["os.exit(9)"] = 9 }) do
            local s = scene.new("backed")
            s:inside("payments", [[for i = 1, 70 do
                assert(session:create{ class = "data", label = "note " .. i, token = true,
                    private = true, value = "text " .. i }) end]])
            local done = backup("on_result = nil, on_progress = function(done) " ..
                "if done == 77 then " .. body .. " end end", s, json and { "--json" } or {})
            lu.assertEquals(done.status, status, done.out .. done.err)
            local cloned = #scene.labels(s:target()) - 7
            lu.assertEquals(cloned, 64)
            if json then
                local last = cjson.decode(done.out:match("([^\n]+)\n$"))
                lu.assertEquals({ last.cloned, last.failed, last.exit }, { 64, 0, status })
            else
                lu.assertStrMatches(done.out, "64 cloned[^\n]*\n'mine' failed: .*")
            end
        end
    end
end

-- One that was caught, or that an earlier command had, is not this failure's.
function TestBackup.test_counts_are_those_of_the_command_that_fails()
    local s = scene.new("backed")
    local nested = policy("ctx:run('my half') error('after it')")
    local words = { "run", nested, env = { XDG_CONFIG_HOME = own_command("my", "half",
        ("local keyferry = require('keyferry') keyferry.backup{ plan = true, source = " ..
        "assert(assert(keyferry.partition('payments')):login(keyferry.secret(%q))), " ..
        "select = function() error('first') end } return 0"):format(scene.password)) } }
    local done = s:run(words)
    lu.assertEquals(done.status, 8, done.out .. done.err)
    lu.assertEquals(select(2, done.out:gsub("0 would be cloned", "")), 1, done.out)
    lu.assertStrContains(done.out, "Command Result : 8 (Script Failure)\n'mine' failed: ")
end

function TestBackup.test_counts_are_said_once()
    local s = scene.new("backed")
    local done = backup("} ctx:conclude(report) error('after it') local _ = {", s)
    lu.assertEquals(done.status, 8)
    lu.assertEquals(select(2, done.out:gsub("0 cloned", "")), 1, done.out)
    lu.assertStrContains(done.out, "after it")
end

return { TestThrown = TestThrown, TestBroken = TestBroken, TestExit = TestExit,
    TestAsking = TestAsking, TestBackup = TestBackup }
