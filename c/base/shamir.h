/* SPDX-License-Identifier: MIT
 * shamir: a secret as N values of which any M give it back (SLIP-0039, "Shamir's secret
 * sharing").
 *
 * Each byte is shared by a polynomial over GF(256) with the polynomial of AES. The secret
 * is its value at 255; at 254 lies a digest of the secret, by which values that do not
 * belong together are noticed. Fewer than M values leave every byte of the secret open;
 * of guesses at the whole of it, the digest lets one in 2^32 pass.
 *
 * Neither a branch nor an address depends on the bytes of a secret or of a value.
 */
#ifndef KF_BASE_SHAMIR_H
#define KF_BASE_SHAMIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    KF_SHAMIR_MAX = 16, /* values; their places are 0 to 15 */
    KF_SHAMIR_MIN_BYTES = 16,
    KF_SHAMIR_MAX_BYTES = 260
};

struct kf_point {
    uint8_t x;
    const unsigned char *y; /* len bytes, in secret memory */
};

/* The value at x of the polynomials of least degree through the points, whose places
 * differ. out is none of their values. */
void kf_shamir_interpolate(const struct kf_point *points, size_t count, uint8_t x,
                           size_t len, unsigned char *out);

/* Writes n values of len bytes each, one after another: any m of them give the secret.
 * With m = 1 each is the secret. False: no random bytes, no memory, or OpenSSL refused. */
bool kf_shamir_split(const unsigned char *secret, size_t len, size_t m, size_t n,
                     unsigned char *values);

/* The secret from exactly m points. *fits is false when they do not belong together, and
 * then out is wiped. False: no memory, or OpenSSL refused. */
bool kf_shamir_recover(const struct kf_point *points, size_t m, size_t len,
                       unsigned char *out, bool *fits);

#endif
