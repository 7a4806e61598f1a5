/* SPDX-License-Identifier: MIT */
#include "clone/template.h"

#include "base/names.h"
#include "base/wire.h"

#include <p11-kit/pkcs11.h>
#include <stdlib.h>
#include <string.h>

/* A record (pkcs11/attribute.h): type, kind, form, length, value. */
enum { WORD = 8, KIND_AT = 8, HEAD = 8 + 1 + 1 + 4 };

static int by_word(const void *a, const void *b)
{
    return memcmp(a, b, WORD);
}

static void to_big_endian(unsigned char *word)
{
    CK_ULONG value = 0;

    memcpy(&value, word, sizeof value);
    for (size_t i = 0; i < WORD; i++)
        word[i] = (unsigned char)(value >> (8 * (WORD - 1 - i)));
}

static void to_machine(unsigned char *word)
{
    struct kf_reader reader = kf_reader_over(word, WORD);
    CK_ULONG value = (CK_ULONG)kf_read_u64(&reader);

    memcpy(word, &value, sizeof value);
}

static void convert(unsigned char *packed, size_t len, enum kf_kind from, enum kf_kind to,
                    void (*word)(unsigned char *word))
{
    struct kf_reader reader = kf_reader_over(packed, len);

    while (sizeof(CK_ULONG) == WORD && reader.left) {
        unsigned char *head = packed + (len - reader.left), *value = head + HEAD;
        uint64_t type = kf_read_u64(&reader);
        unsigned kind = kf_read_u8(&reader);
        size_t size = (kf_read_u8(&reader), kf_read_u32(&reader));

        if (!kf_read_bytes(&reader, size))
            return;
        if (kind != (unsigned)from || kf_kind_of(type) != KF_MECHANISMS || size % WORD)
            continue;
        head[KIND_AT] = (unsigned char)to;
        for (size_t i = 0; i < size; i += WORD)
            word(value + i);
        if (to == KF_MECHANISMS)
            qsort(value, size / WORD, WORD, by_word);
    }
}

void kf_template_to_portable(unsigned char *packed, size_t len)
{
    convert(packed, len, KF_BYTES, KF_MECHANISMS, to_big_endian);
}

void kf_template_to_softhsm(unsigned char *packed, size_t len)
{
    convert(packed, len, KF_MECHANISMS, KF_BYTES, to_machine);
}
