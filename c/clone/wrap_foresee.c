/* SPDX-License-Identifier: MIT */
#include "clone/wrap_foresee.h"

#include "clone/wrap_check.h"
#include "clone/wrap_item.h"
#include "pkcs11/quirk.h"

#include <string.h>

/* ---- by the rules ---- */

static kf_rv check_class(const struct kf_wrap_item *item, struct kf_error *err)
{
    static const CK_OBJECT_CLASS known[] = {
        CKO_DATA,        CKO_CERTIFICATE, CKO_PUBLIC_KEY,
        CKO_PRIVATE_KEY, CKO_SECRET_KEY,  CKO_DOMAIN_PARAMETERS,
    };
    char text[64];
    size_t i;

    for (i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i] == item->object_class)
            return KFR_OK;
    return kf_fail(err, KFR_NOT_CLONABLE, NULL, NULL,
                   "the engine wrap does not know objects of the class %s",
                   kf_name_text(KF_CKO, item->object_class, text, sizeof text));
}

/* What C_UnwrapKey and C_CreateObject never give (PKCS#11 v2.40, 4.7: CKA_LOCAL, 4.8,
 * 4.9: the history of a key that came from outside), what only the SO gives, and what
 * is never sent. */
static bool is_lost(const struct kf_attribute *want)
{
    switch (want->type) {
    case CKA_LOCAL:
    case CKA_ALWAYS_SENSITIVE:
    case CKA_NEVER_EXTRACTABLE:
    case CKA_TRUSTED:
        return want->len && want->value[0];
    case CKA_KEY_GEN_MECHANISM: {
        const struct kf_attributes one = {.at = (struct kf_attribute *)want,
                                          .count = 1};

        return kf_attributes_ulong(&one, want->type, CK_UNAVAILABLE_INFORMATION) !=
               CK_UNAVAILABLE_INFORMATION;
    }
    default:
        return want->type >= CKA_VENDOR_DEFINED && want->len;
    }
}

static kf_rv by_rules(const struct kf_wrap_item *item, char lost[KF_LOST_MAX],
                      struct kf_error *err)
{
    kf_rv rv = check_class(item, err);
    size_t i;

    for (i = 0; !rv && i < item->want->count; i++)
        if (is_lost(&item->want->at[i]))
            kf_wrap_lose(lost, item->want->at[i].type);
    return rv;
}

/* ---- by a session object ---- */

/* Takes the session objects with it. The struct stays, for who still holds it. */
static void close_session(struct kf_wrap_rehearsal *rehearsal)
{
    if (!rehearsal->format.session)
        return;
    kf_wrap_format_clear(&rehearsal->format);
    kf_domain_detach(rehearsal->format.domain, rehearsal->format.session);
    kf_session_close(rehearsal->own);
}

void kf_wrap_rehearsal_close(struct kf_wrap_rehearsal *rehearsal)
{
    close_session(rehearsal);
    kf_session_free(rehearsal->own);
    kf_domain_unref(rehearsal->format.domain);
    kf_wrap_foreseen_free(&rehearsal->seen);
    *rehearsal = (struct kf_wrap_rehearsal){0};
}

/* A session like the end's, or else the end's own. */
static void open_session(struct kf_wrap_rehearsal *rehearsal,
                         const struct kf_wrap_format *end)
{
    if (rehearsal->own && kf_session_is_open(rehearsal->own))
        return;
    kf_session_free(rehearsal->own);
    rehearsal->own = NULL;
    if (!rehearsal->format.domain)
        rehearsal->format.domain = kf_domain_ref(end->domain);
    if (kf_session_open(kf_session_module(end->session), kf_session_slot(end->session),
                        kf_session_is_writable(end->session), &rehearsal->own, NULL))
        rehearsal->own = NULL;
    rehearsal->format.session = rehearsal->own ? rehearsal->own : end->session;
}

static kf_rv stage(struct kf_wrap_rehearsal *rehearsal, struct kf_wrap_item *item,
                   struct kf_error *err)
{
    kf_rv rv =
        kf_wrap_make(&rehearsal->format, item, KF_WRAP_STAGED, &item->staged, err);

    if (!rv)
        rehearsal->makes = KF_SESSION_OBJECTS;
    return rv;
}

