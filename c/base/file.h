/* SPDX-License-Identifier: MIT
 * file: whole files, read bounded and written so that a crash leaves the old or the new.
 */
#ifndef KF_BASE_FILE_H
#define KF_BASE_FILE_H

#include "base/error.h"
#include "base/secret.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Reads a regular file of at most max bytes into secret memory. The caller frees *out.
 * KFR_SYSTEM with errno in err->sys (ENOENT), KFR_ARGUMENT: not a regular file,
 * KFR_LIMIT: larger than max, or growing. */
kf_rv kf_file_read(const char *path, size_t max, struct kf_secret **out,
                   struct kf_error *err);

/* Writes path.tmp beside it, fsyncs, renames, fsyncs the folder. The mode is exactly that,
 * whatever the umask. Two writers of one path take turns; a link is replaced. */
kf_rv kf_file_write(const char *path, const void *bytes, size_t len, mode_t mode,
                    struct kf_error *err);

/* The steps of kf_file_write, for who has the bytes one after another. A temporary file,
 * empty, locked, of exactly that mode; another writer of it is waited for up to wait_ms
 * milliseconds (KFR_SYSTEM with EAGAIN in err->sys). */
kf_rv kf_file_begin(const char *temporary, mode_t mode, int wait_ms, int *out,
                    struct kf_error *err);
/* fsync, rename to path, fsync of the folder; closes fd. KFR_EXISTS when something is
 * there and `replace` is false. On failure the temporary file is gone. */
kf_rv kf_file_finish(int fd, const char *temporary, const char *path, bool replace,
                     struct kf_error *err);
void kf_file_abandon(int fd, const char *temporary); /* removes it; closes fd */

/* Whether kf_file_create could put a file there now: KFR_EXISTS when there is something
 * (be it a link that leads nowhere) and replace is false; KFR_ARGUMENT for a folder or what
 * else is no regular file, KFR_NOT_FOUND without a folder to put it in, KFR_SYSTEM when
 * that may not be written. Nothing stays behind. */
kf_rv kf_file_can_create(const char *path, bool replace, struct kf_error *err);
/* A new file, written under a name of its own beside it, fsynced, and in its place whole
 * or not at all. One that has come there meanwhile stays, when replace is false:
 * KFR_EXISTS. */
kf_rv kf_file_create(const char *path, const void *bytes, size_t len, mode_t mode,
                     bool replace, struct kf_error *err);

/* An open file description lock (F_OFD_SETLK, which POSIX locks of others respect) on
 * the whole of fd, tried for up to wait_ms milliseconds. KFR_SYSTEM with EAGAIN in
 * err->sys when somebody else kept it. Closing fd unlocks. */
kf_rv kf_file_lock(int fd, bool exclusive, int wait_ms, struct kf_error *err);
void kf_file_unlock(int fd);

/* Reads or writes all n bytes through EINTR and short counts. A read that ends early
 * gives the number got; -1 with errno otherwise. */
ssize_t kf_file_read_full(int fd, void *bytes, size_t n);
ssize_t kf_file_write_full(int fd, const void *bytes, size_t n);

/* KFR_REFUSED unless path belongs to this user or root and nobody else may write it:
 * the rule for configuration and scripts, which are run. Its folder must be so too (or be
 * root's with the sticky bit, like /tmp). A link and what it leads to are both looked at. */
kf_rv kf_file_trusted(const char *path, struct kf_error *err);

/* Removes a folder and everything in it, never following a link. */
kf_rv kf_file_remove_tree(const char *path, struct kf_error *err);

#endif
