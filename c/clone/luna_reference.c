/* SPDX-License-Identifier: MIT */
#include "clone/luna_reference.h"

#include "base/wire.h"
#include "pkcs11/object.h"

#include <string.h>

/* Of no object: the record that holds the reference. */
#define REFERENCE 0xCB46000000000001UL

enum { REFERENCE_BYTES = 24 };

kf_rv kf_luna_ouid(struct kf_session *session, CK_OBJECT_HANDLE object,
                   uint8_t out[KF_OUID_BYTES], struct kf_error *err)
{
    static const uint8_t none[KF_OUID_BYTES];
    struct kf_attributes *set = kf_attributes_new(false);
    const struct kf_attribute *ouid = NULL;

    if (!set)
        return kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for an identity");
    if (!kf_object_read_one(session, object, KF_CKA_OUID, set, NULL))
        ouid = kf_attributes_get(set, KF_CKA_OUID);
    if (ouid && ouid->len == KF_OUID_BYTES &&
        memcmp(ouid->value, none, sizeof none) != 0)
        memcpy(out, ouid->value, KF_OUID_BYTES);
    else
        ouid = NULL;
    kf_attributes_free(set);
    return ouid ? KFR_OK
                : kf_fail(err, KFR_NOT_FOUND, "C_GetAttributeValue", NULL,
                          "the HSM tells no CKA_OUID of object %lu", object);
}

/* Which module, as a number that is compared and never followed. */
static uint64_t module_number(const struct kf_session *session)
{
    return (uint64_t)(uintptr_t)kf_session_module(session);
}

kf_rv kf_luna_refer(struct kf_session *session, CK_OBJECT_HANDLE object,
                    struct kf_sealed *sealed, struct kf_error *err)
{
    struct kf_writer writer = { 0 };
    uint8_t ouid[KF_OUID_BYTES];
    kf_rv rv = KFR_MEMORY;

    kf_write_u64(&writer, module_number(session));
    kf_write_u64(&writer, kf_session_slot(session));
    kf_write_u64(&writer, object);
    sealed->hidden = kf_attributes_new(true);
    if (!writer.bad && sealed->hidden &&
        kf_attributes_set(sealed->hidden, REFERENCE, KF_BYTES, writer.data,
                          writer.len) &&
        (kf_luna_ouid(session, object, ouid, NULL) ||
         kf_attributes_set(sealed->hidden, KF_CKA_OUID, KF_BYTES, ouid, sizeof ouid)))
        rv = KFR_OK;
    else
        kf_fail(err, rv, NULL, NULL, "no memory for a reference");
    kf_writer_clear(&writer);
    return rv;
}

kf_rv kf_luna_referred(const struct kf_sealed *sealed, struct kf_session *target,
                       struct kf_luna_reference *out, struct kf_error *err)
{
    const struct kf_attribute *at = NULL, *ouid = NULL;
    struct kf_reader reader;
    uint64_t module;

    if (sealed->hidden) {
        at = kf_attributes_get(sealed->hidden, REFERENCE);
        ouid = kf_attributes_get(sealed->hidden, KF_CKA_OUID);
    }
    if (!at || at->len != REFERENCE_BYTES || (ouid && ouid->len != KF_OUID_BYTES))
        return kf_fail(err, KFR_DAMAGED, NULL, NULL, "a reference to no object");
    reader = kf_reader_over(at->value, at->len);
    module = kf_read_u64(&reader);
    out->slot = kf_read_u64(&reader);
    out->object = kf_read_u64(&reader);
    out->has_ouid = ouid != NULL;
    if (ouid)
        memcpy(out->ouid, ouid->value, KF_OUID_BYTES);
    if (module != module_number(target))
        return kf_fail(err, KFR_REFUSED, NULL, NULL,
                       "its original is in another HSM, and CA_CloneObject clones "
                       "within one module only");
    if (out->slot == kf_session_slot(target))
        return kf_fail(err, KFR_REFUSED, NULL, NULL,
                       "its original is in this very partition");
    return KFR_OK;
}
