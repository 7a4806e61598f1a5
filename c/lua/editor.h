/* SPDX-License-Identifier: MIT
 * editor: lines typed at the terminal, with keys, a history and completion (libedit).
 *
 * Only the program has it: core.so is loaded by other people's interpreters, which need
 * no libedit for a backup.
 */
#ifndef KF_LUA_EDITOR_H
#define KF_LUA_EDITOR_H

#include <lua.h>

/* [-0, +0, m] Adds `editor` to the table on top of the stack.
 *
 * core.editor{ complete = function(line, cursor) -> first, text [, below] } -> editor
 *   Tab: `cursor` bytes of line stand before the cursor; line[first .. cursor] becomes
 *   text, and `below` is printed under the line. nil: there is nothing.
 * editor:read(prompt) -> line     without its end; bytes between two \1 take no column
 *                      | nil      Ctrl-D on an empty line, SIGTERM, SIGHUP, no terminal
 *                      | nil, err KFR_INTERRUPTED: Ctrl-C; KFR_LIMIT: too long
 * editor:add(line)                to the history of this editor, at most 1000 lines
 * editor:forget()                 the last line, wherever libedit keeps it
 * editor:columns() -> integer
 * editor:close()
 *
 * While it reads, Ctrl-C is a key like others. Otherwise the terminal is as it was. */
void kf_lua_open_editor(lua_State *L);

#endif
