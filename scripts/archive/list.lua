-- SPDX-License-Identifier: MIT
-- archive list: what sealed streams say of themselves. Needs no domain, so nothing of it is
-- authenticated.
local keyferry = require("keyferry")

local archive = keyferry.archive

local function count(n, what)
    return ("%d %s%s"):format(n, what, n == 1 and "" or "s")
end

-- The files that the words mean; what could not be looked at is a trouble.
local function find(ctx, troubles)
    local files = {}
    for _, path in ipairs(ctx.options.file) do
        local found, err = archive.find(path)
        table.move(found or {}, 1, found and #found or 0, #files + 1, files)
        troubles[#troubles + 1] = err
    end
    return files
end

local function look(path)
    local reader <close>, err = archive.open(path)
    if not reader then
        return nil, err
    end
    return archive.read(reader)
end

local function state(found)
    if found.err then
        return ("%s after %s"):format(found.err.code == "KFR_TRUNCATED" and "cut off" or "damaged",
            count(found.objects, "object"))
    elseif found.failed > 0 then
        return ("whole, but %d of its source missing"):format(found.failed)
    end
    return "whole"
end

local function event(ctx, path, found, err)
    local head = found and found.head or {}
    err = err or found and found.err
    ctx:event({
        event = "archive", file = path, label = head.label, serial = head.serial,
        model = head.model, manufacturer = head.manufacturer, keyferry = head.keyferry,
        created = head.created, domain = head.check, objects = found and found.objects,
        failed = found and found.failed, skipped = found and found.skipped,
        whole = found and found.whole or false, authenticated = false,
        reason = err and tostring(err), code = err and err.code,
    })
end

local function look_at_all(ctx, files, troubles)
    local rows, cut = {}, 0
    for _, path in ipairs(files) do
        local found, err = look(path)
        if found then
            local head = found.head
            rows[#rows + 1] = { path, head.label, head.serial, archive.made(head.created),
                found.objects, head.check, state(found) }
            cut = cut + (found.whole and 0 or 1)
        end
        troubles[#troubles + 1] = err
        event(ctx, path, found, err)
    end
    return rows, cut
end

local function tell(ctx, rows)
    if #rows > 0 then
        ctx:columns({ "FILE", "SOURCE", "SERIAL", "MADE", "OBJECTS", "DOMAIN", "STATE" }, rows)
        ctx:print("")
    end
    ctx:print("%s", count(#rows, "archive"))
    if #rows > 0 then
        ctx:print("Nothing of this is authenticated; 'keyferry archive verify' asks for the "
            .. "domain and is sure.")
    end
end

-- The exit status: partial when anything that was named is no whole archive.
local function conclude(ctx, archives, cut, unread)
    local parts = {}
    if unread > 0 then
        parts[1] = ("%d of %d files could not be read"):format(unread, archives + unread)
    end
    if cut > 0 then
        parts[#parts + 1] = ("%d of %s not whole"):format(cut, count(archives, "archive"))
    end
    if #parts == 0 then
        return 0
    end
    return ctx:finish({ status = 1, reason = table.concat(parts, ", "),
        hint = cut > 0 and "have what is not whole sent again, or take another copy of it" or nil })
end

local function run(ctx)
    local troubles, last = {}, nil
    local rows, cut = look_at_all(ctx, find(ctx, troubles), troubles)
    if #rows == 0 then
        last = table.remove(troubles)
    end
    for _, err in ipairs(troubles) do
        ctx:warn("%s", tostring(err))
    end
    if last then
        return nil, last
    end
    tell(ctx, rows)
    return conclude(ctx, #rows, cut, #troubles)
end

return {
    name = "archive list",
    summary = "List sealed streams, as they describe themselves.",
    category = "reads",
    privileges = { "admin", "operator" },
    options = {
        keyferry.option("file", { kind = "list", word = true, complete = "files", required = true,
            help = "Files with sealed streams, or folders of them." }),
    },
    examples = { "keyferry archive list payments.stream", "keyferry archive list /srv/vault" },
    run = run,
}
