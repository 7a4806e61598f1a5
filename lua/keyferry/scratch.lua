-- SPDX-License-Identifier: MIT
--- scratch: a soft HSM for a while, such as a drill.
--
-- It lies in a folder of its own, in memory where the system has such a place, and is in no
-- home and no list. The folder is locked as long as the process lives: what is not locked was
-- left by one that was killed, and the next scratch HSM removes it.
-- @classmod keyferry.scratch

local core = require "keyferry.core"
local guard = require "keyferry.guard"
local home = require "keyferry.home"
local Hsm = require "keyferry.hsm"

local Scratch = setmetatable({}, { __index = Hsm })
Scratch.__index = Scratch
Scratch.__tostring = Hsm.__tostring

local PREFIX = "keyferry-scratch-"
local NAME = "^keyferry%-scratch%-" .. ("%x"):rep(16) .. "$"
local TRIES = 16

-- Folders where one may lie, the best first: in memory, of this user alone.
local function bases()
    local list = {}
    for _, path in ipairs{ os.getenv("XDG_RUNTIME_DIR") or "", "/dev/shm",
                           os.getenv("TMPDIR") or "", "/tmp" } do
        if path:sub(1, 1) == "/" and not path:find("%c")
            and core.file.exists(path) == "directory" then
            list[#list + 1] = path
        end
    end
    return list
end

-- Nobody else has made it, nor can put anything into it.
local function is_ours(path)
    return core.file.owner(path) == core.user().uid and core.file.trusted(path) == true
end

-- Removes what a process has left that is no more.
local function sweep(base)
    for _, name in ipairs(core.file.list(base) or {}) do
        local path = base .. "/" .. name
        if name:find(NAME) and is_ours(path) then
            local lock <close> = core.file.lock(path)
            if lock then
                core.file.remove_tree(path)
            end
        end
    end
end

-- A new folder of ours in base, and its lock (false where the file system has none: nobody can
-- have it, then, and nobody sweeps it).
local function new_folder(base)
    local err
    for _ = 1, TRIES do
        local path = ("%s/%s%016x"):format(base, PREFIX, math.random(0))
        local is_new = not core.file.exists(path)
        local ok, lock
        ok, err = core.file.mkdir(path, 448)
        if ok and is_new and is_ours(path) then
            lock, err = core.file.lock(path)
            -- It may have been swept in between: then another one.
            if lock ~= false and core.file.exists(path) == "directory" then
                return path, lock or false
            end
        end
    end
    return nil, err or core.error{
        code = "KFR_REFUSED", what = base .. " keeps no folder of this user's alone",
        hint = "name a folder of your own with XDG_RUNTIME_DIR or TMPDIR",
    }
end

local function make_folder()
    local err
    for _, base in ipairs(bases()) do
        local path, lock = new_folder(base)
        if path then
            return path, lock
        end
        err = err or lock
    end
    return nil, err or core.error{
        code = "KFR_NOT_FOUND", what = "there is no folder for a scratch HSM",
        hint = "name one of your own with XDG_RUNTIME_DIR or TMPDIR",
    }
end

--- Makes one; keyferry.scratch_hsm() calls it.
-- @local
-- @string library the SoftHSM library
-- @treturn[1] hsm
-- @treturn[2] nil
-- @treturn[2] err
function Scratch.make(library)
    for _, base in ipairs(bases()) do
        sweep(base)
    end
    local path, lock = make_folder()
    if not path then
        return nil, lock
    end
    local conf = path .. "/softhsm2.conf"
    local hsm = setmetatable(Hsm.new{
        name = "scratch", serial = path:sub(-16), kind = "soft", path = path, conf = conf,
        module_path = library, private_copy = true, env = { SOFTHSM2_CONF = conf },
        lock = lock,
    }, Scratch)
    local ok, err = core.file.mkdir(path .. "/tokens", 448)
    if ok then
        ok, err = core.file.write(conf, home.settings(path), 384)
    end
    if not ok then
        hsm:remove()
        return nil, err
    end
    return hsm
end

--- Removes it with everything in it; so does the end of a `<close>` variable, and of the
-- program.
-- @function hsm:remove
-- @treturn[1] true
-- @treturn[2] nil
-- @treturn[2] err
Scratch.remove = guard.whole(function(self)
    if not self.path then
        return true
    end
    self:close()
    local ok, err = core.file.remove_tree(self.path)
    if not ok and core.file.exists(self.path) then
        return nil, err
    end
    self.path = nil
    if self.lock then
        self.lock:close()
    end
    return true
end)

Scratch.__close, Scratch.__gc = Scratch.remove, Scratch.remove

return Scratch
