-- SPDX-License-Identifier: MIT
-- ped_scene: two soft HSMs with PED keys and one with passwords, in a home of their own.
--
--   local s = ped_scene.new()          -- "payments" with a key pair and a kek on prod; vault and
--                                      -- plain are empty
--   s:run { "partition", "list", env = s:keys { "black", "red" } }
--   s:lua(code)                        -- with login(label) -> session, a read/write one
local build = require("support.build")
local ped = require("support.ped")
local process = require("support.process")
local shell = require("support.shell")
local store = require("support.store")
local tmp = require("support.tmp")

local M = { serial = "496771", plain = "100003" }
local Scene = {}
Scene.__index = Scene

-- Black: M = 2 of N = 3; `other_black` is for the backup, `other_red` and `other_blue` fit nothing.
local made
local function keys()
  made = made or {
    blue = ped.key("blue"), black = ped.key("black", 2, 3), red = ped.key("red"),
    other_blue = ped.key("blue"), other_black = ped.key("black", 2, 3),
    other_red = ped.key("red"),
  }
  return made
end
M.all_keys = keys

local prelude = [[
local function key(paths)
  local shares = {}
  for _, path in ipairs(paths) do
    for _, share in ipairs(assert(keyferry.ped.read(path))) do shares[#shares + 1] = share end
  end
  return assert(keyferry.ped.combine(shares))
end
local blacks = { payments = { %s }, backup = { %s } }
local function login(label)
  local partition = assert(keyferry.partition(label))
  return assert(partition:login(key(blacks[label]), { writable = true })), partition
end
]]

local fill = [[
local session <close> = login("payments")
local safe = { token = true, private = true, sensitive = true, extractable = false }
assert(session:generate_pair{ mechanism = "ec_key_pair_gen",
  public = { label = "sign", id = "\2", token = true, verify = true,
    ec_params = "\6\8\42\134\72\206\61\3\1\7" },
  private = { label = "sign", id = "\2", sign = true, token = true, private = true,
    sensitive = true, extractable = false } })
safe.mechanism, safe.value_len, safe.label, safe.id = "aes_key_gen", 32, "kek", "\1"
safe.encrypt, safe.decrypt = true, true
assert(session:generate(safe))
]]

-- Signed by the clone, verified with the original's public key.
local prove = [[
local there <close> = login("payments")
local here <close> = login("backup")
local digest = ("d"):rep(32)
local private = assert(here:find{ class = "private_key", label = "sign" })[1]
local public = assert(there:find{ class = "public_key", label = "sign" })[1]
local signature = assert(private:sign("ecdsa", digest))
assert(public:verify("ecdsa", digest, signature) == true)
assert(public:verify("ecdsa", ("e"):rep(32), signature) ~= true)
local kek = assert(there:find{ label = "kek" })[1]
assert(keyferry.challenge(kek, assert(here:find{ label = "kek" })[1]) == true)
io.write("proved")
]]

function M.new()
  local self = setmetatable({ home = tmp.memory("home") }, Scene)
  local all = self:keys { "blue", "black", "red" }
  for _, words in ipairs { { "-name", "prod", "-serial", "100001", "-ped" },
    { "-name", "vault", "-serial", M.serial, "-ped" },
    { "-name", "plain", "-serial", M.plain } } do
    process.must(self:program { "hsm", "create", env = all, table.unpack(words) })
  end
  process.must(self:program { "partition", "create", "-partition", "payments", "-serial",
    "100001", env = all })
  self:lua(fill)
  return self
end

function Scene:program(command)
  local all = { build.keyferry, "--home", self.home }
  table.move(command, 1, #command, #all + 1, all)
  all.env = { SOFTHSM2_CONF = "/nonexistent", HOME = self.home,
    XDG_CONFIG_HOME = self.home .. "/config", XDG_DATA_HOME = false }
  for _, name in ipairs { "PED", "PASSWORD", "TOKENPW", "TOKENSOPWD", "DOMAIN", "HOME" } do
    all.env["KEYFERRY_" .. name] = false
  end
  for name, value in pairs(command.env or {}) do all.env[name] = value end
  all.width, all.height = command.width, command.height
  return all
end

function Scene:run(command)
  return process.run(self:program(command))
end

local function two(key) return key.files[1], key.files[3] end

-- KEYFERRY_PED with the shares of those keys, two of each that has several.
function Scene.keys(_, names)
  local paths = {}
  for _, name in ipairs(names) do
    for _, path in ipairs { two(keys()[name]) } do table.insert(paths, path) end
  end
  return { KEYFERRY_PED = table.concat(paths, ":") }
end

function Scene:lua(code)
  local function list(key) return ("%q, %q"):format(two(key)) end
  return process.must(self:program { "-e", prelude:format(list(keys().black),
    list(keys().other_black)) .. code })
end

-- "backup" on vault, whose black key is `other_black`.
function Scene:backup(more)
  local env = self:keys(more.keys or { "blue", "black", "red" })
  env.KEYFERRY_PED_TOKENPW = self:keys { more.tokenpw or "other_black" }.KEYFERRY_PED
  for name, value in pairs(more.env or {}) do env[name] = value end
  local words = { "partition", more.verb or "backup", "-partition", "payments", "-tokenpar",
    "backup", "-serial", more.serial or M.serial, env = env }
  table.move(more, 1, #more, #words + 1, words)
  return self:run(words)
end

-- Whether the keys of "backup" are those of "payments", by their use.
function Scene:proved()
  return self:lua(prove) == "proved"
end

-- The three HSMs, byte for byte.
function Scene:snapshot()
  local all = {}
  for _, name in ipairs { "prod", "vault", "plain" } do
    all[name] = store.snapshot(self.home .. "/hsms/" .. name)
  end
  return all
end

function Scene:changes(before)
  local lines, now = {}, self:snapshot()
  for name in pairs(now) do
    for _, line in ipairs(store.compare(before[name], now[name], { ignore_logins = true })) do
      table.insert(lines, name .. ": " .. line)
    end
  end
  return lines
end

function Scene:labels_on(name)
  return shell.lines("ls " .. shell.quote(self.home .. "/hsms/" .. name .. "/tokens"))
end

return M
