/* SPDX-License-Identifier: MIT */
#include "lua/domain.h"

#include "clone/crypto.h"
#include "clone/process_domain.h"
#include "lua/door.h"
#include "lua/error.h"
#include "lua/secret.h"

#include <lauxlib.h>
#include <string.h>

#define DOMAIN "keyferry.domain"

struct kf_domain *kf_lua_check_domain(lua_State *L, int index)
{
    struct kf_domain **box = luaL_checkudata(L, index, DOMAIN);

    if (!*box)
        luaL_argerror(L, index, "the domain is closed");
    return *box;
}

struct kf_domain **kf_lua_new_domain_box(lua_State *L)
{
    struct kf_domain **box = lua_newuserdatauv(L, sizeof *box, 0);

    *box = NULL;
    luaL_setmetatable(L, DOMAIN);
    return box;
}

/***
The cloning domain of a text: scrypt (RFC 7914), then HKDF (RFC 5869). Takes a good part of
a second, and 128 MB while it runs. Two domains are equal (`==`) when their check values are.
@function domain
@tparam secret text whatever bytes, at least one; nothing is added and nothing normalised
@treturn[1] domain
@treturn[2] nil
@treturn[2] err
@usage
local domain <close> = assert(keyferry.domain(keyferry.secret("river of stones")))
print(#domain:check())                                               --> 32
print(domain == keyferry.domain(keyferry.secret("river of stones"))) --> true
*/
static int new_domain(lua_State *L)
{
    const struct kf_secret *text = kf_lua_check_secret(L, 1);
    struct kf_domain **box = kf_lua_new_domain_box(L);
    struct kf_error err = { 0 };

    if (kf_domain_from_text(text, box, &err))
        return kf_lua_refuse(L, &err);
    return 1;
}

/***
A cloning domain that nobody has and that is nowhere kept: for what is sealed, or compared by
digest, within one run of a program. It comes from no text, so it costs no scrypt.
@function random_domain
@treturn[1] domain
@treturn[2] nil
@treturn[2] err
*/
static int random_domain(lua_State *L)
{
    struct kf_domain **box = kf_lua_new_domain_box(L);
    struct kf_error err = { 0 };

    if (kf_domain_random(box, &err))
        return kf_lua_refuse(L, &err);
    return 1;
}

static int refuse_hardware(lua_State *L)
{
    struct kf_error err = { 0 };

    kf_fail(&err, KFR_NOT_FOUND, NULL, "the vendor's own tool may tell more of it",
            "the HSM keeps this cloning domain itself and tells no program of it");
    return kf_lua_refuse(L, &err);
}

/***
The check value: tells one domain from another and nothing else about it.
@function domain:check
@treturn[1] string 32 hex digits
@treturn[2] nil
@treturn[2] err KFR_NOT_FOUND: the HSM keeps the domain itself (domain:in_hardware)
*/
static int domain_check(lua_State *L)
{
    const struct kf_domain *domain = kf_lua_check_domain(L, 1);

    if (kf_domain_in_hardware(domain))
        return refuse_hardware(L);
    kf_lua_push_hex(L, kf_domain_check(domain), KF_CHECK_BYTES);
    return 1;
}

/***
Whether it is one that the HSM keeps itself (Luna): it has no check value here, and nothing but
what goes from partition to partition of that HSM can be sealed under it.
@function domain:in_hardware
@treturn boolean
*/
static int domain_in_hardware(lua_State *L)
{
    lua_pushboolean(L, kf_domain_in_hardware(kf_lua_check_domain(L, 1)));
    return 1;
}

enum { REPORT_MAX = 1 << 30 };

