-- SPDX-License-Identifier: MIT
--- archive: what the commands `archive list`, `contents` and `verify` work with.
--
-- Without its domain nothing that a stream says of itself is authenticated.
-- @module keyferry.archive

local core = require "keyferry.core"
local archived = require "keyferry.archived"
local guard = require "keyferry.guard"
local Partition = require "keyferry.partition"

local M = {}

local MAGIC = "KFSTREAM" -- c/README.md "The stream"
local LAST_YEAR = 253402300799 -- the end of 9999, after which a date is no longer one

local function refuse(code, what, hint)
    return nil, core.error{ code = code, what = what, hint = hint }
end

-- What a file is that is no stream, when it is ours.
local function explain(path, err)
    local ok, report = pcall(require, "keyferry.report")
    if err.code == "KFR_ARGUMENT" and ok and report.head(path) then
        return refuse("KFR_ARGUMENT", path .. " is the report of a run, not a sealed stream",
                      "'keyferry partition verify -report' reads it")
    end
    return nil, err
end

--- Opens a sealed stream.
-- @string path a file, or "-": the standard input
-- @treturn[1] reader
-- @treturn[2] nil
-- @treturn[2] err KFR_NOT_FOUND, KFR_ARGUMENT (no stream), KFR_TRUNCATED, KFR_DAMAGED,
--   KFR_NEWER_VERSION, KFR_SYSTEM
function M.open(path)
    guard.text(path)
    if path == "-" then
        return core.stream.open(0)
    end
    local kind, err = core.file.exists(path)
    if err then
        return nil, err
    elseif not kind then
        return refuse("KFR_NOT_FOUND", ("there is no file %s"):format(path))
    elseif kind == "directory" then
        return refuse("KFR_ARGUMENT", path .. " is a folder, not a sealed stream",
                      "'keyferry archive list' shows those that are in it")
    end
    local reader
    reader, err = core.stream.open(path)
    if not reader then
        return explain(path, err)
    end
    return reader
end

local function is_stream(path)
    local file = io.open(path, "rb")
    local begins = file and file:read(#MAGIC)
    if file then
        file:close()
    end
    return begins == MAGIC
end

--- The sealed streams that a path means: the file itself, or those in a folder (all that begin
-- as one and all that are called *.stream; none that is hidden).
-- @string path
-- @treturn[1] table paths, sorted
-- @treturn[2] nil
-- @treturn[2] err
function M.find(path)
    if core.file.exists(path) ~= "directory" then
        return { path }
    end
    local names, err = core.file.list(path)
    if not names then
        return nil, err
    end
    local found = {}
    for _, name in ipairs(names) do
        local whole = path:gsub("/+$", "") .. "/" .. name
        if name:sub(1, 1) ~= "." and core.file.exists(whole) == "file"
            and (name:find("%.stream$") or is_stream(whole)) then
            found[#found + 1] = whole
        end
    end
    return found
end

--- What a stream is of: its source as a partition, for its label, its serial number and the URIs
-- of its objects. No token is behind it.
-- @param reader as keyferry.archive.open gives it
-- @treturn partition
function M.source(reader)
    local head = reader:head()
    return Partition.new({ name = "of the stream" }, {
        label = head.label, serial = head.serial, model = head.model,
        manufacturer = head.manufacturer,
    })
end

--- What a stream held that was read.
-- @table archive_contents
-- @tfield table head as reader:head() gives it
-- @tfield int objects how many came whole
-- @tfield bool whole whether its end was reached
-- @tfield[opt] int failed how many of its source's objects could not be put into it
-- @tfield[opt] int skipped how many were left out of it
-- @tfield bool authenticated whether all of it was read under its domain
-- @tfield[opt] err err why its end was not reached

--- Reads a stream to its end, one object at a time.
-- @param reader
-- @tparam[opt] table options `domain`: everything is authenticated; `on_object`:
--   function(object), an archived object
-- @usage
-- local path = hsm.path .. "/payments.stream"
-- keyferry.send{ source = session, to = path }
-- local reader <close> = assert(keyferry.archive.open(path))
-- local found = keyferry.archive.read(reader, { domain = domain })
-- print(found.whole, found.authenticated, found.objects)  --> true	true	4
-- @treturn archive_contents
function M.read(reader, options)
    options = options or {}
    local contents = { head = reader:head(), objects = 0, whole = false, authenticated = false }
    if reader:seekable() then -- whoever has read from it before
        local ok, err = reader:rewind()
        if not ok then
            contents.err = err
            return contents
        end
    end
    while true do
        local sealed <close>, digest = reader:next(options.domain)
        if not sealed then
            contents.err = digest
            break
        end
        contents.objects = contents.objects + 1
        if options.on_object then
            options.on_object(archived.new(sealed, digest, contents.objects))
        end
    end
    local last
    if not contents.err then
        last, contents.err = archived.finished(reader, contents.objects)
    end
    if last then
        contents.whole, contents.authenticated = true, options.domain ~= nil
        contents.failed, contents.skipped = last.failed, last.skipped
    end
    return contents
end

--- When a stream was made, for people.
-- @int created seconds since 1970, from a head
-- @treturn string in UTC
function M.made(created)
    if math.type(created) ~= "integer" or created < 0 or created > LAST_YEAR then
        return "unknown"
    end
    return os.date("!%Y-%m-%d %H:%M UTC", created)
end

return M
