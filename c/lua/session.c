/* SPDX-License-Identifier: MIT */
#include "lua/session.h"

#include "clone/domain.h"
#include "clone/engine.h"
#include "clone/process_domain.h"
#include "clone/unfinished.h"
#include "lua/attributes.h"
#include "lua/domain.h"
#include "lua/door.h"
#include "lua/endpoint.h"
#include "lua/error.h"
#include "lua/interrupt.h"
#include "lua/keep.h"
#include "lua/mechanism.h"
#include "lua/module.h"
#include "lua/object.h"
#include "lua/secret.h"
#include "lua/unfinished.h"
#include "pkcs11/object.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define SESSION "keyferry.session"

enum { RANDOM_MAX = 1 << 20 };

struct box {
    struct kf_session *session; /* NULL: closed */
    struct kf_domain *own;      /* of the partition; NULL: not looked for, or none */
};

struct kf_session *kf_lua_open_session_at(lua_State *L, int index)
{
    struct box *box = luaL_checkudata(L, index, SESSION);

    return box->session && kf_session_is_open(box->session) ? box->session : NULL;
}

struct kf_session *kf_lua_check_session(lua_State *L, int index)
{
    struct kf_session *session = kf_lua_open_session_at(L, index);

    if (!session)
        luaL_argerror(L, index, "the session is closed");
    return session;
}

static int succeed(lua_State *L)
{
    lua_pushboolean(L, 1);
    return 1;
}

/***
Opens a session with the token in a slot (C_OpenSession, PKCS#11 v2.40 section 5.6).
@function module:session
@int slot
@tparam[opt] table options `writable`: a read/write session
@treturn[1] session
@treturn[2] nil
@treturn[2] err
*/
int kf_lua_new_session(lua_State *L)
{
    struct kf_module *module = kf_lua_check_module(L, 1);
    CK_SLOT_ID slot = (CK_SLOT_ID)luaL_checkinteger(L, 2);
    struct kf_error err = { 0 };
    bool writable = false;
    struct box *box;

    if (!lua_isnoneornil(L, 3)) {
        luaL_checktype(L, 3, LUA_TTABLE);
        lua_getfield(L, 3, "writable");
        writable = lua_toboolean(L, -1);
        lua_pop(L, 1);
    }
    box = lua_newuserdatauv(L, sizeof *box, 1);
    *box = (struct box){ .session = NULL };
    luaL_setmetatable(L, SESSION);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    if (kf_session_open(module, slot, writable, &box->session, &err))
        return kf_lua_refuse(L, &err);
    return 1;
}

static void forget_own_domain(struct box *box)
{
    kf_domain_unref(box->own);
    box->own = NULL;
}

/***
Closes it (C_CloseSession): its endpoints cannot be used any more, its objects stay
readable as they were found. Happens by itself at the end of a `<close>`, when it is
collected, and when its HSM is closed. With the last session of a token the login ends.
@function session:close
*/
static int session_close(lua_State *L)
{
    struct box *box = luaL_checkudata(L, 1, SESSION);

    forget_own_domain(box);
    if (box->session)
        kf_session_close(box->session);
    return 0;
}

/* Objects and endpoints of this session keep the userdata alive, so nobody is left. */
static int session_gc(lua_State *L)
{
    struct box *box = luaL_checkudata(L, 1, SESSION);

    forget_own_domain(box);
    kf_session_free(box->session);
    box->session = NULL;
    return 0;
}

static int session_tostring(lua_State *L)
{
    struct box *box = luaL_checkudata(L, 1, SESSION);
    const struct kf_token *token;

    if (!box->session || !kf_session_is_open(box->session)) {
        lua_pushliteral(L, "session (closed)");
        return 1;
    }
    token = kf_session_token(box->session);
    kf_lua_push_label(L, (const unsigned char *)token->label, strlen(token->label));
    kf_lua_push_label(L, (const unsigned char *)token->serial, strlen(token->serial));
    lua_pushfstring(L, "session with \"%s\" (serial %s, %s)", lua_tostring(L, -2),
                    lua_tostring(L, -1),
                    kf_session_is_writable(box->session) ? "read/write" : "read-only");
    return 1;
}

/***
Whether it can still be used; everything else raises when it cannot.
@function session:is_open
@treturn boolean
*/
static int session_is_open(lua_State *L)
{
    struct box *box = luaL_checkudata(L, 1, SESSION);

    lua_pushboolean(L, box->session && kf_session_is_open(box->session));
    return 1;
}

