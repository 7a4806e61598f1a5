/* SPDX-License-Identifier: MIT
 * change: what a policy may have different on a clone.
 *
 * A clone may be named and described otherwise, and may have fewer rights than its
 * original; never more, whichever engine makes it.
 */
#ifndef KF_CLONE_CHANGE_H
#define KF_CLONE_CHANGE_H

#include "base/error.h"
#include "pkcs11/attribute.h"

/* Whether the clone of an original with `old` (NULL: it has no such attribute) may have
 * `new`. KFR_ARGUMENT: such an object has none of that kind. KFR_REFUSED: it may not. */
kf_rv kf_change_check(const struct kf_attribute *old, const struct kf_attribute *new,
                      struct kf_error *err);

#endif
