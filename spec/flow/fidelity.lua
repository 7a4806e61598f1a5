-- SPDX-License-Identifier: MIT
-- fidelity: whether the clones of a run are their originals: at work, and attribute by attribute.
--
-- A run is { source =, target = sessions, token = the target's, sealed_by = engine or nil,
-- results = { as on_result gets them } }; where a result's object is none of the source's
-- session (a stream's), `original` of the result is the one that is.
local lu = require("luaunit")

local core = require("keyferry.core")
local once = require("support.once")
local zoo = require("support.zoo")

local M = {}

local CKA = {
  CLASS = 0x0, PRIVATE = 0x2, LABEL = 0x3, VALUE = 0x11, START_DATE = 0x110, END_DATE = 0x111,
  KEY_GEN_MECHANISM = 0x166,
}

M.domain = once(function() return assert(core.domain(core.secret("zoo"))) end)

-- One of each; nobody writes to it any more.
M.source = once(function()
  local token = zoo.token("source")
  zoo.stock(zoo.session(token))
  zoo.close(token)
  return token
end)

-- What a run did not clone, and why.
function M.failures(run)
  local list = {}
  for _, result in ipairs(run.results) do
    if result.status ~= "cloned" then
      table.insert(list, ("%s: %s"):format(result.object, result.err))
    end
  end
  return list
end

function M.clone_of(run, result)
  return assert(run.target:object(result.target_handle))
end

-- Kinds of the zoo without an operation that tells, and how many of each there are.
M.SILENT = { certificate = 2, data = 12, domain_parameters = 2, public_key = 2,
  secret_key = 5 }

-- Works every clone and judges by the original, and the other way round; `silent`: how many there
-- are of each class without an operation for it.
function M.assert_all_work(run, silent)
  local without = {}
  for _, result in ipairs(run.results) do
    if result.status == "cloned" then
      local clone, original = M.clone_of(run, result), result.original or result.object
      local class = original.class
      if not zoo.works_for(clone, original) then
        without[class] = (without[class] or 0) + 1
      elseif class ~= "public_key" then
        zoo.works_for(original, clone)
      end
    end
  end
  lu.assertEquals(without, silent)
end

-- Two things about which PKCS#11 gives no answer: a date of a private object, which SoftHSM
-- stores and cannot give back, so that it is named though it may be there; and an attribute that
-- SoftHSM keeps with domain parameters and shows to nobody: an object that wrap sealed is
-- without it.
local function is_out_of_reach(object, type, run)
  return object[CKA.CLASS].value:byte(8) == 6 and type == CKA.KEY_GEN_MECHANISM and
    run.sealed_by == "wrap"
end

local function is_unread_date(object, type)
  return (type == CKA.START_DATE or type == CKA.END_DATE) and
    object[CKA.PRIVATE].value ~= "\0" and object[type].value ~= ""
end

-- The names of what differs between an object of the one store and its clone in the other.
local function differences(a, b, run)
  local names = {}
  for type, attribute in pairs(a) do
    local other = b[type]
    local differs = not other or other.kind ~= attribute.kind or other.value ~= attribute.value
    if differs and not is_out_of_reach(a, type, run) or is_unread_date(a, type) then
      table.insert(names, core.name("CKA", type))
    end
  end
  for type in pairs(b) do
    if a[type] == nil then table.insert(names, core.name("CKA", type)) end
  end
  table.sort(names)
  return table.concat(names, ", ")
end

local function sorted_words(text)
  local list = {}
  for word in text:gmatch("[^ ,]+") do table.insert(list, word) end
  table.sort(list)
  return table.concat(list, ", ")
end

-- Objects of a store by class, label and value, which no two have in common.
local function by_name(token)
  local index = {}
  for _, object in pairs(token:objects()) do
    local value = object[CKA.VALUE] and object[CKA.VALUE].value or ""
    local name = object[CKA.CLASS].value .. object[CKA.LABEL].value .. "\0" .. value
    assert(index[name] == nil, name)
    if object[CKA.LABEL].value ~= "keyferry domain" then index[name] = object end
  end
  return index
end

local CLASSES = { [0] = "data", "certificate", "public_key", "private_key", "secret_key",
  [6] = "domain_parameters" }

-- Per class and label, what was said to be lost, and what is; each a sorted list.
function M.losses(from, run)
  local said, is = {}, {}
  local function note(map, class, label, text)
    local name = class .. " " .. label
    map[name] = map[name] or {}
    table.insert(map[name], text)
    table.sort(map[name])
  end
  for _, result in ipairs(run.results) do
    if result.status == "cloned" then
      note(said, result.object.class, result.object.label, sorted_words(result.lost))
    end
  end
  local originals = by_name(from)
  for name, clone in pairs(by_name(run.token)) do
    local class = CLASSES[string.unpack(">I8", clone[CKA.CLASS].value)]
    note(is, class, clone[CKA.LABEL].value, differences(assert(originals[name], name), clone, run))
  end
  return said, is
end

function M.assert_losses_are_said(from, run)
  local said, is = M.losses(from, run)
  local wrong = {}
  for name, lists in pairs(is) do
    local a, b = table.concat(said[name] or {}, " | "), table.concat(lists, " | ")
    if a ~= b then table.insert(wrong, ("%s: said %s, is %s"):format(name, a, b)) end
    said[name] = nil
  end
  lu.assertEquals(wrong, {})
  lu.assertEquals(said, {})
end

-- Labels of what was refused, each with the part of the sentence that says why.
function M.refused(run)
  local map = {}
  for _, result in ipairs(run.results) do
    if result.status == "failed" then
      lu.assertEquals(result.err.code, "KFR_NOT_CLONABLE", tostring(result.err))
      map[result.object.class .. " " .. result.object.label] =
        result.err.what:match("^(CKA_[A-Z_]+ is %a+):") or result.err.what:match("CKR_[A-Z_]+")
    end
  end
  return map
end

return M
