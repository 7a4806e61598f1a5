-- SPDX-License-Identifier: MIT
-- A stream that would go nowhere is no success.
local lu = require("luaunit")
local process = require("support.process")
local scene = require("flow.scene")
local build = require("support.build")

local TestClosed = {}

local function send(to)
  local s = scene.new()
  local env = { KEYFERRY_PASSWORD = scene.password, KEYFERRY_HOME = s.home, SOFTHSM2_CONF = "/none",
    HOME = s.home }
  return process.run { "sh", "-c", '"$0" partition send -partition payments ' .. to,
    build.keyferry, env = env }
end

function TestClosed.test_a_closed_standard_output_takes_no_stream()
  local done = send(">&-")
  lu.assertEquals(done.status, 2)
  lu.assertStrContains(done.err, "standard output is closed")
  lu.assertEquals(send(">/dev/null").status, 0)
end

return { TestClosed = TestClosed }
