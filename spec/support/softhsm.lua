-- SPDX-License-Identifier: MIT
-- softhsm: soft HSMs made and filled by other people's tools, and their stores read by
-- ours apart from the product.
--
--   local hsm = softhsm.fresh()                   hsm.conf, hsm.tokendir, hsm.env
--   local token = hsm:init_token("payments")      token.serial, token.dir, token.pin
--   token:aes("kek", "01")  token:rsa("web", "02")  token:tool { "--list-objects" }
--   token:objects()["<uuid>.object"][0x3].value   every attribute, decrypted
local build = require("support.build")
local object_file = require("support.object_file")
local process = require("support.process")
local shell = require("support.shell")
local tmp = require("support.tmp")

local M = {}
local Hsm, Token = {}, {}
Hsm.__index, Token.__index = Hsm, Token

-- A new empty soft HSM. In `dir` when given (which must not hold one).
function M.fresh(dir)
  local self = setmetatable({ dir = dir or tmp.memory("softhsm") }, Hsm)
  self.conf, self.tokendir = self.dir .. "/softhsm2.conf", self.dir .. "/tokens"
  assert(os.execute("mkdir -m 700 " .. shell.quote(self.tokendir)))
  shell.write(self.conf, ("directories.tokendir = %s\nobjectstore.backend = file\n" ..
    "log.level = ERROR\n"):format(self.tokendir))
  self.env = { SOFTHSM2_CONF = self.conf }
  self.module = build.softhsm()
  return self
end

-- A soft HSM that others made: softhsm2.conf and tokens/ in `dir`.
function M.at(dir)
  local self = setmetatable({ dir = dir, conf = dir .. "/softhsm2.conf",
    tokendir = dir .. "/tokens", module = build.softhsm() }, Hsm)
  self.env = { SOFTHSM2_CONF = self.conf }
  return self
end

local function environment(hsm, more)
  local env = {}
  for name, value in pairs(hsm.env) do env[name] = value end
  for name, value in pairs(more or {}) do env[name] = value end
  return env
end

local function token_dirs(hsm)
  local dirs = {}
  for _, line in ipairs(shell.lines("ls -1 " .. shell.quote(hsm.tokendir))) do
    dirs[hsm.tokendir .. "/" .. line] = true
  end
  return dirs
end

-- options: pin ("1234"), so_pin ("12345678").
function Hsm:init_token(label, options)
  options = options or {}
  local before = token_dirs(self)
  local token = setmetatable({ hsm = self, label = label, pin = options.pin or "1234",
    so_pin = options.so_pin or "12345678" }, Token)
  process.must { "softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin",
    token.so_pin, "--pin", token.pin, env = self.env }
  for dir in pairs(token_dirs(self)) do
    if not before[dir] then token.dir = dir end
  end
  local file = assert(object_file.parse(shell.read(token.dir .. "/token.object")))
  token.serial = object_file.get(file, 0x8000534A)
  return token
end

-- The tokens there are with that label (all when nil), however they were made.
function Hsm:tokens(label, options)
  local list = {}
  for dir in pairs(token_dirs(self)) do
    local file = object_file.parse(shell.read(dir .. "/token.object") or "")
    local name = file and (object_file.get(file, 0x80005349) or ""):gsub(" +$", "")
    if name and (not label or name == label) then
      table.insert(list, setmetatable({ hsm = self, label = name, dir = dir,
        pin = options and options.pin or "1234",
        so_pin = options and options.so_pin or "12345678",
        serial = object_file.get(file, 0x8000534A) }, Token))
    end
  end
  return list
end

