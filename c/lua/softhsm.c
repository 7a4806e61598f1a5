/* SPDX-License-Identifier: MIT
 * softhsm: what PKCS#11 leaves out and a soft HSM needs: its configuration, and removing a
 * token.
 */
#include "clone/softhsm_store.h"
#include "lua/door.h"
#include "lua/error.h"

#include <lauxlib.h>

/***
What a softhsm2.conf says. Found as SoftHSM finds it when no path is given.
@function softhsm.configuration
@string[opt] path
@treturn[1] table path, tokendir, file_backend (boolean)
@treturn[2] nil
@treturn[2] err
*/
static int configuration(lua_State *L)
{
    const char *path = luaL_optstring(L, 1, NULL);
    struct kf_softhsm_conf *conf = lua_newuserdatauv(L, sizeof *conf, 0);
    struct kf_error err = { 0 };

    if (kf_softhsm_conf_read(path, conf, &err))
        return kf_lua_refuse(L, &err);
    lua_newtable(L);
    lua_pushstring(L, conf->path);
    lua_setfield(L, -2, "path");
    lua_pushstring(L, conf->tokendir);
    lua_setfield(L, -2, "tokendir");
    lua_pushboolean(L, conf->is_file_backend);
    lua_setfield(L, -2, "file_backend");
    return 1;
}

/***
Removes a token with everything in it, as softhsm2-util --delete-token does. A module that
has the store open goes on listing it until it is opened again.
@function softhsm.delete_token
@string path the softhsm2.conf
@string serial
@treturn[1] true
@treturn[2] nil
@treturn[2] err
*/
static int delete_token(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    const char *serial = luaL_checkstring(L, 2);
    struct kf_softhsm_conf *conf = lua_newuserdatauv(L, sizeof *conf, 0);
    struct kf_error err = { 0 };
    kf_rv rv = kf_softhsm_conf_read(path, conf, &err);

    if (!rv)
        rv = kf_store_delete_token(conf, serial, &err);
    return kf_lua_done(L, rv, &err);
}

static const luaL_Reg functions[] = {
    { "configuration", configuration },
    { "delete_token", delete_token },
    { NULL, NULL },
};

void kf_lua_open_softhsm(lua_State *L)
{
    luaL_newlib(L, functions);
    lua_setfield(L, -2, "softhsm");
}
