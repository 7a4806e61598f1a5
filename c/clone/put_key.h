/* SPDX-License-Identifier: MIT
 * put_key: a secret key of this process comes into a token.
 *
 * In the clear (C_CreateObject) where the token takes that. A token that does not (NSS in
 * FIPS mode, most hardware) makes an RSA pair for the moment, and unwraps the key from
 * under its public half (RSA-OAEP, RFC 8017 section 7.1).
 */
#ifndef KF_CLONE_PUT_KEY_H
#define KF_CLONE_PUT_KEY_H

#include "base/error.h"
#include "pkcs11/object.h"

/* `set` has CKA_VALUE among the rest. What is told of a refusal is C_CreateObject's. */
kf_rv kf_put_key(struct kf_session *session, const struct kf_attributes *set,
                 CK_OBJECT_HANDLE *out, struct kf_error *err);

#endif
