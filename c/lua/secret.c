/* SPDX-License-Identifier: MIT */
#include "lua/secret.h"
#include "lua/door.h"
#include "lua/error.h"

#include "base/file.h"
#include "clone/crypto.h"

#include <lauxlib.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FILE_MAX = 4096 };

/* -- For the other files of this floor ------------------------------------------ */

struct kf_secret **kf_lua_new_secret(lua_State *L)
{
    struct kf_secret **box = lua_newuserdatauv(L, sizeof *box, 0);

    *box = NULL;
    luaL_setmetatable(L, KF_LUA_SECRET);
    return box;
}

void kf_lua_push_result(lua_State *L, struct kf_secret **box)
{
    lua_pushlstring(L, (const char *)(*box)->data, (*box)->len);
    kf_secret_free(*box);
    *box = NULL;
}

struct kf_secret *kf_lua_check_secret(lua_State *L, int idx)
{
    struct kf_secret **box = luaL_testudata(L, idx, KF_LUA_SECRET);

    if (!box && (lua_type(L, idx) == LUA_TSTRING || lua_type(L, idx) == LUA_TNUMBER))
        luaL_argerror(L, idx, "a secret is wanted, not a string: make one with "
                              "keyferry.secret(\"...\")");
    if (!box)
        luaL_typeerror(L, idx, KF_LUA_SECRET);
    if (!*box)
        luaL_argerror(L, idx, "this secret is closed");
    return *box;
}

struct kf_secret *kf_lua_opt_secret(lua_State *L, int idx)
{
    return lua_isnoneornil(L, idx) ? NULL : kf_lua_check_secret(L, idx);
}

/* -- Making one ------------------------------------------------------------------ */

static int no_memory(lua_State *L)
{
    return luaL_error(L, "no memory for a secret");
}

/***
A secret of these bytes, in memory of its own that is kept out of swap and core dumps and
is wiped when it goes. The string it was made of stays in Lua's memory until it is collected.
`a .. b` is a secret, too (two people, each with half of a PIN), `a == b` takes the same time
whatever they hold, and tostring gives "secret": neither the bytes nor their number come back.
@function secret
@string bytes at most 256 KiB; a number is refused, since 0123 would come as 123
@treturn secret
@usage
local first, second = keyferry.secret("river"), keyferry.secret("stone")
local pin <close> = first .. second
print(pin)                                   --> secret
print(pin == keyferry.secret("riverstone"))  --> true
*/
static int secret_new(lua_State *L)
{
    struct kf_secret **box;
    const char *bytes;
    size_t len;

    luaL_checktype(L, 1, LUA_TSTRING);
    bytes = lua_tolstring(L, 1, &len);
    luaL_argcheck(L, len <= KF_SECRET_LOCKED_MAX, 1, "too long for a secret");
    box = kf_lua_new_secret(L);
    *box = kf_secret_from(bytes, len);
    return *box ? 1 : no_memory(L);
}

/***
The secret in an environment variable. Wiped in the environment of the process
(/proc/PID/environ shows it) and unset; so it can be had once.
@function secret_from_env
@string name
@treturn ?secret nil when it is not set, or empty
*/
static int secret_from_env(lua_State *L)
{
    const char *name = kf_lua_check_text(L, 1);
    struct kf_secret **box = kf_lua_new_secret(L);
    char *value = getenv(name);

    if (!value || !value[0])
        return 0;
    *box = kf_secret_from(value, strlen(value));
    if (!*box)
        return no_memory(L);
    OPENSSL_cleanse(value, strlen(value));
    unsetenv(name);
    return 1;
}

static void cut_newline(struct kf_secret *secret)
{
    size_t len = secret->len;

    if (len && secret->data[len - 1] == '\n')
        len--;
    if (len < secret->len && len && secret->data[len - 1] == '\r')
        len--;
    kf_secret_cut(secret, len);
}

/***
The secret in a file of at most 4096 bytes. One trailing newline is cut.
@function secret_from_file
@string path
@treturn[1] secret
@treturn[2] nil
@treturn[2] err KFR_ARGUMENT (empty), KFR_LIMIT, KFR_SYSTEM
*/
static int secret_from_file(lua_State *L)
{
    const char *path = kf_lua_check_text(L, 1);
    struct kf_secret **box = kf_lua_new_secret(L);
    struct kf_error err = { 0 };
    kf_rv rv = kf_file_read(path, FILE_MAX, box, &err);

    if (rv == KFR_OK) {
        cut_newline(*box);
        if (!(*box)->len)
            rv = kf_fail(&err, KFR_ARGUMENT, NULL, NULL, "%s: the file is empty", path);
    }
    return rv == KFR_OK ? 1 : kf_lua_refuse(L, &err);
}

