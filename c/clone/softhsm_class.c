/* SPDX-License-Identifier: MIT */
#include "clone/softhsm_class.h"

#include "clone/crypto.h"

#include <openssl/crypto.h>
#include <string.h>

#define NONE UINT64_MAX /* CK_UNAVAILABLE_INFORMATION as the store has it */
#define OPENPGP 0x80504750UL /* CKC_OPENPGP of SoftHSM's own header */

#define BYTES(type) { type, KF_BYTES, 0, 0 }
#define NUMBER(type, fallback) { type, KF_ULONG, fallback, fallback }
#define FLAG(type, fallback, safe) { type, KF_BOOL, fallback, safe }
#define TEMPLATE(type) { type, KF_TEMPLATE, 0, 0 }

static const struct kf_softhsm_row COMMON[] = {
    NUMBER(CKA_CLASS, 0x80000000UL),  FLAG(CKA_TOKEN, 0, 1),    FLAG(CKA_PRIVATE, 1, 1),
    BYTES(CKA_LABEL),                 FLAG(CKA_MODIFIABLE, 1, 1),
    FLAG(CKA_COPYABLE, 1, 1),         FLAG(CKA_DESTROYABLE, 1, 1),
};
static const struct kf_softhsm_row DATA[] = {
    BYTES(CKA_APPLICATION),
    BYTES(CKA_VALUE),
    BYTES(CKA_OBJECT_ID),
};
static const struct kf_softhsm_row CERTIFICATE[] = {
    BYTES(CKA_VALUE),
    NUMBER(CKA_CERTIFICATE_TYPE, 0x80000000UL),
    BYTES(CKA_ISSUER),
    BYTES(CKA_SERIAL_NUMBER),
    FLAG(CKA_TRUSTED, 0, 0),
    NUMBER(CKA_CERTIFICATE_CATEGORY, 0),
    BYTES(CKA_URL),
    BYTES(CKA_CHECK_VALUE),
    BYTES(CKA_SUBJECT),
    BYTES(CKA_ID),
    BYTES(CKA_START_DATE),
    BYTES(CKA_END_DATE),
    BYTES(CKA_PUBLIC_KEY_INFO),
};
static const struct kf_softhsm_row X_509[] = {
    NUMBER(CKA_JAVA_MIDP_SECURITY_DOMAIN, 0),
    BYTES(CKA_HASH_OF_SUBJECT_PUBLIC_KEY),
    BYTES(CKA_HASH_OF_ISSUER_PUBLIC_KEY),
    NUMBER(CKA_NAME_HASH_ALGORITHM, CKM_SHA_1),
};
static const struct kf_softhsm_row KEY[] = {
    NUMBER(CKA_KEY_TYPE, 0x80000000UL),
    BYTES(CKA_ID),
    BYTES(CKA_START_DATE),
    BYTES(CKA_END_DATE),
    FLAG(CKA_DERIVE, 0, 0),
    FLAG(CKA_LOCAL, 0, 0),
    NUMBER(CKA_KEY_GEN_MECHANISM, NONE),
    { CKA_ALLOWED_MECHANISMS, KF_MECHANISMS, 0, 0 },
};
static const struct kf_softhsm_row PUBLIC[] = {
    FLAG(CKA_TRUSTED, 0, 0),       BYTES(CKA_SUBJECT),
    FLAG(CKA_ENCRYPT, 1, 0),       FLAG(CKA_WRAP, 1, 0),
    FLAG(CKA_VERIFY, 1, 0),        FLAG(CKA_VERIFY_RECOVER, 1, 0),
    BYTES(CKA_PUBLIC_KEY_INFO),    TEMPLATE(CKA_WRAP_TEMPLATE),
};
static const struct kf_softhsm_row PRIVATE[] = {
    BYTES(CKA_SUBJECT),
    FLAG(CKA_SENSITIVE, 0, 1),
    FLAG(CKA_DECRYPT, 1, 0),
    FLAG(CKA_UNWRAP, 1, 0),
    FLAG(CKA_SIGN, 1, 0),
    FLAG(CKA_SIGN_RECOVER, 1, 0),
    BYTES(CKA_PUBLIC_KEY_INFO),
    FLAG(CKA_EXTRACTABLE, 0, 0),
    FLAG(CKA_NEVER_EXTRACTABLE, 1, 0),
    FLAG(CKA_ALWAYS_SENSITIVE, 0, 0),
    FLAG(CKA_ALWAYS_AUTHENTICATE, 0, 0),
    FLAG(CKA_WRAP_WITH_TRUSTED, 0, 0),
    TEMPLATE(CKA_UNWRAP_TEMPLATE),
};
static const struct kf_softhsm_row SECRET[] = {
    BYTES(CKA_VALUE),
    FLAG(CKA_TRUSTED, 0, 0),
    BYTES(CKA_CHECK_VALUE),
    FLAG(CKA_SENSITIVE, 0, 1),
    FLAG(CKA_ENCRYPT, 1, 0),
    FLAG(CKA_DECRYPT, 1, 0),
    FLAG(CKA_WRAP, 1, 0),
    FLAG(CKA_UNWRAP, 1, 0),
    FLAG(CKA_SIGN, 1, 0),
    FLAG(CKA_VERIFY, 1, 0),
    FLAG(CKA_EXTRACTABLE, 0, 0),
    FLAG(CKA_NEVER_EXTRACTABLE, 1, 0),
    FLAG(CKA_ALWAYS_SENSITIVE, 0, 0),
    FLAG(CKA_WRAP_WITH_TRUSTED, 0, 0),
    TEMPLATE(CKA_WRAP_TEMPLATE),
    TEMPLATE(CKA_UNWRAP_TEMPLATE),
};
static const struct kf_softhsm_row LENGTH[] = { NUMBER(CKA_VALUE_LEN, 0) };
static const struct kf_softhsm_row DOMAIN[] = {
    NUMBER(CKA_KEY_TYPE, 0x80000000UL),
    FLAG(CKA_LOCAL, 0, 0),
    NUMBER(CKA_PRIME_BITS, 0),
};
static const struct kf_softhsm_row RSA_PUBLIC[] = {
    BYTES(CKA_MODULUS),
    NUMBER(CKA_MODULUS_BITS, 0),
    BYTES(CKA_PUBLIC_EXPONENT),
};
static const struct kf_softhsm_row RSA_PRIVATE[] = {
    BYTES(CKA_MODULUS),    BYTES(CKA_PUBLIC_EXPONENT), BYTES(CKA_PRIVATE_EXPONENT),
    BYTES(CKA_PRIME_1),    BYTES(CKA_PRIME_2),         BYTES(CKA_EXPONENT_1),
    BYTES(CKA_EXPONENT_2), BYTES(CKA_COEFFICIENT),
};
static const struct kf_softhsm_row EC_PUBLIC[] = {
    BYTES(CKA_EC_PARAMS),
    BYTES(CKA_EC_POINT),
};
static const struct kf_softhsm_row EC_PRIVATE[] = {
    BYTES(CKA_VALUE),
    BYTES(CKA_EC_PARAMS),
};
static const struct kf_softhsm_row DSA_NUMBERS[] = {
    BYTES(CKA_PRIME),
    BYTES(CKA_SUBPRIME),
    BYTES(CKA_BASE),
};
static const struct kf_softhsm_row DH_NUMBERS[] = { BYTES(CKA_PRIME), BYTES(CKA_BASE) };
static const struct kf_softhsm_row VALUE[] = { BYTES(CKA_VALUE) };
static const struct kf_softhsm_row DH_PRIVATE[] = {
    BYTES(CKA_VALUE),
    NUMBER(CKA_VALUE_BITS, 0),
};
static const struct kf_softhsm_row GOST[] = {
    BYTES(CKA_VALUE),
    BYTES(CKA_GOSTR3410_PARAMS),
    BYTES(CKA_GOSTR3411_PARAMS),
    BYTES(CKA_GOST28147_PARAMS),
};
static const struct kf_softhsm_row GOST_SECRET[] = { BYTES(CKA_GOST28147_PARAMS) };

