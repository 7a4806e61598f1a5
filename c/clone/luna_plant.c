/* SPDX-License-Identifier: MIT */
#include "clone/luna_plant.h"

#include "clone/luna_item.h"
#include "pkcs11/object.h"

#include <stdlib.h>
#include <string.h>

/* ---- undoing ---- */

/* Undoes it where it is ours. False: it is still there. */
static bool undo_item(const struct kf_luna_plant *plant, struct kf_luna_item *item)
{
    if (item->exists)
        item->handle = CK_INVALID_HANDLE;
    return kf_undo(plant->session, &item->handle);
}

static void forget(struct kf_luna_plant *plant)
{
    for (size_t i = 0; i < plant->count; i++)
        kf_luna_item_clear(&plant->items[i]);
    plant->count = 0;
}

void kf_luna_abort(struct kf_luna_plant *plant)
{
    for (size_t i = 0; i < plant->count; i++)
        undo_item(plant, &plant->items[i]);
    forget(plant);
}

void kf_luna_plant_close(struct kf_luna_plant *plant)
{
    kf_luna_abort(plant);
    kf_session_free(plant->source);
    kf_luna_index_clear(&plant->index);
    free(plant->items);
    kf_there_clear(&plant->there);
    plant->source = NULL;
    plant->items = NULL;
    plant->cap = 0;
}

/* ---- the source ---- */

/* A read/write session in the slot of the source, as the call wants one; nothing is
 * written there. The login is the token's, so it has that of the caller's session. */
static kf_rv open_source(struct kf_luna_plant *plant, CK_SLOT_ID slot,
                         struct kf_error *err)
{
    kf_rv rv = KFR_OK;

    if (plant->source && kf_session_slot(plant->source) != slot) {
        kf_session_free(plant->source);
        plant->source = NULL;
    }
    if (!plant->source)
        rv = kf_session_open(kf_session_module(plant->session), slot, true,
                             &plant->source, err);
    return rv;
}

static kf_rv require_user(struct kf_session *session, const char *end,
                          struct kf_error *err)
{
    CK_USER_TYPE user = CK_UNAVAILABLE_INFORMATION;
    kf_rv rv = kf_session_user(session, &user, err);

    if (!rv && user != CKU_USER)
        rv = kf_module_fail(err, CKR_USER_NOT_LOGGED_IN, "C_GetSessionInfo",
                            "CA_CloneObject wants the Crypto Officer at both ends: "
                            "the %s, token %s, is not logged in",
                            end, kf_session_token(session)->label);
    return rv;
}

/* ---- cloning ---- */

/* A private data object shows its value to nobody but the two sessions. */
static kf_rv read_value(struct kf_luna_plant *plant, struct kf_luna_item *item,
                        struct kf_error *err)
{
    if (kf_attributes_ulong(item->original, CKA_CLASS, UINT64_MAX) != CKO_DATA ||
        kf_attributes_get(item->original, CKA_VALUE))
        return KFR_OK;
    item->value = kf_attributes_new(true);
    if (!item->value)
        return kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for a private value");
    return kf_object_read_one(plant->source, item->from.object, CKA_VALUE, item->value,
                              err);
}

/* The handle that the HSM gave: of something new, or it is not ours to undo. */
static kf_rv check_handle(struct kf_luna_plant *plant, struct kf_luna_item *item,
                          struct kf_error *err)
{
    bool was = kf_there_has(&plant->there, item->handle);

    if (item->handle != CK_INVALID_HANDLE && !was)
        return KFR_OK;
    item->handle = CK_INVALID_HANDLE;
    return kf_fail(err, KFR_MODULE, "CA_CloneObject", "look at the target's objects",
                   was ? "the HSM gave the handle of an object that was there before"
                       : "the HSM said that it cloned the object, and gave no handle");
}

/* Answers after which the HSM may have made it all the same. */
static bool is_vague(kf_rv rv)
{
    return rv == CKR_GENERAL_ERROR || rv == CKR_FUNCTION_FAILED ||
           rv == CKR_DEVICE_ERROR || rv == CKR_DEVICE_MEMORY || rv == CKR_HOST_MEMORY;
}

