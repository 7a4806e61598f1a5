/* SPDX-License-Identifier: MIT
 * secret: a kf_secret in a Lua box. No bytes of it ever reach Lua again.
 */
#ifndef KF_LUA_SECRET_H
#define KF_LUA_SECRET_H

#include "base/secret.h"

#include <lua.h>

#define KF_LUA_SECRET "keyferry.secret"

/* [-0, +0, v] The open secret at idx, still owned by its box (copy it to keep it).
 * Raises for anything else; a string is told how to become one. */
struct kf_secret *kf_lua_check_secret(lua_State *L, int idx);
/* The same; nil and none give NULL. */
struct kf_secret *kf_lua_opt_secret(lua_State *L, int idx);

/* [-0, +1, m] Pushes an empty box (closed until *box is set): box first, then acquire
 * straight into it. */
struct kf_secret **kf_lua_new_secret(lua_State *L);
/* [-0, +1, m] Pushes the bytes in the box, which was made for a result that is no secret,
 * and empties it now: locked memory is scarce, and Lua does not know that it is used. */
void kf_lua_push_result(lua_State *L, struct kf_secret **box);

#endif
