/* SPDX-License-Identifier: MIT */
#include "pkcs11/attribute.h"

#include "base/secret.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

/* PKCS#11 v3.2; the header of p11-kit ends before them. */
#define KF_CKA_PARAMETER_SET 0x61dUL
#define KF_CKA_SEED 0x637UL
#define KF_CKK_EC_MONTGOMERY 0x41UL

enum { NUMBER_BYTES = 8, FIRST_CAPACITY = 32 };

/* ---- values ---- */

/* What every empty value points at, and every boolean: most objects have many of both,
 * and none needs memory. Nobody writes through a value. */
static unsigned char nothing[1];
static unsigned char booleans[2] = { 0, 1 };

static bool is_shared(const unsigned char *value)
{
    return value == nothing || value == &booleans[0] || value == &booleans[1];
}

static unsigned char *value_new(const struct kf_attributes *set, enum kf_kind kind,
                                const void *bytes, size_t len)
{
    unsigned char *value = nothing;

    if (kind == KF_BOOL && len == 1)
        return &booleans[*(const unsigned char *)bytes != 0];
    if (len)
        value = set->secret ? kf_secret_alloc(len) : OPENSSL_malloc(len);
    if (value && len)
        memcpy(value, bytes, len);
    return value;
}

static void value_free(const struct kf_attributes *set, struct kf_attribute *attribute)
{
    if (is_shared(attribute->value))
        return;
    if (set->secret)
        kf_secret_release(attribute->value, attribute->len);
    else
        OPENSSL_clear_free(attribute->value, attribute->len);
}

static int compare_numbers(const void *a, const void *b)
{
    return memcmp(a, b, NUMBER_BYTES);
}

/* Ascending and once each: tokens give the allowed mechanisms in any order, and order
 * means nothing there (PKCS#11 v2.40, 4.6). Gives the new length. */
static size_t order_mechanisms(unsigned char *value, size_t len)
{
    size_t kept = 0;

    if (len)
        qsort(value, len / NUMBER_BYTES, NUMBER_BYTES, compare_numbers);
    for (size_t at = 0; at < len; at += NUMBER_BYTES) {
        if (kept && memcmp(value + kept - NUMBER_BYTES, value + at, NUMBER_BYTES) == 0)
            continue;
        memmove(value + kept, value + at, NUMBER_BYTES);
        kept += NUMBER_BYTES;
    }
    return kept;
}

/* ---- records ---- */

struct record {
    uint64_t type;
    uint8_t kind;
    uint8_t form;
    const unsigned char *value;
    size_t len;
};

static bool is_template(const unsigned char *value, size_t len);

static bool is_value_of(unsigned kind, const unsigned char *value, size_t len)
{
    switch (kind) {
    case KF_BOOL:
        return len == 1 && value[0] <= 1;
    case KF_ULONG:
        return len == NUMBER_BYTES;
    case KF_BYTES:
        return len <= UINT32_MAX;
    case KF_TEMPLATE:
        return len <= UINT32_MAX && is_template(value, len);
    case KF_MECHANISMS:
        return len <= UINT32_MAX && len % NUMBER_BYTES == 0;
    default:
        return false;
    }
}

/* The next record, which must come after `previous` (NULL: it is the first). */
static bool read_record(struct kf_reader *reader, const uint64_t *previous,
                        struct record *out)
{
    out->type = kf_read_u64(reader);
    out->kind = kf_read_u8(reader);
    out->form = kf_read_u8(reader);
    out->len = kf_read_u32(reader);
    out->value = kf_read_bytes(reader, out->len);
    return !reader->bad && (!previous || out->type > *previous) &&
           out->form <= KF_FORM_ENCRYPTED;
}

/* Templates hold no templates: one level is all that this looks at. */
static bool is_template(const unsigned char *value, size_t len)
{
    struct kf_reader reader = kf_reader_over(value, len);
    struct record record;
    uint64_t last = 0;

    for (bool first = true; reader.left; first = false) {
        if (!read_record(&reader, first ? NULL : &last, &record) ||
            record.kind == KF_TEMPLATE ||
            !is_value_of(record.kind, record.value, record.len))
            return false;
        last = record.type;
    }
    return true;
}