#define PART(rows) rows, sizeof rows / sizeof rows[0]
struct part {
    const struct kf_softhsm_row *rows;
    size_t count;
};

/* Every kind of object that SoftHSM has, and what such an object is made of. */
enum { PARTS_MAX = 4 };
static const struct kind {
    struct kf_softhsm_kind kind;
    struct part parts[PARTS_MAX];
} KINDS[] = {
    { { CKO_DATA, 0 }, { { PART(DATA) } } },
    { { CKO_CERTIFICATE, CKC_X_509 }, { { PART(CERTIFICATE) }, { PART(X_509) } } },
    { { CKO_CERTIFICATE, OPENPGP }, { { PART(CERTIFICATE) } } },

#define PUBLIC_KEY(type, ...) \
    { { CKO_PUBLIC_KEY, type }, { { PART(KEY) }, { PART(PUBLIC) }, __VA_ARGS__ } }
    PUBLIC_KEY(CKK_RSA, { PART(RSA_PUBLIC) }),
    PUBLIC_KEY(CKK_DSA, { PART(DSA_NUMBERS) }, { PART(VALUE) }),
    PUBLIC_KEY(CKK_EC, { PART(EC_PUBLIC) }),
    PUBLIC_KEY(CKK_DH, { PART(DH_NUMBERS) }, { PART(VALUE) }),
    PUBLIC_KEY(CKK_GOSTR3410, { PART(GOST) }),
    PUBLIC_KEY(CKK_EC_EDWARDS, { PART(EC_PUBLIC) }),

#define PRIVATE_KEY(type, ...) \
    { { CKO_PRIVATE_KEY, type }, { { PART(KEY) }, { PART(PRIVATE) }, __VA_ARGS__ } }
    PRIVATE_KEY(CKK_RSA, { PART(RSA_PRIVATE) }),
    PRIVATE_KEY(CKK_DSA, { PART(DSA_NUMBERS) }, { PART(VALUE) }),
    PRIVATE_KEY(CKK_EC, { PART(EC_PRIVATE) }),
    PRIVATE_KEY(CKK_DH, { PART(DH_NUMBERS) }, { PART(DH_PRIVATE) }),
    PRIVATE_KEY(CKK_GOSTR3410, { PART(GOST) }),
    PRIVATE_KEY(CKK_EC_EDWARDS, { PART(EC_PRIVATE) }),

#define SECRET_KEY(type, ...) \
    { { CKO_SECRET_KEY, type }, { { PART(KEY) }, { PART(SECRET) }, __VA_ARGS__ } }
    SECRET_KEY(CKK_GENERIC_SECRET, { PART(LENGTH) }),
    SECRET_KEY(CKK_MD5_HMAC, { PART(LENGTH) }),
    SECRET_KEY(CKK_SHA_1_HMAC, { PART(LENGTH) }),
    SECRET_KEY(CKK_SHA224_HMAC, { PART(LENGTH) }),
    SECRET_KEY(CKK_SHA256_HMAC, { PART(LENGTH) }),
    SECRET_KEY(CKK_SHA384_HMAC, { PART(LENGTH) }),
    SECRET_KEY(CKK_SHA512_HMAC, { PART(LENGTH) }),
    SECRET_KEY(CKK_AES, { PART(LENGTH) }),
    SECRET_KEY(CKK_DES, { NULL, 0 }),
    SECRET_KEY(CKK_DES2, { NULL, 0 }),
    SECRET_KEY(CKK_DES3, { NULL, 0 }),
    SECRET_KEY(CKK_GOST28147, { PART(GOST_SECRET) }),

    { { CKO_DOMAIN_PARAMETERS, CKK_DSA }, { { PART(DOMAIN) }, { PART(DSA_NUMBERS) } } },
    { { CKO_DOMAIN_PARAMETERS, CKK_DH }, { { PART(DOMAIN) }, { PART(DH_NUMBERS) } } },
};
enum { KIND_COUNT = sizeof KINDS / sizeof KINDS[0] };

