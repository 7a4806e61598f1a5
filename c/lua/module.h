/* SPDX-License-Identifier: MIT
 * module: a PKCS#11 module as a Lua userdata.
 */
#ifndef KF_LUA_MODULE_H
#define KF_LUA_MODULE_H

#include "pkcs11/module.h"
#include "pkcs11/slot.h"

#include <lua.h>

/* Raises when the value is no module or is closed. */
struct kf_module *kf_lua_check_module(lua_State *L, int index);
/* A token's description as a table. [-0, +1, m] */
void kf_lua_push_token(lua_State *L, const struct kf_token *token);

#endif
