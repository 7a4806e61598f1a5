/* SPDX-License-Identifier: MIT */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    DEPTH_MAX = 64,           /* of a tree to be removed: one descriptor a level */
    TEMPORARY_WAIT_MS = 5000, /* for another writer of the same file */
    LOCK_PAUSE_MS = 2
};

static void close_keeping_errno(int fd)
{
    int sys = errno;

    if (fd >= 0)
        close(fd);
    errno = sys;
}

/* ---- locks ---- */

static long long now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

kf_rv kf_file_lock(int fd, bool exclusive, int wait_ms, struct kf_error *err)
{
    /* l_start and l_len 0: the whole file; l_pid must be 0 for these locks. */
    struct flock lock = { .l_whence = SEEK_SET };
    struct timespec pause = { .tv_sec = 0, .tv_nsec = LOCK_PAUSE_MS * 1000000L };
    long long until = now_ms() + wait_ms;

    lock.l_type = exclusive ? F_WRLCK : F_RDLCK;
    while (fcntl(fd, F_OFD_SETLK, &lock) != 0) {
        if (errno == EACCES)
            errno = EAGAIN;
        if (errno != EINTR && (errno != EAGAIN || now_ms() >= until))
            return kf_fail_errno(err, "fcntl", "locking a file");
        nanosleep(&pause, NULL);
    }
    return KFR_OK;
}

void kf_file_unlock(int fd)
{
    struct flock lock = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

    (void)fcntl(fd, F_OFD_SETLK, &lock);
}

/* ---- whole reads and writes ---- */

ssize_t kf_file_read_full(int fd, void *bytes, size_t n)
{
    unsigned char *at = bytes;
    size_t got = 0;

    while (got < n) {
        ssize_t step = read(fd, at + got, n - got);

        if (step < 0 && errno == EINTR)
            continue;
        if (step < 0)
            return -1;
        if (step == 0)
            break;
        got += (size_t)step;
    }
    return (ssize_t)got;
}

ssize_t kf_file_write_full(int fd, const void *bytes, size_t n)
{
    const unsigned char *at = bytes;
    size_t put = 0;

    while (put < n) {
        ssize_t step = write(fd, at + put, n - put);

        if (step < 0 && errno == EINTR)
            continue;
        if (step < 0)
            return -1;
        put += (size_t)step;
    }
    return (ssize_t)put;
}

/* The size of an open regular file of at most max bytes. */
static kf_rv regular_size(int fd, const char *path, size_t max, size_t *size,
                          struct kf_error *err)
{
    struct stat status;

    if (fstat(fd, &status) != 0)
        return kf_fail_errno(err, "fstat", "%s", path);
    if (!S_ISREG(status.st_mode))
        return kf_fail(err, KFR_ARGUMENT, "open", "", "%s is not a regular file", path);
    if (status.st_size < 0 || (uintmax_t)status.st_size > max)
        return kf_fail(err, KFR_LIMIT, "open", "", "%s is larger than %zu bytes", path,
                       max);
    *size = (size_t)status.st_size;
    return KFR_OK;
}

kf_rv kf_file_read(const char *path, size_t max, struct kf_secret **out,
                   struct kf_error *err)
{
    struct kf_secret *secret = NULL;
    size_t size = 0;
    ssize_t got;
    kf_rv rv = KFR_SYSTEM;
    int fd;

    *out = NULL;
    /* Not blocking: opening a pipe that nobody writes to must not hang. */
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) {
        rv = kf_fail_errno(err, "open", "%s", path);
        goto done;
    }
    rv = regular_size(fd, path, max, &size, err);
    if (rv != KFR_OK)
        goto done;
    /* One byte more than there is, to notice a file that grows. */
    secret = kf_secret_new(size + 1);
    if (!secret) {
        rv = kf_fail(err, KFR_MEMORY, "", "", "no memory for %s", path);
        goto done;
    }
    got = kf_file_read_full(fd, secret->data, size + 1);
    if (got < 0) {
        rv = kf_fail_errno(err, "read", "%s", path);
        goto done;
    }
    if ((size_t)got > size) {
        rv = kf_fail(err, KFR_LIMIT, "read", "try again when nobody writes to it",
                     "%s grew while it was read", path);
        goto done;
    }
    kf_secret_cut(secret, (size_t)got);
    *out = secret;
    secret = NULL;
done:
    kf_secret_free(secret);
    close_keeping_errno(fd);
    return rv;
}

