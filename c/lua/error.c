/* SPDX-License-Identifier: MIT */
#include "lua/error.h"
#include "lua/door.h"

#include "base/names.h"

#include <lauxlib.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Refusals of our own whose sentence says everything. */
static const kf_rv sentence_enough[] = {
    KFR_INTERRUPTED, KFR_ARGUMENT, KFR_REFUSED, KFR_NOT_FOUND, KFR_AMBIGUOUS, KFR_EXISTS,
    KFR_SHARE,
};

static void set_text(lua_State *L, const char *key, const char *text)
{
    if (!text[0])
        return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, key);
}

static void set_integer(lua_State *L, const char *key, lua_Integer value)
{
    lua_pushinteger(L, value);
    lua_setfield(L, -2, key);
}

void kf_lua_error(lua_State *L, const struct kf_error *err)
{
    char code[64];

    lua_createtable(L, 0, 6);
    kf_name_text(KF_CKR, err->rv, code, sizeof code);
    set_text(L, "code", code);
    set_integer(L, "rv", (lua_Integer)err->rv);
    set_text(L, "call", err->call);
    set_text(L, "what", err->what);
    set_text(L, "hint", err->hint);
    if (err->sys)
        set_integer(L, "sys", err->sys);
    luaL_setmetatable(L, KF_LUA_ERROR);
}

void kf_lua_errors(lua_State *L, const struct kf_error *list, size_t count)
{
    lua_newtable(L);
    for (size_t i = 0; i < count; i++) {
        kf_lua_error(L, &list[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

int kf_lua_refuse(lua_State *L, const struct kf_error *err)
{
    lua_pushnil(L);
    kf_lua_error(L, err);
    return 2;
}

int kf_lua_done(lua_State *L, kf_rv rv, const struct kf_error *err)
{
    if (rv != KFR_OK)
        return kf_lua_refuse(L, err);
    lua_pushboolean(L, true);
    return 1;
}

struct field {
    const char *name;
    int type;
    bool required;
};

static const struct field fields[] = {
    { "code", LUA_TSTRING, true },  { "what", LUA_TSTRING, true },
    { "hint", LUA_TSTRING, false }, { "call", LUA_TSTRING, false },
    { "sys", LUA_TNUMBER, false },
};

static const struct field *field_named(const char *name)
{
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (strcmp(fields[i].name, name) == 0)
            return &fields[i];
    return NULL;
}

/* A misspelt key must not vanish silently. */
static void check_keys(lua_State *L)
{
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING || !field_named(lua_tostring(L, -2)))
            luaL_error(L, "an error has no field '%s'", luaL_tolstring(L, -2, NULL));
    }
}

/***
What a refusal is told by. tostring gives one line, `WHAT: CODE (NUMBER), in CALL`, or only
WHAT when that says everything; `"text" .. err` works, too.
@table err
@tfield string code "CKR_PIN_INCORRECT" (PKCS#11), "KFR_NOT_FOUND" (ours)
@tfield[opt] int rv the code's number; nil for a code that has none
@tfield[opt] string call which call answered so: "C_Login", "rename"
@tfield string what what failed, on which object, token or file
@tfield[opt] string hint what to do
@tfield[opt] int sys errno of a system call (KFR_SYSTEM)
@usage
local wrong, err = partition:login(keyferry.secret("not the password"))
print(wrong, err.code, err.call)  --> nil	CKR_PIN_INCORRECT	C_Login
*/

/***
An error of one's own, to be returned as a refusal (`nil, err`) or raised.
@function error
@tparam table fields `code` and `what`, and `hint`, `call`, `sys` when there are such; another
  name raises. `rv` comes of itself for a code that has a number.
@treturn err
@usage
local err = keyferry.error{ code = "KFR_REFUSED", what = "the day for it is Sunday" }
print(err)                        --> the day for it is Sunday
*/
static int error_new(lua_State *L)
{
    const struct kf_name *name;

    luaL_checktype(L, 1, LUA_TTABLE);
    check_keys(L);
    lua_createtable(L, 0, 6);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        int type = lua_getfield(L, 1, fields[i].name);

        if (type != fields[i].type && (type != LUA_TNIL || fields[i].required))
            return luaL_error(L, "error: field '%s' must be a %s", fields[i].name,
                              lua_typename(L, fields[i].type));
        lua_setfield(L, -2, fields[i].name);
    }
    lua_getfield(L, -1, "code");
    name = kf_name_find(KF_CKR, lua_tostring(L, -1));
    lua_pop(L, 1);
    if (name)
        set_integer(L, "rv", (lua_Integer)name->value);
    luaL_setmetatable(L, KF_LUA_ERROR);
    return 1;
}

static bool needs_code(lua_Integer rv)
{
    return !KF_AMONG((kf_rv)rv, sentence_enough);
}

/* [-0, +1, m] A field as text; what a script may have put there instead gives "". */
static const char *text_field(lua_State *L, const char *key)
{
    if (lua_getfield(L, 1, key) != LUA_TSTRING) {
        lua_pop(L, 1);
        lua_pushliteral(L, "");
    }
    return lua_tostring(L, -1);
}

/* Our own codes: there is no page on which their numbers could be looked up. */
static bool is_own(lua_Integer rv)
{
    return ((kf_rv)rv & ~0xFFFFUL) == (KFR_DAMAGED & ~0xFFFFUL);
}

/* WHAT: CKR_PIN_INCORRECT (0xA0), in C_Login. Without a number there is nothing that
 * could be looked up, and the sentence is enough, too. */
static int error_tostring(lua_State *L)
{
    const char *what, *code, *call;
    char number[24] = "";
    lua_Integer rv;

    luaL_checktype(L, 1, LUA_TTABLE);
    what = text_field(L, "what");
    code = text_field(L, "code");
    call = text_field(L, "call");
    if (lua_getfield(L, 1, "rv") != LUA_TNUMBER || !code[0] ||
        !needs_code(rv = lua_tointeger(L, -1))) {
        lua_pushstring(L, what);
        return 1;
    }
    if (!is_own(rv))
        snprintf(number, sizeof number, " (0x%llX)", (unsigned long long)rv);
    lua_pushfstring(L, "%s: %s%s%s%s", what, code, number, call[0] ? ", in " : "", call);
    return 1;
}

/* "hsm payroll: " .. err, as scripts are tempted to write. */
static int error_concat(lua_State *L)
{
    luaL_tolstring(L, 1, NULL);
    luaL_tolstring(L, 2, NULL);
    lua_concat(L, 2);
    return 1;
}

static const luaL_Reg meta[] = {
    { "__tostring", error_tostring },
    { "__concat", error_concat },
    { NULL, NULL },
};

static const luaL_Reg functions[] = {
    { "error", error_new },
    { NULL, NULL },
};

void kf_lua_open_error(lua_State *L)
{
    luaL_newmetatable(L, KF_LUA_ERROR);
    luaL_setfuncs(L, meta, 0);
    lua_pop(L, 1);
    luaL_setfuncs(L, functions, 0);
}
