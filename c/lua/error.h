/* SPDX-License-Identifier: MIT
 * error: what a refusal looks like in Lua.
 *
 * An err object is a plain table (code, rv, call, what, hint, sys) with a metatable for
 * tostring and "..", so scripts read it and JSON encodes it.
 */
#ifndef KF_LUA_ERROR_H
#define KF_LUA_ERROR_H

#include "base/error.h"

#include <lua.h>

#define KF_LUA_ERROR "keyferry.error"

/* [-0, +1, m] Pushes err as an object. */
void kf_lua_error(lua_State *L, const struct kf_error *err);

/* [-0, +1, m] Pushes an array of them. */
void kf_lua_errors(lua_State *L, const struct kf_error *list, size_t count);

/* [-0, +2, m] Pushes nil and the object; a Lua function ends with it:
 * return kf_lua_refuse(L, &err); */
int kf_lua_refuse(lua_State *L, const struct kf_error *err);

/* [-0, +1|2, m] true when rv is 0, else as kf_lua_refuse. */
int kf_lua_done(lua_State *L, kf_rv rv, const struct kf_error *err);

#endif
