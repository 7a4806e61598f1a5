-- SPDX-License-Identifier: MIT
-- lies: many lies told to one process of lua5.4, one after the other, each in a backup of
-- its own between two partitions of a scene; what was said and what is true are both told.
--
--   local told = lies.tell(scene.new("open"), "prod", { "C_WrapKey flip", ... })
--   told[1] = { lie =, status =, cloned =, reason =, good =, bad = }
--     good, bad: clones of "open N" there afterwards that are their originals, and are not
--     others: objects more or less on the target, besides; source: the same for the source
local build = require("support.build")
local process = require("support.process")
local shell = require("support.shell")
local tmp = require("support.tmp")

local M = {}

-- Run by lua5.4. In it %s is a table constructor with what it needs.
local CHILD = [[
local given = %s
package.path, package.cpath = given.path, given.cpath
local core, keyferry = require("keyferry.core"), require("keyferry")

local function open(name, lying)
  local env = { SOFTHSM2_CONF = given.conf[name] }
  if lying then env.LIAR_SCRIPT, env.LIAR_MODULE = given.script, given.softhsm end
  local module, err = core.module(lying and given.liar or given.softhsm,
    { private_copy = true, env = env })
  if not module then return nil, err end
  local slots
  slots, err = module:slots()
  if not slots then module:close() return nil, err end
  err = "no such token"
  for _, slot in ipairs(slots) do
    if slot.label == given.label[name] then
      local session, good
      session, err = module:session(slot.slot, { writable = name == "vault" })
      if session then good, err = session:login(core.secret(given.pin[name])) end
      if good then return session, module end
    end
  end
  module:close()
  return nil, err
end

local function write(lie)
  local file = assert(io.open(given.script, "w"))
  file:write(lie, "\n")
  file:close()
end

-- Everything that is there, by handle of this session; "open N" apart.
local function look(name)
  local session, module = assert(open(name))
  local clones, others = {}, {}
  for object in session:objects() do
    if object.label:find("^open %%d$") then
      clones[object.label] = clones[object.label] or {}
      table.insert(clones[object.label], object)
    else
      table.insert(others, ("%%s %%s"):format(object.class, object.label))
    end
  end
  table.sort(others)
  return session, module, clones, table.concat(others, "\n")
end

local keep = given.script .. ".store"
assert(os.execute(("cp -a '%%s' '%%s'"):format(given.store, keep)))
local function restore()
  assert(os.execute(("rm -rf '%%s' && cp -a '%%s' '%%s'"):format(given.store, keep, given.store)))
end

local function mac(object)
  return assert(object:sign("sha256_hmac", "by whose key?"))
end

local macs = {}
local session, module, clones, source_before = look("prod")
for label, list in pairs(clones) do macs[label] = mac(list[1]) end
module:close()
local target_before
session, module, clones, target_before = look("vault")
module:close()

-- What is on the target now; and takes the clones away.
local function judge()
  local good, bad, problem = 0, 0, ""
  local session, module, clones, others = look("vault")
  for label, list in pairs(clones) do
    for _, clone in ipairs(list) do
      if mac(clone) == macs[label] and #list == 1 then good = good + 1 else bad = bad + 1 end
      assert(clone:destroy())
    end
  end
  module:close()
  if others ~= target_before then problem = "target has others" end
  session, module, clones, others = look("prod")
  for label in pairs(macs) do
    if not clones[label] or mac(clones[label][1]) ~= macs[label] then problem = "source changed" end
  end
  if others ~= source_before then problem = "source has others" end
  module:close()
  if problem ~= "" then restore() end
  return good, bad, problem
end

for i, lie in ipairs(given.lies) do
  write(lie)
  local report
  local source, one = open("prod", given.liar_is == "prod")
  local target, two = open("vault", given.liar_is == "vault")
  if source and target then
    report = keyferry.backup { source = source, target = target, mode = given.mode,
      source_engine = given.engine[1], target_engine = given.engine[2], select = "open *",
      verify = given.verify }
  else
    report = { status = "failed", reason = not source and one or two, cloned = 0 }
  end
  if source then one:close() end
  if target then two:close() end
  write("")
  local good, bad, problem = judge()
  print(("%%d\t%%s\t%%d\t%%d\t%%d\t%%s\t%%s"):format(i, report.status, report.cloned or 0,
    good, bad, problem, (tostring(report.reason):gsub("%%s+", " "))))
  io.stdout:flush()
end
]]

local function constructor(value)
  if type(value) ~= "table" then return ("%q"):format(value) end
  local parts = {}
  for name, field in pairs(value) do
    table.insert(parts, ("[%s] = %s"):format(constructor(name), constructor(field)))
  end
  return "{ " .. table.concat(parts, ", ") .. " }"
end

-- options: engine ({ "wrap", "wrap" }), verify, mode ("add"), timeout.
function M.tell(scene, who, lies, options)
  options = options or {}
  local one, two = scene:source(), scene:target()
  local given = {
    path = package.path, cpath = package.cpath, lies = lies, liar_is = who,
    mode = options.mode or "add", engine = options.engine or { "wrap", "wrap" },
    verify = options.verify or false, script = tmp.memory("lies") .. "/script",
    store = two.dir, liar = build.tool("liar.so"), softhsm = build.softhsm(),
    conf = { prod = one.hsm.conf, vault = two.hsm.conf },
    label = { prod = one.label, vault = two.label }, pin = { prod = one.pin, vault = two.pin },
  }
  shell.write(given.script, "")
  local done = process.run { "lua5.4", "-e", CHILD:format(constructor(given)),
    timeout = options.timeout or 120 }
  local told = {}
  for line in done.out:gmatch("[^\n]+") do
    local i, status, cloned, good, bad, problem, reason =
      line:match("^(%d+)\t(%w+)\t(%d+)\t(%d+)\t(%d+)\t([^\t]*)\t(.*)$")
    if i then
      told[tonumber(i)] = { lie = lies[tonumber(i)], status = status, cloned = tonumber(cloned),
        good = tonumber(good), bad = tonumber(bad), problem = problem, reason = reason }
    end
  end
  if done.status ~= 0 or #told ~= #lies then
    error(("after %d of %d lies, in %q: status %s, signal %s\n%s%s"):format(#told, #lies,
      lies[#told + 1] or "", done.status, done.signal, done.out, done.err), 2)
  end
  return told
end

return M
