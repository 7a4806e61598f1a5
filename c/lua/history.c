/* SPDX-License-Identifier: MIT */
#include "lua/history.h"
#include "base/file.h"
#include "lua/door.h"
#include "lua/error.h"
#include "lua/keep.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_BYTES = 1024 * 1024, LOCK_MS = 2000, TRIES = 5 };

struct file {
    int fd;
    char *bytes; /* the end of the file, whole lines */
    size_t len;
};

static void file_close(void *held)
{
    struct file *file = held;

    if (file->fd >= 0)
        close(file->fd);
    free(file->bytes);
    file->fd = -1;
    file->bytes = NULL;
}

/* A link could lead to any file of this user, and what others may write could be read
 * back as lines that this user typed. */
static kf_rv check_own(int fd, const char *path, struct kf_error *err)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return kf_fail_errno(err, "fstat", "%s", path);
    if (!S_ISREG(st.st_mode))
        return kf_fail(err, KFR_REFUSED, NULL, NULL, "%s is not a file", path);
    if (st.st_uid != geteuid())
        return kf_fail(err, KFR_REFUSED, NULL, NULL, "%s belongs to another user", path);
    if (st.st_mode & (S_IWGRP | S_IWOTH))
        return kf_fail(err, KFR_REFUSED, NULL, "take the others' right to write",
                       "others may write %s", path);
    if ((st.st_mode & 07777) != 0600 && fchmod(fd, 0600) != 0)
        return kf_fail_errno(err, "fchmod", "%s", path);
    return KFR_OK;
}

/* -> file->fd, which file_close() closes on every path. */
static kf_rv open_own(struct file *file, const char *path, int flags,
                      struct kf_error *err)
{
    file->fd = open(path, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
    if (file->fd < 0 && errno == ELOOP)
        return kf_fail(err, KFR_REFUSED, NULL, "put a file in its place",
                       "%s is a symbolic link", path);
    if (file->fd < 0)
        return kf_fail_errno(err, "open", "%s", path);
    return check_own(file->fd, path, err);
}

/* The last FILE_BYTES of it, from the first whole line on. */
static kf_rv read_end(struct file *file, const char *path, struct kf_error *err)
{
    struct stat st;
    off_t from;
    ssize_t got;
    char *line;

    if (fstat(file->fd, &st) != 0)
        return kf_fail_errno(err, "fstat", "%s", path);
    from = st.st_size > FILE_BYTES ? st.st_size - FILE_BYTES : 0;
    free(file->bytes);
    file->bytes = malloc(FILE_BYTES);
    if (!file->bytes)
        return kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for the history");
    if (lseek(file->fd, from, SEEK_SET) < 0)
        return kf_fail_errno(err, "lseek", "%s", path);
    got = kf_file_read_full(file->fd, file->bytes, FILE_BYTES);
    if (got < 0)
        return kf_fail_errno(err, "read", "%s", path);
    file->len = (size_t)got;
    line = from ? memchr(file->bytes, '\n', file->len) : NULL;
    if (line) {
        file->len -= (size_t)(line + 1 - file->bytes);
        memmove(file->bytes, line + 1, file->len);
    }
    return KFR_OK;
}

/* Keeps the last `lines` lines. */
static void cut(struct file *file, size_t lines)
{
    size_t at = file->len;

    while (at > 0) {
        if (file->bytes[at - 1] == '\n' && at != file->len && --lines == 0)
            break;
        at--;
    }
    file->len -= at;
    memmove(file->bytes, file->bytes + at, file->len);
}

static size_t count(const struct file *file)
{
    size_t lines = 0;

    for (size_t i = 0; i < file->len; i++)
        lines += file->bytes[i] == '\n';
    return lines;
}

/* Whether path still is what was opened: another shell may have put a new file there. */
static bool is_current(const struct file *file, const char *path)
{
    struct stat ours, theirs;

    return fstat(file->fd, &ours) == 0 && lstat(path, &theirs) == 0 &&
           ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino;
}

static kf_rv open_locked(struct file *file, const char *path, struct kf_error *err)
{
    kf_rv rv = KFR_SYSTEM;

    for (int i = 0; i < TRIES; i++) {
        rv = open_own(file, path, O_RDWR | O_APPEND | O_CREAT, err);
        if (rv == KFR_OK)
            rv = kf_file_lock(file->fd, true, LOCK_MS, err);
        if (rv != KFR_OK || is_current(file, path))
            return rv;
        file_close(file);
    }
    return kf_fail(err, KFR_SYSTEM, NULL, NULL, "%s does not stay the same", path);
}

/* The line, then, when there are too many, a new file of the last nine tenths. */
static kf_rv append(struct file *file, const char *path, const char *text, size_t len,
                    size_t lines, struct kf_error *err)
{
    kf_rv rv = open_locked(file, path, err);

    if (rv != KFR_OK)
        return rv;
    if (kf_file_write_full(file->fd, text, len) != (ssize_t)len)
        return kf_fail_errno(err, "write", "%s", path);
    rv = read_end(file, path, err);
    if (rv != KFR_OK || count(file) <= lines)
        return rv;
    cut(file, lines - lines / 10);
    return kf_file_write(path, file->bytes, file->len, 0600, err);
}

/* core.history.append(path, text, lines) -> true | nil, err */
static int history_append(lua_State *L)
{
    const char *path = kf_lua_check_text(L, 1);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    lua_Integer lines = luaL_checkinteger(L, 3);
    struct file file = { .fd = -1 };
    struct kf_error err = { 0 };
    kf_rv rv;

    luaL_argcheck(L, len < FILE_BYTES / 2, 2, "too long");
    luaL_argcheck(L, lines > 0, 3, "not a number of lines");
    rv = append(&file, path, text, len, (size_t)lines, &err);
    file_close(&file);
    return kf_lua_done(L, rv, &err);
}

/* core.history.read(path) -> string | nil, err. No file is "". */
static int history_read(lua_State *L)
{
    const char *path = kf_lua_check_text(L, 1);
    struct file *file = lua_newuserdatauv(L, sizeof *file, 0);
    struct kf_lua_keep *keep = kf_lua_keep(L, file_close);
    struct kf_error err = { 0 };
    kf_rv rv = KFR_SYSTEM;

    *file = (struct file){ .fd = -1 };
    keep->held = file;
    rv = open_own(file, path, O_RDONLY, &err);
    if (rv == KFR_OK)
        rv = read_end(file, path, &err);
    if (rv != KFR_OK && err.sys != ENOENT)
        return kf_lua_refuse(L, &err);
    lua_pushlstring(L, file->bytes ? file->bytes : "", file->len);
    return 1;
}

static const luaL_Reg functions[] = {
    { "append", history_append },
    { "read", history_read },
    { NULL, NULL },
};

void kf_lua_open_history(lua_State *L)
{
    luaL_newlib(L, functions);
    lua_setfield(L, -2, "history");
}
