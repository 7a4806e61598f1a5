/* SPDX-License-Identifier: MIT */
#include "clone/wrap_plant.h"

#include "clone/wrap_check.h"
#include "clone/wrap_item.h"
#include "clone/wrap_overwrite.h"
#include "pkcs11/quirk.h"

#include <stdlib.h>
#include <string.h>

enum { TRIAL_ID = 16 };

static struct kf_session *session_of(const struct kf_wrap_plant *plant)
{
    return plant->format->session;
}

static void discard(const struct kf_wrap_plant *plant, CK_OBJECT_HANDLE *object)
{
    kf_object_discard(session_of(plant), *object);
    *object = CK_INVALID_HANDLE;
}

void kf_wrap_abort(struct kf_wrap_plant *plant)
{
    size_t i;

    for (i = 0; i < plant->count; i++)
        kf_wrap_item_clear(plant->format, &plant->items[i]);
    plant->count = 0;
}

void kf_wrap_plant_close(struct kf_wrap_plant *plant)
{
    kf_wrap_abort(plant);
    free(plant->items);
    kf_there_clear(&plant->there);
    plant->items = NULL;
    plant->cap = 0;
}

/* ---- staging ---- */

static bool room_for_one(struct kf_wrap_plant *plant)
{
    size_t cap = plant->cap ? plant->cap * 2 : 16;
    struct kf_wrap_item *items;

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

kf_rv kf_wrap_stage(struct kf_wrap_plant *plant, const struct kf_sealed *sealed,
                    const struct kf_changes *changes, struct kf_error *err)
{
    struct kf_wrap_item item = {0};
    kf_rv rv;

    if (!kf_session_is_writable(session_of(plant)))
        return kf_fail(err, CKR_SESSION_READ_ONLY, NULL, NULL,
                       "the target's session is read-only");
    if (!room_for_one(plant))
        return kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for a staged object");
    rv = kf_wrap_item_fill(&item, sealed, changes, err);
    if (rv)
        goto done;
    item.direct = !kf_attributes_bool(item.want, CKA_COPYABLE, true);
    rv = kf_wrap_make(plant->format, &item, KF_WRAP_STAGED, &item.staged, err);
    if (!rv) {
        plant->takes_session_objects = true;
    } else if (!plant->takes_session_objects && kf_wrap_is_about_template(rv)) {
        /* Perhaps it has no session objects of this kind: the commit will tell. */
        item.direct = true;
        rv = KFR_OK;
    }
    if (!rv) {
        plant->items[plant->count++] = item;
        item = (struct kf_wrap_item){0};
    }
done:
    kf_wrap_item_clear(plant->format, &item);
    return rv;
}

/* ---- undoing ---- */

/* Modules answer with a failure and have made the object all the same. One that was not
 * there before, of this class, label and CKA_ID, is removed. False: it would not go. */
static bool sweep_like(const struct kf_wrap_plant *plant, uint64_t object_class,
                       const struct kf_attributes *want)
{
    static const uint64_t marks[] = {CKA_LABEL, CKA_ID};
    struct kf_attributes *filter = kf_attributes_new(false);
    CK_OBJECT_HANDLE *found = NULL;
    size_t count = 0, i;
    bool good;

    good = filter && kf_attributes_set_bool(filter, CKA_TOKEN, true) &&
           kf_attributes_set_ulong(filter, CKA_CLASS, object_class);
    for (i = 0; good && i < sizeof marks / sizeof marks[0]; i++) {
        const struct kf_attribute *mark = kf_attributes_get(want, marks[i]);

        if (mark)
            good = kf_attributes_set(filter, mark->type, mark->kind, mark->value,
                                     mark->len);
    }
    good = good && !kf_objects_find(session_of(plant), filter, &found, &count, NULL);
    for (i = 0; good && i < count; i++)
        if (!kf_there_has(&plant->there, found[i]))
            good = kf_undo(session_of(plant), &found[i]);
    free(found);
    kf_attributes_free(filter);
    return good;
}

static bool sweep(const struct kf_wrap_plant *plant, const struct kf_wrap_item *item)
{
    return sweep_like(plant, item->object_class, item->want);
}

/* Codes that say that nothing was done. */
static bool is_clean_refusal(kf_rv rv)
{
    static const kf_rv codes[] = {
        CKR_FUNCTION_NOT_SUPPORTED,
        CKR_ATTRIBUTE_READ_ONLY,
        CKR_ATTRIBUTE_TYPE_INVALID,
        CKR_ATTRIBUTE_VALUE_INVALID,
        CKR_TEMPLATE_INCONSISTENT,
        CKR_TEMPLATE_INCOMPLETE,
        CKR_ACTION_PROHIBITED,
        CKR_ARGUMENTS_BAD,
        CKR_SESSION_READ_ONLY,
        CKR_MECHANISM_INVALID,
        CKR_KEY_TYPE_INCONSISTENT,
        KFR_MEMORY,
        KFR_CLOSED,
        KFR_NO_ENGINE,
    };

    return KF_AMONG(rv, codes);
}

/* ---- planting ---- */

static bool trial_pair(const struct kf_wrap_plant *plant, struct kf_attributes *set,
                       CK_OBJECT_HANDLE keys[2])
{
    /* By both a run that was killed here is cleared up after (lua/keyferry/backup). */
    static const char label[] = "keyferry trial";
    enum { MARK = sizeof label - 1 };
    CK_MECHANISM mechanism = {CKM_AES_KEY_GEN, NULL, 0};
    struct kf_secret *id = NULL;
    bool good;

    good = !kf_session_random(session_of(plant), MARK + TRIAL_ID, &id, NULL);
    if (good)
        memcpy(id->data, label, MARK);
    good = good &&
           kf_attributes_set_bool(set, CKA_TOKEN, true) &&
           kf_attributes_set_bool(set, CKA_PRIVATE, true) &&
           kf_attributes_set_bool(set, CKA_SENSITIVE, true) &&
           kf_attributes_set_bool(set, CKA_EXTRACTABLE, false) &&
           kf_attributes_set_ulong(set, CKA_VALUE_LEN, 16) &&
           kf_attributes_set(set, CKA_ID, KF_BYTES, id->data, id->len) &&
           kf_attributes_set(set, CKA_LABEL, KF_BYTES, label, MARK) &&
           !kf_object_generate(session_of(plant), &mechanism, set, &keys[0], NULL) &&
           !kf_object_generate(session_of(plant), &mechanism, set, &keys[1], NULL);
    kf_secret_free(id);
    return good;
}

/* Removes the pair; false: it, or what was made instead, is still there. */
static bool undo_pair(const struct kf_wrap_plant *plant,
                      const struct kf_attributes *set, CK_OBJECT_HANDLE keys[2])
{
    bool gone = true;
    int i;

    if (keys[1] == keys[0])
        keys[1] = CK_INVALID_HANDLE;
    for (i = 0; i < 2; i++)
        if (!kf_there_has(&plant->there, keys[i])) /* then the handle is not ours */
            gone = kf_undo(session_of(plant), &keys[i]) && gone;
    return sweep_like(plant, CKO_SECRET_KEY, set) && gone;
}

/* Says whether this module lets a new key take the place of an old one of the same
 * class and CKA_ID (NSS does, and answers OK): two keys of our own are the trial. */
static kf_rv learn_overwrites(struct kf_wrap_plant *plant, struct kf_error *err)
{
    CK_OBJECT_HANDLE keys[2] = {CK_INVALID_HANDLE, CK_INVALID_HANDLE};
    struct kf_attributes *set = kf_attributes_new(false);
    bool good, old, gone;

    if (!set)
        return kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for a trial");
    good = trial_pair(plant, set, keys);
    old = kf_there_has(&plant->there, keys[0]) || kf_there_has(&plant->there, keys[1]);
    plant->overwrites = good && keys[0] != keys[1] && !old ? KF_OVERWRITES_NEVER
                                                           : KF_OVERWRITES_PERHAPS;
    gone = undo_pair(plant, set, keys);
    kf_attributes_free(set);
    return gone ? KFR_OK
                : kf_fail(
                      err, CKR_FUNCTION_FAILED, "C_DestroyObject",
                      "remove it by hand; a token that removes nothing is no target",
                      "the target does not remove what was made on it: a key labelled "
                      "\"keyferry trial\" is left behind");
}

static kf_rv refuse_overwrite(struct kf_wrap_plant *plant,
                              const struct kf_wrap_item *item, struct kf_error *err)
{
    kf_rv rv = KFR_OK;

    if (!kf_wrap_can_overwrite(item))
        return KFR_OK;
    if (plant->overwrites == KF_OVERWRITES_UNKNOWN &&
        kf_quirk_has(kf_session_module(session_of(plant)), KF_QUIRK_SAME_ID_OVERWRITES))
        plant->overwrites = KF_OVERWRITES_PERHAPS;
    if (plant->overwrites == KF_OVERWRITES_UNKNOWN)
        rv = learn_overwrites(plant, err);
    if (rv || plant->overwrites == KF_OVERWRITES_NEVER)
        return rv;
    return kf_wrap_refuse_taken(session_of(plant), item, err);
}

/* The object on the token, by copy or at once. After a failure nothing is left of it,
 * or *left says that it may be. */
static kf_rv put_on_token(struct kf_wrap_plant *plant, struct kf_wrap_item *item,
                          enum kf_wrap_aim aim, struct kf_planted *out, bool *left)
{
    bool trial = aim == KF_WRAP_TRIAL;
    kf_rv rv = KFR_NOT_FOUND;

    if (item->staged != CK_INVALID_HANDLE && (trial || !item->direct)) {
        rv = kf_wrap_copy(plant->format, item, aim, &out->handle);
        if (rv && !is_clean_refusal(rv) && !sweep(plant, item))
            *left = true;
    }
    if (!rv || trial || *left)
        return rv;
    rv = kf_wrap_make(plant->format, item, aim, &out->handle, &out->err);
    if (rv)
        out->handle = CK_INVALID_HANDLE;
    if (rv && !is_clean_refusal(rv) && !sweep(plant, item))
        *left = true;
    return rv;
}

/* One clone on the token, read back. A trial is the same without the flags that would
 * forbid to undo it. */
static kf_rv plant_one(struct kf_wrap_plant *plant, struct kf_wrap_item *item,
                       enum kf_wrap_aim aim, struct kf_planted *out)
{
    bool left = false, trial = aim == KF_WRAP_TRIAL;
    kf_rv rv;

    out->handle = CK_INVALID_HANDLE;
    out->lost[0] = '\0';
    rv = kf_there_list(&plant->there, session_of(plant), &out->err);
    if (!rv)
        rv = refuse_overwrite(plant, item, &out->err);
    if (rv)
        return rv;
    rv = put_on_token(plant, item, aim, out, &left);
    if (rv && trial && !left)
        return KFR_OK; /* no trial to be had */
    if (rv && !out->err.rv)
        kf_module_fail(&out->err, rv, "C_CopyObject", "the clone was not made");
    if (!rv && kf_there_has(&plant->there, out->handle)) {
        out->handle = CK_INVALID_HANDLE; /* not ours to undo */
        rv =
            kf_fail(&out->err, KFR_CONFLICT, NULL, "look at the target's old objects",
                    "the module gave the handle of an object that was there before: it "
                    "may have overwritten it");
    }
    if (!rv)
        rv = kf_wrap_read_back(plant->format, item, out->handle, aim, out->lost,
                               &out->err);
    if (rv == KFR_VANISHED)
        rv = kf_module_fail(&out->err, KFR_MODULE, NULL,
                            "the module says that the clone was made, and then that "
                            "there is none");
    if (!rv && !trial && !kf_there_add(&plant->there, out->handle))
        rv = kf_fail(&out->err, KFR_MEMORY, NULL, NULL,
                     "no memory for a list of objects");
    if ((rv || trial) && !kf_undo(session_of(plant), &out->handle))
        left = true;
    if (rv && !left && !sweep(plant, item)) /* the handle may have been no good */
        left = true;
    if (left && !rv)
        rv = kf_fail(&out->err, CKR_FUNCTION_FAILED, "C_DestroyObject", NULL,
                     "a trial of it was made");
    if (left)
        kf_undo_say_left(&out->err);
    if (rv)
        out->lost[0] = '\0';
    return rv;
}

static kf_rv plant_item(struct kf_wrap_plant *plant, struct kf_wrap_item *item,
                        struct kf_planted *out)
{
    bool final = !kf_attributes_bool(item->want, CKA_DESTROYABLE, true);
    kf_rv rv = final ? plant_one(plant, item, KF_WRAP_TRIAL, out) : KFR_OK;

    if (!rv)
        rv = plant_one(plant, item, KF_WRAP_FINAL, out);
    out->rv = rv;
    if (!rv)
        memset(&out->err, 0, sizeof out->err);
    else if (!out->err.rv)
        out->err.rv = rv;
    discard(plant, &item->staged);
    return rv;
}

/* ---- commit ---- */

/* Undoes all that this commit made; every object then answers with the failure. */
static void undo_all(const struct kf_wrap_plant *plant, struct kf_planted *planted,
                     kf_rv rv, const struct kf_error *why)
{
    size_t i;

    for (i = 0; i < plant->count; i++) {
        bool gone = kf_undo(session_of(plant), &planted[i].handle);

        planted[i].lost[0] = '\0';
        if (planted[i].rv)
            continue;
        planted[i].rv = rv;
        planted[i].undone = true;
        kf_fail(&planted[i].err, rv, why->call, why->hint,
                "undone, because another object failed: %.300s", why->what);
        if (!gone)
            kf_undo_say_left(&planted[i].err);
    }
}

/* Objects that cannot be undone come last, when nothing else can fail any more. */
static kf_rv plant_all(struct kf_wrap_plant *plant, enum kf_commit mode,
                       struct kf_planted *planted, bool *failed, struct kf_error *err)
{
    struct kf_error why;
    kf_rv rv;
    size_t i;
    int last;

    for (last = 0; last <= 1; last++) {
        for (i = 0; i < plant->count; i++) {
            struct kf_wrap_item *item = &plant->items[i];

            if (kf_attributes_bool(item->want, CKA_DESTROYABLE, true) == (last == 1))
                continue;
            rv = plant_item(plant, item, &planted[i]);
            if (!rv)
                continue;
            *failed = true;
            if (mode == KF_COMMIT_EACH)
                continue;
            why = planted[i].err;
            undo_all(plant, planted, rv, &why);
            if (err)
                *err = why;
            return rv;
        }
    }
    return KFR_OK;
}

static kf_rv remove_old(const struct kf_wrap_plant *plant,
                        const CK_OBJECT_HANDLE *remove, size_t count,
                        struct kf_error *err)
{
    static const char hint[] =
        "remove it by hand; a token that removes nothing is no target";
    kf_rv rv = KFR_OK, one;
    size_t i;

    for (i = 0; i < count; i++) {
        one = kf_old_remove(session_of(plant), remove[i], hint, rv ? NULL : err);
        rv = rv ? rv : one;
    }
    return rv;
}

kf_rv kf_wrap_commit(struct kf_wrap_plant *plant, enum kf_commit mode,
                     const CK_OBJECT_HANDLE *remove, size_t remove_count,
                     struct kf_planted *planted, struct kf_error *err)
{
    bool failed = false;
    kf_rv rv = KFR_OK;
    size_t i;

    /* Old objects that cannot go are found before anything is made. */
    for (i = 0; !rv && i < remove_count; i++)
        rv = kf_old_check(session_of(plant), remove[i],
                          "the engine softhsm can remove it", err);
    if (!rv)
        rv = plant_all(plant, mode, planted, &failed, err);
    if (!rv && !failed)
        rv = remove_old(plant, remove, remove_count, err);
    kf_wrap_abort(plant);
    return rv;
}
