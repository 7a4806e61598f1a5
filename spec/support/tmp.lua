-- SPDX-License-Identifier: MIT
-- tmp: fresh directories under $TMPDIR or in memory, all removed when the run ends, however it ends
-- short of a SIGKILL. KEYFERRY_KEEP=1 leaves them.
local shell = require("support.shell")

local M = {}
local roots, count = {}, 0

local function make_root(where)
  local pattern = where .. "/keyferry-spec.XXXXXX"
  return shell.lines("mktemp -d " .. shell.quote(pattern) .. " 2>/dev/null")[1]
end

local function new_dir(root, name)
  count = count + 1
  local dir = ("%s/%d%s"):format(root, count, name and "-" .. name or "")
  assert(os.execute("mkdir -m 700 " .. shell.quote(dir)))
  return dir
end

-- A new empty directory; `name` is only to be recognised by.
function M.dir(name)
  roots.disk = roots.disk or make_root(os.getenv("TMPDIR") or "/tmp")
  return new_dir(assert(roots.disk, "no directory in TMPDIR"), name)
end

-- The same in memory, where the system has such a place: SoftHSM writes every object some
-- forty times.
function M.memory(name)
  roots.memory = roots.memory or make_root("/dev/shm")
  return roots.memory and new_dir(roots.memory, name) or M.dir(name)
end

-- A file with these bytes in a directory of its own.
function M.file(bytes, name)
  local path = M.dir() .. "/" .. (name or "file")
  shell.write(path, bytes)
  return path
end

function M.remove_all()
  for _, root in pairs(os.getenv("KEYFERRY_KEEP") and {} or roots) do
    os.execute("chmod -R u+rwX " .. shell.quote(root) .. " && rm -rf " .. shell.quote(root))
  end
  roots = {}
end

-- Runs when the Lua state closes, after an error, too.
M.guard = setmetatable({}, { __gc = M.remove_all })

return M
