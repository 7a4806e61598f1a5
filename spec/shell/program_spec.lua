-- SPDX-License-Identifier: MIT
-- The program as a user starts it: commands, files, Lua, help, and its exit statuses.
local cjson = require("cjson")
local lu = require("luaunit")
local build = require("support.build")
local process = require("support.process")
local shell = require("support.shell")
local tmp = require("support.tmp")

local home

local function keyferry(...)
    local command = { build.keyferry, ... }
    command.env = {
        HOME = home, KEYFERRY_HOME = home .. "/data", XDG_CONFIG_HOME = home .. "/config",
        XDG_DATA_HOME = false, SOFTHSM2_CONF = "/nonexistent", KEYFERRY_PASSWORD = "userpin",
        KEYFERRY_TOKENSOPWD = "sopin123", KEYFERRY_DOMAIN = "d", KEYFERRY_TOKENPW = false,
    }
    return process.run(command)
end

local function lua_input(text)
    local command = { build.keyferry, input = text, env = { HOME = home,
        XDG_CONFIG_HOME = home .. "/config", KEYFERRY_HOME = home .. "/data" } }
    return process.run(command)
end

local function ends(done, status, word)
    lu.assertEquals(done.status, status, done.out .. done.err)
    lu.assertStrContains(done.out, ("\n\nCommand Result : %d (%s)\n"):format(status, word))
end

local function policy(body)
    local path = tmp.file(body, "policy.lua")
    assert(os.execute("chmod 600 " .. shell.quote(path)))
    return path
end

local SAYS = [[
return { name = "mine", summary = "Mine.", category = "reads",
    options = { { name = "word", kind = "string", help = "A word." } },
    run = function(ctx) ctx:print("word %s", ctx.options.word) %s return 0 end }
]]

local TestProgram = {}

function TestProgram.setUp()
    home = tmp.dir("home")
end

function TestProgram.test_a_partition_is_made_listed_and_removed()
    ends(keyferry("hsm", "create", "-name", "vault", "-serial", "496771"), 0, "Success")
    ends(keyferry("partition", "create", "-par", "p1", "-s", "496771"), 0, "Success")
    ends(keyferry("partition", "create", "-par", "p1", "-s", "496771"), 5, "Refused")
    local listed = keyferry("--json", "partition", "list")
    lu.assertEquals(cjson.decode(listed.out:match("^[^\n]*")).label, "p1")
    local contents = keyferry("partition", "contents", "-par", "p1")
    lu.assertStrContains(contents.out, "0 objects")
    local shown = keyferry("partition", "show", "-par", "p1", "-login")
    local domain = keyferry("domain", "show")
    lu.assertStrContains(shown.out, domain.out:match("Check value: (%x+)"))
    ends(keyferry("partition", "delete", "-par", "p1", "-s", "496771"), 5, "Refused")
    ends(keyferry("partition", "delete", "-par", "p1", "-s", "496771", "-f"), 0, "Success")
    ends(keyferry("partition", "show", "-par", "p1"), 6, "Not Found")
end

function TestProgram.test_the_lines_of_hsm_env_are_for_a_shell()
    keyferry("hsm", "create", "-name", "vault", "-path", home .. "/it's here")
    local done = keyferry("hsm", "env", "-name", "vault")
    local path = process.must({ "sh", "-c", done.out .. 'printf %s "$SOFTHSM2_CONF"' })
    lu.assertEquals(path, home .. "/it's here/softhsm2.conf")
end

function TestProgram.test_an_hsm_that_was_not_made_leaves_its_name_free()
    ends(keyferry("hsm", "create", "-name", "vault", "-path", "/proc/no-such-folder"), 7,
        "HSM or System Failure")
    lu.assertEquals(shell.lines("ls -A " .. shell.quote(home .. "/data/hsms")), {})
    ends(keyferry("hsm", "create", "-name", "vault", "-path", home .. "/elsewhere"), 0, "Success")
    lu.assertStrContains(keyferry("hsm", "list").out, home .. "/elsewhere")
end

-- A wrong PIN counts: the variable may be another partition's.
function TestProgram.test_partition_show_tries_no_pin_unasked()
    keyferry("hsm", "create", "-name", "vault", "-serial", "496771")
    ends(keyferry("partition", "create", "-partition", "p1", "-serial", "496771"), 0, "Success")
    local page = keyferry("partition", "show", "-partition", "p1").out
    lu.assertStrContains(page, "Cloning domain:    seen by its owner only (-login)\n")
    lu.assertNotStrContains(page, "Objects:")
    for _, options in ipairs({ { "-login" }, { "-password", "userpin" } }) do
        local done = keyferry("partition", "show", "-partition", "p1", table.unpack(options))
        ends(done, 0, "Success")
        lu.assertStrMatches(done.out, ".*\nCloning domain:    %x+\nObjects:           0\n.*")
    end
    ends(keyferry("partition", "show", "-partition", "p1", "-password", "not it"), 3,
        "Authentication")
