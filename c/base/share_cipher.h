/* SPDX-License-Identifier: MIT
 * share_cipher: what of a key stands between the secret that is split and the secret that
 * is used: HMAC, and the encryption of SLIP-0039 under a passphrase.
 */
#ifndef KF_BASE_SHARE_CIPHER_H
#define KF_BASE_SHARE_CIPHER_H

#include "base/secret.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KF_SHARE_HMAC = 32 };

/* HMAC-SHA256 (RFC 2104). False: OpenSSL refused. */
bool kf_share_hmac(const void *key, size_t key_len, const void *bytes, size_t len,
                   unsigned char out[KF_SHARE_HMAC]);

/* HKDF-SHA256 (RFC 5869) without a salt; info has at most 63 bytes. */
bool kf_share_hkdf(const void *key, size_t key_len, const char *info,
                   unsigned char out[KF_SHARE_HMAC]);

struct kf_share_cipher {
    uint16_t set; /* the salt, unless extendable */
    bool extendable;
    uint8_t exponent; /* 10000 << exponent iterations in all */
};

/* The secret (an even number of bytes, KF_SHAMIR_MAX_BYTES at most) in its place, by four
 * Feistel rounds of PBKDF2-HMAC-SHA256. No passphrase (NULL) is an empty one. */
bool kf_share_encrypt(const struct kf_share_cipher *how,
                      const struct kf_secret *passphrase, unsigned char *secret,
                      size_t len);
bool kf_share_decrypt(const struct kf_share_cipher *how,
                      const struct kf_secret *passphrase, unsigned char *secret,
                      size_t len);

#endif