/***
The token as it was when the session was opened.
@function session:token
@treturn token
*/
static int session_token(lua_State *L)
{
    kf_lua_push_token(L, kf_session_token(kf_lua_check_session(L, 1)));
    return 1;
}

/***
The module that it is a session of.
@function session:module
@treturn module
*/
static int session_module(lua_State *L)
{
    kf_lua_check_session(L, 1);
    lua_getiuservalue(L, 1, 1);
    return 1;
}

/***
Whether it is a read/write session.
@function session:is_writable
@treturn boolean
*/
static int session_is_writable(lua_State *L)
{
    lua_pushboolean(L, kf_session_is_writable(kf_lua_check_session(L, 1)));
    return 1;
}

/***
Who is logged in, through this session or another one with the same token
(C_GetSessionInfo).
@function session:user
@treturn[1] ?string "user" (the Crypto Officer), "so", or nil for nobody
@treturn[2] nil
@treturn[2] err
*/
static int session_user(lua_State *L)
{
    CK_USER_TYPE user = CK_UNAVAILABLE_INFORMATION;
    struct kf_error err = { 0 };

    if (kf_session_user(kf_lua_check_session(L, 1), &user, &err))
        return kf_lua_refuse(L, &err);
    if (user == CK_UNAVAILABLE_INFORMATION)
        lua_pushnil(L);
    else
        lua_pushstring(L, user == CKU_SO ? "so" : "user");
    return 1;
}

/***
Logs in (C_Login). A PIN that was refused once is not tried again in this run.
@function session:login
@tparam ?secret pin nil: by the protected authentication path
@string[opt="user"] user "user" (the Crypto Officer) or "so"
@treturn[1] true
@treturn[2] nil
@treturn[2] err CKR_PIN_INCORRECT, CKR_PIN_LOCKED, ...
*/
static int session_login(lua_State *L)
{
    static const char *const names[] = { "user", "so", NULL };
    static const CK_USER_TYPE types[] = { CKU_USER, CKU_SO };
    struct kf_session *session = kf_lua_check_session(L, 1);
    const struct kf_secret *pin = kf_lua_opt_secret(L, 2);
    CK_USER_TYPE user = types[luaL_checkoption(L, 3, "user", names)];
    struct kf_error err = { 0 };

    if (kf_session_login(session, user, pin, &err))
        return kf_lua_refuse(L, &err);
    return succeed(L);
}

/***
Logs out (C_Logout): private objects and their handles are gone.
@function session:logout
@treturn[1] true
@treturn[2] nil
@treturn[2] err
*/
static int session_logout(lua_State *L)
{
    struct kf_session *session = kf_lua_check_session(L, 1);
    struct kf_error err = { 0 };

    forget_own_domain(lua_touserdata(L, 1));
    if (kf_session_logout(session, &err))
        return kf_lua_refuse(L, &err);
    return succeed(L);
}

/***
Gives the token its user PIN (C_InitPIN); the session is logged in as "so".
@function session:init_pin
@tparam ?secret pin nil: by the protected authentication path
@treturn[1] true
@treturn[2] nil
@treturn[2] err
*/
static int session_init_pin(lua_State *L)
{
    struct kf_session *session = kf_lua_check_session(L, 1);
    const struct kf_secret *pin = kf_lua_opt_secret(L, 2);
    struct kf_error err = { 0 };

    if (kf_session_init_pin(session, pin, &err))
        return kf_lua_refuse(L, &err);
    return succeed(L);
}

/* The domain that really lives in the token, NULL when there is none; looked for when an
 * object turns up that says it is one of its keys, until it is found. */
static const struct kf_domain *own_domain(struct box *box)
{
    struct kf_error err = { 0 };

    if (!box->own)
        kf_domain_find(box->session, &box->own, &err);
    return box->own;
}

/* What says it is a domain key and is none stays an object like any other. A session object
 * that says so is ours: the wrapping key of a host domain (kf_domain_wrapping_key). */
static bool is_own_domain_key(struct box *box, const struct kf_attributes *known)
{
    uint8_t check[KF_CHECK_BYTES];
    const struct kf_domain *own;

    if (!kf_domain_is_key(known, check))
        return false;
    if (!kf_attributes_bool(known, CKA_TOKEN, true))
        return true;
    own = own_domain(box);
    return own && memcmp(check, kf_domain_check(own), sizeof check) == 0;
}

