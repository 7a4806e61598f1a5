-- SPDX-License-Identifier: MIT
-- HSMs of one library with one configuration share its module.
local lu = require("luaunit")

local Hsm = require("keyferry.hsm")
local softhsm = require("support.softhsm")

local TestShared = {}

local function two()
  local soft = softhsm.fresh()
  soft:init_token("one")
  local list = {}
  for i = 1, 2 do
    list[i] = Hsm.new { name = "hsm " .. i, kind = "module", module_path = soft.module,
      conf = soft.conf, env = soft.env }
  end
  return list[1], list[2]
end

-- Whoever uses it is remembered, however often Lua clears up.
function TestShared.test_is_closed_with_the_last_that_uses_it()
  local first, second = two()
  local module = assert(first:module())
  collectgarbage()
  lu.assertIs(assert(second:module()), module)
  collectgarbage()
  first:close()
  lu.assertEquals(#assert(second:partitions()), 1)
  collectgarbage()
  second:close()
  lu.assertFalse(pcall(module.slots, module))
  lu.assertEquals(#assert(first:partitions()), 1)
  first:close()
end

return { TestShared = TestShared }
