/* SPDX-License-Identifier: MIT
 * softhsm_class: which attributes SoftHSM's objects have, and what SoftHSM puts where
 * one is missing.
 *
 * SoftHSM adds the default of every missing attribute when an object is first looked
 * at, and rewrites the whole file each time; a file that has them all is left alone.
 * Source: P11Objects.cpp and P11Attributes.cpp of SoftHSM 2.6.1.
 */
#ifndef KF_CLONE_SOFTHSM_CLASS_H
#define KF_CLONE_SOFTHSM_CLASS_H

#include "pkcs11/attribute.h"

#include <stddef.h>
#include <stdint.h>

struct kf_softhsm_row {
    uint64_t type;
    enum kf_kind kind;
    uint64_t fallback; /* SoftHSM's default of a boolean or number; bytes: empty */
    uint64_t safe;     /* what a clone gets whose original did not say */
};

/* Class, and key or certificate type, of an object. */
struct kf_softhsm_kind {
    uint64_t object_class;
    uint64_t key_type;
};
struct kf_softhsm_kind kf_softhsm_kind_of(const struct kf_attributes *object);

/* The rows of such an object, ascending, into rows (KF_ROWS_MAX); 0: SoftHSM has
 * none. */
size_t kf_softhsm_rows(struct kf_softhsm_kind kind, struct kf_softhsm_row *rows);

/* The rows that kf_object_read gives of an object, ascending, until the next call of a
 * function here; their number, 0 for a kind that SoftHSM does not have. */
size_t kf_softhsm_shown(const struct kf_attributes *object,
                        const struct kf_softhsm_row **rows);

/* What a reader sees of an object through PKCS#11, as a SHA-256: all rows but key
 * bytes, the value of private data, templates, and dates (which SoftHSM cannot give of
 * private objects). The same for an object read through PKCS#11 and from the store; two
 * objects that have it in common differ in nothing but those. False: OpenSSL refused.
 */
enum { KF_VIEW_BYTES = 32 };
bool kf_softhsm_view(const struct kf_attributes *object, struct kf_writer *scratch,
                     uint8_t out[KF_VIEW_BYTES]);

/* Whether two objects have the same view, without making it. */
bool kf_softhsm_looks_same(const struct kf_attributes *a,
                           const struct kf_attributes *b);

/* What the view leaves out, as an HMAC-SHA-256 under `key`: key bytes are in it, so it
 * is no plain digest. `scratch` is of secret memory and wiped. */
bool kf_softhsm_rest(const struct kf_attributes *object,
                     const uint8_t key[KF_VIEW_BYTES], struct kf_writer *scratch,
                     uint8_t out[KF_VIEW_BYTES]);

/* NULL, or why an object with those attributes (key bytes too) is not whole: a program
 * is still making it, or died doing so. */
const char *kf_softhsm_unfinished(const struct kf_attributes *object);

#endif
