-- SPDX-License-Identifier: MIT
-- The ends of the matrix: each makes partitions, and says by which engine they are worked.
--
--   ends.list[i] = { name =, engine = (nil: the one that fits best),
--     source = function(stock) -> place, refused; target = function(from) -> place }
--   ends.domain() -> the cloning domain of them all
-- A place is { partition =, open = function(self, writable) -> session, close = } (methods):
-- nothing of it is loaded between the two. `stock(session)` fills a source, and gives why not of
-- the kinds that it does not take. `from`: the end that is the source.
local Hsm = require("keyferry.hsm")
local core = require("keyferry.core")
local build = require("support.build")
local liar = require("support.liar")
local luna = require("support.luna")
local nss = require("support.nss")
local once = require("support.once")
local ped = require("keyferry.ped")
local process = require("support.process")
local shell = require("support.shell")
local softhsm = require("support.softhsm")
local tmp = require("support.tmp")

-- Places ------------------------------------------------------------------------------------------

local Place = {}
Place.__index = Place

-- hsm: fields of an HSM as the library has them; find(token): whether it is the one; pin: text or
-- a secret, nil with a protected path; token: of spec/support/softhsm, where the store is such.
local function place(options)
  options.hsm = Hsm.new(options.hsm)
  return setmetatable(options, Place)
end

-- An HSM that two places are on is loaded once.
function Place:partition()
  if not self.found then
    self.hsm.users = (self.hsm.users or 0) + 1
    for _, partition in ipairs(assert(self.hsm:partitions())) do
      if self.find(partition.token) then self.found = partition end
    end
    assert(self.found, "there is no such partition")
  end
  return self.found
end

function Place:open(writable)
  local pin = type(self.pin) == "string" and core.secret(self.pin) or self.pin
  self.session = assert(self:partition():login(pin, { writable = writable }))
  return self.session
end

function Place:close()
  if self.session then self.session:close() end
  if self.found then self.hsm.users = self.hsm.users - 1 end
  if self.hsm.users == 0 then self.hsm:close() end
  self.session, self.found = nil, nil
end

-- SoftHSM -----------------------------------------------------------------------------------------

local function by_serial(serial)
  return function(token) return token.serial == serial end
end

local function soft_fields(hsm)
  return { name = "soft", kind = "module", module_path = build.softhsm(), private_copy = true,
    conf = hsm.conf, env = hsm.env }
end

local function soft_place(token)
  return place { pin = token.pin, token = token, hsm = soft_fields(token.hsm),
    find = by_serial(token.serial) }
end

-- The same token behind a module with a protected authentication path.
local function path_place(token)
  local hsm = liar.over(token.hsm)
  local dir = hsm.script:match("^(.*)/")
  shell.write(dir .. "/user.pin", token.pin)
  hsm:lie("pap " .. dir)
  return place { token = token, find = by_serial(token.serial),
    hsm = { name = "path", kind = "module", module_path = hsm.module, private_copy = true,
      env = hsm.env } }
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

local function soft(name, engine, at)
  return { name = name, engine = engine,
    source = function(stock)
      local token, made = soft_source(stock)
      return at(token), made
    end,
    target = function() return at(soft_target()) end }
end

-- A soft PED ------------------------------------------------------------------------------------

-- 2 of 3 shares make each of the keys; the text of the red one is the domain of the whole matrix.
local function key(colour)
  return once(function()
    local shares = assert(ped.create { colour = colour, m = 2, n = 3 })
    return assert(ped.combine { shares[3], shares[1] })
  end)
end

local blue, black, red = key("blue"), key("black"), key("red")

local domain = once(function() return assert(core.domain(red())) end)

local function ped_hsm()
  local fields = soft_fields(softhsm.fresh(tmp.memory("matrix")))
  fields.kind, fields.authentication = "soft", "ped"
  fields.blue_check = assert(core.share.check(blue()))
  return fields
end

local function ped_place(label)
  local fields = ped_hsm()
  local hsm = Hsm.new(fields)
  local serial = assert(hsm:create_partition { label = label, so_password = blue(),
    password = black(), domain = domain() }).token.serial
  hsm:close()
  return place { pin = black(), hsm = fields, find = by_serial(serial) }
end

-- NSS -------------------------------------------------------------------------------------------

local function nss_place(label)
  local db = nss.fresh(label)
  db:close()
  return place { pin = db.pin, find = function(token) return token.slot == db.slot end,
    hsm = { name = "nss", kind = "module", module_path = nss.module(), private_copy = true,
      env = nss.env, init_args = db.init_args } }
end

-- The end whose places a function makes, of their label.
local function simple(name, engine, make)
  return { name = name, engine = engine,
    source = function(stock)
      local at = make("source")
      local made = stock(at:open(true))
      at:close()
      return at, made
    end,
    target = function() return make("target") end }
end

-- Luna ------------------------------------------------------------------------------------------

local function luna_place(hsm, label)
  local partition = hsm:partition(label)
  return place { pin = partition.pin, hsm = hsm.shared, on = hsm,
    find = by_serial(partition.serial) }
end

local function luna_hsm()
  local hsm = luna.fresh()
  hsm.shared = { name = "luna", kind = "module", module_path = hsm.module, env = hsm.env }
  return hsm
end

local luna_end = simple("Luna stand-in", nil, function(label)
  return luna_place(luna_hsm(), label)
end)

local targets = 0
function luna_end.target(from)
  targets = targets + 1
  return luna_place(from == luna_end and from.stocked.on or luna_hsm(), "target " .. targets)
end

local list = {
  soft("SoftHSM, softhsm", "softhsm", soft_place),
  soft("SoftHSM, wrap", "wrap", soft_place),
  simple("NSS, wrap", "wrap", nss_place),
  luna_end,
  simple("soft PED", nil, ped_place),
  soft("protected path, wrap", "wrap", path_place),
}

return { list = list, domain = domain }
