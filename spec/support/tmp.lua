-- SPDX-License-Identifier: MIT
-- tmp: fresh directories under $TMPDIR, all removed when the run ends, however it ends
-- short of a SIGKILL. KEYFERRY_KEEP=1 leaves them.
local shell = require("support.shell")

local M = {}
local root, count = nil, 0

local function make_root()
  local pattern = (os.getenv("TMPDIR") or "/tmp") .. "/keyferry-spec.XXXXXX"
  root = assert(shell.lines("mktemp -d " .. shell.quote(pattern))[1], "no directory in TMPDIR")
end

-- A new empty directory; `name` is only to be recognised by.
function M.dir(name)
  if not root then make_root() end
  count = count + 1
  local dir = ("%s/%d%s"):format(root, count, name and "-" .. name or "")
  assert(os.execute("mkdir -m 700 " .. shell.quote(dir)))
  return dir
end

-- A file with these bytes in a directory of its own.
function M.file(bytes, name)
  local path = M.dir() .. "/" .. (name or "file")
  shell.write(path, bytes)
  return path
end

function M.remove_all()
  if root and not os.getenv("KEYFERRY_KEEP") then
    os.execute("chmod -R u+rwX " .. shell.quote(root) .. " && rm -rf " .. shell.quote(root))
  end
  root = nil
end

-- Runs when the Lua state closes, after an error, too.
M.guard = setmetatable({}, { __gc = M.remove_all })

return M