struct kf_softhsm_kind kf_softhsm_kind_of(const struct kf_attributes *object)
{
    struct kf_softhsm_kind kind = {
        .object_class = kf_attributes_ulong(object, CKA_CLASS, NONE),
        .key_type = kf_attributes_ulong(object, CKA_KEY_TYPE, NONE),
    };

    if (kind.object_class == CKO_CERTIFICATE)
        kind.key_type = kf_attributes_ulong(object, CKA_CERTIFICATE_TYPE, NONE);
    if (kind.object_class == CKO_DATA)
        kind.key_type = 0;
    return kind;
}

static size_t add(struct kf_softhsm_row *rows, size_t count,
                  const struct kf_softhsm_row *row)
{
    size_t i = count;

    while (i && rows[i - 1].type > row->type)
        i--;
    memmove(rows + i + 1, rows + i, (count - i) * sizeof *rows);
    rows[i] = *row;
    return count + 1;
}

static size_t add_part(struct kf_softhsm_row *rows, size_t count,
                       const struct kf_softhsm_row *part, size_t part_count)
{
    for (size_t i = 0; i < part_count && count < KF_ROWS_MAX; i++)
        count = add(rows, count, &part[i]);
    return count;
}

size_t kf_softhsm_rows(struct kf_softhsm_kind kind, struct kf_softhsm_row *rows)
{
    size_t count = 0;

    for (size_t i = 0; i < KIND_COUNT; i++) {
        if (KINDS[i].kind.object_class != kind.object_class
            || KINDS[i].kind.key_type != kind.key_type)
            continue;
        count = add_part(rows, 0, PART(COMMON));
        for (size_t p = 0; p < PARTS_MAX; p++)
            count =
                add_part(rows, count, KINDS[i].parts[p].rows, KINDS[i].parts[p].count);
        break;
    }
    return count;
}

