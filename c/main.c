/* SPDX-License-Identifier: MIT
 * main: the program. It hides what came on the command line, finds its own files,
 * starts Lua and leaves the rest to keyferry.shell.
 */
#include "base/secret.h"
#include "lua/door.h"
#include "lua/editor.h"
#include "lua/history.h"
#include "lua/interrupt.h"
#include "pkcs11/module.h"

#include <fcntl.h>
#include <langinfo.h>
#include <lauxlib.h>
#include <limits.h>
#include <locale.h>
#include <lualib.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EXIT_SYSTEM = 7, EXIT_SCRIPT = 8 }; /* of the table of exit statuses */

/* -- Before Lua ------------------------------------------------------------------- */

/* A core file, or a debugger of another process of this user, would show keys. */
static void forbid_dumps(void)
{
    const struct rlimit none = { 0, 0 };

    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

/* A file opened later must not become standard output because that was closed. */
static bool fill_descriptors(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO)
        close(fd);
    return fd >= 0;
}

/* Labels are UTF-8, and so is what is typed and printed, whatever the locale. */
static void set_characters(void)
{
    setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8");
}

/* exit() from within a PKCS#11 call: the module has given up (SoftHSM does, at a damaged
 * file), with a status that means something else here. */
static void say_who_ended(void)
{
    const char *path;
    const char *function;

    if (!kf_module_calling(&path, &function))
        return;
    fprintf(stderr,
            "error: the PKCS#11 module %s has ended the program, in %s\n"
            "  look for a damaged file of one of its tokens; then run again: what was "
            "not finished is undone\n",
            path, function);
    fflush(NULL);
    _exit(EXIT_SYSTEM);
}

/* -- Lua's memory ------------------------------------------------------------------ */

/* Wipes what it gives back: strings (a secret option was one) do not outlive use. */
static void *wiping_alloc(void *unused, void *old, size_t old_size, size_t new_size)
{
    void *fresh = NULL;

    (void)unused;
    if (!old)
        return new_size ? malloc(new_size) : NULL;
    if (new_size) {
        fresh = malloc(new_size);
        if (!fresh)
            return new_size <= old_size ? old : NULL;
        memcpy(fresh, old, new_size < old_size ? new_size : old_size);
    }
    OPENSSL_cleanse(old, old_size);
    free(old);
    return fresh;
}

/* -- The command line -------------------------------------------------------------- */

/* Pushes the arguments as a table, [0] the program, and blanks them where the process
 * list reads them: all of them, since a secret may stand in any. */
static void take_arguments(lua_State *L, int argc, char **argv)
{
    lua_createtable(L, argc, 1);
    for (int i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i);
    }
    for (int i = 1; i < argc; i++)
        OPENSSL_cleanse(argv[i], strlen(argv[i]));
}

/* -- Where our files are ---------------------------------------------------------- */

static bool readable(const char *root, const char *file)
{
    char path[PATH_MAX + 64];

    snprintf(path, sizeof path, "%s/%s", root, file);
    return access(path, R_OK) == 0;
}

/* build/keyferry runs in place; an installed one finds ../share/keyferry. */
static bool find_root(char root[PATH_MAX])
{
    static const char *const from_bin[] = { "/..", "/../share/keyferry" };
    char exe[PATH_MAX], candidate[PATH_MAX + 32];
    ssize_t len = readlink("/proc/self/exe", exe, sizeof exe - 1);
    char *slash;

    if (len <= 0)
        return false;
    exe[len] = '\0';
    slash = strrchr(exe, '/');
    if (!slash)
        return false;
    *slash = '\0';
    for (size_t i = 0; i < sizeof from_bin / sizeof *from_bin; i++) {
        snprintf(candidate, sizeof candidate, "%s%s", exe, from_bin[i]);
        if (realpath(candidate, root) && readable(root, "lua/keyferry/init.lua"))
            return true;
    }
    return false;
}

/* [-0, +1, m] The entries of package[key] that are absolute: Lua's default also looks
 * into the working directory, which may be anybody's. */
static void push_absolute(lua_State *L, const char *key)
{
    luaL_Buffer kept;
    const char *at, *end;
    bool any = false;

    lua_getfield(L, 1, key);
    at = luaL_checkstring(L, -1);
    luaL_buffinit(L, &kept);
    for (; *at; at = *end ? end + 1 : end) {
        end = at + strcspn(at, LUA_PATH_SEP);
        if (*at != '/')
            continue;
        if (any)
            luaL_addstring(&kept, LUA_PATH_SEP);
        luaL_addlstring(&kept, at, (size_t)(end - at));
        any = true;
    }
    luaL_pushresult(&kept);
    lua_remove(L, -2);
}

