/* SPDX-License-Identifier: MIT
 * softhsm: what PKCS#11 leaves out and a soft HSM needs: its configuration, and removing a
 * token.
 */
#include "clone/softhsm_length.h"
#include "clone/softhsm_lock.h"
#include "clone/softhsm_store.h"
#include "clone/softhsm_survey.h"
#include "lua/door.h"
#include "lua/error.h"
#include "lua/keep.h"
#include "lua/session.h"

#include <lauxlib.h>
#include <stdbool.h>
#include <stdlib.h>

/***
What a softhsm2.conf says. Found as SoftHSM finds it when no path is given.
@function softhsm.configuration
@string[opt] path
@treturn[1] table path, tokendir, file_backend, names_tokendir (false: the default)
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
    lua_pushboolean(L, conf->names_tokendir);
    lua_setfield(L, -2, "names_tokendir");
    return 1;
}

/***
Whether SoftHSM can be started on a store and live: see clone/softhsm_length.
@function softhsm.check
@string path the softhsm2.conf
@treturn[1] true
@treturn[2] nil
@treturn[2] err
*/
static int check_lengths(lua_State *L)
{
    const char *path = kf_lua_check_text(L, 1);
    struct kf_softhsm_conf *conf = lua_newuserdatauv(L, sizeof *conf, 0);
    struct kf_error err = { 0 };
    kf_rv rv = kf_softhsm_conf_read(path, conf, &err);

    if (!rv)
        rv = kf_softhsm_check_lengths(conf, &err);
    return kf_lua_done(L, rv, &err);
}

/***
Removes the object files of a session's token that softhsm.damaged tells of, and those that
were never more than begun: only for a partition of which it is known that nobody misses them.
@function softhsm.clear_damaged
@tparam session session of a partition that the engine softhsm can work
@treturn[1] int how many there were
@treturn[2] nil
@treturn[2] err
*/
static int clear_damaged(lua_State *L)
{
    struct kf_error err = { 0 };
    size_t count = 0;

    if (kf_softhsm_clear_wrecks(kf_lua_check_session(L, 1), &count, &err))
        return kf_lua_refuse(L, &err);
    lua_pushinteger(L, (lua_Integer)count);
    return 1;
}

/***
How many object files a session's token has, those that its session does not show among them.
@function softhsm.count_files
@tparam session session of a partition that the engine softhsm can work
@treturn[1] int how many
@treturn[1] int how many of them are no whole objects, or were never more than begun
@treturn[2] nil
@treturn[2] err
*/
static int count_files(lua_State *L)
{
    struct kf_error err = { 0 };
    size_t files = 0, wrecks = 0;

    if (kf_softhsm_count(kf_lua_check_session(L, 1), &files, &wrecks, &err))
        return kf_lua_refuse(L, &err);
    lua_pushinteger(L, (lua_Integer)files);
    lua_pushinteger(L, (lua_Integer)wrecks);
    return 2;
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
    const char *path = kf_lua_check_text(L, 1);
    const char *serial = kf_lua_check_text(L, 2);
    struct kf_softhsm_conf *conf = lua_newuserdatauv(L, sizeof *conf, 0);
    struct kf_error err = { 0 };
    kf_rv rv = kf_softhsm_conf_read(path, conf, &err);

    if (!rv)
        rv = kf_store_delete_token(conf, serial, &err);
    return kf_lua_done(L, rv, &err);
}

/***
Object files of a session's token that are no whole objects, so that no listing shows them
(or SoftHSM is about to fill them up with defaults): before the first look at an object.
@function softhsm.damaged
@tparam session session of a partition that the engine softhsm can work
@treturn[1] table array of errors, which name the files
@treturn[2] nil
@treturn[2] err
*/
static int damaged(lua_State *L)
{
    struct kf_session *session = kf_lua_check_session(L, 1);
    struct kf_lua_keep *keep = kf_lua_keep(L, free);
    struct kf_error err = { 0 };
    struct kf_error *list = NULL;
    size_t count = 0;

    if (kf_softhsm_survey(session, &list, &count, &err))
        return kf_lua_refuse(L, &err);
    keep->held = list;
    kf_lua_errors(L, list, count);
    return 1;
}

/* ---------------------------------------- one keyferry at a time */

#define LOCK "keyferry.softhsm_lock"

static struct kf_softhsm_lock **new_lock(lua_State *L)
{
    struct kf_softhsm_lock **lock = lua_newuserdatauv(L, sizeof *lock, 0);

    *lock = NULL;
    luaL_setmetatable(L, LOCK);
    return lock;
}

/***
Keeps other keyferries out of the store of a session's token until the lock is closed, and
settles what one that was killed left there.
@function softhsm.lock_token
@tparam session session of a partition that the engine softhsm can work
@treturn[1] lock with methods close and is_pending
@treturn[2] nil
@treturn[2] err KFR_REFUSED: another keyferry is at it
*/
static int lock_token(lua_State *L)
{
    struct kf_session *session = kf_lua_check_session(L, 1);
    struct kf_softhsm_lock **lock = new_lock(L);
    struct kf_error err = { 0 };

    if (kf_softhsm_lock_token(session, lock, &err))
        return kf_lua_refuse(L, &err);
    return 1;
}

