-- SPDX-License-Identifier: MIT
--- The results of a run, and what an object is told by.
local guard = require "keyferry.guard"

local M = { methods = {} }

--- What tells one object from another, but for its key material.
function M.identity(object)
    return table.concat({ tostring(object.class), tostring(object.key_type),
                          tostring(object.certificate_type), ("%q"):format(object.id or ""),
                          ("%q"):format(object.label or "") }, "\0")
end

--- The result of one object.
function M.result_of(object, status, more)
    local result = { object = object, handle = object.handle, status = status }
    for name, value in pairs(more or {}) do
        result[name] = value
    end
    return result
end

local counters = { cloned = "cloned", exists = "exists", failed = "failed",
                   skipped = "skipped", planned = "planned" }

function M.methods:count(result)
    local report = self.report
    local counter = counters[result.status]
    report[counter] = report[counter] + 1
    if result.lost and result.lost ~= "" then
        report.lossy = report.lossy + 1
    end
end

function M.methods:tell(result)
    if self.options.on_result then
        guard.hook(self.options.on_result, result)
    end
end

function M.methods:emit(result)
    self:count(result)
    self:tell(result)
end

-- Results wait in the queue until those before them are durable.
function M.methods:queue_result(result)
    self.queue[#self.queue + 1] = result
end

function M.methods:fail_object(object, err)
    self.last_error = err
    self:queue_result(M.result_of(object, "failed", { err = err }))
end

return M
