/* SPDX-License-Identifier: MIT
 * rsa: the numbers of an RSA private key that follow from the others.
 */
#ifndef KF_CLONE_RSA_H
#define KF_CLONE_RSA_H

#include "base/error.h"
#include "pkcs11/attribute.h"

/* Adds to set (a secret one) what is missing of CKA_PRIME_1 to CKA_COEFFICIENT, from
 * CKA_MODULUS, CKA_PUBLIC_EXPONENT and CKA_PRIVATE_EXPONENT, which must be there.
 * PKCS#11 v2.40 (2.1.3) allows keys without them, PKCS#1 (RFC 8017, A.1.2) does not.
 * KFR_NOT_CLONABLE when these three are not numbers of one key. */
kf_rv kf_rsa_complete(struct kf_attributes *set, struct kf_error *err);

#endif
