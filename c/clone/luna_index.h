/* SPDX-License-Identifier: MIT
 * luna_index: which object of a partition has which OUID. Made at the first question, with
 * one call for each object, and kept in step with what is cloned.
 */
#ifndef KF_CLONE_LUNA_INDEX_H
#define KF_CLONE_LUNA_INDEX_H

#include "clone/luna_reference.h"

struct kf_luna_entry;

/* Zeroed, it is ready to be used. */
struct kf_luna_index {
    struct kf_luna_entry *entries;
    size_t count;
    size_t cap;
    bool listed;
};

/* KFR_NOT_FOUND: none has it. */
kf_rv kf_luna_index_find(struct kf_luna_index *index, struct kf_session *session,
                         const uint8_t ouid[KF_OUID_BYTES], CK_OBJECT_HANDLE *out,
                         struct kf_error *err);
/* One that came since; before the first question it changes nothing. */
bool kf_luna_index_add(struct kf_luna_index *index, const uint8_t ouid[KF_OUID_BYTES],
                       CK_OBJECT_HANDLE object);
void kf_luna_index_clear(struct kf_luna_index *index);

#endif
