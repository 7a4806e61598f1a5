/* SPDX-License-Identifier: MIT
 * softhsm_departure: objects that leave a SoftHSM: read, sealed and digested from their
 * files. Nothing of the store is written.
 *
 * All as struct kf_engine has them; state is a struct kf_softhsm_end.
 */
#ifndef KF_CLONE_SOFTHSM_DEPARTURE_H
#define KF_CLONE_SOFTHSM_DEPARTURE_H

#include "clone/engine.h"

kf_rv kf_softhsm_read(void *state, CK_OBJECT_HANDLE handle, struct kf_attributes **out,
                      uint64_t *unread, size_t *unread_count, struct kf_error *err);
kf_rv kf_softhsm_seal(void *state, CK_OBJECT_HANDLE handle,
                      const struct kf_attributes *known, struct kf_writer *out,
                      char lost[KF_LOST_MAX], struct kf_error *err);
kf_rv kf_softhsm_digest(void *state, CK_OBJECT_HANDLE handle,
                        const struct kf_attributes *known, uint8_t out[KF_MAC_BYTES],
                        struct kf_error *err);
kf_rv kf_softhsm_whole(void *state, CK_OBJECT_HANDLE handle,
                       const struct kf_attributes *known, uint8_t out[KF_WHOLE_BYTES],
                       struct kf_error *err);

#endif