-- pkcs11-tool on this HSM. A command of process.run, without the program.
function Hsm:tool(command)
  local all = { "pkcs11-tool", "--module", command.module or self.module }
  table.move(command, 1, #command, #all + 1, all)
  all.env, all.timeout = environment(self, command.env), command.timeout
  return process.run(all)
end

-- pkcs11-tool on this token, logged in as user; must succeed, gives what it wrote.
function Token:tool(command)
  local all = { "--token-label", self.label, "--login", "--pin", self.pin,
    env = command.env, module = command.module, timeout = command.timeout }
  table.move(command, 1, #command, #all + 1, all)
  local done = self.hsm:tool(all)
  if done.status ~= 0 then
    error(("pkcs11-tool %s: %s%s"):format(table.concat(command, " "), done.out, done.err), 2)
  end
  return done.out
end

local function append(list, more)
  table.move(more or {}, 1, #(more or {}), #list + 1, list)
  return list
end

-- Keys; `id` in hex, `more` further options of pkcs11-tool such as "--extractable". Keys
-- are private and sensitive, and not extractable unless told otherwise.
function Token:aes(label, id, more, bytes)
  return self:tool(append({ "--keygen", "--key-type", "AES:" .. (bytes or 32), "--label", label,
    "--id", id, "--sensitive", "--private" }, more))
end

function Token:pair(key_type, label, id, more)
  return self:tool(append({ "--keypairgen", "--key-type", key_type, "--label", label, "--id",
    id, "--sensitive" }, more))
end

function Token:rsa(label, id, more) return self:pair("rsa:2048", label, id, more) end
function Token:ec(label, id, more) return self:pair("EC:prime256v1", label, id, more) end

function Token:data(label, bytes, more)
  return self:tool(append({ "--write-object", tmp.file(bytes), "--type", "data", "--label",
    label }, more))
end

-- Any object from a file: type "cert", "pubkey", "privkey", "secrkey"; bytes in DER.
function Token:import(type, label, id, bytes, more)
  return self:tool(append({ "--write-object", tmp.file(bytes), "--type", type, "--label", label,
    "--id", id }, more))
end

local function fill(token, n, conf)
  return process.must { build.tool("fill"), conf, n, token.label, input = token.pin .. "\n",
    timeout = 600 }
end

-- n objects (spec/bench/fill.c). SoftHSM writes each several times, which is slow on a disk:
-- many are made in memory, where there is enough of it, and the token's folder is moved.
function Token:fill(n)
  local memory = n >= 500 and shell.lines("mktemp -d -p /dev/shm 2>/dev/null")[1]
  if not memory then return fill(self, n, self.hsm.conf) end
  local at, conf = memory .. "/" .. self.dir:match("[^/]+$"), memory .. ".conf"
  shell.write(conf, "directories.tokendir = " .. memory .. "\nlog.level = ERROR\n")
  process.must { "cp", "-a", self.dir, memory }
  local filled = pcall(fill, self, n, conf)
  local moved = filled and process.run { "cp", "-a", at .. "/.", self.dir, timeout = 600 }
  process.must { "rm", "-rf", memory, conf }
  if not filled then return fill(self, n, self.hsm.conf) end
  if moved.status ~= 0 then error(moved.err, 2) end
end

-- Names of the object files.
function Token:files()
  local list = {}
  for _, name in ipairs(shell.lines("LC_ALL=C ls -1 " .. shell.quote(self.dir))) do
    if name:find("%.object$") and name ~= "token.object" then table.insert(list, name) end
  end
  return list
end

-- { [file] = { [type] = { kind =, form = "clear"|"encrypted", value = bytes } } }
function Token:objects()
  local objects = {}
  local out = process.must { build.tool("softhsm_dump"), self.dir, input = self.pin .. "\n" }
  for line in out:gmatch("[^\n]+") do
    local file, type, kind, form, value = line:match("^(%S+) (%S+) (%d) (%a+) (%S+)$")
    assert(file, line)
    objects[file] = objects[file] or {}
    objects[file][math.tointeger(tonumber(type))] = {
      kind = math.tointeger(tonumber(kind)), form = form,
      value = value == "-" and "" or shell.unhex(value),
    }
  end
  return objects
end

-- The objects with that label, as a list of attribute tables (with `file`).
function Token:labelled(label)
  local list = {}
  for file, object in pairs(self:objects()) do
    if object[0x3] and object[0x3].value == label then
      object.file = file
      table.insert(list, object)
    end
  end
  return list
end

-- One string per object: all its attributes in order, how they lie there and their values.
-- Sorted; so two stores hold the same objects when these lists are equal.
-- without: { [type] = true } to leave out.
function Token:contents(without)
  local list = {}
  for _, object in pairs(self:objects()) do
    local lines = {}
    for type, attribute in pairs(object) do
      if not (without and without[type]) then
        table.insert(lines, ("%010x %d %s %s"):format(type, attribute.kind, attribute.form,
          shell.hex(attribute.value)))
      end
    end
    table.sort(lines)
    table.insert(list, table.concat(lines, "\n"))
  end
  table.sort(list)
  return list
end

return M
