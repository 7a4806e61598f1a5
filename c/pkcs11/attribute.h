/* SPDX-License-Identifier: MIT
 * attribute: sets of attributes in a form that does not depend on the machine, and the
 * rows that say which attributes an object of a class and key type has.
 *
 * A value is kept as it travels: a boolean is one byte 0 or 1, an unsigned long eight
 * bytes big-endian, mechanisms eight bytes each, a template the records of its
 * attributes one after another (kf_attributes_write); bytes are bytes. So comparing,
 * sealing and storing never convert; only reading from and writing to a token does.
 */
#ifndef KF_PKCS11_ATTRIBUTE_H
#define KF_PKCS11_ATTRIBUTE_H

#include "base/error.h"
#include "base/names.h"
#include "base/wire.h"

#include <p11-kit/pkcs11.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How a token store keeps the value where its own rule leaves a choice (SoftHSM: an
 * empty value or a date may be stored encrypted or not). Other engines ignore it. */
enum kf_form { KF_FORM_USUAL = 0, KF_FORM_ENCRYPTED = 1 };

struct kf_attribute {
    uint64_t type;
    enum kf_kind kind;
    enum kf_form form;
    unsigned char *value; /* never NULL */
    size_t len;
};

/* A set: types are distinct and ascending. */
struct kf_attributes {
    struct kf_attribute *at;
    size_t count;
    size_t cap;
    bool secret; /* values lie in the secure heap; all sets are wiped when freed */
};

struct kf_attributes *kf_attributes_new(bool secret);
void kf_attributes_free(struct kf_attributes *set); /* NULL is fine */
struct kf_attributes *kf_attributes_dup(const struct kf_attributes *set);

/* Adds or replaces, copying the value; the form is the usual one again. Mechanisms are put
 * in order and kept once each. False: no memory, or not a value of that kind (a boolean
 * that is neither 0 nor 1, an unsigned long of another length, a broken template). */
bool kf_attributes_set(struct kf_attributes *set, uint64_t type, enum kf_kind kind,
                       const void *value, size_t len);
bool kf_attributes_set_bool(struct kf_attributes *set, uint64_t type, bool value);
bool kf_attributes_set_ulong(struct kf_attributes *set, uint64_t type, uint64_t value);
void kf_attributes_remove(struct kf_attributes *set, uint64_t type);

const struct kf_attribute *kf_attributes_get(const struct kf_attributes *set, uint64_t type);
/* The value, or `otherwise` when it is absent or not of that kind. */
bool kf_attributes_bool(const struct kf_attributes *set, uint64_t type, bool otherwise);
uint64_t kf_attributes_ulong(const struct kf_attributes *set, uint64_t type,
                             uint64_t otherwise);
/* Same type, kind and value, in constant time; the form does not count, nor do leading
 * zeros of a big integer (CKA_MODULUS to CKA_COEFFICIENT, CKA_PRIME to CKA_BASE). */
bool kf_attribute_equal(const struct kf_attribute *a, const struct kf_attribute *b);

/* Records: type u64, kind u8, form u8, len u32, value. Reading is strict: known kinds,
 * right lengths, ascending types, at most max records, templates not inside templates;
 * else the reader is bad and the result NULL. */
void kf_attributes_write(struct kf_writer *writer, const struct kf_attributes *set);
struct kf_attributes *kf_attributes_read(struct kf_reader *reader, size_t max, bool secret);

/* Rows. */
enum kf_role {
    KF_ROLE_KEY = 1,      /* key bytes: sealed encrypted, never read into Lua */
    KF_ROLE_COMPUTED = 2, /* the token makes it; templates must not have it */
    KF_ROLE_IDENTITY = 4, /* public part or check value: tells one key from another */
    KF_ROLE_RIGHT = 8     /* what a clone may never have more of than its original */
};

struct kf_row {
    uint64_t type;
    unsigned roles;
};

enum { KF_ROWS_MAX = 64 };

/* The rows of an object of that class and key type (or certificate type), ascending, into
 * rows (KF_ROWS_MAX); gives their number. An unknown class gives the common rows. */
size_t kf_rows(uint64_t object_class, uint64_t key_type, struct kf_row *rows);

/* Whether the value of that attribute is key material on an object of that class. False
 * for the CKA_VALUE of a data object, which is private when the object is. */
bool kf_attribute_is_secret(uint64_t object_class, uint64_t type);

#endif
