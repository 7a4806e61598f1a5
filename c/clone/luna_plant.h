/* SPDX-License-Identifier: MIT
 * luna_plant: the arriving half of the engine luna.
 *
 * CA_CloneObject makes the clone whole and on the token, so that is what staging does;
 * it is checked there and then, and the commit keeps it. What cannot be undone again
 * (CKA_DESTROYABLE false) is made last, at the commit.
 */
#ifndef KF_CLONE_LUNA_PLANT_H
#define KF_CLONE_LUNA_PLANT_H

#include "clone/engine.h"
#include "clone/luna_index.h"
#include "clone/luna_reference.h"
#include "clone/undo.h"

struct kf_luna_item;

struct kf_luna_plant {
    struct kf_session *session;
    struct kf_domain *domain;
    struct kf_session *source; /* of our own, read/write: the call wants one */
    struct kf_luna_item *items;
    size_t count;
    size_t cap;
    struct kf_there there; /* from the first stage on */
    struct kf_luna_index index;
};

/* As struct kf_engine has them. */
kf_rv kf_luna_stage(struct kf_luna_plant *plant, const struct kf_sealed *sealed,
                    const struct kf_changes *changes, struct kf_error *err);
kf_rv kf_luna_commit(struct kf_luna_plant *plant, enum kf_commit mode,
                     const CK_OBJECT_HANDLE *remove, size_t remove_count,
                     struct kf_planted *planted, struct kf_error *err);
kf_rv kf_luna_foresee(struct kf_luna_plant *plant, const struct kf_sealed *sealed,
                      const struct kf_changes *changes, char lost[KF_LOST_MAX],
                      struct kf_error *err);
void kf_luna_abort(struct kf_luna_plant *plant);
/* Aborts, and frees what the plant holds. */
void kf_luna_plant_close(struct kf_luna_plant *plant);

#endif
