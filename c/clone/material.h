/* SPDX-License-Identifier: MIT
 * material: key bytes between their two shapes, PKCS#11 attributes and the body that
 * C_WrapKey gives (PrivateKeyInfo for private keys, RFC 5208/5958; raw for secret
 * ones), and a digest that tells whether two keys are the same.
 */
#ifndef KF_CLONE_MATERIAL_H
#define KF_CLONE_MATERIAL_H

#include "base/error.h"
#include "base/secret.h"
#include "clone/domain.h"
#include "pkcs11/attribute.h"

/* The body of a key whose attributes (open and key ones together) are given, as SoftHSM
 * would wrap it; without the zero bytes that SoftHSM puts after it to fill a block.
 * What an RSA key lacks of its primes is computed. KFR_NOT_CLONABLE with the reason
 * when that type has no such body, or a number is missing. `key` may be NULL. */
kf_rv kf_material_body(const struct kf_attributes *open,
                       const struct kf_attributes *key, struct kf_secret **out,
                       struct kf_error *err);

/* Back: the KF_ROLE_KEY attributes (and for private keys the public ones that a store
 * keeps with them: CKA_MODULUS, CKA_EC_PARAMS, ...) of a body. `open` says class and
 * key type; a secret body is cut to CKA_VALUE_LEN when open has that (0 counts as not)
 * and it is shorter by less than 8, all zero. CKA_EC_PARAMS stays as open has it.
 * KFR_DAMAGED when the body is not a key of that type, or another than open says. */
kf_rv kf_material_attributes(const struct kf_attributes *open, const void *body,
                             size_t len, struct kf_attributes **out,
                             struct kf_error *err);

/* HMAC under the domain's mac key over class, key type and what makes the key that key,
 * equal whatever engine and store it came from (the table is in c/README.md):
 *   secret keys: the exact bytes; private RSA keys: modulus and public exponent, which
 * are readable where the rest is not; other private keys: the private number with its
 *   group or curve; public keys: the public numbers; certificates: the value, or the
 * URL of one that is elsewhere; data: value, application and object id. Numbers are
 * compared as integers, curves whichever way they are named, points with or without
 * their OCTET STRING. `key` may be NULL: all is in `open`. KFR_NOT_FOUND when the sets
 * do not hold enough to tell. */
kf_rv kf_material_digest(const struct kf_attributes *open,
                         const struct kf_attributes *key,
                         const struct kf_domain *domain, uint8_t out[KF_MAC_BYTES],
                         struct kf_error *err);

#endif
