-- SPDX-License-Identifier: MIT
-- Whether what a run said of an object is so. Looks at both partitions with nothing but PKCS#11
-- (and the stores of SoftHSM, by softhsm_dump); compares with nothing of the product.
local core = require("keyferry.core")

local M = {}

-- Rights that a clone may never have more of, and whether true is more.
local RIGHTS = { extractable = true, sensitive = false, private = false, encrypt = true,
  decrypt = true, sign = true, verify = true, wrap = true, unwrap = true, derive = true,
  sign_recover = true, verify_recover = true, modifiable = true, wrap_with_trusted = false,
  always_authenticate = false, trusted = true }

-- Numbers have leading zeros on one token and none on another.
local NUMBERS = { modulus = true, public_exponent = true, prime = true, subprime = true,
  base = true }

local function canonical(name, value)
  if NUMBERS[name] and type(value) == "string" then return (value:gsub("^\0+", "")) end
  if type(value) ~= "table" then return value end
  local parts = {}
  for key, field in pairs(value) do
    -- A list of mechanisms is a set.
    table.insert(parts, (type(key) == "number" and "" or key .. "=") ..
      tostring(canonical(key, field)))
  end
  table.sort(parts)
  return table.concat(parts, " ")
end

-- The bytes of a curve's point, DER around them or not.
local function point(value)
  if type(value) ~= "string" then return value end
  if value:byte(1) == 4 and value:byte(2) == #value - 2 then return value:sub(3) end
  if value:byte(1) == 4 and value:byte(2) == 0x81 and value:byte(3) == #value - 3 then
    return value:sub(4)
  end
  return value
end

local function same(name, a, b)
  if name == "ec_point" then return point(a) == point(b) end
  return canonical(name, a) == canonical(name, b)
end

-- What a token that does not know the attribute does: the default that PKCS#11 gives (v2.40, 4.4),
-- or nothing at all, or that nobody knows (CK_UNAVAILABLE_INFORMATION).
local DEFAULTS = { copyable = true, destroyable = true, modifiable = true }

local function is_nothing(name, value)
  return value == "" or value == "unavailable" or type(value) == "table" and next(value) == nil
    or DEFAULTS[name] ~= nil and value == DEFAULTS[name]
end

local function cka(name)
  return "CKA_" .. name:upper()
end

-- { CKA_NAME = true } of what the original has and the clone has not, or has otherwise; and a
-- sentence when the clone may do what its original may not.
local function differences(original, clone)
  local a, b, differ = original:attributes(), clone:attributes(), {}
  local more
  for name, value in pairs(a) do
    local kept = b[name] == nil and is_nothing(name, value) or same(name, value, b[name])
    if not kept then
      differ[cka(name)] = true
      if RIGHTS[name] ~= nil and b[name] == RIGHTS[name] and value ~= b[name] then
        more = "the clone has more rights: " .. cka(name)
      end
    end
  end
  return differ, more
end

local function set_of(lost)
  local set = {}
  for name in (lost or ""):gmatch("CKA_[%w_]+") do set[name] = true end
  return set
end

local function names(set)
  local sorted = {}
  for name in pairs(set) do table.insert(sorted, name) end
  table.sort(sorted)
  return table.concat(sorted, ", ")
end

local function without(set, other)
  local rest = {}
  for name in pairs(set) do
    if not other[name] then rest[name] = true end
  end
  return rest
end

-- What the tokens do not show of the original (SoftHSM: the dates of private objects) nobody can
-- compare.
local function unread(object)
  local set = {}
  for _, name in ipairs(object:unread()) do set[name] = true end
  return set
end

local function judge_clone(kind, result, original, clone)
  local differ, more = differences(original, clone)
  local said, hidden = set_of(result.lost), unread(original)
  if more then return more end
  local silent = names(without(differ, said))
  if silent ~= "" then return "silently without " .. silent end
  local vain = names(without(without(said, differ), hidden))
  if vain ~= "" then return "said to be without " .. vain .. ", which it has" end
  if kind.use then
    local works = kind.use(clone, original)
    if works ~= true then return works end
  elseif kind.agreement then
    local good, err = core.challenge(original, clone)
    if good ~= true then return "it does not agree like its original: " .. tostring(err) end
  end
end

-- Values in the stores, where both are SoftHSM's: key bytes too.
local SECRETS = { 0x11, 0x120, 0x123, 0x124, 0x125, 0x126, 0x127, 0x128 }

local CLASSES = { data = 0, certificate = 1, public_key = 2, private_key = 3, secret_key = 4,
  domain_parameters = 6 }

local function in_store(store, class, label)
  local found
  for _, object in pairs(store or {}) do
    if object[0] and string.unpack(">I8", object[0].value) == CLASSES[class]
      and object[3] and object[3].value == label then
      found = object
    end
  end
  return found
end

local function judge_store(kind, class, source, target)
  local a, b = in_store(source, class, kind.label), in_store(target, class, kind.label)
  if not a or not b then return end
  for _, type in ipairs(SECRETS) do
    local one, other = a[type] and a[type].value or "", b[type] and b[type].value or ""
    if one ~= other then return ("the store has another %s"):format(core.name("CKA", type)) end
  end
end

local function find(session, class, label)
  local found, err = session:find { class = class, label = label, token = true }
  assert(found, tostring(err))
  return found
end

-- What is wrong with the answer for that kind, or nil. `at`: { source, target: sessions,
-- source_store, target_store: what softhsm_dump says, or nil }.
function M.wrong(kind, class, result, at)
  if not result then return "nothing was said of it" end
  local originals, clones = find(at.source, class, kind.label), find(at.target, class, kind.label)
  if #originals ~= 1 then return ("%d originals are there"):format(#originals) end
  if result.status ~= "cloned" then
    return #clones > 0 and "not cloned, and there" or nil
  elseif #clones ~= 1 then
    return ("cloned, and %d are there"):format(#clones)
  end
  return judge_clone(kind, result, originals[1], clones[1]) or
    judge_store(kind, class, at.source_store, at.target_store)
end

return M
