/* SPDX-License-Identifier: MIT
 * object: finding objects, reading and making them, and using keys.
 */
#ifndef KF_PKCS11_OBJECT_H
#define KF_PKCS11_OBJECT_H

#include "base/error.h"
#include "base/secret.h"
#include "pkcs11/attribute.h"
#include "pkcs11/session.h"

/* The cheapest use of a handle that there is (C_GetObjectSize): KFR_VANISHED when it is
 * gone. */
kf_rv kf_object_touch(struct kf_session *session, CK_OBJECT_HANDLE object,
                      struct kf_error *err);

/* What the object takes in the token (C_GetObjectSize). KFR_NOT_FOUND: the token does
 * not say. */
kf_rv kf_object_size(struct kf_session *session, CK_OBJECT_HANDLE object,
                     uint64_t *out, struct kf_error *err);

/* All handles that match filter (NULL: every object). The search is over before this
 * returns (enumerate, then act); one that fails midway is a failure, not a shorter
 * list. The caller frees *out with free(). */
kf_rv kf_objects_find(struct kf_session *session, const struct kf_attributes *filter,
                      CK_OBJECT_HANDLE **out, size_t *count, struct kf_error *err);

/* For qsort and bsearch of handles: ascending. */
int kf_handle_order(const void *a, const void *b);

/* Whether a new search names that object. One that it names and cannot read has not gone
 * away: the module lies. */
bool kf_object_is_named(struct kf_session *session, CK_OBJECT_HANDLE object);

/* Everything of the object's rows that is no key material, nor the value of a private
 * data object, in as few calls as the token
 * allows (one with big buffers, PKCS#11 5.7 lets it answer some and refuse others; then
 * one by one for what stayed unread). `unread`, when not NULL, gets the types that the
 * token has but would not give (private dates on SoftHSM), at most KF_ROWS_MAX, and
 * their number. A handle that is gone is KFR_VANISHED. The caller frees *out. */
kf_rv kf_object_read(struct kf_session *session, CK_OBJECT_HANDLE object,
                     struct kf_attributes **out, uint64_t *unread, size_t *unread_count,
                     struct kf_error *err);

/* Whether `known`, which was read in that session, has everything of the object's rows
 * that the token has: then nothing was left unread. False when that cannot be told. */
bool kf_object_has_all(struct kf_session *session, const struct kf_attributes *known);

/* The rest: key material where the token gives it (SENSITIVE false), the value of a
 * private data object; a secret set, empty for what has neither. All or nothing.
 * CKR_ATTRIBUTE_SENSITIVE when the token does not give it. */
kf_rv kf_object_read_key(struct kf_session *session, CK_OBJECT_HANDLE object,
                         struct kf_attributes **out, struct kf_error *err);

/* One attribute; CKR_ATTRIBUTE_TYPE_INVALID, CKR_ATTRIBUTE_SENSITIVE as the token says.
 */
kf_rv kf_object_read_one(struct kf_session *session, CK_OBJECT_HANDLE object,
                         uint64_t type, struct kf_attributes *into,
                         struct kf_error *err);

kf_rv kf_object_create(struct kf_session *session, const struct kf_attributes *set,
                       CK_OBJECT_HANDLE *out, struct kf_error *err);
kf_rv kf_object_copy(struct kf_session *session, CK_OBJECT_HANDLE object,
                     const struct kf_attributes *changes, CK_OBJECT_HANDLE *out,
                     struct kf_error *err);
kf_rv kf_object_change(struct kf_session *session, CK_OBJECT_HANDLE object,
                       const struct kf_attributes *changes, struct kf_error *err);
kf_rv kf_object_destroy(struct kf_session *session, CK_OBJECT_HANDLE object,
                        struct kf_error *err);
/* Removes a session object that was made for a while. One that says that it is on the
 * token stays: a module may have given somebody else's handle for it. False: it is
 * not gone. */
bool kf_object_discard(struct kf_session *session, CK_OBJECT_HANDLE object);

/* A native template made from sets (NULL ones are skipped, and of two that have the
 * same attribute the later counts); valid until freed. CKA_MODIFIABLE false goes last
 * (SoftHSM refuses what follows it). Key bytes in it are wiped by the free. */
struct kf_template {
    CK_ATTRIBUTE *at;
    CK_ULONG count;
};
kf_rv kf_template_new(const struct kf_attributes *const *sets, size_t set_count,
                      struct kf_template **out, struct kf_error *err);
void kf_template_free(struct kf_template *template);

kf_rv kf_object_generate(struct kf_session *session, CK_MECHANISM *mechanism,
                         const struct kf_attributes *set, CK_OBJECT_HANDLE *out,
                         struct kf_error *err);
kf_rv kf_object_generate_pair(struct kf_session *session, CK_MECHANISM *mechanism,
                              const struct kf_attributes *public_set,
                              const struct kf_attributes *private_set,
                              CK_OBJECT_HANDLE *public_out,
                              CK_OBJECT_HANDLE *private_out, struct kf_error *err);

/* Single part operations. The result is secret memory, the caller frees it. A derived
 * or decrypted value is as secret as any. */
kf_rv kf_object_sign(struct kf_session *session, CK_OBJECT_HANDLE key,
                     CK_MECHANISM *mechanism, const void *data, size_t len,
                     struct kf_secret **out, struct kf_error *err);
/* CKR_SIGNATURE_INVALID or CKR_SIGNATURE_LEN_RANGE when it is not one of that key. */
kf_rv kf_object_verify(struct kf_session *session, CK_OBJECT_HANDLE key,
                       CK_MECHANISM *mechanism, const void *data, size_t len,
                       const void *signature, size_t signature_len,
                       struct kf_error *err);
kf_rv kf_object_encrypt(struct kf_session *session, CK_OBJECT_HANDLE key,
                        CK_MECHANISM *mechanism, const void *data, size_t len,
                        struct kf_secret **out, struct kf_error *err);
kf_rv kf_object_decrypt(struct kf_session *session, CK_OBJECT_HANDLE key,
                        CK_MECHANISM *mechanism, const void *data, size_t len,
                        struct kf_secret **out, struct kf_error *err);
kf_rv kf_session_digest(struct kf_session *session, CK_MECHANISM *mechanism,
                        const void *data, size_t len, struct kf_secret **out,
                        struct kf_error *err);
/* SHA-256 of a key's CKA_VALUE, made in the token (C_DigestKey, PKCS#11 v2.40 5.10.4):
 * works for keys that may not leave it. Any CKR_ when the token will not; never an
 * answer that is the digest of nothing. */
enum { KF_OBJECT_DIGEST = 32 };
kf_rv kf_object_digest(struct kf_session *session, CK_OBJECT_HANDLE key,
                       uint8_t out[KF_OBJECT_DIGEST]);
kf_rv kf_session_random(struct kf_session *session, size_t len, struct kf_secret **out,
                        struct kf_error *err);
kf_rv kf_object_derive(struct kf_session *session, CK_OBJECT_HANDLE key,
                       CK_MECHANISM *mechanism, const struct kf_attributes *set,
                       CK_OBJECT_HANDLE *out, struct kf_error *err);
kf_rv kf_object_wrap(struct kf_session *session, CK_OBJECT_HANDLE wrapping,
                     CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key,
                     struct kf_secret **out, struct kf_error *err);
kf_rv kf_object_unwrap(struct kf_session *session, CK_OBJECT_HANDLE unwrapping,
                       CK_MECHANISM *mechanism, const void *wrapped, size_t len,
                       const struct kf_attributes *set, CK_OBJECT_HANDLE *out,
                       struct kf_error *err);

#endif
