/* SPDX-License-Identifier: MIT
 * softhsm_store: the token store of SoftHSM 2.6 and later ("file" backend), read as
 * SoftHSM itself would, under its locks. Nothing here writes: see softhsm_batch.
 *
 * The layout is SoftHSM's (object_store/ObjectStore.cpp, OSToken.cpp). Nothing in it is
 * authenticated, so all of it is parsed strictly. Values are still encrypted here;
 * softhsm_vault opens them.
 */
#ifndef KF_CLONE_SOFTHSM_STORE_H
#define KF_CLONE_SOFTHSM_STORE_H

#include "base/error.h"
#include "base/secret.h"
#include "clone/softhsm_record.h"
#include "pkcs11/attribute.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

/* What softhsm2.conf says. Found as SoftHSM finds it: `conf`, else SOFTHSM2_CONF, else
 * ~/.config/softhsm2/softhsm2.conf if readable, else the one under /etc. */
struct kf_softhsm_conf {
    char path[PATH_MAX];
    char tokendir[PATH_MAX];
    bool is_file_backend;
    bool names_tokendir; /* false: tokendir is the default of the distribution */
};
kf_rv kf_softhsm_conf_read(const char *conf, struct kf_softhsm_conf *out,
                           struct kf_error *err);

/* One token's folder. */
struct kf_store;
/* By the serial number of the token. KFR_NOT_FOUND; KFR_STORE; KFR_SYSTEM. */
kf_rv kf_store_open(const struct kf_softhsm_conf *conf, const char *serial,
                    struct kf_store **out, struct kf_error *err);
void kf_store_free(struct kf_store *store); /* NULL is fine */
const char *kf_store_path(const struct kf_store *store);
/* The open folder, for openat and its like; the store keeps it. */
int kf_store_folder(const struct kf_store *store);
/* Owner, group and mode of token.object, which every other file of the token takes. */
const struct stat *kf_store_owner(const struct kf_store *store);

/* The user's PIN blob of token.object, read under its lock, retried while torn.
 * CKR_USER_PIN_NOT_INITIALIZED where the token has none. The caller frees *out. */
kf_rv kf_store_user_blob(struct kf_store *store, struct kf_secret **out,
                         struct kf_error *err);

/* Names of all object files, sorted; freed with kf_store_names_free. Links and other
 * foreign things are passed over, as SoftHSM does. */
kf_rv kf_store_names(struct kf_store *store, char ***out, size_t *count,
                     struct kf_error *err);
void kf_store_names_free(char **names, size_t count);
/* Whether name is one that SoftHSM or keyferry gives: <uuid>.object. */
bool kf_store_is_uuid_name(const char *name);
enum { KF_STORE_NAME = 44 }; /* such a name and a NUL */

/* By which it shows that a file is still the one that was read. */
struct kf_store_mark {
    ino_t inode;
    off_t size;
    struct timespec changed;
};
bool kf_store_mark(struct kf_store *store, const char *name, struct kf_store_mark *out);
bool kf_store_mark_equal(const struct kf_store_mark *a, const struct kf_store_mark *b);

/* The bytes of an object file into `into` (reused and grown; at[] points into it) and
 * their records. A file that is being written is waited for, for a moment.
 * KFR_VANISHED: no such file (any more); KFR_STORE: no object can be read from it.
 * `mark` may be NULL. */
kf_rv kf_store_load(struct kf_store *store, const char *name, struct kf_secret *into,
                    struct kf_attribute at[KF_STORE_RECORDS_MAX], size_t *count,
                    struct kf_store_mark *mark, struct kf_error *err);
/* The same as a secret set. */
kf_rv kf_store_read(struct kf_store *store, const char *name,
                    struct kf_attributes **out, struct kf_error *err);

/* Which file of the folder is being opened: SoftHSM opens an object's file whenever its
 * handle is used, so a look at a handle tells its file. Start, use the handle, ask. */
struct kf_store_watch;
struct kf_store_watch *kf_store_watch_new(struct kf_store *store); /* NULL: not here */
void kf_store_watch_free(struct kf_store_watch *watch);
void kf_store_watch_start(struct kf_store_watch *watch);
/* Which of the names was opened since then: its index; `count` when none or several. */
size_t kf_store_watch_which(struct kf_store_watch *watch, const char *const *names,
                            size_t count);

/* The one object file that was opened since then, whatever its name; false when it was
 * none or several. */
bool kf_store_watch_opened(struct kf_store_watch *watch, char name[NAME_MAX + 1]);

/* Removes the token's whole folder, as softhsm2-util --delete-token does. */
kf_rv kf_store_delete_token(const struct kf_softhsm_conf *conf, const char *serial,
                            struct kf_error *err);

#endif
