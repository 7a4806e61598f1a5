-- SPDX-License-Identifier: MIT
-- ped: keys and domains as shares in files, for specs.
--
--   local key = ped.key("black", 2, 3)     -- key.shares, key.files, key.folders, key.secret
--   ped.words(key.files[1])                -- "academic acid ...": a spec may see them
local keyferry = require("keyferry")
local shell = require("support.shell")
local tmp = require("support.tmp")

local M = {}

local function in_files(shares, m)
  local made = { shares = shares, folders = {}, set = shares[1]:set() }
  for i in ipairs(shares) do made.folders[i] = tmp.dir("stick") end
  made.files = assert(keyferry.ped.write(shares, made.folders))
  made.secret = assert(keyferry.ped.combine(table.move(shares, 1, m, 1, {})))
  return made
end

function M.key(colour, m, n)
  return in_files(assert(keyferry.ped.create { colour = colour, m = m, n = n }), m or 1)
end

function M.domain(text, m, n)
  return in_files(assert(keyferry.ped.split(keyferry.secret(text), { m = m, n = n })), m)
end

-- The words of a share in a file, one blank between them.
function M.words(file)
  local text = shell.read(file):match("\n\n(.*)$") or shell.read(file)
  return (text:gsub("%s+", " "):gsub(" $", ""))
end

-- The n-th word replaced; another word of the list when none is given.
function M.with_word(words, n, word)
  local i = 0
  return (words:gsub("%a+", function(old)
    i = i + 1
    return i == n and (word or (old == "academic" and "acid" or "academic")) or nil
  end))
end

return M