bool kf_lua_push_found(lua_State *L, int session_index, struct kf_end *end,
                       CK_OBJECT_HANDLE handle)
{
    struct box *box = lua_touserdata(L, session_index);
    const struct kf_attributes *known = kf_lua_push_object(L, session_index, end, handle);

    if (known && !is_own_domain_key(box, known) && !kf_unfinished_is(known))
        return true;
    lua_pop(L, 1);
    return false;
}

int kf_lua_find(lua_State *L, int session_index, struct kf_end *end, int filter_index)
{
    struct kf_session *session = kf_lua_check_session(L, session_index);
    bool filtered = !lua_isnoneornil(L, filter_index); /* asked before the keep is there */
    struct kf_attributes *filter = NULL;
    struct kf_lua_keep *keep = kf_lua_keep(L, free);
    CK_OBJECT_HANDLE *handles = NULL;
    struct kf_error err = { 0 };
    lua_Integer found = 0;
    size_t count = 0;

    if (filtered)
        filter = kf_lua_check_attributes(L, filter_index, NULL);
    if (kf_objects_find(session, filter, &handles, &count, &err))
        return kf_lua_refuse(L, &err);
    keep->held = handles;
    lua_newtable(L);
    for (size_t i = 0; i < count; i++) {
        if (kf_lua_interrupted()) {
            kf_fail(&err, KFR_INTERRUPTED, "", NULL, "interrupted while reading objects");
            return kf_lua_refuse(L, &err);
        }
        if (kf_lua_push_found(L, session_index, end, handles[i]))
            lua_rawseti(L, -2, ++found);
    }
    return 1;
}

/***
All objects that match, each read at once (its attributes, no key material). The search is
over before this returns. The keys of the partition's own cloning domain and the mark of an
unfinished backup are never among them.
@function session:find
@tparam[opt] table filter attributes to match, all of them exactly (a label is no glob
  here; see keyferry.glob): `{ class = "private_key", label = "tls" }`
@treturn[1] table array of objects
@treturn[2] nil
@treturn[2] err
@usage
for _, found in ipairs(assert(session:find{ token = true, class = "secret_key", id = "\1" })) do
    print(found.label, found.key_type)  --> kek	aes
end
*/
static int session_find(lua_State *L)
{
    return kf_lua_find(L, 1, NULL, 2);
}

static int next_object(lua_State *L)
{
    lua_Integer i = luaL_checkinteger(L, lua_upvalueindex(2)) + 1;

    lua_pushinteger(L, i);
    lua_replace(L, lua_upvalueindex(2));
    lua_rawgeti(L, lua_upvalueindex(1), i);
    return 1;
}

/***
Iterates over what find gives: `for o in session:objects{ class = "private_key" } do`.
A search that fails raises, since a shorter list would look like success.
@function session:objects
@tparam[opt] table filter
@treturn function
*/
static int session_objects(lua_State *L)
{
    lua_settop(L, 2);
    if (session_find(L) == 2)
        return lua_error(L);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, next_object, 2);
    return 1;
}

/***
The object of a handle, read at once.
@function session:object
@int handle
@treturn[1] object
@treturn[2] nil
@treturn[2] err KFR_VANISHED: there is none (any more)
*/
static int session_object(lua_State *L)
{
    CK_OBJECT_HANDLE handle = (CK_OBJECT_HANDLE)luaL_checkinteger(L, 2);
    struct kf_error err = { 0 };

    kf_lua_check_session(L, 1);
    if (kf_lua_push_object(L, 1, NULL, handle))
        return 1;
    kf_fail(&err, KFR_VANISHED, "", NULL, "there is no object with handle %lu", handle);
    return kf_lua_refuse(L, &err);
}

/***
Makes an object of attributes (C_CreateObject).
@function session:create
@tparam table attributes
@treturn[1] object
@treturn[2] nil
@treturn[2] err
*/
static int session_create(lua_State *L)
{
    struct kf_session *session = kf_lua_check_session(L, 1);
    struct kf_attributes *set = kf_lua_check_attributes(L, 2, NULL);
    struct kf_error err = { 0 };
    CK_OBJECT_HANDLE handle;

    if (kf_object_create(session, set, &handle, &err))
        return kf_lua_refuse(L, &err);
    kf_lua_push_object(L, 1, NULL, handle);
    return 1;
}