/* ---- sets ---- */

struct kf_attributes *kf_attributes_new(bool secret)
{
    struct kf_attributes *set = OPENSSL_zalloc(sizeof *set);

    if (set)
        set->secret = secret;
    return set;
}

void kf_attributes_free(struct kf_attributes *set)
{
    if (!set)
        return;
    for (size_t i = 0; i < set->count; i++)
        value_free(set, &set->at[i]);
    OPENSSL_free(set->at);
    OPENSSL_free(set);
}

/* The index of the first attribute whose type is not below `type`. */
static size_t lower_bound(const struct kf_attributes *set, uint64_t type)
{
    size_t low = 0, high = set->count;

    if (high && set->at[high - 1].type < type)
        return high;
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (set->at[middle].type < type)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct kf_attribute *find(const struct kf_attributes *set, uint64_t type)
{
    size_t i = lower_bound(set, type);

    return i < set->count && set->at[i].type == type ? &set->at[i] : NULL;
}

static bool reserve(struct kf_attributes *set, size_t wanted)
{
    size_t cap = set->cap ? set->cap : FIRST_CAPACITY;
    struct kf_attribute *at;

    if (wanted <= set->cap)
        return true;
    while (cap < wanted) {
        if (cap > SIZE_MAX / 2 / sizeof *at)
            return false;
        cap *= 2;
    }
    at = OPENSSL_realloc(set->at, cap * sizeof *at);
    if (!at)
        return false;
    set->at = at;
    set->cap = cap;
    return true;
}

bool kf_attributes_set(struct kf_attributes *set, uint64_t type, enum kf_kind kind,
                       const void *value, size_t len)
{
    struct kf_attribute new = { .type = type, .kind = kind, .len = len };
    size_t i = lower_bound(set, type);
    bool replaces = i < set->count && set->at[i].type == type;

    if (!is_value_of(kind, value, len))
        return false;
    if (!replaces && !reserve(set, set->count + 1))
        return false;
    new.value = value_new(set, kind, value, len);
    if (!new.value)
        return false;
    if (kind == KF_MECHANISMS)
        new.len = order_mechanisms(new.value, len);
    if (replaces) {
        value_free(set, &set->at[i]);
    } else {
        memmove(&set->at[i + 1], &set->at[i], (set->count - i) * sizeof *set->at);
        set->count++;
    }
    set->at[i] = new;
    return true;
}

bool kf_attributes_set_bool(struct kf_attributes *set, uint64_t type, bool value)
{
    unsigned char byte = value ? 1 : 0;

    return kf_attributes_set(set, type, KF_BOOL, &byte, 1);
}

bool kf_attributes_set_ulong(struct kf_attributes *set, uint64_t type, uint64_t value)
{
    unsigned char bytes[NUMBER_BYTES];

    for (size_t i = 0; i < NUMBER_BYTES; i++)
        bytes[i] = (unsigned char)(value >> (8 * (NUMBER_BYTES - 1 - i)));
    return kf_attributes_set(set, type, KF_ULONG, bytes, sizeof bytes);
}

void kf_attributes_remove(struct kf_attributes *set, uint64_t type)
{
    struct kf_attribute *attribute = find(set, type);
    size_t after;

    if (!attribute)
        return;
    value_free(set, attribute);
    after = set->count - (size_t)(attribute - set->at) - 1;
    memmove(attribute, attribute + 1, after * sizeof *attribute);
    set->count--;
}

struct kf_attributes *kf_attributes_dup(const struct kf_attributes *set)
{
    struct kf_attributes *copy = kf_attributes_new(set->secret);

    if (!copy || !reserve(copy, set->count))
        goto failed;
    for (size_t i = 0; i < set->count; i++) {
        copy->at[i] = set->at[i];
        copy->at[i].value =
            value_new(copy, set->at[i].kind, set->at[i].value, set->at[i].len);
        if (!copy->at[i].value)
            goto failed;
        copy->count = i + 1;
    }
    return copy;
failed:
    kf_attributes_free(copy);
    return NULL;
}

const struct kf_attribute *kf_attributes_get(const struct kf_attributes *set,
                                             uint64_t type)
{
    return find(set, type);
}

bool kf_attributes_bool(const struct kf_attributes *set, uint64_t type, bool otherwise)
{
    const struct kf_attribute *attribute = find(set, type);

    if (!attribute || attribute->kind != KF_BOOL)
        return otherwise;
    return attribute->value[0] != 0;
}

uint64_t kf_attributes_ulong(const struct kf_attributes *set, uint64_t type,
                             uint64_t otherwise)
{
    const struct kf_attribute *attribute = find(set, type);
    struct kf_reader reader;

    if (!attribute || attribute->kind != KF_ULONG)
        return otherwise;
    reader = kf_reader_over(attribute->value, attribute->len);
    return kf_read_u64(&reader);
}

/* The types that the standard calls a big integer whatever the object is: tokens differ
 * in whether they keep leading zeros. */
static bool is_big_integer(uint64_t type)
{
    return type == CKA_MODULUS ||
           (type >= CKA_PUBLIC_EXPONENT && type <= CKA_COEFFICIENT) ||
           (type >= CKA_PRIME && type <= CKA_BASE);
}

bool kf_attribute_equal(const struct kf_attribute *a, const struct kf_attribute *b)
{
    const unsigned char *left = a->value, *right = b->value;
    size_t left_len = a->len, right_len = b->len;

    if (a->type != b->type || a->kind != b->kind)
        return false;
    if (is_big_integer(a->type)) {
        for (; left_len && !*left; left++)
            left_len--;
        for (; right_len && !*right; right++)
            right_len--;
    }
    return left_len == right_len && CRYPTO_memcmp(left, right, left_len) == 0;
}

void kf_attributes_write(struct kf_writer *writer, const struct kf_attributes *set)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct kf_attribute *attribute = &set->at[i];

        kf_write_u64(writer, attribute->type);
        kf_write_u8(writer, (uint8_t)attribute->kind);
        kf_write_u8(writer, (uint8_t)attribute->form);
        kf_write_u32(writer, (uint32_t)attribute->len);
        kf_write_bytes(writer, attribute->value, attribute->len);
    }
}

