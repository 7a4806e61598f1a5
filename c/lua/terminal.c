/* SPDX-License-Identifier: MIT */
#include "base/terminal.h"
#include "lua/door.h"
#include "lua/error.h"
#include "lua/keep.h"
#include "lua/secret.h"

#include <lauxlib.h>
#include <limits.h>
#include <sys/ioctl.h>
#include <unistd.h>

/***
Whether a descriptor is a terminal (isatty).
@function terminal.is
@int fd
@treturn boolean
*/
static int terminal_is(lua_State *L)
{
    lua_Integer fd = luaL_checkinteger(L, 1);

    luaL_argcheck(L, fd >= 0 && fd <= INT_MAX, 1, "not a descriptor");
    lua_pushboolean(L, isatty((int)fd));
    return 1;
}

/***
How wide a terminal is.
@function terminal.columns
@int fd
@treturn ?int nil when it is none, or does not know
*/
static int terminal_columns(lua_State *L)
{
    lua_Integer fd = luaL_checkinteger(L, 1);
    struct winsize size = { 0 };

    luaL_argcheck(L, fd >= 0 && fd <= INT_MAX, 1, "not a descriptor");
    if (ioctl((int)fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
        return 0;
    lua_pushinteger(L, size.ws_col);
    return 1;
}

/***
Asks on /dev/tty; every character is echoed as an asterisk. Backspace, Ctrl-U and Ctrl-W take
back. The terminal is put back on every path and signal.
@function terminal.ask_secret
@string prompt
@treturn[1] secret
@treturn[2] nil
@treturn[2] err KFR_INTERRUPTED (Ctrl-C), KFR_REFUSED (Ctrl-D on an empty line, or no terminal),
  KFR_LIMIT
*/
static int terminal_ask_secret(lua_State *L)
{
    const char *prompt = kf_lua_check_text(L, 1);
    struct kf_secret **box = kf_lua_new_secret(L);
    struct kf_error err = { 0 };

    if (kf_terminal_ask(prompt, KF_ECHO_ASTERISKS, box, &err) != KFR_OK)
        return kf_lua_refuse(L, &err);
    return 1;
}

static void free_secret(void *held)
{
    kf_secret_free(held);
}

/***
The same for a line that is echoed as it is.
@function terminal.ask
@string prompt
@treturn[1] string
@treturn[2] nil
@treturn[2] err
*/
static int terminal_ask(lua_State *L)
{
    const char *prompt = kf_lua_check_text(L, 1);
    struct kf_lua_keep *keep = kf_lua_keep(L, free_secret);
    struct kf_secret *line = NULL;
    struct kf_error err = { 0 };
    kf_rv rv = kf_terminal_ask(prompt, KF_ECHO_PLAIN, &line, &err);

    keep->held = line;
    if (rv != KFR_OK)
        return kf_lua_refuse(L, &err);
    lua_pushlstring(L, (const char *)line->data, line->len);
    return 1;
}

static const luaL_Reg functions[] = {
    { "is", terminal_is },
    { "columns", terminal_columns },
    { "ask_secret", terminal_ask_secret },
    { "ask", terminal_ask },
    { NULL, NULL },
};

void kf_lua_open_terminal(lua_State *L)
{
    luaL_newlib(L, functions);
    lua_setfield(L, -2, "terminal");
}
