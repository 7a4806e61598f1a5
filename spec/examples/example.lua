-- SPDX-License-Identifier: MIT
-- example: the scripts of scripts/examples, run on a scene as their users run them.
--
--   local s = example.scene()                     -- "payments" on prod, an empty "backup" on vault
--   local done = example.run(s, "labels", { "-labels", "tls-*" })
local build = require("support.build")
local process = require("support.process")
local scene = require("flow.scene")

local M = {}

-- An empty partition of the same domain on the vault.
function M.partition(s, label, serial)
  local env = scene.secrets()
  env.KEYFERRY_PASSWORD = scene.tokenpw
  local done = s:run { "partition", "create", "-partition", label, "-serial",
    serial or scene.serial, env = env }
  assert(done.status == 0, done.out .. done.err)
end

function M.scene()
  local s = scene.new()
  M.partition(s, "backup")
  return s
end

function M.path(name)
  return ("%s/scripts/examples/%s.lua"):format(build.root, name)
end

-- `how`: further words; partition, tokenpar, serial (false: left out), env instead of the
-- secrets, globals before the `run`, timeout.
function M.run(s, name, how)
  how = how or {}
  local words = table.move(how.globals or {}, 1, #(how.globals or {}), 1, {})
  table.move({ "run", M.path(name) }, 1, 2, #words + 1, words)
  for _, pair in ipairs { { "partition", "payments" }, { "tokenpar", "backup" },
    { "serial", scene.serial } } do
    local value = how[pair[1]]
    if value ~= false then
      table.move({ "-" .. pair[1], value or pair[2] }, 1, 2, #words + 1, words)
    end
  end
  table.move(how, 1, #how, #words + 1, words)
  words.env, words.timeout = how.env or scene.secrets { "TOKENSOPWD", "DOMAIN" }, how.timeout
  return process.run(s:program(words))
end

return M
