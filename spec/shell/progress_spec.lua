-- SPDX-License-Identifier: MIT
-- The progress line: what it says, how often, and that nothing of it is left.
local lu = require("luaunit")
local build = require("support.build")
local fake = require("shell.fake")
local process = require("support.process")
local scene = require("flow.scene")
local shell = require("support.shell")
local terminal = require("support.terminal")
local tmp = require("support.tmp")
local output = require("keyferry.shell.output")

-- An output whose clock the spec sets; gives also what was drawn, a line each.
local function make(how)
    local clock = { time = 100, columns = 80 }
    how = how or {}
    how.stdout, how.stderr = fake.file(), fake.file()
    how.terminal = how.terminal or function() return true end
    how.now = function() return clock.time end
    how.columns = function() return clock.columns end
    clock.lines = function()
        local lines = {}
        for line in how.stderr.text:gmatch("\r\27%[K([^\r]+)") do
            lines[#lines + 1] = line
        end
        return lines
    end
    return output.new(how), clock, how
end

local TestLine = {}

function TestLine.test_it_tells_how_many_how_fast_and_how_long()
    local out, clock = make()
    out:progress(1, 10000)
    clock.time = 102.285
    out:progress(1234, 10000)
    lu.assertEquals(clock.lines(), { "1 of 10 000 (0 %)",
        "1 234 of 10 000 (12 %), 540/s, 17 s left" })
end

function TestLine.test_a_rate_takes_a_second_and_is_the_mean()
    local out, clock = make()
    out:progress(1, 4)
    clock.time = 100.5
    out:progress(2, 4)
    clock.time = 104
    out:progress(3, 4)
    local lines = clock.lines()
    lu.assertEquals(lines[2], "2 of 4 (50 %)")
    lu.assertEquals(lines[3], "3 of 4 (75 %), 30/min, 2 s left")
end

function TestLine.test_long_times_are_minutes_and_hours()
    local out, clock = make()
    out:progress(0, 100000)
    clock.time = 110
    out:progress(20, 100000)
    lu.assertStrContains(clock.lines()[2], "2.0/s, 13 h 53 min left")
    clock.time = 120
    out:progress(600, 100000)
    lu.assertStrContains(clock.lines()[3], "30/s, 56 min left")
end

function TestLine.test_it_is_drawn_ten_times_a_second()
    local out, clock = make()
    for i = 1, 1000 do
        clock.time = 100 + i / 500
        out:progress(i, 2000)
        out:print("object %d", i)
    end
    lu.assertTrue(#clock.lines() >= 15 and #clock.lines() <= 21, #clock.lines())
end

function TestLine.test_it_is_cut_to_the_width_of_the_terminal()
    local out, clock = make()
    clock.columns = 12
    out:progress(1234, 10000)
    lu.assertEquals(clock.lines(), { "1 234 of 10" })
end

function TestLine.test_lines_come_on_a_line_of_their_own()
    local out, _, how = make()
    out:progress(1, 3)
    out:print("a line")
    lu.assertEquals(how.stdout.text, "a line\n")
    lu.assertEquals(how.stderr.text:sub(-4), "\r\27[K")
end

function TestLine.test_it_stays_while_lines_go_to_a_file()
    local out, _, how = make({ terminal = function(fd) return fd == 2 end })
    out:progress(1, 3)
    out:print("a line")
    lu.assertStrContains(how.stderr.text, "1 of 3", true)
    lu.assertNotEquals(how.stderr.text:sub(-4), "\r\27[K")
    out:close(0)
    lu.assertEquals(how.stderr.text:sub(-4), "\r\27[K")
end

-- Standard error is for people, under --json too; a line of JSON has its line for itself.
function TestLine.test_under_json_it_is_there_and_the_events_stay_whole()
    local out, clock, how = make({ json = true })
    out:progress(1, 3)
    out:event({ event = "object" })
    lu.assertEquals(clock.lines(), { "1 of 3 (33 %)" })
    lu.assertEquals(how.stdout.text, '{"event":"object"}\n')
    lu.assertEquals(how.stderr.text:sub(-4), "\r\27[K")
end

function TestLine.test_another_count_starts_over()
    local out, clock = make()
    out:progress(50, 100)
    clock.time = 102
    out:progress(1, 100)
    lu.assertEquals(clock.lines()[2], "1 of 100 (1 %)")
end

function TestLine.test_not_under_quiet_nor_without_a_terminal()
    for _, how in ipairs({ { quiet = true }, { terminal = function(fd) return fd ~= 2 end } }) do
        local out
        out, _, how = make(how)
        out:progress(1, 2)
        out:close(0)
        lu.assertEquals(how.stderr.text, "")
    end
end

function TestLine.test_what_is_no_count_is_wrong_use()
    local out = make()
    for _, pair in ipairs({ { "1", 2 }, { nil, 2 }, { 1.5, 2 }, { 1 / 0, 2 }, { 0 / 0, 2 },
        { 1 }, { -1, 2 } }) do
        local ok, err = pcall(out.progress, out, pair[1], pair[2])
        lu.assertFalse(ok)
        lu.assertStrContains(err, "progress takes two whole numbers")
    end
end

local TestTerminal = {}

-- Ten steps with a line each, two hundredths of a second apart.
local SLOW = [[
return { name = "slow", summary = "Slow.", category = "reads", run = function(ctx)
    for i = 1, 10 do
        ctx:progress(i, 10)
        ctx:pause(0.12)
        if i % 3 == 0 then ctx:print("line %d", i) end
    end
    return 0 end }
]]

local ENDLESS = [[
return { name = "endless", summary = "Endless.", category = "reads", run = function(ctx)
    local i = 0
    while true do i = i + 1 ctx:progress(i, 1000000000) end end }
]]

local function policy(body)
    local path = tmp.file(body, "policy.lua")
    assert(os.execute("chmod 600 " .. shell.quote(path)))
    return path
end

local function command(...)
    local words = { build.keyferry, ... }
    words.env = { KEYFERRY_HOME = tmp.dir("data"), XDG_CONFIG_HOME = tmp.dir("config"),
        SOFTHSM2_CONF = "/nonexistent" }
    return words
end

function TestTerminal.test_result_lines_stay_whole_and_nothing_is_left()
    local t <close> = terminal.start(command("run", policy(SLOW)))
    local done = t:finish()
    lu.assertEquals(done.status, 0, done.screen)
    lu.assertStrContains(done.output, "5 of 10 (50 %)")
    lu.assertEquals((done.screen:gsub("%s+$", "")),
        "line 3\nline 6\nline 9\n\nCommand Result : 0 (Success)")
end

function TestTerminal.test_a_narrow_terminal_gets_no_second_line()
    local words = command("run", policy(SLOW))
    words.width = 20
    local t <close> = terminal.start(words)
    lu.assertEquals((t:finish().screen:gsub("%s+$", "")),
        "line 3\nline 6\nline 9\n\nCommand Result : 0 (Success)")
end

function TestTerminal.test_ctrl_c_leaves_nothing_behind()
    local t <close> = terminal.start(command("run", policy(ENDLESS)))
    t:wait_for(" of 1 000 000 000 (0 %)")
    t:key("C-c")
    local done = t:finish()
    lu.assertEquals(done.status, 130, done.screen)
    lu.assertTrue(done.restored)
    lu.assertNil(done.screen:find(" of 1 000", 1, true), done.screen)
    lu.assertStrContains(done.screen, "Command Result : 130 (Interrupted)")
end

function TestTerminal.test_not_under_quiet()
    local t <close> = terminal.start(command("--quiet", "run", policy(SLOW)))
    lu.assertNotStrContains(t:finish().output, " of 10")
end

function TestTerminal.test_a_pipe_never_sees_it()
    local done = process.run(command("run", policy(SLOW)))
    lu.assertEquals(done.status, 0, done.out .. done.err)
    lu.assertEquals(done.err, "")
    lu.assertEquals(done.out, "line 3\nline 6\nline 9\n\nCommand Result : 0 (Success)\n")
end

function TestTerminal.test_a_backup_with_a_slow_hook()
    local s = scene.new()
    local path = policy(([[
        local keyferry = require("keyferry")
        return { name = "slow", summary = "Slow.", category = "writes", run = function(ctx)
            local source = assert(keyferry.partition("payments"))
            local session = assert(source:login(keyferry.secret(%q)))
            return ctx:conclude(keyferry.backup{ source = session, plan = true,
                on_progress = function(...) ctx:progress(...) ctx:pause(0.15) end,
                on_result = function(result) ctx:tell(result, source) end }) end }]])
        :format(scene.password))
    local t <close> = terminal.start(s:program({ "run", path }))
    local done = t:finish()
    lu.assertEquals(done.status, 0, done.screen)
    lu.assertStrContains(done.output, "3 of 7 (42 %)")
    lu.assertNil(done.screen:find(" of 7 (", 1, true), done.screen)
    lu.assertStrContains(done.screen, "7 would be cloned")
end

return { TestLine = TestLine, TestTerminal = TestTerminal }
