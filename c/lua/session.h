/* SPDX-License-Identifier: MIT
 * session: an open session as a Lua userdata.
 */
#ifndef KF_LUA_SESSION_H
#define KF_LUA_SESSION_H

#include "clone/engine.h"
#include "pkcs11/session.h"

#include <lua.h>
#include <stdbool.h>

/* NULL when it is closed; raises when the value is no session. */
struct kf_session *kf_lua_open_session_at(lua_State *L, int index);

/* Raises when the value is no session or is closed. */
struct kf_session *kf_lua_check_session(lua_State *L, int index);

/* Pushes the object of a handle unless it has gone, or is a key of the partition's own
 * cloning domain, or the mark of an unfinished backup. False: nothing was pushed.
 * [-0, +0|1, v] */
bool kf_lua_push_found(lua_State *L, int session_index, struct kf_end *end,
                       CK_OBJECT_HANDLE handle);

/* The objects of the session at session_index that match the table at filter_index (none or
 * nil: all), read through `end` (NULL: by C_GetAttributeValue). [-0, +1|2, v] */
int kf_lua_find(lua_State *L, int session_index, struct kf_end *end, int filter_index);

/* The method module:session. [-0, +1|2, v] */
int kf_lua_new_session(lua_State *L);

#endif
