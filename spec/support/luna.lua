-- SPDX-License-Identifier: MIT
-- luna: a network HSM's library with partitions, as the stand-in makes it (what its folder
-- holds is told in support/luna.c).
--
--   local hsm = luna.fresh()                       hsm.module, hsm.env
--   local p = hsm:partition("payments", { domain = "red" })
--   p.serial, p.slot, p.pin                        p:tool { "--list-objects" }
--   hsm:placeholder() hsm:admin() hsm:ha(p)        other slots of the same library
--   hsm:entry("vault", { p })                      an entry of `hsms`, as Lua text; without
--                                                  a list, all its slots
--   p:set("limit", 3) p:unset("domain")            the partition's switches
--   hsm:answers("CA_CloneObject", { 0x80001604 })  what its next calls give
--   hsm:log() -> { "C_Login 0 0x0", ... }
local build = require("support.build")
local shell = require("support.shell")
local softhsm = require("support.softhsm")
local tmp = require("support.tmp")

local M = {}
local Hsm, Partition = {}, {}
Hsm.__index, Partition.__index = Hsm, Partition

function M.fresh()
  local hsm = setmetatable({ dir = tmp.memory("luna"), slots = {}, made = 0 }, Hsm)
  hsm.soft = softhsm.fresh(hsm.dir)
  hsm.module, hsm.env = build.tool("luna.so"), { LUNA_STATE = hsm.dir }
  return hsm
end

local function add_slot(hsm, line)
  table.insert(hsm.slots, (line:gsub("SLOT", tostring(#hsm.slots))))
  shell.write(hsm.dir .. "/slots", table.concat(hsm.slots, "\n") .. "\n")
  return #hsm.slots - 1
end

local function folder(token)
  return token.dir:match("[^/]+$")
end

-- The last digits tell partitions apart, as on the hardware.
local function next_serial(hsm)
  hsm.made = hsm.made + 1
  return ("1682975235%03d"):format(229 + hsm.made)
end

local function slot_over(hsm, kind, token, label, serial)
  local self = setmetatable({ hsm = hsm, token = token, label = label, pin = token.pin,
    so_pin = token.so_pin, serial = serial }, Partition)
  for _, name in ipairs { "aes", "pair", "rsa", "ec", "data", "import" } do
    self[name] = token[name]
  end
  assert(os.execute("mkdir " .. shell.quote(hsm.dir .. "/" .. self.serial)))
  self:set("pin", token.pin)
  self.slot = add_slot(hsm, ("%s SLOT %s %s"):format(kind, folder(token), self.serial))
  return self
end

local function token_slot(hsm, kind, label, options)
  return slot_over(hsm, kind, hsm.soft:init_token(label, options), label, next_serial(hsm))
end

-- options: domain (false: none; "red" otherwise), pin, so_pin; ped (true: on the protected
-- path, with the right keys at hand).
function Hsm:partition(label, options)
  options = options or {}
  local partition = token_slot(self, "net", label, options)
  if options.domain ~= false then partition:set("domain", options.domain or "red") end
  if options.ped then partition:on_protected_path() end
  return partition
end

-- A slot whose partition this client has none of.
function Hsm:placeholder()
  return add_slot(self, "empty SLOT")
end

-- The HSM's own partition, where its security officer works.
function Hsm:admin(label)
  return token_slot(self, "admin", label or "admin")
end

-- A virtual slot over a partition that is there: the slot's number, and what it shows.
function Hsm:ha(member, label)
  local group = slot_over(self, "ha", member.token, label or "group",
    ("1154438865%03d"):format(286 + #self.slots))
  group:set("label", group.label)
  return group.slot, group
end

function Hsm:answers(name, codes)
  local lines = {}
  for i, code in ipairs(codes) do lines[i] = ("0x%X\n"):format(code) end
  shell.write(self.dir .. "/next." .. name, table.concat(lines))
end

-- What two partitions that are not of one domain give.
function Hsm:mismatch(code)
  shell.write(self.dir .. "/mismatch", ("0x%X\n"):format(code))
end

function Hsm:log(pattern)
  local list = {}
  for line in (shell.read(self.dir .. "/log") or ""):gmatch("[^\n]+") do
    if line:find(pattern or "") then table.insert(list, line) end
  end
  return list
end

function Hsm:forget_log()
  os.remove(self.dir .. "/log")
end

function Hsm:tool(command)
  command.env = command.env or {}
  for name, value in pairs(self.env) do command.env[name] = value end
  command.module = self.module
  return self.soft:tool(command)
end

function Hsm:entry(name, partitions, more)
  local fields = { ("name = %q"):format(name), ("module = %q"):format(self.module),
    ("env = { LUNA_STATE = %q }"):format(self.dir) }
  local slots = {}
  for i, partition in ipairs(partitions or {}) do
    slots[i] = ("{ serial = %q }"):format(partition.serial)
  end
  if partitions then
    table.insert(fields, ("slots = { %s }"):format(table.concat(slots, ", ")))
  end
  table.insert(fields, more)
  return ("{ %s }"):format(table.concat(fields, ", "))
end

local function path(partition, name)
  return partition.hsm.dir .. "/" .. partition.serial .. "/" .. name
end

function Partition:set(name, value)
  shell.write(path(self, name), tostring(value) .. "\n")
end

function Partition:unset(name)
  os.remove(path(self, name))
end

function Partition:read(name)
  return (shell.read(path(self, name)) or ""):match("[^\n]+")
end

-- The keys at hand: Crypto Officer's and security officer's.
function Partition:on_protected_path()
  assert(os.execute("mkdir " .. shell.quote(path(self, "ped"))))
  self:set("ped/black.pin", self.pin)
  self:set("ped/blue.pin", self.so_pin)
end

-- pkcs11-tool, logged in; must succeed, gives what it wrote.
function Partition:tool(command)
  local all = { "--slot", self.slot, "--login", "--pin", self.pin, env = command.env,
    timeout = command.timeout }
  table.move(command, 1, #command, #all + 1, all)
  local done = self.hsm:tool(all)
  if done.status ~= 0 then
    error(("pkcs11-tool %s: %s%s"):format(table.concat(command, " "), done.out, done.err), 2)
  end
  return done.out
end

return M
