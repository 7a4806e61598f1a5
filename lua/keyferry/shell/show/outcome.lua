-- SPDX-License-Identifier: MIT
--- Plans, reports and errors as a person reads them.
local object_sheet = require("keyferry.shell.show.object")
local piece = require("keyferry.shell.show.piece")

local clean, line_of, field = piece.clean, piece.line_of, piece.field
local is_object, text_field, sheet = piece.is_object, piece.text_field, piece.sheet
local columns = piece.columns
local id_of, label_of = object_sheet.id_of, object_sheet.label_of

local CELL_MAX = piece.CELL_MAX

local function is_error(value)
    local meta = type(value) == "table" and debug.getmetatable(value)
    return type(meta) == "table" and rawget(meta, "__name") == "keyferry.error"
end

local function show_error(err, how)
    local hint = text_field(err, "hint")
    local line = how.brush("error", line_of(err))
    return hint and hint ~= "" and line .. "\n  " .. hint or line
end

local COUNTS = {
    "selected", "cloned", "sealed", "planned", "clone", "exists", "skipped", "skip", "failed",
    "fail", "removed", "to_remove",
}

local function counts_of(counts)
    local parts = {}
    for _, name in ipairs(COUNTS) do
        local n = rawget(counts, name)
        local always = name == (rawget(counts, "sealed") and "sealed" or "cloned")
        if math.type(n) == "integer" and (n > 0 or always) then
            parts[#parts + 1] = ("%s %d"):format((name:gsub("_", " ")), n)
        end
    end
    return table.concat(parts, ", ")
end

local function is_report(value)
    return type(value) == "table" and not debug.getmetatable(value)
        and type(value.status) == "string" and math.type(value.cloned) == "integer"
        and math.type(value.failed) == "integer"
end

local function show_report(report, how)
    return sheet(how, (report.sealed and "send: " or "backup: ") .. clean(report.status), {
        { "Counts", counts_of(report) },
        { "Created", report.created and "a new partition" or nil },
        { "Lossy", report.lossy ~= 0 and report.lossy or nil },
        { "Unproved", report.unproved ~= 0 and report.unproved or nil },
        { "Target damaged", report.target_damaged and line_of(report.target_damaged) },
        { "Reason", report.reason and line_of(report.reason) },
    })
end

local function is_plan(value)
    return type(value) == "table" and debug.getmetatable(value)
        and type(field(value, "items")) == "table" and type(field(value, "counts")) == "table"
end

local function item_row(item)
    item = type(item) == "table" and item or {}
    local object = item.object
    local known = is_object(object) and object:attributes() or {}
    local why = item.err and line_of(item.err) or nil
    if not why and type(item.lost) == "string" and item.lost ~= "" then
        why = "without " .. clean(item.lost)
    end
    return { item.status and line_of(item.status), known.class, known.key_type,
        label_of(known, CELL_MAX), id_of(known), is_object(object) and object.handle or nil,
        why }
end

local ITEM_HEAD = { "Status", "Class", "Key type", "Label", "Id", "Handle", "Reason" }

local function show_plan(plan, how)
    local title = ("plan%s: %s"):format(
        type(plan.mode) == "string" and (" (%s)"):format(clean(plan.mode)) or "",
        counts_of(plan.counts))
    if #plan.items == 0 then
        return how.brush("title", title)
    end
    -- The reasons are what one looks for: the terminal breaks them, nothing cuts them.
    return columns(how, ITEM_HEAD, plan.items, item_row, math.huge) .. "\n"
        .. how.brush("title", title)
end

return {
    is_error = is_error, show_error = show_error, is_report = is_report,
    show_report = show_report, is_plan = is_plan, show_plan = show_plan,
}
