/* SPDX-License-Identifier: MIT */
#include "lua/interrupt.h"
#include "lua/door.h"
#include "lua/error.h"

#include <lauxlib.h>
#include <signal.h>
#include <stddef.h>

/* A third Ctrl-C in a row means that nobody listens (a module that hangs). */
enum { PATIENCE = 3 };

/* SIGHUP: the terminal was closed, and a run ends in order then, too. */
static const int watched[] = { SIGINT, SIGTERM, SIGHUP };
enum { WATCHED = sizeof watched / sizeof *watched };

/* Signals belong to the process, so this does, too. */
static volatile sig_atomic_t arrived;
static volatile sig_atomic_t ending;
static lua_State *volatile raise_in;
static struct sigaction before[WATCHED];
static bool watching;

static const struct kf_error interrupted = {
    .rv = KFR_INTERRUPTED,
    .what = "interrupted",
};

static void raise_hook(lua_State *L, lua_Debug *debug)
{
    (void)debug;
    lua_sethook(L, NULL, 0, 0);
    kf_lua_error(L, &interrupted);
    lua_error(L);
}

/* lua_sethook is the one function of Lua that a handler may call (manual, 4.7). */
static void note(int number)
{
    lua_State *L = raise_in;

    if (arrived < PATIENCE)
        arrived++;
    if (number != SIGINT)
        ending = 1;
    if (number == SIGINT && arrived == PATIENCE) {
        signal(number, SIG_DFL);
        raise(number);
    }
    if (L)
        lua_sethook(L, raise_hook,
                    LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

void kf_lua_interrupt_watch(bool on)
{
    struct sigaction action = { .sa_handler = note, .sa_flags = SA_RESTART };

    if (on == watching)
        return;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < WATCHED; i++) {
        if (!on) {
            sigaction(watched[i], &before[i], NULL);
            continue;
        }
        sigaction(watched[i], NULL, &before[i]);
        /* Started with the signal ignored (nohup, a shell's "&"): it stays so. */
        if (before[i].sa_handler != SIG_IGN)
            sigaction(watched[i], &action, NULL);
    }
    watching = on;
}

bool kf_lua_interrupted(void)
{
    return arrived != 0;
}

bool kf_lua_interrupt_ending(void)
{
    return ending != 0;
}

void kf_lua_interrupt_clear(void)
{
    arrived = 0;
}

void kf_lua_interrupt_raise(lua_State *L, bool on)
{
    lua_State *main_thread;

    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    main_thread = lua_tothread(L, -1);
    lua_pop(L, 1);
    raise_in = on ? main_thread : NULL;
    if (!on && lua_gethook(main_thread) == raise_hook)
        lua_sethook(main_thread, NULL, 0, 0);
}

static int interrupt_watch(lua_State *L)
{
    kf_lua_interrupt_watch(lua_toboolean(L, 1));
    return 0;
}

/* core.interrupted() -> boolean, boolean (the process is to end) */
static int interrupt_arrived(lua_State *L)
{
    lua_pushboolean(L, kf_lua_interrupted());
    lua_pushboolean(L, kf_lua_interrupt_ending());
    return 2;
}

static int interrupt_clear(lua_State *L)
{
    (void)L;
    kf_lua_interrupt_clear();
    return 0;
}

static int interrupt_raise(lua_State *L)
{
    kf_lua_interrupt_raise(L, lua_toboolean(L, 1));
    return 0;
}

static const luaL_Reg functions[] = {
    { "interrupt_watch", interrupt_watch },
    { "interrupted", interrupt_arrived },
    { "interrupt_clear", interrupt_clear },
    { "interrupt_raise", interrupt_raise },
    { NULL, NULL },
};

void kf_lua_open_interrupt(lua_State *L)
{
    luaL_setfuncs(L, functions, 0);
}
