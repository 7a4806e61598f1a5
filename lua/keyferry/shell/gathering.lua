-- SPDX-License-Identifier: MIT
--- Shares coming in, until there are as many as are needed: from files that were named, from
-- those of KEYFERRY_PED, from who is at the terminal.
local core = require("keyferry.core")
local ped = require("keyferry.ped")

local ask = require("keyferry.shell.ask")
local status = require("keyferry.shell.status")

local M = {}

--- Files and folders of shares, ":" between them.
M.VARIABLE = "KEYFERRY_PED"

local TRIES = 3

-- A key is of 32 bytes (core.share.create), which SLIP-0039 makes 33 words of.
local KEYS, KEY_WORDS = { blue = true, black = true, red = true }, 33

--- What shares are of, at the beginning of a sentence.
M.TITLES = { blue = "Blue key", black = "Black key", red = "Red key", domain = "Domain" }

local function refuse(code, what, hint)
    return nil, core.error({ code = code, what = what, hint = hint })
end

-- Files ----------------------------------------------------------------------------------

--- The shares in files and folders.
-- @tparam table paths
-- @treturn[1] table array of shares
-- @treturn[1] table their files
-- @treturn[1] table those of them that lie in files that were named themselves
-- @treturn[2] nil
-- @treturn[2] err
function M.read(paths)
    local shares, files, named = {}, {}, {}
    for _, path in ipairs(paths) do
        local some, of = ped.read(path)
        if not some then
            return nil, of
        end
        table.move(some, 1, #some, #shares + 1, shares)
        table.move(of, 1, #of, #files + 1, files)
        named[#named + 1] = of[1] == path and some[1] or nil
    end
    return shares, files, named
end

local warned = {}

-- A stick that is not there may not be needed; a share that is damaged, too, but it is told.
local function warn(out, name, err)
    local line = ("%s: %s"):format(name, tostring(err))
    if err.code ~= "KFR_NOT_FOUND" and not warned[line] then
        warned[line] = true
        out:warn("%s", line)
    end
end

--- The shares that the environment names.
-- @param out the output
-- @string[opt] name another variable, which is looked at first
-- @treturn table array of shares, empty when it names none
-- @treturn table their files
-- @treturn ?string what it names and is not there, a sentence
function M.of_environment(out, name)
    local shares, files, missing = {}, {}, nil
    local value = name and ask.sources.path(name)
    if not value or value == "" then
        name = M.VARIABLE
        value = ask.sources.path(name) or ""
    end
    local function lacks(err)
        warn(out, name, err)
        missing = missing or ("%s: %s"):format(name, err.what)
    end
    for path in value:gmatch("[^:]+") do
        local some, of = ped.read(path, lacks)
        if some then
            table.move(some, 1, #some, #shares + 1, shares)
            table.move(of, 1, #of, #files + 1, files)
        else
            lacks(of)
        end
    end
    return shares, files, missing
end

local function is_there(list, share)
    for _, other in ipairs(list) do
        if other:number() == share:number() and other:groups().number == share:groups().number
        then
            return true
        end
    end
    return false
end

-- Those of a colour, by their sets, in the order they were found; a copy of one is that one.
local function sets_of(shares, colour)
    local sets, by_name = {}, {}
    for _, share in ipairs(shares) do
        if not colour or share:colour() == colour then
            local name = share:set()
            if not by_name[name] then
                by_name[name] = { name = name }
                sets[#sets + 1] = by_name[name]
            end
            if not is_there(by_name[name], share) then
                table.insert(by_name[name], share)
            end
        end
    end
    return sets
end

-- A ring with all of them; those that are more than needed may be on it.
local function ring_of(shares, colour)
    local ring = ped.ring(colour)
    for _, share in ipairs(shares) do
        local ok, err = ring:add(share)
        if not ok then
            return nil, err
        end
    end
    return ring
end

-- The one key of which there are enough shares; else the one that is begun. Neither, or more
-- than one: false and a sentence.
local function choose(shares, colour)
    local whole, begun, names = {}, {}, {}
    for _, set in ipairs(sets_of(shares, colour)) do
        local ring, err = ring_of(set, colour)
        if not ring then
            return nil, err
        end
        table.insert(ring:missing() == 0 and whole or begun, ring)
        names[#names + 1] = ring:missing() == 0 and set.name or nil
    end
    if whole[2] then
        return false, ("the sets %s are all there, and which one is meant is not said"):format(
            table.concat(names, ", "))
    elseif not whole[1] and begun[2] then
        return false, "shares of several sets are there, and not enough of any"
    end
    return whole[1] or begun[1] or false
end

-- Words ----------------------------------------------------------------------------------

local function in_home(path)
    return (path:gsub("^~%f[/\0]", os.getenv("HOME") or "~"))
end

-- Puts on a ring what of these fits; when none does, the first refusal. On an empty one shares
-- of several sets are refused: which of them is meant?
local function add(ring, shares)
    local added, refusal = 0, nil
    if not ring:missing() and #sets_of(shares, ring.colour) > 1 then
        return refuse("KFR_SHARE", "there are shares of several sets in it",
            "name the file of the one that is meant")
    end
    for _, share in ipairs(shares) do
        if ring:missing() ~= 0 then
            local ok, err = ring:add(share)
            added, refusal = added + (ok and 1 or 0), refusal or err
        end
    end
    return added > 0 or nil, refusal
end

local function question_of(ring, what)
    local first = ring.list[1]
    local title = M.TITLES[first and first:colour() or what.colour] or "Key or domain"
    local of = what.of and " for " .. what.of or ""
    if not first then
        return ("%s%s: the words of a share, or the path of its file:"):format(title, of)
    end
    return ("%s%s: another share of set %s (%d of %d given):"):format(title, of, first:set(),
        #ring.list, #ring.list + ring:missing())
end

local function no_terminal(ring, what)
    local title = (M.TITLES[what.colour] or "Key or domain"):lower()
    local of = what.of and " for " .. what.of or ""
    local lacks = ring:missing() and ("%d of %d shares are there"):format(#ring.list,
        #ring.list + ring:missing()) or "no share is there"
    return core.error({ code = "KFR_NO_SECRET",
        what = ("%s%s: %s, and no terminal to ask on%s"):format(title, of, lacks,
            what.why and (" (%s)"):format(what.why) or ""),
        hint = what.hint or ("name the files of its shares in %s, ':' between them"):format(
            what.env or M.VARIABLE) })
end

-- How many words the next share has; nil: nobody knows yet.
local function words_of(ring)
    local first = ring.list[1]
    return first and first:length() or KEYS[ring.colour] and KEY_WORDS or nil
end

-- What is typed next, as shares.
local function next_shares(ring, what, out)
    local answer, err = ask.share(question_of(ring, what), out, function()
        return no_terminal(ring, what)
    end, words_of(ring))
    if type(answer) == "string" then
        return ped.read(in_home(answer))
    end
    return answer and { answer }, answer and {} or err
end

local FINAL = { KFR_INTERRUPTED = true, KFR_NO_SECRET = true, KFR_REFUSED = true }

-- Asks until the ring is whole. What comes from the environment gives way to what is typed.
local function complete(ring, what, out)
    local tries = 0
    while ring:missing() ~= 0 do
        local shares, ok, err
        shares, err = next_shares(ring, what, out)
        if shares then
            ok, err = add(ring, shares)
            if not ok and what.borrowed and #ring.list == what.borrowed then
                local other = ped.ring(ring.colour)
                if add(other, shares) then
                    ring, ok = other, true
                end
            end
        end
        tries = ok and 0 or tries + 1
        if not ok and (FINAL[status.code(err)] or tries >= TRIES) then
            return nil, err
        elseif not ok then
            out:note("  %s", tostring(err))
        end
    end
    return ring
end

-- Those of the same set that lie in folders join those whose files were named.
local function with_set(named, shares)
    for _, share in ipairs(shares) do
        if share:set() == named[1]:set() and not is_there(named, share) then
            table.insert(named, share)
        end
    end
    return named
end

-- What was named with -from: files, all of which have to fit; in folders there may be others.
local function of_files(what)
    local shares, files, named = M.read(what.from)
    if not shares then
        return nil, files
    elseif named[1] then
        return ring_of(with_set(named, shares), what.colour)
    end
    local ring, why = choose(shares, what.colour)
    if ring == false then
        return refuse("KFR_SHARE", why or "none of the shares there is such a one",
            "name the files of those that are meant ('keyferry ped inspect' tells which they are)")
    end
    return ring, why
end

--- Shares, as many as are needed: asked for as far as they are not given.
-- @tparam table what `colour` (any, when nil); `of`: for the question, what it is for; `from`:
--   paths, instead of the environment; `env`: a variable before KEYFERRY_PED; `hint` when there
--   are not enough, and no terminal
-- @param out the output
-- @treturn[1] ring that is whole
-- @treturn[2] nil
-- @treturn[2] err KFR_SHARE, KFR_NO_SECRET, ...
function M.ring(what, out)
    local ring, why, missing, shares, _
    if what.from then
        ring, why = of_files(what)
    else
        shares, _, missing = M.of_environment(out, what.env)
        ring, why = choose(shares, what.colour)
    end
    if ring == nil then
        return nil, why
    end
    what = setmetatable({ borrowed = not what.from and ring and #ring.list, why = why or missing },
        { __index = what })
    return complete(ring or ped.ring(what.colour), what, out)
end

--- One share, whatever it is of, from the terminal.
-- @param out the output
-- @treturn[1] table array of the share; of several, when a folder was named
-- @treturn[1] table the files of those that lie in one
-- @treturn[2] nil
-- @treturn[2] err
function M.one(out)
    local ring, tries = ped.ring(), 0
    while true do
        local shares, files = next_shares(ring, {}, out)
        tries = tries + 1
        if shares or FINAL[status.code(files)] or tries >= TRIES then
            return shares, files
        end
        out:note("  %s", tostring(files))
    end
end

-- A domain at its prompt -------------------------------------------------------------------

-- Whether a line that is no share was meant as one: core.share.parse has a hint then.
local function was_meant(err)
    return err.hint ~= nil
end

--- What a line that was given for a domain stands for: itself; or, when it is a share, or
-- nothing, the text that it and further shares give together.
-- @tparam secret line
-- @param out the output
-- @treturn[1] secret
-- @treturn[1] ?err none
-- @treturn[1] boolean whether it came of shares
-- @treturn[2] nil
-- @treturn[2] err
function M.domain(line, out)
    local nothing <close> = core.secret("")
    local ring, ok, share, err = ped.ring("domain"), true, nil, nil
    if line ~= nothing then
        share, err = ped.parse(line)
    end
    if err and not was_meant(err) then
        return line, nil, false
    end
    line:close()
    if err then
        return nil, err
    end
    if share then
        ok, err = ring:add(share)
    end
    if ok then
        ring, err = complete(ring, { colour = "domain" }, out)
    end
    if not ok or not ring then
        return nil, err
    end
    line, err = ring:secret()
    return line, err, true
end

return M
