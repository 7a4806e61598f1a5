-- SPDX-License-Identifier: MIT
local lu = require("luaunit")
local example = require("examples.example")
local process = require("support.process")
local scene = require("flow.scene")
local tmp = require("support.tmp")

local Test = {}

local LABELS = { "kek", "mac", "note", "sign", "sign", "tls-web", "tls-web" }

local function tagged(tag, list)
  for _, label in ipairs(LABELS) do table.insert(list, tag .. label) end
  table.sort(list)
  return list
end

function Test.test_every_clone_has_the_tag_and_nothing_else_is_changed()
  local s = example.scene()
  local before = s:snapshot()
  local done = example.run(s, "renamed", { "-tag", "nov/" })
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(scene.labels(s:target()), tagged("nov/", {}))
  lu.assertEquals(s:changes(before, "prod"), {})
  local CKA_LABEL = { [scene.CKA_LABEL] = true }
  local there = {}
  for _, text in ipairs(s:target():contents(CKA_LABEL)) do there[text] = true end
  for _, text in ipairs(s:source():contents(CKA_LABEL)) do lu.assertTrue(there[text], text) end
end

function Test.test_the_clone_signs_under_its_new_name()
  local s = example.scene()
  example.run(s, "renamed", { "-tag", "nov/" })
  local dir, message = tmp.dir(), tmp.file("to be signed")
  s:target():tool { "--sign", "--label", "nov/tls-web", "--id", "03", "--mechanism",
    "SHA256-RSA-PKCS", "--input-file", message, "--output-file", dir .. "/sig" }
  s:source():tool { "--read-object", "--type", "pubkey", "--id", "03", "--output-file",
    dir .. "/pub" }
  lu.assertStrContains(process.must { "openssl", "dgst", "-sha256", "-keyform", "DER", "-verify",
    dir .. "/pub", "-signature", dir .. "/sig", message }, "Verified OK")
end

function Test.test_a_tag_is_for_one_run_and_another_stands_beside_it()
  local s = example.scene()
  example.run(s, "renamed", { "-tag", "nov/" })
  local before = s:snapshot()
  local done = example.run(s, "renamed", { "-tag", "nov/" })
  lu.assertEquals(done.status, 5, done.out .. done.err)
  lu.assertEquals(s:changes(before), {})
  lu.assertEquals(example.run(s, "renamed", { "-tag", "dec/" }).status, 0)
  lu.assertEquals(scene.labels(s:target()), tagged("dec/", tagged("nov/", {})))
end

function Test.test_beside_a_backup_without_tags_all_are_cloned_again()
  local s = scene.new("backed")
  local done = example.run(s, "renamed", { "-tag", "nov/" })
  lu.assertEquals(done.status, 0, done.out .. done.err)
  lu.assertEquals(scene.labels(s:target()), tagged("nov/", tagged("", {})))
end

return { TestRenamed = Test }
