/* SPDX-License-Identifier: MIT */
#include "base/channel.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    BUFFER = 64 * 1024,
    PIPE = 1024 * 1024, /* what Linux gives anybody (pipe(7)) */
    PATIENCE_MS = 200, /* between two looks at whether to stop */
    FILE_MODE = 0600
};

static const char SUFFIX[] = ".keyferry-unfinished";

struct kf_channel {
    int fd;
    bool ours;       /* the descriptor is to be closed */
    bool regular;    /* reads and writes do not wait for anybody */
    bool unfinished; /* a file is to be put in its place, or to go */
    bool replace;
    off_t start;
    kf_channel_stop *stop;
    size_t at, len;           /* reading: what is left; writing: 0 and what waits */
    char path[PATH_MAX];      /* empty: the standard one */
    char temporary[PATH_MAX + sizeof SUFFIX];
    const char *name;
    unsigned char buffer[BUFFER];
};

const char *kf_channel_name(const struct kf_channel *channel)
{
    return channel->name;
}

void kf_channel_free(struct kf_channel *channel)
{
    if (!channel)
        return;
    if (channel->unfinished)
        kf_file_abandon(channel->fd, channel->temporary);
    else if (channel->ours && channel->fd >= 0)
        close(channel->fd);
    free(channel);
}

static kf_rv new_channel(const char *path, const char *standard, kf_channel_stop *stop,
                         struct kf_channel **out, struct kf_error *err)
{
    struct kf_channel *channel;

    if (path && (!path[0] || strlen(path) >= PATH_MAX))
        return kf_fail(err, KFR_ARGUMENT, "", "", "not a path: \"%.100s\"", path);
    channel = calloc(1, sizeof *channel);
    if (!channel)
        return kf_fail(err, KFR_MEMORY, "", "", "no memory for a buffer");
    channel->fd = -1;
    channel->ours = path != NULL;
    channel->stop = stop;
    if (path)
        memcpy(channel->path, path, strlen(path) + 1);
    channel->name = path ? channel->path : standard;
    *out = channel;
    return KFR_OK;
}

/* ---- waiting ---- */

static kf_rv check_stop(const struct kf_channel *channel, struct kf_error *err)
{
    if (channel->stop && channel->stop())
        return kf_fail(err, KFR_INTERRUPTED, "", "", "interrupted while waiting for %s",
                       channel->name);
    return KFR_OK;
}

/* Until something can be read or written, or the other end is gone. */
static kf_rv wait_for(const struct kf_channel *channel, short events,
                      struct kf_error *err)
{
    struct pollfd one = { .fd = channel->fd, .events = events };
    kf_rv rv = KFR_OK;
    int ready = 0;

    if (channel->regular)
        return KFR_OK;
    while (rv == KFR_OK && ready == 0) {
        ready = poll(&one, 1, PATIENCE_MS);
        if (ready < 0 && errno != EINTR)
            return kf_fail_errno(err, "poll", "%s", channel->name);
        if (ready <= 0) {
            ready = 0;
            rv = check_stop(channel, err);
        }
    }
    return rv;
}

/* ---- reading ---- */

static kf_rv start_reading(struct kf_channel *channel, struct kf_error *err)
{
    struct stat status;

    if (fstat(channel->fd, &status) != 0)
        return kf_fail_errno(err, "fstat", "%s", channel->name);
    if (S_ISDIR(status.st_mode))
        return kf_fail(err, KFR_ARGUMENT, "open", "name a file", "%.300s is a folder",
                       channel->name);
    if (isatty(channel->fd))
        return kf_fail(err, KFR_ARGUMENT, "", "name a file, or use a pipe",
                       "%.300s is a terminal", channel->name);
    channel->regular = S_ISREG(status.st_mode);
    channel->start = channel->regular ? lseek(channel->fd, 0, SEEK_CUR) : 0;
    if (channel->start < 0)
        return kf_fail_errno(err, "lseek", "%s", channel->name);
    return KFR_OK;
}

/* Room for one side to go on while the other one is at something else. A pipe that stays
 * as it is will do, too. */
static void widen(const struct kf_channel *channel)
{
#ifdef F_SETPIPE_SZ
    if (!channel->regular)
        (void)fcntl(channel->fd, F_SETPIPE_SZ, PIPE);
#endif
}

kf_rv kf_channel_source(const char *path, kf_channel_stop *stop,
                        struct kf_channel **out, struct kf_error *err)
{
    struct kf_channel *channel = NULL;
    kf_rv rv = new_channel(path, "standard input", stop, &channel, err);