/* ---------------------------------------- the view */

static bool is_date(uint64_t type)
{
    return type == CKA_START_DATE || type == CKA_END_DATE;
}

static bool is_hidden(struct kf_softhsm_kind kind, bool is_private,
                      const struct kf_row *row)
{
    if (kind.object_class == CKO_DATA)
        return row->type == CKA_VALUE && is_private;
    return (row->roles & KF_ROLE_KEY)
           || kf_attribute_is_secret(kind.object_class, row->type);
}

static size_t shown_rows(struct kf_softhsm_kind kind, bool is_private,
                         struct kf_softhsm_row *rows)
{
    struct kf_row asked[KF_ROWS_MAX];
    size_t asked_count = kf_rows(kind.object_class, kind.key_type, asked);
    struct kf_softhsm_row had[KF_ROWS_MAX];
    size_t had_count = kf_softhsm_rows(kind, had);
    size_t count = 0;

    for (size_t a = 0, h = 0; a < asked_count && h < had_count; a++) {
        while (h < had_count && had[h].type < asked[a].type)
            h++;
        if (h < had_count && had[h].type == asked[a].type
            && !is_hidden(kind, is_private, &asked[a]))
            rows[count++] = had[h];
    }
    return count;
}

/* kf_object_read does not give it. */
static bool is_unseen(struct kf_softhsm_kind kind, bool is_private, uint64_t type)
{
    if (kind.object_class == CKO_DATA && type == CKA_VALUE)
        return is_private;
    return is_date(type) || kf_attribute_is_secret(kind.object_class, type);
}

/* The rows that count for the view: those that SoftHSM has and that a reader asks for.
 * Of a kind that is not in the tables here, those that a reader asks for. */
