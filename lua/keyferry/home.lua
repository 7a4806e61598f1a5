-- SPDX-License-Identifier: MIT
--- home: the folder of the soft HSMs that keyferry makes.
--
-- Each has a folder `hsms/NAME` with `hsm.json` (name, serial, path; of one whose secrets are
-- PED keys `authentication` "ped" and the check value of its blue key); its softhsm2.conf and
-- its tokens lie there too, or at the path that was asked for.
-- @module keyferry.home

local cjson = require "cjson.safe"
local core = require "keyferry.core"

local M = {}

local MAX_BYTES = 64 * 1024
local NAME_RULE = "letters, digits, '.', '_' and '-', not beginning with '.' or '-'"

local function fail(code, what, hint)
    return nil, core.error{ code = code, what = what, hint = hint }
end

--- Where the home is when nobody says: $KEYFERRY_HOME, else $XDG_DATA_HOME/keyferry.
-- @treturn string
function M.default_path()
    local home = os.getenv("KEYFERRY_HOME")
    if home and home ~= "" then
        return home
    end
    local base = os.getenv("XDG_DATA_HOME")
    if not base or base:sub(1, 1) ~= "/" then
        base = (os.getenv("HOME") or "") .. "/.local/share"
    end
    return base .. "/keyferry"
end

-- The home must be ours: whoever can write there chooses which store we open.
local function trusted(path)
    if not core.file.exists(path) then
        return true
    end
    local ok, err = core.file.trusted(path)
    if not ok then
        err.hint = "give the folder to this user and take the others' right to write, "
            .. "or name another one with --home"
        return nil, err
    end
    return true
end

-- Words that others can be shown and given: no control characters.
local function is_plain(value)
    return type(value) == "string" and value ~= "" and not value:find("%c")
end

-- A folder that holds a soft HSM and says that it lies elsewhere was copied or moved with its
-- home: what it names is another's store, or none.
local function was_moved(folder, path)
    return core.file.exists(folder .. "/softhsm2.conf")
        and core.file.realpath(path) ~= core.file.realpath(folder)
end

-- A password, or keys: then the check value of the blue one is known.
local function has_authentication(entry)
    if entry.authentication == "ped" then
        return type(entry.blue_check) == "string"
            and entry.blue_check:find("^%x+$") ~= nil and #entry.blue_check == 32
    end
    return entry.authentication == nil and entry.blue_check == nil
end

local function read_entry(home, name)
    local folder = home .. "/hsms/" .. name
    local file = folder .. "/hsm.json"
    local ok, err = trusted(file)
    if not ok then
        return nil, err
    end
    local text
    text, err = core.file.read(file, MAX_BYTES)
    if not text and err.code ~= "KFR_LIMIT" then
        return nil, err
    end
    local entry = text and cjson.decode(text)
    if type(entry) ~= "table" or not is_plain(entry.serial) or not is_plain(entry.path)
        or entry.path:sub(1, 1) ~= "/" or not has_authentication(entry) then
        return fail("KFR_STORE", file .. " is not the description of a soft HSM",
                    "restore the file, or remove the folder")
    elseif was_moved(folder, entry.path) then
        return fail("KFR_STORE", ("%s says that the soft HSM lies in %s: it was copied or moved")
                    :format(file, entry.path),
                    "name the new place in that file and in the softhsm2.conf beside it")
    end
    return { name = name, serial = entry.serial, path = entry.path,
             authentication = entry.authentication, blue_check = entry.blue_check }
end

