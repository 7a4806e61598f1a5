-- SPDX-License-Identifier: MIT
-- Writes lua/README.md: lua5.4 spec/reference/run.lua, from the root of the repository.
package.path = "lua/?.lua;lua/?/init.lua;spec/?.lua;" .. package.path

require("support.shell").write("lua/README.md", require("reference.render").text())
