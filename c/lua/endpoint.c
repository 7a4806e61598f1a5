/* SPDX-License-Identifier: MIT */
#include "lua/endpoint.h"

#include "clone/challenge.h"
#include "clone/luna_call.h"
#include "clone/wrap_format.h"
#include "lua/attributes.h"
#include "lua/domain.h"
#include "lua/door.h"
#include "lua/error.h"
#include "lua/keep.h"
#include "lua/module.h"
#include "lua/object.h"
#include "lua/sealed.h"
#include "lua/session.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define ENDPOINT "keyferry.endpoint"

enum { SESSION_VALUE = 1, DOMAIN_VALUE = 2 };

struct box {
    struct kf_end *end; /* NULL: closed */
};

const struct kf_engine *kf_lua_check_engine(lua_State *L, int index, const char *otherwise)
{
    const char *name = otherwise ? luaL_optstring(L, index, otherwise)
                                 : luaL_checkstring(L, index);
    const struct kf_engine *engine = kf_engine_named(name);

    if (!engine)
        luaL_argerror(L, index, lua_pushfstring(L, "there is no engine '%s'", name));
    return engine;
}

static struct kf_end *check(lua_State *L, int index)
{
    struct box *box = luaL_checkudata(L, index, ENDPOINT);

    if (!box->end)
        luaL_argerror(L, index, "the endpoint is closed");
    if (!kf_session_is_open(kf_end_session(box->end)))
        luaL_argerror(L, index, "the session of the endpoint is closed");
    return box->end;
}

/***
One end of a clone: this session's partition seen through an engine, with the domain that
seals or opens there.
@function session:endpoint
@string engine "softhsm", "luna" or "wrap"
@tparam domain domain
@treturn[1] endpoint
@treturn[2] nil
@treturn[2] err why the engine cannot work this end
*/
int kf_lua_new_endpoint(lua_State *L)
{
    struct kf_session *session = kf_lua_check_session(L, 1);
    const struct kf_engine *engine = kf_lua_check_engine(L, 2, NULL);
    struct kf_domain *domain = kf_lua_check_domain(L, 3);
    struct box *box = lua_newuserdatauv(L, sizeof *box, 2);
    struct kf_error err = { 0 };

    box->end = NULL;
    luaL_setmetatable(L, ENDPOINT);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, SESSION_VALUE);
    lua_pushvalue(L, 3);
    lua_setiuservalue(L, -2, DOMAIN_VALUE);
    if (kf_end_open(engine, session, domain, &box->end, &err))
        return kf_lua_refuse(L, &err);
    return 1;
}

/***
Forgets what is staged and the keys of the domain. The session stays open.
@function endpoint:close
*/
static int endpoint_close(lua_State *L)
{
    struct box *box = luaL_checkudata(L, 1, ENDPOINT);

    kf_end_free(box->end);
    box->end = NULL;
    return 0;
}

static int endpoint_tostring(lua_State *L)
{
    struct box *box = luaL_checkudata(L, 1, ENDPOINT);

    if (box->end)
        lua_pushfstring(L, "endpoint (%s)", kf_end_engine(box->end)->name);
    else
        lua_pushliteral(L, "endpoint (closed)");
    return 1;
}

/***
The name of the engine.
@function endpoint:engine
@treturn string
*/
static int endpoint_engine(lua_State *L)
{
    lua_pushstring(L, kf_end_engine(check(L, 1))->name);
    return 1;
}

/***
The objects of this end's session, as session:find has them, read in the way that its engine
knows best.
@function endpoint:find
@tparam[opt] table filter attributes to match
@treturn[1] table array of objects
@treturn[2] nil
@treturn[2] err
*/
static int endpoint_find(lua_State *L)
{
    struct kf_end *end = check(L, 1);

    lua_settop(L, 2);
    lua_getiuservalue(L, 1, SESSION_VALUE);
    return kf_lua_find(L, 3, end, 2);
}

/* Upvalues: the endpoint, the handles, how many there are, how many were looked at. */
static int next_object(lua_State *L)
{
    struct kf_end *end = check(L, lua_upvalueindex(1));
    const CK_OBJECT_HANDLE *handles = lua_touserdata(L, lua_upvalueindex(2));
    lua_Integer count = lua_tointeger(L, lua_upvalueindex(3));
    lua_Integer i = lua_tointeger(L, lua_upvalueindex(4));
    bool found = false;

    lua_settop(L, 0);
    lua_getiuservalue(L, lua_upvalueindex(1), SESSION_VALUE);
    while (!found && i < count)
        found = kf_lua_push_found(L, 1, end, handles[i++]);
    lua_pushinteger(L, i);
    lua_replace(L, lua_upvalueindex(4));
    return found ? 1 : 0;
}

