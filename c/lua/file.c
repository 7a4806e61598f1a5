/* SPDX-License-Identifier: MIT */
#include "base/file.h"
#include "lua/door.h"
#include "lua/error.h"
#include "lua/keep.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <lauxlib.h>
#include <limits.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int refuse_errno(lua_State *L, const char *call, const char *path)
{
    struct kf_error err = { 0 };

    kf_fail_errno(&err, call, "%s", path);
    return kf_lua_refuse(L, &err);
}

static mode_t opt_mode(lua_State *L, int idx, mode_t otherwise)
{
    lua_Integer mode = luaL_optinteger(L, idx, (lua_Integer)otherwise);

    luaL_argcheck(L, mode >= 0 && mode <= 0777, idx, "not permission bits");
    return (mode_t)mode;
}

#define LOCK "keyferry.file_lock"

/* -- core.file -------------------------------------------------------------------- */

/***
Whether a file belongs to this user or root and nobody else may write it.
@function file.trusted
@string path
@treturn[1] true
@treturn[2] nil
@treturn[2] err KFR_REFUSED, KFR_SYSTEM
*/
static int file_trusted(lua_State *L)
{
    struct kf_error err = { 0 };
    kf_rv rv = kf_file_trusted(kf_lua_check_text(L, 1), &err);

    return kf_lua_done(L, rv, &err);
}

static void free_secret(void *held)
{
    kf_secret_free(held);
}

/***
A regular file's bytes.
@function file.read
@string path
@int max how many there may be
@treturn[1] string
@treturn[2] nil
@treturn[2] err KFR_SYSTEM, KFR_ARGUMENT (no regular file), KFR_LIMIT
*/
static int file_read(lua_State *L)
{
    const char *path = kf_lua_check_text(L, 1);
    lua_Integer max = luaL_checkinteger(L, 2);
    struct kf_lua_keep *keep;
    struct kf_secret *bytes = NULL;
    struct kf_error err = { 0 };
    kf_rv rv;

    luaL_argcheck(L, max >= 0, 2, "not a size");
    keep = kf_lua_keep(L, free_secret);
    rv = kf_file_read(path, (size_t)max, &bytes, &err);
    keep->held = bytes;
    if (rv != KFR_OK)
        return kf_lua_refuse(L, &err);
    lua_pushlstring(L, (const char *)bytes->data, bytes->len);
    return 1;
}

/***
Writes a file, all of it or nothing.
@function file.write
@string path
@string bytes
@int[opt=0600] mode
@treturn[1] true
@treturn[2] nil
@treturn[2] err
*/
static int file_write(lua_State *L)
{
    const char *path = kf_lua_check_text(L, 1);
    size_t len;
    const char *bytes = luaL_checklstring(L, 2, &len);
    mode_t mode = opt_mode(L, 3, 0600);
    struct kf_error err = { 0 };
    kf_rv rv = kf_file_write(path, bytes, len, mode, &err);

    return kf_lua_done(L, rv, &err);
}

/***
Whether file.create can put a file there.
@function file.can_create
@string path
@bool[opt=false] replace a file that is there is no reason against it
@treturn[1] true
@treturn[2] nil
@treturn[2] err KFR_EXISTS: there is something of that name, be it a link that leads
  nowhere; KFR_ARGUMENT: it is a folder, or no regular file; KFR_NOT_FOUND: there is no
  folder to put it in; KFR_SYSTEM: nothing may be written there
*/
static int file_can_create(lua_State *L)
{
    const char *path = kf_lua_check_text(L, 1);
    struct kf_error err = { 0 };
    kf_rv rv = kf_file_can_create(path, lua_toboolean(L, 2), &err);

    return kf_lua_done(L, rv, &err);
}

/***
Writes a file that must not be there, all of it or nothing.
@function file.create
@string path
@string bytes
@int[opt=0600] mode
@bool[opt=false] replace it may be there
@treturn[1] true
@treturn[2] nil
@treturn[2] err as file.can_create gives it, also for a file that came meanwhile
*/
static int file_create(lua_State *L)
{
    const char *path = kf_lua_check_text(L, 1);
    size_t len;
    const char *bytes = luaL_checklstring(L, 2, &len);
    mode_t mode = opt_mode(L, 3, 0600);
    struct kf_error err = { 0 };
    kf_rv rv = kf_file_create(path, bytes, len, mode, lua_toboolean(L, 4), &err);

    return kf_lua_done(L, rv, &err);
}

static void close_folder(void *held)
{
    closedir(held);
}

