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
