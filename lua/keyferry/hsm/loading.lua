-- SPDX-License-Identifier: MIT
--- loading: the PKCS#11 modules that are loaded, one for all HSMs that share it.
-- @module keyferry.hsm.loading

local core = require "keyferry.core"

local M = {}

-- Those without a private copy: key to { held = { module = module }, users = { [hsm] = true } }.
-- Neither keeps a module or an HSM alive.
local shared = {}

local function entry(module)
    return { held = setmetatable({ module = module }, { __mode = "v" }),
             users = setmetatable({}, { __mode = "k" }) }
end

local function settings(hsm)
    local list = {}
    for name, value in pairs(hsm.env or {}) do
        list[#list + 1] = ("%s=%s"):format(name, value or "\1")
    end
    table.sort(list)
    list[#list + 1] = "\1" .. (hsm.init_args or "\1")
    list[#list + 1] = "\1" .. (hsm.functions or "\1")
    return table.concat(list, "\0")
end

--- What two HSMs have in common that are one library with one configuration.
-- @tparam hsm hsm
-- @treturn string
function M.key(hsm)
    local path = hsm.module_path
    path = path:find("/", 1, true) and core.file.realpath(path) or path
    return path .. "\0" .. settings(hsm)
end

local function open(hsm)
    return core.module(hsm.module_path, {
        private_copy = hsm.private_copy, env = hsm.env, init_args = hsm.init_args,
        functions = hsm.functions,
    })
end

-- Another HSM has the library already, as it is not for this one.
local function explain(hsm, err)
    if err.code == "CKR_CRYPTOKI_ALREADY_INITIALIZED" and not hsm.private_copy then
        err.hint = "another HSM of the configuration uses this module with other settings: "
            .. "write private_copy = true in both entries"
    end
    return nil, err
end

--- Loads an HSM's module, or gives the one that is loaded with the same settings.
-- @tparam hsm hsm
-- @treturn[1] module
-- @treturn[2] nil
-- @treturn[2] err
function M.load(hsm)
    if hsm.private_copy then
        return open(hsm)
    end
    local key = M.key(hsm)
    local found = shared[key]
    local module = found and found.held.module
    if not module then
        local err
        module, err = open(hsm)
        if not module then
            return explain(hsm, err)
        end
        shared[key] = entry(module)
    end
    shared[key].users[hsm] = true
    return module
end

--- An HSM needs its module no more: it is closed when no other one does.
-- @tparam hsm hsm
-- @tparam module module
function M.unload(hsm, module)
    local key = not hsm.private_copy and M.key(hsm)
    local found = key and shared[key]
    if found and found.held.module == module then
        found.users[hsm] = nil
        if next(found.users) then
            return
        end
        shared[key] = nil
    end
    module:close()
end

return M