/* The field `mechanism` of the table at 2, left on the stack. */
static void check_mechanism_field(lua_State *L, struct kf_lua_mechanism *mechanism)
{
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_getfield(L, 2, "mechanism");
    kf_lua_check_mechanism(L, -1, mechanism);
}

/***
Generates a secret key (C_GenerateKey).
@function session:generate
@tparam table attributes and `mechanism`, `{ mechanism = "aes_key_gen", value_len = 32 }`; without `token = true`
  the key goes with the session
@treturn[1] object
@treturn[2] nil
@treturn[2] err
*/
static int session_generate(lua_State *L)
{
    static const char *const except[] = { "mechanism", NULL };
    struct kf_session *session = kf_lua_check_session(L, 1);
    struct kf_lua_mechanism mechanism;
    struct kf_attributes *set;
    struct kf_error err = { 0 };
    CK_OBJECT_HANDLE handle;

    check_mechanism_field(L, &mechanism);
    set = kf_lua_check_attributes(L, 2, except);
    if (kf_object_generate(session, &mechanism.mechanism, set, &handle, &err))
        return kf_lua_refuse(L, &err);
    kf_lua_push_object(L, 1, NULL, handle);
    return 1;
}

/***
Generates a key pair (C_GenerateKeyPair).
@function session:generate_pair
@tparam table options `mechanism`, `public` and `private` (attribute tables)
@treturn[1] object the public key
@treturn[1] object the private key
@treturn[2] nil
@treturn[2] err
@usage
local public, private = assert(session:generate_pair{
    mechanism = "ec_key_pair_gen",
    public = { ec_params = "\6\8\x2A\x86\x48\xCE\x3D\3\1\7", verify = true },  -- P-256, in DER
    private = { label = "of this session", sign = true, sensitive = true },
})
local digest = assert(session:digest("sha256", "a letter"))
local signature = assert(private:sign("ecdsa", digest))
print(public:verify("ecdsa", digest, signature))  --> true
*/
static int session_generate_pair(lua_State *L)
{
    struct kf_session *session = kf_lua_check_session(L, 1);
    struct kf_lua_mechanism mechanism;
    struct kf_attributes *public_set, *private_set;
    struct kf_error err = { 0 };
    CK_OBJECT_HANDLE public_key, private_key;

    check_mechanism_field(L, &mechanism);
    luaL_argcheck(L, lua_getfield(L, 2, "public") == LUA_TTABLE
                         && lua_getfield(L, 2, "private") == LUA_TTABLE,
                  2, "public and private are tables of attributes");
    lua_getfield(L, 2, "public");
    public_set = kf_lua_check_attributes(L, lua_gettop(L), NULL);
    lua_getfield(L, 2, "private");
    private_set = kf_lua_check_attributes(L, lua_gettop(L), NULL);
    if (kf_object_generate_pair(session, &mechanism.mechanism, public_set, private_set,
                                &public_key, &private_key, &err))
        return kf_lua_refuse(L, &err);
    kf_lua_push_object(L, 1, NULL, public_key);
    kf_lua_push_object(L, 1, NULL, private_key);
    return 2;
}

/***
Digests data (C_Digest).
@function session:digest
@tparam mechanism mechanism such as "sha256"
@string data
@treturn[1] string
@treturn[2] nil
@treturn[2] err
*/
static int session_digest(lua_State *L)
{
    struct kf_session *session = kf_lua_check_session(L, 1);
    struct kf_lua_mechanism mechanism;
    struct kf_secret **out;
    struct kf_error err = { 0 };
    size_t len;
    const char *data = luaL_checklstring(L, 3, &len);

    kf_lua_check_mechanism(L, 2, &mechanism);
    out = kf_lua_new_secret(L);
    if (kf_session_digest(session, &mechanism.mechanism, data, len, out, &err))
        return kf_lua_refuse(L, &err);
    kf_lua_push_result(L, out);
    return 1;
}

