/* SPDX-License-Identifier: MIT */
#include "lua/module.h"

#include "base/names.h"
#include "lua/door.h"
#include "lua/error.h"
#include "lua/keep.h"
#include "lua/secret.h"
#include "lua/session.h"
#include "pkcs11/quirk.h"

#include <lauxlib.h>
#include <stdlib.h>

#define MODULE "keyferry.module"

enum { ENV_MAX = 32 };

struct box {
    struct kf_module *module; /* NULL: closed */
};

struct kf_module *kf_lua_check_module(lua_State *L, int index)
{
    struct box *box = luaL_checkudata(L, index, MODULE);

    if (!box->module)
        luaL_argerror(L, index, "the module is closed");
    return box->module;
}

/* env = { NAME = "value" | false } at index into settings; gives the number. The strings
 * stay alive in the table. */
static size_t check_env(lua_State *L, int index, struct kf_setting settings[ENV_MAX])
{
    size_t count = 0;

    if (lua_isnoneornil(L, index))
        return 0;
    luaL_checktype(L, index, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, index)) {
        if (lua_type(L, -2) != LUA_TSTRING || count == ENV_MAX)
            luaL_error(L, "env takes at most %d names with strings or false", ENV_MAX);
        settings[count].name = lua_tostring(L, -2);
        settings[count].value = NULL;
        if (lua_type(L, -1) == LUA_TSTRING)
            settings[count].value = lua_tostring(L, -1);
        else if (lua_toboolean(L, -1))
            luaL_error(L, "env.%s is neither a string nor false", settings[count].name);
        count++;
        lua_pop(L, 1);
    }
    return count;
}

/***
Loads a PKCS#11 module and initialises it (C_Initialize, PKCS#11 v2.40 section 5.4).
@function module
@string path the library
@tparam[opt] table options `private_copy` (boolean: load a copy of the image, so that a
  singleton can be there several times), `env` (names to strings, or false to unset, while
  it initialises), `init_args` (string, pReserved of C_Initialize), `functions` (the symbol
  that gives its function list, when that is not C_GetFunctionList or C_GetInterface)
@treturn[1] module
@treturn[2] nil
@treturn[2] err KFR_NOT_FOUND, KFR_MODULE, or what C_Initialize answered
*/
static int open_module(lua_State *L)
{
    const char *path = kf_lua_check_text(L, 1);
    struct kf_setting env[ENV_MAX];
    struct kf_module_options options = { .env = env };
    struct kf_error err = { 0 };
    struct box *box;

    lua_settop(L, 2);
    if (!lua_isnil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        lua_getfield(L, 2, "private_copy");
        options.private_copy = lua_toboolean(L, -1);
        lua_getfield(L, 2, "init_args");
        options.init_args = luaL_optstring(L, -1, NULL);
        lua_getfield(L, 2, "functions");
        options.functions = luaL_optstring(L, -1, NULL);
        lua_getfield(L, 2, "env");
        options.env_count = check_env(L, lua_gettop(L), env);
    }
    box = lua_newuserdatauv(L, sizeof *box, 0);
    box->module = NULL;
    luaL_setmetatable(L, MODULE);
    if (kf_module_open(path, &options, &box->module, &err))
        return kf_lua_refuse(L, &err);
    return 1;
}

/***
Closes every session with it, and finalises and unloads it (C_Finalize, section 5.4).
@function module:close
*/
static int module_close(lua_State *L)
{
    struct box *box = luaL_checkudata(L, 1, MODULE);

    if (box->module) {
        kf_module_close(box->module);
        kf_module_unref(box->module);
        box->module = NULL;
    }
    return 0;
}

static int module_tostring(lua_State *L)
{
    struct box *box = luaL_checkudata(L, 1, MODULE);

    if (box->module)
        lua_pushfstring(L, "module %s", kf_module_path(box->module));
    else
        lua_pushliteral(L, "module (closed)");
    return 1;
}

static void set_padded(lua_State *L, const char *name, const unsigned char *text, size_t size)
{
    while (size > 0 && (text[size - 1] == ' ' || text[size - 1] == '\0'))
        size--;
    lua_pushlstring(L, (const char *)text, size);
    lua_setfield(L, -2, name);
}

static void set_version(lua_State *L, const char *name, CK_VERSION version)
{
    lua_pushfstring(L, "%d.%d", (int)version.major, (int)version.minor);
    lua_setfield(L, -2, name);
}

