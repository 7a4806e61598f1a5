/* SPDX-License-Identifier: MIT
 * softhsm_pin: from a PIN to the key of a SoftHSM token, and values under that key.
 * (SoftHSM 2.6.1, SecureDataManager and RFC4880: not the S2K of OpenPGP, whatever the
 * name says, but SHA-256 iterated 1500 + salt[7] times.)
 */
#ifndef KF_CLONE_SOFTHSM_PIN_H
#define KF_CLONE_SOFTHSM_PIN_H

#include "base/error.h"
#include "base/secret.h"
#include "base/wire.h"

enum { KF_SOFTHSM_TOKEN_KEY_BYTES = 32 };

/* CKR_PIN_INCORRECT, KFR_STORE when the blob cannot be one. The caller frees *out. */
kf_rv kf_softhsm_token_key(const void *blob, size_t len, const struct kf_secret *pin,
                           struct kf_secret **out, struct kf_error *err);
/* AES-256-CBC, PKCS#7, fresh random IV first. */
kf_rv kf_softhsm_encrypt(const struct kf_secret *token_key, const void *plain, size_t len,
                         struct kf_writer *out, struct kf_error *err);
kf_rv kf_softhsm_decrypt(const struct kf_secret *token_key, const void *bytes, size_t len,
                         struct kf_secret **out, struct kf_error *err);

#endif
