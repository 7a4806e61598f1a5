-- SPDX-License-Identifier: MIT
local lu = require("luaunit")
local fake = require("shell.fake")
local scene = require("flow.scene")
local terminal = require("support.terminal")

local function out()
    return { settle = function() end, note = function(self, _, line)
        self.said = line or self.said or true
    end }
end

-- ask over a terminal that answers; an answer may be a table: an error.
local function asking(answers, fields)
    local asked = {}
    local core
    local function next_answer(question)
        asked[#asked + 1] = question
        local answer = table.remove(answers, 1)
        if type(answer) == "table" then
            return nil, answer
        end
        return answer
    end
    core = fake.core(fields)
    core.terminal = {
        ask = next_answer,
        ask_secret = function(question)
            local answer, err = next_answer(question)
            return answer and core.secret(answer), err
        end,
    }
    return fake.load("keyferry.shell.ask", core), asked, core
end

local NO_TERMINAL = { code = "KFR_REFUSED", call = "open" }
local WHAT = { option = "password", env = "KEYFERRY_PASSWORD", prompt = "Please enter it:" }

return {
    TestAsk = {
        test_the_option_comes_before_everything = function()
            local ask, asked = asking({})
            lu.assertEquals(ask.secret(WHAT, { password = "given" }, out()), "given")
            lu.assertEquals(asked, {})
        end,

        test_the_environment_comes_before_the_terminal = function()
            local ask, asked = asking({}, { secret_from_env = function(name)
                return name == "KEYFERRY_PASSWORD" and fake.secret("from env") or nil
            end })
            lu.assertEquals(ask.secret(WHAT, {}, out()).bytes, "from env")
            lu.assertEquals(asked, {})
        end,

        test_a_variable_is_taken_once_and_found_again = function()
            local variables = { KEYFERRY_PASSWORD = fake.secret("from env") }
            local ask, asked = asking({}, { secret_from_env = function(name)
                local secret = variables[name]
                variables[name] = nil
                return secret
            end })
            for _ = 1, 3 do
                local secret = ask.secret(WHAT, {}, out())
                lu.assertEquals(secret.bytes, "from env")
                secret:close()
            end
            lu.assertEquals(asked, {})
        end,

        test_what_stands_behind_an_option_is_kept_for_a_command_without_it = function()
            local variables = { KEYFERRY_PASSWORD = fake.secret("from env") }
            local ask = asking({}, { secret_from_env = function(name)
                local secret = variables[name]
                variables[name] = nil
                return secret
            end })
            lu.assertEquals(ask.secret(WHAT, { password = "given" }, out()), "given")
            lu.assertNil(variables.KEYFERRY_PASSWORD)
            lu.assertEquals(ask.secret(WHAT, {}, out()).bytes, "from env")
        end,

        test_a_question_looks_as_on_the_reference_page = function()
            local ask, asked = asking({ "x" })
            lu.assertEquals(ask.secret(WHAT, {}, out()).bytes, "x")
            lu.assertEquals(asked, { " \n  Please enter it:\n  > " })
        end,

        test_a_new_secret_is_asked_twice = function()
            local ask, asked = asking({ "a", "b", "c", "c" })
            local what = { prompt = "New:", again = "Again:", new = true }
            lu.assertEquals(ask.secret(what, {}, out()).bytes, "c")
            lu.assertEquals(#asked, 4)
            lu.assertStrContains(asked[2], "Again:")
        end,

        test_three_pairs_that_differ_are_enough = function()
            local ask = asking({ "a", "b", "a", "b", "a", "b", "c", "c" })
            local secret, err = ask.secret({ prompt = "New:", new = true }, {}, out())
            lu.assertNil(secret)
            lu.assertEquals(err.code, "KFR_NO_SECRET")
        end,

        test_without_a_terminal_it_is_refused_with_the_ways = function()
            local ask = asking({ NO_TERMINAL })
            local secret, err = ask.secret(WHAT, {}, out())
            lu.assertNil(secret)
            lu.assertEquals(err.code, "KFR_NO_SECRET")
            lu.assertStrContains(err.hint, "KEYFERRY_PASSWORD")
            lu.assertStrContains(err.hint, "-password")
        end,

        test_a_secret_file_that_cannot_be_read_is_no_secret = function()
            local ask, asked = asking({ "typed" }, { secret_from_file = function()
                return nil, { code = "KFR_SYSTEM", what = "/no/file: not there" }
            end })
            local getenv = os.getenv
            os.getenv = function(name) -- luacheck: ignore 122
                return name == "KEYFERRY_PASSWORD_FILE" and "/no/file" or nil
            end
            local secret, err = ask.secret(WHAT, {}, out())
            os.getenv = getenv -- luacheck: ignore 122
            lu.assertNil(secret)
            lu.assertEquals(err.code, "KFR_NO_SECRET")
            lu.assertEquals(asked, {})
        end,

        test_an_interrupt_stays_an_interrupt = function()
            local ask = asking({ { code = "KFR_INTERRUPTED" } })
            lu.assertEquals(select(2, ask.secret(WHAT, {}, out())).code, "KFR_INTERRUPTED")
        end,
    },

    TestLine = {
        test_a_line_of_text_is_asked_at_the_terminal = function()
            local ask, asked = asking({ "an answer" })
            lu.assertEquals(ask.line("Which\27one?", out()), "an answer")
            lu.assertEquals(asked, { " \n  Which\\x1Bone?\n  > " })
        end,

        test_without_a_terminal_a_line_is_refused = function()
            local ask = asking({ NO_TERMINAL })
            local answer, err = ask.line("Which one?", out())
            lu.assertNil(answer)
            lu.assertEquals(err.code, "KFR_REFUSED")
            lu.assertStrContains(err.what, "Which one?")
        end,
    },

    TestPrompt = {
        test_the_second_command_finds_the_variable_too = function()
            local s = scene.new()
            local command = s:program({})
            command.env.KEYFERRY_PASSWORD = scene.password
            local t <close> = terminal.start(command)
            for _ = 1, 2 do
                t:wait_for("keyferry:>")
                t:line("partition contents -partition payments")
                t:wait_for("7 objects")
            end
            t:wait_for("keyferry:>")
            t:line("os.getenv('KEYFERRY_PASSWORD')") -- and it is wiped where others can read it
            t:wait_for("nil")
            t:wait_for("keyferry:>")
            t:key("C-d")
            lu.assertEquals(t:finish().status, 0)
        end,
    },

    TestConfirm = {
        test_proceed_proceeds_and_quit_quits = function()
            local ask, asked = asking({ "proceed", "quit" })
            lu.assertTrue(ask.confirm({ "It goes." }, {}, out()))
            lu.assertStrContains(asked[1], "It goes.\n  Type 'proceed' to continue, or 'quit'"
                .. " to quit now.\n  > ")
            local ok, err = ask.confirm({ "It goes." }, {}, out())
            lu.assertNil(ok)
            lu.assertEquals(err.code, "KFR_REFUSED")
        end,

        test_anything_else_is_asked_again_and_never_a_yes = function()
            local ask, asked = asking({ "y", "yes", "", "proceed" })
            lu.assertNil(ask.confirm({ "It goes." }, {}, out()))
            lu.assertEquals(#asked, 3)
        end,

        test_force_answers_and_still_says_it = function()
            local ask, asked = asking({})
            local said = out()
            lu.assertTrue(ask.confirm({ "It goes." }, { force = true }, said))
            lu.assertEquals(said.said, "It goes.")
            lu.assertEquals(asked, {})
        end,

        test_no_terminal_is_no_confirmation = function()
            local ask = asking({ NO_TERMINAL })
            lu.assertEquals(select(2, ask.confirm({ "It goes." }, {}, out())).code,
                "KFR_REFUSED")
        end,

        test_a_label_in_the_question_cannot_rewrite_it = function()
            local ask, asked = asking({ "quit" })
            ask.confirm({ "remove \"a\27[2J\"" }, {}, out())
            lu.assertStrContains(asked[1], "a\\x1B[2J")
        end,
    },
}
