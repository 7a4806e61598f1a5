-- SPDX-License-Identifier: MIT
--- ped: keys of a soft PED, and domains, as shares.
--
-- A key is blue (Security Officer), black (Crypto Officer) or red (cloning domain). It exists as
-- shares only, of which as many are needed as was said when it was made: SLIP-0039, words from a
-- list of 1024, with a checksum. The text of a domain is split in the same way. A share is an
-- opaque value: its words never become a string of Lua.
-- @module keyferry.ped

local core = require "keyferry.core"
local guard = require "keyferry.guard"

local M = {}

-- What shares are of, as a sentence says it.
local KINDS = {
    blue = "a blue key", black = "a black key", red = "a red key", domain = "a domain",
}

local ENDING = ".share"

local function fail(code, what, hint)
    return nil, core.error{ code = code, what = what, hint = hint }
end

-- Making and joining ---------------------------------------------------------------------

local function counts(options)
    local m = options.m or 1
    return m, options.n or m
end

--- What is wrong with the options -m, -n and -path, for the `rules` of a script.
-- @tparam table options
-- @treturn ?string a sentence
-- @usage
-- print(keyferry.ped.conflict{ m = 3, n = 2 })  --> -m is more than -n: there would be too few
function M.conflict(options)
    local m, n = counts(options)
    local folders = options.path and #options.path or 1
    if options.n and not options.m then
        return "-n has to say with -m how many shares are needed"
    elseif m > n then
        return "-m is more than -n: there would be too few"
    elseif m == 1 and n > 1 then
        return ("%d shares of which 1 is enough are copies of the whole: let 2 be needed, or "
            .. "make 1 and duplicate it"):format(n)
    elseif folders ~= 1 and folders ~= n then
        return ("-path names %d folders for %d share%s: name one for each, or one for all")
            :format(folders, n, n == 1 and "" or "s")
    end
    return nil
end