struct kf_attributes *kf_attributes_read(struct kf_reader *reader, size_t max,
                                         bool secret)
{
    struct kf_attributes *set = reader->bad ? NULL : kf_attributes_new(secret);
    struct record record;

    if (!set)
        goto failed;
    while (reader->left) {
        const uint64_t *last = set->count ? &set->at[set->count - 1].type : NULL;

        if (set->count == max || !read_record(reader, last, &record))
            goto failed;
        if (!kf_attributes_set(set, record.type, record.kind, record.value, record.len))
            goto failed;
        set->at[set->count - 1].form = record.form;
    }
    return set;
failed:
    reader->bad = true;
    kf_attributes_free(set);
    return NULL;
}

/* ---- rows ---- */

enum {
    K = KF_ROLE_KEY,
    C = KF_ROLE_COMPUTED,
    I = KF_ROLE_IDENTITY,
    R = KF_ROLE_RIGHT
};

/* Parts of objects, each ascending. Composed after PKCS#11 v2.40, sections 4.2 to 4.10,
 * and the "Current Mechanisms" volume for the key types. CKA_EC_PARAMS is no identity:
 * the same curve has several encodings. */
static const struct kf_row COMMON[] = {
    { CKA_CLASS, 0 },
    { CKA_TOKEN, 0 },
    { CKA_PRIVATE, R },
    { CKA_LABEL, 0 },
    { CKA_MODIFIABLE, R },
    { CKA_COPYABLE, R },
    { CKA_DESTROYABLE, R },
};
static const struct kf_row DATA[] = {
    { CKA_APPLICATION, 0 },
    { CKA_VALUE, I },
    { CKA_OBJECT_ID, 0 },
};
static const struct kf_row CERTIFICATE[] = {
    { CKA_VALUE, I },
    { CKA_CERTIFICATE_TYPE, 0 },
    { CKA_ISSUER, 0 },
    { CKA_SERIAL_NUMBER, 0 },
    { CKA_TRUSTED, R },
    { CKA_CERTIFICATE_CATEGORY, 0 },
    { CKA_JAVA_MIDP_SECURITY_DOMAIN, 0 },
    { CKA_URL, 0 },
    { CKA_HASH_OF_SUBJECT_PUBLIC_KEY, 0 },
    { CKA_HASH_OF_ISSUER_PUBLIC_KEY, 0 },
    { CKA_NAME_HASH_ALGORITHM, 0 },
    { CKA_CHECK_VALUE, I | C },
    { CKA_SUBJECT, 0 },
    { CKA_ID, 0 },
    { CKA_START_DATE, 0 },
    { CKA_END_DATE, 0 },
    { CKA_PUBLIC_KEY_INFO, 0 },
};
static const struct kf_row ATTRIBUTE_CERTIFICATE[] = {
    { CKA_AC_ISSUER, 0 },
    { CKA_OWNER, 0 },
    { CKA_ATTR_TYPES, 0 },
};
static const struct kf_row KEY[] = {
    { CKA_KEY_TYPE, 0 },          { CKA_ID, 0 },     { CKA_START_DATE, 0 },
    { CKA_END_DATE, 0 },          { CKA_DERIVE, R }, { CKA_LOCAL, C },
    { CKA_KEY_GEN_MECHANISM, C }, { CKA_ALLOWED_MECHANISMS, R },
};
static const struct kf_row PUBLIC[] = {
    { CKA_TRUSTED, R },         { CKA_SUBJECT, 0 },         { CKA_ENCRYPT, R },
    { CKA_WRAP, R },            { CKA_VERIFY, R },          { CKA_VERIFY_RECOVER, R },
    { CKA_PUBLIC_KEY_INFO, 0 }, { CKA_WRAP_TEMPLATE, R },
};
static const struct kf_row PRIVATE[] = {
    { CKA_SUBJECT, 0 },
    { CKA_SENSITIVE, R },
    { CKA_DECRYPT, R },
    { CKA_UNWRAP, R },
    { CKA_SIGN, R },
    { CKA_SIGN_RECOVER, R },
    { CKA_PUBLIC_KEY_INFO, 0 },
    { CKA_EXTRACTABLE, R },
    { CKA_NEVER_EXTRACTABLE, C },
    { CKA_ALWAYS_SENSITIVE, C },
    { CKA_ALWAYS_AUTHENTICATE, R },
    { CKA_WRAP_WITH_TRUSTED, R },
    { CKA_UNWRAP_TEMPLATE, R },
    { CKA_DERIVE_TEMPLATE, R },
};
static const struct kf_row SECRET[] = {
    { CKA_VALUE, K },
    { CKA_TRUSTED, R },
    { CKA_CHECK_VALUE, I | C },
    { CKA_SENSITIVE, R },
    { CKA_ENCRYPT, R },
    { CKA_DECRYPT, R },
    { CKA_WRAP, R },
    { CKA_UNWRAP, R },
    { CKA_SIGN, R },
    { CKA_VERIFY, R },
    { CKA_VALUE_LEN, C },
    { CKA_EXTRACTABLE, R },
    { CKA_NEVER_EXTRACTABLE, C },
    { CKA_ALWAYS_SENSITIVE, C },
    { CKA_WRAP_WITH_TRUSTED, R },
    { CKA_WRAP_TEMPLATE, R },
    { CKA_UNWRAP_TEMPLATE, R },
    { CKA_DERIVE_TEMPLATE, R },
};
static const struct kf_row DOMAIN[] = { { CKA_KEY_TYPE, 0 }, { CKA_LOCAL, C } };
static const struct kf_row OTP[] = {
    { CKA_OTP_FORMAT, 0 },
    { CKA_OTP_LENGTH, 0 },
    { CKA_OTP_TIME_INTERVAL, 0 },
    { CKA_OTP_USER_FRIENDLY_MODE, 0 },
    { CKA_OTP_CHALLENGE_REQUIREMENT, 0 },
    { CKA_OTP_TIME_REQUIREMENT, 0 },
    { CKA_OTP_COUNTER_REQUIREMENT, 0 },
    { CKA_OTP_PIN_REQUIREMENT, 0 },
    { CKA_OTP_USER_IDENTIFIER, 0 },
    { CKA_OTP_SERVICE_IDENTIFIER, 0 },
    { CKA_OTP_SERVICE_LOGO, 0 },
    { CKA_OTP_SERVICE_LOGO_TYPE, 0 },
    { CKA_OTP_COUNTER, 0 },
    { CKA_OTP_TIME, 0 },
};

