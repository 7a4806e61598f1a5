-- SPDX-License-Identifier: MIT
--- Bytes as hex digits, and back.
local M = {}

--- The digits of bytes, lower case.
function M.of(bytes)
    return (bytes:gsub(".", function(byte) return ("%02x"):format(byte:byte()) end))
end

--- The bytes of such digits; nil for what is none.
function M.bytes(digits)
    if #digits % 2 == 1 or digits:find("[^0-9a-f]") then
        return nil
    end
    return (digits:gsub("..", function(pair) return string.char(tonumber(pair, 16)) end))
end

return M
