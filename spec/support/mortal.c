/* SPDX-License-Identifier: MIT
 * mortal: preloaded, a program dies (SIGKILL) in the middle of its work on files.
 *
 * MORTAL_AT   the number of the call that changes a file below MORTAL_IN (a file is made,
 *             written to, renamed, removed, locked in its length) which is not made any more
 * MORTAL_IN   the folder whose files count
 * MORTAL_LOG  a file that gets a line for each such call, the path
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#pragma GCC visibility push(default) /* what is not static takes the C library's place */

static long count;
static bool inside; /* one of ours is at work */

static const char *setting(const char *name)
{
    const char *value = getenv(name);

    return value ? value : "";
}

static void note(const char *path)
{
    const char *log = setting("MORTAL_LOG");
    int fd;

    if (!*log)
        return;
    inside = true;
    fd = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0) {
        dprintf(fd, "%s\n", path);
        close(fd);
    }
    inside = false;
}

static void step(const char *path)
{
    const char *folder = setting("MORTAL_IN");

    if (inside || !path || !*folder || !strstr(path, folder))
        return;
    note(path);
    if (++count == atol(setting("MORTAL_AT")))
        kill(getpid(), SIGKILL);
}

static void step_at(int dir, const char *name)
{
    char link[64], path[PATH_MAX];
    ssize_t len;

    if (inside)
        return;
    if (dir == AT_FDCWD || name[0] == '/') {
        step(name);
        return;
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
    len = readlink(link, path, sizeof path - 1);
    if (len > 0) {
        path[len] = '\0';
        step(path);
    }
}

static void step_fd(int fd)
{
    step_at(fd, "");
}

static void *next(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);

    if (!found)
        abort();
    return found;
}

/* Calls `name` of the C library, whose type is that of the function it is in. */
#define REAL(type, name) ((type)next(name))

static mode_t mode_of(int flags, va_list arguments)
{
    return (flags & (O_CREAT | __O_TMPFILE)) ? va_arg(arguments, mode_t) : 0;
}

#define OPEN(name)                                             \
    int name(const char *path, int flags, ...)                 \
    {                                                          \
        va_list arguments;                                     \
        mode_t mode;                                           \
                                                               \
        va_start(arguments, flags);                            \
        mode = mode_of(flags, arguments);                      \
        va_end(arguments);                                     \
        if (flags & (O_CREAT | O_TRUNC))                       \
            step(path);                                        \
        return REAL(int (*)(const char *, int, ...), #name)(   \
            path, flags, mode);                                \
    }

#define OPENAT(name)                                            \
    int name(int dir, const char *path, int flags, ...)         \
    {                                                           \
        va_list arguments;                                      \
        mode_t mode;                                            \
                                                                \
        va_start(arguments, flags);                             \
        mode = mode_of(flags, arguments);                       \
        va_end(arguments);                                      \
        if (flags & (O_CREAT | O_TRUNC))                        \
            step_at(dir, path);                                 \
        return REAL(int (*)(int, const char *, int, ...), #name)( \
            dir, path, flags, mode);                            \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

FILE *fopen(const char *path, const char *mode)
{
    if (mode[0] != 'r')
        step(path);
    return REAL(FILE * (*)(const char *, const char *), "fopen")(path, mode);
}

FILE *fopen64(const char *path, const char *mode)
{
    if (mode[0] != 'r')
        step(path);
    return REAL(FILE * (*)(const char *, const char *), "fopen64")(path, mode);
}

/* What a library has written and not flushed is lost. */
int fflush(FILE *file)
{
    if (file && fileno(file) > 2)
        step_fd(fileno(file));
    return REAL(int (*)(FILE *), "fflush")(file);
}

int fclose(FILE *file)
{
    step_fd(fileno(file));
    return REAL(int (*)(FILE *), "fclose")(file);
}

ssize_t write(int fd, const void *bytes, size_t n)
{
    if (fd > 2)
        step_fd(fd);
    return REAL(ssize_t(*)(int, const void *, size_t), "write")(fd, bytes, n);
}

int ftruncate(int fd, off_t length)
{
    step_fd(fd);
    return REAL(int (*)(int, off_t), "ftruncate")(fd, length);
}

int fsync(int fd)
{
    step_fd(fd);
    return REAL(int (*)(int), "fsync")(fd);
}

int rename(const char *from, const char *to)
{
    step(to);
    return REAL(int (*)(const char *, const char *), "rename")(from, to);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    step_at(to_dir, to);
    return REAL(int (*)(int, const char *, int, const char *), "renameat")(
        from_dir, from, to_dir, to);
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    step_at(to_dir, to);
    return REAL(int (*)(int, const char *, int, const char *, unsigned), "renameat2")(
        from_dir, from, to_dir, to, flags);
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    step_at(to_dir, to);
    return REAL(int (*)(int, const char *, int, const char *, int), "linkat")(
        from_dir, from, to_dir, to, flags);
}

int unlink(const char *path)
{
    step(path);
    return REAL(int (*)(const char *), "unlink")(path);
}

int unlinkat(int dir, const char *path, int flags)
{
    step_at(dir, path);
    return REAL(int (*)(int, const char *, int), "unlinkat")(dir, path, flags);
}

int remove(const char *path)
{
    step(path);
    return REAL(int (*)(const char *), "remove")(path);
}

int mkdir(const char *path, mode_t mode)
{
    step(path);
    return REAL(int (*)(const char *, mode_t), "mkdir")(path, mode);
}

int mkdirat(int dir, const char *path, mode_t mode)
{
    step_at(dir, path);
    return REAL(int (*)(int, const char *, mode_t), "mkdirat")(dir, path, mode);
}

#pragma GCC visibility pop
