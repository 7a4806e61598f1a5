/* SPDX-License-Identifier: MIT
 * interrupt: whether the user or the system asked us to stop.
 *
 * The handler of SIGINT and SIGTERM sets a flag, which a run looks at between two
 * objects. A library must not take signals from its program, so somebody has to ask
 * for it: the program keyferry does, a script of another interpreter with
 * core.interrupt_watch(true). The third SIGINT without an answer ends the process.
 */
#ifndef KF_LUA_INTERRUPT_H
#define KF_LUA_INTERRUPT_H

#include <lua.h>
#include <stdbool.h>

/* Installs the handlers, or puts back what was there. Twice is fine. */
void kf_lua_interrupt_watch(bool on);
/* A signal arrived since the flag was last cleared. */
bool kf_lua_interrupted(void);
void kf_lua_interrupt_clear(void);
/* One that asks the process to end (SIGTERM, SIGHUP) has arrived; clearing keeps it. */
bool kf_lua_interrupt_ending(void);
/* While on, a signal also raises an err object (KFR_INTERRUPTED) in the Lua code that
 * the main thread of L runs, when that does not end by itself; calls into C end first. */
void kf_lua_interrupt_raise(lua_State *L, bool on);

#endif
