/* SPDX-License-Identifier: MIT
 * channel: bytes one after another, from or to a file, a pipe or a terminal's place.
 *
 * A file is written beside its place and gets there whole, at the end. Waiting for the
 * other end of a pipe can be broken off; a pipe that nobody reads any more is an error
 * and never a signal.
 */
#ifndef KF_BASE_CHANNEL_H
#define KF_BASE_CHANNEL_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

struct kf_channel;

/* Asked now and then while waiting: true breaks off with KFR_INTERRUPTED. May be
 * NULL. */
typedef bool kf_channel_stop(void);

/* From a path, or NULL: standard input. KFR_ARGUMENT: a folder, or standard input is a
 * terminal; KFR_SYSTEM with errno in err->sys. */
kf_rv kf_channel_source(const char *path, kf_channel_stop *stop,
                        struct kf_channel **out, struct kf_error *err);
/* To a path, or NULL: standard output. A new file (mode 0600), or the one that is there
 * when `replace`, else KFR_EXISTS; a pipe or a device is written as it is.
 * KFR_ARGUMENT: a folder, or standard output is a terminal. */
kf_rv kf_channel_target(const char *path, bool replace, kf_channel_stop *stop,
                        struct kf_channel **out, struct kf_error *err);
/* A file that is not finished goes; NULL is fine. */
void kf_channel_free(struct kf_channel *channel);

/* n bytes; *got is less only where there are no more. */
kf_rv kf_channel_read(struct kf_channel *channel, void *bytes, size_t n, size_t *got,
                      struct kf_error *err);
/* Only a regular file can be read again from where it was opened. */
bool kf_channel_can_rewind(const struct kf_channel *channel);
kf_rv kf_channel_rewind(struct kf_channel *channel, struct kf_error *err);

/* Buffered; after a failure the channel is only good for being freed. */
kf_rv kf_channel_write(struct kf_channel *channel, const void *bytes, size_t n,
                       struct kf_error *err);
kf_rv kf_channel_flush(struct kf_channel *channel, struct kf_error *err);
/* Everything is out, durable where it is a file, and the file in its place. */
kf_rv kf_channel_finish(struct kf_channel *channel, struct kf_error *err);

/* "standard input", or the path. */
const char *kf_channel_name(const struct kf_channel *channel);

#endif