/* Public numbers of the key types. */
static const struct kf_row RSA_PUBLIC[] = {
    { CKA_MODULUS, I },
    { CKA_MODULUS_BITS, C },
    { CKA_PUBLIC_EXPONENT, I },
};
static const struct kf_row EC_PUBLIC[] = { { CKA_EC_PARAMS, 0 }, { CKA_EC_POINT, I } };
static const struct kf_row DSA_NUMBERS[] = {
    { CKA_PRIME, I },
    { CKA_SUBPRIME, I },
    { CKA_BASE, I },
};
static const struct kf_row DH_NUMBERS[] = { { CKA_PRIME, I }, { CKA_BASE, I } };
static const struct kf_row PRIME_BITS[] = { { CKA_PRIME_BITS, C } };
static const struct kf_row SUBPRIME_BITS[] = { { CKA_SUB_PRIME_BITS, C } };
static const struct kf_row GOST_NUMBERS[] = {
    { CKA_GOSTR3410_PARAMS, 0 },
    { CKA_GOSTR3411_PARAMS, 0 },
    { CKA_GOST28147_PARAMS, 0 },
};
static const struct kf_row GOST_SECRET[] = { { CKA_GOST28147_PARAMS, 0 } };
static const struct kf_row PUBLIC_VALUE[] = { { CKA_VALUE, I } };
static const struct kf_row OTHER_PUBLIC[] = {
    { CKA_VALUE, I },
    { KF_CKA_PARAMETER_SET, 0 },
};

