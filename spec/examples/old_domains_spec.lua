-- SPDX-License-Identifier: MIT
local lu = require("luaunit")
local example = require("examples.example")
local scene = require("flow.scene")
local shell = require("support.shell")
local tmp = require("support.tmp")

local Test = {}

-- "bare", made by another program, and "backup" under the domain of the scene.
local function legacy()
  local s = example.scene()
  local bare = s:hsm("prod"):init_token("bare", { pin = scene.password })
  bare:aes("old key", "01")
  return s, bare
end

local function run(s, domains)
  local env = scene.secrets { "TOKENSOPWD", "DOMAIN" }
  env.KEYFERRY_DOMAIN_FILE = tmp.file("domain of today\n")
  for i, domain in pairs(domains) do
    env[("KEYFERRY_OLD_DOMAIN%d_FILE"):format(i)] = domain:sub(1, 1) == "/" and domain
      or tmp.file(domain .. "\n")
  end
  return example.run(s, "old-domains", { partition = "bare", env = env })
end

function Test.test_the_one_that_fits_is_found_and_not_told()
  local s, bare = legacy()
  local done = run(s, { "of 2025", scene.domain, "of 2023" })
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(done.err, "Old domain 2 of 3 fits.\n")
  lu.assertNotStrContains(done.out, scene.domain)
  lu.assertEquals(scene.contents(s:target()), bare:contents())
end

-- And the clone works: what the original encrypted it decrypts.
function Test.test_the_clone_decrypts_what_the_original_encrypted()
  local s, bare = legacy()
  run(s, { scene.domain })
  local dir = tmp.dir()
  local aes = { "--id", "01", "--mechanism", "AES-CBC-PAD", "--iv", ("00"):rep(16) }
  local function tool(token, ...)
    token:tool(table.move(aes, 1, #aes, 6, { ... }))
  end
  tool(bare, "--encrypt", "--input-file", tmp.file("plain"), "--output-file", dir .. "/c")
  tool(s:target(), "--decrypt", "--input-file", dir .. "/c", "--output-file", dir .. "/p")
  lu.assertEquals(shell.read(dir .. "/p"), "plain")
end

function Test.test_where_none_fits_nothing_is_cloned()
  local s = legacy()
  local before = s:snapshot()
  local done = run(s, { "of 2025", "of 2024" })
  lu.assertEquals(done.status, 4, done.out .. done.err)
  lu.assertEquals(s:changes(before), {})
end

function Test.test_a_file_that_cannot_be_read_ends_the_run()
  local s = legacy()
  local before = s:snapshot()
  local done = run(s, { "of 2025", "/nonexistent/domain" })
  lu.assertEquals(done.status, 3, done.out .. done.err)
  lu.assertEquals(s:changes(before), {})
end

return { TestOldDomains = Test }
