-- SPDX-License-Identifier: MIT
-- shell: words for /bin/sh, and whole files.
local M = {}

function M.quote(word)
  return "'" .. tostring(word):gsub("'", [['\'']]) .. "'"
end

function M.words(list)
  local quoted = {}
  for i, word in ipairs(list) do quoted[i] = M.quote(word) end
  return table.concat(quoted, " ")
end

function M.lines(command)
  local list = {}
  local pipe <close> = assert(io.popen(command))
  for line in pipe:lines() do table.insert(list, line) end
  return list
end

function M.absolute(path)
  if path:sub(1, 1) == "/" then return path end
  if path == "." then return M.lines("pwd")[1] end
  return M.lines("pwd")[1] .. "/" .. path
end

function M.exists(path)
  local file = io.open(path, "r")
  if file then file:close() end
  return file ~= nil
end

-- Nil when there is no such file.
function M.read(path)
  local file <close> = io.open(path, "rb")
  return file and file:read("a")
end

function M.write(path, bytes)
  local file <close> = assert(io.open(path, "wb"))
  assert(file:write(bytes))
end

function M.sleep(seconds)
  os.execute(("sleep %.3f"):format(seconds))
end

-- Calls condition() until it gives something; that, or nil when the seconds are over.
function M.await(seconds, condition)
  local left = seconds
  repeat
    local value = condition()
    if value then return value end
    M.sleep(0.03)
    left = left - 0.035
  until left < 0
  return condition() or nil
end

function M.hex(bytes)
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

function M.unhex(text)
  return (text:gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end))
end

return M