/* Numbers of private keys. CKA_EC_POINT is there on some tokens (not on SoftHSM), and
 * is never sent. */
static const struct kf_row RSA_PRIVATE[] = {
    { CKA_MODULUS, I },     { CKA_PUBLIC_EXPONENT, I }, { CKA_PRIVATE_EXPONENT, K },
    { CKA_PRIME_1, K },     { CKA_PRIME_2, K },         { CKA_EXPONENT_1, K },
    { CKA_EXPONENT_2, K },  { CKA_COEFFICIENT, K },
};
static const struct kf_row EC_PRIVATE[] = {
    { CKA_VALUE, K },
    { CKA_EC_PARAMS, 0 },
    { CKA_EC_POINT, I | C },
};
static const struct kf_row PRIVATE_VALUE[] = { { CKA_VALUE, K } };
static const struct kf_row VALUE_BITS[] = { { CKA_VALUE_BITS, C } };
static const struct kf_row OTHER_PRIVATE[] = {
    { CKA_VALUE, K },
    { KF_CKA_PARAMETER_SET, 0 },
    { KF_CKA_SEED, K },
};

/* ANY: all objects of the class; OTHER: those whose key type no line of it names. */
#define ANY (UINT64_MAX)
#define OTHER (UINT64_MAX - 1)