/***
Iterates over what find gives, with one object in memory at a time.
@function endpoint:each
@tparam[opt] table filter attributes to match
@treturn[1] function iterator
@treturn[1] int how many there are at most
@treturn[2] nil
@treturn[2] err
*/
static int endpoint_each(lua_State *L)
{
    struct kf_session *session = kf_end_session(check(L, 1));
    bool filtered = !lua_isnoneornil(L, 2);
    struct kf_attributes *filter = NULL;
    struct kf_lua_keep *keep;
    CK_OBJECT_HANDLE *handles = NULL;
    struct kf_error err = { 0 };
    size_t count = 0;

    lua_settop(L, 2);
    keep = kf_lua_keep(L, free);
    if (filtered)
        filter = kf_lua_check_attributes(L, 2, NULL);
    if (kf_objects_find(session, filter, &handles, &count, &err))
        return kf_lua_refuse(L, &err);
    keep->held = handles;
    lua_pushvalue(L, 1);
    lua_newuserdatauv(L, (count ? count : 1) * sizeof *handles, 0);
    if (count)
        memcpy(lua_touserdata(L, -1), handles, count * sizeof *handles);
    lua_pushinteger(L, (lua_Integer)count);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, next_object, 4);
    lua_pushinteger(L, (lua_Integer)count);
    return 2;
}

/***
Objects that the partition has and its module did not list (first, that it numbers them anew:
KFR_CONFLICT), when all that it lists have been read by find or each. To be believed when they
are missing from a second listing, too: other programs may be at work.
@function endpoint:unlisted
@treturn[1] table array of errors, which name the files; empty for an engine that cannot tell
@treturn[2] nil
@treturn[2] err
*/
static int endpoint_unlisted(lua_State *L)
{
    struct kf_end *end = check(L, 1);
    struct kf_lua_keep *keep = kf_lua_keep(L, free);
    struct kf_error err = { 0 };
    struct kf_error *list = NULL;
    size_t count = 0;

    if (kf_end_unlisted(end, &list, &count, &err))
        return kf_lua_refuse(L, &err);
    keep->held = list;
    kf_lua_errors(L, list, count);
    return 1;
}

/* The handle of an object of the endpoint's token: another token has the same numbers
 * for other objects. [-0, +0, v] */
static CK_OBJECT_HANDLE check_object(lua_State *L, const struct kf_end *end, int index)
{
    const struct kf_session *own = kf_end_session(end);
    CK_OBJECT_HANDLE handle = kf_lua_check_object(L, index);
    const struct kf_session *session = kf_lua_object_session(L, index);

    if (kf_session_module(session) != kf_session_module(own) ||
        kf_session_slot(session) != kf_session_slot(own))
        luaL_error(L, "the object is not of the endpoint's token");
    return handle;
}

/***
Seals an object: collects, encrypts and authenticates it in one step.
@function endpoint:seal
@tparam object object of this endpoint's token
@treturn[1] sealed
@treturn[1] string what could not be put into it ("" when nothing)
@treturn[2] nil
@treturn[2] err which flag or type forbids it, KFR_VANISHED, ...
*/
static int endpoint_seal(lua_State *L)
{
    struct kf_end *end = check(L, 1);
    CK_OBJECT_HANDLE object = check_object(L, end, 2);
    const struct kf_attributes *known = kf_lua_object_known(L, 2);
    struct kf_writer *writer = kf_lua_new_sealed(L);
    char lost[KF_LOST_MAX] = "";
    struct kf_error err = { 0 };

    if (kf_end_seal(end, object, known, writer, lost, &err))
        return kf_lua_refuse(L, &err);
    lua_pushstring(L, lost);
    return 2;
}

/***
A keyed digest of the key material: equal for the same key, whatever engine made it.
@function endpoint:digest
@tparam object object
@treturn[1] string 32 bytes
@treturn[2] nil
@treturn[2] err KFR_NOT_FOUND when this engine cannot tell
*/
static int endpoint_digest(lua_State *L)
{
    struct kf_end *end = check(L, 1);
    CK_OBJECT_HANDLE object = check_object(L, end, 2);
    const struct kf_attributes *known = kf_lua_object_known(L, 2);
    uint8_t digest[KF_MAC_BYTES];
    struct kf_error err = { 0 };

    if (kf_end_digest(end, object, known, digest, &err))
        return kf_lua_refuse(L, &err);
    lua_pushlstring(L, (const char *)digest, sizeof digest);
    return 1;
}