/* Removes what was not there before and is this object. False: it would not go. */
static bool sweep(const struct kf_luna_plant *plant, const struct kf_luna_item *item)
{
    CK_OBJECT_HANDLE *found = NULL;
    size_t count = 0;
    bool good =
        !kf_luna_item_search(item, plant->session, &found, &count, NULL);

    for (size_t i = 0; good && i < count; i++)
        if (!kf_there_has(&plant->there, found[i]))
            good = kf_undo(plant->session, &found[i]);
    free(found);
    return good;
}

/* Clones it and looks at what came of it; on failure nothing is left, or err says so.
 */
static kf_rv make(struct kf_luna_plant *plant, struct kf_luna_item *item,
                  struct kf_error *err)
{
    struct kf_error why = { 0 };
    bool made = false;
    kf_rv rv = read_value(plant, item, err);

    if (!rv) {
        rv = kf_luna_item_clone(item, plant->session, plant->source, err);
        made = !rv || is_vague(rv);
    }
    if (rv == KF_LUNA_OBJECT_ALREADY_EXISTS) {
        kf_rv found = kf_luna_item_find(item, plant->session, &plant->index, &why);

        if (found && found != KFR_NOT_FOUND && err)
            *err = why;
        return found == KFR_NOT_FOUND ? rv : found;
    }
    if (!rv)
        rv = check_handle(plant, item, err);
    if (!rv)
        rv = kf_luna_item_check(item, plant->session, plant->domain, err);
    if (!rv && (!kf_there_add(&plant->there, item->handle) ||
                (item->from.has_ouid &&
                 !kf_luna_index_add(&plant->index, item->from.ouid, item->handle))))
        rv = kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for a list of objects");
    if (rv && (!kf_undo(plant->session, &item->handle) ||
               (made && !sweep(plant, item))))
        kf_undo_say_left(err);
    return rv;
}

static bool room_for_one(struct kf_luna_plant *plant)
{
    size_t cap = plant->cap ? plant->cap * 2 : 16;
    struct kf_luna_item *items;

    if (plant->count < plant->cap)
        return true;
    if (cap > SIZE_MAX / sizeof *items)
        return false;
    items = realloc(plant->items, cap * sizeof *items);
    if (!items)
        return false;
    plant->items = items;
    plant->cap = cap;
    return true;
}

kf_rv kf_luna_stage(struct kf_luna_plant *plant, const struct kf_sealed *sealed,
                    const struct kf_changes *changes, struct kf_error *err)
{
    struct kf_luna_item item = { 0 };
    kf_rv rv;

    if (!kf_session_is_writable(plant->session))
        return kf_fail(err, CKR_SESSION_READ_ONLY, NULL, NULL,
                       "the target's session is read-only");
    if (!room_for_one(plant))
        return kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for a staged object");
    rv = kf_luna_item_fill(&item, sealed, changes, plant->session, err);
    if (!rv)
        rv = open_source(plant, item.from.slot, err);
    if (!rv)
        rv = require_user(plant->source, "source", err);
    if (!rv)
        rv = require_user(plant->session, "target", err);
    if (!rv)
        rv = kf_there_list(&plant->there, plant->session, err);
    if (!rv && !item.later)
        rv = make(plant, &item, err);
    if (!rv) {
        plant->items[plant->count++] = item;
        item = (struct kf_luna_item){ 0 };
    }
    kf_luna_item_clear(&item);
    return rv;
}

kf_rv kf_luna_foresee(struct kf_luna_plant *plant, const struct kf_sealed *sealed,
                      const struct kf_changes *changes, char lost[KF_LOST_MAX],
                      struct kf_error *err)
{
    struct kf_luna_item item = { 0 };
    struct kf_error why = { 0 };
    kf_rv rv, found;

    (void)lost; /* the HSM says nothing of that before */
    rv = kf_luna_item_fill(&item, sealed, changes, plant->session, err);
    if (!rv && item.from.has_ouid) {
        found = kf_luna_item_find(&item, plant->session, &plant->index, &why);
        rv = found == KFR_NOT_FOUND ? KFR_OK : found ? found : item.other;
        if (rv && err)
            *err = found ? why : item.why;
    }
    kf_luna_item_clear(&item);
    return rv;
}

/* ---- commit ---- */

static bool is_kept(const struct kf_luna_plant *plant, CK_OBJECT_HANDLE object)
{
    for (size_t i = 0; i < plant->count; i++)
        if (plant->items[i].exists && plant->items[i].handle == object)
            return true;
    return false;
}

