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

-- Whether there is so much room in memory that several runs at once do not fill it: containers
-- have 64 MB of it as a rule.
local function has_memory()
  local kilobytes = shell.lines("df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print $4 }'")[1]
  return (tonumber(kilobytes) or 0) > 1024 * 1024
end

-- The same in memory, where the system has such a place and room in it: SoftHSM writes every
-- object some forty times.
function M.memory(name)
  if roots.memory == nil then
    roots.memory = has_memory() and make_root("/dev/shm") or false
  end
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
    if root then
      os.execute("chmod -R u+rwX " .. shell.quote(root) .. " && rm -rf " .. shell.quote(root))
    end
  end
  roots = {}
end

-- Runs when the Lua state closes, after an error, too.
M.guard = setmetatable({}, { __gc = M.remove_all })

return M