/***
Two digests of all there is to an object: what a reader sees of it, and the rest, its key
too. Two objects that have them in common under one domain are one in every attribute and
byte.
@function endpoint:whole
@tparam object object
@treturn[1] string 64 bytes, half of them for each
@treturn[2] nil
@treturn[2] err KFR_NOT_FOUND when this engine does not see all
*/
static int endpoint_whole(lua_State *L)
{
    struct kf_end *end = check(L, 1);
    CK_OBJECT_HANDLE object = check_object(L, end, 2);
    const struct kf_attributes *known = kf_lua_object_known(L, 2);
    uint8_t whole[KF_WHOLE_BYTES];
    struct kf_error err = { 0 };

    if (kf_end_whole(end, object, known, whole, &err))
        return kf_lua_refuse(L, &err);
    lua_pushlstring(L, (const char *)whole, sizeof whole);
    return 1;
}

/***
What the HSM itself knows an object and its clones by (CKA_OUID of a Luna): equal for two that
are one. Two that are not equal may hold the same key all the same.
@function endpoint:origin
@tparam object object
@treturn[1] string
@treturn[2] nil
@treturn[2] err KFR_NOT_FOUND when the engine or the HSM has none
*/
static int endpoint_origin(lua_State *L)
{
    struct kf_end *end = check(L, 1);
    CK_OBJECT_HANDLE object = check_object(L, end, 2);
    uint8_t origin[KF_ORIGIN_MAX];
    size_t len = 0;
    struct kf_error err = { 0 };

    if (kf_end_origin(end, object, origin, &len, &err))
        return kf_lua_refuse(L, &err);
    lua_pushlstring(L, (const char *)origin, len);
    return 1;
}

/***
Opens a sealed object under the endpoint's domain and makes its clone ready.
@function endpoint:stage
@tparam sealed sealed
@tparam[opt] table changes attributes that the clone gets instead of the original's
@bool[opt] more_rights they may give it more rights than its original
@treturn[1] true
@treturn[2] nil
@treturn[2] err KFR_DOMAIN_MISMATCH, KFR_DAMAGED, KFR_NEWER_VERSION, ...
*/
static int endpoint_stage(lua_State *L)
{
    struct kf_end *end = check(L, 1);
    const struct kf_writer *sealed = kf_lua_check_sealed(L, 2);
    struct kf_changes changes = { .more_rights = lua_toboolean(L, 4) };
    struct kf_error err = { 0 };

    if (!lua_isnoneornil(L, 3))
        changes.set = kf_lua_check_attributes(L, 3, NULL);
    return kf_lua_done(L, kf_end_stage(end, sealed->data, sealed->len, &changes, &err),
                       &err);
}

/* Answers with what a clone would lose. */
static int answer_foreseen(lua_State *L, kf_rv rv, const char *lost,
                           const struct kf_error *err)
{
    if (rv)
        return kf_lua_refuse(L, err);
    lua_pushstring(L, lost);
    return 1;
}

/***
What stage and commit would answer, as far as it can be told without changing anything: the
target gets no object and its store no byte. A read-only session is enough. An engine that works
through PKCS#11 makes session objects, and destroys them. What is not foreseen: whether there is
room (plan says it), and whether a module would let the clone overwrite another key.
@function endpoint:foresee
@tparam sealed sealed
@tparam[opt] table changes attributes that the clone would get instead of the original's
@bool[opt] more_rights they may give it more rights than its original
@treturn[1] string what the clone could not keep: "CKA_LOCAL, CKA_START_DATE"; "" when it would
  be exact
@treturn[2] nil
@treturn[2] err why it cannot be cloned
*/
static int endpoint_foresee(lua_State *L)
{
    struct kf_end *end = check(L, 1);
    const struct kf_writer *sealed = kf_lua_check_sealed(L, 2);
    struct kf_changes changes = { .more_rights = lua_toboolean(L, 4) };
    char lost[KF_LOST_MAX] = "";
    struct kf_error err = { 0 };
    kf_rv rv;

    if (!lua_isnoneornil(L, 3))
        changes.set = kf_lua_check_attributes(L, 3, NULL);
    rv = kf_end_foresee(end, sealed->data, sealed->len, &changes, lost, &err);
    return answer_foreseen(L, rv, lost, &err);
}

