-- SPDX-License-Identifier: MIT
--- Completion files for bash and zsh, and the answers that they ask the program for.
--
-- A file knows nothing of commands: it gives the line to `keyferry --complete SHELL`, on
-- standard input, since the line may hold a secret and the process list shows arguments.
local core = require("keyferry.core")

local complete = require("keyferry.shell.completion.line")
local failure = require("keyferry.shell.failure")
local quoting = require("keyferry.shell.completion.quoting")
local status = require("keyferry.shell.status")
local text = require("keyferry.shell.text")

local M = {}

local MAX_INPUT = 1024 * 1024
local WIDTH = 79

-- The program is looked for in PATH only: Tab must not run what lies in a folder that
-- somebody typed. What is put on the line comes quoted; nothing here evaluates it.
local BASH = [==[
# bash completion for keyferry; made by: keyferry --completion bash
# SPDX-License-Identifier: MIT
# shellcheck shell=bash

_keyferry() {
    local line
    COMPREPLY=()
    type -P keyferry >/dev/null || return 0
    while IFS= read -r line; do
        case $line in
            =*) COMPREPLY+=("${line#=}") ;;
            '!nospace') compopt -o nospace 2>/dev/null ;;
            '!files') compopt -o bashdefault -o default 2>/dev/null ;;
        esac
    done < <(printf '%s\0' "${COMP_LINE:0:COMP_POINT}" "${2-}" |
        command keyferry --complete bash 2>/dev/null)
    return 0
}

complete -F _keyferry keyferry
]==]

local ZSH = [==[
#compdef keyferry
# zsh completion for keyferry; made by: keyferry --completion zsh
# SPDX-License-Identifier: MIT

_keyferry() {
    local -a answer values shown how
    local value line
    (( $+commands[keyferry] )) || return 1
    answer=("${(@0)$(print -rN -- "${(@)words[2,CURRENT-1]}" "$IPREFIX$QIPREFIX$PREFIX" |
        command keyferry --complete zsh 2>/dev/null)}")
    [[ $answer[1] == (words|files) ]] || return 1
    [[ $answer[2] == *inline* ]] && compset -P 1 '*='
    if [[ $answer[1] == files ]]; then
        _files
        return
    fi
    [[ $answer[2] == *list* ]] && compset -P '*,'
    [[ $answer[2] == *open* ]] && how+=(-S '')
    for value line in "${(@)answer[3,-2]}"; do
        values+=("$value")
        shown+=("$line")
    done
    compadd -l "${how[@]}" -d shown -a -- values
}

if [[ $funcstack[1] == _keyferry ]]; then
    _keyferry "$@"
else
    compdef _keyferry keyferry
fi
]==]

local FILES = { bash = BASH, zsh = ZSH }

-- Answers ------------------------------------------------------------------------------

