/* SPDX-License-Identifier: MIT */
#include "base/terminal.h"
#include "base/terminal_share.h"
#include "lua/door.h"
#include "lua/error.h"
#include "lua/keep.h"
#include "lua/secret.h"
#include "lua/share.h"

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

/***
Shows the words of a share, numbered, on a screen of their own, and asks whether they are written
down; then the screen is as it was.
@function terminal.show_share
@tparam share share
@string title what stands above the words
@treturn[1] boolean whether they are written down
@treturn[2] nil
@treturn[2] err KFR_REFUSED (no terminal, or one that cannot clear its screen), KFR_INTERRUPTED
*/
static int terminal_show_share(lua_State *L)
{
    const struct kf_share *share = kf_lua_check_share(L, 1);
    const char *title = kf_lua_check_text(L, 2);
    struct kf_error err = { 0 };
    bool written = false;

    if (kf_terminal_show_share(share, title, &written, &err) != KFR_OK)
        return kf_lua_refuse(L, &err);
    lua_pushboolean(L, written);
    return 1;
}

/***
Asks for a share, word by word. A word is seen while it is typed, completed as soon as its letters
tell it, and taken by a blank or Enter; whole lines can be pasted. A word that is none is said with
its number and typed again; so is the one that is mistyped, after the last.
@function terminal.ask_share
@string prompt its last line stands before the word that is typed
@int[opt] length how many words are expected; otherwise Enter alone says that it was the last,
  unless they are a share already
@treturn[1] share|string the share; a path, when what was typed begins with /, . or ~
@treturn[2] nil
@treturn[2] err KFR_SHARE (the words are no share), KFR_INTERRUPTED (Ctrl-C), KFR_REFUSED (Ctrl-D
  before the first word, or no terminal)
*/
static int terminal_ask_share(lua_State *L)
{
    const char *prompt = kf_lua_check_text(L, 1);
    lua_Integer length = luaL_optinteger(L, 2, 0);
    struct kf_share **box = kf_lua_new_share(L);
    struct kf_lua_keep *keep = kf_lua_keep(L, free_secret);
    struct kf_secret *path = NULL;
    struct kf_error err = { 0 };
    kf_rv rv;

    luaL_argcheck(L, length >= 0 && length <= KF_SHARE_MAX_WORDS, 2, "no share is so long");
    rv = kf_terminal_ask_share(prompt, (size_t)length, box, &path, &err);
    keep->held = path;
    if (rv != KFR_OK)
        return kf_lua_refuse(L, &err);
    if (path)
        lua_pushlstring(L, (const char *)path->data, path->len);
    else
        lua_pop(L, 1);
    return 1;
}

static const luaL_Reg functions[] = {
    { "is", terminal_is },
    { "columns", terminal_columns },
    { "ask_secret", terminal_ask_secret },
    { "ask", terminal_ask },
    { "ask_share", terminal_ask_share },
    { "show_share", terminal_show_share },
    { NULL, NULL },
};

void kf_lua_open_terminal(lua_State *L)
{
    luaL_newlib(L, functions);
    lua_setfield(L, -2, "terminal");
}
