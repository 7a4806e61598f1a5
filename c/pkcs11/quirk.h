/* SPDX-License-Identifier: MIT
 * quirk: what a module is known to do otherwise than PKCS#11 says, where it cannot be
 * found out by trying without harm.
 *
 * The only place that knows modules by name. All else is decided by what a module does.
 */
#ifndef KF_PKCS11_QUIRK_H
#define KF_PKCS11_QUIRK_H

#include "pkcs11/module.h"

#include <stdbool.h>
#include <stddef.h>

enum kf_quirk {
    KF_QUIRK_NEEDS_PUBLIC_VALUE, /* EC and DSA private keys: not without KF_CKA_NSS_DB */
    KF_QUIRK_SAME_ID_OVERWRITES, /* a new key takes the place of one of its CKA_ID */
    KF_QUIRK_KEYS_PRIVATE,       /* keys show themselves to nobody without a login */
    KF_QUIRK_NO_TOKEN_DATA,      /* data objects for a session only */
    KF_QUIRK_SO_PIN_EMPTY,       /* the SO logs in with an empty PIN, after C_InitToken */
    KF_QUIRK_LABEL_FIXED,        /* C_InitToken does not look at the label */
    KF_QUIRK_SERIAL_SHARED,      /* all tokens have one serial number */
    KF_QUIRK_NOT_FINALIZED       /* does not stand C_Finalize */
};

/* NSS's own attribute (lib/util/pkcs11n.h, CKA_NETSCAPE_DB before): the public value of a
 * private key, raw. */
#define KF_CKA_NSS_DB 0xD5A0DB00UL

struct kf_quirk_row {
    enum kf_quirk what;
    const char *name;         /* "label_fixed" */
    const char *manufacturer; /* manufacturerID of CK_INFO, without its padding */
    CK_VERSION first, last;   /* libraryVersion, both included */
    const char *functions;    /* where its functions come from; NULL: wherever */
    const char *reason;
};

bool kf_quirk_has(const struct kf_module *module, enum kf_quirk what);
/* The rows for a module, one after another: *at starts as 0; NULL: no more. */
const struct kf_quirk_row *kf_quirk_next(const struct kf_module *module, size_t *at);

#endif
