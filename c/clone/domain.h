/* SPDX-License-Identifier: MIT
 * domain: the secret that two partitions share, and what is done with it.
 *
 * text -> scrypt (N 2^17, r 8, p 1, salt "keyferry domain 1", RFC 7914) -> 32 bytes
 *      -> HKDF-SHA256 (RFC 5869), info "keyferry 1 wrap" / "keyferry 1 encrypt" /
 *         "keyferry 1 mac" -> three keys of 32 bytes.
 * check value = first 16 bytes of HMAC-SHA256(mac key, "keyferry domain check 1").
 *
 * Two kinds behind one face: a host domain knows its keys (a text was given, or the
 * engine softhsm read them from the store); a token domain works through three keys
 * that stay in a token, in one session.
 */
#ifndef KF_CLONE_DOMAIN_H
#define KF_CLONE_DOMAIN_H

#include "base/error.h"
#include "base/secret.h"
#include "base/wire.h"
#include "clone/crypto.h"
#include "pkcs11/object.h"
#include "pkcs11/session.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KF_CHECK_BYTES = 16, KF_MAC_BYTES = 32, KF_DOMAIN_KEY_BYTES = 32 };

struct kf_domain;

/* Domains may be used by several threads; one that lives in a token not by two at once.
 *
 * scrypt and HKDF; takes a good part of a second, and 128 MB while it runs. */
kf_rv kf_domain_from_text(const struct kf_secret *text, struct kf_domain **out,
                          struct kf_error *err);
/* From keys of KF_DOMAIN_KEY_BYTES that somebody stored; copies them. */
kf_rv kf_domain_from_keys(const struct kf_secret *wrap, const struct kf_secret *encrypt,
                          const struct kf_secret *mac, struct kf_domain **out,
                          struct kf_error *err);
struct kf_domain *kf_domain_ref(struct kf_domain *domain);
void kf_domain_unref(struct kf_domain *domain); /* NULL is fine; the last one wipes */

bool kf_domain_is_host(const struct kf_domain *domain);
const uint8_t *kf_domain_check(const struct kf_domain *domain); /* KF_CHECK_BYTES */

/* The domain that lives in the token of a logged-in session. KFR_NOT_FOUND: it has
 * none; KFR_AMBIGUOUS, KFR_DAMAGED: it has something that cannot be one. The domain
 * keeps the session's handles, not the session: it answers KFR_CLOSED after that is
 * closed. KFR_NEWER_VERSION: a domain that a later keyferry put there. */
kf_rv kf_domain_find(struct kf_session *session, struct kf_domain **out,
                     struct kf_error *err);
/* Puts a host domain into the token: three private, sensitive, non-extractable secret
 * keys. KFR_EXISTS when one is there. All or none. */
kf_rv kf_domain_install(struct kf_session *session, const struct kf_domain *domain,
                        struct kf_error *err);

/* Whether an object is a domain key of some version, perhaps a newer one than ours. */
bool kf_domain_is_any_key(const struct kf_attributes *object);

/* Whether an object is one of the keys that kf_domain_install makes: by class, label
 * and an id that holds purpose and check value (26 bytes: "keyferry", version 1, 'W'
 * 'E' or 'M', check value). check may be NULL. Whoever hides such objects from a
 * listing first makes sure that the token's domain really has that check value. */
bool kf_domain_is_key(const struct kf_attributes *object,
                      uint8_t check[KF_CHECK_BYTES]);
enum kf_domain_purpose { KF_DOMAIN_WRAP, KF_DOMAIN_ENCRYPT, KF_DOMAIN_MAC };
/* The attributes (without CKA_VALUE) of the domain key of that purpose. */
struct kf_attributes *kf_domain_key_attributes(const uint8_t check[KF_CHECK_BYTES],
                                               enum kf_domain_purpose purpose);
bool kf_domain_key_purpose(const struct kf_attributes *object,
                           enum kf_domain_purpose *purpose);

/* The wrapping key as an object of this session, for C_WrapKey and C_UnwrapKey: the
 * token's own for a token domain (KFR_ARGUMENT in a session of another module); for a
 * host domain a session object made at the first call and gone with the session, its
 * logout, or kf_domain_detach: detach before logging out. */
kf_rv kf_domain_wrapping_key(struct kf_domain *domain, struct kf_session *session,
                             CK_OBJECT_HANDLE *out, struct kf_error *err);
/* Destroys the session object of that session, if there is one. */
void kf_domain_detach(struct kf_domain *domain, struct kf_session *session);

/* HMAC-SHA256 under the mac key over the slices one after another. */
kf_rv kf_domain_mac(const struct kf_domain *domain, const struct kf_slice *slices,
                    size_t count, uint8_t out[KF_MAC_BYTES], struct kf_error *err);
/* AES-256-CBC with PKCS#7 padding under the encrypt key, IV first. Decrypting gives
 * secret memory; only ever called on bytes that the mac has vouched for. */
kf_rv kf_domain_encrypt(const struct kf_domain *domain, const void *plain, size_t len,
                        struct kf_writer *out, struct kf_error *err);
kf_rv kf_domain_decrypt(const struct kf_domain *domain, const void *bytes, size_t len,
                        struct kf_secret **out, struct kf_error *err);
/* RFC 5649 (AES-256) under the wrap key, in this process: host domains only
 * (KFR_NO_ENGINE for a token domain). Unwrapping what was wrapped under another key or
 * changed is KFR_DAMAGED. */
kf_rv kf_domain_wrap_bytes(const struct kf_domain *domain, const void *plain,
                           size_t len, struct kf_writer *out, struct kf_error *err);
kf_rv kf_domain_unwrap_bytes(const struct kf_domain *domain, const void *bytes,
                             size_t len, struct kf_secret **out, struct kf_error *err);
/* The same by RFC 3394, for modules that speak no RFC 5649. Whole blocks of 8 bytes, two
 * at least (KFR_ARGUMENT). */
kf_rv kf_domain_wrap_blocks(const struct kf_domain *domain, const void *plain,
                            size_t len, struct kf_writer *out, struct kf_error *err);
kf_rv kf_domain_unwrap_blocks(const struct kf_domain *domain, const void *bytes,
                              size_t len, struct kf_secret **out, struct kf_error *err);

#endif
