/* SPDX-License-Identifier: MIT
 * unfinished: what a session's methods say of a partition that is no whole backup.
 */
#ifndef KF_LUA_UNFINISHED_H
#define KF_LUA_UNFINISHED_H

#include <lua.h>

/* Methods of a session. [-0, +1|2, v] */
int kf_lua_unfinished(lua_State *L);
int kf_lua_mark_unfinished(lua_State *L);
int kf_lua_mark_finished(lua_State *L);

#endif
