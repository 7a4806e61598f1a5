-- SPDX-License-Identifier: MIT
local lu = require("luaunit")
local build = require("support.build")
local process = require("support.process")
local scene = require("flow.scene")
local shell = require("support.shell")
local tmp = require("support.tmp")
local help = require("keyferry.shell.help")
local text = require("keyferry.shell.text")

local SCRIPT = {
    name = "partition backup", summary = "Back up a partition.", category = "writes",
    privileges = { "admin", "operator" },
    options = {
        { name = "partition", value = "name", kind = "label", required = true,
            help = "The partition that is backed up." },
        { name = "password", value = "password", kind = "secret", help = "Its password." },
        { name = "add", kind = "flag", help = ("word "):rep(40) },
    },
    examples = { "keyferry partition backup -partition p" },
}

local function whole(lines)
    return table.concat(lines, "\n")
end

return {
    TestHelp = {
        test_the_syntax_says_what_may_be_left_out = function()
            lu.assertStrContains(whole(help.command(SCRIPT)),
                "keyferry partition backup -partition <name> [-password <password>] [-add]")
        end,

        test_every_option_has_its_shortcut = function()
            local page = whole(help.command(SCRIPT))
            lu.assertStrMatches(page, ".*%-partition <name>%s+%-par%s+The partition.*")
            lu.assertStrMatches(page, ".*%-password <password>%s+%-pas%s+Its password.*")
            lu.assertStrMatches(page, ".*%-add%s+%-a%s+word.*")
        end,

        test_no_line_is_wider_than_a_terminal = function()
            for _, line in ipairs(help.command(SCRIPT)) do
                lu.assertTrue(#line <= 80, line)
            end
        end,

        test_a_users_script_that_stands_in_is_named = function()
            local entry = { noun = "partition", verb = "backup", own = true,
                path = "/h/backup.lua", instead_of = "/s/backup.lua", script = SCRIPT }
            lu.assertStrContains(whole(help.command(SCRIPT, entry)),
                "/h/backup.lua stands in for the stock command")
            lu.assertStrContains(whole(help.commands({ entry })),
                "/h/backup.lua stands in for the stock command")
        end,

        test_commands_are_listed_with_their_summaries = function()
            local page = whole(help.commands({
                { noun = "partition", verb = "backup", script = SCRIPT },
                { noun = "token", verb = "list", problem = "it is torn\27[2J" },
            }, { { name = "json", kind = "flag", help = "JSON." } }))
            lu.assertStrContains(page, "partition backup  Back up a partition.")
            lu.assertStrContains(page, "token list        cannot be loaded: it is torn\\x1B[2J")
            lu.assertStrContains(page, "--json")
        end,
    },

    TestStandIn = {
        test_help_says_where_a_copy_goes = function()
            local s = scene.new()
            local page = s:run({ "help", "partition", "backup" }).out
            local stock, own = page:match("\nIts script: (%S+) %(a copy in (%S+) stands in for "
                .. "it%)\n")
            lu.assertStrContains(stock or page, "/scripts/partition/backup.lua")
            lu.assertStrContains(own, "/keyferry/scripts/partition/backup.lua")
        end,

        test_a_copy_with_one_line_changed_is_the_command = function()
            local s = scene.new()
            local page = s:run({ "partition", "backup", "-help" }).out
            local stock, own = page:match("\nIts script: (%S+) %(a copy in (%S+) stands")
            local changed, times = shell.read(stock):gsub(
                "(on_result = function%(result%)) ctx:tell",
                "%1 ctx:print(\"mine: %%s\", result.status) ctx:tell")
            lu.assertEquals(times, 1)
            lu.assertStrContains(own, s.home)
            assert(os.execute("mkdir -p -m 700 " .. shell.quote(own:match("^(.*)/"))))
            shell.write(own, changed)
            assert(os.execute("chmod 600 " .. shell.quote(own)))
            local done = s:backup({})
            lu.assertEquals(done.status, 0, done.out .. done.err)
            lu.assertStrContains(done.out, "\nmine: cloned\n")
            page = s:run({ "help", "partition", "backup" }).out
            lu.assertStrContains(page, "Your own script " .. own
                .. " stands in for the stock command.")
            lu.assertNotStrContains(page, "Its script:")
        end,
    },

    TestGuides = {
        test_help_ends_with_where_the_guides_are = function()
            local page = whole(help.commands({}, { { name = "json", kind = "flag",
                help = "JSON." } }, { { "The Lua library", "/r/lua/README.md" } }))
            lu.assertEquals(page:sub(-46), "\n\nTo read\n  The Lua library:  /r/lua/README.md")
        end,

        -- Put beside a program as make install puts them.
        test_they_are_installed_and_found_there = function()
            local root = tmp.dir("installed")
            process.must({ "make", "-s", "install-tree", "DESTDIR=" .. root, "PREFIX=/usr",
                env = { MAKEFLAGS = false, MAKEOVERRIDES = false } })
            assert(os.execute(("mkdir %s/usr/bin && cp %s %s/usr/bin/keyferry"):format(root,
                shell.quote(build.keyferry), root)))
            local list = process.must({ root .. "/usr/bin/keyferry", "help",
                env = { XDG_CONFIG_HOME = root } })
            for _, name in ipairs({ "scripts/README.md", "scripts/examples", "lua/README.md" }) do
                local is_there = shell.exists(build.root .. "/" .. name)
                local path = root .. "/usr/share/keyferry/" .. name
                local said = list:find("  " .. path .. "\n", 1, true)
                lu.assertEquals(said ~= nil, is_there, name)
            end
        end,
    },

    TestText = {
        test_what_moves_the_cursor_is_shown_and_not_done = function()
            lu.assertEquals(text.clean("a\27[2Jb\r\n"), "a\\x1B[2Jb\\x0D\\x0A")
            lu.assertEquals(text.clean("a\nb", "\n"), "a\nb")
            lu.assertEquals(text.clean("\xC3\xA4\xFF"), "\xC3\xA4\\xFF")
            lu.assertEquals(text.clean("\u{9b}2J"), "\\xC2\\x9B2J")
            lu.assertEquals(text.clean("a\u{202e}b"), "a\\xE2\\x80\\xAEb")
        end,

        test_columns_are_as_wide_as_their_content = function()
            lu.assertEquals(text.columns({ "A", "BB" }, { { "\xC3\xA4\xC3\xB6\xC3\xBC", 1 },
                { nil, "" } }), { "A    BB", "\xC3\xA4\xC3\xB6\xC3\xBC  1", "-    -" })
        end,

        test_a_shell_word_is_one_word = function()
            lu.assertEquals(text.shell_word("/a/b-c.d"), "/a/b-c.d")
            lu.assertEquals(text.shell_word("it's $x"), "'it'\\''s $x'")
            lu.assertEquals(text.shell_word(""), "''")
        end,

        test_the_nearest_name_is_near = function()
            lu.assertEquals(text.nearest("bakcup", { "backup", "restore" }), "backup")
            lu.assertNil(text.nearest("zzz", { "backup", "restore" }))
        end,
    },
}
