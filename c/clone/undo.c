/* SPDX-License-Identifier: MIT */
#include "clone/undo.h"

#include "pkcs11/object.h"

#include <stdlib.h>
#include <string.h>

/* ---- what was there before ---- */

kf_rv kf_there_list(struct kf_there *there, struct kf_session *session,
                    struct kf_error *err)
{
    struct kf_attributes *filter = NULL;
    kf_rv rv = KFR_MEMORY;

    if (there->known)
        return KFR_OK;
    filter = kf_attributes_new(false);
    if (filter && kf_attributes_set_bool(filter, CKA_TOKEN, true))
        rv = kf_objects_find(session, filter, &there->objects, &there->count, err);
    else
        kf_fail(err, rv, NULL, NULL, "no memory for a list of objects");
    kf_attributes_free(filter);
    if (rv)
        return rv;
    there->cap = there->count;
    there->known = true;
    if (there->count)
        qsort(there->objects, there->count, sizeof *there->objects, kf_handle_order);
    return KFR_OK;
}

bool kf_there_has(const struct kf_there *there, CK_OBJECT_HANDLE object)
{
    return there->count &&
           bsearch(&object, there->objects, there->count, sizeof object,
                   kf_handle_order);
}

bool kf_there_add(struct kf_there *there, CK_OBJECT_HANDLE object)
{
    size_t cap = there->cap ? there->cap * 2 : 64, at = there->count;
    CK_OBJECT_HANDLE *objects;

    if (there->count == there->cap) {
        objects = cap < SIZE_MAX / sizeof *objects
                      ? realloc(there->objects, cap * sizeof *objects)
                      : NULL;
        if (!objects)
            return false;
        there->objects = objects;
        there->cap = cap;
    }
    while (at && there->objects[at - 1] > object) {
        there->objects[at] = there->objects[at - 1];
        at--;
    }
    there->objects[at] = object;
    there->count++;
    return true;
}

void kf_there_clear(struct kf_there *there)
{
    free(there->objects);
    *there = (struct kf_there){ 0 };
}

/* ---- removing ---- */

static bool is_gone(struct kf_session *session, CK_OBJECT_HANDLE object)
{
    struct kf_attributes *spare = kf_attributes_new(false);
    bool gone = spare && kf_object_read_one(session, object, CKA_CLASS, spare, NULL) ==
                             KFR_VANISHED;

    kf_attributes_free(spare);
    return gone;
}

bool kf_undo(struct kf_session *session, CK_OBJECT_HANDLE *object)
{
    bool gone = *object == CK_INVALID_HANDLE;

    if (!gone) {
        kf_object_destroy(session, *object, NULL);
        gone = is_gone(session, *object);
    }
    *object = CK_INVALID_HANDLE;
    return gone;
}

void kf_undo_say_left(struct kf_error *err)
{
    static const char text[] = "; WHAT WAS MADE OF IT COULD NOT BE REMOVED";
    size_t used;

    if (!err)
        return;
    used = strlen(err->what);
    if (used + sizeof text <= sizeof err->what && !strstr(err->what, text))
        memcpy(err->what + used, text, sizeof text);
}

kf_rv kf_old_check(struct kf_session *session, CK_OBJECT_HANDLE object,
                   const char *hint, struct kf_error *err)
{
    struct kf_attributes *set = kf_attributes_new(false);
    kf_rv rv = KFR_OK;

    if (!set)
        rv = kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory");
    else if (!kf_object_read_one(session, object, CKA_DESTROYABLE, set, NULL) &&
             !kf_attributes_bool(set, CKA_DESTROYABLE, true))
        rv = kf_fail(err, CKR_ACTION_PROHIBITED, "C_DestroyObject", hint,
                     "the old object %lu cannot be removed: CKA_DESTROYABLE is false",
                     object);
    kf_attributes_free(set);
    return rv;
}

kf_rv kf_old_remove(struct kf_session *session, CK_OBJECT_HANDLE object,
                    const char *hint, struct kf_error *err)
{
    kf_rv rv = kf_object_destroy(session, object, err);

    if (rv == KFR_VANISHED || rv == CKR_OBJECT_HANDLE_INVALID)
        return KFR_OK;
    if (!rv && !is_gone(session, object))
        rv = kf_fail(err, CKR_FUNCTION_FAILED, "C_DestroyObject", hint,
                     "the module says that the old object %lu was removed, and it is "
                     "still there",
                     object);
    return rv;
}