/***
What the module says of itself (CK_INFO).
@function module:info
@treturn table path, manufacturer, description, cryptoki_version, library_version
@usage
local module = assert(hsm:module())
print(module:info().description)  --> Implementation of PKCS11
for _, mechanism in ipairs(assert(module:mechanisms(partition.slot))) do
    if mechanism.nick == "aes_key_gen" then
        print(mechanism.name, mechanism.min, mechanism.max)  --> CKM_AES_KEY_GEN	16	32
    end
end
*/
static int module_info(lua_State *L)
{
    const struct kf_module *module = kf_lua_check_module(L, 1);
    const CK_INFO *info = kf_module_info(module);

    lua_newtable(L);
    lua_pushstring(L, kf_module_path(module));
    lua_setfield(L, -2, "path");
    set_padded(L, "manufacturer", info->manufacturerID, sizeof info->manufacturerID);
    set_padded(L, "description", info->libraryDescription,
               sizeof info->libraryDescription);
    set_version(L, "cryptoki_version", info->cryptokiVersion);
    set_version(L, "library_version", info->libraryVersion);
    return 1;
}

/***
Whether the module has a function of PKCS#11, by its name. One that is there may still answer
CKR_FUNCTION_NOT_SUPPORTED.
@function module:has
@string function "C_WrapKey"
@treturn boolean
*/
static int module_has(lua_State *L)
{
    const struct kf_module *module = kf_lua_check_module(L, 1);

    lua_pushboolean(L, kf_module_has(module, kf_lua_check_text(L, 2)));
    return 1;
}

/***
What this module is known to do otherwise than PKCS#11 says, beyond what keyferry finds out
by itself.
@function module:quirks
@treturn table array of tables: `name`, and the `reason` in a sentence. Names:
  `needs_public_value`, `same_id_overwrites`, `keys_private`, `no_token_data`, `so_pin_empty`,
  `label_fixed`, `serial_shared`, `not_finalized`
*/
static int module_quirks(lua_State *L)
{
    const struct kf_module *module = kf_lua_check_module(L, 1);
    const struct kf_quirk_row *row;
    size_t at = 0;

    lua_newtable(L);
    for (lua_Integer i = 1; (row = kf_quirk_next(module, &at)); i++) {
        lua_newtable(L);
        lua_pushstring(L, row->name);
        lua_setfield(L, -2, "name");
        lua_pushstring(L, row->reason);
        lua_setfield(L, -2, "reason");
        lua_rawseti(L, -2, i);
    }
    return 1;
}

static const struct {
    const char *name;
    CK_FLAGS flag;
} token_flags[] = {
    { "initialized", CKF_TOKEN_INITIALIZED },
    { "user_pin_initialized", CKF_USER_PIN_INITIALIZED },
    { "login_required", CKF_LOGIN_REQUIRED },
    { "protected_path", CKF_PROTECTED_AUTHENTICATION_PATH },
    { "write_protected", CKF_WRITE_PROTECTED },
    { "user_pin_count_low", CKF_USER_PIN_COUNT_LOW },
    { "user_pin_final_try", CKF_USER_PIN_FINAL_TRY },
    { "user_pin_locked", CKF_USER_PIN_LOCKED },
    { "so_pin_count_low", CKF_SO_PIN_COUNT_LOW },
    { "so_pin_final_try", CKF_SO_PIN_FINAL_TRY },
    { "so_pin_locked", CKF_SO_PIN_LOCKED },
};

static void set_figure(lua_State *L, const char *name, unsigned long value)
{
    if (value == CK_UNAVAILABLE_INFORMATION)
        return;
    lua_pushinteger(L, (lua_Integer)value);
    lua_setfield(L, -2, name);
}

static void set_text(lua_State *L, const char *name, const char *value)
{
    lua_pushstring(L, value);
    lua_setfield(L, -2, name);
}

