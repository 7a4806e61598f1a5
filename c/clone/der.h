/* SPDX-License-Identifier: MIT
 * der: tags and lengths of ASN.1 (X.690), for key material.
 *
 * Written here and not left to OpenSSL's key types because those keep copies of the
 * numbers outside the secure heap, and will not build a key from some of its numbers.
 * Reading takes BER with definite lengths (PKCS#11 v2.40, 2.1 says BER of
 * PrivateKeyInfo), writing gives DER.
 */
#ifndef KF_CLONE_DER_H
#define KF_CLONE_DER_H

#include "base/wire.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    KF_DER_INTEGER = 0x02,
    KF_DER_OCTETS = 0x04,
    KF_DER_OID = 0x06,
    KF_DER_TEXT = 0x13,
    KF_DER_SEQUENCE = 0x30
};

/* The content of the next element, which must have that tag; else `in` is bad and the
 * result empty and bad. */
struct kf_reader kf_der_take(struct kf_reader *in, unsigned tag);
/* Whether the next element has that tag. */
bool kf_der_next_is(const struct kf_reader *in, unsigned tag);
/* An INTEGER of zero or more: its bytes without leading zeros (none for 0). */
struct kf_reader kf_der_take_number(struct kf_reader *in);
/* The next element is the INTEGER n, 0..127. */
bool kf_der_take_small(struct kf_reader *in, unsigned n);

/* What was written since `start` becomes the content of an element. */
void kf_der_close(struct kf_writer *out, size_t start, unsigned tag);
/* An INTEGER from unsigned bytes, with leading zeros or not. */
void kf_der_write_number(struct kf_writer *out, const void *bytes, size_t len);
void kf_der_write_small(struct kf_writer *out, unsigned n);

#endif