    *out = NULL;
    if (rv)
        return rv;
    /* Not blocking: that nobody writes to a pipe yet is waited for in wait_for. */
    channel->fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)
                       : STDIN_FILENO;
    if (channel->fd < 0)
        rv = kf_fail_errno(err, "open", "%s", path);
    if (!rv)
        rv = start_reading(channel, err);
    if (rv) {
        kf_channel_free(channel);
    } else {
        widen(channel);
        *out = channel;
    }
    return rv;
}

/* One read, when something is there; *got 0: there is no more. */
static kf_rv read_some(const struct kf_channel *channel, void *bytes, size_t n,
                       size_t *got, struct kf_error *err)
{
    ssize_t step = -1;

    while (step < 0) {
        kf_rv rv = wait_for(channel, POLLIN, err);

        if (rv)
            return rv;
        step = read(channel->fd, bytes, n);
        if (step < 0 && errno != EINTR && errno != EAGAIN)
            return kf_fail_errno(err, "read", "%s", channel->name);
    }
    *got = (size_t)step;
    return KFR_OK;
}

kf_rv kf_channel_read(struct kf_channel *channel, void *bytes, size_t n, size_t *got,
                      struct kf_error *err)
{
    unsigned char *to = bytes;
    kf_rv rv = KFR_OK;

    *got = 0;
    while (*got < n) {
        size_t part = channel->len < n - *got ? channel->len : n - *got;

        memcpy(to + *got, channel->buffer + channel->at, part);
        channel->at += part;
        channel->len -= part;
        *got += part;
        if (*got == n)
            break;
        channel->at = 0;
        rv = read_some(channel, channel->buffer, BUFFER, &channel->len, err);
        if (rv || channel->len == 0)
            break;
    }
    return rv;
}

bool kf_channel_can_rewind(const struct kf_channel *channel)
{
    return channel->regular;
}

kf_rv kf_channel_rewind(struct kf_channel *channel, struct kf_error *err)
{
    if (!channel->regular)
        return kf_fail(err, KFR_ARGUMENT, "", "use a file",
                       "%.300s cannot be read a second time", channel->name);
    if (lseek(channel->fd, channel->start, SEEK_SET) < 0)
        return kf_fail_errno(err, "lseek", "%s", channel->name);
    channel->at = channel->len = 0;
    return KFR_OK;
}

/* ---- writing ---- */

/* One write. In a library the signal belongs to the program: SIGPIPE is blocked in this
 * thread meanwhile, and taken away when it was this write that raised it. */
static ssize_t write_quietly(int fd, const void *bytes, size_t n)
{
    const struct timespec none = { 0 };
    sigset_t pipe_only, before, pending;
    bool waited = false;
    ssize_t step;
    int sys;

    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    if (sigpending(&pending) == 0)
        waited = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
    step = write(fd, bytes, n);
    sys = errno;
    if (step < 0 && sys == EPIPE && !waited)
        while (sigtimedwait(&pipe_only, NULL, &none) < 0 && errno == EINTR)
            ;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = sys;
    return step;
}

/* A pipe that can be written takes PIPE_BUF bytes without blocking (pipe(7)), so that
 * nothing but wait_for waits. */
static kf_rv write_all(const struct kf_channel *channel, const unsigned char *bytes,
                       size_t n, struct kf_error *err)
{
    size_t most = channel->regular ? n : PIPE_BUF;

    while (n > 0) {
        kf_rv rv = wait_for(channel, POLLOUT, err);
        ssize_t step;

        if (rv)
            return rv;
        step = write_quietly(channel->fd, bytes, n < most ? n : most);
        if (step < 0 && errno != EINTR && errno != EAGAIN)
            return kf_fail_errno(err, "write", "%s", channel->name);
        if (step > 0) {
            bytes += step;
            n -= (size_t)step;
        }
    }
    return KFR_OK;
}

kf_rv kf_channel_flush(struct kf_channel *channel, struct kf_error *err)
{
    size_t len = channel->len;

    channel->len = 0;
    return write_all(channel, channel->buffer, len, err);
}

kf_rv kf_channel_write(struct kf_channel *channel, const void *bytes, size_t n,
                       struct kf_error *err)
{
    const unsigned char *from = bytes;
    kf_rv rv = KFR_OK;