#define PART(rows) rows, sizeof rows / sizeof rows[0]
static const struct part {
    uint64_t object_class;
    uint64_t key_type;
    const struct kf_row *rows;
    size_t count;
} PARTS[] = {
    { CKO_DATA, ANY, PART(DATA) },

    { CKO_CERTIFICATE, ANY, PART(CERTIFICATE) },
    { CKO_CERTIFICATE, CKC_X_509_ATTR_CERT, PART(ATTRIBUTE_CERTIFICATE) },

    { CKO_PUBLIC_KEY, ANY, PART(KEY) },
    { CKO_PUBLIC_KEY, ANY, PART(PUBLIC) },
    { CKO_PUBLIC_KEY, CKK_RSA, PART(RSA_PUBLIC) },
    { CKO_PUBLIC_KEY, CKK_EC, PART(EC_PUBLIC) },
    { CKO_PUBLIC_KEY, CKK_EC_EDWARDS, PART(EC_PUBLIC) },
    { CKO_PUBLIC_KEY, KF_CKK_EC_MONTGOMERY, PART(EC_PUBLIC) },
    { CKO_PUBLIC_KEY, CKK_DSA, PART(DSA_NUMBERS) },
    { CKO_PUBLIC_KEY, CKK_DSA, PART(PUBLIC_VALUE) },
    { CKO_PUBLIC_KEY, CKK_DH, PART(DH_NUMBERS) },
    { CKO_PUBLIC_KEY, CKK_DH, PART(PUBLIC_VALUE) },
    { CKO_PUBLIC_KEY, CKK_X9_42_DH, PART(DSA_NUMBERS) },
    { CKO_PUBLIC_KEY, CKK_X9_42_DH, PART(PUBLIC_VALUE) },
    { CKO_PUBLIC_KEY, CKK_GOSTR3410, PART(GOST_NUMBERS) },
    { CKO_PUBLIC_KEY, CKK_GOSTR3410, PART(PUBLIC_VALUE) },
    { CKO_PUBLIC_KEY, OTHER, PART(OTHER_PUBLIC) },

    { CKO_PRIVATE_KEY, ANY, PART(KEY) },
    { CKO_PRIVATE_KEY, ANY, PART(PRIVATE) },
    { CKO_PRIVATE_KEY, CKK_RSA, PART(RSA_PRIVATE) },
    { CKO_PRIVATE_KEY, CKK_EC, PART(EC_PRIVATE) },
    { CKO_PRIVATE_KEY, CKK_EC_EDWARDS, PART(EC_PRIVATE) },
    { CKO_PRIVATE_KEY, KF_CKK_EC_MONTGOMERY, PART(EC_PRIVATE) },
    { CKO_PRIVATE_KEY, CKK_DSA, PART(DSA_NUMBERS) },
    { CKO_PRIVATE_KEY, CKK_DSA, PART(PRIVATE_VALUE) },
    { CKO_PRIVATE_KEY, CKK_DH, PART(DH_NUMBERS) },
    { CKO_PRIVATE_KEY, CKK_DH, PART(PRIVATE_VALUE) },
    { CKO_PRIVATE_KEY, CKK_DH, PART(VALUE_BITS) },
    { CKO_PRIVATE_KEY, CKK_X9_42_DH, PART(DSA_NUMBERS) },
    { CKO_PRIVATE_KEY, CKK_X9_42_DH, PART(PRIVATE_VALUE) },
    { CKO_PRIVATE_KEY, CKK_GOSTR3410, PART(GOST_NUMBERS) },
    { CKO_PRIVATE_KEY, CKK_GOSTR3410, PART(PRIVATE_VALUE) },
    { CKO_PRIVATE_KEY, OTHER, PART(OTHER_PRIVATE) },

    { CKO_SECRET_KEY, ANY, PART(KEY) },
    { CKO_SECRET_KEY, ANY, PART(SECRET) },
    { CKO_SECRET_KEY, CKK_GOST28147, PART(GOST_SECRET) },

    { CKO_OTP_KEY, ANY, PART(KEY) },
    { CKO_OTP_KEY, ANY, PART(SECRET) },
    { CKO_OTP_KEY, ANY, PART(OTP) },

    { CKO_DOMAIN_PARAMETERS, ANY, PART(DOMAIN) },
    { CKO_DOMAIN_PARAMETERS, ANY, PART(PRIME_BITS) },
    { CKO_DOMAIN_PARAMETERS, CKK_DSA, PART(DSA_NUMBERS) },
    { CKO_DOMAIN_PARAMETERS, CKK_DH, PART(DH_NUMBERS) },
    { CKO_DOMAIN_PARAMETERS, CKK_X9_42_DH, PART(DSA_NUMBERS) },
    { CKO_DOMAIN_PARAMETERS, CKK_X9_42_DH, PART(SUBPRIME_BITS) },
};
enum { PART_COUNT = sizeof PARTS / sizeof PARTS[0] };

