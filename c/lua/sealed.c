/* SPDX-License-Identifier: MIT */
#include "lua/sealed.h"

#include "clone/sealed.h"
#include "lua/attributes.h"
#include "lua/domain.h"
#include "lua/door.h"
#include "lua/error.h"
#include "lua/keep.h"

#include <lauxlib.h>
#include <stdio.h>

#define SEALED "keyferry.sealed"

struct kf_writer *kf_lua_new_sealed(lua_State *L)
{
    struct kf_writer *writer = lua_newuserdatauv(L, sizeof *writer, 0);

    *writer = (struct kf_writer){ 0 };
    luaL_setmetatable(L, SEALED);
    return writer;
}

const struct kf_writer *kf_lua_check_sealed(lua_State *L, int index)
{
    const struct kf_writer *writer = luaL_checkudata(L, index, SEALED);

    if (!writer->data)
        luaL_argerror(L, index, "the sealed object is closed");
    return writer;
}

/***
A sealed object from bytes that were written down.
@function sealed
@string bytes
@treturn sealed
*/
static int new_sealed(lua_State *L)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    struct kf_writer *writer = kf_lua_new_sealed(L);

    kf_write_bytes(writer, bytes, len);
    if (writer->bad)
        return luaL_error(L, "not enough memory");
    return 1;
}

/***
The bytes, as c/README.md specifies them.
@function sealed:bytes
@treturn[1] string
@treturn[2] nil
@treturn[2] err KFR_REFUSED: the engine luna has sealed it, and there is nothing to write down
*/
static int sealed_bytes(lua_State *L)
{
    const struct kf_writer *writer = kf_lua_check_sealed(L, 1);
    struct kf_error err = { 0 };

    if (kf_sealed_check_bytes(writer->data, writer->len, &err))
        return kf_lua_refuse(L, &err);
    lua_pushlstring(L, (const char *)writer->data, writer->len);
    return 1;
}

/***
Whether it opens under a domain; nothing is planted.
@function sealed:opens
@tparam domain domain
@treturn[1] true
@treturn[2] nil
@treturn[2] err KFR_DOMAIN_MISMATCH, KFR_DAMAGED, KFR_NEWER_VERSION
*/
static int sealed_opens(lua_State *L)
{
    const struct kf_writer *writer = kf_lua_check_sealed(L, 1);
    const struct kf_domain *domain = kf_lua_check_domain(L, 2);
    struct kf_sealed sealed = { 0 };
    struct kf_error err = { 0 };
    kf_rv rv = kf_sealed_decode(writer->data, writer->len, domain, &sealed, &err);

    kf_sealed_clear(&sealed);
    return kf_lua_done(L, rv, &err);
}

/***
A keyed digest of the key material in it: what endpoint:digest says of the same object.
@function sealed:digest
@tparam domain domain
@treturn[1] string 32 bytes
@treturn[2] nil
@treturn[2] err KFR_NOT_FOUND when it cannot be told (a domain that lives in a token unwraps
  no key outside it), and what sealed:opens says
*/
static int sealed_digest(lua_State *L)
{
    const struct kf_writer *writer = kf_lua_check_sealed(L, 1);
    const struct kf_domain *domain = kf_lua_check_domain(L, 2);
    uint8_t digest[KF_MAC_BYTES];
    struct kf_error err = { 0 };

    if (kf_sealed_digest(writer->data, writer->len, domain, digest, &err))
        return kf_lua_refuse(L, &err);
    lua_pushlstring(L, (const char *)digest, sizeof digest);
    return 1;
}

static void set_check(lua_State *L, const uint8_t check[KF_CHECK_BYTES])
{
    char text[2 * KF_CHECK_BYTES + 1];

    for (size_t i = 0; i < KF_CHECK_BYTES; i++)
        snprintf(text + 2 * i, 3, "%02x", check[i]);
    lua_pushstring(L, text);
    lua_setfield(L, -2, "check");
}

static void free_open(void *open)
{
    kf_attributes_free(open);
}

/***
What everybody may read of it, without its domain: nothing here is authenticated, so it
is to be shown and not to be relied upon.
@function sealed:head
@treturn[1] table version, engine, serial (of the token it came from), check (of the
  domain), exact (every attribute is in it), attributes (those that are not encrypted)
@treturn[2] nil
@treturn[2] err KFR_DAMAGED, KFR_NEWER_VERSION
*/
static int sealed_head(lua_State *L)
{
    const struct kf_writer *writer = kf_lua_check_sealed(L, 1);
    struct kf_lua_keep *keep = kf_lua_keep(L, free_open);
    uint8_t check[KF_CHECK_BYTES];
    struct kf_sealed sealed = { 0 };
    struct kf_error err = { 0 };

    if (kf_sealed_peek(writer->data, writer->len, check, &err) ||
        kf_sealed_look(writer->data, writer->len, &sealed, &err))
        return kf_lua_refuse(L, &err);
    keep->held = sealed.open;
    lua_newtable(L);
    lua_pushinteger(L, KF_SEALED_VERSION);
    lua_setfield(L, -2, "version");
    lua_pushstring(L, sealed.engine);
    lua_setfield(L, -2, "engine");
    lua_pushstring(L, sealed.source_serial);
    lua_setfield(L, -2, "serial");
    set_check(L, check);
    lua_pushboolean(L, sealed.flags & KF_SEALED_EXACT);
    lua_setfield(L, -2, "exact");
    kf_lua_push_attributes(L, sealed.open);
    lua_setfield(L, -2, "attributes");
    return 1;
}

static int sealed_len(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)kf_lua_check_sealed(L, 1)->len);
    return 1;
}

static int sealed_tostring(lua_State *L)
{
    const struct kf_writer *writer = luaL_checkudata(L, 1, SEALED);

    if (writer->data)
        lua_pushfstring(L, "sealed object (%I bytes)", (lua_Integer)writer->len);
    else
        lua_pushliteral(L, "sealed object (closed)");
    return 1;
}

/***
Frees its bytes now. `#sealed` is how many there are.
@function sealed:close
*/
static int sealed_close(lua_State *L)
{
    kf_writer_clear(luaL_checkudata(L, 1, SEALED));
    return 0;
}

static const luaL_Reg methods[] = {
    { "bytes", sealed_bytes },
    { "head", sealed_head },
    { "opens", sealed_opens },
    { "digest", sealed_digest },
    { "close", sealed_close },
    { NULL, NULL },
};

static const luaL_Reg metamethods[] = {
    { "__len", sealed_len },
    { "__tostring", sealed_tostring },
    { "__gc", sealed_close },
    { "__close", sealed_close },
    { NULL, NULL },
};

void kf_lua_open_sealed(lua_State *L)
{
    luaL_newmetatable(L, SEALED);
    luaL_setfuncs(L, metamethods, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushcfunction(L, new_sealed);
    lua_setfield(L, -2, "sealed");
}