static size_t view_rows(struct kf_softhsm_kind kind, bool is_private,
                        struct kf_softhsm_row *rows)
{
    struct kf_row asked[KF_ROWS_MAX];
    size_t asked_count = kf_rows(kind.object_class, kind.key_type, asked);
    struct kf_softhsm_row had[KF_ROWS_MAX];
    size_t had_count = kf_softhsm_rows(kind, had);
    size_t count = 0;
    size_t h = 0;

    for (size_t i = 0; i < asked_count; i++) {
        struct kf_softhsm_row row = { asked[i].type, kf_kind_of(asked[i].type), 0, 0 };

        while (h < had_count && had[h].type < row.type)
            h++;
        if (had_count && (h == had_count || had[h].type != row.type))
            continue;
        if (had_count)
            row = had[h];
        if (!(asked[i].roles & KF_ROLE_KEY) && row.kind != KF_TEMPLATE
            && !is_unseen(kind, is_private, row.type))
            rows[count++] = row;
    }
    return count;
}

/* Finding the rows of a kind takes longer than going through them, and most objects of
 * a token are of few kinds: those that came last are kept. Not for several threads. */
struct prepared {
    struct kf_softhsm_kind kind;
    bool is_private;
    bool filled;
    size_t view_count;
    size_t shown_count;
    struct kf_softhsm_row view[KF_ROWS_MAX];
    struct kf_softhsm_row shown[KF_ROWS_MAX];
};

static const struct prepared *rows_of(const struct kf_attributes *object)
{
    static struct prepared all[8];
    static size_t next;
    struct kf_softhsm_kind kind = kf_softhsm_kind_of(object);
    bool is_private = kf_attributes_bool(object, CKA_PRIVATE, true);
    struct prepared *one;

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i].filled && all[i].kind.object_class == kind.object_class
            && all[i].kind.key_type == kind.key_type && all[i].is_private == is_private)
            return &all[i];
    one = &all[next++ % (sizeof all / sizeof all[0])];
    one->kind = kind;
    one->is_private = is_private;
    one->view_count = view_rows(kind, is_private, one->view);
    one->shown_count = shown_rows(kind, is_private, one->shown);
    one->filled = true;
    return one;
}

size_t kf_softhsm_shown(const struct kf_attributes *object,
                        const struct kf_softhsm_row **rows)
{
    const struct prepared *prepared = rows_of(object);

    *rows = prepared->shown;
    return prepared->shown_count;
}

/* An empty value is as good as none; a number or boolean that is not there is SoftHSM's
 * default, which it will have as soon as somebody looks. */
static void write_view(struct kf_writer *out, const struct kf_softhsm_row *row,
                       const struct kf_attribute *at)
{
    bool has = at && at->len;

    if (!has && row->kind != KF_BOOL && row->kind != KF_ULONG)
        return;
    kf_write_u64(out, row->type);
    if (has) {
        kf_write_u32(out, (uint32_t)at->len);
        kf_write_bytes(out, at->value, at->len);
    } else if (row->kind == KF_BOOL) {
        kf_write_u32(out, 1);
        kf_write_u8(out, (uint8_t)row->fallback);
    } else {
        kf_write_u32(out, 8);
        kf_write_u64(out, row->fallback);
    }
}

/* The attribute of that row; *at goes along with ascending rows. */
static const struct kf_attribute *of_row(const struct kf_attributes *object, size_t *at,
                                         const struct kf_softhsm_row *row)
{
    while (*at < object->count && object->at[*at].type < row->type)
        ++*at;
    return *at < object->count && object->at[*at].type == row->type ? &object->at[*at]
                                                                    : NULL;
}

