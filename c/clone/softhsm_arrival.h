/* SPDX-License-Identifier: MIT
 * softhsm_arrival: objects that come to a SoftHSM: staged through softhsm_batch, made
 * real by a commit, and then seen through PKCS#11 in the end's session, so that they
 * are there and are what they should be; or only foreseen.
 *
 * All as struct kf_engine has them; state is a struct kf_softhsm_end.
 */
#ifndef KF_CLONE_SOFTHSM_ARRIVAL_H
#define KF_CLONE_SOFTHSM_ARRIVAL_H

#include "clone/engine.h"

kf_rv kf_softhsm_stage(void *state, const struct kf_sealed *sealed,
                       const struct kf_changes *changes, struct kf_error *err);
kf_rv kf_softhsm_commit(void *state, enum kf_commit mode,
                        const CK_OBJECT_HANDLE *remove, size_t remove_count,
                        struct kf_planted *planted, struct kf_error *err);
kf_rv kf_softhsm_foresee(void *state, const struct kf_domain *domain,
                         const struct kf_sealed *sealed,
                         const struct kf_changes *changes, char lost[KF_LOST_MAX],
                         struct kf_error *err);

#endif
