/* SPDX-License-Identifier: MIT
 * softhsm_vault: a token's store together with its key: objects read in the clear, and
 * made ready to be written.
 *
 * What SoftHSM encrypts: on objects with CKA_PRIVATE, byte strings that are not empty,
 * but not dates of eight bytes and nothing inside templates. Where its rule leaves a
 * choice, enum kf_form keeps which one was taken.
 */
#ifndef KF_CLONE_SOFTHSM_VAULT_H
#define KF_CLONE_SOFTHSM_VAULT_H

#include "base/error.h"
#include "base/wire.h"
#include "clone/softhsm_store.h"
#include "pkcs11/session.h"

#include <stddef.h>

struct kf_vault;

/* Of the session's token, opened with the session's PIN. CKR_USER_NOT_LOGGED_IN: the
 * session has none. Writes nothing. */
kf_rv kf_vault_open(struct kf_session *session, struct kf_vault **out,
                    struct kf_error *err);
void kf_vault_free(struct kf_vault *vault); /* NULL is fine */
struct kf_store *kf_vault_store(struct kf_vault *vault);

/* The store alone, without its key: no login needed. */
kf_rv kf_vault_find_store(struct kf_session *session, struct kf_store **out,
                          struct kf_error *err);

/* An object in the clear. set.at is at, and the values are the vault's: they live, in
 * secret memory, until the next kf_vault_read or kf_vault_forget. */
struct kf_vault_object {
    struct kf_attribute at[KF_STORE_RECORDS_MAX];
    struct kf_attributes set;
    struct kf_store_mark mark;
};
kf_rv kf_vault_read(struct kf_vault *vault, const char *name,
                    struct kf_vault_object *out, struct kf_error *err);
/* As it lies there, and then the rest of it: for those who look at many and want
 * few. */
kf_rv kf_vault_load(struct kf_vault *vault, const char *name,
                    struct kf_vault_object *out, struct kf_error *err);
kf_rv kf_vault_decrypt(struct kf_vault *vault, struct kf_vault_object *object,
                       struct kf_error *err);
void kf_vault_forget(struct kf_vault *vault);

/* The bytes of an object file from attributes in the clear. */
kf_rv kf_vault_write(struct kf_vault *vault, const struct kf_attributes *plain,
                     struct kf_writer *out, struct kf_error *err);

#endif