/***
What an engine would make of a sealed object at a target that is not there, by its own rules:
as endpoint:foresee. What depends on the HSM is not in it.
@function foresee
@string engine "softhsm" or "wrap" ("luna" makes nothing without a target)
@tparam sealed sealed
@tparam domain domain that it was sealed under
@tparam[opt] table changes
@bool[opt] more_rights
@treturn[1] string what the clone could not keep ("" when nothing)
@treturn[2] nil
@treturn[2] err
*/
static int foresee(lua_State *L)
{
    const struct kf_engine *engine = kf_lua_check_engine(L, 1, NULL);
    const struct kf_writer *sealed = kf_lua_check_sealed(L, 2);
    const struct kf_domain *domain = kf_lua_check_domain(L, 3);
    struct kf_changes changes = { .more_rights = lua_toboolean(L, 5) };
    char lost[KF_LOST_MAX] = "";
    struct kf_error err = { 0 };
    kf_rv rv;

    if (!lua_isnoneornil(L, 4))
        changes.set = kf_lua_check_attributes(L, 4, NULL);
    rv = kf_engine_foresee(engine, domain, sealed->data, sealed->len, &changes, lost,
                           &err);
    return answer_foreseen(L, rv, lost, &err);
}

/***
How many objects are staged.
@function endpoint:staged
@treturn integer
*/
static int endpoint_staged(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)kf_end_staged(check(L, 1)));
    return 1;
}

static void push_planted(lua_State *L, const struct kf_planted *planted)
{
    lua_newtable(L);
    if (planted->rv) {
        kf_lua_error(L, &planted->err);
        lua_setfield(L, -2, "err");
        lua_pushboolean(L, planted->undone);
        lua_setfield(L, -2, "undone");
        return;
    }
    lua_pushinteger(L, (lua_Integer)planted->handle);
    lua_setfield(L, -2, "handle");
    lua_pushboolean(L, planted->exists);
    lua_setfield(L, -2, "exists");
    lua_pushstring(L, planted->lost);
    lua_setfield(L, -2, "lost");
}

/* options.remove (an array of objects) as handles in a keep; gives their number. */
static size_t check_remove(lua_State *L, int options, CK_OBJECT_HANDLE **out)
{
    const struct kf_end *end;
    struct kf_lua_keep *keep = kf_lua_keep(L, free);
    size_t count = 0;

    *out = NULL;
    if (lua_isnoneornil(L, options) || lua_getfield(L, options, "remove") == LUA_TNIL)
        return 0;
    luaL_checktype(L, -1, LUA_TTABLE);
    end = check(L, 1);
    count = (size_t)lua_rawlen(L, -1);
    *out = keep->held = calloc(count ? count : 1, sizeof **out);
    if (!*out)
        luaL_error(L, "not enough memory");
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, -1, (lua_Integer)i + 1);
        (*out)[i] = check_object(L, end, lua_gettop(L));
        lua_pop(L, 1);
    }
    return count;
}

static enum kf_commit check_mode(lua_State *L, int options)
{
    static const char *const names[] = { "each", "all", NULL };
    static const enum kf_commit modes[] = { KF_COMMIT_EACH, KF_COMMIT_ALL };
    enum kf_commit mode = KF_COMMIT_EACH;

    if (lua_isnoneornil(L, options))
        return mode;
    luaL_checktype(L, options, LUA_TTABLE);
    lua_getfield(L, options, "mode");
    mode = modes[luaL_checkoption(L, -1, "each", names)];
    lua_pop(L, 1);
    return mode;
}

