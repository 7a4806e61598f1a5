-- SPDX-License-Identifier: MIT
-- The matrix (`make matrix`): of no cell what the backup said is untrue.
local lu = require("luaunit")

local check = require("matrix.check")
local matrix = require("matrix.matrix")
local zoo = require("support.zoo")

local TestMatrix = {}

function TestMatrix.test_no_cell_is_wrong()
  local result = matrix.run { quick = true }
  lu.assertEquals(table.concat(result.wrong, "\n"), "", result.text)
  lu.assertTrue(result.cells > 100)
  lu.assertStrContains(result.text, "exact")
end

local TestCheck = {}

-- A key and its copy on another token, as a run leaves them; `spoil` is given the copy, and what
-- the run is to have said.
local function judge(spoil)
  local ends = { zoo.token("source"), zoo.token("target") }
  local at = { source = zoo.session(ends[1]), target = zoo.session(ends[2]) }
  local kind = { label = "key", use = function(clone, original)
    return clone:sign("sha256_hmac", "x") == original:sign("sha256_hmac", "x") or "another key"
  end }
  zoo.secret(at.source, "key", { value = ("k"):rep(32), id = "1" })
  local clone = zoo.secret(at.target, "key", { value = ("k"):rep(32), id = "1" })
  local result = { status = "cloned", lost = "" }
  if spoil then spoil(clone, result, at.target) end
  local wrong = check.wrong(kind, "secret_key", result, at)
  for _, token in ipairs(ends) do zoo.close(token) end
  return wrong
end

function TestCheck.test_a_true_clone_is_none_of_the_wrong()
  lu.assertNil(judge())
end

function TestCheck.test_what_differs_from_what_was_said_is_wrong()
  local function put(more, lost)
    return function(clone, result, target)
      result.lost = lost or ""
      assert(clone:destroy())
      more.id, more.value = more.id or "1", more.value or ("k"):rep(32)
      zoo.secret(target, "key", more)
    end
  end
  for what, spoil in pairs {
    ["silently without CKA_VERIFY"] = put { verify = false },
    ["silently without CKA_ID"] = put { id = "2" },
    ["the clone has more rights: CKA_SENSITIVE"] = put { sensitive = false },
    ["another key"] = put({ value = ("j"):rep(32) }, "CKA_CHECK_VALUE"),
    ["said to be without CKA_ID, which it has"] = function(_, result) result.lost = "CKA_ID" end,
    ["not cloned, and there"] = function(_, result) result.status = "failed" end,
    ["cloned, and 2 are there"] = function(_, _, target) zoo.secret(target, "key",
      { value = "v" }) end,
    ["cloned, and 0 are there"] = function(clone) assert(clone:destroy()) end,
  } do
    lu.assertEquals(judge(spoil), what)
  end
end

return { TestMatrix = TestMatrix, TestCheck = TestCheck }
