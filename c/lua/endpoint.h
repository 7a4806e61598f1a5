/* SPDX-License-Identifier: MIT
 * endpoint: one end of a clone (clone/engine.h) as a Lua userdata; `end` is a word of Lua.
 */
#ifndef KF_LUA_ENDPOINT_H
#define KF_LUA_ENDPOINT_H

#include "clone/engine.h"

#include <lua.h>

/* The engine named at index, or by `otherwise` when nothing is there; raises when there is
 * no such engine. [-0, +0, v] */
const struct kf_engine *kf_lua_check_engine(lua_State *L, int index, const char *otherwise);

/* The method session:endpoint(engine, domain). [-0, +1|2, v] */
int kf_lua_new_endpoint(lua_State *L);

#endif