/* A refusal of the first session object may be one of every session object. */
static bool makes_none(struct kf_wrap_rehearsal *rehearsal)
{
    CK_MECHANISM mechanism = {CKM_AES_KEY_GEN, NULL, 0};
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    struct kf_attributes *set;

    if (rehearsal->makes != KF_SESSION_OBJECTS_UNKNOWN)
        return rehearsal->makes == KF_NO_SESSION_OBJECTS;
    rehearsal->makes = KF_NO_SESSION_OBJECTS;
    set = kf_attributes_new(false);
    if (set && kf_attributes_set_bool(set, CKA_TOKEN, false) &&
        kf_attributes_set_ulong(set, CKA_VALUE_LEN, 16) &&
        !kf_object_generate(rehearsal->format.session, &mechanism, set, &key, NULL)) {
        kf_object_discard(rehearsal->format.session, key);
        rehearsal->makes = KF_SESSION_OBJECTS;
    }
    kf_attributes_free(set);
    return rehearsal->makes == KF_NO_SESSION_OBJECTS;
}

/* One that may not be destroyed goes with its session, which has to be ours. */
static kf_rv rehearse(struct kf_wrap_rehearsal *rehearsal, struct kf_wrap_item *item,
                      CK_OBJECT_HANDLE *made, char lost[KF_LOST_MAX],
                      struct kf_error *err)
{
    enum kf_wrap_aim aim = rehearsal->own ? KF_WRAP_REHEARSAL : KF_WRAP_STAGED;
    kf_rv rv = KFR_NOT_FOUND;

    if (kf_attributes_bool(item->want, CKA_COPYABLE, true))
        rv = kf_wrap_copy(&rehearsal->format, item, aim, made);
    if (rv)
        rv = kf_wrap_make(&rehearsal->format, item, aim, made, err);
    if (!rv)
        rv = kf_wrap_read_back(&rehearsal->format, item, *made, aim, lost, err);
    return rv;
}

static kf_rv by_session_object(struct kf_wrap_rehearsal *rehearsal,
                               struct kf_wrap_item *item, char lost[KF_LOST_MAX],
                               struct kf_error *err)
{
    CK_OBJECT_HANDLE made = CK_INVALID_HANDLE;
    struct kf_error why = {0};
    kf_rv rv = stage(rehearsal, item, &why);

    if (kf_wrap_is_about_template(rv) && makes_none(rehearsal))
        return by_rules(item, lost, err);
    if (!rv)
        rv = rehearse(rehearsal, item, &made, lost, &why);
    kf_wrap_item_clear(&rehearsal->format, item);
    if (made != CK_INVALID_HANDLE &&
        !kf_object_discard(rehearsal->format.session, made))
        close_session(rehearsal);
    if (rv && err)
        *err = why;
    return rv;
}

/* What a session object does not show: a key that the module would overwrite. */
static kf_rv foresee_overwrite(struct kf_wrap_rehearsal *rehearsal,
                               const struct kf_wrap_item *item, struct kf_error *err)
{
    struct kf_session *session = rehearsal->format.session;
    kf_rv rv;

    if (!kf_wrap_can_overwrite(item) ||
        !kf_quirk_has(kf_session_module(session), KF_QUIRK_SAME_ID_OVERWRITES))
        return KFR_OK;
    rv = kf_wrap_refuse_taken(session, item, err);
    return rv ? rv : kf_wrap_foreseen_add(&rehearsal->seen, item, err);
}

kf_rv kf_wrap_foresee(struct kf_wrap_rehearsal *rehearsal,
                      const struct kf_wrap_format *end, const struct kf_sealed *sealed,
                      const struct kf_changes *changes, char lost[KF_LOST_MAX],
                      struct kf_error *err)
{
    struct kf_wrap_item item = {0};
    kf_rv rv = kf_wrap_item_fill(&item, sealed, changes, err);

    if (!rv && rehearsal) {
        open_session(rehearsal, end);
        rv = foresee_overwrite(rehearsal, &item, err);
        if (!rv)
            rv = by_session_object(rehearsal, &item, lost, err);
    } else if (!rv) {
        rv = by_rules(&item, lost, err);
    }
    kf_wrap_item_clear(rehearsal ? &rehearsal->format : NULL, &item);
    return rv;
}
