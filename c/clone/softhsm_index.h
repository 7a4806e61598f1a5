/* SPDX-License-Identifier: MIT
 * softhsm_index: which file of a token store an object handle is.
 *
 * PKCS#11 does not tell. An object's view (softhsm_class) says which files it can be;
 * where several files look the same, SoftHSM is watched opening the one.
 */
#ifndef KF_CLONE_SOFTHSM_INDEX_H
#define KF_CLONE_SOFTHSM_INDEX_H

#include "base/error.h"
#include "clone/softhsm_class.h"
#include "clone/softhsm_vault.h"
#include "pkcs11/object.h"

#include <stdbool.h>
#include <stddef.h>

struct kf_index;

/* Reads nothing yet. Vault and session outlive the index. */
struct kf_index *kf_index_new(struct kf_vault *vault, struct kf_session *session);
void kf_index_free(struct kf_index *index); /* NULL is fine */

/* The file of a handle whose attributes are `known`, opened, its view compared with
 * them (kf_vault_read's rule for how long *out lives). *name lives until the next call.
 * KFR_VANISHED: no file holds this object (any more); KFR_CONFLICT: several might. */
kf_rv kf_index_open(struct kf_index *index, CK_OBJECT_HANDLE handle,
                    const struct kf_attributes *known, const char **name,
                    struct kf_vault_object *out, struct kf_error *err);
/* Only its name. */
kf_rv kf_index_name(struct kf_index *index, CK_OBJECT_HANDLE handle,
                    const struct kf_attributes *known, const char **name,
                    struct kf_error *err);

/* What this program wrote itself. False: no memory, and looking will find the file. */
bool kf_index_add(struct kf_index *index, const char *name,
                  const uint8_t view[KF_VIEW_BYTES], CK_OBJECT_HANDLE handle);
/* The folder is to be looked through again before the next match. */
void kf_index_stale(struct kf_index *index);

/* The file that SoftHSM opens when that handle is used; NULL when it cannot be told.
 * The name lives until the next call. */
const char *kf_index_file(struct kf_index *index, CK_OBJECT_HANDLE handle);
/* That file, read, and remembered as the handle's. KFR_NOT_FOUND: it cannot be told. */
kf_rv kf_index_read(struct kf_index *index, CK_OBJECT_HANDLE handle,
                    struct kf_vault_object *out, struct kf_error *err);

/* What was read by its handle, against the files that there are. */
struct kf_index_tally {
    size_t unseen;  /* files that no handle was seen to be */
    size_t spare;   /* objects whose file could not be told: these may be of them */
    size_t doubles; /* handles that were seen to be the file of another */
};
/* Brings the names of the unseen, of all sorted ones, to the front. False: no memory. */
bool kf_index_tally(struct kf_index *index, char **names, size_t count,
                    struct kf_index_tally *out);
/* An object was read by its handle, and which file it is could not be told. */
void kf_index_untold(struct kf_index *index);
/* What is seen from here on is counted anew. */
void kf_index_unsee(struct kf_index *index);

/* Which of the names SoftHSM opens when that handle is used; `count` when it cannot be
 * told. */
size_t kf_index_which(struct kf_index *index, CK_OBJECT_HANDLE handle,
                      const char *const *names, size_t count);

#endif
