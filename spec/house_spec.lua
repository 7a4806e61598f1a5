-- SPDX-License-Identifier: MIT
-- The house rules: floors, doors, the size of functions, the order of tables.
local lu = require("luaunit")
local build = require("support.build")
local shell = require("support.shell")

local FLOORS = { base = 1, pkcs11 = 2, clone = 3, lua = 4 }
local LONGEST = 60

local function files(what)
  return shell.lines("git ls-files -co --exclude-standard -- " .. what .. " 2>/dev/null || true")
end

-- Without git (a source archive): what lies there.
local function sources(dir, pattern)
  local list = files(dir)
  if #list == 0 then list = shell.lines("find " .. dir .. " -type f | LC_ALL=C sort") end
  local found = {}
  for _, path in ipairs(list) do
    if path:find(pattern) and shell.exists(path) then table.insert(found, path) end
  end
  assert(#found > 0, "no files in " .. dir)
  return found
end

local function lines_of(path)
  local list = {}
  for line in (shell.read(path) .. "\n"):gmatch("([^\n]*)\n") do table.insert(list, line) end
  return list
end

local function none(list)
  lu.assertEquals(table.concat(list, "\n"), "")
end

local TestFloors = {}

function TestFloors.test_includes_go_only_downwards()
  local bad = {}
  for _, path in ipairs(sources("c", "%.[ch]$")) do
    local floor = FLOORS[path:match("^c/(%w+)/")] or 5
    for i, line in ipairs(lines_of(path)) do
      local target = line:match('^%s*#%s*include%s+"([^"]+)"')
      local at = target and FLOORS[target:match("^(%w+)/") or ""]
      if target and not at and not target:find("%.def$") or at and at > floor then
        table.insert(bad, ("%s:%d: %s"):format(path, i, target))
      end
    end
  end
  none(bad)
end

function TestFloors.test_only_the_door_and_the_program_know_lua()
  local bad = {}
  for _, path in ipairs(sources("c", "%.[ch]$")) do
    if not path:find("^c/lua/") and path ~= "c/main.c" then
      for i, line in ipairs(lines_of(path)) do
        local header = line:match('^%s*#%s*include%s+[<"]([^>"]+)[>"]') or ""
        if header:find("lua[%w.]*%.h$") or header:find("lauxlib.h", 1, true) then
          table.insert(bad, ("%s:%d: %s"):format(path, i, line))
        end
      end
    end
  end
  none(bad)
end

function TestFloors.test_only_the_last_floor_opens_the_core_to_lua()
  local names = {}
  local core = shell.quote(build.dir .. "/lua/keyferry/core.so")
  for _, line in ipairs(shell.lines("nm -D --defined-only " .. core)) do
    table.insert(names, line:match("%S+$"))
  end
  lu.assertEquals(names, { "luaopen_keyferry_core" })
end

-- Lua without its comments.
local function code_of(path)
  local text = shell.read(path)
  text = text:gsub("%-%-%[%[.-%]%]", ""):gsub("%-%-[^\n]*", "")
  return text
end

function TestFloors.test_scripts_require_only_the_library()
  local bad = {}
  for _, path in ipairs(sources("scripts", "%.lua$")) do
    for name in code_of(path):gmatch("require%s*%(?%s*[\"']([^\"']+)[\"']") do
      if name ~= "keyferry" then table.insert(bad, path .. ": " .. name) end
    end
  end
  none(bad)
end

function TestFloors.test_the_library_does_not_know_the_shell()
  local bad = {}
  for _, path in ipairs(sources("lua", "^lua/keyferry/[^/]+%.lua$")) do
    for name in code_of(path):gmatch("require%s*%(?%s*[\"']([^\"']+)[\"']") do
      if name:find("^keyferry%.shell") then table.insert(bad, path .. ": " .. name) end
    end
  end
  none(bad)
end

function TestFloors.test_the_library_never_prints_asks_or_exits()
  local bad = {}
  local forbidden = { "%f[%w_.:]print%s*%(", "io%.write", "io%.stdout", "io%.stderr", "io%.read",
    "os%.exit", "terminal%.ask" }
  for _, path in ipairs(sources("lua", "^lua/keyferry/[^/]+%.lua$")) do
    for _, pattern in ipairs(forbidden) do
      local found = code_of(path):match("[^\n]*" .. pattern .. "[^\n]*")
      if found then table.insert(bad, path .. ": " .. found) end
    end
  end
  none(bad)
end

-- Below the program nothing prints either, or ends the process of whoever loaded it.
function TestFloors.test_the_core_never_prints_or_exits()
  local bad = {}
  for _, path in ipairs(sources("c", "^c/%w+/.*%.c$")) do
    for i, line in ipairs(lines_of(path)) do
      if line:find("%f[%w_]printf%s*%(") or line:find("%f[%w_]puts%s*%(") or
        line:find("fprintf%s*%(std") or line:find("%f[%w_]_?exit%s*%(") or
        line:find("%f[%w_>.]abort%s*%(") then
        table.insert(bad, ("%s:%d: %s"):format(path, i, line))
      end
    end
  end
  none(bad)
end

local TestTables = {}

function TestTables.test_names_are_sorted_and_there_once()
  local bad, rows, last = {}, 0, {}
  local names, order = {}, {}
  for i, line in ipairs(lines_of("c/base/names.def")) do
    local family, value = line:match("^ROW%((KF_%w+), (0x%x+)UL,")
    if family then
      rows = rows + 1
      value = math.tointeger(tonumber(value))
      if order[#order] ~= family then
        for _, before in ipairs(order) do
          if before == family then table.insert(bad, ("line %d: %s again"):format(i, family)) end
        end
        table.insert(order, family)
      end
      if last[family] and not math.ult(last[family], value) then
        table.insert(bad, ("line %d: out of order, or twice"):format(i))
      end
      last[family] = value
    end
    local name = line:match('^ROW%(.-"(CK%w+_?%w*)"')
    if name and names[name] then table.insert(bad, ("line %d: %s twice"):format(i, name)) end
    if name then names[name] = true end
  end
  none(bad)
  lu.assertTrue(rows > 300)
end

local TestCode = {}

-- A function of more lines than that has a comment before it or in it that says why: the
-- word "Long:" and the reason.
local function too_long(path, first, last, lines)
  if last - first - 1 <= LONGEST then return nil end
  for i = math.max(1, first - 12), last do
    if lines[i]:find("Long: %S") then return nil end
  end
  return ("%s:%d: %d lines"):format(path, first, last - first - 1)
end

function TestCode.test_functions_of_c_are_short()
  local bad = {}
  for _, path in ipairs(sources("c spec", "%.c$")) do
    local lines, first = lines_of(path), nil
    for i, line in ipairs(lines) do
      if line == "{" then
        first = i
      elseif line == "}" and first then
        table.insert(bad, too_long(path, first, i, lines))
        first = nil
      end
    end
  end
  none(bad)
end

function TestCode.test_functions_of_lua_are_short()
  local bad = {}
  for _, path in ipairs(sources("lua scripts", "%.lua$")) do
    local lines, first = lines_of(path), nil
    for i, line in ipairs(lines) do
      if line:find("^local function ") or line:find("^function ") then
        first = i
      elseif line == "end" and first then
        table.insert(bad, too_long(path, first, i, lines))
        first = nil
      end
    end
  end
  none(bad)
end

function TestCode.test_every_source_says_its_licence_first()
  local bad = {}
  for _, path in ipairs(sources("c lua scripts spec", "%.%a+$")) do
    local kind = path:match("%.(%a+)$")
    if ({ c = 1, h = 1, lua = 1, def = 1, exp = 1 })[kind] and
      not (lines_of(path)[1] or ""):find("SPDX-License-Identifier: MIT", 1, true) then
      table.insert(bad, path)
    end
  end
  none(bad)
end

function TestCode.test_a_source_includes_its_own_header_first()
  local bad = {}
  for _, path in ipairs(sources("c", "%.c$")) do
    local own = path:gsub("^c/", ""):gsub("%.c$", ".h")
    if shell.exists("c/" .. own) then
      local first
      for _, line in ipairs(lines_of(path)) do
        first = first or line:match('^#include%s+["<]([^">]+)')
      end
      if first ~= own then table.insert(bad, path .. ": " .. tostring(first)) end
    end
  end
  none(bad)
end

return { TestFloors = TestFloors, TestTables = TestTables, TestCode = TestCode }