--- The soft HSMs of a home, by name.
-- @string home
-- @treturn[1] table array of { name, serial, path, authentication, blue_check }
-- @treturn[2] nil
-- @treturn[2] err
function M.list(home)
    local ok, err = trusted(home)
    if not ok then
        return nil, err
    end
    local list = {}
    if not core.file.exists(home .. "/hsms") then
        return list
    end
    ok, err = trusted(home .. "/hsms")
    if not ok then
        return nil, err
    end
    local names
    names, err = core.file.list(home .. "/hsms")
    if not names then
        return nil, err
    end
    table.sort(names)
    for _, name in ipairs(names) do
        if core.file.exists(home .. "/hsms/" .. name .. "/hsm.json") then
            local entry
            entry, err = read_entry(home, name)
            if not entry then
                return nil, err
            end
            list[#list + 1] = entry
        end
    end
    return list
end

local function new_serial(taken)
    for _ = 1, 1000 do
        local serial = ("%d"):format(math.random(100000, 9999999))
        if not taken[serial] then
            return serial
        end
    end
    error("no serial number is free")
end

--- What the softhsm2.conf of a soft HSM says.
-- @string path the folder of the HSM
-- @treturn string
function M.settings(path)
    return table.concat({
        "# A soft HSM of keyferry. Other programs use it with SOFTHSM2_CONF set to this file.",
        "directories.tokendir = " .. path .. "/tokens",
        "objectstore.backend = file",
        "log.level = ERROR",
        "slots.removable = false",
        "",
    }, "\n")
end

-- What was made before a step failed goes again: the name would be taken by no HSM. Folders go
-- only when they are empty.
local function unmake(folder, path, step)
    if step > 3 then
        os.remove(path .. "/softhsm2.conf")
    end
    if path == folder then
        os.remove(path .. "/tokens")
    end
    os.remove(folder)
end

-- Makes the folders and files; the description comes last and makes it known.
local function make(home, entry)
    local folder = home .. "/hsms/" .. entry.name
    local steps = {
        function() return core.file.mkdir(folder, 448) end,
        function() return core.file.mkdir(entry.path .. "/tokens", 448) end,
        function()
            return core.file.write(entry.path .. "/softhsm2.conf", M.settings(entry.path),
                384)
        end,
        function()
            return core.file.write(folder .. "/hsm.json", cjson.encode(entry) .. "\n", 384)
        end,
    }
    for i, step in ipairs(steps) do
        local ok, err = step()
        if not ok then
            unmake(folder, entry.path, i)
            return nil, err
        end
    end
    return entry
end

-- A home that is not there yet is made, and does not stay where it would not be trusted: in a
-- folder that others may write.
local function settle(home)
    if core.file.exists(home) then
        return true
    end
    local ok, err = core.file.mkdir(home, 448)
    if ok then
        ok, err = trusted(home)
    end
    if not ok then
        os.remove(home)
    end
    return ok, err
end

--- The description of a soft HSM that could be made.
-- @string home
-- @tparam table wanted name, serial (optional), path (optional, absolute or relative)
-- @tparam table taken serials in use, as keys
-- @treturn[1] table for M.make
-- @treturn[2] nil
-- @treturn[2] err
function M.describe(home, wanted, taken)
    local name = wanted.name
    if not name:find("^[%w_][%w._-]*$") or #name > 64 then
        return fail("KFR_ARGUMENT", ("'%s' is not a name for an HSM"):format(name),
                    "up to 64 of " .. NAME_RULE)
    end
    local ok, err = trusted(home)
    if not ok then
        return nil, err
    end
    if core.file.exists(home .. "/hsms/" .. name) then
        return fail("KFR_EXISTS", ("there is an HSM '%s' already"):format(name),
                    "choose another name; 'keyferry hsm list' shows them")
    end
    if wanted.serial and taken[wanted.serial] then
        return fail("KFR_EXISTS", ("another HSM has the serial number %s")
                    :format(wanted.serial), "choose another one")
    end
    local path = wanted.path or (home .. "/hsms/" .. name)
    if path:find("[%c]") then
        return fail("KFR_ARGUMENT", "the path has a control character in it")
    end
    if path:sub(1, 1) ~= "/" then
        local here
        here, err = core.file.realpath(".")
        if not here then
            return fail("KFR_ARGUMENT", "the current folder is gone: " .. err.what,
                        "give the whole path")
        end
        path = here .. "/" .. path
    end
    if core.file.exists(path .. "/softhsm2.conf") then
        return fail("KFR_EXISTS", path .. " holds a soft HSM already", "choose another path")
    end
    return { name = name, serial = wanted.serial or new_serial(taken), path = path }
end

--- Makes a soft HSM.
-- @string home
-- @tparam table entry as M.describe gives it
-- @treturn[1] table the same
-- @treturn[2] nil
-- @treturn[2] err
function M.make(home, entry)
    local ok, err = settle(home)
    if not ok then
        return nil, err
    end
    return make(home, entry)
end

return M
