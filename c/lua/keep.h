/* SPDX-License-Identifier: MIT
 * keep: what a C function holds while it calls Lua, which may raise.
 *
 * struct kf_lua_keep *keep = kf_lua_keep(L, release);
 * keep->held = acquire();      then push whatever; return n;
 *
 * It is released when the C function returns or an error passes through it.
 */
#ifndef KF_LUA_KEEP_H
#define KF_LUA_KEEP_H

#include <lua.h>

struct kf_lua_keep {
    void *held; /* NULL: nothing */
    void (*release)(void *held);
};

/* [-0, +1, m] Pushes an empty one, which stays on the stack till the function returns. */
struct kf_lua_keep *kf_lua_keep(lua_State *L, void (*release)(void *held));

#endif
