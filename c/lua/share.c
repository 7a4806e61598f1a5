/* SPDX-License-Identifier: MIT */
#include "lua/share.h"

#include "base/share_words.h"
#include "lua/door.h"
#include "lua/error.h"
#include "lua/secret.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#define SHARE "keyferry.share"

struct kf_share *kf_lua_check_share(lua_State *L, int idx)
{
    struct kf_share **box = luaL_checkudata(L, idx, SHARE);

    if (!*box)
        luaL_argerror(L, idx, "this share is closed");
    return *box;
}

struct kf_share **kf_lua_new_share(lua_State *L)
{
    struct kf_share **box = lua_newuserdatauv(L, sizeof *box, 0);

    *box = NULL;
    luaL_setmetatable(L, SHARE);
    return box;
}

/* -- Making and combining -------------------------------------------------------- */

static size_t check_number(lua_State *L, int table, const char *key)
{
    lua_Integer value;
    int is_integer;

    lua_getfield(L, table, key);
    value = lua_tointegerx(L, -1, &is_integer);
    if (!is_integer || value < 0 || value > 1000)
        luaL_error(L, "share: field '%s' must be a number of shares", key);
    lua_pop(L, 1);
    return (size_t)value;
}

static enum kf_colour check_colour(lua_State *L, int table)
{
    const char *name;

    lua_getfield(L, table, "colour");
    name = lua_tostring(L, -1);
    for (int i = KF_BLUE; name && i < KF_COLOURS; i++)
        if (strcmp(name, kf_colour_name((enum kf_colour)i)) == 0) {
            lua_pop(L, 1);
            return (enum kf_colour)i;
        }
    luaL_error(L, "share: field 'colour' must be \"blue\", \"black\" or \"red\"");
    return KF_COLOURS; /* not reached */
}

/* [-0, +1, m] An array of closed shares, for those to be made; how many. A number that will
 * be refused needs none. */
static size_t push_boxes(lua_State *L, size_t n, struct kf_share ***boxes)
{
    size_t count = n > KF_SHARE_MAX_COUNT ? 0 : n;

    lua_createtable(L, (int)count, 0);
    for (size_t i = 0; i < count; i++) {
        boxes[i] = kf_lua_new_share(L);
        lua_seti(L, -2, (lua_Integer)i + 1);
    }
    return count;
}

static int give(lua_State *L, kf_rv rv, struct kf_share ***boxes, struct kf_share **made,
                size_t n, const struct kf_error *err)
{
    if (rv != KFR_OK)
        return kf_lua_refuse(L, err);
    for (size_t i = 0; i < n; i++)
        *boxes[i] = made[i];
    return 1;
}

/***
Shares of a new key of 32 random bytes, any `m` of which give it back: words of SLIP-0039.
@function share.create
@tparam table options `colour` ("blue", "black", "red"), `m`, `n` (16 at most; 1 of 1, or 2 and
  more of n)
@treturn[1] {share,...}
@treturn[2] nil
@treturn[2] err KFR_ARGUMENT: `m` and `n` do not go together
*/
static int share_create(lua_State *L)
{
    struct kf_share **boxes[KF_SHARE_MAX_COUNT], *made[KF_SHARE_MAX_COUNT];
    struct kf_error err = { 0 };
    enum kf_colour colour;
    size_t m, n, count;

    luaL_checktype(L, 1, LUA_TTABLE);
    colour = check_colour(L, 1);
    m = check_number(L, 1, "m");
    n = check_number(L, 1, "n");
    count = push_boxes(L, n, boxes);
    return give(L, kf_share_create(colour, m, n, made, &err), boxes, made, count, &err);
}

/***
Shares of a domain text.
@function share.split
@tparam secret text 1 to 250 bytes
@tparam table options `m`, `n`
@treturn[1] {share,...} their colour is "domain"
@treturn[2] nil
@treturn[2] err KFR_ARGUMENT
*/
static int share_split(lua_State *L)
{
    struct kf_share **boxes[KF_SHARE_MAX_COUNT], *made[KF_SHARE_MAX_COUNT];
    const struct kf_secret *text;
    struct kf_error err = { 0 };
    size_t m, n, count;

    luaL_checktype(L, 2, LUA_TTABLE);
    m = check_number(L, 2, "m");
    n = check_number(L, 2, "n");
    count = push_boxes(L, n, boxes);
    text = kf_lua_check_secret(L, 1);
    return give(L, kf_share_split(text, m, n, made, &err), boxes, made, count, &err);
}

/* The shares of the array at idx, which keeps them. They are looked at last: whatever runs
 * Lua in between (a metamethod, a finalizer when something is made) could close them. */