/***
A slot and the token in it (CK_SLOT_INFO and CK_TOKEN_INFO, section 3.2), as module:slots(),
session:token() and partition.token have it.
@table token
@tfield int slot the slot's number; SoftHSM may give a token another one at the next start
@tfield string description of the slot
@tfield boolean present whether there is a token in it
@tfield string label without the blanks at its end
@tfield string serial
@tfield string manufacturer
@tfield string model
@tfield boolean initialized
@tfield boolean user_pin_initialized the Crypto Officer has a PIN
@tfield boolean login_required
@tfield boolean protected_path the PIN is typed at the token (a PED), never given by a program
@tfield boolean write_protected
@tfield boolean user_pin_count_low a wrong PIN came since the last right one
@tfield boolean user_pin_final_try one more wrong PIN locks it
@tfield boolean user_pin_locked
@tfield boolean so_pin_count_low the same of the security officer's PIN
@tfield boolean so_pin_final_try
@tfield boolean so_pin_locked
@tfield int min_pin bytes of the shortest PIN
@tfield int max_pin bytes of the longest PIN
@tfield[opt] int free_private bytes left for private objects; nil when the token does not say
@tfield[opt] int total_private
@tfield[opt] int free_public
@tfield[opt] int total_public
*/
void kf_lua_push_token(lua_State *L, const struct kf_token *token)
{
    lua_newtable(L);
    lua_pushinteger(L, (lua_Integer)token->slot);
    lua_setfield(L, -2, "slot");
    set_text(L, "description", token->slot_description);
    lua_pushboolean(L, token->present);
    lua_setfield(L, -2, "present");
    set_text(L, "label", token->label);
    set_text(L, "serial", token->serial);
    set_text(L, "manufacturer", token->manufacturer);
    set_text(L, "model", token->model);
    for (size_t i = 0; i < sizeof token_flags / sizeof *token_flags; i++) {
        lua_pushboolean(L, (token->flags & token_flags[i].flag) != 0);
        lua_setfield(L, -2, token_flags[i].name);
    }
    lua_pushinteger(L, (lua_Integer)token->min_pin);
    lua_setfield(L, -2, "min_pin");
    lua_pushinteger(L, (lua_Integer)token->max_pin);
    lua_setfield(L, -2, "max_pin");
    set_figure(L, "free_private", token->free_private);
    set_figure(L, "total_private", token->total_private);
    set_figure(L, "free_public", token->free_public);
    set_figure(L, "total_public", token->total_public);
}

