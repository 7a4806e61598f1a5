/* SPDX-License-Identifier: MIT
 * undo: what a run made on a target can go again, and nothing that was there before.
 */
#ifndef KF_CLONE_UNDO_H
#define KF_CLONE_UNDO_H

#include "base/error.h"
#include "pkcs11/session.h"

/* Token objects that were there before the run made any, and those that it made and
 * keeps: ascending. Zeroed, it is ready to be used. */
struct kf_there {
    CK_OBJECT_HANDLE *objects;
    size_t count;
    size_t cap;
    bool known;
};

/* Lists them, the first time. */
kf_rv kf_there_list(struct kf_there *there, struct kf_session *session,
                    struct kf_error *err);
bool kf_there_has(const struct kf_there *there, CK_OBJECT_HANDLE object);
/* False: no memory, and the list is as before. */
bool kf_there_add(struct kf_there *there, CK_OBJECT_HANDLE object);
void kf_there_clear(struct kf_there *there);

/* Removes an object and makes sure of it: SoftHSM answers CKR_FUNCTION_FAILED to the
 * removal of a half-made one, and removes it; others answer OK, and do not. *object is
 * CK_INVALID_HANDLE afterwards, and may be before. False: it is still there. */
bool kf_undo(struct kf_session *session, CK_OBJECT_HANDLE *object);
/* Adds to a refusal that something is left behind. */
void kf_undo_say_left(struct kf_error *err);

/* Old objects, which a clone replaces. Whether one says that it cannot go; and it goes,
 * which is looked at. The hints are what to do instead. */
kf_rv kf_old_check(struct kf_session *session, CK_OBJECT_HANDLE object,
                   const char *hint, struct kf_error *err);
kf_rv kf_old_remove(struct kf_session *session, CK_OBJECT_HANDLE object,
                    const char *hint, struct kf_error *err);

#endif
