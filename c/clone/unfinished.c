/* SPDX-License-Identifier: MIT */
#include "clone/unfinished.h"

#include "pkcs11/object.h"
#include "pkcs11/quirk.h"

#include <stdlib.h>
#include <string.h>

static const char LABEL[] = "keyferry unfinished backup";
static const char APPLICATION[] = "keyferry";

static bool set_text(struct kf_attributes *set, uint64_t type, const char *text)
{
    return kf_attributes_set(set, type, KF_BYTES, text, strlen(text));
}

/* What tells a mark from other objects; the caller frees it. NULL: no memory. */
static struct kf_attributes *new_marks(void)
{
    struct kf_attributes *set = kf_attributes_new(false);

    if (set && kf_attributes_set_ulong(set, CKA_CLASS, CKO_DATA) &&
        kf_attributes_set_bool(set, CKA_TOKEN, true) &&
        set_text(set, CKA_LABEL, LABEL) &&
        set_text(set, CKA_APPLICATION, APPLICATION))
        return set;
    kf_attributes_free(set);
    return NULL;
}

kf_rv kf_unfinished_mark(struct kf_session *session, const char *of, size_t len,
                         struct kf_error *err)
{
    struct kf_attributes *set = NULL;
    CK_OBJECT_HANDLE object;
    kf_rv rv = KFR_MEMORY;

    if (len > KF_UNFINISHED_MAX)
        return kf_fail(err, KFR_ARGUMENT, NULL, NULL, "a mark of %zu bytes is too long",
                       len);
    if (kf_quirk_has(kf_session_module(session), KF_QUIRK_NO_TOKEN_DATA))
        return kf_fail(err, KFR_NO_ENGINE, NULL, "use -add to a partition that is there",
                       "this HSM keeps no data objects, and so no mark of a backup that "
                       "is not finished");
    set = new_marks();
    if (set && kf_attributes_set_bool(set, CKA_PRIVATE, false) &&
        kf_attributes_set_bool(set, CKA_MODIFIABLE, true) &&
        kf_attributes_set(set, CKA_VALUE, KF_BYTES, of, len))
        rv = kf_object_create(session, set, &object, err);
    else
        kf_fail(err, rv, NULL, NULL, "no memory for a mark");
    kf_attributes_free(set);
    return rv;
}

static kf_rv find_all(struct kf_session *session, CK_OBJECT_HANDLE **out, size_t *count,
                      struct kf_error *err)
{
    struct kf_attributes *marks = new_marks();
    kf_rv rv = KFR_MEMORY;

    rv = marks ? kf_objects_find(session, marks, out, count, err)
               : kf_fail(err, rv, NULL, NULL, "no memory for a search");
    kf_attributes_free(marks);
    return rv;
}

static kf_rv read_mark(struct kf_session *session, CK_OBJECT_HANDLE object,
                       char of[KF_UNFINISHED_MAX], size_t *len, struct kf_error *err)
{
    struct kf_attributes *set = kf_attributes_new(false);
    const struct kf_attribute *value;
    kf_rv rv = KFR_MEMORY;

    rv = set ? kf_object_read_one(session, object, CKA_VALUE, set, err)
             : kf_fail(err, rv, NULL, NULL, "no memory for a mark");
    value = rv ? NULL : kf_attributes_get(set, CKA_VALUE);
    *len = value && value->len <= KF_UNFINISHED_MAX ? value->len : 0;
    if (*len)
        memcpy(of, value->value, *len);
    kf_attributes_free(set);
    return rv;
}

kf_rv kf_unfinished_find(struct kf_session *session, char of[KF_UNFINISHED_MAX],
                         size_t *len, struct kf_error *err)
{
    CK_OBJECT_HANDLE *found = NULL;
    size_t count = 0;
    kf_rv rv = find_all(session, &found, &count, err);

    if (!rv && count)
        rv = read_mark(session, found[0], of, len, err);
    else if (!rv)
        rv = kf_fail(err, KFR_NOT_FOUND, NULL, NULL, "it is no unfinished backup");
    free(found);
    return rv;
}

kf_rv kf_unfinished_clear(struct kf_session *session, struct kf_error *err)
{
    CK_OBJECT_HANDLE *found = NULL;
    size_t count = 0;
    kf_rv rv = find_all(session, &found, &count, err);

    for (size_t i = 0; !rv && i < count; i++)
        rv = kf_object_destroy(session, found[i], err);
    free(found);
    return rv;
}

static bool has_text(const struct kf_attributes *object, uint64_t type, const char *text)
{
    const struct kf_attribute *at = kf_attributes_get(object, type);

    return at && at->len == strlen(text) && memcmp(at->value, text, at->len) == 0;
}

bool kf_unfinished_is(const struct kf_attributes *object)
{
    return kf_attributes_ulong(object, CKA_CLASS, CKO_SECRET_KEY) == CKO_DATA &&
           kf_attributes_bool(object, CKA_TOKEN, false) &&
           has_text(object, CKA_LABEL, LABEL) &&
           has_text(object, CKA_APPLICATION, APPLICATION);
}
