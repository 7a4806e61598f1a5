-- SPDX-License-Identifier: MIT
-- liar: a soft HSM behind the module that lies on demand (its script language is told in
-- support/liar.c).
--
--   local hsm = liar.fresh("C_Login 1 CKR_PIN_LOCKED")   -- a softhsm with hsm:lie(script)
--   hsm:calls() -> { "C_Initialize CKR_OK", ... }        -- needs "call-log"; see hsm.log
local build = require("support.build")
local shell = require("support.shell")
local softhsm = require("support.softhsm")
local tmp = require("support.tmp")

local M = {}

-- From now on the module tells these lies (by rename: never read half). %LOG% in the script
-- is hsm.log.
local function lie(hsm, script)
  shell.write(hsm.script .. ".new", (script:gsub("%%LOG%%", hsm.log)) .. "\n")
  assert(os.rename(hsm.script .. ".new", hsm.script))
end

local function calls(hsm)
  local list = {}
  for line in (shell.read(hsm.log) or ""):gmatch("[^\n]+") do table.insert(list, line) end
  return list
end

-- Makes a soft HSM a lying one.
function M.over(hsm, script)
  local dir = tmp.dir("liar")
  hsm.script, hsm.log = dir .. "/script", dir .. "/log"
  hsm.module = build.tool("liar.so")
  hsm.env.LIAR_SCRIPT, hsm.env.LIAR_MODULE = hsm.script, build.softhsm()
  hsm.lie, hsm.calls = lie, calls
  hsm:lie(script or "")
  return hsm
end

function M.fresh(script)
  return M.over(softhsm.fresh(), script)
end

return M
