/* SPDX-License-Identifier: MIT */
#include "clone/luna_item.h"

#include "clone/wrap_check.h"
#include "clone/wrap_item.h"
#include "pkcs11/object.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BUSY_TRIES = 6, BUSY_FIRST_MS = 50 };

static const uint64_t names[] = { CKA_CLASS, CKA_KEY_TYPE, CKA_LABEL, CKA_ID };

enum { NAMES = sizeof names / sizeof names[0] };

/* ---- what is to be ---- */

static struct kf_attributes *dup_or_null(const struct kf_attributes *set)
{
    return set && set->count ? kf_attributes_dup(set) : NULL;
}

kf_rv kf_luna_item_fill(struct kf_luna_item *item, const struct kf_sealed *sealed,
                        const struct kf_changes *changes, struct kf_session *target,
                        struct kf_error *err)
{
    const struct kf_attributes *set = changes ? changes->set : NULL;
    kf_rv rv = kf_luna_referred(sealed, target, &item->from, err);

    if (rv)
        return rv;
    item->original = kf_attributes_dup(sealed->open);
    item->want = kf_attributes_dup(sealed->open);
    item->changed = dup_or_null(set);
    if (!item->original || !item->want || (set && set->count && !item->changed))
        return kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for a staged object");
    rv = kf_change_apply(item->want, changes, err);
    item->later = !kf_attributes_bool(item->want, CKA_DESTROYABLE, true);
    return rv;
}

void kf_luna_item_clear(struct kf_luna_item *item)
{
    kf_attributes_free(item->original);
    kf_attributes_free(item->want);
    kf_attributes_free(item->changed);
    kf_attributes_free(item->value);
    *item = (struct kf_luna_item){ 0 };
}

/* ---- the call ---- */

/* What the target could not verify or decrypt. Which of these numbers says that the
 * domains differ is in no public table. */
static bool is_about_domain(kf_rv rv)
{
    static const kf_rv codes[] = { 0x8000000AUL, 0x8000000BUL, 0x8000000DUL,
                                   0x8000000EUL, 0x8000000FUL, 0x80000014UL };

    return KF_AMONG(rv, codes);
}

static void pause_busy(unsigned attempt)
{
    long ms = (long)BUSY_FIRST_MS << attempt;
    struct timespec left = { ms / 1000, ms % 1000 * 1000000 };

    nanosleep(&left, NULL);
}

kf_rv kf_luna_item_clone(struct kf_luna_item *item, struct kf_session *target,
                         struct kf_session *source, struct kf_error *err)
{
    struct kf_module *module = kf_session_module(target);
    kf_luna_clone call = kf_luna_call(module);
    CK_RV answer = KF_LUNA_BUSY;

    if (!call || !kf_session_is_open(target) || !kf_session_is_open(source))
        return kf_module_fail(err, KFR_CLOSED, "CA_CloneObject",
                              "a session of the clone is closed");
    for (unsigned i = 0; answer == KF_LUNA_BUSY && i < BUSY_TRIES; i++) {
        if (i)
            pause_busy(i - 1);
        item->handle = CK_INVALID_HANDLE;
        kf_module_enter(module, "CA_CloneObject");
        answer = kf_module_left(call(kf_session_handle(target),
                                     kf_session_handle(source), KF_LUNA_TYPE_OBJECT,
                                     item->from.object, &item->handle));
    }
    if (answer == CKR_OK)
        return KFR_OK;
    item->handle = CK_INVALID_HANDLE;
    return kf_module_fail(err, answer, "CA_CloneObject", "%s",
                          is_about_domain(answer)
                              ? "the target did not accept it, most likely because the "
                                "cloning domains of the two partitions differ"
                              : "the HSM did not clone it");
}

/* ---- reading back ---- */

static kf_rv differs(struct kf_error *err, const char *what)
{
    return kf_fail(err, KFR_DIFFERS, "CA_CloneObject", "look at the target's objects",
                   "the clone was undone: %s", what);
}

static bool same_attribute(const struct kf_attributes *a, const struct kf_attributes *b,
                           uint64_t type)
{
    const struct kf_attribute *one = kf_attributes_get(a, type);
    const struct kf_attribute *other = kf_attributes_get(b, type);

    if (!one || !other)
        return (!one || !one->len) && (!other || !other->len);
    return kf_attribute_equal(one, other);
}

static kf_rv check_ouid(const struct kf_luna_item *item, struct kf_session *target,
                        char lost[KF_LOST_MAX], struct kf_error *err)
{
    uint8_t ouid[KF_OUID_BYTES];

    if (!item->from.has_ouid)
        return KFR_OK;
    if (kf_luna_ouid(target, item->handle, ouid, NULL)) {
        kf_wrap_lose(lost, KF_CKA_OUID);
        return KFR_OK;
    }
    return memcmp(ouid, item->from.ouid, sizeof ouid) == 0
               ? KFR_OK
               : differs(err, "its CKA_OUID is another: it is not the same object");
}

/* Which object it is, before anything of it is corrected. */
static kf_rv check_name(struct kf_luna_item *item, struct kf_session *target,
                        struct kf_error *err)
{
    struct kf_attributes *got = NULL;
    char text[64], what[120];
    kf_rv rv = kf_object_read(target, item->handle, &got, NULL, NULL, err);

