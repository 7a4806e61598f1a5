-- SPDX-License-Identifier: MIT
-- drive: a module called by a small program, a call a line (told in support/drive.c).
--
--   drive(hsm, { "open a 0 rw", "login a user 1234" }) -> { "0x0", "0x0" }
--
-- hsm: anything with `module` and `env`.
local build = require("support.build")
local process = require("support.process")

local M = {}

local function command(hsm, lines)
  return { build.tool("drive"), hsm.module, env = hsm.env,
    input = table.concat(lines, "\n") .. "\n" }
end

local function answers(out)
  local list = {}
  for line in out:gmatch("[^\n]+") do table.insert(list, line) end
  return list
end

function M.run(hsm, lines)
  local list = answers(process.must(command(hsm, lines)))
  assert(#list == #lines, "not an answer a line")
  return list
end

-- Beside us; see process.start. M.wait gives what it answered.
function M.start(hsm, lines)
  return process.start(command(hsm, lines))
end

function M.wait(running)
  return answers(running:wait().out)
end

-- The result of process.run, for a module that ends the process.
function M.try(hsm, lines)
  return process.run(command(hsm, lines))
end

return M