/***
Random bytes of the token (C_GenerateRandom).
@function session:random
@int n 1 to 1048576
@treturn[1] string
@treturn[2] nil
@treturn[2] err
*/
static int session_random(lua_State *L)
{
    struct kf_session *session = kf_lua_check_session(L, 1);
    lua_Integer n = luaL_checkinteger(L, 2);
    struct kf_secret **out;
    struct kf_error err = { 0 };

    luaL_argcheck(L, n > 0 && n <= RANDOM_MAX, 2, "1 to 1048576 bytes");
    out = kf_lua_new_secret(L);
    if (kf_session_random(session, (size_t)n, out, &err))
        return kf_lua_refuse(L, &err);
    kf_lua_push_result(L, out);
    return 1;
}

/***
The cloning domain that lives in the partition, as an engine can use it.
@function session:find_domain
@string[opt="wrap"] engine
@treturn[1] domain
@treturn[2] nil
@treturn[2] err KFR_NOT_FOUND: the partition has none
*/
static int session_find_domain(lua_State *L)
{
    struct kf_session *session = kf_lua_check_session(L, 1);
    const struct kf_engine *engine = kf_lua_check_engine(L, 2, "wrap");
    struct kf_domain **found = kf_lua_new_domain_box(L);
    struct box *box = lua_touserdata(L, 1);
    struct kf_error err = { 0 };

    if (engine->find_domain(session, found, &err))
        return kf_lua_refuse(L, &err);
    if (!box->own && !kf_domain_in_hardware(*found))
        box->own = kf_domain_ref(*found);
    return 1;
}

/***
Puts a cloning domain into the partition, as keys that never leave it.
@function session:install_domain
@tparam domain domain
@treturn[1] true
@treturn[2] nil
@treturn[2] err KFR_EXISTS: it has one, and a domain is set once
*/
static int session_install_domain(lua_State *L)
{
    struct kf_session *session = kf_lua_check_session(L, 1);
    struct kf_domain *domain = kf_lua_check_domain(L, 2);
    struct kf_error err = { 0 };

    if (kf_domain_in_hardware(domain)) {
        kf_fail(&err, KFR_REFUSED, NULL, "give a domain of your own",
                "this cloning domain is kept by an HSM, and by no program");
        return kf_lua_refuse(L, &err);
    }
    if (kf_domain_install(session, domain, &err))
        return kf_lua_refuse(L, &err);
    return succeed(L);
}

/***
Whether an engine can work this partition, or clone from it to another; needs no login. The
engine "luna" works two partitions of one HSM together and refuses a single one.
@function session:probe
@string engine
@tparam[opt] session target the other end
@treturn[1] true
@treturn[2] nil
@treturn[2] err why not
*/
static int session_probe(lua_State *L)
{
    struct kf_session *session = kf_lua_check_session(L, 1);
    const struct kf_engine *engine = kf_lua_check_engine(L, 2, NULL);
    struct kf_error err = { 0 };
    kf_rv rv;

    if (lua_isnoneornil(L, 3))
        rv = engine->probe(session, &err);
    else
        rv = kf_engine_probe_pair(engine, session, kf_lua_check_session(L, 3), &err);
    if (rv)
        return kf_lua_refuse(L, &err);
    return succeed(L);
}

static const luaL_Reg methods[] = {
    { "is_open", session_is_open },
    { "is_writable", session_is_writable },
    { "module", session_module },
    { "token", session_token },
    { "user", session_user },
    { "login", session_login },
    { "logout", session_logout },
    { "init_pin", session_init_pin },
    { "find", session_find },
    { "objects", session_objects },
    { "object", session_object },
    { "create", session_create },
    { "generate", session_generate },
    { "generate_pair", session_generate_pair },
    { "digest", session_digest },
    { "random", session_random },
    { "find_domain", session_find_domain },
    { "install_domain", session_install_domain },
    { "unfinished", kf_lua_unfinished },
    { "mark_unfinished", kf_lua_mark_unfinished },
    { "mark_finished", kf_lua_mark_finished },
    { "probe", session_probe },
    { "endpoint", kf_lua_new_endpoint },
    { "close", session_close },
    { NULL, NULL },
};

static const luaL_Reg metamethods[] = {
    { "__tostring", session_tostring },
    { "__gc", session_gc },
    { "__close", session_close },
    { NULL, NULL },
};

void kf_lua_open_session(lua_State *L)
{
    luaL_newmetatable(L, SESSION);
    luaL_setfuncs(L, metamethods, 0);
    luaL_newlib(L, methods);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "__index");
    lua_setfield(L, -3, "session_methods"); /* the library has some more to add */
    lua_pop(L, 1);
}
