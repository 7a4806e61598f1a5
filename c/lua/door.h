/* SPDX-License-Identifier: MIT
 * door: what the Lua module keyferry.core is put together from.
 *
 * Each file of this floor has one opener, which adds its functions to the table on top
 * of the stack and makes the metatables of its userdata. [-0, +0, m]
 */
#ifndef KF_LUA_DOOR_H
#define KF_LUA_DOOR_H

#include <lua.h>
#include <stddef.h>

void kf_lua_open_error(lua_State *L);
void kf_lua_open_keep(lua_State *L);
void kf_lua_open_secret(lua_State *L);
void kf_lua_open_share(lua_State *L);
void kf_lua_open_terminal(lua_State *L);
void kf_lua_open_file(lua_State *L);
void kf_lua_open_uri(lua_State *L);
void kf_lua_open_names(lua_State *L);
void kf_lua_open_interrupt(lua_State *L);
void kf_lua_open_module(lua_State *L);
void kf_lua_open_session(lua_State *L);
void kf_lua_open_object(lua_State *L);
void kf_lua_open_domain(lua_State *L);
void kf_lua_open_sealed(lua_State *L);
void kf_lua_open_endpoint(lua_State *L);
void kf_lua_open_stream(lua_State *L);
void kf_lua_open_softhsm(lua_State *L);

/* [-0, +0, v] A string without NUL bytes at idx (C would cut it there); raises. */
const char *kf_lua_check_text(lua_State *L, int idx);

/* [-0, +1, m] A label as part of one line: what would break the line becomes \xNN; a long
 * one is cut, but not within a character. */
void kf_lua_push_label(lua_State *L, const unsigned char *label, size_t len);

/* [-0, +1, m] Bytes as lower-case hex digits; 64 bytes at most. */
void kf_lua_push_hex(lua_State *L, const unsigned char *bytes, size_t len);

/* The one visible symbol. */
int luaopen_keyferry_core(lua_State *L);

#endif