    if (rv == KFR_VANISHED)
        return differs(err, "the handle that the HSM gave is of no object there");
    for (size_t i = 0; !rv && i < NAMES; i++) {
        if (same_attribute(item->original, got, names[i]))
            continue;
        snprintf(what, sizeof what, "its %s is another: it is not the same object",
                 kf_name_text(KF_CKA, names[i], text, sizeof text));
        rv = differs(err, what);
    }
    kf_attributes_free(got);
    return rv;
}

kf_rv kf_luna_item_check(struct kf_luna_item *item, struct kf_session *target,
                         struct kf_domain *domain, struct kf_error *err)
{
    struct kf_wrap_format format = { .session = target, .domain = domain };
    struct kf_wrap_item read_back = { .want = item->want, .hidden = item->value };
    kf_rv rv = check_name(item, target, err);

    item->lost[0] = '\0';
    read_back.object_class = kf_attributes_ulong(item->want, CKA_CLASS, UINT64_MAX);
    if (!rv)
        rv = check_ouid(item, target, item->lost, err);
    if (!rv && item->changed)
        rv = kf_object_change(target, item->handle, item->changed, err);
    if (!rv)
        rv = kf_wrap_read_back(&format, &read_back, item->handle, KF_WRAP_FINAL,
                               item->lost, err);
    return rv;
}

/* ---- what is there already ---- */

static kf_rv other(struct kf_error *err, uint64_t type)
{
    char text[64];

    return kf_fail(err, KFR_CONFLICT, "CA_CloneObject",
                   "remove that object from the target, then run again",
                   "the target has this object with another %s, and the HSM does not "
                   "take a second one",
                   kf_name_text(KF_CKA, type, text, sizeof text));
}

/* Compares what is there and changes nothing of it: it may be the old backup. */
static kf_rv compare_there(struct kf_luna_item *item, struct kf_session *target,
                           struct kf_error *err)
{
    struct kf_row rows[KF_ROWS_MAX];
    struct kf_attributes *got = NULL;
    size_t count = kf_rows(kf_attributes_ulong(item->want, CKA_CLASS, UINT64_MAX),
                           kf_attributes_ulong(item->want, CKA_KEY_TYPE, UINT64_MAX),
                           rows);
    kf_rv rv = kf_object_read(target, item->handle, &got, NULL, NULL, err);

    for (size_t i = 0; !rv && i < item->want->count; i++) {
        uint64_t type = item->want->at[i].type;
        unsigned roles = kf_wrap_roles(rows, count, type);

        if (same_attribute(item->want, got, type))
            continue;
        if ((roles & KF_ROLE_IDENTITY) && kf_attributes_get(got, type))
            rv = other(err, type);
        else if (!item->other && !(roles & (KF_ROLE_COMPUTED | KF_ROLE_IDENTITY)))
            item->other = other(&item->why, type);
    }
    kf_attributes_free(got);
    return rv;
}

static bool is_original(const struct kf_luna_item *item, struct kf_session *target,
                        CK_OBJECT_HANDLE object)
{
    uint8_t ouid[KF_OUID_BYTES];

    if (!item->from.has_ouid)
        return true; /* compare_there tells */
    return !kf_luna_ouid(target, object, ouid, NULL) &&
           memcmp(ouid, item->from.ouid, sizeof ouid) == 0;
}

static bool add_names(struct kf_attributes *filter, const struct kf_luna_item *item)
{
    bool good = kf_attributes_set_bool(filter, CKA_TOKEN, true);

    for (size_t i = 0; good && i < NAMES; i++) {
        const struct kf_attribute *at = kf_attributes_get(item->original, names[i]);

        if (at)
            good = kf_attributes_set(filter, at->type, at->kind, at->value, at->len);
    }
    return good;
}

kf_rv kf_luna_item_search(const struct kf_luna_item *item, struct kf_session *target,
                          CK_OBJECT_HANDLE **out, size_t *count, struct kf_error *err)
{
    struct kf_attributes *filter = kf_attributes_new(false);
    size_t kept = 0;
    kf_rv rv = KFR_MEMORY;

    *out = NULL;
    *count = 0;
    if (filter && add_names(filter, item))
        rv = kf_objects_find(target, filter, out, count, err);
    else
        kf_fail(err, rv, NULL, NULL, "no memory for a search");
    for (size_t i = 0; !rv && i < *count; i++)
        if (is_original(item, target, (*out)[i]))
            (*out)[kept++] = (*out)[i];
    *count = kept;
    kf_attributes_free(filter);
    return rv;
}

static kf_rv find_by_names(struct kf_luna_item *item, struct kf_session *target,
                           struct kf_error *err)
{
    CK_OBJECT_HANDLE *found = NULL;
    size_t count = 0;
    kf_rv rv = kf_luna_item_search(item, target, &found, &count, err);

    if (!rv && count)
        item->handle = found[0];
    else if (!rv)
        rv = kf_fail(err, KFR_NOT_FOUND, NULL, NULL,
                     "the target has no object that is this one");
    free(found);
    return rv;
}

kf_rv kf_luna_item_find(struct kf_luna_item *item, struct kf_session *target,
                        struct kf_luna_index *index, struct kf_error *err)
{
    kf_rv rv = item->from.has_ouid ? kf_luna_index_find(index, target, item->from.ouid,
                                                        &item->handle, err)
                                   : find_by_names(item, target, err);

    item->exists = !rv;
    return rv ? rv : compare_there(item, target, err);
}
