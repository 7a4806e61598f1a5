/* SPDX-License-Identifier: MIT */
#include "lua/door.h"

#include <lauxlib.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static void (*const openers[])(lua_State *L) = {
    kf_lua_open_error,
    kf_lua_open_keep,
    kf_lua_open_secret,
    kf_lua_open_share,
    kf_lua_open_terminal,
    kf_lua_open_file,
    kf_lua_open_uri,
    kf_lua_open_names,
    kf_lua_open_interrupt,
    kf_lua_open_module,
    kf_lua_open_session,
    kf_lua_open_object,
    kf_lua_open_domain,
    kf_lua_open_endpoint,
    kf_lua_open_sealed,
    kf_lua_open_stream,
    kf_lua_open_softhsm,
};

const char *kf_lua_check_text(lua_State *L, int idx)
{
    size_t len;
    const char *text = luaL_checklstring(L, idx, &len);

    luaL_argcheck(L, strlen(text) == len, idx, "a NUL byte inside");
    return text;
}

enum { LABEL_SHOWN = 80, HEX_BYTES = 64 };

void kf_lua_push_hex(lua_State *L, const unsigned char *bytes, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    char text[2 * HEX_BYTES];

    len = len < HEX_BYTES ? len : HEX_BYTES;
    for (size_t i = 0; i < len; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    lua_pushlstring(L, text, 2 * len);
}

void kf_lua_push_label(lua_State *L, const unsigned char *label, size_t len)
{
    size_t shown = len > LABEL_SHOWN ? LABEL_SHOWN : len;
    luaL_Buffer buffer;

    while (shown < len && shown > 0 && (label[shown] & 0xC0) == 0x80)
        shown--;
    luaL_buffinit(L, &buffer);
    for (size_t i = 0; i < shown; i++) {
        if (label[i] >= 0x20 && label[i] != 0x7F) {
            luaL_addchar(&buffer, (char)label[i]);
            continue;
        }
        snprintf(luaL_prepbuffsize(&buffer, 5), 5, "\\x%02X", label[i]);
        luaL_addsize(&buffer, 4);
    }
    if (shown < len)
        luaL_addstring(&buffer, "...");
    luaL_pushresult(&buffer);
}

__attribute__((visibility("default"))) int luaopen_keyferry_core(lua_State *L)
{
    luaL_checkversion(L);
    lua_newtable(L);
    lua_pushliteral(L, KEYFERRY_VERSION);
    lua_setfield(L, -2, "version");
    for (size_t i = 0; i < sizeof openers / sizeof *openers; i++)
        openers[i](L);
    return 1;
}
