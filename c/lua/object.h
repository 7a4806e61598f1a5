/* SPDX-License-Identifier: MIT
 * object: an object of a session as a Lua userdata.
 */
#ifndef KF_LUA_OBJECT_H
#define KF_LUA_OBJECT_H

#include "clone/engine.h"
#include "pkcs11/object.h"

#include <lua.h>

/* Pushes the object of the session at session_index and reads its attributes (through
 * `end` unless it is NULL); they are returned, NULL when the object is gone. One that cannot be read is an object all the
 * same, with no attributes and its `trouble`. [-0, +1, m] */
const struct kf_attributes *kf_lua_push_object(lua_State *L, int session_index,
                                               struct kf_end *end,
                                               CK_OBJECT_HANDLE handle);

/* Raises when the value is no object. */
CK_OBJECT_HANDLE kf_lua_check_object(lua_State *L, int index);
/* Its attributes as they were read. */
const struct kf_attributes *kf_lua_object_known(lua_State *L, int index);
/* Its session; raises when that is closed. */
struct kf_session *kf_lua_object_session(lua_State *L, int index);

#endif
