/* SPDX-License-Identifier: MIT
 * attributes: attribute sets as Lua tables, and back.
 *
 * Keys are nicks ("label", "key_type"), names ("CKA_LABEL", "CKA_0x80001234") or numbers.
 * Values: booleans, integers, strings of bytes; classes, key types and mechanisms by nick
 * ("private_key", "rsa"); mechanism sets as arrays; templates as tables.
 */
#ifndef KF_LUA_ATTRIBUTES_H
#define KF_LUA_ATTRIBUTES_H

#include "pkcs11/attribute.h"

#include <lua.h>

/* [-0, +1, m] */
void kf_lua_push_attributes(lua_State *L, const struct kf_attributes *set);
/* The value of one attribute. [-0, +1, m] */
void kf_lua_push_attribute(lua_State *L, const struct kf_attribute *attribute);

/* The table at index as a set, with a keep (keep.h) pushed onto the stack that frees it: the
 * set is good as long as that is there. Raises on a key or value that is none; a field named
 * `except` (may be NULL) is passed over. [-0, +1, v] */
struct kf_attributes *kf_lua_check_attributes(lua_State *L, int index,
                                              const char *const *except);

/* The type that a key of such a table names; raises when there is none. */
uint64_t kf_lua_check_attribute_type(lua_State *L, int index);

#endif
