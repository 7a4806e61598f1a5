/* SPDX-License-Identifier: MIT */
#include "lua/object.h"

#include "base/names.h"
#include "lua/attributes.h"
#include "lua/door.h"
#include "lua/error.h"
#include "lua/mechanism.h"
#include "lua/secret.h"
#include "lua/session.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#define OBJECT "keyferry.object"

/* User values. UNREAD is an array of names, nil when everything could be read. */
enum { SESSION_VALUE = 1, TROUBLE_VALUE = 2, UNREAD_VALUE = 3 };

struct box {
    CK_OBJECT_HANDLE handle;
    struct kf_attributes *known; /* never NULL once the object is made */
};

static struct box *check(lua_State *L, int index)
{
    return luaL_checkudata(L, index, OBJECT);
}

CK_OBJECT_HANDLE kf_lua_check_object(lua_State *L, int index)
{
    return check(L, index)->handle;
}

const struct kf_attributes *kf_lua_object_known(lua_State *L, int index)
{
    return check(L, index)->known;
}

/* The session's userdata stays alive in the object's user value. */
struct kf_session *kf_lua_object_session(lua_State *L, int index)
{
    struct kf_session *session;

    check(L, index);
    lua_getiuservalue(L, index, SESSION_VALUE);
    session = kf_lua_open_session_at(L, -1);
    lua_pop(L, 1);
    if (!session)
        luaL_argerror(L, index, "the session is closed");
    return session;
}

/* What could not be read: the error of the object itself as user value 2. */
static void note_trouble(lua_State *L, struct box *box, const struct kf_error *err)
{
    kf_lua_error(L, err);
    lua_setiuservalue(L, -2, TROUBLE_VALUE);
    box->known = kf_attributes_new(false);
    if (!box->known)
        luaL_error(L, "not enough memory");
}

