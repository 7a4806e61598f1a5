/* SPDX-License-Identifier: MIT
 * Attribute records: what is read writes itself back, as long and the same set. (Byte
 * for byte it need not be: mechanisms are put in order.)
 */
#include "fuzz.h"

#include "pkcs11/attribute.h"

static void check(const struct kf_attributes *set)
{
    struct kf_writer writer = { 0 };
    struct kf_reader reader;
    struct kf_attributes *again;

    kf_attributes_write(&writer, set);
    FUZZ_PROMISE(!writer.bad);
    reader = kf_reader_over(writer.data, writer.len);
    again = kf_attributes_read(&reader, 256, true);
    FUZZ_PROMISE(again && again->count == set->count);
    for (size_t i = 0; i < set->count; i++) {
        FUZZ_PROMISE(kf_attribute_equal(&set->at[i], &again->at[i]));
        FUZZ_PROMISE(set->at[i].form == again->at[i].form);
        FUZZ_PROMISE(i == 0 || set->at[i - 1].type < set->at[i].type);
    }
    kf_attributes_free(again);
    kf_writer_clear(&writer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kf_reader reader = kf_reader_over(data, size);
    struct kf_attributes *set = kf_attributes_read(&reader, 256, false);

    FUZZ_PROMISE((set == NULL) == reader.bad);
    if (set)
        check(set);
    kf_attributes_free(set);
    return 0;
}
