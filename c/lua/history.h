/* SPDX-License-Identifier: MIT
 * history: the file of the lines typed at the prompt. Two shells write it at once.
 *
 * It is this user's own, of mode 0600, and no link; anything else is refused.
 */
#ifndef KF_LUA_HISTORY_H
#define KF_LUA_HISTORY_H

#include <lua.h>

/* [-0, +0, m] Adds `history` to the table on top of the stack: append(path, text, lines)
 * adds lines and keeps at most so many, read(path) gives the last of them. */
void kf_lua_open_history(lua_State *L);

#endif
