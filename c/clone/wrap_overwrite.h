/* SPDX-License-Identifier: MIT
 * wrap_overwrite: keys of one class and CKA_ID, of which some modules keep the last alone.
 */
#ifndef KF_CLONE_WRAP_OVERWRITE_H
#define KF_CLONE_WRAP_OVERWRITE_H

#include "clone/wrap_item.h"

/* KFR_CONFLICT when the token has a key of the item's class and CKA_ID. */
kf_rv kf_wrap_refuse_taken(struct kf_session *session, const struct kf_wrap_item *item,
                           struct kf_error *err);
/* Whether that can happen to it: a key, also a public one, with a CKA_ID. */
bool kf_wrap_can_overwrite(const struct kf_wrap_item *item);

/* Those that a plan has looked at. Zeroed, it is empty; freed by kf_wrap_foreseen_free. */
struct kf_wrap_foreseen {
    struct kf_wrap_seen *at;
    size_t count, cap;
};

/* KFR_CONFLICT when another one of the item's class and CKA_ID was looked at before. The
 * same one may be looked at again. */
kf_rv kf_wrap_foreseen_add(struct kf_wrap_foreseen *list, const struct kf_wrap_item *item,
                           struct kf_error *err);
void kf_wrap_foreseen_free(struct kf_wrap_foreseen *list);

#endif
