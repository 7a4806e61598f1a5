/* SPDX-License-Identifier: MIT
 * crypto: the primitives of OpenSSL that domains and sealed objects are made of.
 *
 * The algorithms are fetched once for the life of the process: a fetch costs more than
 * the operation. Nothing here keeps a key. False: OpenSSL refused, and what was written
 * to `out` is not to be used.
 */
#ifndef KF_CLONE_CRYPTO_H
#define KF_CLONE_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>

enum { KF_CRYPTO_KEY = 32, KF_CRYPTO_HASH = 32, KF_CRYPTO_BLOCK = 16 };

struct kf_slice {
    const void *bytes;
    size_t len;
};

/* scrypt (RFC 7914) with N 2^17, r 8, p 1: 128 MB while it runs. */
bool kf_crypto_scrypt(const void *text, size_t len, const char *salt,
                      unsigned char out[KF_CRYPTO_KEY]);
/* HKDF-SHA256 (RFC 5869), extract with no salt, expand with info. */
bool kf_crypto_hkdf(const unsigned char key[KF_CRYPTO_KEY], const char *info,
                    unsigned char out[KF_CRYPTO_KEY]);
/* HMAC-SHA256 (RFC 2104) over the slices one after another. */
bool kf_crypto_hmac(const unsigned char key[KF_CRYPTO_KEY],
                    const struct kf_slice *slices, size_t count,
                    unsigned char out[KF_CRYPTO_HASH]);
bool kf_crypto_sha256(const void *bytes, size_t len, unsigned char out[KF_CRYPTO_HASH]);
bool kf_crypto_random(unsigned char *out, size_t len);

/* AES-256-CBC with PKCS#7 padding. out has room for kf_crypto_cbc_room(len) bytes
 * either way; *out_len is what was written. */
size_t kf_crypto_cbc_room(size_t len);
bool kf_crypto_cbc(bool encrypt, const unsigned char key[KF_CRYPTO_KEY],
                   const unsigned char iv[KF_CRYPTO_BLOCK], const void *in, size_t len,
                   unsigned char *out, size_t *out_len);

/* AES-256 key wrap with padding (RFC 5649), the same way. */
size_t kf_crypto_wrap_room(size_t len);
bool kf_crypto_wrap(bool wrap, const unsigned char key[KF_CRYPTO_KEY], const void *in,
                    size_t len, unsigned char *out, size_t *out_len);
/* AES-256 key wrap (RFC 3394): len is a multiple of 8, 16 at least (24 to unwrap). */
bool kf_crypto_wrap_blocks(bool wrap, const unsigned char key[KF_CRYPTO_KEY],
                           const void *in, size_t len, unsigned char *out,
                           size_t *out_len);

#endif
