-- SPDX-License-Identifier: MIT
-- awkward: a partition with one of every kind that some way of backing up cannot keep whole.
--
--   awkward.stock(zoo.session(token))     what PKCS#11 makes
--   zoo.close(token) awkward.bend(token)  what only a store can be brought to hold
--   awkward.damage(token)                 what no program can read
local object_file = require("support.object_file")
local shell = require("support.shell")
local zoo = require("support.zoo")

local M = {}

local CLASS, LABEL = 0x0, 0x3

-- Besides the zoo: what may not be changed, copied or removed, and what no wrapping takes.
function M.stock(session)
  zoo.stock(session)
  local function secret(label, more)
    more.value = more.value or ("k"):rep(32)
    return zoo.secret(session, label, more)
  end
  secret("not modifiable", { modifiable = false })
  secret("not copyable", { copyable = false })
  secret("not destroyable", { destroyable = false })
  secret("nothing at all", { modifiable = false, copyable = false, destroyable = false,
    extractable = false })
  secret("readable", { sensitive = false, extractable = false })
  secret("dated", { start_date = "20200229", end_date = "20991231", extractable = false })
  assert(session:generate_pair { mechanism = "rsa_pkcs_key_pair_gen",
    public = { label = "held rsa", id = "held", token = true, modulus_bits = 2048,
      public_exponent = "\1\0\1", verify = true, destroyable = false },
    private = { label = "held rsa", id = "held", token = true, private = true, sign = true,
      sensitive = true, extractable = false, modifiable = false } })
end

local function write(token, object)
  shell.write(("%s/%08x-0000-4000-8000-%012x.object"):format(token.dir, math.random(1 << 31),
    math.random(1 << 47)), object_file.encode(object))
end

-- A copy of the public object of that label, otherwise labelled, changed by a function.
local function another(token, label, new_label, change)
  for _, name in ipairs(token:files()) do
    local object = assert(object_file.parse(shell.read(token.dir .. "/" .. name)))
    if object_file.get(object, LABEL) == label then
      change(object.records)
      for _, record in ipairs(object.records) do
        if record.type == LABEL then record.value = new_label end
      end
      return write(token, object)
    end
  end
  error("no public object " .. label)
end

-- Nobody may have the token open. An object of a vendor's class, and a public key with a
-- vendor's attribute.
function M.bend(token)
  another(token, "data public", "of a vendor", function(records)
    for _, record in ipairs(records) do
      if record.type == CLASS then record.value = string.pack(">I8", 0x80000001) end
    end
  end)
  another(token, "secp256k1", "with a vendor's attribute", function(records)
    table.insert(records, { type = 0x80001234, kind = 3, value = "theirs" })
  end)
end

-- Two files of which nobody can make an object: one parses as no record, one ends after some.
function M.damage(token)
  local cuts = {}
  for label, cut in pairs { ["sha256 hmac"] = 200, ["sha384 hmac"] = 401 } do
    cuts[token.dir .. "/" .. token:labelled(label)[1].file] = cut
  end
  for path, cut in pairs(cuts) do shell.write(path, shell.read(path):sub(1, cut)) end
end

return M
