/* SPDX-License-Identifier: MIT
 * challenge: whether two keys are one key, found out by using both.
 */
#ifndef KF_CLONE_CHALLENGE_H
#define KF_CLONE_CHALLENGE_H

#include "base/error.h"
#include "pkcs11/object.h"

/* A real operation with `b`, checked with `a` (or with a's public half: a sibling of
 * the same CKA_ID, or numbers in a's own attributes). 0: the same key. KFR_DIFFERS:
 * not. KFR_NOT_FOUND: no operation is allowed or known that could tell (err says which
 * flag). Anything else: the operation failed. Public keys, certificates and data
 * objects are compared by value. Leaves no object behind. */
kf_rv kf_challenge(struct kf_session *a_session, CK_OBJECT_HANDLE a,
                   const struct kf_attributes *a_known, struct kf_session *b_session,
                   CK_OBJECT_HANDLE b, const struct kf_attributes *b_known,
                   struct kf_error *err);

#endif
