-- SPDX-License-Identifier: MIT
local lu = require("luaunit")
local fake = require("shell.fake")

local BODY = [[
return { name = "hsm list", summary = "s", category = "reads", options = {},
    run = function() return 0 end }
]]

-- The module over files that are a table of path -> text; `distrusted` paths are others'.
local function scripts(files, distrusted)
    return fake.load("keyferry.shell.script", fake.core({ file = {
        exists = function(path)
            if files[path] then
                return "file"
            end
            for name in pairs(files) do
                if name:sub(1, #path + 1) == path .. "/" then
                    return "directory"
                end
            end
        end,
        list = function(path)
            local names, seen = {}, {}
            for name in pairs(files) do
                local next_part = name:sub(1, #path + 1) == path .. "/"
                    and name:sub(#path + 2):match("^[^/]+")
                if next_part and not seen[next_part] then
                    seen[next_part] = true
                    names[#names + 1] = next_part
                end
            end
            return names
        end,
        read = function(path) return files[path] end,
        trusted = function(path)
            if distrusted and distrusted[path] then
                return nil, { code = "KFR_REFUSED", what = path .. " may be written by others" }
            end
            return true
        end,
    } }))
end

local function load_body(body, how)
    how = how or {}
    how.print = how.print or function() end
    return scripts({ ["/f.lua"] = body }).load("/f.lua", how)
end

local function refusal(body, how)
    local script, err = load_body(body, how)
    lu.assertNil(script)
    return err
end

local function with_fields(fields)
    return ("return { name = 'n', summary = 's', category = 'reads', options = {%s}, "
        .. "run = function() end }"):format(fields)
end

return {
    TestScript = {
        test_a_script_is_a_table_with_a_run = function()
            lu.assertEquals(load_body(BODY).name, "hsm list")
            lu.assertEquals(load_body("#!/usr/bin/env keyferry\n" .. BODY).name, "hsm list")
        end,

        test_a_file_that_returns_nothing_is_no_script = function()
            local err = refusal("local x = 1")
            lu.assertEquals(err.code, "KFR_SCRIPT")
            lu.assertStrContains(err.what, "/f.lua")
        end,

        test_a_wrong_field_is_named_with_the_file = function()
            for body, part in pairs({
                ["return { summary = 's' }"] = "name is missing",
                ["return { name = 1 }"] = "name is a number",
                ["return { name = 'n', summary = 's', category = 'x', run = print }"] =
                    "category",
                [with_fields("{ kind = 'flag', help = '' }")] = "no name",
                [with_fields("{ name = 'a', kind = 'odd', help = '' }")] = "kind",
                [with_fields("{ name = 'a', kind = 'flag' }")] = "no help",
                [with_fields("{ name = 'a', kind = 'choice', help = '' }")] = "no choices",
                [with_fields("{ name = 'a', kind = 'flag', help = '' }, "
                    .. "{ name = 'a', kind = 'flag', help = '' }")] = "twice",
            }) do
                local err = refusal(body)
                lu.assertStrContains(err.what, part)
                lu.assertStrContains(err.what, "/f.lua")
            end
        end,

        test_the_name_must_be_that_of_its_place = function()
            lu.assertStrContains(refusal(BODY, { name = "hsm show" }).what, "hsm show")
        end,

        test_an_accidental_global_is_refused = function()
            lu.assertStrContains(refusal("x = 1 " .. BODY).what, "global \"x\"")
            lu.assertNil(rawget(_G, "x"))
        end,

        test_scripts_do_not_see_each_others_globals = function()
            local module = scripts({})
            lu.assertFalse(rawequal(module.environment(print), module.environment(print)))
            lu.assertNil(rawget(module.environment(print), "arg"))
        end,

        test_a_text_without_its_quotes_is_a_mistake = function()
            local env = scripts({}).environment(print)
            lu.assertErrorMsgContains('there is no global "prod" (a text wants quotes)',
                load("return { label = prod }", "=policy", "t", env))
        end,

        test_print_goes_where_the_shell_says = function()
            local lines = {}
            load_body("print('a', 1, nil) " .. BODY, { print = function(line)
                lines[#lines + 1] = line
            end })
            lu.assertEquals(lines, { "a\t1\tnil" })
        end,

        test_the_core_and_the_shell_are_not_for_scripts = function()
            lu.assertStrContains(refusal("require 'keyferry.core' " .. BODY).what,
                "requires \"keyferry\"")
            lu.assertStrContains(refusal("require 'keyferry.shell.ask' " .. BODY).what,
                "requires \"keyferry\"")
        end,

        test_a_policy_runs_no_test = function()
            lu.assertStrContains(refusal("require 'keyferry.testing' " .. BODY).what,
                "a policy is run by a test")
        end,

        test_a_binary_chunk_is_not_run = function()
            lu.assertEquals(refusal(string.dump(load(BODY))).code, "KFR_SCRIPT")
            lu.assertStrContains(refusal(
                "assert(load(string.dump(function() end))) " .. BODY).what, "binary")
        end,

        test_what_others_may_write_is_not_run = function()
            local module = scripts({ ["/f.lua"] = BODY }, { ["/f.lua"] = true })
            local script, err = module.load("/f.lua", { print = print })
            lu.assertNil(script)
            lu.assertEquals(err.code, "KFR_REFUSED")
            lu.assertNotNil(module.load("/f.lua", { print = print, stock = true }))
        end,

        test_a_file_that_is_not_there_is_not_found = function()
            local _, err = scripts({}).load("/no.lua", { print = print })
            lu.assertEquals(err.code, "KFR_NOT_FOUND")
        end,

        test_a_users_script_stands_in_for_the_stock_one = function()
            local module = scripts({
                ["/stock/scripts/hsm/list.lua"] = BODY, ["/stock/scripts/hsm/show.lua"] = BODY,
                ["/stock/scripts/examples/night.lua"] = BODY,
                ["/stock/scripts/README.md"] = "",
                ["/own/keyferry/scripts/hsm/list.lua"] = BODY,
                ["/own/keyferry/scripts/hsm/Odd Name.lua"] = BODY,
            })
            module.user_folder = function() return "/own/keyferry/scripts" end
            module.stock_folder = function() return "/stock/scripts" end
            local all = module.all()
            lu.assertEquals(#all, 2)
            lu.assertEquals(all[1], { noun = "hsm", verb = "list", own = true,
                path = "/own/keyferry/scripts/hsm/list.lua",
                instead_of = "/stock/scripts/hsm/list.lua" })
            lu.assertFalse(module.find("hsm", "show").own)
            lu.assertNil(module.find("hsm", "../list"))
        end,
    },
}
