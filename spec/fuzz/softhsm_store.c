/* SPDX-License-Identifier: MIT
 * Object files of SoftHSM: what is parsed can be written, and parses the same.
 */
#include "fuzz.h"

#include "clone/softhsm_store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kf_attributes *set = NULL, *again = NULL;
    struct kf_writer writer = { 0 };
    kf_rv rv = kf_store_parse(data, size, &set, NULL);

    FUZZ_PROMISE((rv == KFR_OK) == (set != NULL));
    if (!rv && !kf_store_encode(set, &writer, NULL)) {
        FUZZ_PROMISE(!kf_store_parse(writer.data, writer.len, &again, NULL));
        FUZZ_PROMISE(again->count == set->count);
        for (size_t i = 0; i < set->count; i++)
            FUZZ_PROMISE(kf_attribute_equal(&set->at[i], &again->at[i]));
    }
    kf_attributes_free(again);
    kf_attributes_free(set);
    kf_writer_clear(&writer);
    return 0;
}
