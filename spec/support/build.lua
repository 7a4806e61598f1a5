-- SPDX-License-Identifier: MIT
-- build: where the things made by make are.
local shell = require("support.shell")

local M = {}

M.root = shell.absolute(".")
M.dir = shell.absolute(os.getenv("KEYFERRY_BUILD") or "build")
M.keyferry = M.dir .. "/keyferry"

local modules = {
  "/usr/lib/softhsm/libsofthsm2.so",
  "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
  "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
  "/usr/lib64/pkcs11/libsofthsm2.so",
  "/usr/lib64/softhsm/libsofthsm2.so",
  "/usr/local/lib/softhsm/libsofthsm2.so",
}

-- A program or library made for the specs (spec/spec.mk).
function M.tool(name)
  local path = M.dir .. "/spec/" .. name
  assert(shell.exists(path), path .. " is not there: run `make spec-tools`")
  return path
end

-- LD_PRELOAD for a library of the specs: the sanitizer wants to be the first of all.
function M.preload(name)
  local libraries = table.concat(shell.lines("ldd " .. shell.quote(M.keyferry)), "\n")
  local sanitizer = libraries:match("=> (%S*/libasan%S*)")
  return (sanitizer and sanitizer .. ":" or "") .. M.tool(name)
end

-- SoftHSM itself.
function M.softhsm()
  local given = os.getenv("KEYFERRY_SOFTHSM")
  if given then return given end
  for _, path in ipairs(modules) do
    if shell.exists(path) then return path end
  end
  error("SoftHSM is not installed (set KEYFERRY_SOFTHSM)")
end

return M
