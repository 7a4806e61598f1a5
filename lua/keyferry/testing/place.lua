-- SPDX-License-Identifier: MIT
--- The folder of a test: new, of mode 0700, in memory where the system has such a place.
local core = require("keyferry.core")

local M = {}

local function base()
    local given = os.getenv("TMPDIR")
    if given and given ~= "" then
        return given
    end
    return core.file.exists("/dev/shm") == "directory" and "/dev/shm" or "/tmp"
end

local function refuse(what)
    error(core.error({ code = "KFR_REFUSED", what = what,
        hint = "name a folder for tests with TMPDIR" }), 0)
end

--- Makes it. Where somebody else could have made a folder of that name, it is refused.
-- @treturn string
function M.make()
    local path, ok, err
    repeat
        path = ("%s/keyferry-test-%016x"):format(base(), math.random(0))
    until not core.file.exists(path)
    ok, err = core.file.mkdir(path, 448)
    if ok then
        ok, err = core.file.trusted(path)
    end
    if not ok then
        error(err, 0)
    elseif core.file.owner(path) ~= core.user().uid or #core.file.list(path) > 0 then
        refuse(path .. " is another's")
    end
    return path
end

--- The folder above `scripts`, for commands that a policy runs: the program's own, or what is
-- beside the library that was loaded.
-- @treturn ?string
function M.root()
    local here = debug.getinfo(1, "S").source:match("^@(.*)/testing/place%.lua$") or ""
    for _, root in ipairs({ here .. "/../..", here }) do
        if core.file.exists(root .. "/scripts") == "directory" then
            return core.file.realpath(root)
        end
    end
    return here
end

return M
