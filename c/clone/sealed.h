/* SPDX-License-Identifier: MIT
 * sealed: one object on its way, authenticated as a whole, readable under its domain
 * only.
 *
 * The bytes are specified in c/README.md. Three answers that are never mixed up:
 * KFR_DAMAGED (any bit differs from what was sealed), KFR_NEWER_VERSION,
 * KFR_DOMAIN_MISMATCH. An unkeyed digest over everything, at a place that no version
 * moves, tells damage before version and domain are looked at; the keyed mac then tells
 * whether it was sealed under this domain.
 */
#ifndef KF_CLONE_SEALED_H
#define KF_CLONE_SEALED_H

#include "base/error.h"
#include "base/wire.h"
#include "clone/domain.h"
#include "pkcs11/attribute.h"

/* What C_WrapKey would have given: the body of a key, wrapped (RFC 5649) under the
 * domain. */
enum kf_body {
    KF_BODY_NONE = 0,
    KF_BODY_SECRET = 1, /* the bytes of a secret key, exactly as long as the key */
    KF_BODY_PKCS8 =
        2 /* a PrivateKeyInfo (RFC 5208), perhaps with zero bytes after it */
};

enum { KF_SEALED_EXACT = 1 }; /* flags: every attribute is in it, as the store had it */

enum { KF_SEALED_VERSION = 1 };

enum { KF_SEALED_MAX = 64 * 1024 * 1024, KF_SEALED_ATTRIBUTES_MAX = 256 };

struct kf_sealed {
    unsigned flags;
    char engine[16];                /* who sealed it */
    char source_serial[17];         /* the token it came from */
    struct kf_attributes *open;     /* readable to all, authenticated */
    struct kf_attributes *hidden; /* encrypted: key bytes, private values; NULL: none */
    enum kf_body body;
    unsigned char *wrapped;         /* the body, RFC 5649; NULL: none */
    size_t wrapped_len;
};

void kf_sealed_clear(struct kf_sealed *sealed); /* wipes and frees the members */

kf_rv kf_sealed_encode(const struct kf_sealed *sealed, const struct kf_domain *domain,
                       struct kf_writer *out, struct kf_error *err);

/* What can be told without the domain: KFR_DAMAGED, KFR_NEWER_VERSION, or the check
 * value of the domain it was sealed under. */
kf_rv kf_sealed_peek(const void *bytes, size_t len, uint8_t check[KF_CHECK_BYTES],
                     struct kf_error *err);

/* What is readable to all: flags, engine, source_serial and the open attributes; checked
 * against damage, not authenticated, since that takes the domain: for display only. On
 * failure *out is empty. */
kf_rv kf_sealed_look(const void *bytes, size_t len, struct kf_sealed *out,
                     struct kf_error *err);

/* Whether its body is somewhere else: it names an object of this process and is good in
 * it alone. Nothing of it may be written down. */
bool kf_sealed_is_reference(const void *bytes, size_t len);
/* KFR_REFUSED for a reference. */
kf_rv kf_sealed_check_bytes(const void *bytes, size_t len, struct kf_error *err);

/* Authenticates and decodes. On failure *out is empty. */
kf_rv kf_sealed_decode(const void *bytes, size_t len, const struct kf_domain *domain,
                       struct kf_sealed *out, struct kf_error *err);

/* kf_material_digest of what is in it, once it is authenticated. KFR_NOT_FOUND: what is
 * readable does not tell, and the domain cannot unwrap the body in this process. */
kf_rv kf_sealed_digest(const void *bytes, size_t len, const struct kf_domain *domain,
                       uint8_t out[KF_MAC_BYTES], struct kf_error *err);

#endif
