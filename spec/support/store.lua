-- SPDX-License-Identifier: MIT
-- store: what a directory holds, and whether it still does.
local shell = require("support.shell")
local object_file = require("support.object_file")

local M = {}

-- { ["name/of/file"] = { kind = "f"|"d"|..., mode = "600", size = N, bytes = "..." } }
function M.snapshot(dir)
  local tree = {}
  local find = "find " .. shell.quote(dir) .. " -mindepth 1 -printf '%y %m %P\\n'"
  for _, line in ipairs(shell.lines(find)) do
    local kind, mode, name = line:match("^(%S+) (%S+) (.+)$")
    local bytes = kind == "f" and assert(shell.read(dir .. "/" .. name)) or ""
    tree[name] = { kind = kind, mode = mode, size = #bytes, bytes = bytes }
  end
  return tree
end

-- Every login rewrites token.object: its counter and its flags, nothing else.
local FLAGS = 0x8000534B
local function without_flags(bytes)
  local object = assert(object_file.parse(bytes))
  local list = {}
  for _, record in ipairs(object.records) do
    if record.type ~= FLAGS then
      table.insert(list, ("%x %d %s"):format(record.type, record.kind, record.value))
    end
  end
  return table.concat(list, "\n")
end

local function content(name, entry, options)
  if options.ignore_logins and name:find("token%.object$") then
    return without_flags(entry.bytes)
  end
  return entry.bytes
end

-- What differs, as sorted lines ("changed x: bytes"); empty when nothing does.
-- ignore_logins: token.object may have been rewritten by C_Login.
function M.compare(before, after, options)
  local lines = {}
  options = options or {}
  for name, old in pairs(before) do
    local new = after[name]
    if not new then
      table.insert(lines, "gone " .. name)
    elseif new.kind ~= old.kind or new.mode ~= old.mode then
      table.insert(lines, ("changed %s: mode %s, was %s"):format(name, new.mode, old.mode))
    elseif content(name, new, options) ~= content(name, old, options) then
      table.insert(lines, ("changed %s: %d bytes, were %d"):format(name, new.size, old.size))
    end
  end
  for name in pairs(after) do
    if not before[name] then table.insert(lines, "new " .. name) end
  end
  table.sort(lines)
  return lines
end

return M
