-- SPDX-License-Identifier: MIT
--- What HSMs, tokens and partitions are called, for those who type: nothing is asked, no one
-- logs in, and what cannot be read is left out. A soft HSM is not even opened: its store is
-- read, since SoftHSM would look at every object first.
local core = require("keyferry.core")

local M = {}

local function quietly(call, ...)
    local ok, value = pcall(call, ...)
    return ok and value or {}
end

--- Every HSM known.
-- @treturn table array, maybe empty
function M.hsms()
    return quietly(require("keyferry").hsms)
end

local function in_store(hsm)
    local conf = hsm.conf and core.softhsm.configuration(hsm.conf)
    local tokens = conf and conf.file_backend and core.softhsm.tokens(hsm.conf)
    for _, token in ipairs(tokens or {}) do
        token.uri = core.uri_format({ token = token.label, serial = token.serial })
    end
    return tokens
end

--- The partitions of an HSM, or of all of them.
-- @param[opt] hsm
-- @treturn table array of { label, serial, uri, hsm }
function M.partitions(hsm)
    local list = {}
    for _, one in ipairs(hsm and { hsm } or M.hsms()) do
        local ok, found = pcall(in_store, one)
        if not ok or not found then
            found = quietly(one.partitions, one)
        end
        for _, token in ipairs(found) do
            list[#list + 1] = { label = token.label, serial = token.serial, uri = token.uri,
                hsm = one.name }
        end
    end
    table.sort(list, function(a, b)
        if a.label ~= b.label then
            return a.label < b.label
        end
        return a.serial < b.serial
    end)
    return list
end

return M