/* Merges one row into `count` ascending ones; the same type twice joins its roles. */
static size_t add_row(struct kf_row *rows, size_t count, const struct kf_row *row)
{
    size_t i = count;

    while (i && rows[i - 1].type > row->type)
        i--;
    if (i && rows[i - 1].type == row->type) {
        rows[i - 1].roles |= row->roles;
        return count;
    }
    if (count == KF_ROWS_MAX)
        return count;
    memmove(&rows[i + 1], &rows[i], (count - i) * sizeof *rows);
    rows[i] = *row;
    return count + 1;
}

static size_t add_part(struct kf_row *rows, size_t count, const struct kf_row *part,
                       size_t part_count)
{
    for (size_t i = 0; i < part_count; i++)
        count = add_row(rows, count, &part[i]);
    return count;
}

static size_t compose_rows(uint64_t object_class, uint64_t key_type,
                           struct kf_row *rows)
{
    size_t count = add_part(rows, 0, PART(COMMON));
    bool named = false;

    for (size_t i = 0; i < PART_COUNT; i++) {
        const struct part *part = &PARTS[i];

        if (part->object_class != object_class)
            continue;
        if (part->key_type == ANY || (part->key_type == OTHER && !named)) {
            count = add_part(rows, count, part->rows, part->count);
        } else if (part->key_type == key_type && key_type < OTHER) {
            count = add_part(rows, count, part->rows, part->count);
            named = true;
        }
    }
    return count;
}

enum { KEPT = 8 };

/* Composing takes longer than copying, and most objects of a token are of few kinds:
 * those that came last are kept. */
size_t kf_rows(uint64_t object_class, uint64_t key_type, struct kf_row *rows)
{
    static _Thread_local struct composed {
        uint64_t object_class, key_type;
        size_t count; /* 0: nothing is kept here */
        struct kf_row rows[KF_ROWS_MAX];
    } all[KEPT];
    static _Thread_local size_t next;
    struct composed *one = NULL;

    for (size_t i = 0; i < KEPT && !one; i++)
        if (all[i].count && all[i].object_class == object_class &&
            all[i].key_type == key_type)
            one = &all[i];
    if (!one) {
        one = &all[next++ % KEPT];
        one->object_class = object_class;
        one->key_type = key_type;
        one->count = compose_rows(object_class, key_type, one->rows);
    }
    memcpy(rows, one->rows, one->count * sizeof *rows);
    return one->count;
}

bool kf_attribute_is_secret(uint64_t object_class, uint64_t type)
{
    /* The classes whose CKA_VALUE is no key. One we do not know might be one. */
    static const uint64_t OPEN_VALUE[] = {
        CKO_DATA,       CKO_CERTIFICATE,       CKO_PUBLIC_KEY,
        CKO_HW_FEATURE, CKO_DOMAIN_PARAMETERS,
    };

    if (type != CKA_VALUE)
        return kf_name_is_sensitive(type);
    for (size_t i = 0; i < sizeof OPEN_VALUE / sizeof OPEN_VALUE[0]; i++)
        if (OPEN_VALUE[i] == object_class)
            return false;
    return true;
}