end

function TestProgram.test_a_wrong_pin_is_an_authentication_failure()
    keyferry("hsm", "create", "-name", "vault", "-serial", "1")
    keyferry("partition", "create", "-par", "p1", "-s", "1")
    local done = keyferry("partition", "contents", "-par", "p1", "-password", "wrong")
    ends(done, 3, "Authentication")
    lu.assertStrContains(done.out, "CKR_PIN_INCORRECT (0xA0), in C_Login")
    lu.assertStrContains(done.err, "-password on the command line can be seen")
    lu.assertNil((done.out .. done.err):find("wrong\n", 1, true))
end

function TestProgram.test_unknown_commands_are_not_found_and_the_nearest_is_named()
    local done = keyferry("partition", "lisst")
    ends(done, 6, "Not Found")
    lu.assertStrContains(done.err, "did you mean 'partition list'?")
    ends(keyferry("partition"), 2, "Usage")
    lu.assertEquals(keyferry("--bogus").status, 2)
end

function TestProgram.test_help_lists_every_command_and_describes_each()
    local list = keyferry("help").out
    for noun, verb in list:gmatch("\n  (%l+) (%l+)  %u") do
        local page = keyferry(noun, verb, "-help")
        lu.assertEquals(page.status, 0)
        lu.assertStrContains(page.out, "keyferry " .. noun .. " " .. verb)
        lu.assertEquals(keyferry("help", noun, verb).out, page.out)
    end
    lu.assertStrContains(list, "partition backup")
end

function TestProgram.test_a_policy_runs_with_its_options()
    local path = policy(SAYS:gsub("%%s return", "return"))
    lu.assertStrContains(keyferry("run", path, "-w", "x").out, "word x\n")
    ends(keyferry("run", path, "-wrod", "x"), 2, "Usage")
    lu.assertStrContains(keyferry("run", path, "-help").out, "keyferry run " .. path)
end

function TestProgram.test_a_failing_script_is_one_line_and_a_traceback_under_debug()
    local path = policy(SAYS:gsub("%%s return", "error('boom') return"))
    local done = keyferry("run", path)
    ends(done, 8, "Script Failure")
    lu.assertStrContains(done.out, "policy.lua:3: boom")
    lu.assertNil((done.out .. done.err):find("traceback", 1, true))
    lu.assertStrContains(keyferry("--debug", "run", path).err, "stack traceback")
end

function TestProgram.test_what_others_may_write_is_not_run()
    local path = policy("os.execute('touch " .. home .. "/ran') return {}")
    assert(os.execute("chmod 666 " .. shell.quote(path)))
    ends(keyferry("run", path), 5, "Refused")
    lu.assertFalse(shell.exists(home .. "/ran"))
end

function TestProgram.test_a_users_script_stands_in_for_the_stock_command()
    local folder = home .. "/config/keyferry/scripts/hsm"
    assert(os.execute("mkdir -p -m 700 " .. folder .. " && chmod -R go-w " .. home))
    shell.write(folder .. "/list.lua", (SAYS:gsub("mine", "hsm list"):gsub("%%s return",
        "return")))
    assert(os.execute("chmod 600 " .. folder .. "/list.lua"))
    lu.assertStrContains(keyferry("hsm", "list", "-word", "w").out, "word w")
    lu.assertStrContains(keyferry("help", "hsm").out, "stands in for the stock command")
end

function TestProgram.test_lua_is_evaluated()
    lu.assertEquals(keyferry("-e", "1 + 1").out, "2\n")
    lu.assertEquals(lua_input("x = 5 return x, keyferry.version").out:sub(1, 2), "5\t")
    lu.assertEquals(keyferry("-e", "error('boom')").status, 8)
    lu.assertEquals(keyferry("-e", "x =").status, 8)
    lu.assertEquals(keyferry("-e", "return keyferry.hsm('nix')").status, 6)
    lu.assertEquals(lua_input("").status, 0)
end

function TestProgram.test_a_report_that_cannot_be_written_is_a_failure()
    local done = process.run({ "sh", "-c", shell.quote(build.keyferry) .. " help >/dev/full" })
    lu.assertEquals(done.status, 7)
    lu.assertStrContains(done.err, "standard output")
end

function TestProgram.test_a_missing_configuration_file_is_not_found()
    lu.assertEquals(keyferry("--config", home .. "/no.lua", "hsm", "list").status, 6)
end

return { TestProgram = TestProgram }