static size_t check_shares(lua_State *L, int idx,
                           const struct kf_share *shares[KF_SHARE_MAX_GIVEN])
{
    lua_Unsigned n;

    luaL_checktype(L, idx, LUA_TTABLE);
    n = lua_rawlen(L, idx);
    luaL_argcheck(L, n <= KF_SHARE_MAX_GIVEN, idx, "too many shares");
    for (lua_Unsigned i = 0; i < n; i++) {
        lua_rawgeti(L, idx, (lua_Integer)i + 1);
        shares[i] = kf_lua_check_share(L, -1);
        lua_pop(L, 1);
    }
    return (size_t)n;
}

/***
New shares, a set of its own, of what the shares in hand are of. The old ones stay good.
@function share.again
@tparam {share,...} shares as many as are needed
@tparam table options `m`, `n`
@treturn[1] {share,...}
@treturn[2] nil
@treturn[2] err KFR_SHARE, KFR_ARGUMENT
*/
static int share_again(lua_State *L)
{
    const struct kf_share *shares[KF_SHARE_MAX_GIVEN];
    struct kf_share **boxes[KF_SHARE_MAX_COUNT], *made[KF_SHARE_MAX_COUNT];
    struct kf_error err = { 0 };
    size_t given, m, n, count;
    kf_rv rv;

    luaL_checktype(L, 2, LUA_TTABLE);
    m = check_number(L, 2, "m");
    n = check_number(L, 2, "n");
    count = push_boxes(L, n, boxes);
    given = check_shares(L, 1, shares);
    rv = kf_share_again(shares, given, m, n, made, &err);
    return give(L, rv, boxes, made, count, &err);
}

/***
What exactly as many shares as are needed stand for: the domain text; of a key, 64 hex digits
(HKDF-SHA256 of its bytes), which are the PIN of the Security Officer (blue), that of the Crypto
Officer (black), or the domain text (red).
@function share.combine
@tparam {share,...} shares
@treturn[1] secret
@treturn[2] nil
@treturn[2] err KFR_SHARE: how many are missing, or which does not belong to the others and why
*/
static int share_combine(lua_State *L)
{
    const struct kf_share *shares[KF_SHARE_MAX_GIVEN];
    struct kf_secret **box;
    struct kf_error err = { 0 };
    size_t count;

    lua_settop(L, 1);
    box = kf_lua_new_secret(L);
    count = check_shares(L, 1, shares);
    if (kf_share_combine(shares, count, box, &err) != KFR_OK)
        return kf_lua_refuse(L, &err);
    return 1;
}

/***
The master secret of the standard, whoever made the shares.
@function share.master
@tparam {share,...} shares
@tparam[opt] secret passphrase printable ASCII; a wrong one gives another secret
@treturn[1] secret
@treturn[2] nil
@treturn[2] err KFR_SHARE
*/
static int share_master(lua_State *L)
{
    const struct kf_share *shares[KF_SHARE_MAX_GIVEN];
    const struct kf_secret *passphrase;
    struct kf_secret **box;
    struct kf_error err = { 0 };
    size_t count;

    lua_settop(L, 2);
    box = kf_lua_new_secret(L);
    passphrase = kf_lua_opt_secret(L, 2);
    count = check_shares(L, 1, shares);
    if (kf_share_master(shares, count, passphrase, box, &err) != KFR_OK)
        return kf_lua_refuse(L, &err);
    return 1;
}

/***
The check value of what a key stands for: tells one from another and nothing else.
@function share.check
@tparam secret digits of share.combine
@treturn[1] string 32 hex digits
@treturn[2] nil
@treturn[2] err
*/
static int share_check(lua_State *L)
{
    const struct kf_secret *digits = kf_lua_check_secret(L, 1);
    unsigned char check[KF_SHARE_CHECK_BYTES];
    struct kf_error err = { 0 };

    if (kf_share_check(digits, check, &err) != KFR_OK)
        return kf_lua_refuse(L, &err);
    kf_lua_push_hex(L, check, sizeof check);
    return 1;
}

/* -- Words and files ------------------------------------------------------------- */

/***
The share of these words, with blanks or line ends between; four letters of a word do.
@function share.parse
@tparam secret words
@treturn[1] share
@treturn[2] nil
@treturn[2] err KFR_SHARE: which word is none of the list, which is mistyped, which two are
  swapped, by their position; or how many words there are
*/
static int share_parse(lua_State *L)
{
    const struct kf_secret *words;
    struct kf_share **box;
    struct kf_error err = { 0 };

    lua_settop(L, 1);
    box = kf_lua_new_share(L);
    words = kf_lua_check_secret(L, 1);
    if (kf_share_parse(words->data, words->len, box, &err) != KFR_OK)
        return kf_lua_refuse(L, &err);
    return 1;
}

/***
The share in a file: one of share:write, or just words.
@function share.read
@string path
@treturn[1] share
@treturn[2] nil
@treturn[2] err KFR_SHARE, KFR_SYSTEM, KFR_LIMIT
*/
static int share_read(lua_State *L)
{
    const char *path = kf_lua_check_text(L, 1);
    struct kf_share **box = kf_lua_new_share(L);
    struct kf_error err = { 0 };

    if (kf_share_read(path, box, &err) != KFR_OK)
        return kf_lua_refuse(L, &err);
    return 1;
}

