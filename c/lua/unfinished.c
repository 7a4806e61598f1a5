/* SPDX-License-Identifier: MIT */
#include "lua/unfinished.h"

#include "clone/unfinished.h"
#include "lua/error.h"
#include "lua/session.h"

#include <lauxlib.h>

/***
What the partition is the unfinished backup of: a run that made it was cut off. Needs no
login.
@function session:unfinished
@treturn[1] ?string what session:mark_unfinished was given; nil: it is no unfinished backup
@treturn[2] nil
@treturn[2] err it cannot be told
@usage
print(session:unfinished())  --> nil
*/
int kf_lua_unfinished(lua_State *L)
{
    struct kf_session *session = kf_lua_check_session(L, 1);
    char of[KF_UNFINISHED_MAX];
    size_t len = 0;
    struct kf_error err = { 0 };
    kf_rv rv = kf_unfinished_find(session, of, &len, &err);

    if (rv && rv != KFR_NOT_FOUND)
        return kf_lua_refuse(L, &err);
    if (rv)
        lua_pushnil(L);
    else
        lua_pushlstring(L, of, len);
    return 1;
}

/***
Marks the partition as a backup that is not finished; no listing shows the mark.
@function session:mark_unfinished
@string of what it is to be the backup of, 64 bytes at most
@treturn[1] true
@treturn[2] nil
@treturn[2] err
*/
int kf_lua_mark_unfinished(lua_State *L)
{
    struct kf_session *session = kf_lua_check_session(L, 1);
    size_t len;
    const char *of = luaL_checklstring(L, 2, &len);
    struct kf_error err = { 0 };

    return kf_lua_done(L, kf_unfinished_mark(session, of, len, &err), &err);
}

/***
Takes that mark away.
@function session:mark_finished
@treturn[1] true also when there was none
@treturn[2] nil
@treturn[2] err
*/
int kf_lua_mark_finished(lua_State *L)
{
    struct kf_session *session = kf_lua_check_session(L, 1);
    struct kf_error err = { 0 };

    return kf_lua_done(L, kf_unfinished_clear(session, &err), &err);
}