/***
HMAC-SHA256 under the domain's mac key over "keyferry report 1", a zero byte and the SHA-256 of the
bytes: what a report (keyferry.report) is authenticated by.
@function domain:authenticate
@string bytes
@treturn[1] string 32 bytes
@treturn[2] nil
@treturn[2] err of the token that the domain lives in; KFR_CLOSED when its session is closed
*/
static int domain_authenticate(lua_State *L)
{
    static const char purpose[] = "keyferry report 1";
    const struct kf_domain *domain = kf_lua_check_domain(L, 1);
    size_t len;
    const char *bytes = luaL_checklstring(L, 2, &len);
    uint8_t hash[KF_CRYPTO_HASH];
    uint8_t mac[KF_MAC_BYTES];
    const struct kf_slice slices[] = { { purpose, sizeof purpose }, { hash, sizeof hash } };
    struct kf_error err = { 0 };

    luaL_argcheck(L, len <= REPORT_MAX, 2, "too long");
    if (!kf_crypto_sha256(bytes, len, hash)) {
        kf_fail(&err, KFR_CRYPTO, NULL, NULL, "OpenSSL gives no SHA-256");
        return kf_lua_refuse(L, &err);
    }
    if (kf_domain_in_hardware(domain))
        return refuse_hardware(L);
    if (kf_domain_mac(domain, slices, 2, mac, &err))
        return kf_lua_refuse(L, &err);
    lua_pushlstring(L, (const char *)mac, sizeof mac);
    return 1;
}

/***
SHA-256 of bytes (FIPS 180-4): tells damage, and nothing of who made them.
@function sha256
@string bytes
@treturn[1] string 32 bytes
@treturn[2] nil
@treturn[2] err
*/
static int sha256(lua_State *L)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    uint8_t hash[KF_CRYPTO_HASH];
    struct kf_error err = { 0 };

    if (!kf_crypto_sha256(bytes, len, hash)) {
        kf_fail(&err, KFR_CRYPTO, NULL, NULL, "OpenSSL gives no SHA-256");
        return kf_lua_refuse(L, &err);
    }
    lua_pushlstring(L, (const char *)hash, sizeof hash);
    return 1;
}

static int domain_equal(lua_State *L)
{
    struct kf_domain **a = luaL_testudata(L, 1, DOMAIN);
    struct kf_domain **b = luaL_testudata(L, 2, DOMAIN);

    lua_pushboolean(L, a && b && *a && *b &&
                           memcmp(kf_domain_check(*a), kf_domain_check(*b),
                                  KF_CHECK_BYTES) == 0);
    return 1;
}

static int domain_tostring(lua_State *L)
{
    struct kf_domain **box = luaL_checkudata(L, 1, DOMAIN);

    if (!*box || kf_domain_in_hardware(*box)) {
        lua_pushstring(L, *box ? "domain (kept by the HSM)" : "domain (closed)");
        return 1;
    }
    lua_pushliteral(L, "domain ");
    kf_lua_push_hex(L, kf_domain_check(*box), KF_CHECK_BYTES);
    lua_concat(L, 2);
    return 1;
}

/***
Wipes its keys now. Endpoints made with it keep their own.
@function domain:close
*/
static int domain_close(lua_State *L)
{
    struct kf_domain **box = luaL_checkudata(L, 1, DOMAIN);

    kf_domain_unref(*box);
    *box = NULL;
    return 0;
}

static const luaL_Reg methods[] = {
    { "authenticate", domain_authenticate },
    { "check", domain_check },
    { "in_hardware", domain_in_hardware },
    { "close", domain_close },
    { NULL, NULL },
};

static const luaL_Reg metamethods[] = {
    { "__eq", domain_equal },
    { "__tostring", domain_tostring },
    { "__gc", domain_close },
    { "__close", domain_close },
    { NULL, NULL },
};

void kf_lua_open_domain(lua_State *L)
{
    luaL_newmetatable(L, DOMAIN);
    luaL_setfuncs(L, metamethods, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushcfunction(L, new_domain);
    lua_setfield(L, -2, "domain");
    lua_pushcfunction(L, sha256);
    lua_setfield(L, -2, "sha256");
    lua_pushcfunction(L, random_domain);
    lua_setfield(L, -2, "random_domain");
}
