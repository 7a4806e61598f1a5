/* SPDX-License-Identifier: MIT
 * unfinished: the mark of a partition that a backup has made and not yet filled.
 *
 * A run that is killed leaves it there: the partition is no backup, and the same command
 * goes on where the run was cut off. The mark is a public data object of ours, since it
 * is put there by the Security Officer, before the partition has a user PIN, who may make
 * no private ones (PKCS#11 v2.40 section 2.4). Nobody ever clones or lists it.
 */
#ifndef KF_CLONE_UNFINISHED_H
#define KF_CLONE_UNFINISHED_H

#include "base/error.h"
#include "pkcs11/attribute.h"
#include "pkcs11/session.h"

#include <stdbool.h>
#include <stddef.h>

enum { KF_UNFINISHED_MAX = 64 };

/* Marks the token of a read/write session, with what it is to be the backup of. */
kf_rv kf_unfinished_mark(struct kf_session *session, const char *of, size_t len,
                         struct kf_error *err);

/* What the token is marked with, and its length; needs no login. KFR_NOT_FOUND: it is not
 * marked. A mark with something longer in it counts as an empty one. */
kf_rv kf_unfinished_find(struct kf_session *session, char of[KF_UNFINISHED_MAX],
                         size_t *len, struct kf_error *err);

/* Takes the mark away, and every one of a run that was killed between two. */
kf_rv kf_unfinished_clear(struct kf_session *session, struct kf_error *err);

/* Whether an object, as it was read or found, is such a mark. */
bool kf_unfinished_is(const struct kf_attributes *object);

#endif