bool kf_softhsm_view(const struct kf_attributes *object, struct kf_writer *scratch,
                     uint8_t out[KF_VIEW_BYTES])
{
    const struct prepared *prepared = rows_of(object);
    const struct kf_softhsm_row *rows = prepared->view;
    size_t at = 0;

    scratch->len = 0;
    for (size_t i = 0; i < prepared->view_count; i++)
        write_view(scratch, &rows[i], of_row(object, &at, &rows[i]));
    return !scratch->bad && kf_crypto_sha256(scratch->data, scratch->len, out);
}

static bool is_fallback(const struct kf_softhsm_row *row, const struct kf_attribute *at)
{
    struct kf_reader reader = kf_reader_over(at->value, at->len);

    if (row->kind == KF_BOOL)
        return at->len == 1 && at->value[0] == row->fallback;
    if (row->kind == KF_ULONG)
        return at->len == 8 && kf_read_u64(&reader) == row->fallback;
    return false;
}

bool kf_softhsm_looks_same(const struct kf_attributes *a,
                           const struct kf_attributes *b)
{
    const struct prepared *prepared = rows_of(a);
    size_t at_a = 0;
    size_t at_b = 0;
    bool same = prepared == rows_of(b);

    for (size_t i = 0; same && i < prepared->view_count; i++) {
        const struct kf_softhsm_row *row = &prepared->view[i];
        const struct kf_attribute *left = of_row(a, &at_a, row);
        const struct kf_attribute *right = of_row(b, &at_b, row);

        left = left && left->len ? left : NULL;
        right = right && right->len ? right : NULL;
        if (left && right)
            same = left->len == right->len
                   && memcmp(left->value, right->value, left->len) == 0;
        else if (left || right)
            same = is_fallback(row, left ? left : right);
    }
    return same;
}

bool kf_softhsm_rest(const struct kf_attributes *object,
                     const uint8_t key[KF_VIEW_BYTES], struct kf_writer *scratch,
                     uint8_t out[KF_VIEW_BYTES])
{
    const struct prepared *prepared = rows_of(object);
    const struct kf_softhsm_row *rows = prepared->view;
    size_t count = prepared->view_count;
    size_t row = 0;
    struct kf_slice all;
    bool ok;

    scratch->len = 0;
    for (size_t i = 0; i < object->count; i++) {
        const struct kf_attribute *at = &object->at[i];

        while (row < count && rows[row].type < at->type)
            row++;
        if ((row < count && rows[row].type == at->type) || !at->len)
            continue;
        kf_write_u64(scratch, at->type);
        kf_write_u32(scratch, (uint32_t)at->len);
        kf_write_bytes(scratch, at->value, at->len);
    }
    all = (struct kf_slice){ scratch->data, scratch->len };
    ok = !scratch->bad && kf_crypto_hmac(key, &all, 1, out);
    if (scratch->data)
        OPENSSL_cleanse(scratch->data, scratch->len);
    scratch->len = 0;
    return ok;
}

/* ---------------------------------------- whole or not */

static bool has_value(const struct kf_attributes *object, uint64_t type)
{
    const struct kf_attribute *at = kf_attributes_get(object, type);

    return at && at->len;
}

const char *kf_softhsm_unfinished(const struct kf_attributes *object)
{
    struct kf_softhsm_kind kind = kf_softhsm_kind_of(object);
    bool material = true;

    if (kind.object_class == NONE || kind.object_class == 0x80000000UL)
        return "it has no class yet";
    if (!kf_attributes_bool(object, CKA_TOKEN, false))
        return "it is not marked as a token object yet";
    if (kind.object_class == CKO_PRIVATE_KEY && kind.key_type == CKK_RSA)
        material = has_value(object, CKA_PRIVATE_EXPONENT);
    else if (kind.object_class == CKO_PRIVATE_KEY
             || kind.object_class == CKO_SECRET_KEY)
        material = has_value(object, CKA_VALUE);
    else if (kind.object_class == CKO_PUBLIC_KEY)
        material = has_value(object, CKA_MODULUS) || has_value(object, CKA_EC_POINT)
                   || has_value(object, CKA_VALUE);
    return material ? NULL : "its key bytes are not there";
}
