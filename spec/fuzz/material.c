/* SPDX-License-Identifier: MIT
 * Bodies of keys. The first byte of the input chooses the key type; what decodes
 * encodes again, and decodes to the same numbers.
 */
#include "fuzz.h"

#include "clone/material.h"

static const struct {
    uint64_t object_class, key_type;
} kinds[] = {
    { CKO_PRIVATE_KEY, CKK_RSA }, { CKO_PRIVATE_KEY, CKK_DSA },
    { CKO_PRIVATE_KEY, CKK_DH },  { CKO_PRIVATE_KEY, CKK_EC },
    { CKO_PRIVATE_KEY, 0x40 },    { CKO_PRIVATE_KEY, 0x41 },
    { CKO_SECRET_KEY, CKK_AES },  { CKO_SECRET_KEY, CKK_GENERIC_SECRET },
};

static void check(const struct kf_attributes *open, const struct kf_attributes *key)
{
    struct kf_secret *body = NULL;
    struct kf_attributes *again = NULL;

    /* A decoded number may lie outside what its curve or key can be: refused then. */
    if (kf_material_body(open, key, &body, NULL))
        return;
    FUZZ_PROMISE(!kf_material_attributes(open, body->data, body->len, &again, NULL));
    FUZZ_PROMISE(again->count == key->count);
    for (size_t i = 0; i < key->count; i++)
        FUZZ_PROMISE(kf_attribute_equal(&key->at[i], &again->at[i]));
    kf_attributes_free(again);
    kf_secret_free(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kf_attributes *open = kf_attributes_new(false), *key = NULL;
    size_t kind = size ? data[0] % (sizeof kinds / sizeof *kinds) : 0;

    FUZZ_PROMISE(open &&
                 kf_attributes_set_ulong(open, CKA_CLASS, kinds[kind].object_class));
    FUZZ_PROMISE(kf_attributes_set_ulong(open, CKA_KEY_TYPE, kinds[kind].key_type));
    if (size && !kf_material_attributes(open, data + 1, size - 1, &key, NULL))
        check(open, key);
    kf_attributes_free(key);
    kf_attributes_free(open);
    return 0;
}
