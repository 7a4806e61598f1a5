/* SPDX-License-Identifier: MIT
 * material: key bytes between their two shapes, PKCS#11 attributes and the body that
 * C_WrapKey gives (PrivateKeyInfo for private keys, RFC 5208/5958; raw for secret ones),
 * and a digest that tells whether two keys are the same.
 */
#ifndef KF_CLONE_MATERIAL_H
#define KF_CLONE_MATERIAL_H

#include "base/error.h"
#include "base/secret.h"
#include "clone/domain.h"
#include "pkcs11/attribute.h"

/* The body of a key whose attributes (open and key ones together) are given, as SoftHSM
 * would wrap it. KFR_NOT_CLONABLE with the reason when that type has no such body. */
kf_rv kf_material_body(const struct kf_attributes *open, const struct kf_attributes *key,
                       struct kf_secret **out, struct kf_error *err);

/* Back: the KF_ROLE_KEY attributes (and for private keys the public ones that a store
 * keeps with them: CKA_MODULUS, CKA_EC_PARAMS, ...) of a body. `open` says class and key
 * type; a secret body is cut to CKA_VALUE_LEN when open has that and it is shorter by
 * less than 8. KFR_DAMAGED when the body is not a key of that type. */
kf_rv kf_material_attributes(const struct kf_attributes *open, const void *body, size_t len,
                             struct kf_attributes **out, struct kf_error *err);

/* HMAC under the domain's mac key over class, key type and the numbers of the key (as
 * integers, without leading zeros), of the value of a data object, or the public numbers:
 * equal for the same key whatever engine and store it came from. KFR_NOT_FOUND when the
 * sets do not hold enough to tell. */
kf_rv kf_material_digest(const struct kf_attributes *open, const struct kf_attributes *key,
                         const struct kf_domain *domain, uint8_t out[KF_MAC_BYTES],
                         struct kf_error *err);

#endif
