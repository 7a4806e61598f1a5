/* SPDX-License-Identifier: MIT
 * luna_item: one arriving object of the engine luna, cloned and looked at.
 */
#ifndef KF_CLONE_LUNA_ITEM_H
#define KF_CLONE_LUNA_ITEM_H

#include "clone/change.h"
#include "clone/engine.h"
#include "clone/luna_index.h"
#include "clone/luna_reference.h"

struct kf_luna_item {
    struct kf_luna_reference from;
    struct kf_attributes *original;
    struct kf_attributes *want;    /* what the clone is to be: original and changes */
    struct kf_attributes *changed; /* NULL: nothing */
    struct kf_attributes *value;   /* of a private data object; NULL: none */
    CK_OBJECT_HANDLE handle;       /* of the clone, or of what was there */
    char lost[KF_LOST_MAX];
    bool later;  /* made at the commit, since it cannot be undone */
    bool exists; /* the HSM had it: not ours to undo */
    kf_rv other; /* and it is another in some attribute: not 0 */
    struct kf_error why;
};

/* Fills a zeroed item; whatever the answer, it is to be cleared. */
kf_rv kf_luna_item_fill(struct kf_luna_item *item, const struct kf_sealed *sealed,
                        const struct kf_changes *changes, struct kf_session *target,
                        struct kf_error *err);
void kf_luna_item_clear(struct kf_luna_item *item);

/* The call; BUSY is tried again a few times. item->handle is what the HSM said. */
kf_rv kf_luna_item_clone(struct kf_luna_item *item, struct kf_session *target,
                         struct kf_session *source, struct kf_error *err);

/* Whether the clone is its original: class, type, label, id, OUID, and then, when the
 * changes have been made, every attribute. KFR_DIFFERS. */
kf_rv kf_luna_item_check(struct kf_luna_item *item, struct kf_session *target,
                         struct kf_domain *domain, struct kf_error *err);

/* Handles of the target that are this object's clones, by class, type, label and id, and
 * by its OUID where the HSM tells one. The caller frees *out with free(). */
kf_rv kf_luna_item_search(const struct kf_luna_item *item, struct kf_session *target,
                          CK_OBJECT_HANDLE **out, size_t *count, struct kf_error *err);

/* What the target has of that OUID; without one, what has its class, label and id and
 * the numbers of its key. Fills handle, exists, other and why. KFR_NOT_FOUND. */
kf_rv kf_luna_item_find(struct kf_luna_item *item, struct kf_session *target,
                        struct kf_luna_index *index, struct kf_error *err);

#endif
