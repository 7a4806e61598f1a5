/* SPDX-License-Identifier: MIT */
#include "clone/wrap_overwrite.h"

#include "clone/crypto.h"

#include <stdlib.h>
#include <string.h>

static const char HINT[] =
    "where it is the same key, -add leaves it as it is; else remove the target's first, "
    "or give the clone another CKA_ID";

bool kf_wrap_can_overwrite(const struct kf_wrap_item *item)
{
    const struct kf_attribute *id = kf_attributes_get(item->want, CKA_ID);

    return (kf_wrap_is_key(item->object_class) ||
            item->object_class == CKO_PUBLIC_KEY) &&
           id && id->len;
}

kf_rv kf_wrap_refuse_taken(struct kf_session *session, const struct kf_wrap_item *item,
                           struct kf_error *err)
{
    const struct kf_attribute *id = kf_attributes_get(item->want, CKA_ID);
    struct kf_attributes *filter = kf_attributes_new(false);
    CK_OBJECT_HANDLE *found = NULL;
    size_t count = 0;
    kf_rv rv = KFR_MEMORY;

    if (filter && id && kf_attributes_set_bool(filter, CKA_TOKEN, true) &&
        kf_attributes_set_ulong(filter, CKA_CLASS, item->object_class) &&
        kf_attributes_set(filter, CKA_ID, KF_BYTES, id->value, id->len))
        rv = kf_objects_find(session, filter, &found, &count, err);
    else
        kf_fail(err, rv, NULL, NULL, "no memory for a search");
    if (!rv && count)
        rv = kf_fail(err, KFR_CONFLICT, NULL, HINT,
                     "the target has a key of this class and CKA_ID, which its module "
                     "might overwrite");
    kf_attributes_free(filter);
    free(found);
    return rv;
}

/* ---- in a plan ---- */

struct kf_wrap_seen {
    unsigned char name[KF_CRYPTO_HASH]; /* of class and CKA_ID */
    unsigned char all[KF_CRYPTO_HASH];  /* of everything */
};

static kf_rv look(const struct kf_wrap_item *item, struct kf_wrap_seen *seen)
{
    const struct kf_attribute *id = kf_attributes_get(item->want, CKA_ID);
    struct kf_writer writer = kf_writer_secret();
    bool good;

    kf_write_u64(&writer, item->object_class);
    if (id)
        kf_write_bytes(&writer, id->value, id->len);
    good = !writer.bad && kf_crypto_sha256(writer.data, writer.len, seen->name);
    kf_attributes_write(&writer, item->want);
    if (item->hidden)
        kf_attributes_write(&writer, item->hidden);
    if (item->wrapped)
        kf_write_bytes(&writer, item->wrapped, item->wrapped_len);
    good = good && !writer.bad && kf_crypto_sha256(writer.data, writer.len, seen->all);
    kf_writer_clear(&writer);
    return good ? KFR_OK : KFR_MEMORY;
}

static bool append(struct kf_wrap_foreseen *list, const struct kf_wrap_seen *seen)
{
    size_t cap = list->cap ? list->cap * 2 : 64;
    struct kf_wrap_seen *at;

    if (list->count == list->cap) {
        at = cap < SIZE_MAX / sizeof *at ? realloc(list->at, cap * sizeof *at) : NULL;
        if (!at)
            return false;
        list->at = at;
        list->cap = cap;
    }
    list->at[list->count++] = *seen;
    return true;
}

kf_rv kf_wrap_foreseen_add(struct kf_wrap_foreseen *list, const struct kf_wrap_item *item,
                           struct kf_error *err)
{
    struct kf_wrap_seen seen;
    kf_rv rv = look(item, &seen);
    size_t i;

    for (i = 0; !rv && i < list->count; i++) {
        const struct kf_wrap_seen *one = &list->at[i];

        if (memcmp(one->name, seen.name, sizeof seen.name) != 0)
            continue;
        if (memcmp(one->all, seen.all, sizeof seen.all) == 0)
            return KFR_OK;
        return kf_fail(err, KFR_CONFLICT, NULL, HINT,
                       "another object of this run has this class and CKA_ID, and the "
                       "target's module keeps one of them alone");
    }
    if (!rv && !append(list, &seen))
        rv = KFR_MEMORY;
    return rv ? kf_fail(err, rv, NULL, NULL, "no memory for a plan") : KFR_OK;
}

void kf_wrap_foreseen_free(struct kf_wrap_foreseen *list)
{
    free(list->at);
    *list = (struct kf_wrap_foreseen){0};
}