--- Makes a key.
-- @tparam table options `colour`: "blue", "black" or "red"; `m`: how many shares are needed to
--   use it, 1 when left out; `n`: how many there are, as many as are needed when left out
-- @treturn[1] table array of shares
-- @treturn[2] nil
-- @treturn[2] err
-- @usage
-- local shares = assert(keyferry.ped.create{ colour = "black", m = 2, n = 3 })
-- print(#shares, shares[1]:colour(), shares[1]:needed())  --> 3	black	2
function M.create(options)
    local m, n = counts(options)
    return core.share.create{ colour = options.colour, m = m, n = n }
end

--- The text of a domain as shares.
-- @tparam secret secret its text, at most 250 bytes
-- @tparam table options `m` and `n` as for keyferry.ped.create
-- @treturn[1] table array of shares
-- @treturn[2] nil
-- @treturn[2] err
-- @usage
-- local shares = assert(keyferry.ped.split(keyferry.secret("river of stones"), { m = 2, n = 3 }))
-- print(keyferry.ped.combine{ shares[1], shares[3] } == keyferry.secret("river of stones"))
-- --> true
function M.split(secret, options)
    local m, n = counts(options)
    return core.share.split(secret, { m = m, n = n })
end

--- The same key, or domain, as new shares, of a new set. The old ones stay good.
-- @tparam table shares as many as are needed
-- @tparam table options `m` and `n` as for keyferry.ped.create
-- @treturn[1] table array of shares
-- @treturn[2] nil
-- @treturn[2] err KFR_SHARE
function M.again(shares, options)
    local m, n = counts(options)
    return core.share.again(shares, { m = m, n = n })
end

--- What shares give together: of a key the text that opens what the key opens, of a domain its
-- text.
-- @tparam table shares as many as are needed
-- @treturn[1] secret
-- @treturn[2] nil
-- @treturn[2] err KFR_SHARE
function M.combine(shares)
    return core.share.combine(shares)
end

--- A share from its words.
-- @tparam secret words
-- @treturn[1] share
-- @treturn[2] nil
-- @treturn[2] err KFR_SHARE; it says which word is wrong
function M.parse(words)
    return core.share.parse(words)
end

--- The check value of a key: tells one key from another, and nothing else about it.
-- @tparam secret secret what keyferry.ped.combine gives for it
-- @treturn[1] string 32 hex digits
-- @treturn[2] nil
-- @treturn[2] err
function M.check(secret)
    return core.share.check(secret)
end

-- Files ----------------------------------------------------------------------------------

-- Without what begins with ".": a stick that a Mac wrote has a "._" file beside each.
local function names_in(folder)
    local names, err = core.file.list(folder)
    local found = {}
    for _, name in ipairs(names or {}) do
        if name:sub(-#ENDING) == ENDING and name:sub(1, 1) ~= "." then
            found[#found + 1] = name
        end
    end
    table.sort(found)
    return names and found, err
end

--- The share in a file; or in a folder those of all files whose names end in ".share", but
-- hidden ones.
-- @string path
-- @tparam[opt] function damaged called with the refusal of each file in a folder that is no
--   share, which is left out then; without it the first is the refusal of all
-- @treturn[1] table array of shares
-- @treturn[1] table their files
-- @treturn[2] nil
-- @treturn[2] err KFR_NOT_FOUND, KFR_SHARE, KFR_SYSTEM
function M.read(path, damaged)
    guard.text(path)
    local kind, found, files, shares = core.file.exists(path), { path }, {}, {}
    if not kind then
        return fail("KFR_NOT_FOUND", ("there is no file or folder %s"):format(path),
                    "name the file of a share, or the folder that it is in")
    elseif kind == "directory" then
        local names, err = names_in(path)
        if not names then
            return nil, err
        end
        for i, name in ipairs(names) do
            found[i] = path .. "/" .. name
        end
        if not names[1] then
            return fail("KFR_NOT_FOUND", ("there is no share in the folder %s"):format(path),
                        "the name of a share's file ends in " .. ENDING)
        end
    end
    for _, file in ipairs(found) do
        local share, err = core.share.read(file)
        if share then
            shares[#shares + 1], files[#files + 1] = share, file
        elseif damaged and kind == "directory" then
            damaged(err)
        else
            return nil, err
        end
    end
    return shares, files
end

local function name_of(share)
    return ("%s-%s-%d%s"):format(share:colour(), share:set(), share:number(), ENDING)
end

--- Whether shares can be written into folders: they are there, and files can be made in them.
-- @tparam table folders
-- @treturn[1] true
-- @treturn[2] nil
-- @treturn[2] err
function M.can_write(folders)
    for _, folder in ipairs(folders) do
        if core.file.exists(folder) ~= "directory" then
            return fail("KFR_NOT_FOUND", ("there is no folder %s"):format(folder),
                        "name the folder of a stick that is mounted")
        end
        local ok, err = core.file.can_create(("%s/new%s"):format(folder, ENDING), true)
        if not ok then
            return nil, err
        end
    end
    return true
end

local function remove(paths)
    for _, path in ipairs(paths) do
        os.remove(path)
    end
end

-- Where each goes; nil, err when something is there already.
local function places(shares, folders)
    local paths = {}
    for i, share in ipairs(shares) do
        paths[i] = ("%s/%s"):format(folders[i] or folders[1], name_of(share))
        local ok, err = core.file.can_create(paths[i], false)
        if not ok then
            return nil, err
        end
    end
    return paths
end

--- Writes shares into files of mode 0600, COLOUR-SET-NUMBER.share: all of them or none, and
-- never over a file that is there.
-- @tparam table shares
-- @tparam table folders one for each share, or one for all
-- @treturn[1] table array of the paths
-- @treturn[2] nil
-- @treturn[2] err KFR_EXISTS, KFR_NOT_FOUND, KFR_SYSTEM
function M.write(shares, folders)
    local written = {}
    if #folders ~= 1 and #folders ~= #shares then
        error(("%d folders for %d shares: one for all, or one for each"):format(#folders,
            #shares), 3)
    end
    local paths, err = places(shares, folders)
    if not paths then
        return nil, err
    end
    for i, share in ipairs(shares) do
        local ok, why = share:write(paths[i])
        if not ok then
            remove(written)
            return nil, why
        end
        written[i] = paths[i]
    end
    return paths
end
M.write = guard.whole(M.write)

--- Writes a text, such as that of a domain, into a new file of mode 0600, with a newline at its
-- end; KEYFERRY_DOMAIN_FILE may name it.
-- @tparam secret secret
-- @string path
-- @treturn[1] true
-- @treturn[2] nil
-- @treturn[2] err KFR_EXISTS, KFR_NOT_FOUND, KFR_SYSTEM
function M.write_text(secret, path)
    return core.secret_to_file(secret, path)
end

-- Rings ----------------------------------------------------------------------------------

-- Shares that belong together, as they come in.
local Ring = {}
Ring.__index = Ring
Ring.__name = "keyferry.ring"

--- A ring, on which shares are collected until they are enough.
-- @string[opt] colour "blue", "black", "red" or "domain": no others are taken
-- @treturn ring
-- @usage
-- local shares = assert(keyferry.ped.create{ colour = "red", m = 2, n = 3 })
-- local ring = keyferry.ped.ring("red")
-- print(ring:add(shares[3]), ring:missing())  --> true	1
-- print(ring:add(shares[1]), ring:missing())  --> true	0
-- print(ring:secret())                        --> secret
function M.ring(colour)
    if colour ~= nil and not KINDS[colour] then
        error("a ring is for blue, black, red or domain", 2)
    end
    return setmetatable({ colour = colour, list = {} }, Ring)
end

--- Puts a share on the ring.
-- @tparam share share
-- @treturn[1] true
-- @treturn[2] nil
-- @treturn[2] err KFR_SHARE: of another colour, of another set, there already, ...
function Ring:add(share)
    if self.colour and share:colour() ~= self.colour then
        return fail("KFR_SHARE", ("this is a share of %s, and one of %s is wanted"):format(
            KINDS[share:colour()], KINDS[self.colour]))
    end
    for _, other in ipairs(self.list) do
        local ok, err = share:check_fits(other)
        if not ok then
            return nil, err
        end
    end
    self.list[#self.list + 1] = share
    return true
end

-- The shares by their groups, those that lack least first; how many groups are needed.
local function groups_of(ring)
    local groups, by_number, threshold = {}, {}, 1
    for _, share in ipairs(ring.list) do
        local about = share:groups()
        local group = by_number[about.number]
        threshold = about.threshold
        if not group then
            group = { lacks = share:needed() }
            by_number[about.number] = group
            groups[#groups + 1] = group
        end
        if group.lacks > 0 then
            group.lacks = group.lacks - 1
            group[#group + 1] = share
        end
    end
    table.sort(groups, function(a, b) return a.lacks < b.lacks end)
    return groups, threshold
end

--- How many more are needed; 0: they are enough. Of a ring that is empty nobody knows: nil. (Of
-- groups that nobody has begun, which keyferry makes none of, each counts as one.)
-- @treturn ?int
function Ring:missing()
    local groups, threshold = groups_of(self)
    local missing = 0
    if not self.list[1] then
        return nil
    end
    for i = 1, threshold do
        missing = missing + (groups[i] and groups[i].lacks or 1)
    end
    return missing
end

--- The shares on it, as many as are needed when they are enough.
-- @treturn table
function Ring:shares()
    local groups, threshold = groups_of(self)
    local shares = {}
    for i = 1, math.min(threshold, #groups) do
        table.move(groups[i], 1, #groups[i], #shares + 1, shares)
    end
    return shares
end

--- What they give together, see keyferry.ped.combine.
-- @treturn[1] secret
-- @treturn[2] nil
-- @treturn[2] err KFR_SHARE
function Ring:secret()
    return core.share.combine(self:shares())
end

return M
