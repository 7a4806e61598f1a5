/* SPDX-License-Identifier: MIT */
#include "base/names.h"
#include "lua/door.h"

#include <lauxlib.h>

/* In the order of enum kf_family. */
static const char *const families[] = { "CKA", "CKO", "CKK", "CKC",
                                        "CKM", "CKR", NULL };

static enum kf_family check_family(lua_State *L)
{
    return (enum kf_family)luaL_checkoption(L, 1, NULL, families);
}

/***
The name of a constant: `core.name("CKA", 3)` is "CKA_LABEL". One that is not listed gives
"CKA_0x...".
@function name
@string family "CKA", "CKO", "CKK", "CKC", "CKM" or "CKR"
@int value
@treturn string
*/
static int name_text(lua_State *L)
{
    enum kf_family family = check_family(L);
    uint64_t value = (uint64_t)luaL_checkinteger(L, 2);
    char buffer[64];

    lua_pushstring(L, kf_name_text(family, value, buffer, sizeof buffer));
    return 1;
}

/***
The number of a constant, by its name or nick: "CKA_LABEL", "label".
@function value
@string family
@string text
@treturn ?int nil when there is none
*/
static int name_value(lua_State *L)
{
    enum kf_family family = check_family(L);
    const struct kf_name *name = kf_name_find(family, kf_lua_check_text(L, 2));

    if (!name)
        return 0;
    lua_pushinteger(L, (lua_Integer)name->value);
    return 1;
}

/***
The short name of a constant, as attribute tables have it.
@function nick
@string family
@int value
@treturn ?string nil when it is not listed
*/
static int name_nick(lua_State *L)
{
    enum kf_family family = check_family(L);
    const struct kf_name *name = kf_name_of(family, (uint64_t)luaL_checkinteger(L, 2));

    if (!name)
        return 0;
    lua_pushstring(L, name->nick);
    return 1;
}

static const luaL_Reg functions[] = {
    { "name", name_text },
    { "value", name_value },
    { "nick", name_nick },
    { NULL, NULL },
};

void kf_lua_open_names(lua_State *L)
{
    luaL_setfuncs(L, functions, 0);
}
