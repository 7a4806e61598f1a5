/* SPDX-License-Identifier: MIT
 * wrap_way: the ways there are of wrapping a key, best first, and the calls of each.
 */
#ifndef KF_CLONE_WRAP_WAY_H
#define KF_CLONE_WRAP_WAY_H

#include "clone/wrap_format.h"

struct kf_wrap_way {
    CK_MECHANISM_TYPE mechanism;
    enum kf_wrap_form form;
};

extern const struct kf_wrap_way kf_wrap_ways[KF_WRAP_WAYS];

/* C_WrapKey as the module does it; the caller frees *blob. With `plain` (a domain whose
 * keys are at hand) it is read, too: the caller frees *plain. */
kf_rv kf_way_wrap(struct kf_wrap_format *format, const struct kf_wrap_way *way,
                  CK_OBJECT_HANDLE key, struct kf_secret **blob,
                  struct kf_secret **plain, struct kf_error *err);
/* C_UnwrapKey of a body (RFC 5649 under the domain), turned into the way's form first.
 * KFR_ARGUMENT: that form has no room for it. */
kf_rv kf_way_unwrap(struct kf_wrap_format *format, const struct kf_wrap_way *way,
                    const void *body, size_t len, const struct kf_attributes *set,
                    CK_OBJECT_HANDLE *out, struct kf_error *err);

/* Whether the domain lets that way be used, and the module lists it. */
bool kf_way_is_open(struct kf_wrap_format *format, size_t way);

#endif
