/* SPDX-License-Identifier: MIT
 * share: a share of a key, or of a domain text, as a Lua userdata. No word of it ever is a
 * Lua string.
 */
#ifndef KF_LUA_SHARE_H
#define KF_LUA_SHARE_H

#include "base/share.h"

#include <lua.h>

/* [-0, +0, v] The open share at idx, still owned by its box. Raises for anything else. */
struct kf_share *kf_lua_check_share(lua_State *L, int idx);
/* [-0, +1, m] Pushes an empty box (closed until *box is set). */
struct kf_share **kf_lua_new_share(lua_State *L);

#endif
