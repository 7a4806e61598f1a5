-- SPDX-License-Identifier: MIT
-- The matrix (`make matrix`): of no cell what the backup said is untrue.
local lu = require("luaunit")

local matrix = require("matrix.matrix")

local TestMatrix = {}

function TestMatrix.test_no_cell_is_wrong()
  local result = matrix.run { quick = true }
  lu.assertEquals(table.concat(result.wrong, "\n"), "", result.text)
  lu.assertTrue(result.cells > 100)
  lu.assertStrContains(result.text, "exact")
end

return { TestMatrix = TestMatrix }
