-- SPDX-License-Identifier: MIT
--- Colour, where a terminal has it and its user wants it.
local M = {}

-- Select Graphic Rendition (ECMA-48 8.3.117), only what every terminal with colour knows.
local STYLES = { title = "1", name = "2", error = "31", warning = "33" }

--- Whether to write with colour.
-- @tparam boolean terminal whether it goes to one
-- @tparam[opt] function getenv instead of os.getenv
-- @treturn boolean
function M.wanted(terminal, getenv)
    getenv = getenv or os.getenv
    local kind, refused = getenv("TERM") or "", getenv("NO_COLOR") or "" -- no-color.org
    return terminal and kind ~= "" and kind ~= "dumb" and refused == ""
end

--- What puts a style around a text that is clean already (keyferry.shell.text), or leaves it.
-- @tparam boolean wanted
-- @treturn function (style, text) -> text; styles: title, name, error, warning
function M.brush(wanted)
    if not wanted then
        return function(_, text)
            return text
        end
    end
    return function(style, text)
        return ("\27[%sm%s\27[0m"):format(STYLES[style], text)
    end
end

return M
