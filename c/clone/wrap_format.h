/* SPDX-License-Identifier: MIT
 * wrap_format: which mechanism of a module is RFC 5649, found out by using it.
 *
 * CKM_AES_KEY_WRAP_PAD (0x210A) is RFC 5649 in one module and PKCS#7 padding under
 * RFC 3394 in the next; CKM_AES_KEY_WRAP_KWP (0x210B) is RFC 5649 where it exists. So
 * nothing is believed: each candidate first wraps or unwraps a key that is known.
 */
#ifndef KF_CLONE_WRAP_FORMAT_H
#define KF_CLONE_WRAP_FORMAT_H

#include "base/error.h"
#include "base/secret.h"
#include "clone/domain.h"
#include "pkcs11/object.h"

#include <stdint.h>

/* PKCS#11 v3.0; p11-kit 0.24 has no name for it. */
#define KF_CKM_AES_KEY_WRAP_KWP 0x210BUL

struct kf_wrap_proof {
    bool tried;
    CK_MECHANISM_TYPE mechanism; /* when rv is 0 */
    kf_rv rv;
    struct kf_error err;
};

/* One session and domain; the proofs are made at first use and kept. */
struct kf_wrap_format {
    struct kf_session *session;
    struct kf_domain *domain;
    struct kf_wrap_proof wrap;
    struct kf_wrap_proof unwrap;
};

/* C_WrapKey under the domain, by the mechanism that is proved to be RFC 5649.
 * KFR_NO_ENGINE: none is. The caller frees *out. */
kf_rv kf_wrap_out(struct kf_wrap_format *format, CK_OBJECT_HANDLE key,
                  struct kf_secret **out, struct kf_error *err);
/* C_UnwrapKey, the same way. */
kf_rv kf_wrap_in(struct kf_wrap_format *format, const void *wrapped, size_t len,
                 const struct kf_attributes *set, CK_OBJECT_HANDLE *out,
                 struct kf_error *err);
/* Whether C_UnwrapKey can be used at all: makes the proof. */
kf_rv kf_wrap_in_ready(struct kf_wrap_format *format, struct kf_error *err);

/* SHA-256 of a key's CKA_VALUE, made in the token (C_DigestKey, PKCS#11 v2.40 5.10.4):
 * works for keys that may not leave it. Any CKR_ when the token will not; never an
 * answer that is the digest of nothing. */
kf_rv kf_wrap_token_digest(struct kf_session *session, CK_OBJECT_HANDLE key,
                           uint8_t out[KF_MAC_BYTES]);

#endif
