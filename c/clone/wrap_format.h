/* SPDX-License-Identifier: MIT
 * wrap_format: how a module wraps keys, found out by using it.
 *
 * CKM_AES_KEY_WRAP_PAD (0x210A) is RFC 5649 in one module and PKCS#7 padding under
 * RFC 3394 in the next; CKM_AES_KEY_WRAP_KWP (0x210B) is RFC 5649 where it exists. So
 * nothing is believed: a way is a mechanism *and* a form, and each first wraps or unwraps
 * a key that is known. Of those that stand the proof the best one is used, and the next
 * where it refuses a key.
 *
 * Outside there is one form, RFC 5649 under the domain: all others are turned into it and
 * back in this process, which takes a domain whose keys are at hand.
 */
#ifndef KF_CLONE_WRAP_FORMAT_H
#define KF_CLONE_WRAP_FORMAT_H

#include "base/error.h"
#include "base/secret.h"
#include "clone/domain.h"
#include "clone/wrap_form.h"
#include "pkcs11/object.h"

#include <stdint.h>

/* PKCS#11 v3.0; p11-kit 0.24 has no name for it. */
#define KF_CKM_AES_KEY_WRAP_KWP 0x210BUL

enum { KF_WRAP_WAYS = 9 };

/* Zeroed but for session and domain, it is ready to be used. The proofs are made at
 * first use and kept. */
struct kf_wrap_format {
    struct kf_session *session;
    struct kf_domain *domain;
    enum kf_wrap_proof { KF_PROOF_NONE, KF_PROVED, KF_DISPROVED } wrap[KF_WRAP_WAYS],
        unwrap[KF_WRAP_WAYS];
    kf_rv why[KF_WRAP_WAYS]; /* it was disproved */
    bool has_list;           /* C_GetMechanismList answered */
    bool listed[KF_WRAP_WAYS];
    struct kf_secret *transport; /* for KF_FORM_CBC_PAD; NULL: not made yet */
    CK_OBJECT_HANDLE transport_key;
};

/* Destroys what it made in the session. The session and the domain stay its owner's. */
void kf_wrap_format_clear(struct kf_wrap_format *format);

/* C_WrapKey, as RFC 5649 under the domain. KFR_NO_ENGINE: no way stood the proof. The
 * caller frees *out. */
kf_rv kf_wrap_out(struct kf_wrap_format *format, CK_OBJECT_HANDLE key,
                  struct kf_secret **out, struct kf_error *err);
/* C_UnwrapKey of such a body. */
kf_rv kf_wrap_in(struct kf_wrap_format *format, const void *wrapped, size_t len,
                 const struct kf_attributes *set, CK_OBJECT_HANDLE *out,
                 struct kf_error *err);

/* The best way that is proved, "CKM_AES_KEY_WRAP_PAD as RFC 5649"; "" when there is none.
 * Makes the proofs. */
void kf_wrap_way_text(struct kf_wrap_format *format, bool unwrap, char *text,
                      size_t size);

#endif
