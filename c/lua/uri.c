/* SPDX-License-Identifier: MIT
 * PKCS#11 URIs (RFC 7512), which p11-kit parses and formats.
 */
#include "lua/door.h"
#include "lua/error.h"
#include "lua/keep.h"

#include "base/names.h"

#include <lauxlib.h>
#include <openssl/crypto.h>
#include <p11-kit/pkcs11.h>
#include <p11-kit/uri.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A URI keeps the infos it matches; their text fields are blank padded, and one that
 * the URI does not name begins with NUL. */
enum part { OF_TOKEN, OF_SLOT, OF_LIBRARY };

struct padded {
    const char *key;
    enum part part;
    size_t offset;
    size_t size;
};

#define FIELD(key, part, type, member)                                                 \
    {                                                                                  \
        key, part, offsetof(type, member), sizeof(((type *)NULL)->member)              \
    }

static const struct padded padded[] = {
    FIELD("token", OF_TOKEN, CK_TOKEN_INFO, label),
    FIELD("serial", OF_TOKEN, CK_TOKEN_INFO, serialNumber),
    FIELD("manufacturer", OF_TOKEN, CK_TOKEN_INFO, manufacturerID),
    FIELD("model", OF_TOKEN, CK_TOKEN_INFO, model),
    FIELD("slot_manufacturer", OF_SLOT, CK_SLOT_INFO, manufacturerID),
    FIELD("slot_description", OF_SLOT, CK_SLOT_INFO, slotDescription),
    FIELD("library_manufacturer", OF_LIBRARY, CK_INFO, manufacturerID),
    FIELD("library_description", OF_LIBRARY, CK_INFO, libraryDescription),
};
enum { PADDED = sizeof padded / sizeof *padded };

struct attribute {
    const char *key;
    CK_ATTRIBUTE_TYPE type;
};

static const struct attribute attributes[] = {
    { "object", CKA_LABEL },
    { "id", CKA_ID },
};
enum { ATTRIBUTES = sizeof attributes / sizeof *attributes };

/* The classes that RFC 7512 has words for, in Lua's nicks. */
struct kind {
    const char *nick;
    CK_OBJECT_CLASS value;
};