-- The fields that a shell wrote, each ended by a NUL.
local function read_fields()
    local bytes = io.read(MAX_INPUT) or ""
    local fields = {}
    local i, last = 1, bytes:find("\0", 1, true)
    while last do
        fields[#fields + 1] = bytes:sub(i, last - 1)
        i = last + 1
        last = bytes:find("\0", i, true)
    end
    return fields
end

-- Where bash begins to replace: behind an open quote; else where the text begins that it
-- gives the function; else behind the last of its word breaks.
local function bash_start(word, given)
    local raw = word.raw
    if word.opened then
        return word.opened
    elseif given and #given <= #raw and raw:sub(#raw - #given + 1) == given then
        return #raw - #given + 1
    end
    return raw:match(".*[=:@]()") or 1
end

-- Lines of bash: "=" and a word as it is to stand on the line, or "!" and what to do.
local function for_bash(shell, fields)
    local words, word = quoting.words(fields[1] or "", "bash")
    local lines, start = {}, bash_start(word, fields[2])
    if not table.remove(words, 1) then
        return "" -- the cursor is in the program's name
    end
    local found = complete.command(shell, words, word.value)
    if found.files and found.before ~= "" and start == 1 then
        complete.add_files(found, word.value) -- bash would look for a file named -x=...
        found.files = nil
    end
    for _, candidate in ipairs(found) do
        -- Closed here: readline closes no quote behind one that stands for itself.
        local piece = quoting.ending(word, start, candidate.value, "bash", not candidate.open)
        lines[#lines + 1] = piece and "=" .. piece
    end
    if #lines == 1 and found[1].open then
        lines[#lines + 1] = "!nospace"
    end
    if found.files then
        lines[#lines + 1] = "!files"
    end
    return #lines > 0 and table.concat(lines, "\n") .. "\n" or ""
end

-- The first sentence of a help text, cut to what a line has room for.
local function brief(help, room)
    local line = text.clean(help)
    line = line:match("^(.-%l%l[.)]) +%u") or line
    if utf8.len(line) <= room then
        return line
    end
    return line:sub(1, utf8.offset(line, math.max(room - 2, 1)) - 1) .. "..."
end

local function shown(candidates)
    local rows = {}
    for i, candidate in ipairs(candidates) do
        rows[i] = { candidate.value, candidate.help and "-- " }
    end
    local lines = text.columns({ "", "" }, rows)
    table.remove(lines, 1)
    for i, candidate in ipairs(candidates) do
        local line = lines[i]
        if candidate.help then
            lines[i] = line .. " " .. brief(candidate.help, WIDTH - utf8.len(line) - 1)
        else
            lines[i] = text.clean(candidate.value)
        end
    end
    return lines
end

-- Between quotes that are open zsh writes bytes that are no text as other ones.
local function zsh_can_write(value, opened)
    local is_text = not value:find("[\128-\255]")
        or utf8.len(value) and os.setlocale(nil, "ctype"):lower():find("utf%-?8")
    return not value:find("\0") and (is_text or not opened)
end

-- Fields for zsh, which quotes by itself: what they are, how they are put, then each value
-- and how it is shown. What stands before the value in its word is taken off.
local function for_zsh(shell, fields)
    local words, opened = {}, nil
    for i, field in ipairs(fields) do
        local _, word = quoting.words(field, "bash")
        words[i], opened = word.value, word.opened
    end
    local word = table.remove(words) or ""
    local found = complete.command(shell, words, word, { describe = true })
    local before = found.before or found[1] and found[1].before or ""
    local how = (before:find("^%-[^=]*=") and "inline " or "")
        .. (before:find(",$") and "list " or "") .. (found[1] and found[1].open and "open" or "")
    local parts = { found.files and "files" or "words", how }
    for _, candidate in ipairs(found) do
        candidate.value = candidate.value:sub(#before + 1)
    end
    local lines = shown(found)
    for i, candidate in ipairs(found) do
        if zsh_can_write(candidate.value, opened) then
            parts[#parts + 1] = candidate.value
            parts[#parts + 1] = lines[i]
        end
    end
    return table.concat(parts, "\0") .. "\0"
end

local ANSWERS = { bash = for_bash, zsh = for_zsh }

local function answer(shell, name)
    if not ANSWERS[name] or core.terminal.is(0) then
        return failure.plain(shell, failure.usage("--complete is for the completion files"))
    end
    local ok, bytes = pcall(ANSWERS[name], shell, read_fields())
    if ok then
        shell.stdout:write(bytes)
    end
    return status.SUCCESS
end

--- `--completion SHELL` prints the shell's file; `--complete SHELL` answers one.
-- @param shell the program
-- @tparam table words its arguments
-- @treturn integer the exit status
function M.run(shell, words)
    if words[1] == "--complete" then
        return answer(shell, words[2])
    elseif not FILES[words[2]] or words[3] then
        return failure.plain(shell, failure.usage("--completion takes bash or zsh",
            "write: keyferry --completion bash"))
    end
    shell.stdout:write(FILES[words[2]])
    return status.SUCCESS
end

return M