static void sort_array(lua_State *L, int idx)
{
    idx = lua_absindex(L, idx);
    lua_getglobal(L, "table");
    lua_getfield(L, -1, "sort");
    lua_pushvalue(L, idx);
    lua_call(L, 1, 0);
    lua_pop(L, 1);
}

/***
What is in a folder.
@function file.list
@string path
@treturn[1] table names, sorted, without "." and ".."
@treturn[2] nil
@treturn[2] err
*/
static int file_list(lua_State *L)
{
    const char *path = kf_lua_check_text(L, 1);
    struct kf_lua_keep *keep = kf_lua_keep(L, close_folder);
    DIR *folder = opendir(path);
    const struct dirent *entry;
    lua_Integer n = 0;

    keep->held = folder;
    if (!folder)
        return refuse_errno(L, "opendir", path);
    lua_newtable(L);
    while (errno = 0, (entry = readdir(folder))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        lua_pushstring(L, entry->d_name);
        lua_rawseti(L, -2, ++n);
    }
    if (errno)
        return refuse_errno(L, "readdir", path);
    sort_array(L, -1);
    return 1;
}

/* Makes path and the folders above it; one that is there is left as it is. */
static kf_rv make_folders(const char *path, mode_t mode, struct kf_error *err)
{
    char part[PATH_MAX];
    size_t len = strlen(path);

    if (len == 0 || len >= sizeof part)
        return kf_fail(err, KFR_ARGUMENT, NULL, NULL, "not a path: \"%.100s\"", path);
    memcpy(part, path, len + 1);
    for (size_t i = 1; i <= len; i++) {
        if (part[i] != '/' && part[i] != '\0')
            continue;
        part[i] = '\0';
        if (mkdir(part, mode) != 0 && errno != EEXIST)
            return kf_fail_errno(err, "mkdir", "%s", part);
        part[i] = path[i];
    }
    return KFR_OK;
}

/***
Makes a folder and those above it; one that is there is left as it is.
@function file.mkdir
@string path
@int[opt=0700] mode
@treturn[1] true
@treturn[2] nil
@treturn[2] err
*/
static int file_mkdir(lua_State *L)
{
    const char *path = kf_lua_check_text(L, 1);
    mode_t mode = opt_mode(L, 2, 0700);
    struct kf_error err = { 0 };
    struct stat st;

    if (make_folders(path, mode, &err) != KFR_OK)
        return kf_lua_refuse(L, &err);
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return kf_lua_done(L, KFR_OK, &err);
    kf_fail(&err, KFR_EXISTS, "mkdir", NULL, "%s is there and is no folder", path);
    return kf_lua_refuse(L, &err);
}

/***
What is there.
@function file.exists
@string path
@treturn[1] ?string "file", "directory", "other"; nil: nothing
@treturn[2] nil
@treturn[2] err it cannot be told
*/
static int file_exists(lua_State *L)
{
    const char *path = kf_lua_check_text(L, 1);
    struct stat st;

    if (stat(path, &st) != 0 && (errno == ENOENT || errno == ENOTDIR))
        return 0;
    if (stat(path, &st) != 0)
        return refuse_errno(L, "stat", path);
    lua_pushstring(L, S_ISREG(st.st_mode)   ? "file"
                      : S_ISDIR(st.st_mode) ? "directory"
                                            : "other");
    return 1;
}

/***
The user id of a file's owner.
@function file.owner
@string path
@treturn[1] integer
@treturn[2] nil
@treturn[2] err
*/
static int file_owner(lua_State *L)
{
    const char *path = kf_lua_check_text(L, 1);
    struct stat st;

    if (stat(path, &st) != 0)
        return refuse_errno(L, "stat", path);
    lua_pushinteger(L, (lua_Integer)st.st_uid);
    return 1;
}

/***
Removes a folder and what is in it; no link is followed.
@function file.remove_tree
@string path
@treturn[1] true
@treturn[2] nil
@treturn[2] err
*/
static int file_remove_tree(lua_State *L)
{
    struct kf_error err = { 0 };
    kf_rv rv = kf_file_remove_tree(kf_lua_check_text(L, 1), &err);

    return kf_lua_done(L, rv, &err);
}

/***
A path without links, `.` and `..`.
@function file.realpath
@string path
@treturn[1] string
@treturn[2] nil
@treturn[2] err
*/
static int file_realpath(lua_State *L)
{
    const char *path = kf_lua_check_text(L, 1);
    char real[PATH_MAX];

    if (!realpath(path, real))
        return refuse_errno(L, "realpath", path);
    lua_pushstring(L, real);
    return 1;
}

