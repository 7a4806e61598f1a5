-- SPDX-License-Identifier: MIT
local lu = require("luaunit")
local cjson = require("cjson")
local fake = require("shell.fake")
local output = require("keyferry.shell.output")
local status = require("keyferry.shell.status")

local PIN = setmetatable({ code = "CKR_PIN_INCORRECT", hint = "try the right one" }, {
    __tostring = function() return "token \"t\": CKR_PIN_INCORRECT (0xA0), in C_Login" end,
})

local function make(how)
    how = how or {}
    how.stdout, how.stderr = fake.file(), fake.file()
    return output.new(how), how.stdout, how.stderr
end

return {
    TestOutput = {
        test_a_success_ends_as_on_the_reference_page = function()
            local out, stdout = make()
            lu.assertEquals(out:finish({ command = "partition backup", status = 0,
                counts = { cloned = 6, exists = 1, failed = 0 } }), 0)
            lu.assertEquals(stdout.text, "6 cloned, 1 already there\n"
                .. "'partition backup' successful.\n\nCommand Result : 0 (Success)\n")
        end,

        test_a_failure_says_why_and_what_to_do = function()
            local out, stdout, stderr = make()
            lu.assertEquals(out:finish({ command = "partition backup",
                status = status.of(PIN), reason = PIN }), 3)
            lu.assertEquals(stdout.text, "'partition backup' failed: token \"t\": "
                .. "CKR_PIN_INCORRECT (0xA0), in C_Login\n\nCommand Result : 3 "
                .. "(Authentication)\n")
            lu.assertStrContains(stderr.text, "try the right one")
        end,

        test_at_a_terminal_a_failure_is_said_once = function()
            local out, stdout, stderr = make({ terminal = function() return true end })
            out:finish({ command = "c", status = 3, reason = PIN })
            lu.assertStrContains(stdout.text, "  try the right one\n")
            lu.assertEquals(stderr.text, "")
        end,

        test_json_is_one_object_a_line_in_a_fixed_order = function()
            local out, stdout = make({ json = true })
            out:print("not this")
            out:event({ handle = 70, label = "L\n\"", event = "object", zebra = 1, alpha = {},
                command = "partition backup", status = "cloned", big = 2 ^ 53 // 1 | 0 })
            out:finish({ command = "partition backup", status = 1, counts = { cloned = 1,
                failed = 1 }, reason = "1 of 2" })
            lu.assertEquals(stdout.text, table.concat({
                '{"event":"object","command":"partition backup","status":"cloned",'
                    .. '"label":"L\\n\\"","handle":70,"alpha":[],"big":9007199254740992,'
                    .. '"zebra":1}',
                '{"event":"result","command":"partition backup","status":"partial",'
                    .. '"reason":"1 of 2","exit":1,"cloned":1,"failed":1}', "" }, "\n"))
        end,

        test_bytes_that_are_no_text_are_still_json = function()
            local line = output.encode({ label = "a\xFFb", uri = "a/b", none = output.null })
            lu.assertEquals(cjson.decode(line).label, "a\\xFFb")
            lu.assertStrContains(line, '"a/b"')
            lu.assertEquals(cjson.decode(line).none, cjson.null)
        end,

        test_quiet_prints_results_warnings_and_errors = function()
            local out, stdout, stderr = make({ quiet = true })
            out:print("a line")
            out:note("a note")
            out:result("a result")
            out:warn("a warning")
            lu.assertEquals(stdout.text, "a result\n")
            lu.assertEquals(stderr.text, "warning: a warning\n")
        end,

        test_a_label_cannot_move_the_cursor = function()
            local out, stdout = make()
            out:print("Object \"%s\" (handle %d)", "a\27[2J\n", 7)
            lu.assertEquals(stdout.text, "Object \"a\\x1B[2J\\x0A\" (handle 7)\n")
        end,

        test_a_text_without_arguments_is_no_format = function()
            local out, stdout = make()
            out:print("100% done")
            lu.assertEquals(stdout.text, "100% done\n")
        end,

        test_a_full_disk_makes_a_success_a_failure = function()
            local out, stdout, stderr = make()
            stdout.problem = "No space left on device"
            out:print("lost")
            out:print("lost, too")
            lu.assertEquals(out:close(0), 7)
            lu.assertEquals(out:close(3), 3)
            lu.assertStrContains(stderr.text, "No space left on device")
        end,

        test_progress_is_for_terminals_and_goes_away = function()
            local out, _, stderr = make()
            out:progress(1, 2)
            lu.assertEquals(stderr.text, "")
            out, _, stderr = make({ terminal = function() return true end })
            out:progress(1, 2)
            out:warn("w")
            out:progress(2, 2)
            lu.assertEquals(stderr.text, "\r\27[K1 of 2 (50 %)\r\27[Kwarning: w\n")
        end,

        test_a_command_for_other_programs_prints_only_its_lines = function()
            local out, stdout = make()
            out:finish({ command = "hsm env", status = 0, bare = true })
            lu.assertEquals(stdout.text, "")
            out:finish({ command = "hsm env", status = 6, bare = true })
            lu.assertStrContains(stdout.text, "Command Result : 6 (Not Found)")
        end,
    },

    TestStatus = {
        test_every_kind_of_error_has_its_exit_status = function()
            for code, wanted in pairs({ KFR_ARGUMENT = 2, CKR_PIN_LOCKED = 3,
                KFR_NO_SECRET = 3, KFR_DOMAIN_MISMATCH = 4, KFR_REFUSED = 5, KFR_EXISTS = 5,
                KFR_NOT_FOUND = 6, KFR_AMBIGUOUS = 6, KFR_STORE = 7, CKR_DEVICE_ERROR = 7,
                KFR_SCRIPT = 8, KFR_INTERRUPTED = 130 }) do
                lu.assertEquals(status.of({ code = code }), wanted, code)
            end
            lu.assertEquals(status.of("a text"), 8)
            lu.assertEquals(status.of(nil), 8)
        end,
    },
}
