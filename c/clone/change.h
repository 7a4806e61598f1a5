/* SPDX-License-Identifier: MIT
 * change: what a policy may have different on a clone.
 *
 * A clone may be named and described otherwise, and may have fewer rights than its
 * original, whichever engine makes it; more only where the policy says so in as many words.
 */
#ifndef KF_CLONE_CHANGE_H
#define KF_CLONE_CHANGE_H

#include "base/error.h"
#include "pkcs11/attribute.h"

struct kf_changes {
    const struct kf_attributes *set; /* NULL: none */
    bool more_rights;                /* they may give rights that the original has not */
};

/* Whether the clone of an original with `old` (NULL: it has no such attribute) may have
 * `new`. KFR_ARGUMENT: such an object has none of that kind. KFR_REFUSED: it may not. */
kf_rv kf_change_check(const struct kf_attribute *old, const struct kf_attribute *new,
                      bool more_rights, struct kf_error *err);

/* The clone's attributes: those of its original, `set`, under the changes (NULL: none). What
 * kf_change_check answers. */
kf_rv kf_change_apply(struct kf_attributes *set, const struct kf_changes *changes,
                      struct kf_error *err);

/* The flag that would lie about the past of a clone with `new`: CKA_NEVER_EXTRACTABLE of
 * one that can be extracted. It has to be false. CK_UNAVAILABLE_INFORMATION: none. */
uint64_t kf_change_denies(const struct kf_attribute *new);

#endif