/* Where the last component of a path begins, and the folder before it into folder. */
static bool split_path(const char *path, char folder[PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;
    const char *from = path;

    if (!slash) {
        from = ".";
        len = 1;
    } else if (len == 0) {
        len = 1; /* the root itself */
    }
    if (len >= PATH_MAX)
        return false;
    memcpy(folder, from, len);
    folder[len] = '\0';
    return true;
}

static kf_rv sync_folder(const char *path, struct kf_error *err)
{
    char folder[PATH_MAX];
    kf_rv rv = KFR_OK;
    int fd;

    if (!split_path(path, folder))
        return kf_fail(err, KFR_ARGUMENT, "", "", "path too long: %s", path);
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return kf_fail_errno(err, "open", "%s", folder);
    /* Some file systems have no fsync for folders, and say EINVAL. */
    if (fsync(fd) != 0 && errno != EINVAL)
        rv = kf_fail_errno(err, "fsync", "%s", folder);
    close(fd);
    return rv;
}

static bool is_same_file(int fd, const char *path)
{
    struct stat opened, there;

    return fstat(fd, &opened) == 0 && lstat(path, &there) == 0 &&
           opened.st_dev == there.st_dev && opened.st_ino == there.st_ino;
}

static bool is_our_own(int fd)
{
    struct stat status;

    return fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_nlink == 1 &&
           status.st_uid == geteuid();
}

/* The temporary file, empty, locked and ours. One may lie there from a crash, or be
 * another writer's, who holds its lock until the rename: after waiting for that, the
 * name is another file's, or nobody's. */
static kf_rv open_temporary(const char *path, int wait_ms, int *out,
                            struct kf_error *err)
{
    const int flags = O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    const long long until = now_ms() + wait_ms;
    kf_rv rv = KFR_SYSTEM;
    int fd = -1;

    for (;;) {
        fd = open(path, flags, 0600);
        if (fd < 0)
            return kf_fail_errno(err, "open", "%s", path);
        rv = kf_file_lock(fd, true, (int)(until - now_ms()), err);
        if (rv != KFR_OK || is_same_file(fd, path))
            break;
        close(fd);
    }
    if (rv == KFR_OK && !is_our_own(fd))
        rv = kf_fail(err, KFR_REFUSED, "open", "remove it",
                     "%s is there and is not a plain file of this user", path);
    if (rv == KFR_OK && ftruncate(fd, 0) != 0)
        rv = kf_fail_errno(err, "ftruncate", "%s", path);
    if (rv == KFR_OK)
        *out = fd;
    else
        close_keeping_errno(fd);
    return rv;
}

kf_rv kf_file_begin(const char *temporary, mode_t mode, int wait_ms, int *out,
                    struct kf_error *err)
{
    int fd = -1;
    kf_rv rv = open_temporary(temporary, wait_ms, &fd, err);

    if (rv != KFR_OK)
        return rv;
    if (fchmod(fd, mode) != 0) {
        rv = kf_fail_errno(err, "fchmod", "%s", temporary);
        kf_file_abandon(fd, temporary);
        return rv;
    }
    *out = fd;
    return KFR_OK;
}

void kf_file_abandon(int fd, const char *temporary)
{
    unlink(temporary);
    close(fd);
}

/* Gives a file a name that must be free. Not every file system has RENAME_NOREPLACE, or
 * links. */
static int rename_to_new(const char *from, const char *to)
{
    struct stat status;

    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    if (link(from, to) == 0)
        return unlink(from);
    if (errno == EEXIST)
        return -1;
    if (lstat(to, &status) == 0) {
        errno = EEXIST;
        return -1;
    }
    return rename(from, to);
}

kf_rv kf_file_finish(int fd, const char *temporary, const char *path, bool replace,
                     struct kf_error *err)
{
    kf_rv rv = KFR_OK;

    if (fsync(fd) != 0)
        rv = kf_fail_errno(err, "fsync", "%s", temporary);
    else if ((replace ? rename : rename_to_new)(temporary, path) != 0)
        rv = errno == EEXIST
                 ? kf_fail(err, KFR_EXISTS, "rename", "", "%s is there already", path)
                 : kf_fail_errno(err, "rename", "%s to %s", temporary, path);
    if (rv != KFR_OK) {
        kf_file_abandon(fd, temporary);
        return rv;
    }
    rv = sync_folder(path, err);
    close(fd);
    return rv;
}

kf_rv kf_file_write(const char *path, const void *bytes, size_t len, mode_t mode,
                    struct kf_error *err)
{
    char temporary[PATH_MAX];
    kf_rv rv = KFR_SYSTEM;
    int fd = -1;
    int n = snprintf(temporary, sizeof temporary, "%s.tmp", path);

    if (n < 0 || (size_t)n >= sizeof temporary)
        return kf_fail(err, KFR_ARGUMENT, "", "", "path too long: %s", path);
    rv = kf_file_begin(temporary, mode, TEMPORARY_WAIT_MS, &fd, err);
    if (rv != KFR_OK)
        return rv;
    if (kf_file_write_full(fd, bytes, len) < 0) {
        rv = kf_fail_errno(err, "write", "%s", temporary);
        kf_file_abandon(fd, temporary);
        return rv;
    }
    return kf_file_finish(fd, temporary, path, true, err);
}

/* ---- new files ---- */

/* A link such as /dev/stdout, in whose place nobody wants a file: it leads to a device or a
 * pipe, or to what a process has open (proc(5)). */
static bool leads_to_no_file(const char *path)
{
    char target[sizeof "/proc/"];
    struct stat status;

    if (readlink(path, target, sizeof target) == (ssize_t)sizeof target &&
        memcmp(target, "/proc/", strlen("/proc/")) == 0)
        return true;
    return stat(path, &status) == 0 && !S_ISREG(status.st_mode);
}

static kf_rv refuse_what_is_there(const char *path, bool replace, struct kf_error *err)
{
    struct stat status;

    if (lstat(path, &status) != 0)
        return errno == ENOENT ? KFR_OK : kf_fail_errno(err, "lstat", "%s", path);
    if (S_ISDIR(status.st_mode))
        return kf_fail(err, KFR_ARGUMENT, "", "name a file in it", "%s is a folder", path);
    if (!replace)
        return kf_fail(err, KFR_EXISTS, "", "name another file, or remove that one",
                       "%s is there already", path);
    /* In the place of a device or a pipe there would be a file. A link to a file, or to
     * nothing, is replaced itself. */
    if (!S_ISREG(status.st_mode) && (!S_ISLNK(status.st_mode) || leads_to_no_file(path)))
        return kf_fail(err, KFR_ARGUMENT, "", "name a file", "%s is not a regular file",
                       path);
    return KFR_OK;
}

/* An empty file of a name that nobody has, in the folder of path. */
static kf_rv open_beside(const char *path, char name[PATH_MAX], int *out,
                         struct kf_error *err)
{
    static const char pattern[] = "/.keyferry.XXXXXX";
    size_t len;

    if (!split_path(path, name) || (len = strlen(name)) + sizeof pattern > PATH_MAX)
        return kf_fail(err, KFR_ARGUMENT, "", "", "path too long: %s", path);
    memcpy(name + len, pattern, sizeof pattern);
    *out = mkostemp(name, O_CLOEXEC);
    if (*out >= 0)
        return KFR_OK;
    name[len] = '\0';
    if (errno == ENOENT || errno == ENOTDIR)
        return kf_fail(err, KFR_NOT_FOUND, "", "make it, or name another file",
                       "there is no folder %s to put %s in", name, path);
    return kf_fail_errno(err, "open", "a new file in %s", name);
}

kf_rv kf_file_can_create(const char *path, bool replace, struct kf_error *err)
{
    char name[PATH_MAX];
    int fd = -1;
    kf_rv rv = refuse_what_is_there(path, replace, err);

    if (rv == KFR_OK && (path[0] == '\0' || path[strlen(path) - 1] == '/'))
        rv = kf_fail(err, KFR_ARGUMENT, "", "", "\"%s\" is no name of a file", path);
    if (rv == KFR_OK)
        rv = open_beside(path, name, &fd, err);
    if (rv == KFR_OK) {
        unlink(name);
        close(fd);
    }
    return rv;
}

kf_rv kf_file_create(const char *path, const void *bytes, size_t len, mode_t mode,
                     bool replace, struct kf_error *err)
{
    char name[PATH_MAX];
    int fd = -1;
    kf_rv rv = refuse_what_is_there(path, replace, err);

    if (rv == KFR_OK)
        rv = open_beside(path, name, &fd, err);
    if (rv != KFR_OK)
        return rv;
    if (fchmod(fd, mode) != 0)
        rv = kf_fail_errno(err, "fchmod", "%s", name);
    else if (kf_file_write_full(fd, bytes, len) < 0)
        rv = kf_fail_errno(err, "write", "%s", path);
    if (rv == KFR_OK)
        return kf_file_finish(fd, name, path, replace, err);
    kf_file_abandon(fd, name);
    return rv;
}

/* ---- trust ---- */

static bool is_ours_or_roots(const struct stat *status)
{
    return status->st_uid == geteuid() || status->st_uid == 0;
}

static bool others_write(const struct stat *status)
{
    return (status->st_mode & (S_IWGRP | S_IWOTH)) != 0;
}

/* The file itself, never a link. */
static kf_rv check_file(const char *path, struct kf_error *err)
{
    struct stat status;

    if (lstat(path, &status) != 0)
        return kf_fail_errno(err, "lstat", "%s", path);
    if (!is_ours_or_roots(&status))
        return kf_fail(err, KFR_REFUSED, "", "use a file of your own",
                       "%s belongs to another user", path);
    if (!S_ISLNK(status.st_mode) && others_write(&status))
        return kf_fail(err, KFR_REFUSED, "", "chmod go-w it", "others may write %s",
                       path);
    return KFR_OK;
}

/* Its folder. In one of root's with the sticky bit (/tmp) others can add files but not
 * replace this one. */
static kf_rv check_folder_of(const char *path, struct kf_error *err)
{
    char folder[PATH_MAX];
    struct stat status;

    if (!split_path(path, folder))
        return kf_fail(err, KFR_ARGUMENT, "", "", "path too long: %s", path);
    if (stat(folder, &status) != 0)
        return kf_fail_errno(err, "stat", "%s", folder);
    if (!is_ours_or_roots(&status))
        return kf_fail(err, KFR_REFUSED, "", "move it to a folder of your own",
                       "the folder of %s belongs to another user", path);
    if (others_write(&status) && !(status.st_uid == 0 && (status.st_mode & S_ISVTX)))
        return kf_fail(err, KFR_REFUSED, "", "chmod go-w the folder",
                       "others may write the folder of %s", path);
    return KFR_OK;
}

kf_rv kf_file_trusted(const char *path, struct kf_error *err)
{
    char *target = NULL;
    kf_rv rv = KFR_SYSTEM;

    target = realpath(path, NULL);
    if (!target) {
        rv = kf_fail_errno(err, "realpath", "%s", path);
        goto done;
    }
    /* As named, in case it is a link that others may set; then what it leads to. */
    rv = check_file(path, err);
    if (rv == KFR_OK)
        rv = check_folder_of(path, err);
    if (rv == KFR_OK)
        rv = check_file(target, err);
    if (rv == KFR_OK)
        rv = check_folder_of(target, err);
done:
    free(target);
    return rv;
}

/* ---- removing ---- */

static kf_rv empty_folder(int fd, const char *path, int depth, struct kf_error *err);

static kf_rv remove_entry(int folder, const char *name, const char *path, int depth,
                          struct kf_error *err)
{
    kf_rv rv;
    int fd;

    if (unlinkat(folder, name, 0) == 0 || errno == ENOENT)
        return KFR_OK;
    /* POSIX says EPERM for a folder, Linux EISDIR. */
    if (errno != EISDIR && errno != EPERM)
        return kf_fail_errno(err, "unlinkat", "%s in %s", name, path);
    fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return kf_fail_errno(err, "openat", "%s in %s", name, path);
    rv = empty_folder(fd, path, depth + 1, err);
    if (rv == KFR_OK && unlinkat(folder, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
        rv = kf_fail_errno(err, "unlinkat", "%s in %s", name, path);
    return rv;
}

/* One pass over an open folder; *removed says how many entries went. */
static kf_rv empty_once(DIR *folder, const char *path, int depth, size_t *removed,
                        struct kf_error *err)
{
    struct dirent *entry;
    kf_rv rv = KFR_OK;

    *removed = 0;
    while (rv == KFR_OK && (errno = 0, entry = readdir(folder))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        rv = remove_entry(dirfd(folder), entry->d_name, path, depth, err);
        ++*removed;
    }
    if (rv == KFR_OK && errno)
        rv = kf_fail_errno(err, "readdir", "%s", path);
    return rv;
}

/* Empties the folder open at fd, which it closes. Removing while reading may skip
 * entries on some file systems, so it reads again until there is nothing. */
static kf_rv empty_folder(int fd, const char *path, int depth, struct kf_error *err)
{
    DIR *folder = depth < DEPTH_MAX ? fdopendir(fd) : NULL;
    size_t removed = 0;
    kf_rv rv = KFR_OK;

    if (!folder) {
        if (depth < DEPTH_MAX)
            rv = kf_fail_errno(err, "fdopendir", "%s", path);
        else
            rv = kf_fail(err, KFR_LIMIT, "", "remove it by hand",
                         "there are more than %d folders in one another in %s",
                         DEPTH_MAX, path);
        close(fd);
        return rv;
    }
    do {
        rewinddir(folder);
        rv = empty_once(folder, path, depth, &removed, err);
    } while (rv == KFR_OK && removed);
    closedir(folder);
    return rv;
}

kf_rv kf_file_remove_tree(const char *path, struct kf_error *err)
{
    char name[PATH_MAX];
    size_t len = strlen(path);
    kf_rv rv;
    int fd;

    if (len >= sizeof name)
        return kf_fail(err, KFR_ARGUMENT, "", "", "path too long: %s", path);
    memcpy(name, path, len + 1);
    /* O_NOFOLLOW does not hold for a name with a slash at its end. */
    while (len > 1 && name[len - 1] == '/')
        name[--len] = '\0';
    fd = open(name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return kf_fail_errno(err, "open", "%s", name);
    rv = empty_folder(fd, name, 0, err);
    if (rv == KFR_OK && rmdir(name) != 0)
        rv = kf_fail_errno(err, "rmdir", "%s", name);
    return rv;
}
