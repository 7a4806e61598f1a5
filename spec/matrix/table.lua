-- SPDX-License-Identifier: MIT
-- The matrix as text: a table for each source, with kinds down and targets across; what was lost
-- and why not, by letter and number, in the legend below.

-- Gives each text a short name of its own, in the order they come.
local function legend(name_of)
  local self = { names = {}, list = {} }
  function self.name(text)
    if not self.names[text] then
      table.insert(self.list, text)
      self.names[text] = name_of(#self.list)
    end
    return self.names[text]
  end
  return self
end

local function letters(n)
  n = n - 1
  return (n >= 26 and string.char(96 + n // 26) or "") .. string.char(97 + n % 26)
end

local function sorted_names(lost)
  local list = {}
  for name in lost:gmatch("[^ ,]+") do table.insert(list, name) end
  table.sort(list)
  return table.concat(list, ", ")
end

local function word(cell, losses, reasons)
  if cell.wrong then return "WRONG " .. reasons.name(cell.wrong) end
  if cell.none then return "- " .. reasons.name(cell.none) end
  if cell.no then return "no: " .. reasons.name(cell.no) end
  if cell.lost then return "loses " .. losses.name(sorted_names(cell.lost)) end
  return "exact"
end

local function rows_of(lines)
  local widths = {}
  for _, line in ipairs(lines) do
    for i, text in ipairs(line) do widths[i] = math.max(widths[i] or 0, #text) end
  end
  local out = {}
  for _, line in ipairs(lines) do
    local parts = {}
    for i, text in ipairs(line) do parts[i] = text .. (" "):rep(widths[i] - #text) end
    table.insert(out, (table.concat(parts, "  "):gsub("%s+$", "")))
  end
  return table.concat(out, "\n")
end

return function(kinds, columns)
  local losses, reasons = legend(letters), legend(tostring)
  local text, i = {}, 1
  while columns[i] do
    local from, lines = columns[i].from, {}
    local head, first = { "from " .. from .. " to" }, i
    while columns[i] and columns[i].from == from do
      table.insert(head, columns[i].to)
      i = i + 1
    end
    table.insert(lines, head)
    for _, kind in ipairs(kinds) do
      local line = { kind.name }
      for k = first, i - 1 do
        table.insert(line, word(columns[k].cells[kind.name], losses, reasons))
      end
      table.insert(lines, line)
    end
    table.insert(text, rows_of(lines))
  end
  for _, one in ipairs { { losses, "loses" }, { reasons, "no, -" } } do
    local lines = {}
    for _, what in ipairs(one[1].list) do
      table.insert(lines, ("%s %s: %s"):format(one[2], one[1].names[what], what))
    end
    table.insert(text, table.concat(lines, "\n"))
  end
  return table.concat(text, "\n\n") .. "\n"
end
