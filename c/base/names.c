/* SPDX-License-Identifier: MIT */
#include "base/names.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define ROW(family, value, name, nick, kind, show, sensitive) \
    { value, name, nick, kind, show, sensitive },
static const struct kf_name ROWS[] = {
#include "base/names.def"
};
#undef ROW

/* The family of each row; the two arrays have the same order. */
#define ROW(family, value, name, nick, kind, show, sensitive) family,
static const unsigned char FAMILY[] = {
#include "base/names.def"
};
#undef ROW

enum { ROW_COUNT = sizeof ROWS / sizeof ROWS[0] };

static const char *const PREFIX[KF_FAMILIES] = { "CKA_", "CKO_", "CKK_",
                                                 "CKC_", "CKM_", "CKR_" };
enum { PREFIX_LENGTH = 4 };

/* Second names of a value, from older headers of PKCS#11: found, never shown. */
static const struct alias {
    enum kf_family family;
    uint64_t value;
    const char *name;
} ALIASES[] = {
    { KF_CKA, 0x134UL, "CKA_SUB_PRIME_BITS" },
    { KF_CKA, 0x180UL, "CKA_ECDSA_PARAMS" },
    { KF_CKK, 0x3UL, "CKK_ECDSA" },
    { KF_CKK, 0x18UL, "CKK_CAST5" },
    { KF_CKM, 0x320UL, "CKM_CAST5_KEY_GEN" },
    { KF_CKM, 0x321UL, "CKM_CAST5_ECB" },
    { KF_CKM, 0x322UL, "CKM_CAST5_CBC" },
    { KF_CKM, 0x323UL, "CKM_CAST5_MAC" },
    { KF_CKM, 0x324UL, "CKM_CAST5_MAC_GENERAL" },
    { KF_CKM, 0x325UL, "CKM_CAST5_CBC_PAD" },
    { KF_CKM, 0x3a4UL, "CKM_PBE_MD5_CAST5_CBC" },
    { KF_CKM, 0x3a5UL, "CKM_PBE_SHA1_CAST5_CBC" },
    { KF_CKM, 0x1040UL, "CKM_ECDSA_KEY_PAIR_GEN" },
    { KF_CKM, 0x2003UL, "CKM_DSA_PROBABLISTIC_PARAMETER_GEN" },
};

/* The first row that is not before (family, value); ROW_COUNT when all are. */
static size_t lower_bound(enum kf_family family, uint64_t value)
{
    size_t low = 0, high = ROW_COUNT;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        bool before = FAMILY[middle] != family ? FAMILY[middle] < family
                                               : ROWS[middle].value < value;

        if (before)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct kf_name *kf_name_of(enum kf_family family, uint64_t value)
{
    size_t i = lower_bound(family, value);

    if (i == ROW_COUNT || FAMILY[i] != family || ROWS[i].value != value)
        return NULL;
    return &ROWS[i];
}

const struct kf_name *kf_names(enum kf_family family, size_t *count)
{
    size_t first = lower_bound(family, 0);
    size_t end = first;

    while (end < ROW_COUNT && FAMILY[end] == family)
        end++;
    *count = end - first;
    return &ROWS[first < ROW_COUNT ? first : 0];
}

const struct kf_name *kf_name_find(enum kf_family family, const char *text)
{
    size_t count;
    const struct kf_name *rows = kf_names(family, &count);

    for (size_t i = 0; i < count; i++)
        if (strcasecmp(rows[i].nick, text) == 0 || strcasecmp(rows[i].name, text) == 0)
            return &rows[i];
    for (size_t i = 0; i < sizeof ALIASES / sizeof ALIASES[0]; i++) {
        const struct alias *alias = &ALIASES[i];

        if (alias->family == family &&
            (strcasecmp(alias->name, text) == 0 ||
             strcasecmp(alias->name + PREFIX_LENGTH, text) == 0))
            return kf_name_of(family, alias->value);
    }
    return NULL;
}

const char *kf_name_text(enum kf_family family, uint64_t value, char *buffer,
                         size_t size)
{
    const struct kf_name *row = kf_name_of(family, value);
    const char *prefix = family < KF_FAMILIES ? PREFIX[family] : "";

    if (row)
        snprintf(buffer, size, "%s", row->name);
    else
        snprintf(buffer, size, "%s0x%08" PRIX64, prefix, value);
    return buffer;
}

enum kf_kind kf_kind_of(uint64_t attribute)
{
    const struct kf_name *row = kf_name_of(KF_CKA, attribute);

    return row ? row->kind : KF_BYTES;
}

bool kf_name_is_sensitive(uint64_t attribute)
{
    const struct kf_name *row = kf_name_of(KF_CKA, attribute);

    return row && row->sensitive;
}