static void note_unread(lua_State *L, const uint64_t *types, size_t count)
{
    char text[64];

    if (!count)
        return;
    lua_newtable(L);
    for (size_t i = 0; i < count; i++) {
        lua_pushstring(L, kf_name_text(KF_CKA, types[i], text, sizeof text));
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setiuservalue(L, -2, UNREAD_VALUE);
}

const struct kf_attributes *kf_lua_push_object(lua_State *L, int session_index,
                                               struct kf_end *end,
                                               CK_OBJECT_HANDLE handle)
{
    struct kf_session *session = kf_lua_check_session(L, session_index);
    uint64_t unread[KF_ROWS_MAX];
    size_t unread_count = 0;
    struct box *box;
    struct kf_error err = { 0 };
    kf_rv rv;

    session_index = lua_absindex(L, session_index);
    box = lua_newuserdatauv(L, sizeof *box, 3);
    memset(box, 0, sizeof *box);
    box->handle = handle;
    luaL_setmetatable(L, OBJECT);
    lua_pushvalue(L, session_index);
    lua_setiuservalue(L, -2, SESSION_VALUE);
    rv = end ? kf_end_read(end, handle, &box->known, unread, &unread_count, &err)
             : kf_object_read(session, handle, &box->known, unread, &unread_count, &err);
    if (rv == KFR_VANISHED && kf_object_is_named(session, handle))
        rv = kf_fail(&err, KFR_MODULE, "C_FindObjects",
                     "its searches cannot be trusted: report that to its maker",
                     "the module names object %lu, and says that it is not there", handle);
    if (rv)
        note_trouble(L, box, &err);
    else
        note_unread(L, unread, unread_count);
    return rv == KFR_VANISHED ? NULL : box->known;
}

static int object_gc(lua_State *L)
{
    struct box *box = check(L, 1);

    kf_attributes_free(box->known);
    box->known = NULL;
    return 0;
}

static void push_constant_attribute(lua_State *L, const struct kf_attributes *known,
                                    uint64_t type)
{
    const struct kf_attribute *attribute = kf_attributes_get(known, type);

    if (attribute)
        kf_lua_push_attribute(L, attribute);
    else
        lua_pushnil(L);
}

enum { ID_SHOWN = 40 };

/* "" without an id, else ", id 0a0b". */
static void push_id(lua_State *L, const struct kf_attribute *id)
{
    size_t len = id ? id->len : 0;
    size_t shown = len > ID_SHOWN ? ID_SHOWN : len;
    char hex[2 * ID_SHOWN + 1] = "";

    for (size_t i = 0; i < shown; i++)
        snprintf(hex + 2 * i, 3, "%02x", id->value[i]);
    lua_pushfstring(L, "%s%s%s", len ? ", id " : "", hex, shown < len ? "..." : "");
}

static int object_tostring(lua_State *L)
{
    const struct box *box = check(L, 1);
    const struct kf_attribute *label = kf_attributes_get(box->known, CKA_LABEL);

    lua_settop(L, 1);
    push_constant_attribute(L, box->known, CKA_CLASS);
    push_constant_attribute(L, box->known, CKA_KEY_TYPE);
    kf_lua_push_label(L, label ? label->value : NULL, label ? label->len : 0);
    push_id(L, kf_attributes_get(box->known, CKA_ID));
    lua_pushfstring(L, "%s%s%s \"%s\" (handle %I%s)",
                    lua_isstring(L, 2) ? lua_tostring(L, 2) : "object",
                    lua_isstring(L, 3) ? " " : "",
                    lua_isstring(L, 3) ? lua_tostring(L, 3) : "", lua_tostring(L, 4),
                    (lua_Integer)box->handle, lua_tostring(L, 5));
    return 1;
}

/* Upvalue 1: the methods; upvalue 2: nick -> type of every attribute. */
static int object_index(lua_State *L)
{
    const struct box *box = check(L, 1);
    const char *key = luaL_checkstring(L, 2);

    lua_settop(L, 2);
    if (lua_pushvalue(L, 2), lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL)
        return 1;
    if (strcmp(key, "handle") == 0) {
        lua_pushinteger(L, (lua_Integer)box->handle);
        return 1;
    }
    if (strcmp(key, "trouble") == 0) {
        lua_getiuservalue(L, 1, TROUBLE_VALUE);
        return 1;
    }
    lua_pushvalue(L, 2);
    if (lua_rawget(L, lua_upvalueindex(2)) == LUA_TNIL)
        return luaL_error(L, "an object has no field '%s'", key);
    push_constant_attribute(L, box->known, (uint64_t)lua_tointeger(L, -1));
    return 1;
}

/***
All attributes as they were when the object was found, without key material.
@function object:attributes
@treturn table
*/
static int object_attributes(lua_State *L)
{
    kf_lua_push_attributes(L, check(L, 1)->known);
    return 1;
}

/***
Whether a boolean attribute is there and true: `key:has "extractable"`. Also for sign, encrypt and
the other flags whose names as fields are methods.
@function object:has
@param attribute nick, name or number
@treturn boolean
*/
static int object_has(lua_State *L)
{
    const struct box *box = check(L, 1);

    lua_pushboolean(L, kf_attributes_bool(box->known, kf_lua_check_attribute_type(L, 2),
                                          false));
    return 1;
}

/***
The names of attributes that the object has and the token would not give (SoftHSM: dates of
private objects).
@function object:unread
@treturn table array of names
*/
static int object_unread(lua_State *L)
{
    check(L, 1);
    if (lua_getiuservalue(L, 1, UNREAD_VALUE) == LUA_TNIL)
        lua_newtable(L);
    return 1;
}

/***
How many bytes the object takes in its token, as the token says.
@function object:size
@treturn[1] integer
@treturn[2] nil
@treturn[2] err KFR_NOT_FOUND: the token does not say (SoftHSM)
*/
static int object_size(lua_State *L)
{
    struct kf_session *session = kf_lua_object_session(L, 1);
    struct kf_error err = { 0 };
    uint64_t size;

    if (kf_object_size(session, check(L, 1)->handle, &size, &err))
        return kf_lua_refuse(L, &err);
    lua_pushinteger(L, size > LUA_MAXINTEGER ? LUA_MAXINTEGER : (lua_Integer)size);
    return 1;
}

/***
The session that the object belongs to.
@function object:session
@treturn session
*/
static int object_session(lua_State *L)
{
    check(L, 1);
    lua_getiuservalue(L, 1, SESSION_VALUE);
    return 1;
}

/***
Reads one attribute afresh.
@function object:read
@param attribute nick, name or number
@treturn[1] value
@treturn[2] nil
@treturn[2] err CKR_ATTRIBUTE_SENSITIVE, CKR_ATTRIBUTE_TYPE_INVALID, ...
*/
static int object_read(lua_State *L)
{
    struct kf_session *session = kf_lua_object_session(L, 1);
    uint64_t type = kf_lua_check_attribute_type(L, 2);
    uint64_t class = kf_attributes_ulong(check(L, 1)->known, CKA_CLASS, UINT64_MAX);
    struct kf_attributes *set;
    struct kf_error err = { 0 };

    if (kf_attribute_is_secret(class, type)) {
        kf_fail(&err, CKR_ATTRIBUTE_SENSITIVE, "", "seal the object to move it",
                "key material does not go into Lua");
        return kf_lua_refuse(L, &err);
    }
    lua_newtable(L);
    set = kf_lua_check_attributes(L, lua_gettop(L), NULL);
    if (kf_object_read_one(session, check(L, 1)->handle, type, set, &err))
        return kf_lua_refuse(L, &err);
    push_constant_attribute(L, set, type);
    return 1;
}

/***
Changes attributes (C_SetAttributeValue). The object itself still says what it was found with:
find it again, or read it.
@function object:change
@tparam table attributes
@treturn[1] true
@treturn[2] nil
@treturn[2] err CKR_ATTRIBUTE_READ_ONLY, CKR_SESSION_READ_ONLY, ...
@usage
assert(key:change{ label = "kek of today" })
print(key.label, key:read("label"))  --> kek	kek of today
*/
static int object_change(lua_State *L)
{
    struct kf_session *session = kf_lua_object_session(L, 1);
    struct kf_attributes *set = kf_lua_check_attributes(L, 2, NULL);
    struct kf_error err = { 0 };

    return kf_lua_done(L, kf_object_change(session, check(L, 1)->handle, set, &err), &err);
}

/***
Copies the object with some attributes changed (C_CopyObject).
@function object:copy
@tparam[opt] table changes
@treturn[1] object
@treturn[2] nil
@treturn[2] err
*/
static int object_copy(lua_State *L)
{
    struct kf_session *session = kf_lua_object_session(L, 1);
    struct kf_attributes *set;
    struct kf_error err = { 0 };
    CK_OBJECT_HANDLE copy;

    if (lua_isnoneornil(L, 2)) {
        lua_settop(L, 1);
        lua_newtable(L);
    }
    set = kf_lua_check_attributes(L, 2, NULL);
    if (kf_object_copy(session, check(L, 1)->handle, set, &copy, &err))
        return kf_lua_refuse(L, &err);
    lua_getiuservalue(L, 1, SESSION_VALUE);
    kf_lua_push_object(L, lua_gettop(L), NULL, copy);
    return 1;
}

/***
Destroys the object (C_DestroyObject).
@function object:destroy
@treturn[1] true
@treturn[2] nil
@treturn[2] err
*/
static int object_destroy(lua_State *L)
{
    struct kf_session *session = kf_lua_object_session(L, 1);
    struct kf_error err = { 0 };

    return kf_lua_done(L, kf_object_destroy(session, check(L, 1)->handle, &err), &err);
}

typedef kf_rv operation(struct kf_session *session, CK_OBJECT_HANDLE key,
                        CK_MECHANISM *mechanism, const void *data, size_t len,
                        struct kf_secret **out, struct kf_error *err);

static int operate(lua_State *L, operation *run)
{
    struct kf_session *session = kf_lua_object_session(L, 1);
    struct kf_lua_mechanism mechanism;
    struct kf_secret **out;
    struct kf_error err = { 0 };
    size_t len;
    const char *data = luaL_checklstring(L, 3, &len);

    kf_lua_check_mechanism(L, 2, &mechanism);
    out = kf_lua_new_secret(L);
    if (run(session, check(L, 1)->handle, &mechanism.mechanism, data, len, out, &err))
        return kf_lua_refuse(L, &err);
    kf_lua_push_result(L, out);
    return 1;
}

/***
Signs data with the key, in one part (C_Sign).
@function object:sign
@tparam mechanism mechanism
@string data
@treturn[1] string the signature
@treturn[2] nil
@treturn[2] err CKR_KEY_FUNCTION_NOT_PERMITTED, CKR_MECHANISM_INVALID, ...
*/
static int object_sign(lua_State *L)
{
    return operate(L, kf_object_sign);
}

/***
Encrypts data with the key, in one part (C_Encrypt).
@function object:encrypt
@tparam mechanism mechanism
@string data
@treturn[1] string
@treturn[2] nil
@treturn[2] err
@usage
local how = { "aes_gcm", iv = assert(session:random(12)), aad = "the envelope" }
local bytes = assert(key:encrypt(how, "a letter"))
print(key:decrypt(how, bytes))  --> a letter
*/
static int object_encrypt(lua_State *L)
{
    return operate(L, kf_object_encrypt);
}

/***
Decrypts data with the key, in one part (C_Decrypt).
@function object:decrypt
@tparam mechanism mechanism
@string data
@treturn[1] string
@treturn[2] nil
@treturn[2] err
*/
static int object_decrypt(lua_State *L)
{
    return operate(L, kf_object_decrypt);
}

/***
Verifies a signature with the key (C_Verify).
@function object:verify
@tparam mechanism mechanism
@string data
@string signature
@treturn[1] true
@treturn[2] false it is not a signature of that data by that key
@treturn[3] nil
@treturn[3] err
*/
static int object_verify(lua_State *L)
{
    struct kf_session *session = kf_lua_object_session(L, 1);
    struct kf_lua_mechanism mechanism;
    struct kf_error err = { 0 };
    size_t len, signature_len;
    const char *data = luaL_checklstring(L, 3, &len);
    const char *signature = luaL_checklstring(L, 4, &signature_len);
    kf_rv rv;

    kf_lua_check_mechanism(L, 2, &mechanism);
    rv = kf_object_verify(session, check(L, 1)->handle, &mechanism.mechanism, data, len,
                          signature, signature_len, &err);
    if (rv && rv != CKR_SIGNATURE_INVALID && rv != CKR_SIGNATURE_LEN_RANGE)
        return kf_lua_refuse(L, &err);
    lua_pushboolean(L, rv == 0);
    return 1;
}

static const luaL_Reg methods[] = {
    { "attributes", object_attributes },
    { "has", object_has },
    { "unread", object_unread },
    { "size", object_size },
    { "session", object_session },
    { "read", object_read },
    { "change", object_change },
    { "copy", object_copy },
    { "destroy", object_destroy },
    { "sign", object_sign },
    { "verify", object_verify },
    { "encrypt", object_encrypt },
    { "decrypt", object_decrypt },
    { NULL, NULL },
};

static const luaL_Reg metamethods[] = {
    { "__tostring", object_tostring },
    { "__gc", object_gc },
    { NULL, NULL },
};

static void push_nicks(lua_State *L)
{
    size_t count;
    const struct kf_name *rows = kf_names(KF_CKA, &count);

    lua_createtable(L, 0, (int)count);
    for (size_t i = 0; i < count; i++) {
        lua_pushinteger(L, (lua_Integer)rows[i].value);
        lua_setfield(L, -2, rows[i].nick);
    }
}

void kf_lua_open_object(lua_State *L)
{
    luaL_newmetatable(L, OBJECT);
    luaL_setfuncs(L, metamethods, 0);
    luaL_newlib(L, methods);
    push_nicks(L);
    lua_pushcclosure(L, object_index, 2);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
