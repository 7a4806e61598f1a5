/* SPDX-License-Identifier: MIT
 * wrap_plant: the arriving half of the engine wrap. Clones are made ready as session
 * objects, which die with the session, and become token objects at the commit.
 */
#ifndef KF_CLONE_WRAP_PLANT_H
#define KF_CLONE_WRAP_PLANT_H

#include "clone/engine.h"
#include "clone/undo.h"
#include "clone/wrap_format.h"

struct kf_wrap_item;

struct kf_wrap_plant {
    struct kf_wrap_format *format;
    struct kf_wrap_item *items;
    size_t count;
    size_t cap;
    bool takes_session_objects; /* one was made */
    /* Whether a new key with class and CKA_ID of an old one overwrites it. */
    enum {
        KF_OVERWRITES_UNKNOWN,
        KF_OVERWRITES_NEVER,
        KF_OVERWRITES_PERHAPS
    } overwrites;
    struct kf_there there; /* from the first commit on */
};

kf_rv kf_wrap_stage(struct kf_wrap_plant *plant, const struct kf_sealed *sealed,
                    const struct kf_changes *changes, struct kf_error *err);
kf_rv kf_wrap_commit(struct kf_wrap_plant *plant, enum kf_commit mode,
                     const CK_OBJECT_HANDLE *remove, size_t remove_count,
                     struct kf_planted *planted, struct kf_error *err);
void kf_wrap_abort(struct kf_wrap_plant *plant);
/* Aborts, and frees what the plant holds. */
void kf_wrap_plant_close(struct kf_wrap_plant *plant);

#endif
