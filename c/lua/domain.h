/* SPDX-License-Identifier: MIT
 * domain: a cloning domain as a Lua userdata.
 */
#ifndef KF_LUA_DOMAIN_H
#define KF_LUA_DOMAIN_H

#include "clone/domain.h"

#include <lua.h>

/* Raises when the value is no domain, or is closed. */
struct kf_domain *kf_lua_check_domain(lua_State *L, int index);
/* A closed domain, pushed: assign the domain that it is to own. [-0, +1, m] */
struct kf_domain **kf_lua_new_domain_box(lua_State *L);

#endif
