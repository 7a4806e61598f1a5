/* SPDX-License-Identifier: MIT
 * softhsm_end: one end of a clone in a SoftHSM: what engine_softhsm knows of it from
 * open to close. Objects leave it by softhsm_departure and come by softhsm_arrival.
 */
#ifndef KF_CLONE_SOFTHSM_END_H
#define KF_CLONE_SOFTHSM_END_H

#include "clone/engine.h"
#include "clone/softhsm_batch.h"
#include "clone/softhsm_index.h"
#include "clone/softhsm_vault.h"

enum { KF_PROVED_MAX = 64 };

/* The kinds of objects of which one was read both ways, and whether that agreed. */
struct kf_proved {
    struct kf_softhsm_kind kinds[KF_PROVED_MAX];
    bool agreed[KF_PROVED_MAX];
    size_t count;
};

struct kf_handles {
    CK_OBJECT_HANDLE *at;
    size_t count;
};

struct kf_staged; /* softhsm_arrival.c */

struct kf_softhsm_end {
    struct kf_session *session;
    struct kf_domain *domain;
    struct kf_vault *vault;
    struct kf_index *index;
    struct kf_batch *batch;
    /* The object that was sealed last, and its digest, which is often asked for next:
     * its file need not be read again. */
    CK_OBJECT_HANDLE sealed;
    uint8_t sealed_digest[KF_MAC_BYTES];
    struct kf_staged *staged;
    size_t count;
    size_t cap;
    struct kf_writer scratch;        /* a view being made */
    struct kf_writer secret;         /* and the rest of it */
    uint8_t rest_key[KF_VIEW_BYTES]; /* of this end, random */
    struct kf_writer file;           /* an object file being made */
    struct kf_proved read;           /* by kf_softhsm_read */
    struct kf_proved written;        /* by a commit */
    struct kf_handles there;         /* at the last commit, ascending; none: not yet */
};

/* As struct kf_engine has them. */
kf_rv kf_softhsm_end_open(struct kf_session *session, struct kf_domain *domain,
                          void **state, struct kf_error *err);
void kf_softhsm_end_close(void *state);
void kf_softhsm_end_abort(void *state);

/* NULL: not yet. */
const bool *kf_proved_agreed(const struct kf_proved *proved,
                             struct kf_softhsm_kind kind);
/* A kind that is not noted, for want of room, is proved every time. */
void kf_proved_note(struct kf_proved *proved, struct kf_softhsm_kind kind, bool agrees);

kf_rv kf_softhsm_no_memory(struct kf_error *err); /* KFR_MEMORY */

#endif
