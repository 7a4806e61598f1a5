/* SPDX-License-Identifier: MIT */
#include "lua/keep.h"
#include "lua/door.h"

#include <lauxlib.h>
#include <stddef.h>

#define KF_LUA_KEEP "keyferry.keep"

struct kf_lua_keep *kf_lua_keep(lua_State *L, void (*release)(void *held))
{
    struct kf_lua_keep *keep = lua_newuserdatauv(L, sizeof *keep, 0);

    keep->held = NULL;
    keep->release = release;
    luaL_setmetatable(L, KF_LUA_KEEP);
    lua_toclose(L, -1);
    return keep;
}

static int keep_release(lua_State *L)
{
    struct kf_lua_keep *keep = luaL_checkudata(L, 1, KF_LUA_KEEP);
    void *held = keep->held;

    keep->held = NULL;
    if (held)
        keep->release(held);
    return 0;
}

static const luaL_Reg meta[] = {
    { "__close", keep_release },
    { "__gc", keep_release },
    { NULL, NULL },
};

void kf_lua_open_keep(lua_State *L)
{
    luaL_newmetatable(L, KF_LUA_KEEP);
    luaL_setfuncs(L, meta, 0);
    lua_pop(L, 1);
}