/***
All slots, also those without a token (`present` is false then).
@function module:slots
@treturn[1] table array of [token](#a-token) tables
@treturn[2] nil
@treturn[2] err
*/
static int module_slots(lua_State *L)
{
    struct kf_module *module = kf_lua_check_module(L, 1);
    struct kf_lua_keep *keep = kf_lua_keep(L, free);
    struct kf_error err = { 0 };
    struct kf_token *tokens = NULL;
    size_t count = 0;

    if (kf_slots(module, &tokens, &count, &err))
        return kf_lua_refuse(L, &err);
    keep->held = tokens;
    lua_newtable(L);
    for (size_t i = 0; i < count; i++) {
        kf_lua_push_token(L, &tokens[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

static const struct {
    const char *name;
    CK_FLAGS flag;
} mechanism_flags[] = {
    { "hw", CKF_HW },           { "encrypt", CKF_ENCRYPT },   { "decrypt", CKF_DECRYPT },
    { "digest", CKF_DIGEST },   { "sign", CKF_SIGN },         { "verify", CKF_VERIFY },
    { "generate", CKF_GENERATE }, { "generate_key_pair", CKF_GENERATE_KEY_PAIR },
    { "wrap", CKF_WRAP },       { "unwrap", CKF_UNWRAP },     { "derive", CKF_DERIVE },
};

static void push_mechanism(lua_State *L, CK_MECHANISM_TYPE type, const CK_MECHANISM_INFO *info)
{
    const struct kf_name *row = kf_name_of(KF_CKM, type);
    char text[64];

    lua_newtable(L);
    lua_pushinteger(L, (lua_Integer)type);
    lua_setfield(L, -2, "value");
    kf_name_text(KF_CKM, type, text, sizeof text);
    set_text(L, "name", text);
    set_text(L, "nick", row ? row->nick : text);
    lua_pushinteger(L, (lua_Integer)info->ulMinKeySize);
    lua_setfield(L, -2, "min");
    lua_pushinteger(L, (lua_Integer)info->ulMaxKeySize);
    lua_setfield(L, -2, "max");
    for (size_t i = 0; i < sizeof mechanism_flags / sizeof *mechanism_flags; i++) {
        lua_pushboolean(L, (info->flags & mechanism_flags[i].flag) != 0);
        lua_setfield(L, -2, mechanism_flags[i].name);
    }
}

/***
The mechanisms of a slot.
@function module:mechanisms
@int slot
@treturn[1] table array of tables: value, name ("CKM_AES_ECB"), nick, min, max (key sizes in
  the mechanism's own unit), and a boolean a flag (sign, wrap, ...)
@treturn[2] nil
@treturn[2] err
*/
static int module_mechanisms(lua_State *L)
{
    struct kf_module *module = kf_lua_check_module(L, 1);
    CK_SLOT_ID slot = (CK_SLOT_ID)luaL_checkinteger(L, 2);
    struct kf_lua_keep *keep = kf_lua_keep(L, free);
    struct kf_error err = { 0 };
    CK_MECHANISM_TYPE *types = NULL;
    size_t count = 0;

    if (kf_slot_mechanisms(module, slot, &types, &count, &err))
        return kf_lua_refuse(L, &err);
    keep->held = types;
    lua_newtable(L);
    for (size_t i = 0; i < count; i++) {
        CK_MECHANISM_INFO info = { 0 };

        if (kf_slot_mechanism(module, slot, types[i], &info, &err))
            return kf_lua_refuse(L, &err);
        push_mechanism(L, types[i], &info);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

/***
Initialises the token in a slot (C_InitToken, section 5.5): what is in it is erased.
@function module:init_token
@int slot
@tparam ?secret so_pin nil: by the protected authentication path
@string label at most 32 bytes of UTF-8
@treturn[1] true
@treturn[2] nil
@treturn[2] err
*/
static int module_init_token(lua_State *L)
{
    struct kf_module *module = kf_lua_check_module(L, 1);
    CK_SLOT_ID slot = (CK_SLOT_ID)luaL_checkinteger(L, 2);
    const struct kf_secret *so_pin = kf_lua_opt_secret(L, 3);
    const char *label = kf_lua_check_text(L, 4);
    struct kf_error err = { 0 };

    if (kf_slot_init_token(module, slot, so_pin, label, &err))
        return kf_lua_refuse(L, &err);
    lua_pushboolean(L, 1);
    return 1;
}

static int check_pin(lua_State *L,
                     kf_rv (*check)(const struct kf_token *, const struct kf_secret *,
                                    const char *, struct kf_error *))
{
    struct kf_module *module = kf_lua_check_module(L, 1);
    CK_SLOT_ID slot = (CK_SLOT_ID)luaL_checkinteger(L, 2);
    const struct kf_secret *pin = kf_lua_opt_secret(L, 3);
    const char *whose = kf_lua_check_text(L, 4);
    struct kf_token token;
    struct kf_error err = { 0 };
    kf_rv rv = kf_slot_token(module, slot, &token, &err);

    if (!rv)
        rv = check(&token, pin, whose, &err);
    return kf_lua_done(L, rv, &err);
}

/***
Whether a PIN is within the limits of the token in a slot. Nobody logs in.
@function module:check_pin
@int slot
@tparam ?secret pin nil (the protected authentication path) is fine
@string whose "security officer" or "user"
@treturn[1] true
@treturn[2] nil
@treturn[2] err KFR_ARGUMENT
*/
static int module_check_pin(lua_State *L)
{
    return check_pin(L, kf_token_check_pin);
}

/***
Whether a PIN is one that the token in a slot would take as a new one.
@function module:check_new_pin
@int slot
@tparam ?secret pin nil (the protected authentication path) is fine
@string whose "security officer" or "user"
@treturn[1] true
@treturn[2] nil
@treturn[2] err KFR_ARGUMENT
*/
static int module_check_new_pin(lua_State *L)
{
    return check_pin(L, kf_token_check_new_pin);
}

static const luaL_Reg methods[] = {
    { "info", module_info },
    { "slots", module_slots },
    { "mechanisms", module_mechanisms },
    { "has", module_has },
    { "quirks", module_quirks },
    { "check_pin", module_check_pin },
    { "check_new_pin", module_check_new_pin },
    { "init_token", module_init_token },
    { "session", kf_lua_new_session },
    { "close", module_close },
    { NULL, NULL },
};

static const luaL_Reg metamethods[] = {
    { "__tostring", module_tostring },
    { "__gc", module_close },
    { "__close", module_close },
    { NULL, NULL },
};

void kf_lua_open_module(lua_State *L)
{
    luaL_newmetatable(L, MODULE);
    luaL_setfuncs(L, metamethods, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushcfunction(L, open_module);
    lua_setfield(L, -2, "module");
}
