-- SPDX-License-Identifier: MIT
-- stream_bytes: a sealed stream taken apart and put together, as c/README.md has it, by a
-- second hand: nothing here asks keyferry what a stream is. SHA-256 is the core's; HMAC and the
-- key for it are openssl's.
--
--   local parts = stream_bytes.parse(bytes)     { head = { bytes =, ... }, frames = { ... } }
--   stream_bytes.join(parts)                    the bytes again, as they are in parts
--   stream_bytes.chain(parts)                   every digest made right again: what somebody
--                                               can do who does not know the domain
--   stream_bytes.authenticate(parts, key)       the macs, too: what somebody does who does
local core = require("keyferry.core")
local process = require("support.process")
local shell = require("support.shell")

local M = {}

local sha256 = core.sha256

-- The head ------------------------------------------------------------------------------

local HEAD = ">c8I2I4c16c16c16I8I8s1s1s1s1s1c32c32"

local function parse_head(bytes)
  local head = {}
  head.magic, head.version, head.length, head.opening_check, head.check, head.id, head.created,
    head.expected, head.label, head.serial, head.model, head.manufacturer, head.keyferry,
    head.mac, head.digest = HEAD:unpack(bytes)
  return head
end

local function pack_head(head)
  return HEAD:pack(head.magic, head.version, head.length, head.opening_check, head.check, head.id,
    head.created, head.expected, head.label, head.serial, head.model, head.manufacturer,
    head.keyferry, head.mac, head.digest)
end

-- Frames --------------------------------------------------------------------------------

local FRAME = ">I1I8I4c16"

local function parse_frame(bytes, at)
  local frame = { at = at }
  local length, payload_at
  frame.kind, frame.number, length, frame.opening_check, payload_at = FRAME:unpack(bytes, at)
  frame.payload = bytes:sub(payload_at, payload_at + length - 1)
  frame.mac, frame.chain, frame.after = ("c32c32"):unpack(bytes, payload_at + length)
  return frame
end

local function pack_frame(frame)
  return FRAME:pack(frame.kind, frame.number, #frame.payload, frame.opening_check) ..
    frame.payload .. frame.mac .. frame.chain
end

function M.parse(bytes)
  local parts = { head = parse_head(bytes), frames = {} }
  local at = parts.head.length + 1
  while at <= #bytes do
    local frame = parse_frame(bytes, at)
    table.insert(parts.frames, frame)
    at = frame.after
  end
  return parts
end

function M.join(parts)
  local bytes = { pack_head(parts.head) }
  for _, frame in ipairs(parts.frames) do table.insert(bytes, pack_frame(frame)) end
  return table.concat(bytes)
end

-- Digests and macs ----------------------------------------------------------------------

-- `mac_of(prefix, bytes)` gives a mac, nil: they stay what they are.
local function renew(parts, mac_of)
  local head = parts.head
  head.length = #pack_head(head)
  head.opening_check = sha256(pack_head(head):sub(1, 14)):sub(1, 16)
  if mac_of then head.mac = mac_of("keyferry stream head 1\0", pack_head(head):sub(1, -65)) end
  head.digest = sha256(pack_head(head):sub(1, -33))
  local chain = head.digest
  for _, frame in ipairs(parts.frames) do
    frame.opening_check = sha256(chain .. pack_frame(frame):sub(1, 13)):sub(1, 16)
    local digest = sha256(chain .. pack_frame(frame):sub(1, -65))
    if mac_of then frame.mac = mac_of("keyferry stream 1\0", digest) end
    frame.chain = sha256(digest .. frame.mac)
    chain = frame.chain
  end
  return parts
end

function M.chain(parts)
  return renew(parts)
end

-- The mac key of a domain's text, in hex.
function M.key(text)
  local root = process.must { "openssl", "kdf", "-keylen", "32", "-kdfopt", "pass:" .. text,
    "-kdfopt", "salt:keyferry domain 1", "-kdfopt", "n:131072", "-kdfopt", "r:8", "-kdfopt",
    "p:1", "-kdfopt", "maxmem_bytes:200000000", "SCRYPT" }
  return (process.must { "openssl", "kdf", "-keylen", "32", "-kdfopt", "digest:SHA256",
    "-kdfopt", "hexkey:" .. root:gsub("[^%x]", ""), "-kdfopt", "info:keyferry 1 mac",
    "HKDF" }:gsub("[^%x]", ""):lower())
end

local function hmac(key, bytes)
  local out = process.must { "openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt",
    "hexkey:" .. key, input = bytes }
  return shell.unhex(out:match("(%x+)%s*$"))
end

function M.authenticate(parts, key)
  return renew(parts, function(prefix, bytes) return hmac(key, prefix .. bytes) end)
end

-- Both kinds of frames ------------------------------------------------------------------

M.OBJECT, M.END = 1, 2

function M.object(number, sealed, digest)
  return { kind = M.OBJECT, number = number, mac = ("\0"):rep(32), chain = ("\0"):rep(32),
    opening_check = ("\0"):rep(16), payload = (digest and "\1" .. digest or "\0") .. sealed }
end

function M.last(number, objects, failed, skipped)
  return { kind = M.END, number = number, mac = ("\0"):rep(32), chain = ("\0"):rep(32),
    opening_check = ("\0"):rep(16), payload = (">I8I8I8"):pack(objects, failed, skipped) }
end

return M