/***
Writes a secret into a new file that only this user can read, with the newline that
secret_from_file cuts. What is there already stays.
@function secret_to_file
@tparam secret secret
@string path
@treturn[1] boolean true
@treturn[2] nil
@treturn[2] err KFR_EXISTS, KFR_NOT_FOUND, KFR_SYSTEM
*/
static int secret_to_file(lua_State *L)
{
    const struct kf_secret *secret = kf_lua_check_secret(L, 1);
    const char *path = kf_lua_check_text(L, 2);
    struct kf_secret **line = kf_lua_new_secret(L);
    struct kf_error err = { 0 };

    *line = kf_secret_dup(secret);
    if (!*line || !kf_secret_append(*line, "\n", 1))
        return no_memory(L);
    return kf_lua_done(L, kf_file_create(path, (*line)->data, (*line)->len, S_IRUSR | S_IWUSR,
                                         false, &err), &err);
}

/***
A secret of 64 random hex digits, which nobody has seen: the PIN of a token that lives no
longer than what made it.
@function random_secret
@treturn[1] secret
@treturn[2] nil
@treturn[2] err
*/
static int random_secret(lua_State *L)
{
    static const char digits[] = "0123456789abcdef";
    enum { BYTES = 32 };
    struct kf_secret **box = kf_lua_new_secret(L);
    struct kf_error err = { 0 };
    unsigned char *data;

    *box = kf_secret_new(2 * BYTES);
    if (!*box)
        return no_memory(L);
    data = (*box)->data;
    if (!kf_crypto_random(data, BYTES)) {
        kf_fail(&err, KFR_CRYPTO, "RAND_bytes", "", "no random bytes");
        return kf_lua_refuse(L, &err);
    }
    for (size_t i = BYTES; i-- > 0;) { /* from behind: each byte makes room for two */
        data[2 * i + 1] = (unsigned char)digits[data[i] & 0xF];
        data[2 * i] = (unsigned char)digits[data[i] >> 4];
    }
    return 1;
}

/* -- Methods --------------------------------------------------------------------- */

/***
Wipes it now; to use it afterwards raises. Happens by itself at the end of a `<close>`, and
when it is collected.
@function secret:close
*/
static int secret_close(lua_State *L)
{
    struct kf_secret **box = luaL_checkudata(L, 1, KF_LUA_SECRET);
    struct kf_secret *secret = *box;

    *box = NULL;
    kf_secret_free(secret);
    return 0;
}

/* The same text for all: not even the length shows. */
static int secret_tostring(lua_State *L)
{
    luaL_checkudata(L, 1, KF_LUA_SECRET);
    lua_pushliteral(L, "secret");
    return 1;
}

static int secret_eq(lua_State *L)
{
    struct kf_secret **a = luaL_testudata(L, 1, KF_LUA_SECRET);
    struct kf_secret **b = luaL_testudata(L, 2, KF_LUA_SECRET);

    lua_pushboolean(L, a && b && *a && *b && kf_secret_equal(*a, *b));
    return 1;
}

/* One secret after the other: two people, each with half of a PIN. */
static int secret_concat(lua_State *L)
{
    const struct kf_secret *first = kf_lua_check_secret(L, 1);
    const struct kf_secret *second = kf_lua_check_secret(L, 2);
    struct kf_secret **box;

    if (first->len + second->len > KF_SECRET_LOCKED_MAX)
        return luaL_error(L, "too long for a secret");
    box = kf_lua_new_secret(L);
    *box = kf_secret_dup(first);
    if (!*box || !kf_secret_append(*box, second->data, second->len))
        return no_memory(L);
    return 1;
}

static const luaL_Reg methods[] = {
    { "close", secret_close },
    { NULL, NULL },
};

static const luaL_Reg meta[] = {
    { "__close", secret_close },
    { "__gc", secret_close },
    { "__tostring", secret_tostring },
    { "__eq", secret_eq },
    { "__concat", secret_concat },
    { NULL, NULL },
};

static const luaL_Reg functions[] = {
    { "random_secret", random_secret },
    { "secret", secret_new },
    { "secret_from_env", secret_from_env },
    { "secret_from_file", secret_from_file },
    { "secret_to_file", secret_to_file },
    { NULL, NULL },
};

void kf_lua_open_secret(lua_State *L)
{
    luaL_newmetatable(L, KF_LUA_SECRET);
    luaL_setfuncs(L, meta, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, KF_LUA_SECRET);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    luaL_setfuncs(L, functions, 0);
}
