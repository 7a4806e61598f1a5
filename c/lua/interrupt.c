/* SPDX-License-Identifier: MIT */
#include "lua/interrupt.h"
#include "lua/door.h"
#include "lua/error.h"

#include <lauxlib.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <time.h>

/* A third Ctrl-C in a row means that nobody listens (a module that hangs). */
enum { PATIENCE = 3 };

/* SIGHUP: the terminal was closed, and a run ends in order then, too. */
static const int watched[] = { SIGINT, SIGTERM, SIGHUP };
enum { WATCHED = sizeof watched / sizeof *watched };

/* Signals belong to the process, so this does, too. */
static volatile sig_atomic_t arrived;
static volatile sig_atomic_t ending;
static lua_State *volatile raise_in;
static atomic_llong raise_at; /* milliseconds, as now() has them */
static int raised;            /* how often, in raise_in */
static struct sigaction before[WATCHED];
static bool watching;

static const struct kf_error interrupted = {
    .rv = KFR_INTERRUPTED,
    .what = "interrupted",
};

/* How long Lua code may go on after a signal, to end by itself (a line that is being
 * printed); after it was left off or raised in, to clean up. Who catches the error and
 * goes on ASKED_MAX times is not let off any more. In milliseconds. */
enum { GRACE = 100, LONG_GRACE = 1000, ASKED_MAX = 3 };
enum { WATCH_STEPS = 10000 };

static long long now(void)
{
    struct timespec time = { 0 };

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (long long)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void raise_hook(lua_State *L, lua_Debug *debug)
{
    (void)debug;
    if (now() < raise_at)
        return;
    if (++raised < ASKED_MAX)
        raise_at = now() + LONG_GRACE;
    kf_lua_error(L, &interrupted);
    lua_error(L);
}

/* lua_sethook is the one function of Lua that a handler may call (manual, 4.7). */
static void raise_after(lua_State *L, int grace)
{
    raise_at = now() + grace;
    lua_sethook(L, raise_hook, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 100);
}

static void stop_raising(lua_State *L)
{
    if (L && lua_gethook(L) == raise_hook)
        lua_sethook(L, NULL, 0, 0);
}

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
        raise_after(L, GRACE);
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
    stop_raising(raise_in);
}

void kf_lua_interrupt_raise(lua_State *L, bool on)
{
    lua_State *main_thread;

    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    main_thread = lua_tothread(L, -1);
    lua_pop(L, 1);
    raise_in = on ? main_thread : NULL;
    raised = 0;
    if (!on)
        stop_raising(main_thread);
}

/* As xpcall(f, handler, ...), with signals raising in the thread `inside` (NULL: in none)
 * until it returns. The switch is in C, so that nothing can be raised beside it. */
static int call_with(lua_State *L, lua_State *inside)
{
    lua_State *outside = raise_in;
    int status;

    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_rotate(L, 1, -1); /* handler, ..., f */
    lua_insert(L, 2);
    raise_in = inside;
    raised = 0;
    stop_raising(outside);
    if (inside && arrived)
        raise_after(inside, LONG_GRACE);
    status = lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 1);
    raise_in = outside;
    raised = 0;
    stop_raising(inside);
    if (outside && arrived)
        raise_after(outside, LONG_GRACE);
    lua_pushboolean(L, status == LUA_OK);
    lua_replace(L, 1);
    return lua_gettop(L);
}

/***
As xpcall: a policy's code, in which a signal raises KFR_INTERRUPTED as soon as it does not end
by itself. f cannot yield.
@function interruptible
@func f
@func handler
@param ...
@treturn boolean and what f returns, or what handler does
*/
static int interruptible(lua_State *L)
{
    return call_with(L, L);
}

/***
As xpcall: what must not be cut in the middle.
@function uninterruptible
@func f
@func handler
@param ...
@treturn boolean and what f returns, or what handler does
*/
static int uninterruptible(lua_State *L)
{
    return call_with(L, NULL);
}

/* A hook belongs to one thread. That of a coroutine looks now and then whether the thread
 * that resumed it is to be stopped. */
static void watch_hook(lua_State *L, lua_Debug *debug)
{
    if (arrived && raise_in)
        raise_hook(L, debug);
}

/***
As f(...): coroutines that f makes inherit the hook.
@function watched
@func f
@param ...
@treturn any what f returns
*/
static int watched_call(lua_State *L)
{
    lua_Hook hook = lua_gethook(L);
    int mask = lua_gethookmask(L);
    int count = lua_gethookcount(L);
    int status;

    lua_sethook(L, watch_hook, LUA_MASKCOUNT, WATCH_STEPS);
    status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
    lua_sethook(L, hook, mask, count);
    if (arrived && raise_in == L)
        raise_after(L, GRACE); /* it came in between */
    return status == LUA_OK ? lua_gettop(L) : lua_error(L);
}

/* A signal that comes just before ppoll ends it, too: it waits till then. */
static bool wait_for_signal(double seconds)
{
    struct timespec time = { .tv_sec = (time_t)seconds };
    sigset_t signals, as_before;
    bool over = false;

    time.tv_nsec = (long)((seconds - (double)time.tv_sec) * 1e9);
    sigemptyset(&signals);
    for (size_t i = 0; i < WATCHED; i++)
        sigaddset(&signals, watched[i]);
    pthread_sigmask(SIG_BLOCK, &signals, &as_before);
    if (!arrived)
        over = ppoll(NULL, 0, &time, &as_before) == 0;
    pthread_sigmask(SIG_SETMASK, &as_before, NULL);
    return over;
}

/***
Waits.
@function sleep
@number seconds to a year
@treturn boolean whether the time is over; false: a signal came first, or is there already
*/
static int sleep_seconds(lua_State *L)
{
    double seconds = luaL_checknumber(L, 1);

    luaL_argcheck(L, seconds >= 0 && seconds <= 366.0 * 86400, 1,
                  "0 seconds to a year");
    lua_pushboolean(L, wait_for_signal(seconds));
    return 1;
}

/***
Whether signals (SIGINT, SIGTERM, SIGHUP) are looked at from now on, instead of ending the
process at once.
@function interrupt_watch
@bool on
*/
static int interrupt_watch(lua_State *L)
{
    kf_lua_interrupt_watch(lua_toboolean(L, 1));
    return 0;
}

/***
Whether a signal arrived since the last interrupt_clear.
@function interrupted
@treturn boolean
@treturn boolean the process is to end
*/
static int interrupt_arrived(lua_State *L)
{
    lua_pushboolean(L, kf_lua_interrupted());
    lua_pushboolean(L, kf_lua_interrupt_ending());
    return 2;
}

/***
Forgets the signals that arrived.
@function interrupt_clear
*/
static int interrupt_clear(lua_State *L)
{
    (void)L;
    kf_lua_interrupt_clear();
    return 0;
}

/***
Whether a signal raises KFR_INTERRUPTED in the Lua that runs.
@function interrupt_raise
@bool on
*/
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
    { "interruptible", interruptible },
    { "uninterruptible", uninterruptible },
    { "watched", watched_call },
    { "sleep", sleep_seconds },
    { NULL, NULL },
};

void kf_lua_open_interrupt(lua_State *L)
{
    luaL_setfuncs(L, functions, 0);
}