/***
The same for the folder of all tokens, while one is made.
@function softhsm.lock_tokens
@string path the softhsm2.conf
@treturn[1] lock
@treturn[2] nil
@treturn[2] err
*/
static int lock_tokens(lua_State *L)
{
    const char *path = kf_lua_check_text(L, 1);
    struct kf_softhsm_conf *conf = lua_newuserdatauv(L, sizeof *conf, 0);
    struct kf_softhsm_lock **lock = new_lock(L);
    struct kf_error err = { 0 };
    kf_rv rv = kf_softhsm_conf_read(path, conf, &err);

    if (!rv)
        rv = kf_softhsm_lock_tokens(conf, lock, &err);
    return rv ? kf_lua_refuse(L, &err) : 1;
}

/***
Gives the lock back.
@function lock:close
*/
static int lock_close(lua_State *L)
{
    struct kf_softhsm_lock **lock = luaL_checkudata(L, 1, LOCK);

    kf_softhsm_lock_free(*lock);
    *lock = NULL;
    return 0;
}

/***
Whether the store has a token of that label now, whatever an open module lists.
@function softhsm.has_label
@string path the softhsm2.conf
@string label
@treturn[1] boolean
@treturn[2] nil
@treturn[2] err
*/
static int has_label(lua_State *L)
{
    const char *path = kf_lua_check_text(L, 1);
    const char *label = kf_lua_check_text(L, 2);
    struct kf_softhsm_conf *conf = lua_newuserdatauv(L, sizeof *conf, 0);
    struct kf_error err = { 0 };
    bool has = false;
    kf_rv rv = kf_softhsm_conf_read(path, conf, &err);

    if (!rv)
        rv = kf_softhsm_has_label(conf, label, &has, &err);
    if (rv)
        return kf_lua_refuse(L, &err);
    lua_pushboolean(L, has);
    return 1;
}

/***
The tokens of the store now, read from its files: SoftHSM is not started.
@function softhsm.tokens
@string path the softhsm2.conf
@treturn[1] table array of { label, serial }
@treturn[2] nil
@treturn[2] err
*/
static int tokens(lua_State *L)
{
    const char *path = kf_lua_check_text(L, 1);
    struct kf_softhsm_conf *conf = lua_newuserdatauv(L, sizeof *conf, 0);
    struct kf_lua_keep *keep = kf_lua_keep(L, free);
    struct kf_softhsm_token *list = NULL;
    struct kf_error err = { 0 };
    size_t count = 0;
    kf_rv rv = kf_softhsm_conf_read(path, conf, &err);

    if (!rv)
        rv = kf_softhsm_tokens(conf, &list, &count, &err);
    if (rv)
        return kf_lua_refuse(L, &err);
    keep->held = list;
    lua_newtable(L);
    for (size_t i = 0; i < count; i++) {
        lua_createtable(L, 0, 2);
        lua_pushstring(L, list[i].label);
        lua_setfield(L, -2, "label");
        lua_pushstring(L, list[i].serial);
        lua_setfield(L, -2, "serial");
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

static int lock_tostring(lua_State *L)
{
    struct kf_softhsm_lock **lock = luaL_checkudata(L, 1, LOCK);

    lua_pushstring(L, *lock ? "lock of a token store" : "lock of a token store (closed)");
    return 1;
}

/***
Whether the removal of old objects has been decided in the token and is not all done.
@function lock:is_pending
@treturn boolean
*/
static int lock_is_pending(lua_State *L)
{
    struct kf_softhsm_lock **lock = luaL_checkudata(L, 1, LOCK);

    lua_pushboolean(L, *lock && kf_softhsm_lock_is_pending(*lock));
    return 1;
}

static const luaL_Reg lock_methods[] = {
    { "is_pending", lock_is_pending },
    { "close", lock_close },
    { NULL, NULL },
};

static const luaL_Reg lock_metamethods[] = {
    { "__tostring", lock_tostring },
    { "__close", lock_close },
    { "__gc", lock_close },
    { NULL, NULL },
};

static const luaL_Reg functions[] = {
    { "check", check_lengths },
    { "configuration", configuration },
    { "clear_damaged", clear_damaged },
    { "count_files", count_files },
    { "damaged", damaged },
    { "delete_token", delete_token },
    { "has_label", has_label },
    { "lock_token", lock_token },
    { "lock_tokens", lock_tokens },
    { "tokens", tokens },
    { NULL, NULL },
};

void kf_lua_open_softhsm(lua_State *L)
{
    luaL_newmetatable(L, LOCK);
    luaL_setfuncs(L, lock_metamethods, 0);
    luaL_newlib(L, lock_methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    lua_setfield(L, -2, "softhsm");
}
