-- SPDX-License-Identifier: MIT
--- What a policy writes in a test, kept as strings: the text that people see and the events of
-- --json, from one run.
local cjson = require("cjson")

local output = require("keyferry.shell.output")

local M = {}

local function file()
    local parts = {}
    return {
        write = function(self, ...)
            table.insert(parts, table.concat({ ... }))
            return self
        end,
        flush = function(self) return self end,
        text = function() return table.concat(parts) end,
    }
end

-- cjson gives every number as a float.
local function with_integers(value)
    if type(value) ~= "table" then
        return math.tointeger(value) or value
    end
    for name, item in pairs(value) do
        value[name] = with_integers(item)
    end
    return value
end

-- An output that does everything twice, as text and as JSON. The second call is a tail call: a
-- mistake in a format is told at the line of the policy, counted in levels.
local function both(text, json)
    return setmetatable({ json = true }, { __index = function(_, name)
        if type(text[name]) ~= "function" then
            return text[name]
        end
        return function(_, ...)
            json[name](json, ...)
            return text[name](text, ...)
        end
    end })
end

--- An output for one run.
-- @tparam table how `json`: only the events; `quiet`
-- @treturn output as keyferry.shell.output makes them
-- @treturn function gives `out`, `err`, `events` and `result` (the last event)
function M.new(how)
    local out, err, events = file(), file(), file()
    local text = output.new({ stdout = out, stderr = err, quiet = how.quiet })
    local json = output.new({ stdout = events, stderr = file(), quiet = how.quiet, json = true })
    return both(text, json), function()
        local list = {}
        for line in events.text():gmatch("[^\n]+") do
            table.insert(list, with_integers(cjson.decode(line)))
        end
        return { out = out.text(), err = err.text(), events = list, result = list[#list] }
    end
end

return M
