-- SPDX-License-Identifier: MIT
-- nss: partitions in databases of NSS softoken, made through our own door (no certutil).
--
--   local db = nss.fresh("NSS-A")        an initialised token, user PIN db.pin
--   local db = nss.empty("NSS-A")        a database that nobody has initialised
--   db:session()                         logged in, read/write; db:close()
--   db:entry("name")                     an entry of `hsms` in a configuration, as Lua text
--   nss.fresh("NSS-L", { lies = "C_GetMechanismList drop 0x210B" })   behind support/liar.c
--   nss.fresh("NSS-F", { fips = true })  the FIPS token of the same library; one in a process,
--                                        since it checks the library's file and so is no copy
local build = require("support.build")
local core = require("keyferry.core")
local shell = require("support.shell")
local tmp = require("support.tmp")

local M = {}
local Db, kept = {}, {}
Db.__index = Db

local modules = {
  "/usr/lib/x86_64-linux-gnu/libsoftokn3.so",
  "/usr/lib/aarch64-linux-gnu/libsoftokn3.so",
  "/usr/lib64/libsoftokn3.so",
  "/usr/lib/libsoftokn3.so",
}

function M.module()
  for _, path in ipairs(modules) do
    if shell.exists(path) then return path end
  end
  error("NSS is not installed (Debian's libnss3)")
end

-- Without them each PIN that is set or tried costs a good part of a second.
M.env = { NSS_MAX_MP_PBE_ITERATION_COUNT = "1", NSS_MIN_MP_PBE_ITERATION_COUNT = "1" }

-- What the module finds in its environment.
local function environment(db)
  local env = { }
  for name, value in pairs(M.env) do env[name] = value end
  if db.lies then
    env.LIAR_MODULE, env.LIAR_SCRIPT = M.module(), tmp.file(db.lies .. "\n", "lies")
  end
  return env
end

local function parameters(db)
  local description = db.fips and "FIPSTokenDescription" or "dbTokenDescription"
  return ("configdir='sql:%s' certPrefix='' keyPrefix='' secmod='' flags= %s='%s'")
    :format(db.dir, description, db.label)
end

-- options: fips; lies; pin; dir (one that is there).
function M.empty(label, options)
  options = options or {}
  local db = setmetatable({ label = label, fips = options.fips, dir = options.dir or
    tmp.memory("nss"), pin = options.pin or "user Pin 7x", slot = options.fips and 3 or 2 }, Db)
  db.init_args = parameters(db)
  db.lies = options.lies
  db.module, db.env = db.lies and build.tool("liar.so") or M.module(), environment(db)
  db.functions = db.fips and "FC_GetFunctionList" or nil
  return db
end

-- The same database, as another program has it: a module of its own.
function Db:again()
  return M.empty(self.label, self)
end

function Db:open()
  if not self.loaded then
    self.loaded = assert(core.module(self.module, { private_copy = not self.fips, env = self.env,
      init_args = self.init_args, functions = self.functions }))
    table.insert(kept, self.loaded)
  end
  return self.loaded
end

-- The security officer of a database has an empty PIN, and only before the user has one.
function Db:initialise()
  assert(self:open():init_token(self.slot, core.secret(""), self.label))
  local session <close> = assert(self:open():session(self.slot, { writable = true }))
  assert(session:login(core.secret(""), "so"))
  assert(session:init_pin(core.secret(self.pin)))
  assert(session:logout())
  return self
end

function M.fresh(label, options)
  return M.empty(label, options):initialise()
end

-- One session, logged in as the user. options: writable (true).
function Db:session(options)
  if not self.opened or not self.opened:is_open() then
    self.opened = assert(self:open():session(self.slot,
      { writable = not options or options.writable ~= false }))
    assert(self.opened:login(core.secret(self.pin)))
  end
  return self.opened
end

-- Ends the session. The module stays as long as the process: C_Finalize of one copy of NSS
-- takes the random numbers from all others (measured, 3.87: C_Sign is CKR_ARGUMENTS_BAD then).
function Db:close()
  if self.opened then self.opened:close() end
  self.opened = nil
end

local function field(name, value)
  return value and ("%s = %q"):format(name, value) or nil
end

function Db:entry(name, more)
  local env = {}
  for key, value in pairs(self.env) do table.insert(env, ("%s = %q"):format(key, value)) end
  table.sort(env)
  local fields = { field("name", name), field("module", self.module),
    field("init_args", self.init_args), ("env = { %s }"):format(table.concat(env, ", ")) }
  table.insert(fields, field("functions", self.functions))
  table.insert(fields, more)
  return ("{ %s }"):format(table.concat(fields, ", "))
end

return M
