-- SPDX-License-Identifier: MIT
-- fake: modules of the shell loaded over a core of the spec's own, so that what is text and
-- tables is tested without an HSM and without a built core.
local M = {}

local ERROR = { __tostring = function(err) return err.what end }

local SECRET = {
    __tostring = function() return "secret" end,
    __eq = function(a, b) return a.bytes == b.bytes end,
    __concat = function(a, b) return M.secret(a.bytes .. b.bytes) end,
    __close = function(a) a.bytes = nil end,
    __index = { close = function(a) a.bytes = nil end },
}

function M.secret(bytes)
    return setmetatable({ bytes = bytes }, SECRET)
end

-- A core with what every module needs; fields are the spec's own.
function M.core(fields)
    local core = {
        error = function(err) return setmetatable(err, ERROR) end,
        secret = M.secret,
        secret_from_env = function() return nil end,
        secret_from_file = function() return nil end,
        terminal = { is = function() return false end },
        interruptible = xpcall,
    }
    for name, value in pairs(fields or {}) do
        core[name] = value
    end
    return core
end

-- Loads a module afresh over that core and leaves package.loaded as it was.
function M.load(name, core)
    local kept = { [name] = package.loaded[name] or false,
        ["keyferry.core"] = package.loaded["keyferry.core"] or false }
    package.loaded[name], package.loaded["keyferry.core"] = nil, core
    local ok, module = pcall(require, name)
    for module_name, value in pairs(kept) do
        package.loaded[module_name] = value or nil
    end
    assert(ok, module)
    return module
end

-- A file that keeps what is written; fails with `problem` once that is set.
function M.file()
    return {
        text = "",
        write = function(self, ...)
            if self.problem then
                return nil, self.problem
            end
            self.text = self.text .. table.concat({ ... })
            return self
        end,
        flush = function(self)
            if self.problem then
                return nil, self.problem
            end
            return self
        end,
    }
end

return M
