/* SPDX-License-Identifier: MIT
 * stream: a sealed stream's writer and reader as Lua userdata.
 */
#ifndef KF_LUA_STREAM_H
#define KF_LUA_STREAM_H

#include "clone/stream.h"

#include <lua.h>

/* Raise when the value is none, or is closed. */
struct kf_stream_writer *kf_lua_check_stream_writer(lua_State *L, int index);
struct kf_stream_reader *kf_lua_check_stream_reader(lua_State *L, int index);

#endif
