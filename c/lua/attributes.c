/* SPDX-License-Identifier: MIT */
#include "lua/attributes.h"

#include "base/names.h"
#include "lua/keep.h"
#include "lua/secret.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define UNAVAILABLE UINT64_MAX /* CK_UNAVAILABLE_INFORMATION as it travels */

/* The attributes whose number is a constant of another family. */
static const struct {
    uint64_t type;
    enum kf_family family;
} constants[] = {
    { CKA_CLASS, KF_CKO },           { CKA_KEY_TYPE, KF_CKK },
    { CKA_CERTIFICATE_TYPE, KF_CKC }, { CKA_KEY_GEN_MECHANISM, KF_CKM },
    { CKA_NAME_HASH_ALGORITHM, KF_CKM },
};

static bool family_of(uint64_t type, enum kf_family *family)
{
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
        if (constants[i].type != type)
            continue;
        *family = constants[i].family;
        return true;
    }
    return false;
}

static void push_constant(lua_State *L, enum kf_family family, uint64_t value)
{
    const struct kf_name *row = kf_name_of(family, value);
    char text[64];

    if (value == UNAVAILABLE)
        lua_pushliteral(L, "unavailable");
    else if (row)
        lua_pushstring(L, row->nick);
    else
        lua_pushstring(L, kf_name_text(family, value, text, sizeof text));
}

static uint64_t number_in(const unsigned char *bytes, size_t len)
{
    struct kf_reader reader = kf_reader_over(bytes, len);

    return kf_read_u64(&reader);
}

static void push_ulong(lua_State *L, const struct kf_attribute *attribute)
{
    uint64_t value = number_in(attribute->value, attribute->len);
    enum kf_family family;

    if (family_of(attribute->type, &family))
        push_constant(L, family, value);
    else
        lua_pushinteger(L, (lua_Integer)value);
}

static void push_mechanisms(lua_State *L, const struct kf_attribute *attribute)
{
    lua_createtable(L, (int)(attribute->len / 8), 0);
    for (size_t i = 0; i + 8 <= attribute->len; i += 8) {
        push_constant(L, KF_CKM, number_in(attribute->value + i, 8));
        lua_rawseti(L, -2, (lua_Integer)(i / 8 + 1));
    }
}

static void free_set(void *set)
{
    kf_attributes_free(set);
}

/* (attribute) -> table; a function of its own, since its keep ends with it. */
static int template_table(lua_State *L)
{
    const struct kf_attribute *attribute = lua_touserdata(L, 1);
    struct kf_lua_keep *keep = kf_lua_keep(L, free_set);
    struct kf_reader reader = kf_reader_over(attribute->value, attribute->len);

    keep->held = kf_attributes_read(&reader, KF_ROWS_MAX, false);
    if (keep->held)
        kf_lua_push_attributes(L, keep->held);
    else
        lua_newtable(L);
    return 1;
}

static void push_template(lua_State *L, const struct kf_attribute *attribute)
{
    lua_pushcfunction(L, template_table);
    lua_pushlightuserdata(L, (void *)(uintptr_t)attribute);
    lua_call(L, 1, 1);
}

void kf_lua_push_attribute(lua_State *L, const struct kf_attribute *attribute)
{
    switch (attribute->kind) {
    case KF_BOOL:
        lua_pushboolean(L, attribute->len == 1 && attribute->value[0] != 0);
        break;
    case KF_ULONG:
        push_ulong(L, attribute);
        break;
    case KF_MECHANISMS:
        push_mechanisms(L, attribute);
        break;
    case KF_TEMPLATE:
        push_template(L, attribute);
        break;
    case KF_BYTES:
    case KF_NO_KIND:
        lua_pushlstring(L, (const char *)attribute->value, attribute->len);
        break;
    }
}

void kf_lua_push_attributes(lua_State *L, const struct kf_attributes *set)
{
    char text[64];

    luaL_checkstack(L, 6, "attributes");
    lua_createtable(L, 0, (int)set->count);
    for (size_t i = 0; i < set->count; i++) {
        const struct kf_name *row = kf_name_of(KF_CKA, set->at[i].type);

        kf_lua_push_attribute(L, &set->at[i]);
        if (row)
            lua_setfield(L, -2, row->nick);
        else
            lua_setfield(L, -2,
                         kf_name_text(KF_CKA, set->at[i].type, text, sizeof text));
    }
}

/* A number, a name or a nick of that family, or "CKX_0x..."; false when it is none. */
static bool constant_at(lua_State *L, int index, enum kf_family family, uint64_t *value)
{
    const struct kf_name *row;
    const char *text;
    char *end;

    if (lua_isinteger(L, index)) {
        *value = (uint64_t)lua_tointeger(L, index);
        return true;
    }
    if (lua_type(L, index) != LUA_TSTRING)
        return false;
    text = lua_tostring(L, index);
    row = kf_name_find(family, text);
    if (row) {
        *value = row->value;
        return true;
    }
    if (strcmp(text, "unavailable") == 0) {
        *value = UNAVAILABLE;
        return true;
    }
    if (strlen(text) < 7 || strncmp(text + 3, "_0x", 3) != 0)
        return false;
    *value = strtoull(text + 4, &end, 16);
    return *end == '\0';
}

uint64_t kf_lua_check_attribute_type(lua_State *L, int index)
{
    uint64_t type = 0;

    if (!constant_at(L, index, KF_CKA, &type))
        luaL_error(L, "'%s' is not an attribute", luaL_tolstring(L, index, NULL));
    return type;
}

static void no_memory(lua_State *L, bool ok)
{
    if (!ok)
        luaL_error(L, "not enough memory");
}