/***
Makes every staged clone real and durable, removes what it is told to, reads back and
compares.
@function endpoint:commit
@tparam[opt] table options `mode`: "each" (one that fails is undone alone) or "all" (all are
  undone and nothing is removed); `remove`: array of objects of this token
@treturn[1] table one table for each staged object, in order: `handle`, `lost` (what the
  clone could not keep, "" when nothing) and `exists` (true: the HSM had it already, and the
  handle is of that), or `err` and `undone` (true: nothing was wrong with
  it, but it could not stay without another)
@treturn[2] nil
@treturn[2] err
@treturn[2] table the same array when mode was "all": what became of each
*/
static int endpoint_commit(lua_State *L)
{
    enum kf_commit mode;
    size_t count, remove_count;
    struct kf_end *end;
    struct kf_planted *planted;
    struct kf_lua_keep *keep;
    CK_OBJECT_HANDLE *remove;
    struct kf_error err = { 0 };
    kf_rv rv;

    lua_settop(L, 2);
    mode = check_mode(L, 2);
    remove_count = check_remove(L, 2, &remove);
    keep = kf_lua_keep(L, free);
    /* Looked at last: the options' __index may stage, or close the endpoint. */
    end = check(L, 1);
    count = kf_end_staged(end);
    planted = keep->held = calloc(count ? count : 1, sizeof *planted);
    if (!planted)
        return luaL_error(L, "not enough memory");
    rv = kf_end_commit(end, mode, remove, remove_count, planted, &err);
    if (rv)
        kf_lua_refuse(L, &err);
    lua_newtable(L);
    for (size_t i = 0; i < count; i++) {
        push_planted(L, &planted[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return rv ? 3 : 1;
}

/***
Forgets what is staged.
@function endpoint:abort
*/
static int endpoint_abort(lua_State *L)
{
    kf_end_abort(check(L, 1));
    return 0;
}

/***
The names of all engines, best first: "softhsm" works a SoftHSM's store, "luna" has a Luna HSM
clone from one of its partitions to another, "wrap" works any HSM by C_WrapKey and C_UnwrapKey.
@function engines
@treturn table array of strings
*/
static int engines(lua_State *L)
{
    lua_newtable(L);
    for (lua_Integer i = 0; kf_engines[i]; i++) {
        lua_pushstring(L, kf_engines[i]->name);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/***
Whether an HSM keeps the cloning domains of its partitions itself, where no program can name
them: its module has the vendor's call that clones from partition to partition.
@function domain_in_hardware
@tparam module module
@treturn boolean
*/
static int domain_in_hardware(lua_State *L)
{
    lua_pushboolean(L, kf_luna_call(kf_lua_check_module(L, 1)) != NULL);
    return 1;
}

static void set_way(lua_State *L, const char *name, const char *text)
{
    if (!text[0])
        return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

/***
How a module wraps and unwraps keys, each proved with a known key: session objects are made for
it, and destroyed.
@function wrap_ways
@tparam session session in which the user is logged in
@tparam domain domain
@treturn table `wrap` and `unwrap`, as "CKM_AES_KEY_WRAP_PAD as RFC 5649"; nil where no way stood
  the proof
*/
static int wrap_ways(lua_State *L)
{
    struct kf_wrap_format format = { .session = kf_lua_check_session(L, 1),
                                     .domain = kf_lua_check_domain(L, 2) };
    char wrap[128], unwrap[128];

    kf_wrap_way_text(&format, false, wrap, sizeof wrap);
    kf_wrap_way_text(&format, true, unwrap, sizeof unwrap);
    kf_wrap_format_clear(&format);
    lua_newtable(L);
    set_way(L, "wrap", wrap);
    set_way(L, "unwrap", unwrap);
    return 1;
}

/***
Whether two keys are one key, found out by using both; other objects are compared.
@function challenge
@tparam object a
@tparam object b
@treturn[1] true
@treturn[2] false they are not
@treturn[3] nil
@treturn[3] err KFR_NOT_FOUND: no operation is allowed that could tell
*/
static int challenge(lua_State *L)
{
    struct kf_session *a = kf_lua_object_session(L, 1);
    struct kf_session *b = kf_lua_object_session(L, 2);
    struct kf_error err = { 0 };
    kf_rv rv = kf_challenge(a, kf_lua_check_object(L, 1), kf_lua_object_known(L, 1), b,
                            kf_lua_check_object(L, 2), kf_lua_object_known(L, 2), &err);

    if (rv && rv != KFR_DIFFERS)
        return kf_lua_refuse(L, &err);
    lua_pushboolean(L, rv == 0);
    return 1;
}

static const luaL_Reg methods[] = {
    { "engine", endpoint_engine },
    { "find", endpoint_find },
    { "each", endpoint_each },
    { "unlisted", endpoint_unlisted },
    { "seal", endpoint_seal },
    { "digest", endpoint_digest },
    { "whole", endpoint_whole },
    { "origin", endpoint_origin },
    { "stage", endpoint_stage },
    { "foresee", endpoint_foresee },
    { "staged", endpoint_staged },
    { "commit", endpoint_commit },
    { "abort", endpoint_abort },
    { "close", endpoint_close },
    { NULL, NULL },
};

static const luaL_Reg metamethods[] = {
    { "__tostring", endpoint_tostring },
    { "__gc", endpoint_close },
    { "__close", endpoint_close },
    { NULL, NULL },
};

static const luaL_Reg functions[] = {
    { "engines", engines },
    { "challenge", challenge },
    { "wrap_ways", wrap_ways },
    { "domain_in_hardware", domain_in_hardware },
    { "foresee", foresee },
    { NULL, NULL },
};

void kf_lua_open_endpoint(lua_State *L)
{
    luaL_newmetatable(L, ENDPOINT);
    luaL_setfuncs(L, metamethods, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_setfuncs(L, functions, 0);
}
