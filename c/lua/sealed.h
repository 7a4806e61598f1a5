/* SPDX-License-Identifier: MIT
 * sealed: a sealed object as a Lua userdata. It holds no secret: its bytes may go anywhere.
 */
#ifndef KF_LUA_SEALED_H
#define KF_LUA_SEALED_H

#include "base/wire.h"

#include <lua.h>

/* An empty sealed object, pushed: its writer, to be filled. [-0, +1, m] */
struct kf_writer *kf_lua_new_sealed(lua_State *L);
/* Raises when the value is none, or is closed. */
const struct kf_writer *kf_lua_check_sealed(lua_State *L, int index);

#endif