/***
Writes it as a text file that only this user can read. What is there already stays.
@function share:write
@string path
@treturn[1] boolean true
@treturn[2] nil
@treturn[2] err KFR_EXISTS, KFR_SYSTEM
*/
static int share_write(lua_State *L)
{
    const struct kf_share *share = kf_lua_check_share(L, 1);
    const char *path = kf_lua_check_text(L, 2);
    struct kf_error err = { 0 };

    return kf_lua_done(L, kf_share_write(share, path, &err), &err);
}

/* -- What it says of itself ------------------------------------------------------ */

/***
What it is of.
@function share:colour
@treturn string "blue", "black", "red"; "domain": a domain text
*/
static int share_colour(lua_State *L)
{
    const struct kf_share *share = kf_lua_check_share(L, 1);

    lua_pushstring(L, kf_colour_name(kf_share_colour(share)));
    return 1;
}

/***
The set that it was made in.
@function share:set
@treturn string 4 hex digits
*/
static int share_set(lua_State *L)
{
    char text[8];

    snprintf(text, sizeof text, "%04x", (unsigned)kf_lua_check_share(L, 1)->set);
    lua_pushstring(L, text);
    return 1;
}

/***
Which of its set it is, from 1.
@function share:number
@treturn int
*/
static int share_number(lua_State *L)
{
    lua_pushinteger(L, kf_lua_check_share(L, 1)->member + 1);
    return 1;
}

/***
How many shares of the set (of its group) are needed.
@function share:needed
@treturn int
*/
static int share_needed(lua_State *L)
{
    lua_pushinteger(L, kf_lua_check_share(L, 1)->threshold);
    return 1;
}

/***
How many shares were made with it.
@function share:count
@treturn ?int nil: not known, as words do not tell
*/
static int share_count(lua_State *L)
{
    const struct kf_share *share = kf_lua_check_share(L, 1);

    if (!share->count)
        return 0;
    lua_pushinteger(L, share->count);
    return 1;
}

/***
The groups of its set; one of one, in what keyferry makes.
@function share:groups
@treturn table count, threshold (how many of them are needed), number (its own)
*/
static int share_groups(lua_State *L)
{
    const struct kf_share *share = kf_lua_check_share(L, 1);

    lua_createtable(L, 0, 3);
    lua_pushinteger(L, share->group_count);
    lua_setfield(L, -2, "count");
    lua_pushinteger(L, share->group_threshold);
    lua_setfield(L, -2, "threshold");
    lua_pushinteger(L, share->group + 1);
    lua_setfield(L, -2, "number");
    return 1;
}

/***
How many words it has.
@function share:length
@treturn int
*/
static int share_length(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)kf_share_length(kf_lua_check_share(L, 1)));
    return 1;
}

/***
Whether it and another can be combined.
@function share:check_fits
@tparam share other
@treturn[1] boolean true
@treturn[2] nil
@treturn[2] err KFR_SHARE: another colour, another set, another threshold, or twice the same
*/
static int share_check_fits(lua_State *L)
{
    const struct kf_share *share = kf_lua_check_share(L, 1);
    const struct kf_share *other = kf_lua_check_share(L, 2);
    struct kf_error err = { 0 };

    return kf_lua_done(L, kf_share_fits(share, other, &err), &err);
}

/***
Wipes it now.
@function share:close
*/
static int share_close(lua_State *L)
{
    struct kf_share **box = luaL_checkudata(L, 1, SHARE);
    struct kf_share *share = *box;

    *box = NULL;
    kf_share_free(share);
    return 0;
}

static int share_tostring(lua_State *L)
{
    luaL_checkudata(L, 1, SHARE);
    lua_pushliteral(L, "share");
    return 1;
}

static const luaL_Reg methods[] = {
    { "check_fits", share_check_fits },
    { "close", share_close },
    { "colour", share_colour },
    { "count", share_count },
    { "groups", share_groups },
    { "length", share_length },
    { "needed", share_needed },
    { "number", share_number },
    { "set", share_set },
    { "write", share_write },
    { NULL, NULL },
};

static const luaL_Reg meta[] = {
    { "__close", share_close },
    { "__gc", share_close },
    { "__tostring", share_tostring },
    { NULL, NULL },
};

static const luaL_Reg functions[] = {
    { "again", share_again },
    { "check", share_check },
    { "combine", share_combine },
    { "create", share_create },
    { "master", share_master },
    { "parse", share_parse },
    { "read", share_read },
    { "split", share_split },
    { NULL, NULL },
};

void kf_lua_open_share(lua_State *L)
{
    luaL_newmetatable(L, SHARE);
    luaL_setfuncs(L, meta, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, SHARE);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    lua_setfield(L, -2, "share");
}
