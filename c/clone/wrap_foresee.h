/* SPDX-License-Identifier: MIT
 * wrap_foresee: what the engine wrap would make of an arriving object, found out with
 * session objects in a session of their own, which takes them with it.
 *
 * The clone is made as it would be made, but with CKA_TOKEN false, read back and
 * destroyed. Where the token makes no session objects, or there is no token, the rules
 * of PKCS#11 for keys that come from outside say what is lost.
 */
#ifndef KF_CLONE_WRAP_FORESEE_H
#define KF_CLONE_WRAP_FORESEE_H

#include "clone/change.h"
#include "clone/engine.h"
#include "clone/sealed.h"
#include "clone/wrap_format.h"
#include "clone/wrap_overwrite.h"

/* Zeroed, it is ready to be used. */
struct kf_wrap_rehearsal {
    struct kf_wrap_format format; /* the proofs hold for the module */
    struct kf_session *own;       /* NULL: the token gives no second one */
    enum { KF_SESSION_OBJECTS_UNKNOWN, KF_SESSION_OBJECTS, KF_NO_SESSION_OBJECTS } makes;
    struct kf_wrap_foreseen seen; /* where one of two keys would be lost */
};

/* `end` is the end's own format; NULL, as the rehearsal then is: no target. */
kf_rv kf_wrap_foresee(struct kf_wrap_rehearsal *rehearsal,
                      const struct kf_wrap_format *end, const struct kf_sealed *sealed,
                      const struct kf_changes *changes, char lost[KF_LOST_MAX],
                      struct kf_error *err);
void kf_wrap_rehearsal_close(struct kf_wrap_rehearsal *rehearsal);

#endif