static int bad_value(lua_State *L, uint64_t type, const char *wanted)
{
    char text[64];

    return luaL_error(L, "%s takes %s, not a %s",
                      kf_name_text(KF_CKA, type, text, sizeof text), wanted,
                      luaL_typename(L, -1));
}

static void set_number(lua_State *L, struct kf_attributes *set, uint64_t type)
{
    enum kf_family family;
    uint64_t value = 0;

    if (family_of(type, &family)) {
        if (!constant_at(L, -1, family, &value))
            bad_value(L, type, "the name of a constant or a number");
    } else {
        if (!lua_isinteger(L, -1))
            bad_value(L, type, "an integer");
        value = (uint64_t)lua_tointeger(L, -1);
    }
    no_memory(L, kf_attributes_set_ulong(set, type, value));
}

static void set_bytes(lua_State *L, struct kf_attributes *set, uint64_t type)
{
    const struct kf_secret *secret;
    size_t len = 0;
    const char *bytes;

    if (luaL_testudata(L, -1, KF_LUA_SECRET)) {
        secret = kf_lua_check_secret(L, -1);
        no_memory(L, kf_attributes_set(set, type, KF_BYTES, secret->data, secret->len));
        return;
    }
    if (lua_type(L, -1) != LUA_TSTRING)
        bad_value(L, type, "a string or a secret");
    bytes = lua_tolstring(L, -1, &len);
    no_memory(L, kf_attributes_set(set, type, KF_BYTES, bytes, len));
}

/* The encoded bytes lie in a userdata, so that an error on the way leaks nothing. */
static void set_mechanisms(lua_State *L, struct kf_attributes *set, uint64_t type)
{
    lua_Unsigned count;
    unsigned char *bytes;

    if (!lua_istable(L, -1))
        bad_value(L, type, "an array of mechanisms");
    count = lua_rawlen(L, -1);
    luaL_argcheck(L, count <= 1024, -1, "too many mechanisms");
    bytes = lua_newuserdatauv(L, (size_t)count * 8 + 1, 0);
    for (lua_Unsigned i = 0; i < count; i++) {
        uint64_t value = 0;

        lua_rawgeti(L, -2, (lua_Integer)i + 1);
        if (!constant_at(L, -1, KF_CKM, &value))
            bad_value(L, type, "an array of mechanisms");
        lua_pop(L, 1);
        for (size_t b = 0; b < 8; b++)
            bytes[i * 8 + b] = (unsigned char)(value >> (56 - 8 * b));
    }
    no_memory(L, kf_attributes_set(set, type, KF_MECHANISMS, bytes, (size_t)count * 8));
    lua_pop(L, 1);
}

/* (table, set, type); a function of its own, since Lua bounds how deep those nest. */
static int template_of_table(lua_State *L)
{
    struct kf_attributes *set = lua_touserdata(L, 2);
    uint64_t type = (uint64_t)lua_tointeger(L, 3);
    struct kf_attributes *inner = kf_lua_check_attributes(L, 1, NULL);
    struct kf_writer writer = { 0 };
    bool ok;

    kf_attributes_write(&writer, inner);
    ok = !writer.bad && kf_attributes_set(set, type, KF_TEMPLATE, writer.data, writer.len);
    kf_writer_clear(&writer);
    no_memory(L, ok);
    return 0;
}

static void set_template(lua_State *L, struct kf_attributes *set, uint64_t type)
{
    if (!lua_istable(L, -1))
        bad_value(L, type, "a table of attributes");
    lua_pushcfunction(L, template_of_table);
    lua_pushvalue(L, -2);
    lua_pushlightuserdata(L, set);
    lua_pushinteger(L, (lua_Integer)type);
    lua_call(L, 3, 0);
}

/* The value on the top of the stack as attribute `type`. [-0, +0, v] */
static void set_value(lua_State *L, struct kf_attributes *set, uint64_t type)
{
    luaL_checkstack(L, 8, "attributes");
    switch (kf_kind_of(type)) {
    case KF_BOOL:
        if (!lua_isboolean(L, -1))
            bad_value(L, type, "true or false");
        no_memory(L, kf_attributes_set_bool(set, type, lua_toboolean(L, -1)));
        break;
    case KF_ULONG:
        set_number(L, set, type);
        break;
    case KF_MECHANISMS:
        set_mechanisms(L, set, type);
        break;
    case KF_TEMPLATE:
        set_template(L, set, type);
        break;
    case KF_BYTES:
    case KF_NO_KIND:
        set_bytes(L, set, type);
        break;
    }
}

/* Which of two would count is chance: a table has no order. */
static void set_once(lua_State *L, struct kf_attributes *set, uint64_t type)
{
    char text[64];

    if (kf_attributes_get(set, type))
        luaL_error(L, "%s is given twice, by two of its names",
                   kf_name_text(KF_CKA, type, text, sizeof text));
    set_value(L, set, type);
}

static bool is_excepted(lua_State *L, int index, const char *const *except)
{
    if (lua_type(L, index) != LUA_TSTRING)
        return false;
    for (; except && *except; except++) {
        if (strcmp(lua_tostring(L, index), *except) == 0)
            return true;
    }
    return false;
}

struct kf_attributes *kf_lua_check_attributes(lua_State *L, int index,
                                              const char *const *except)
{
    struct kf_lua_keep *keep;

    index = lua_absindex(L, index);
    luaL_checktype(L, index, LUA_TTABLE);
    luaL_checkstack(L, 8, "attributes");
    keep = kf_lua_keep(L, free_set);
    keep->held = kf_attributes_new(true);
    no_memory(L, keep->held != NULL);
    lua_pushnil(L);
    while (lua_next(L, index)) {
        if (!is_excepted(L, -2, except))
            set_once(L, keep->held, kf_lua_check_attribute_type(L, -2));
        lua_pop(L, 1);
    }
    return keep->held;
}