/* As the searcher it stands in for, but compiled chunks are refused (a crafted one can
 * do anything in the process). */
static int search_text(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    const char *file;

    lua_getfield(L, lua_upvalueindex(1), "searchpath");
    lua_pushstring(L, name);
    lua_getfield(L, lua_upvalueindex(1), "path");
    lua_call(L, 2, 2);
    if (lua_isnil(L, -2))
        return 1; /* the files tried */
    file = lua_tostring(L, -2);
    if (luaL_loadfilex(L, file, "t") != LUA_OK)
        return luaL_error(L, "error loading module '%s' from file '%s':\n\t%s", name,
                          file, lua_tostring(L, -1));
    lua_pushstring(L, file);
    return 2;
}

static int open_core(lua_State *L)
{
    int n = luaopen_keyferry_core(L);

    kf_lua_open_editor(L);
    kf_lua_open_history(L);
    return n;
}

/* Sets the table package (at 1) up for us. */
static void prepare_package(lua_State *L, const char *root)
{
    push_absolute(L, "cpath");
    lua_setfield(L, 1, "cpath");
    lua_pushfstring(L, "%s/lua/?.lua;%s/lua/?/init.lua;", root, root);
    push_absolute(L, "path");
    lua_concat(L, 2);
    lua_setfield(L, 1, "path");
    lua_getfield(L, 1, "searchers");
    lua_pushvalue(L, 1);
    lua_pushcclosure(L, search_text, 1);
    lua_rawseti(L, -2, 2);
    lua_pop(L, 1);
    lua_getfield(L, 1, "loaded");
    lua_pushstring(L, root);
    lua_setfield(L, -2, "keyferry.root");
    lua_pop(L, 1);
    lua_getfield(L, 1, "preload");
    lua_pushcfunction(L, open_core);
    lua_setfield(L, -2, "keyferry.core");
    lua_pop(L, 1);
}

/* -- Running ---------------------------------------------------------------------- */

static int explain(lua_State *L)
{
    luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
    return 1;
}

/* (arguments) -> status, in protected mode */
static int run(lua_State *L)
{
    char root[PATH_MAX];

    if (!find_root(root))
        return luaL_error(L, "the program's own Lua files are not where it looks: "
                             "../lua and ../share/keyferry beside the program");
    luaL_openlibs(L);
    lua_getglobal(L, "package");
    lua_insert(L, 1);
    prepare_package(L, root);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "keyferry.shell");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "main");
    lua_pushvalue(L, 2);
    lua_call(L, 1, 1);
    if (!lua_isinteger(L, -1))
        return luaL_error(L, "keyferry.shell gave no exit status");
    return 1;
}

static int hold_arguments(lua_State *L)
{
    take_arguments(L, (int)lua_tointeger(L, 1), lua_touserdata(L, 2));
    return 1;
}

static int run_shell(lua_State *L)
{
    lua_pushcfunction(L, explain);
    lua_insert(L, 1);
    lua_pushcfunction(L, run);
    lua_insert(L, 2);
    if (lua_pcall(L, 1, 1, 1) == LUA_OK)
        return (int)lua_tointeger(L, -1);
    fprintf(stderr, "keyferry: %s\n", lua_tostring(L, -1));
    return EXIT_SCRIPT;
}

/* A report that did not reach its file (disk full) must not end in success. */
static int flush_output(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    fputs("keyferry: standard output could not be written\n", stderr);
    return status ? status : EXIT_SYSTEM;
}

int main(int argc, char **argv)
{
    lua_State *L = NULL;
    int status = EXIT_SYSTEM;
    bool started = false;

    forbid_dumps();
    if (!fill_descriptors() || atexit(say_who_ended))
        goto done;
    L = lua_newstate(wiping_alloc, NULL);
    if (!L)
        goto done;
    lua_pushcfunction(L, hold_arguments);
    lua_pushinteger(L, argc);
    lua_pushlightuserdata(L, argv);
    if (lua_pcall(L, 2, 1, 0) != LUA_OK)
        goto done;
    umask(077);
    signal(SIGPIPE, SIG_IGN); /* a write says EPIPE instead, and is noticed */
    signal(SIGXFSZ, SIG_IGN); /* likewise EFBIG: one object fails, not the program */
    if (!kf_secret_heap())
        goto done;
    started = true;
    set_characters();
    kf_lua_interrupt_watch(true);
    status = run_shell(L);
    kf_lua_interrupt_raise(L, false);
done:
    if (!started)
        fputs("keyferry: not enough memory to start\n", stderr);
    if (L)
        lua_close(L);
    return flush_output(status);
}