/***
Keeps a file or a folder for this process, as far as others ask so, too; ends with the
process, however that ends.
@function file.lock
@string path
@treturn[1] file_lock with the method close
@treturn[2] false another one keeps it
@treturn[3] nil
@treturn[3] err it is not there, or the file system has no locks
*/
static int file_lock(lua_State *L)
{
    const char *path = kf_lua_check_text(L, 1);
    int *fd = lua_newuserdatauv(L, sizeof *fd, 0);

    *fd = -1;
    luaL_setmetatable(L, LOCK);
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0)
        return refuse_errno(L, "open", path);
    if (flock(*fd, LOCK_EX | LOCK_NB) == 0)
        return 1;
    if (errno != EWOULDBLOCK)
        return refuse_errno(L, "flock", path);
    lua_pushboolean(L, false);
    return 1;
}

/***
Gives it up; so does the end of a `<close>` variable.
@function file_lock:close
*/
static int lock_close(lua_State *L)
{
    int *fd = luaL_checkudata(L, 1, LOCK);

    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    return 0;
}

/* -- The user and the clock ------------------------------------------------------- */

/* [-0, +1, m] The names of the groups of the user who started the process. */
static void push_groups(lua_State *L)
{
    int count = getgroups(0, NULL);
    size_t room = count > 0 ? (size_t)count : 0;
    gid_t *ids = lua_newuserdatauv(L, sizeof *ids * (room + 1), 0);
    bool listed = false;
    lua_Integer n = 0;

    count = room ? getgroups((int)room, ids) : 0;
    room = count > 0 ? (size_t)count : 0;
    for (size_t i = 0; i < room; i++)
        listed = listed || ids[i] == getgid();
    if (!listed)
        ids[room++] = getgid(); /* getgroups need not give it (POSIX) */
    lua_newtable(L);
    for (size_t i = 0; i < room; i++) {
        const struct group *group = getgrgid(ids[i]);

        if (!group)
            continue;
        lua_pushstring(L, group->gr_name);
        lua_rawseti(L, -2, ++n);
    }
    lua_remove(L, -2);
}

/***
Who started the process, whatever user it runs as.
@function user
@treturn table uid, name, home (both may be nil), groups (array of names)
*/
static int user(lua_State *L)
{
    const struct passwd *entry = getpwuid(getuid());

    lua_createtable(L, 0, 4);
    lua_pushinteger(L, (lua_Integer)getuid());
    lua_setfield(L, -2, "uid");
    if (entry) {
        lua_pushstring(L, entry->pw_name);
        lua_setfield(L, -2, "name");
        lua_pushstring(L, entry->pw_dir);
        lua_setfield(L, -2, "home");
    }
    push_groups(L);
    lua_setfield(L, -2, "groups");
    return 1;
}

/***
The name of this machine.
@function host
@treturn string
*/
static int host(lua_State *L)
{
    char name[256] = "";

    gethostname(name, sizeof name - 1);
    lua_pushstring(L, name);
    return 1;
}

/***
Seconds of a clock that never jumps.
@function now
@treturn number
*/
static int now(lua_State *L)
{
    struct timespec time = { 0 };

    clock_gettime(CLOCK_MONOTONIC, &time);
    lua_pushnumber(L, (lua_Number)time.tv_sec + (lua_Number)time.tv_nsec / 1e9);
    return 1;
}

static const luaL_Reg file_functions[] = {
    { "trusted", file_trusted },
    { "read", file_read },
    { "write", file_write },
    { "can_create", file_can_create },
    { "create", file_create },
    { "list", file_list },
    { "lock", file_lock },
    { "mkdir", file_mkdir },
    { "exists", file_exists },
    { "owner", file_owner },
    { "remove_tree", file_remove_tree },
    { "realpath", file_realpath },
    { NULL, NULL },
};

static const luaL_Reg lock_meta[] = {
    { "__close", lock_close },
    { "__gc", lock_close },
    { NULL, NULL },
};

static const luaL_Reg functions[] = {
    { "user", user },
    { "host", host },
    { "now", now },
    { NULL, NULL },
};

void kf_lua_open_file(lua_State *L)
{
    luaL_newmetatable(L, LOCK);
    luaL_setfuncs(L, lock_meta, 0);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, lock_close);
    lua_setfield(L, -2, "close");
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_setfuncs(L, functions, 0);
    luaL_newlib(L, file_functions);
    lua_setfield(L, -2, "file");
}
