-- SPDX-License-Identifier: MIT
-- Roles of the configuration: who may run which script.
local lu = require("luaunit")
local build = require("support.build")
local process = require("support.process")
local shell = require("support.shell")
local terminal = require("support.terminal")
local tmp = require("support.tmp")
local roles = require("keyferry.shell.roles")

local USER = shell.lines("id -un")[1]
local GROUP = shell.lines("id -Gn")[1]:match("%S+$")

local home

local function private(path, bytes)
    assert(os.execute("mkdir -p -m 700 " .. shell.quote(path:match("^(.*)/"))))
    shell.write(path, bytes)
    assert(os.execute("chmod 600 " .. shell.quote(path)))
    return path
end

local function command(words)
    table.insert(words, 1, build.keyferry)
    words.env = {
        HOME = home, KEYFERRY_HOME = home .. "/data", XDG_CONFIG_HOME = home .. "/config",
        XDG_DATA_HOME = false, SOFTHSM2_CONF = "/nonexistent",
    }
    return words
end

local function keyferry(...)
    return process.run(command({ ... }))
end

local function configure(text)
    private(home .. "/config/keyferry/config.lua", text)
end

local function policy(fields, top)
    return private(home .. "/policy.lua", ([[%s return { name = "mine", summary = "Mine.",
        category = "writes", %s run = function(ctx) ctx:print("it ran") return 0 end }]])
        :format(top or "", fields))
end

local function runs(done)
    lu.assertEquals(done.status, 0, done.out .. done.err)
end

-- Refused, with these words.
local function refused(done, ...)
    lu.assertEquals(done.status, 5, done.out .. done.err)
    for _, word in ipairs({ ... }) do
        lu.assertStrContains(done.out, word)
    end
end

local TestRoles = {}

function TestRoles.setUp()
    home = tmp.dir("home")
    assert(os.execute("chmod 700 " .. shell.quote(home)))
end

function TestRoles.test_without_roles_everybody_may()
    runs(keyferry("hsm", "list"))
    configure("return { }")
    runs(keyferry("hsm", "create", "-name", "vault"))
    runs(keyferry("run", policy("privileges = { 'nobody-has-it' },")))
end

function TestRoles.test_any_one_of_a_scripts_roles_suffices()
    configure(("return { roles = { monitor = { users = { %q } } } }"):format(USER))
    runs(keyferry("hsm", "list"))
    refused(keyferry("hsm", "create", "-name", "vault"))
    lu.assertFalse(shell.exists(home .. "/data"))
end

function TestRoles.test_a_group_gives_a_role_too()
    configure(("return { roles = { admin = { users = { 'nn' }, groups = { 'gg', %q } } } }")
        :format(GROUP))
    runs(keyferry("hsm", "create", "-name", "vault"))
end

function TestRoles.test_a_users_name_is_no_groups()
    configure("return { roles = { admin = { users = { 'a' }, groups = { 'b' } } } }")
    local configured = { admin = { users = { "a" }, groups = { "b" } } }
    local script = { name = "mine", privileges = { "admin" } }
    lu.assertTrue(roles.check(script, configured, { uid = 7, name = "a", groups = {} }))
    lu.assertTrue(roles.check(script, configured, { uid = 7, groups = { "x", "b" } }))
    local ok, err = roles.check(script, configured, { uid = 7, name = "b", groups = { "a" } })
    lu.assertNil(ok)
    lu.assertEquals(err.code, "KFR_REFUSED")
    lu.assertStrContains(select(2, roles.check(script, configured, { uid = 7, groups = {} })).what,
        "uid 7 (no groups)")
end

function TestRoles.test_a_refusal_says_which_roles_and_who_the_user_is()
    configure("return { roles = { admin = { users = { 'another-one' } } } }")
    refused(keyferry("partition", "backup", "-partition", "p", "-tokenpar", "t", "-serial", "1"),
        "'partition backup' takes the role admin or operator", USER .. " (groups ", GROUP,
        "\n\nCommand Result : 5 (Refused)\n")
end

