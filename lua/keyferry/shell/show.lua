-- SPDX-License-Identifier: MIT
--- A value as a person reads it.
local M = {}

--- One value: strings that are a result print as they are, tables one level.
-- @treturn string
function M.value(value)
    if type(value) ~= "table" or (getmetatable(value) or {}).__tostring then
        return tostring(value)
    end
    local parts, seen = {}, {}
    for i, item in ipairs(value) do
        parts[i], seen[i] = tostring(item), true
    end
    local names = {}
    for name, item in pairs(value) do
        if not seen[name] then
            names[#names + 1] = ("%s = %s"):format(tostring(name), tostring(item))
        end
    end
    table.sort(names)
    table.move(names, 1, #names, #parts + 1, parts)
    return "{ " .. table.concat(parts, ", ") .. " }"
end

return M
