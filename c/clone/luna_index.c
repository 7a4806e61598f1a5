/* SPDX-License-Identifier: MIT */
#include "clone/luna_index.h"

#include "pkcs11/object.h"

#include <stdlib.h>
#include <string.h>

struct kf_luna_entry {
    uint8_t ouid[KF_OUID_BYTES];
    CK_OBJECT_HANDLE object;
};

void kf_luna_index_clear(struct kf_luna_index *index)
{
    free(index->entries);
    *index = (struct kf_luna_index){ 0 };
}

static bool append(struct kf_luna_index *index, const uint8_t ouid[KF_OUID_BYTES],
                   CK_OBJECT_HANDLE object)
{
    size_t cap = index->cap ? index->cap * 2 : 64;
    struct kf_luna_entry *entries;

    if (index->count == index->cap) {
        entries = cap < SIZE_MAX / sizeof *entries
                      ? realloc(index->entries, cap * sizeof *entries)
                      : NULL;
        if (!entries)
            return false;
        index->entries = entries;
        index->cap = cap;
    }
    memcpy(index->entries[index->count].ouid, ouid, KF_OUID_BYTES);
    index->entries[index->count++].object = object;
    return true;
}

bool kf_luna_index_add(struct kf_luna_index *index, const uint8_t ouid[KF_OUID_BYTES],
                       CK_OBJECT_HANDLE object)
{
    return !index->listed || append(index, ouid, object);
}

static kf_rv list(struct kf_luna_index *index, struct kf_session *session,
                  struct kf_error *err)
{
    struct kf_attributes *filter = kf_attributes_new(false);
    CK_OBJECT_HANDLE *found = NULL;
    uint8_t ouid[KF_OUID_BYTES];
    size_t count = 0;
    kf_rv rv = KFR_MEMORY;

    if (filter && kf_attributes_set_bool(filter, CKA_TOKEN, true))
        rv = kf_objects_find(session, filter, &found, &count, err);
    else
        kf_fail(err, rv, NULL, NULL, "no memory for a list of objects");
    for (size_t i = 0; !rv && i < count; i++)
        if (!kf_luna_ouid(session, found[i], ouid, NULL) && !append(index, ouid, found[i]))
            rv = kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for a list of objects");
    index->listed = !rv;
    if (rv)
        kf_luna_index_clear(index);
    free(found);
    kf_attributes_free(filter);
    return rv;
}

kf_rv kf_luna_index_find(struct kf_luna_index *index, struct kf_session *session,
                         const uint8_t ouid[KF_OUID_BYTES], CK_OBJECT_HANDLE *out,
                         struct kf_error *err)
{
    kf_rv rv = index->listed ? KFR_OK : list(index, session, err);

    for (size_t i = 0; !rv && i < index->count; i++)
        if (memcmp(index->entries[i].ouid, ouid, KF_OUID_BYTES) == 0) {
            *out = index->entries[i].object;
            return KFR_OK;
        }
    return rv ? rv
              : kf_fail(err, KFR_NOT_FOUND, NULL, NULL,
                        "the target has no object that is this one");
}
