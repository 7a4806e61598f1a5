/* SPDX-License-Identifier: MIT
 * softhsm_store: the token store of SoftHSM 2.6 and later ("file" backend), read and
 * written as SoftHSM itself would, under its locks, without its tears.
 *
 * The format is SoftHSM's (object_store/ObjectFile.cpp, OSToken.cpp, Generation.cpp).
 * Nothing in it is authenticated, so all of it is parsed strictly. Values are still
 * encrypted here; engine_softhsm opens them.
 */
#ifndef KF_CLONE_SOFTHSM_STORE_H
#define KF_CLONE_SOFTHSM_STORE_H

#include "base/error.h"
#include "base/secret.h"
#include "base/wire.h"
#include "pkcs11/attribute.h"
#include "pkcs11/session.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

/* What softhsm2.conf says. Found as SoftHSM finds it: `conf`, else SOFTHSM2_CONF, else
 * ~/.config/softhsm2/softhsm2.conf, else /etc/softhsm/softhsm2.conf. */
struct kf_softhsm_conf {
    char path[PATH_MAX];
    char tokendir[PATH_MAX];
    bool is_file_backend;
};
kf_rv kf_softhsm_conf_read(const char *conf, struct kf_softhsm_conf *out,
                           struct kf_error *err);

/* One token's folder. */
struct kf_store;
/* By the serial number of the token. KFR_NOT_FOUND; KFR_STORE. */
kf_rv kf_store_open(const struct kf_softhsm_conf *conf, const char *serial,
                    struct kf_store **out, struct kf_error *err);
void kf_store_free(struct kf_store *store);
const char *kf_store_path(const struct kf_store *store);

/* The PIN blob of token.object, read under its lock, retried while torn. */
kf_rv kf_store_user_blob(struct kf_store *store, struct kf_secret **out,
                         struct kf_error *err);

/* Names of all object files ("<uuid>.object"), sorted; freed with kf_store_names_free. */
kf_rv kf_store_names(struct kf_store *store, char ***out, size_t *count,
                     struct kf_error *err);
void kf_store_names_free(char **names, size_t count);

/* One object as it lies there, kinds and encrypted values included (form is not decided
 * yet). Retried while torn, for a moment. KFR_VANISHED: no such file (any more);
 * KFR_STORE: no object can be read from it. Secret set. */
kf_rv kf_store_read(struct kf_store *store, const char *name, struct kf_attributes **out,
                    struct kf_error *err);
/* The bytes of an object file with generation 1, from a set with encrypted values. */
kf_rv kf_store_encode(const struct kf_attributes *set, struct kf_writer *out,
                      struct kf_error *err);
/* For tests and fuzzing: strict parse of the bytes of an object file. */
kf_rv kf_store_parse(const void *bytes, size_t len, struct kf_attributes **out,
                     struct kf_error *err);

/* Writing. A batch: write any number, publish, or discard. Files get mode and owner of
 * token.object; names are random. `name` gets "<uuid>.object" (42 bytes with the NUL). */
enum { KF_STORE_NAME = 44 };
kf_rv kf_store_stage(struct kf_store *store, const void *bytes, size_t len,
                     char name[KF_STORE_NAME], struct kf_error *err);
/* Makes all staged files durable, gives them their names without replacing anything,
 * removes the files named in `remove`, makes the folder durable, and bumps the token's
 * generation once (and once more some 50 ms later, by kf_store_settle). A journal beside
 * them makes the whole a single step: the next kf_store_open finishes or undoes what a
 * crash left. */
kf_rv kf_store_publish(struct kf_store *store, const char *const *remove,
                       size_t remove_count, struct kf_error *err);
void kf_store_discard(struct kf_store *store);
/* Waits out the rest of the pause after the last publish and bumps once more; again when
 * another hand changed the generation meanwhile (hazards H1, H2, H16). */
void kf_store_settle(struct kf_store *store);
/* Removes object files at once (undo of a publish) and bumps. */
kf_rv kf_store_remove(struct kf_store *store, const char *const *names, size_t count,
                      struct kf_error *err);

/* Removes the token's whole folder, as softhsm2-util --delete-token does. */
kf_rv kf_store_delete_token(const struct kf_softhsm_conf *conf, const char *serial,
                            struct kf_error *err);

#endif