function TestRoles.test_nothing_is_asked_before()
    configure("return { roles = { admin = { users = { 'another-one' } } } }")
    local t <close> = terminal.start(command({ "partition", "contents", "-partition", "p" }))
    local done = t:finish()
    refused({ status = done.status, out = done.text, err = "" })
    lu.assertNotStrContains(done.text, "enter")
end

function TestRoles.test_help_is_for_everybody()
    configure("return { roles = { admin = { users = { 'another-one' } } } }")
    for _, page in ipairs({ keyferry("hsm", "create", "-help"), keyferry("help", "hsm", "create"),
        keyferry("run", policy("privileges = { 'admin' },"), "-help") }) do
        runs(page)
        lu.assertStrContains(page.out, "User privileges: admin")
        lu.assertStrContains(page.out, "no security boundary")
    end
end

function TestRoles.test_a_file_that_is_run_needs_its_role()
    configure("return { roles = { admin = { users = { 'another-one' } } } }")
    runs(keyferry("run", policy("")))
    refused(keyferry("run", policy(
        "privileges = { 'admin' }, rules = function() print('rules ran') end,")), "role admin")
    lu.assertNotStrContains(keyferry("run", home .. "/policy.lua").out, "ran")
end

function TestRoles.test_a_role_the_configuration_does_not_know_is_nobodys()
    configure(("return { roles = { admin = { users = { %q } } } }"):format(USER))
    local done = keyferry("run", policy("privileges = { 'auditor' },"))
    refused(done, "takes the role auditor")
    lu.assertStrContains(done.err, "no such name")
    runs(keyferry("run", policy("privileges = { 'auditor', 'admin' },")))
end

function TestRoles.test_a_script_cannot_borrow_a_command()
    configure("return { roles = { admin = { users = { 'another-one' } } } }")
    local path = private(home .. "/call.lua", [[return { name = "call", category = "writes",
        summary = "Calls.", run = function(ctx)
        return ctx:run("hsm create", { name = "v" }) end }]])
    refused(keyferry("run", path), "'hsm create' takes the role admin")
end

function TestRoles.test_the_commands_of_the_prompt_need_them_too()
    configure("return { roles = { admin = { users = { 'another-one' } } } }")
    local t <close> = terminal.start(command({}))
    t:wait_for("keyferry:>")
    t:line("hsm create -name vault")
    t:wait_for("takes the role admin")
    t:wait_for("keyferry:>")
    t:line("1 + 41")
    t:wait_for("42")
    t:key("C-d")
    lu.assertEquals(t:finish().status, 0)
    lu.assertFalse(shell.exists(home .. "/data"))
end

-- A role that holds nobody, or a word that is none, must not look as if it guarded something.
function TestRoles.test_what_is_no_role_fails_loudly()
    for text, said in pairs({
        ["{}"] = "roles names no role",
        ["{ { users = { 'a' } } }"] = "roles takes names",
        ["{ admin = {} }"] = "roles.admin has no users and no groups",
        ["{ admin = { users = {} } }"] = "roles.admin has no users and no groups",
        ["{ admin = { user = { 'a' } } }"] = "roles.admin has no field 'user'",
        ["{ admin = { users = 'a' } }"] = "roles.admin.users must be a table",
        ["{ admin = { users = { 5 } } }"] = "roles.admin.users is a list of names",
        ["{ admin = { users = { a = 'b' } } }"] = "roles.admin.users is a list of names",
        ["{ admin = { groups = { '' } } }"] = "roles.admin.groups is a list of names",
        ["{ admin = 'root' }"] = "roles.admin is not a table",
        ["'root'"] = "roles must be a table",
    }) do
        configure("return { roles = " .. text .. " }")
        local done = keyferry("hsm", "list")
        lu.assertEquals(done.status, 2, text .. done.out)
        lu.assertStrContains(done.out, said)
    end
end

function TestRoles.test_a_script_names_its_roles_or_has_no_such_field()
    for _, fields in ipairs({ "{}", "{ admin = true }", "{ 5 }" }) do
        local done = keyferry("run", policy("privileges = " .. fields .. ","))
        lu.assertEquals(done.status, 8)
        lu.assertStrContains(done.out, "privileges is no list of roles")
    end
end

return { TestRoles = TestRoles }