/* Old objects that cannot go are found before anything is kept. */
static kf_rv check_removable(const struct kf_luna_plant *plant,
                             const CK_OBJECT_HANDLE *remove, size_t count,
                             struct kf_error *err)
{
    kf_rv rv = KFR_OK;

    for (size_t i = 0; !rv && i < count; i++)
        if (!is_kept(plant, remove[i]))
            rv = kf_old_check(plant->session, remove[i],
                              "use -add, or another backup partition", err);
    return rv;
}

/* What becomes of one item at the commit. */
static kf_rv settle(struct kf_luna_plant *plant, struct kf_luna_item *item,
                    enum kf_commit mode, struct kf_planted *out)
{
    kf_rv rv = KFR_OK;

    if (item->later) {
        rv = make(plant, item, &out->err);
    } else if (kf_object_touch(plant->session, item->handle, &out->err) ==
               KFR_VANISHED) {
        item->handle = CK_INVALID_HANDLE; /* another program has removed it */
        rv = KFR_VANISHED;
    }
    if (!rv && item->exists && item->other && mode == KF_COMMIT_ALL) {
        out->err = item->why; /* it would stay as it is */
        rv = item->other;
    }
    out->rv = rv;
    if (!rv) {
        out->err = (struct kf_error){ 0 };
        out->handle = item->handle;
        out->exists = item->exists;
        memcpy(out->lost, item->lost, sizeof out->lost);
    }
    return rv;
}

/* Undoes all that was staged; every object then answers with the failure. */
static void undo_all(struct kf_luna_plant *plant, struct kf_planted *planted, kf_rv rv,
                     const struct kf_error *why)
{
    for (size_t i = 0; i < plant->count; i++) {
        bool gone = undo_item(plant, &plant->items[i]);

        planted[i].handle = CK_INVALID_HANDLE;
        planted[i].exists = false;
        planted[i].lost[0] = '\0';
        if (!planted[i].rv) {
            planted[i].rv = rv;
            planted[i].undone = true;
            kf_fail(&planted[i].err, rv, why->call, why->hint,
                    "undone, because another object failed: %.300s", why->what);
        }
        if (!gone)
            kf_undo_say_left(&planted[i].err);
    }
}

/* Objects that cannot be undone come last, when nothing else can fail any more. */
static kf_rv settle_all(struct kf_luna_plant *plant, enum kf_commit mode,
                        struct kf_planted *planted, bool *failed, struct kf_error *err)
{
    for (int last = 0; last <= 1; last++)
        for (size_t i = 0; i < plant->count; i++) {
            struct kf_luna_item *item = &plant->items[i];
            struct kf_error why;
            kf_rv rv;

            if (item->later != (last == 1))
                continue;
            rv = settle(plant, item, mode, &planted[i]);
            *failed = *failed || rv;
            if (!rv || mode == KF_COMMIT_EACH)
                continue;
            why = planted[i].err;
            undo_all(plant, planted, rv, &why);
            if (err)
                *err = why;
            return rv;
        }
    return KFR_OK;
}

static kf_rv remove_old(const struct kf_luna_plant *plant,
                        const CK_OBJECT_HANDLE *remove, size_t count,
                        struct kf_error *err)
{
    kf_rv rv = KFR_OK, one;

    for (size_t i = 0; i < count; i++) {
        if (is_kept(plant, remove[i]))
            continue;
        one = kf_old_remove(plant->session, remove[i],
                            "remove it with the vendor's own tool", rv ? NULL : err);
        rv = rv ? rv : one;
    }
    return rv;
}

kf_rv kf_luna_commit(struct kf_luna_plant *plant, enum kf_commit mode,
                     const CK_OBJECT_HANDLE *remove, size_t remove_count,
                     struct kf_planted *planted, struct kf_error *err)
{
    struct kf_error why = { 0 };
    bool failed = false;
    kf_rv rv = check_removable(plant, remove, remove_count, &why);

    if (rv) {
        undo_all(plant, planted, rv, &why);
        if (err)
            *err = why;
    } else {
        rv = settle_all(plant, mode, planted, &failed, err);
    }
    if (!rv && !failed)
        rv = remove_old(plant, remove, remove_count, err);
    forget(plant);
    return rv;
}
