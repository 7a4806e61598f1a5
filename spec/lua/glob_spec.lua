-- SPDX-License-Identifier: MIT
-- keyferry.glob: what a shell's pattern matches, and what it does not.
local lu = require("luaunit")

local glob = require("keyferry").glob

local TestGlob = {}

local function matches(pattern, yes, no)
  local test = glob(pattern)
  for _, text in ipairs(yes) do lu.assertIs(test(text), true, pattern .. " " .. text) end
  for _, text in ipairs(no) do lu.assertIs(test(text), false, pattern .. " " .. text) end
end

function TestGlob.test_a_star_is_any_text_and_the_whole_text_is_meant()
  matches("tls-*", { "tls-", "tls-web", "tls-a*b" }, { "tls", "my-tls-web", "TLS-web", "" })
  matches("*", { "", "a", "line\nline", "\0" }, {})
  matches("*-2024", { "ca-2024", "-2024" }, { "ca-2024x" })
end

function TestGlob.test_a_question_mark_is_one_character_not_one_byte()
  matches("k?y", { "key", "k\195\164y" }, { "ky", "keey" })
end

function TestGlob.test_brackets_are_one_of_a_set_or_none_of_it()
  matches("[a-c]x", { "ax", "cx" }, { "dx", "x", "aax" })
  matches("[!a-c]x", { "dx" }, { "ax" })
  matches("[]^%]", { "]", "^", "%" }, { "a" })
  matches("[ab", { "[ab" }, { "a" })
end

function TestGlob.test_a_backslash_takes_the_meaning_away()
  matches([[a\*b]], { "a*b" }, { "axb" })
  matches([[\?]], { "?" }, { "a" })
  matches([[a\]], { [[a\]] }, { "a" })
end

function TestGlob.test_what_means_something_to_lua_only_means_itself()
  matches("a.b%d+", { "a.b%d+" }, { "axb1" })
  matches("^$", { "^$" }, { "" })
  matches("a\0*", { "a\0b" }, { "ab" })
end

function TestGlob.test_no_text_is_the_empty_one_and_no_pattern_is_a_mistake()
  lu.assertTrue(glob("*")(nil))
  lu.assertFalse(glob("?")(nil))
  lu.assertErrorMsgContains("a glob is a string", glob, nil)
end

return { TestGlob = TestGlob }
