-- SPDX-License-Identifier: MIT
-- The matrix: source x target x kind of object, each cell what a backup answered and what was then
-- found. `make matrix` prints it; lua5.4 spec/matrix/run.lua [--quick].
local function absolute(path)
  if path:sub(1, 1) == "/" then return path end
  local pipe <close> = assert(io.popen("pwd"))
  return pipe:read("l") .. "/" .. path
end

local root, build = absolute("."), absolute(os.getenv("KEYFERRY_BUILD") or "build")
package.path = ("%s/lua/?.lua;%s/lua/?/init.lua;%s/spec/?.lua;%s"):format(root, root, root,
  package.path)
package.cpath = build .. "/lua/?.so;" .. package.cpath

local matrix = require("matrix.matrix")

local result = matrix.run { quick = arg[1] == "--quick", note = function(text)
  io.stderr:write(text, "\n")
end }
io.stdout:write(result.text)
require("support.tmp").remove_all()
os.exit(#result.wrong == 0, true)
