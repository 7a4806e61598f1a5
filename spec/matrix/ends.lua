-- SPDX-License-Identifier: MIT
-- The ends of the matrix: each makes partitions, and says by which engine they are worked.
--
--   ends[i] = { name =, engine = (nil: the one that fits best), source = function(stock) -> place,
--     target = function(from) -> place, like = name of an end with the same engine and tokens }
--   `from`: the end that is the source
-- A place is { open = function(self, writable) -> session, close = function(self) }: nothing of it
-- is loaded between the two. `stock(session)` fills a source, and gives what became of each kind.
local core = require("keyferry.core")
local build = require("support.build")
local liar = require("support.liar")
local luna = require("support.luna")
local nss = require("support.nss")
local process = require("support.process")
local shell = require("support.shell")
local softhsm = require("support.softhsm")
local tmp = require("support.tmp")

-- Places ------------------------------------------------------------------------------------------

local Place = {}
Place.__index = Place

-- load() -> module; find(slot) -> whether it is the one; pin: a secret, or nil.
local function place(options)
  return setmetatable(options, Place)
end

function Place:open(writable)
  self.module = assert(self.load())
  for _, slot in ipairs(assert(self.module:slots())) do
    if self.find(slot) then
      self.session = assert(self.module:session(slot.slot, { writable = writable }))
      assert(self.session:login(self.pin and core.secret(self.pin) or nil))
      return self.session
    end
  end
  error("there is no such token")
end

function Place:close()
  if self.session then self.session:close() end
  if self.module then self.module:close() end
  self.session, self.module = nil, nil
end

-- SoftHSM -----------------------------------------------------------------------------------------

local function soft_place(token)
  return place { pin = token.pin, token = token,
    load = function()
      return core.module(build.softhsm(), { private_copy = true, env = token.hsm.env })
    end,
    find = function(slot) return slot.serial == token.serial end }
end

-- The same token behind a module with a protected authentication path.
local function path_place(token)
  local hsm = liar.over(token.hsm)
  shell.write(hsm.script:gsub("script$", "user.pin"), token.pin)
  hsm:lie("pap " .. hsm.script:gsub("/script$", ""))
  return place { token = token,
    load = function()
      return core.module(hsm.module, { private_copy = true, env = hsm.env })
    end,
    find = function(slot) return slot.serial == token.serial end }
end

local function new_token(label)
  return softhsm.fresh(tmp.memory("matrix")):init_token(label)
end

local function copy_of(token)
  local hsm = softhsm.fresh(tmp.memory("matrix"))
  process.must { "cp", "-a", token.dir, hsm.tokendir }
  return hsm:tokens(token.label, token)[1]
end

-- One token is stocked, and one made, for all that work SoftHSM: copies are cheaper.
local stocked, told, blank

local function soft_source(stock)
  if not stocked then
    stocked = new_token("source")
    local at = soft_place(stocked)
    told = stock(at:open(true))
    at:close()
  end
  return copy_of(stocked), told
end

local function soft_target()
  blank = blank or new_token("target")
  return copy_of(blank)
end

local function soft(name, engine, at, like)
  return { name = name, engine = engine, like = like,
    source = function(stock)
      local token, made = soft_source(stock)
      return at(token), made
    end,
    target = function() return at(soft_target()) end }
end

-- NSS -------------------------------------------------------------------------------------------

local function nss_place(label)
  local db = nss.fresh(label)
  db:close()
  return place { pin = db.pin,
    load = function()
      return core.module(nss.module(), { private_copy = true, env = nss.env,
        init_args = db.init_args })
    end,
    find = function(slot) return slot.slot == db.slot end }
end

-- Luna ------------------------------------------------------------------------------------------

-- Partitions of one library are worked through one module, which goes with the last of them.
local function shared_module(hsm)
  local users, module = 0, nil
  return function()
    if users == 0 then module = assert(core.module(hsm.module, { env = hsm.env })) end
    users = users + 1
    return { slots = function() return module:slots() end,
      session = function(_, ...) return module:session(...) end,
      close = function()
        users = users - 1
        if users == 0 then module:close() end
      end }
  end
end

local function luna_place(hsm, label)
  local partition = hsm:partition(label)
  return place { pin = partition.pin, hsm = hsm, load = hsm.load,
    find = function(slot) return slot.serial == partition.serial end }
end

local function luna_hsm()
  local hsm = luna.fresh()
  hsm.load = shared_module(hsm)
  return hsm
end

local luna_end = { name = "Luna stand-in",
  source = function(stock)
    local at = luna_place(luna_hsm(), "source")
    local made = stock(at:open(true))
    at:close()
    return at, made
  end }

local targets = 0
function luna_end.target(from)
  targets = targets + 1
  return luna_place(from == luna_end and from.stocked.hsm or luna_hsm(), "target " .. targets)
end

return {
  luna_end,
  soft("SoftHSM, softhsm", "softhsm", soft_place),
  soft("SoftHSM, wrap", "wrap", soft_place),
  { name = "NSS, wrap", engine = "wrap",
    source = function(stock)
      local at = nss_place("source")
      local made = stock(at:open(true))
      at:close()
      return at, made
    end,
    target = function() return nss_place("target") end },
  soft("protected path, wrap", "wrap", path_place, "SoftHSM, wrap"),
}
