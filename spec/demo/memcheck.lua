-- SPDX-License-Identifier: MIT
-- A whole backup under valgrind: no error, and nothing of ours lost. `make memcheck`.
package.path = "spec/?.lua;" .. package.path
local process = require("support.process")
local shell = require("support.shell")
local softhsm = require("support.softhsm")
local tmp = require("support.tmp")

local keyferry = shell.absolute(os.getenv("KEYFERRY_BUILD") or "build") .. "/keyferry"
local home = tmp.dir("home")
local env = {
  KEYFERRY_HOME = home, XDG_CONFIG_HOME = home, SOFTHSM2_CONF = "/nonexistent",
  KEYFERRY_PASSWORD = "userpin1", KEYFERRY_TOKENPW = "backup-1",
  KEYFERRY_TOKENSOPWD = "so-pin-1", KEYFERRY_DOMAIN = "domain-1",
}

local function run(words)
  words.env = env
  return process.must(words)
end

-- Kinds "definite": SoftHSM and OpenSSL keep tables to the end, which are reachable.
local function under_valgrind(words)
  local all = { "valgrind", "--quiet", "--error-exitcode=9", "--leak-check=full",
    "--errors-for-leak-kinds=definite", "--show-leak-kinds=definite", keyferry }
  table.move(words, 1, #words, #all + 1, all)
  all.env, all.timeout = env, 300
  local done = process.run(all)
  if done.status ~= 0 or done.err:find("^==%d+==") then
    io.stderr:write(done.out, done.err, ("status %s\n"):format(done.status))
    os.exit(1, true)
  end
  return done.out
end

run { keyferry, "hsm", "create", "-name", "network", "-serial", "150022" }
run { keyferry, "hsm", "create", "-name", "backup", "-serial", "496771" }
run { keyferry, "partition", "create", "-partition", "sa78par1", "-serial", "150022" }
local token = softhsm.at(home .. "/hsms/network"):tokens("sa78par1", { pin = "userpin1" })[1]
token:rsa("tls", "01")
token:ec("sign", "02")
token:aes("kek", "03")
token:data("note", "x", { "--private" })

local backup = { "partition", "backup", "-partition", "sa78par1", "-tokenpar",
  "sa78par1backup", "-serial", "496771" }
assert(under_valgrind(backup):find("\n6 cloned\n", 1, true))
table.insert(backup, "-replace")
table.insert(backup, "-force")
assert(under_valgrind(backup):find("\n6 cloned, 6 removed\n", 1, true))
print("memcheck: two backups, nothing found")