static const struct kind kinds[] = {
    { "public_key", CKO_PUBLIC_KEY }, { "private_key", CKO_PRIVATE_KEY },
    { "secret_key", CKO_SECRET_KEY }, { "certificate", CKO_CERTIFICATE },
    { "data", CKO_DATA },
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static unsigned char *field_of(P11KitUri *uri, const struct padded *field)
{
    switch (field->part) {
    case OF_TOKEN:
        return (unsigned char *)p11_kit_uri_get_token_info(uri) + field->offset;
    case OF_SLOT:
        return (unsigned char *)p11_kit_uri_get_slot_info(uri) + field->offset;
    default:
        return (unsigned char *)p11_kit_uri_get_module_info(uri) + field->offset;
    }
}

/* A PIN may have come in with the text: it does not stay in the heap. */
static void free_uri(void *held)
{
    const char *pin = p11_kit_uri_get_pin_value(held);

    if (pin)
        OPENSSL_cleanse((char *)(uintptr_t)pin, strlen(pin));
    p11_kit_uri_free(held);
}

static P11KitUri *new_uri(lua_State *L)
{
    struct kf_lua_keep *keep = kf_lua_keep(L, free_uri);

    keep->held = p11_kit_uri_new();
    if (!keep->held)
        luaL_error(L, "no memory for a URI");
    return keep->held;
}

/* -- Parsing ---------------------------------------------------------------------- */

static void push_padded(lua_State *L, P11KitUri *uri)
{
    for (size_t i = 0; i < PADDED; i++) {
        const unsigned char *text = field_of(uri, &padded[i]);
        size_t len = padded[i].size;

        if (text[0] == '\0')
            continue;
        while (len && text[len - 1] == ' ')
            len--;
        lua_pushlstring(L, (const char *)text, len);
        lua_setfield(L, -2, padded[i].key);
    }
}

static void push_attributes(lua_State *L, P11KitUri *uri)
{
    for (size_t i = 0; i < ATTRIBUTES; i++) {
        const CK_ATTRIBUTE *found = p11_kit_uri_get_attribute(uri, attributes[i].type);

        if (!found)
            continue;
        lua_pushlstring(L, found->pValue ? found->pValue : "", found->ulValueLen);
        lua_setfield(L, -2, attributes[i].key);
    }
}

static void push_type(lua_State *L, P11KitUri *uri)
{
    const CK_ATTRIBUTE *found = p11_kit_uri_get_attribute(uri, CKA_CLASS);
    CK_OBJECT_CLASS value;

    if (!found || found->ulValueLen != sizeof value)
        return;
    memcpy(&value, found->pValue, sizeof value);
    for (size_t i = 0; i < KINDS; i++) {
        if (kinds[i].value != value)
            continue;
        lua_pushstring(L, kinds[i].nick);
        lua_setfield(L, -2, "type");
    }
}

static void push_rest(lua_State *L, P11KitUri *uri)
{
    CK_SLOT_ID slot = p11_kit_uri_get_slot_id(uri);
    const char *name = p11_kit_uri_get_module_name(uri);
    const char *path = p11_kit_uri_get_module_path(uri);

    if (slot != (CK_SLOT_ID)-1) {
        lua_pushinteger(L, (lua_Integer)slot);
        lua_setfield(L, -2, "slot_id");
    }
    if (name) {
        lua_pushstring(L, name);
        lua_setfield(L, -2, "module_name");
    }
    if (path) {
        lua_pushstring(L, path);
        lua_setfield(L, -2, "module_path");
    }
}

/* What is in the URI must count; a part that we would ignore is refused. The text is
 * not repeated: it may hold a PIN. */
static kf_rv check_uri(P11KitUri *uri, int status, struct kf_error *err)
{
    if (status != P11_KIT_URI_OK)
        return kf_fail(err, KFR_ARGUMENT, NULL, "pkcs11:token=NAME;serial=NUMBER",
                       "not a PKCS#11 URI: %s", p11_kit_uri_message(status));
    if (p11_kit_uri_get_pin_value(uri) || p11_kit_uri_get_pin_source(uri))
        return kf_fail(err, KFR_ARGUMENT, NULL, "give the PIN by itself",
                       "a PKCS#11 URI with a PIN in it is refused");
    if (p11_kit_uri_any_unrecognized(uri))
        return kf_fail(err, KFR_ARGUMENT, NULL, NULL,
                       "the PKCS#11 URI has an attribute that is not known");
    return KFR_OK;
}

/***
What a PKCS#11 URI (RFC 7512) names. One with a pin-value, or with a part that would not count,
is refused.
@function uri_parse
@string text
@treturn[1] table token, serial, manufacturer, model, object, id, type, slot_id, module_name,
  module_path, as far as it names them
@treturn[2] nil
@treturn[2] err KFR_ARGUMENT
*/
static int uri_parse(lua_State *L)
{
    const char *text = kf_lua_check_text(L, 1);
    P11KitUri *uri = new_uri(L);
    struct kf_error err = { 0 };
    int status = p11_kit_uri_parse(text, P11_KIT_URI_FOR_ANY, uri);

    if (check_uri(uri, status, &err) != KFR_OK)
        return kf_lua_refuse(L, &err);
    lua_newtable(L);
    push_padded(L, uri);
    push_attributes(L, uri);
    push_type(L, uri);
    push_rest(L, uri);
    return 1;
}

/* -- Formatting ------------------------------------------------------------------- */

static void *no_memory(lua_State *L)
{
    luaL_error(L, "no memory for a URI");
    return NULL;
}

/* [-0, +1, v] The string in field key of the table at 1, NULL when there is none. */
static const char *take_field(lua_State *L, const char *key, size_t *len)
{
    if (lua_getfield(L, 1, key) == LUA_TNIL)
        return NULL;
    if (lua_type(L, -1) != LUA_TSTRING)
        luaL_error(L, "uri_format: field '%s' must be a string", key);
    return lua_tolstring(L, -1, len);
}

/* An empty text cannot be told from one that is not named, so it is left out. */
static void set_padded(lua_State *L, P11KitUri *uri)
{
    for (size_t i = 0; i < PADDED; i++) {
        size_t len;
        const char *text = take_field(L, padded[i].key, &len);

        if (text && len > padded[i].size)
            luaL_error(L, "uri_format: field '%s' is too long", padded[i].key);
        if (text && len) {
            memset(field_of(uri, &padded[i]), ' ', padded[i].size);
            memcpy(field_of(uri, &padded[i]), text, len);
        }
        lua_pop(L, 1);
    }
}

static void set_attribute(lua_State *L, P11KitUri *uri, CK_ATTRIBUTE_TYPE type,
                          const void *value, size_t len)
{
    CK_ATTRIBUTE attribute = { type, (void *)(uintptr_t)value, len };

    if (p11_kit_uri_set_attribute(uri, &attribute) != P11_KIT_URI_OK)
        no_memory(L);
}

static void set_attributes(lua_State *L, P11KitUri *uri)
{
    for (size_t i = 0; i < ATTRIBUTES; i++) {
        size_t len;
        const char *value = take_field(L, attributes[i].key, &len);

        if (value)
            set_attribute(L, uri, attributes[i].type, value, len);
        lua_pop(L, 1);
    }
}

/* A class that the RFC has no word for (domain parameters) is left out. */
static void set_type(lua_State *L, P11KitUri *uri)
{
    size_t len;
    const char *nick = take_field(L, "type", &len);

    for (size_t i = 0; nick && i < KINDS; i++)
        if (strcmp(kinds[i].nick, nick) == 0)
            set_attribute(L, uri, CKA_CLASS, &kinds[i].value, sizeof kinds[i].value);
    lua_pop(L, 1);
}

/* What tells tokens of the same names apart. */
static void set_place(lua_State *L, P11KitUri *uri)
{
    size_t len;
    const char *name;

    if (lua_getfield(L, 1, "slot_id") != LUA_TNIL)
        p11_kit_uri_set_slot_id(uri, (CK_SLOT_ID)luaL_checkinteger(L, -1));
    lua_pop(L, 1);
    name = take_field(L, "module_name", &len);
    if (name)
        p11_kit_uri_set_module_name(uri, name);
    lua_pop(L, 1);
}

static void check_keys(lua_State *L)
{
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
        bool known = strcmp(key, "type") == 0 || strcmp(key, "slot_id") == 0 ||
                     strcmp(key, "module_name") == 0;

        for (size_t i = 0; i < PADDED; i++)
            known = known || strcmp(key, padded[i].key) == 0;
        for (size_t i = 0; i < ATTRIBUTES; i++)
            known = known || strcmp(key, attributes[i].key) == 0;
        if (!known)
            luaL_error(L, "uri_format: no field '%s'", luaL_tolstring(L, -2, NULL));
    }
}

/***
The URI of a token, or of an object in it. Empty texts, and a class that the RFC has no word
for, are left out.
@function uri_format
@tparam table fields token, serial, manufacturer, model, object, id, type, slot_id, module_name
@treturn string
*/
static int uri_format(lua_State *L)
{
    P11KitUri *uri;
    struct kf_lua_keep *text;
    char *formatted = NULL;

    luaL_checktype(L, 1, LUA_TTABLE);
    check_keys(L);
    uri = new_uri(L);
    text = kf_lua_keep(L, free);
    set_padded(L, uri);
    set_attributes(L, uri);
    set_type(L, uri);
    set_place(L, uri);
    if (p11_kit_uri_format(uri, P11_KIT_URI_FOR_ANY, &formatted) != P11_KIT_URI_OK)
        no_memory(L);
    text->held = formatted;
    lua_pushstring(L, formatted);
    return 1;
}

static const luaL_Reg functions[] = {
    { "uri_parse", uri_parse },
    { "uri_format", uri_format },
    { NULL, NULL },
};

void kf_lua_open_uri(lua_State *L)
{
    luaL_setfuncs(L, functions, 0);
}
