/* SPDX-License-Identifier: MIT
 * softhsm_pin: from a PIN to the key of a SoftHSM token, and values under that key.
 * (SoftHSM 2.6.1, SecureDataManager and RFC4880: not the S2K of OpenPGP, whatever the
 * name says, but SHA-256 iterated 1500 + salt[7] times.)
 */
#ifndef KF_CLONE_SOFTHSM_PIN_H
#define KF_CLONE_SOFTHSM_PIN_H

#include "base/error.h"
#include "base/secret.h"

#include <stddef.h>

enum { KF_SOFTHSM_TOKEN_KEY_BYTES = 32, KF_SOFTHSM_BLOCK = 16 };

/* CKR_PIN_INCORRECT, KFR_STORE when the blob cannot be one. The caller frees *out. */
kf_rv kf_softhsm_token_key(const void *blob, size_t len, const struct kf_secret *pin,
                           struct kf_secret **out, struct kf_error *err);

/* A token key made ready: many values pass through one key schedule. */
struct kf_softhsm_cipher;
kf_rv kf_softhsm_cipher_new(const struct kf_secret *token_key,
                            struct kf_softhsm_cipher **out, struct kf_error *err);
void kf_softhsm_cipher_free(struct kf_softhsm_cipher *cipher); /* NULL is fine */

/* What a value of len bytes is as ciphertext: IV, AES-256-CBC, PKCS#7. */
size_t kf_softhsm_sealed_len(size_t len);
/* out has room for kf_softhsm_sealed_len(len); iv is fresh and random. */
kf_rv kf_softhsm_encrypt(struct kf_softhsm_cipher *cipher,
                         const unsigned char iv[KF_SOFTHSM_BLOCK], const void *plain,
                         size_t len, unsigned char *out, struct kf_error *err);
/* out has room for len bytes. KFR_STORE: not a value under this key. */
kf_rv kf_softhsm_decrypt(struct kf_softhsm_cipher *cipher, const void *bytes,
                         size_t len, unsigned char *out, size_t *out_len,
                         struct kf_error *err);

#endif
