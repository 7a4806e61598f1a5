-- SPDX-License-Identifier: MIT
local lu = require("luaunit")
local options = require("keyferry.shell.options")

-- The options of partition backup, as on the reference page.
local BACKUP = {
    { name = "partition", kind = "label", required = true, help = "" },
    { name = "tokenpar", kind = "label", required = true, help = "" },
    { name = "serial", kind = "serial", required = true, help = "" },
    { name = "password", kind = "secret", max = 255, help = "" },
    { name = "tokensopwd", kind = "secret", help = "" },
    { name = "domain", kind = "secret", help = "" },
    { name = "defaultdomain", kind = "flag", help = "" },
    { name = "tokenpw", kind = "secret", help = "" },
    { name = "add", kind = "flag", help = "" },
    { name = "replace", kind = "flag", help = "" },
    { name = "force", kind = "flag", help = "" },
    { name = "match", kind = "string", help = "" },
    { name = "class", kind = "list", choices = { "private_key", "data" }, help = "" },
    { name = "verify", kind = "flag", help = "" },
    { name = "onerror", kind = "choice", choices = { "continue", "stop" }, help = "" },
    { name = "plan", kind = "flag", help = "" },
    { name = "engine", kind = "string", help = "" },
}

local FREE = {} -- the same, nothing required
for i, option in ipairs(BACKUP) do
    FREE[i] = { name = option.name, kind = option.kind, choices = option.choices,
        max = option.max, help = "" }
end

local function values(...)
    local parsed, problem = options.parse(FREE, { ... })
    lu.assertNil(problem)
    return parsed.values
end

local function refused(spec, words, ...)
    local parsed, problem, hint = options.parse(spec, words)
    lu.assertNil(parsed)
    local said = problem .. " / " .. (hint or "")
    for _, part in ipairs({ ... }) do
        lu.assertStrContains(said, part)
    end
    return said
end