    while (!rv && n > 0) {
        size_t room = BUFFER - channel->len;
        size_t part = n < room ? n : room;

        memcpy(channel->buffer + channel->len, from, part);
        channel->len += part;
        from += part;
        n -= part;
        if (channel->len == BUFFER)
            rv = kf_channel_flush(channel, err);
    }
    return rv;
}

/* Something that is there already and is written as it is: a pipe, a device. One that
 * nobody reads yet is waited for (open says ENXIO, fifo(7)). */
static kf_rv open_as_it_is(struct kf_channel *channel, struct kf_error *err)
{
    const struct timespec pause = { .tv_nsec = PATIENCE_MS * 1000000L };
    kf_rv rv = KFR_OK;

    while (!rv && channel->fd < 0) {
        channel->fd =
            open(channel->path, O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (channel->fd >= 0)
            break;
        if (errno != ENXIO && errno != EINTR)
            return kf_fail_errno(err, "open", "%s", channel->name);
        rv = check_stop(channel, err);
        if (!rv)
            nanosleep(&pause, NULL);
    }
    return rv;
}

static kf_rv begin_file(struct kf_channel *channel, bool replace, struct kf_error *err)
{
    kf_rv rv = kf_file_can_create(channel->path, replace, err);

    if (rv)
        return rv;
    channel->replace = replace;
    snprintf(channel->temporary, sizeof channel->temporary, "%s%s", channel->path,
             SUFFIX);
    rv = kf_file_begin(channel->temporary, FILE_MODE, 0, &channel->fd, err);
    if (rv == KFR_SYSTEM && err && err->sys == EAGAIN)
        return kf_fail(err, KFR_EXISTS, "", "wait for its end, or name another file",
                       "another keyferry is writing %.300s", channel->path);
    channel->unfinished = !rv;
    channel->regular = true;
    return rv;
}

static kf_rv open_path(struct kf_channel *channel, bool replace, struct kf_error *err)
{
    struct stat status;

    if (stat(channel->path, &status) == 0 &&
        (S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode)))
        return open_as_it_is(channel, err);
    return begin_file(channel, replace, err);
}

/* What the program puts in the place of a standard output that is closed (main.c):
 * whoever says >/dev/null opens it for writing alone. */
static bool is_stand_in(int fd, const struct stat *status)
{
    struct stat null;

    return S_ISCHR(status->st_mode) && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR &&
           stat("/dev/null", &null) == 0 && status->st_rdev == null.st_rdev;
}

static kf_rv start_writing(struct kf_channel *channel, struct kf_error *err)
{
    struct stat status;

    if (fstat(channel->fd, &status) != 0)
        return kf_fail_errno(err, "fstat", "%s", channel->name);
    if (!channel->path[0] && is_stand_in(channel->fd, &status))
        return kf_fail(err, KFR_ARGUMENT, "", "name a file, or use a pipe",
                       "%.300s is closed", channel->name);
    channel->regular = S_ISREG(status.st_mode);
    if (isatty(channel->fd))
        return kf_fail(err, KFR_ARGUMENT, "", "name a file, or use a pipe",
                       "%.300s is a terminal", channel->name);
    /* What was a pipe a moment ago. */
    if (channel->ours && channel->regular && !channel->unfinished)
        return kf_fail(err, KFR_EXISTS, "open", "name another file, or remove that one",
                       "%.300s is there already", channel->name);
    return KFR_OK;
}

kf_rv kf_channel_target(const char *path, bool replace, kf_channel_stop *stop,
                        struct kf_channel **out, struct kf_error *err)
{
    struct kf_channel *channel = NULL;
    kf_rv rv = new_channel(path, "standard output", stop, &channel, err);

    *out = NULL;
    if (rv)
        return rv;
    if (path)
        rv = open_path(channel, replace, err);
    else
        channel->fd = STDOUT_FILENO;
    if (!rv)
        rv = start_writing(channel, err);
    if (rv) {
        kf_channel_free(channel);
    } else {
        widen(channel);
        *out = channel;
    }
    return rv;
}

kf_rv kf_channel_finish(struct kf_channel *channel, struct kf_error *err)
{
    kf_rv rv = kf_channel_flush(channel, err);

    if (rv)
        return rv;
    if (channel->unfinished) {
        channel->unfinished = channel->ours = false; /* kf_file_finish closes it */
        return kf_file_finish(channel->fd, channel->temporary, channel->path,
                              channel->replace, err);
    }
    if (channel->regular && fsync(channel->fd) != 0 && errno != EINVAL)
        return kf_fail_errno(err, "fsync", "%s", channel->name);
    return KFR_OK;
}
