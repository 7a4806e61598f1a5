-- SPDX-License-Identifier: MIT
-- scripts/README.md is true: its examples are run in order, in a fresh home, and give what it
-- shows (support/guide.lua says how); and it leaves nothing out.
local lu = require("luaunit")
local build = require("support.build")
local guide = require("support.guide")
local shell = require("support.shell")

local PATH = "scripts/README.md"

local ANSWERS = { ["First half"] = "user-", ["Second half"] = "pin" }

-- The library as `make install-lua` gives it to a plain lua5.4.
local ENV = {
  LUA_PATH = ("%s/lua/?.lua;%s/lua/?/init.lua;;"):format(build.root, build.root),
  LUA_CPATH = build.dir .. "/lua/?.so;;",
}

local TestGuide = {}

function TestGuide.test_every_example_does_what_it_shows()
  lu.assertTrue(guide.run { path = PATH, answers = ANSWERS, env = ENV } > 20)
end

return { TestGuide = TestGuide }
