-- SPDX-License-Identifier: MIT
local lu = require("luaunit")
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
