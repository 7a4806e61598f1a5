-- SPDX-License-Identifier: MIT
-- The matrix: every end backed up to every end, each kind of object by itself in one run of
-- keyferry.backup, and each answer checked.
--
--   matrix.run { quick = bool, note = function(text) } -> { text =, wrong = { text }, cells = n }
local keyferry = require("keyferry")
local check = require("matrix.check")
local ends = require("matrix.ends")
local kinds = require("matrix.kinds")
local table_of = require("matrix.table")

local M = {}

local function now()
  local file <close> = assert(io.open("/proc/uptime"))
  return file:read("n")
end

local function chosen(quick)
  local list = {}
  for _, kind in ipairs(kinds) do
    if kind.quick or not quick then table.insert(list, kind) end
  end
  return list
end

-- What the token did not keep of what makes the kind what it is.
local function unlike(kind, made)
  for name, value in pairs(kind.is or {}) do
    if made[name] ~= value then
      made:destroy()
      return ("CKA_%s is not what was said"):format(name:upper())
    end
  end
end

-- Makes one of each; gives why not, by name, for those that the token does not take.
local function stocking(list)
  return function(session)
    local refused = {}
    for _, kind in ipairs(list) do
      local made, err
      if kind.make then made, err = kind.make(session, kind.label, kind.id) end
      refused[kind.label] = kind.make and (made and unlike(kind, made) or not made and err) or nil
    end
    return refused
  end
end

local function class_of(kind, session)
  if kind.class then return kind.class end
  return #session:find { class = "private_key", label = kind.label } > 0 and "private_key"
    or "secret_key"
end

-- A reason without what differs from run to run.
local function plain(err)
  return (tostring(err):gsub("slot %d+", "the slot"):gsub("object %d+", "the object")
    :gsub('"target %d+"', '"target"')
    :gsub("^token ", "the %0"):gsub("key %d+", "the key"):gsub("%s+", " "))
end

-- One run, of all kinds. Gives the report, and the results by class and label.
local function ferry(from, to, source, target)
  local may, err = source:partition():check_authentication(target:partition())
  if not may then return { status = "failed", reason = err, cloned = 0 }, {} end
  local by_name = {}
  local report = keyferry.backup {
    source = source:open(false), target = target:open(true), domain = ends.domain(), mode = "add",
    source_engine = from.engine, target_engine = to.engine,
    on_result = function(result)
      local name = ("%s %s"):format(result.object.class, result.object.label)
      by_name[name] = by_name[name] and { status = "told twice" } or result
    end,
  }
  return report, by_name
end

local function store_of(place)
  return place.token and place.token:objects() or nil
end

local function cell_of(kind, refused, report, by_name, at)
  if refused[kind.label] then
    return { none = "the source has none: " .. plain(refused[kind.label]) }
  end
  local class = class_of(kind, at.source)
  local result = by_name[("%s %s"):format(class, kind.label)]
  if not result and report.reason and report.cloned == 0 then
    result = { status = "failed", err = report.reason }
  end
  local wrong = check.wrong(kind, class, result, at)
  if wrong then return { wrong = wrong } end
  if result.status ~= "cloned" then return { no = plain(result.err or result.status) } end
  return result.lost == "" and { exact = true } or { lost = result.lost }
end

-- A column: a source to a target. Gives { [kind's name] = cell }.
local function column(list, from, to)
  local source, refused = from.stocked, from.refused
  local target = to.target(from)
  local report, by_name = ferry(from, to, source, target)
  source:close()
  target:close()
  local at = { source_store = store_of(source), target_store = store_of(target),
    source = source:open(false), target = target:open(true) }
  local cells = {}
  for _, kind in ipairs(list) do
    cells[kind.name] = cell_of(kind, refused, report, by_name, at)
  end
  source:close()
  target:close()
  return cells
end

local function attempt(list, from, to)
  local good, cells = xpcall(column, debug.traceback, list, from, to)
  if good then return cells end
  local all = {}
  for _, kind in ipairs(list) do all[kind.name] = { wrong = cells } end
  return all
end

function M.run(options)
  local began, list = now(), chosen(options.quick)
  local columns, wrong, count = {}, {}, 0
  for _, from in ipairs(ends.list) do
    from.stocked, from.refused = from.source(stocking(list))
    for _, to in ipairs(ends.list) do
      local started = now()
      local cells = attempt(list, from, to)
      table.insert(columns, { from = from.name, to = to.name, cells = cells })
      for _, kind in ipairs(list) do
        count = count + 1
        local cell = cells[kind.name]
        if cell.wrong then
          table.insert(wrong, ("%s -> %s, %s: %s"):format(from.name, to.name, kind.name,
            cell.wrong))
        end
      end
      if options.note then
        options.note(("%s -> %s: %.1f s"):format(from.name, to.name, now() - started))
      end
    end
  end
  local text = table_of(list, columns) .. ("\n%d cells, %d wrong, %.0f s\n"):format(count, #wrong,
    now() - began)
  return { text = text, wrong = wrong, cells = count }
end

return M
