/* SPDX-License-Identifier: MIT
 * wrap_form: the forms that modules wrap keys in, made and read in this process.
 *
 * A sealed object has one form of body (RFC 5649 under the domain's wrap key). A module
 * that speaks another is served here, with a domain whose keys are at hand.
 */
#ifndef KF_CLONE_WRAP_FORM_H
#define KF_CLONE_WRAP_FORM_H

#include "base/error.h"
#include "base/secret.h"
#include "clone/crypto.h"
#include "clone/domain.h"

enum kf_wrap_form {
    KF_FORM_RFC5649,
    KF_FORM_RFC3394,       /* whole blocks of 8 bytes */
    KF_FORM_RFC3394_PKCS7, /* PKCS#7 padding to 8 bytes before RFC 3394 (NSS's 0x210A) */
    KF_FORM_CBC_PAD        /* PKCS#11 v2.40, 2.8.10, under a transport key */
};

const char *kf_form_text(enum kf_wrap_form form);

/* What it takes. `transport` and `iv` are for KF_FORM_CBC_PAD alone. */
struct kf_form_key {
    enum kf_wrap_form form;
    const struct kf_domain *domain;
    const struct kf_secret *transport; /* KF_CRYPTO_KEY bytes */
    const unsigned char *iv;           /* KF_CRYPTO_BLOCK bytes */
};

/* KFR_ARGUMENT: that form has no room for a body of that length. Zeros after a private key
 * would make room, and NSS makes keys of such a body that do not work. */
kf_rv kf_form_encode(const struct kf_form_key *key, const void *plain, size_t len,
                     struct kf_writer *out, struct kf_error *err);
/* KFR_DAMAGED: not of that form, or not under that key; KF_FORM_CBC_PAD alone may give
 * other bytes instead, since it authenticates nothing. */
kf_rv kf_form_decode(const struct kf_form_key *key, const void *bytes, size_t len,
                     struct kf_secret **out, struct kf_error *err);

#endif
