/* SPDX-License-Identifier: MIT
 * luna_reference: what the engine luna seals. No key leaves the HSM by way of this
 * process: the sealed object says where its original is, in which slot of which module.
 */
#ifndef KF_CLONE_LUNA_REFERENCE_H
#define KF_CLONE_LUNA_REFERENCE_H

#include "clone/luna_call.h"
#include "clone/sealed.h"

struct kf_luna_reference {
    CK_SLOT_ID slot;
    CK_OBJECT_HANDLE object;
    uint8_t ouid[KF_OUID_BYTES];
    bool has_ouid;
};

/* The identity that the HSM has given an object. KFR_NOT_FOUND: it tells none. */
kf_rv kf_luna_ouid(struct kf_session *session, CK_OBJECT_HANDLE object,
                   uint8_t out[KF_OUID_BYTES], struct kf_error *err);

/* Fills the hidden attributes of a sealed object. */
kf_rv kf_luna_refer(struct kf_session *session, CK_OBJECT_HANDLE object,
                    struct kf_sealed *sealed, struct kf_error *err);
/* Back, at a target; KFR_REFUSED: its original is in another module, or in this very
 * slot. */
kf_rv kf_luna_referred(const struct kf_sealed *sealed, struct kf_session *target,
                       struct kf_luna_reference *out, struct kf_error *err);

#endif
