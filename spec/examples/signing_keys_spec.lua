-- SPDX-License-Identifier: MIT
local lu = require("luaunit")
local example = require("examples.example")
local process = require("support.process")
local scene = require("flow.scene")
local shell = require("support.shell")
local tmp = require("support.tmp")

local Test = {}

function Test.test_what_signs_is_there_and_nothing_else()
  local s = example.scene()
  local done = example.run(s, "signing-keys")
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(scene.labels(s:target()), { "sign", "tls-web" })
  lu.assertStrContains(done.out, "'backup signing-keys' successful.\n")
end

function Test.test_the_clone_signs_what_the_originals_public_key_verifies()
  local s = example.scene()
  local dir = tmp.dir()
  example.run(s, "signing-keys")
  shell.write(dir .. "/message", "to be signed")
  s:target():tool { "--sign", "--id", "03", "--mechanism", "SHA256-RSA-PKCS", "--input-file",
    dir .. "/message", "--output-file", dir .. "/sig" }
  s:source():tool { "--read-object", "--type", "pubkey", "--id", "03", "--output-file",
    dir .. "/pub" }
  lu.assertStrContains(process.must { "openssl", "dgst", "-sha256", "-keyform", "DER", "-verify",
    dir .. "/pub", "-signature", dir .. "/sig", dir .. "/message" }, "Verified OK")
end

function Test.test_public_halves_come_by_their_id()
  local s = example.scene()
  local done = example.run(s, "signing-keys", { "-public" })
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(scene.labels(s:target()), { "sign", "sign", "tls-web", "tls-web" })
end

function Test.test_a_partition_where_nothing_signs_is_no_success()
  local s = example.scene()
  s:inside("payments",
    [[for _, key in ipairs(session:find{ class = "private_key" }) do key:destroy() end]])
  local done = example.run(s, "signing-keys")
  lu.assertEquals(done.status, 6, done.out .. done.err)
  lu.assertEquals(scene.labels(s:target()), {})
end

function Test.test_without_a_secret_and_a_terminal_it_ends()
  local s = example.scene()
  lu.assertEquals(example.run(s, "signing-keys", { env = {} }).status, 3)
end

return { TestSigningKeys = Test }
