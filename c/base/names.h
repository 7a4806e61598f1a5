/* SPDX-License-Identifier: MIT
 * names: the constants of PKCS#11 by value, by name and by nick.
 *
 * names.def has one row a constant; this is the only list of them. Families:
 * CKA attribute types, CKO object classes, CKK key types, CKC certificate types,
 * CKM mechanisms, CKR return values (with our KFR_ ones).
 * Sources: PKCS#11 v2.40 and v3.0 (OASIS), and for Luna's values its public pages.
 */
#ifndef KF_BASE_NAMES_H
#define KF_BASE_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kf_family { KF_CKA, KF_CKO, KF_CKK, KF_CKC, KF_CKM, KF_CKR, KF_FAMILIES };

/* What the value of an attribute is. The first five are also the numbers by which
 * sealed objects (c/README.md) and SoftHSM's store name them. */
enum kf_kind {
    KF_BOOL = 1,
    KF_ULONG = 2,
    KF_BYTES = 3,
    KF_TEMPLATE = 4,   /* an array of attributes */
    KF_MECHANISMS = 5, /* an array of mechanism types */
    KF_NO_KIND = 0     /* the constant is not an attribute */
};

/* How the bytes of an attribute are best shown. */
enum kf_show { KF_SHOW_HEX, KF_SHOW_TEXT, KF_SHOW_NUMBER, KF_SHOW_DATE, KF_SHOW_NAME };

struct kf_name {
    uint64_t value;
    const char *name; /* "CKA_LABEL" */
    const char *nick; /* "label": lower case, as Lua and options spell it */
    enum kf_kind kind;
    enum kf_show show;
    bool sensitive; /* key bytes: never read into Lua, sealed encrypted */
};

/* NULL where the list has none. */
const struct kf_name *kf_name_of(enum kf_family family, uint64_t value);
/* By name or nick, case does not matter. */
const struct kf_name *kf_name_find(enum kf_family family, const char *text);
/* All rows of a family, ascending by value. */
const struct kf_name *kf_names(enum kf_family family, size_t *count);
/* "CKA_LABEL", or "CKA_0x80000123" for a value not listed, into buffer (returned). */
const char *kf_name_text(enum kf_family family, uint64_t value, char *buffer, size_t size);
/* The kind of an attribute; KF_BYTES for one not listed. */
enum kf_kind kf_kind_of(uint64_t attribute);
/* True for the CKA_ whose value is key material (the CKA_VALUE of a key: depends on
 * the class, see kf_attribute_is_secret in pkcs11/attribute.h). */
bool kf_name_is_sensitive(uint64_t attribute);

#endif