return {
    TestOptions = {
        test_three_spellings_are_one = function()
            for _, words in ipairs({ { "-partition", "p" }, { "-partition=p" },
                { "--partition", "p" }, { "--partition=p" } }) do
                lu.assertEquals(values(table.unpack(words)), { partition = "p" })
            end
        end,

        test_an_inline_value_may_hold_anything = function()
            lu.assertEquals(values("-match=-a=b").match, "-a=b")
            lu.assertEquals(values("-match=a\nb").match, "a\nb")
        end,

        test_the_shortcuts_of_the_reference_page_mean_what_they_say = function()
            for short, name in pairs({ par = "partition", tokenpa = "tokenpar", s = "serial",
                pas = "password", tokens = "tokensopwd", ["do"] = "domain",
                de = "defaultdomain", tokenpw = "tokenpw", a = "add", r = "replace",
                f = "force" }) do
                local words = { "-" .. short, "v" }
                local flag = name == "defaultdomain" or name == "add" or name == "replace"
                    or name == "force"
                words[2] = not flag and "v" or nil
                lu.assertNotNil(values(table.unpack(words))[name], short)
            end
        end,

        test_the_exact_name_wins_over_longer_ones = function()
            local spec = { { name = "pass", kind = "flag", help = "" },
                { name = "password", kind = "flag", help = "" } }
            lu.assertEquals(options.parse(spec, { "-pass" }).values, { pass = true })
            lu.assertEquals(options.shortcut(spec, "pass"), "pass")
            lu.assertEquals(options.shortcut(spec, "password"), "passw")
        end,

        test_a_declared_shortcut_wins_over_longer_names_and_not_over_its_own = function()
            local spec = { { name = "replace", kind = "flag", shortcut = "r", help = "" },
                { name = "report", kind = "flag", help = "" } }
            lu.assertEquals(options.parse(spec, { "-r" }).values, { replace = true })
            lu.assertEquals(options.shortcut(spec, "replace"), "r")
            lu.assertEquals(options.shortcut(spec, "report"), "repo")
            refused(spec, { "-re" }, "ambiguous", "-replace", "-report")
            table.insert(spec, { name = "r", kind = "flag", help = "" })
            lu.assertEquals(options.parse(spec, { "-r" }).values, { r = true })
        end,

        test_options_that_exclude_each_other_are_told = function()
            local spec = { { name = "add", kind = "flag", excludes = "replace", help = "" },
                { name = "replace", kind = "flag", help = "" } }
            lu.assertEquals(options.conflict(spec, { add = true, replace = true }),
                "-add and -replace exclude each other")
            lu.assertNil(options.conflict(spec, { replace = true }))
            lu.assertNil(options.conflict(spec, { add = true }))
            spec[1].because = "-add is of no use then"
            lu.assertEquals(options.conflict(spec, { add = true, replace = true }),
                "-add is of no use then")
        end,

        test_an_ambiguous_prefix_is_refused_with_the_candidates = function()
            refused(FREE, { "-pa", "x" }, "ambiguous", "-partition", "-password")
            refused(FREE, { "-token", "x" }, "-tokenpar", "-tokensopwd", "-tokenpw")
        end,

        test_an_unknown_option_is_refused_with_the_nearest = function()
            refused(FREE, { "-tokenpaar", "x" }, "no option -tokenpaar", "-tokenpar")
            refused(FREE, { "-xyz" }, "no option -xyz")
            refused(FREE, { "-" .. ("x"):rep(5000) }, "no option")
            refused(FREE, { "-=x" }, "no option")
        end,

        test_a_global_option_after_the_command_is_explained = function()
            local _, problem, hint = options.parse(FREE, { "--json" }, { elsewhere = { "json" } })
            lu.assertStrContains(problem, "before the command")
            lu.assertStrContains(hint, "keyferry --json NOUN VERB")
        end,

        test_an_option_given_twice_is_refused = function()
            refused(FREE, { "-add", "-a" }, "-add is given twice")
            refused(FREE, { "-par", "x", "-partition=y" }, "-partition is given twice")
        end,

        test_a_missing_value_is_refused = function()
            refused(FREE, { "-partition" }, "-partition needs a value")
            refused(FREE, { "-partition", "-add" }, "-partition needs a value",
                "-partition=VALUE")
        end,

        test_a_flag_takes_no_value = function()
            refused(FREE, { "-force=yes" }, "-force takes no value")
        end,

        test_what_is_required_and_missing_is_named = function()
            refused(BACKUP, { "-par", "x" }, "-tokenpar, -serial are missing")
        end,

        test_a_label_is_at_most_32_bytes_of_utf8 = function()
            lu.assertEquals(#values("-par", ("x"):rep(32)).partition, 32)
            refused(FREE, { "-par", ("x"):rep(33) }, "at most 32 bytes, this one has 33")
            refused(FREE, { "-par", ("\xC3\xA4"):rep(17) }, "has 34")
            refused(FREE, { "-par", "\xFF" }, "not")
            refused(FREE, { "-par", "" }, "empty")
        end,

        test_a_uri_is_taken_where_a_partition_is_named = function()
            local uri = "pkcs11:token=x;serial=0123456789abcdef0123456789abcdef"
            lu.assertEquals(values("-par", uri).partition, uri)
        end,

        test_numbers_choices_and_lists_are_checked = function()
            local spec = { { name = "n", kind = "number", min = 1, max = 9, help = "" } }
            lu.assertEquals(options.parse(spec, { "-n", "7" }).values.n, 7)
            refused(spec, { "-n", "0" }, "between 1 and 9")
            refused(spec, { "-n", "7x" }, "whole number")
            refused(spec, { "-n", "0x7" }, "whole number")
            refused(spec, { "-n=99999999999999999999" }, "whole number")
            refused(FREE, { "-onerror", "skip" }, "continue, stop")
            lu.assertEquals(values("-class", "data,private_key").class,
                { "data", "private_key" })
            refused(FREE, { "-class", "data,," }, "empty")
            refused(FREE, { "-class", "keys" }, "private_key, data")
        end,

        test_a_secret_becomes_a_secret_and_its_word_is_blanked = function()
            local words = { "-par", "p", "-pas", "hunter2", "-do=dom1" }
            local parsed = options.parse(FREE, words, {
                secret = function(bytes) return { hidden = #bytes } end,
            })
            lu.assertEquals(parsed.values.password, { hidden = 7 })
            lu.assertEquals(parsed.values.domain, { hidden = 4 })
            lu.assertEquals(parsed.secrets, { "password", "domain" })
            lu.assertEquals(words, { "-par", "p", "-pas", "", "-domain" })
        end,

        test_no_refusal_repeats_what_could_be_a_secret = function()
            for _, words in ipairs({
                { "-password", ("hunter2"):rep(40) }, { "-pasword=hunter2" },
                { "-force=hunter2" }, { "-password", "a", "hunter2" },
                { "-password=a", "-password=hunter2" }, { "-pa=hunter2" },
                { "-onerror=hunter2" }, { "hunter2" },
            }) do
                local said = refused(FREE, words)
                lu.assertNil(said:find("hunter2", 1, true), said)
            end
        end,

        test_help_is_asked_for_without_what_is_required = function()
            lu.assertTrue(options.parse(BACKUP, { "-help" }).help)
            lu.assertTrue(options.parse(BACKUP, { "-par", "x", "--help", "junk" }).help)
        end,

        test_the_words_before_the_command_end_at_the_noun = function()
            local spec = { { name = "json", kind = "flag", help = "" },
                { name = "e", kind = "string", any = true, help = "" } }
            local parsed = options.parse(spec, { "--json", "hsm", "list", "-x" },
                { stop = true })
            lu.assertEquals({ parsed.values.json, parsed.next }, { true, 2 })
            lu.assertEquals(options.parse(spec, { "-e", "-1" }, { stop = true }).values.e, "-1")
        end,
    },
}
