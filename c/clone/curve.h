/* SPDX-License-Identifier: MIT
 * curve: what CKA_EC_PARAMS says, whichever way it says it.
 *
 * The same curve goes by object identifier (two of them for the 25519 ones) or by name
 * in a PrintableString (PKCS#11 v3.0, 2.3.10: curveName); SoftHSM writes both.
 */
#ifndef KF_CLONE_CURVE_H
#define KF_CLONE_CURVE_H

#include <stdbool.h>
#include <stddef.h>

struct kf_curve {
    const char *name;
    const char *oid; /* an ASN.1 OBJECT IDENTIFIER, tag and length included */
    size_t oid_len;
    size_t bytes; /* of a private key (a number below the order, or a seed) */
    bool modern;  /* RFC 8410: no parameters, keys are strings and not numbers */
};

/* The same curve gives the same pointer. NULL: not listed. */
const struct kf_curve *kf_curve_of(const void *params, size_t len);
/* Both name the same curve: listed ones by row, others by their bytes. */
bool kf_curve_same(const void *a, size_t a_len, const void *b, size_t b_len);
/* Bytes of a private key on a curve that is listed or that OpenSSL knows; 0: none. */
size_t kf_curve_bytes(const void *params, size_t len);

#endif
