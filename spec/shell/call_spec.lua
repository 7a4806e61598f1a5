-- SPDX-License-Identifier: MIT
-- ctx:run: a command that another one runs; and policies that take two people.
local lu = require("luaunit")
local cjson = require("cjson")
local scene = require("flow.scene")
local shell = require("support.shell")
local terminal = require("support.terminal")
local tmp = require("support.tmp")

local function private(path, bytes)
    assert(os.execute("mkdir -p -m 700 " .. shell.quote(path:match("^(.*)/"))))
    shell.write(path, bytes)
    assert(os.execute("chmod 600 " .. shell.quote(path)))
    return path
end

local function policy(body, fields)
    return private(tmp.dir("policy") .. "/policy.lua", ([[local keyferry = require("keyferry")
        return { name = "mine", summary = "Mine.", category = "writes", %s
        run = function(ctx) %s end }]]):format(fields or "", body))
end

local BACKUP = [[return ctx:run("partition backup", { partition = "payments", tokenpar = "backup",
    serial = %q, class = { "private_key", "public_key" },
    password = keyferry.secret(%q), tokenpw = keyferry.secret(%q),
    tokensopwd = keyferry.secret(%q), domain = keyferry.secret(%q) })]]

local function backup()
    return BACKUP:format(scene.serial, scene.password, scene.tokenpw, scene.sopw, scene.domain)
end

local TestRun = {}

function TestRun.test_a_command_gets_its_options_by_name_and_gives_its_status()
    local s = scene.new()
    local done = s:run({ "run", policy(backup()) })
    lu.assertEquals(done.status, 0, done.out .. done.err)
    lu.assertStrContains(done.out, "4 cloned")
    lu.assertStrContains(done.out, "'partition backup' successful.\n\n"
        .. "Command Result : 0 (Success)\n'mine' successful.\n\nCommand Result : 0 (Success)\n")
    lu.assertEquals(done.err, "") -- a secret of a script is in no process list
    local labels = scene.labels(s:target())
    lu.assertEquals(labels, { "sign", "sign", "tls-web", "tls-web" })
    done = s:run({ "run", policy(backup()) }) -- neither add nor replace
    lu.assertEquals(done.status, 5, done.out .. done.err)
end

function TestRun.test_each_event_names_its_command()
    local done = scene.new():run({ "--json", "run", policy("return ctx:run('hsm list')") })
    local names = {}
    for line in done.out:gmatch("[^\n]+") do
        local event = cjson.decode(line)
        names[#names + 1] = event.event .. " of " .. event.command
    end
    lu.assertEquals(names, { "hsm of hsm list", "hsm of hsm list", "result of hsm list",
        "result of mine" })
end

function TestRun.test_what_the_command_line_refuses_is_refused()
    local s = scene.new()
    local before = s:snapshot()
    for body, said in pairs({
        ["ctx:run('hsm show', { nome = 'vault' })"] = "there is no option -nome",
        ["ctx:run('hsm show')"] = "-name is missing",
        ["ctx:run('hsm show', { name = true })"] = "needs a value",
        ["ctx:run('partition backup', { add = 'yes' })"] = "option -add takes no value",
        ["ctx:run('partition backup', { partition = 'p', tokenpar = 't', serial = '1', "
            .. "add = true, replace = true })"] = "-add and -replace exclude each other",
        ["ctx:run('partition backup', { class = { 'nothing' } })"] =
            "option -class: the value is one of",
        -- else there would be an HSM of the name "secret", and a login with that word
        ["ctx:run('hsm create', { name = keyferry.secret('x') })"] = "option -name takes no such",
        ["ctx:run('partition contents', { partition = 'payments', pas = keyferry.secret('x') })"] =
            "option -pas takes no such value",
    }) do
        local done = s:run({ "run", policy("return " .. body) })
        lu.assertEquals(done.status, 2, body .. done.out .. done.err)
        lu.assertStrContains(done.out, said)
    end
    lu.assertEquals(s:changes(before), {})
    local done = s:run({ "run", policy("return ctx:run('hsm nothing')") })
    lu.assertEquals(done.status, 6, done.out .. done.err)
end

function TestRun.test_options_that_are_false_or_nil_are_not_given()
    local done = scene.new():run({ "run",
        policy("return ctx:run('partition list', { serial = ctx.options.serial or false })") })
    lu.assertEquals(done.status, 0, done.out .. done.err)
    lu.assertStrContains(done.out, "payments")
end

function TestRun.test_a_script_of_the_users_own_stands_in_here_too()
    local s = scene.new()
    private(s.home .. "/config/keyferry/scripts/hsm/list.lua", [[return { name = "hsm list",
        summary = "Mine.", category = "reads",
        run = function(ctx) ctx:print("my list") return 0 end }]])
    local done = s:run({ "run", policy("return ctx:run('hsm list')") })
    lu.assertStrContains(done.out, "my list\n")
end

local TestTwoPeople = {}

local HALVES = [[options = {
    { name = "first", kind = "secret", prompt = "First half:", help = "Half a PIN." },
    { name = "second", kind = "secret", prompt = "Second half:", help = "Half a PIN." } },]]

local LOGIN = [[
    local partition = assert(keyferry.partition("payments"))
    local pin = assert(ctx:secret("first")) .. assert(ctx:secret("second"))
    local session <close> = assert(partition:login(pin))
    ctx:print("%d objects", #session:find())
    return 0]]

function TestTwoPeople.test_each_types_half_of_the_pin()
    local half = #scene.password // 2
    local t <close> = terminal.start(scene.new():program({ "run", policy(LOGIN, HALVES) }))
    t:wait_for("First half:")
    t:wait_for("> ")
    t:line(scene.password:sub(1, half))
    t:wait_for("Second half:")
    t:wait_for("> ")
    t:line(scene.password:sub(half + 1))
    local done = t:finish()
    lu.assertEquals(done.status, 0, done.screen)
    lu.assertStrContains(done.screen, "7 objects")
end

function TestTwoPeople.test_one_half_is_no_pin()
    local words = { "run", policy(LOGIN, HALVES), env = { KEYFERRY_FIRST = scene.password:sub(1, 4),
        KEYFERRY_SECOND = scene.password:sub(1, 4) } }
    local done = scene.new():run(words)
    lu.assertEquals(done.status, 3, done.out .. done.err)
end

local CONFIRM = [[
    local seen = {}
    for _ = 1, 2 do
        local name = assert(ctx:ask("Who agrees to this backup?"))
        if not ({ ann = true, ben = true })[name] or seen[name] then
            error(keyferry.error{ code = "KFR_REFUSED", what = "two of them have to agree" }, 0)
        end
        seen[name] = true
    end
    ]]

function TestTwoPeople.test_two_have_to_agree_before_anything_is_opened()
    for answers, status in pairs({ [{ "ann", "ben" }] = 0, [{ "ann", "ann" }] = 5,
        [{ "ann", "eve" }] = 5 }) do
        local s = scene.new()
        local before = s:snapshot()
        local t <close> = terminal.start(s:program({ "run", policy(CONFIRM .. backup()) }))
        for _, name in ipairs(answers) do
            t:wait_for("Who agrees to this backup?")
            t:wait_for("> ")
            t:line(name)
        end
        local done = t:finish()
        lu.assertEquals(done.status, status, done.screen)
        lu.assertEquals(next(s:changes(before)) == nil, status ~= 0)
    end
end

return { TestRun = TestRun, TestTwoPeople = TestTwoPeople }
