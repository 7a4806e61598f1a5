-- SPDX-License-Identifier: MIT
-- library: everything documented that a script or an explorer gets hold of, by the names it
-- has for them: keyferry.hsm, session:find, err.code.
--
--   local all = library.read()      all.list in the order of the sources, all.by_name
local docstrings = require("reference.docstrings")
local shell = require("support.shell")

local M = {}

-- What a prefix in the source is called outside; false: it stays inside. A script does not see
-- keyferry.core, so what of it nothing passes on (c/lua/file.c and the like) is not here.
local sources = {
  { "lua/keyferry/init.lua", { M = "keyferry." } },
  { "lua/keyferry/glob.lua", { ["return"] = "keyferry.glob" } },
  { "lua/keyferry/option.lua", { ["M.new"] = "keyferry.option" } },
  { "lua/keyferry/ped.lua", { M = "keyferry.ped.", Ring = "ring:" } },
  { "lua/keyferry/backup.lua", { ["M.run"] = "keyferry.backup", ["M.check"] = false } },
  { "lua/keyferry/backup/results.lua" },
  { "lua/keyferry/report.lua", { M = "keyferry.report.", Paper = "paper:" } },
  { "lua/keyferry/archive.lua", { M = "keyferry.archive." } },
  { "lua/keyferry/send.lua", { ["M.run"] = "keyferry.send" } },
  { "lua/keyferry/archived.lua", { Archived = "archived:" } },
  { "lua/keyferry/verify.lua", { ["M.run"] = "keyferry.verify" } },
  { "lua/keyferry/plan.lua", { ["Plan.new"] = "keyferry.plan", Plan = "plan:" } },
  { "lua/keyferry/hsm.lua", { Hsm = "hsm:" } },
  { "lua/keyferry/hsm/making.lua", { M = "hsm:" } },
  { "lua/keyferry/hsm/check.lua", { M = "hsm:" } },
  { "lua/keyferry/partition.lua", { Partition = "partition:" } },
  { "lua/keyferry/authentication.lua", { M = "partition:" } },
  { "c/lua/session.c" },
  { "c/lua/unfinished.c" },
  { "lua/keyferry/sealing.lua" },
  { "c/lua/object.c" },
  { "c/lua/attributes.c" },
  { "c/lua/mechanism.c" },
  { "c/lua/secret.c" },
  { "c/lua/domain.c" },
  { "c/lua/share.c", { ["share.create"] = false, ["share.split"] = false,
      ["share.again"] = false, ["share.combine"] = false, ["share.master"] = false,
      ["share.check"] = false, ["share.parse"] = false, ["share.read"] = false } },
  { "c/lua/sealed.c" },
  { "c/lua/stream.c", { ["stream.open"] = false, ["stream.create"] = false,
      ["writer:add"] = false, ["writer:finish"] = false, ["writer:close"] = false } },
  { "c/lua/endpoint.c" },
  { "c/lua/module.c" },
  { "c/lua/error.c" },
  { "lua/keyferry/testing.lua", { M = "testing.", Scene = "scene:" } },
  { "lua/keyferry/shell/context.lua", { ["M.new"] = false, Context = "ctx:" } },
  { "lua/keyferry/shell/secrets.lua", { M = "ctx:", ["M.attend"] = false,
      ["M.of_partition"] = false } },
  { "lua/keyferry/shell/cloning.lua", { M = "ctx:" } },
  { "lua/keyferry/shell/ped.lua", { M = "ctx:" } },
  { "lua/keyferry/shell/reporting.lua", { M = "ctx:" } },
}

-- Functions of the core that init.lua passes on as they are.
local function passed_on()
  local names = {}
  for name in shell.read("lua/keyferry/init.lua"):gmatch("\n    ([%l_]+) = core%.%1,") do
    names[name] = true
  end
  return names
end

-- The name outside; false for what is none of the reader's.
local function public_name(entry, renamed, exported)
  local name = entry.name
  if entry.is_local then
    return false
  elseif renamed[name] ~= nil then
    return renamed[name]
  end
  local prefix, rest = name:match("^([%a.]+)[.:](.+)$")
  if prefix and renamed[prefix] then
    return renamed[prefix] .. rest
  elseif entry.file:find("%.c$") and not name:find("[.:]") and entry.kind == "function" then
    return (exported[name] and "keyferry." or "core.") .. name
  elseif (not prefix or prefix:find("^M")) and entry.file:find("%.lua$")
    and entry.kind == "function" then
    return false -- a local function that has a docstring all the same
  end
  return name
end

-- What is inside [ ] in "f(a[, b])": all that may be left out.
function M.signature(entry)
  local text, depth = "", 0
  local list = {}
  for _, param in ipairs(entry.params) do table.insert(list, param) end
  if #list == 0 then
    for _, name in ipairs(entry.args or {}) do table.insert(list, { name = name }) end
  end
  for i, param in ipairs(list) do
    local comma = i > 1 and ", " or ""
    if param.optional then
      text, depth = text .. "[" .. comma .. param.name, depth + 1
    else
      text = text .. comma .. param.name
    end
  end
  return ("%s(%s%s)"):format(entry.public, text, ("]"):rep(depth))
end

function M.read()
  local all = { list = {}, by_name = {} }
  local exported = passed_on()
  for _, source in ipairs(sources) do
    local path, renamed = source[1], source[2] or {}
    for _, entry in ipairs(shell.exists(path) and docstrings.read(path) or {}) do
      local is_head = entry.kind == "module" or entry.kind == "classmod"
      local name = not is_head and public_name(entry, renamed, exported)
      if name then
        entry.public = name
        if all.by_name[name] then
          error(("%s:%d: %s is documented twice"):format(path, entry.line, name), 0)
        end
        all.by_name[name] = entry
        table.insert(all.list, entry)
      end
    end
  end
  return all
end

return M
