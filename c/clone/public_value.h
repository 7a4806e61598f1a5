/* SPDX-License-Identifier: MIT
 * public_value: the public half of a private key, computed from its numbers, and whether
 * a signature is one of that key.
 */
#ifndef KF_CLONE_PUBLIC_VALUE_H
#define KF_CLONE_PUBLIC_VALUE_H

#include "base/error.h"
#include "base/wire.h"
#include "pkcs11/attribute.h"

/* The numbers of a private key: `key` (which may be NULL) first, then `open`. The point of
 * an EC key, uncompressed and bare (SEC 1, 2.3.3); y of a DSA or DH key. KFR_NOT_FOUND:
 * the key is of another type, or on a curve that OpenSSL does not know; KFR_DAMAGED: its
 * numbers are not of one key. */
kf_rv kf_public_value(const struct kf_attributes *open, const struct kf_attributes *key,
                      struct kf_writer *out, struct kf_error *err);

/* Whether PKCS#11's signature of a digest (CKM_ECDSA, CKM_DSA: two numbers of one length;
 * CKM_RSA_PKCS) verifies under the public half of those numbers. KFR_DIFFERS: it does
 * not; KFR_NOT_FOUND: it cannot be told. */
kf_rv kf_public_verify(const struct kf_attributes *open, const struct kf_attributes *key,
                       const void *digest, size_t digest_len, const void *signature,
                       size_t signature_len);

#endif
