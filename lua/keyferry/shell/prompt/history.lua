-- SPDX-License-Identifier: MIT
--- The lines typed before, in memory and in a file. No line that may hold a secret is kept.
--
-- The file has one line for each entry, "\n" and "\\" written with a backslash. When in doubt
-- a line is not kept: it is easier to type it again than to change a password.
local core = require("keyferry.core")

local discreet = require("keyferry.shell.prompt.discreet")

local M = {}
local History = {}
History.__index = History

local MAX_LINES = 1000
local MAX_BYTES = 16 * 1024 -- of one entry

local function state_folder()
    local base = os.getenv("XDG_STATE_HOME")
    if base and base:sub(1, 1) == "/" then
        return base .. "/keyferry"
    end
    base = os.getenv("HOME") -- never made: a user without one (daemon) has no history
    return base and base:sub(1, 1) == "/" and core.file.exists(base) == "directory"
        and base .. "/.local/state/keyferry" or nil
end

local function escaped(line)
    return (line:gsub("[\\\n]", { ["\\"] = "\\\\", ["\n"] = "\\n" }))
end

local function unescaped(line)
    return (line:gsub("\\(.)", function(char)
        return char == "n" and "\n" or char
    end))
end

-- What a file cannot hold in a line of its own, and what could hide in one.
local function is_plain(line)
    return utf8.len(line) and not line:find("[%z\1-\8\11-\31\127]")
end

-- -> the text of the file, or nil and why there is none to be had
local function read(path, folder)
    local ok, err = core.file.mkdir(folder, 448) -- 0700
    if ok then
        ok, err = core.file.trusted(folder)
    end
    if not ok then
        return nil, err
    end
    return core.history.read(path)
end

local function add(self, line)
    self.kept[#self.kept + 1] = line
    if #self.kept > MAX_LINES then
        table.remove(self.kept, 1)
    end
end

--- The history, with what its file holds.
-- @param shell the program; gets a warning when the file cannot be used
function M.open(shell)
    local folder = state_folder()
    local path = folder and folder .. "/history"
    local self = setmetatable({ shell = shell, kept = {}, discreet = discreet.new(shell) },
        History)
    local bytes, err
    if not path then
        return self
    end
    bytes, err = read(path, folder)
    if not bytes then
        shell.out:warn("lines are not kept for the next time: %s", err)
        return self
    end
    self.path = path
    for line in (bytes:match("^.*\n") or ""):gmatch("[^\n]+") do -- in one pass
        line = unescaped(line)
        if is_plain(line) and #line <= MAX_BYTES then
            add(self, line)
        end
    end
    return self
end

--- The lines kept, the oldest first.
function History:lines()
    return self.kept
end

--- Gives all lines to a line editor.
function History:give(editor)
    for _, line in ipairs(self.kept) do
        editor:add(line)
    end
end

local function store(self, line)
    local ok, err
    if not self.path then
        return
    end
    ok, err = core.history.append(self.path, escaped(line) .. "\n", MAX_LINES)
    if not ok then
        self.path = nil
        self.shell.out:warn("lines are not kept for the next time: %s", err)
    end
end

--- Keeps a line that was typed, unless it may hold a secret; that one the editor forgets.
-- @param editor
-- @string line perhaps of several lines
-- @tparam table how `command` true: the prompt took it for one; `secret` true: it made one
function History:take(editor, line, how)
    if self.discreet:may_hold_secret(line, how.command)
        or how.secret and line:find("[\"'[]") then
        editor:forget()
    elseif #line <= MAX_BYTES and is_plain(line) and line ~= self.kept[#self.kept] then
        add(self, line)
        editor:add(line)
        store(self, line)
    end
end

return M
