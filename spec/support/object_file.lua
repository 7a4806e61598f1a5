-- SPDX-License-Identifier: MIT
-- object_file: a strict reader and a writer of SoftHSM's object files, apart from ours in C.
-- (object_store/ObjectFile.cpp of SoftHSM 2.6.1: a counter, then type, kind, value; all
-- integers eight bytes, big-endian.)
local M = {}

-- How long the value of each kind is, given the word after the kind (nil: no such word).
local lengths = {
  [1] = function() return 1 end,
  [2] = function() return 8 end,
  [3] = function(n) return n end,
  [4] = function(n) return n end,
  [5] = function(n) return n < 1 << 24 and n * 8 or n end,
}

-- { generation = N, records = { { type =, kind =, value = bytes }, ... } }, or nil, why.
function M.parse(bytes)
  if #bytes < 8 then return nil, "no counter" end
  local object = { generation = string.unpack(">I8", bytes), records = {} }
  local at = 9
  while at <= #bytes do
    if #bytes - at + 1 < 16 then return nil, "ends inside a record" end
    local record = {}
    record.type, record.kind, at = string.unpack(">I8I8", bytes, at)
    local length = lengths[record.kind]
    if not length then return nil, "kind " .. record.kind end
    local n
    if record.kind >= 3 then
      if #bytes - at + 1 < 8 then return nil, "ends inside a record" end
      n, at = string.unpack(">i8", bytes, at)
      if n < 0 then return nil, "a length too large" end
    end
    n = length(n)
    if n > #bytes - at + 1 then return nil, "ends inside a record" end
    record.value = bytes:sub(at, at + n - 1)
    at = at + n
    table.insert(object.records, record)
  end
  return object
end

-- The bytes of such a table; records as they come, so that specs can write bad ones.
function M.encode(object)
  local parts = { string.pack(">I8", object.generation) }
  for _, record in ipairs(object.records) do
    table.insert(parts, string.pack(">I8I8", record.type, record.kind))
    if record.kind >= 3 then
      local count = record.kind == 5 and #record.value // 8 or #record.value
      table.insert(parts, string.pack(">I8", count))
    end
    table.insert(parts, record.value)
  end
  return table.concat(parts)
end

function M.get(object, type)
  for _, record in ipairs(object.records) do
    if record.type == type then return record.value, record end
  end
end

return M
