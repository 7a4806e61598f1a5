/* SPDX-License-Identifier: MIT */
#include "clone/wrap_check.h"

#include "clone/crypto.h"
#include "clone/curve.h"
#include "clone/material.h"
#include "clone/public_value.h"
#include "pkcs11/quirk.h"

#include <openssl/crypto.h>
#include <string.h>

/* PKCS#11 v3.0; p11-kit 0.24 has no name for it. Every object has its own. */
#define KF_CKA_UNIQUE_ID 0x4UL

static const char UNDONE[] = "the target's module does not keep what it is given: leave "
                             "the object out, or use another backup HSM";

void kf_wrap_lose(char lost[KF_LOST_MAX], uint64_t type)
{
    char text[64];
    const char *name = kf_name_text(KF_CKA, type, text, sizeof text), *at;
    size_t used = strlen(lost), len = strlen(name);

    for (at = lost; (at = strstr(at, name)); at += len)
        if (!at[len] || at[len] == ',')
            return;
    if (used + len + sizeof ", , ..." > KF_LOST_MAX) {
        if (used + sizeof ", ..." <= KF_LOST_MAX && !strstr(lost, "..."))
            memcpy(lost + used, ", ...", sizeof ", ...");
        return;
    }
    if (used) {
        memcpy(lost + used, ", ", 2);
        used += 2;
    }
    memcpy(lost + used, name, len + 1);
}

bool kf_wrap_same_number(const struct kf_attribute *a, const struct kf_attribute *b)
{
    size_t i = 0, j = 0;

    while (i < a->len && !a->value[i])
        i++;
    while (j < b->len && !b->value[j])
        j++;
    return a->len - i == b->len - j &&
           !CRYPTO_memcmp(a->value + i, b->value + j, a->len - i);
}

/* ---- reading back ---- */

/* What restricts when it is true; every other boolean of KF_ROLE_RIGHT permits. */
static bool restricts(uint64_t type)
{
    return type == CKA_PRIVATE || type == CKA_SENSITIVE ||
           type == CKA_WRAP_WITH_TRUSTED || type == CKA_ALWAYS_AUTHENTICATE;
}

static bool has_mechanism(const struct kf_attribute *set,
                          const unsigned char *mechanism)
{
    size_t i;

    for (i = 0; i + 8 <= set->len; i += 8)
        if (!memcmp(set->value + i, mechanism, 8))
            return true;
    return false;
}

/* Nothing wanted: anything goes, says an empty list of mechanisms or template. */
static bool more_in_list(const struct kf_attribute *want,
                         const struct kf_attribute *got)
{
    size_t i;

    if (!want->len)
        return false;
    if (!got || !got->len || want->kind != KF_MECHANISMS || got->kind != KF_MECHANISMS)
        return true;
    for (i = 0; i + 8 <= got->len; i += 8)
        if (!has_mechanism(want, got->value + i))
            return true;
    return false;
}

/* Whether the clone may do what its original may not; got is NULL where the token does
 * not know the attribute. */
static bool has_more(const struct kf_attribute *want, const struct kf_attribute *got)
{
    bool wanted, has;

    if (want->kind != KF_BOOL)
        return more_in_list(want, got);
    wanted = want->len && want->value[0];
    has = got ? got->len && got->value[0] : kf_wrap_true_by_default(want->type);
    return restricts(want->type) ? wanted && !has : has && !wanted;
}

/* CK_UNAVAILABLE_INFORMATION, which says as much as no attribute. */
static bool is_unavailable(const struct kf_attribute *want)
{
    size_t i = 0;

    while (want->kind == KF_ULONG && i < want->len && want->value[i] == 0xFF)
        i++;
    return i == 8;
}

static bool same(const struct kf_attribute *want, const struct kf_attribute *got)
{
    if (!got)
        return !want->len || is_unavailable(want) ||
               (kf_wrap_true_by_default(want->type) && want->value[0]);
    if (kf_attribute_equal(want, got))
        return true;
    if (want->kind != got->kind)
        return !want->len && !got->len;
    if (want->type == CKA_EC_PARAMS)
        return kf_curve_same(want->value, want->len, got->value, got->len);
    return want->kind == KF_BYTES && want->type != CKA_VALUE &&
           kf_wrap_is_number(want->type) && kf_wrap_same_number(want, got);
}

static kf_rv differs(struct kf_error *err, uint64_t type, const char *how)
{
    char text[64];

    return kf_fail(err, KFR_DIFFERS, NULL, UNDONE, "the clone was undone: its %s %s",
                   kf_name_text(KF_CKA, type, text, sizeof text), how);
}

/* One attempt by C_SetAttributeValue. */
static bool correct(struct kf_wrap_format *format, CK_OBJECT_HANDLE object,
                    const struct kf_attribute *want)
{
    struct kf_attributes *set = kf_attributes_new(false),
                         *got = kf_attributes_new(false);
    const struct kf_attribute *now = NULL;
    bool good;

    good = set && got &&
           kf_attributes_set(set, want->type, want->kind, want->value, want->len) &&
           !kf_object_change(format->session, object, set, NULL) &&
           !kf_object_read_one(format->session, object, want->type, got, NULL);
    if (good)
        now = kf_attributes_get(got, want->type);
    good = good && now && same(want, now);
    kf_attributes_free(set);
    kf_attributes_free(got);
    return good;
}

struct readback {
    struct kf_wrap_format *format;
    CK_OBJECT_HANDLE object;
    bool same_key; /* proved by a digest: a check value need not agree */
    bool whole;    /* MODIFIABLE, COPYABLE, DESTROYABLE false were said */
    char *lost;
};

static kf_rv judge(const struct readback *back, const struct kf_attribute *want,
                   const struct kf_attribute *got, unsigned roles, struct kf_error *err)
{
    bool both = got && got->len && want->len;

    if (same(want, got) || want->type == KF_CKA_UNIQUE_ID || want->type == CKA_TOKEN ||
        (!back->whole && kf_wrap_true_by_default(want->type)))
        return KFR_OK;
    if (want->type == CKA_CLASS || want->type == CKA_KEY_TYPE ||
        (want->type == CKA_EC_PARAMS && both))
        return differs(err, want->type, "is another");
    if ((roles & KF_ROLE_IDENTITY) && both && !back->same_key)
        return differs(err, want->type, "is another: it is not the same key or value");
    if (!(roles & (KF_ROLE_COMPUTED | KF_ROLE_IDENTITY)) &&
        want->type < CKA_VENDOR_DEFINED && !kf_wrap_true_by_default(want->type) &&
        want->len && correct(back->format, back->object, want))
        return KFR_OK;
    if ((roles & KF_ROLE_RIGHT) && has_more(want, got))
        return differs(err, want->type,
                       "would give it more rights than the original has");
    kf_wrap_lose(back->lost, want->type);
    return KFR_OK;
}

/* VALUE_LEN is 0 on keys that SoftHSM unwrapped: then it tells nothing. */
static kf_rv compare_length(const struct kf_wrap_item *item,
                            const struct kf_attributes *got, struct kf_error *err)
{
    uint64_t want = kf_attributes_ulong(item->want, CKA_VALUE_LEN, 0);
    uint64_t is = kf_attributes_ulong(got, CKA_VALUE_LEN, 0);

    if (!want || !is || want == is || want == CK_UNAVAILABLE_INFORMATION ||
        is == CK_UNAVAILABLE_INFORMATION)
        return KFR_OK;
    return differs(err, CKA_VALUE_LEN, "is another");
}

/* ---- key material of the clone ---- */

/* The body that was sealed, where this process may see it; NULL is no failure. */
static kf_rv plain_body(struct kf_wrap_format *format, const struct kf_wrap_item *item,
                        struct kf_secret **out, struct kf_error *err)
{
    const struct kf_attribute *value = NULL;

    *out = NULL;
    if (item->wrapped && kf_domain_is_host(format->domain))
        return kf_domain_unwrap_bytes(format->domain, item->wrapped, item->wrapped_len,
                                      out, err);
    if (!item->wrapped && item->hidden && item->object_class == CKO_SECRET_KEY)
        value = kf_attributes_get(item->hidden, CKA_VALUE);
    if (!value)
        return KFR_OK;
    *out = kf_secret_from(value->value, value->len);
    return *out ? KFR_OK
                : kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for a check");
}

/* The key, or the key with the zeros that modules fill a block with before they wrap. */
static bool begins_with(const struct kf_secret *body, const struct kf_secret *plain)
{
    unsigned char rest = 0;

    if (body->len < plain->len || body->len - plain->len > 7)
        return false;
    for (size_t i = plain->len; i < body->len; i++)
        rest |= body->data[i];
    return !rest && !CRYPTO_memcmp(body->data, plain->data, plain->len);
}

/* Where there is no digest a key that may leave goes out again. */
static kf_rv compare_secret_rewrapped(struct kf_wrap_format *format,
                                      const struct kf_wrap_item *item,
                                      CK_OBJECT_HANDLE object,
                                      const struct kf_secret *plain,
                                      struct kf_error *err)
{
    struct kf_secret *again = NULL, *body = NULL;
    kf_rv rv = KFR_OK;

    if (!kf_domain_is_host(format->domain) ||
        !kf_attributes_bool(item->want, CKA_EXTRACTABLE, false) ||
        kf_attributes_bool(item->want, CKA_WRAP_WITH_TRUSTED, false) ||
        kf_wrap_out(format, object, &again, NULL))
        return KFR_OK; /* not to be had */
    rv = kf_domain_unwrap_bytes(format->domain, again->data, again->len, &body, err);
    if (!rv && !begins_with(body, plain))
        rv = kf_fail(err, KFR_DIFFERS, "C_WrapKey", UNDONE,
                     "the clone was undone: its key bytes are not the original's");
    kf_secret_free(again);
    kf_secret_free(body);
    return rv;
}

static kf_rv compare_secret(struct kf_wrap_format *format,
                            const struct kf_wrap_item *item, CK_OBJECT_HANDLE object,
                            const struct kf_secret *plain, bool *proved,
                            struct kf_error *err)
{
    uint8_t theirs[KF_MAC_BYTES], ours[KF_CRYPTO_HASH];

    if (kf_object_digest(format->session, object, theirs))
        return compare_secret_rewrapped(format, item, object, plain, err);
    if (!kf_crypto_sha256(plain->data, plain->len, ours))
        return kf_fail(err, KFR_CRYPTO, NULL, NULL, "SHA-256 failed");
    *proved = !CRYPTO_memcmp(theirs, ours, sizeof ours);
    return *proved
               ? KFR_OK
               : kf_fail(err, KFR_DIFFERS, "C_DigestKey", UNDONE,
                         "the clone was undone: its key bytes are not the original's");
}

static bool same_key_attributes(const struct kf_attributes *a,
                                const struct kf_attributes *b)
{
    size_t i;

    for (i = 0; i < a->count; i++) {
        const struct kf_attribute *other = kf_attributes_get(b, a->at[i].type);

        if (a->at[i].type == CKA_EC_PARAMS) /* one curve has several encodings */
            continue;
        if (!other || !kf_wrap_same_number(&a->at[i], other))
            return false;
    }
    return a->count == b->count;
}

static kf_rv other_numbers(struct kf_error *err, const char *call)
{
    return kf_fail(err, KFR_DIFFERS, call, UNDONE,
                   "the clone was undone: its numbers are not the original's");
}

/* A private key that may leave goes out again, and is compared number by number. */
static kf_rv compare_rewrapped(struct kf_wrap_format *format,
                               const struct kf_wrap_item *item, CK_OBJECT_HANDLE object,
                               const struct kf_attributes *ours, bool *proved,
                               struct kf_error *err)
{
    struct kf_attributes *theirs = NULL;
    struct kf_secret *again = NULL, *body = NULL;
    kf_rv rv = KFR_OK;

    if (!kf_attributes_bool(item->want, CKA_EXTRACTABLE, false) ||
        kf_attributes_bool(item->want, CKA_WRAP_WITH_TRUSTED, false) ||
        kf_wrap_out(format, object, &again, NULL))
        return KFR_OK; /* not to be had */
    rv = kf_domain_unwrap_bytes(format->domain, again->data, again->len, &body, err);
    if (!rv)
        rv = kf_material_attributes(item->want, body->data, body->len, &theirs, err);
    if (!rv && !same_key_attributes(ours, theirs))
        rv = other_numbers(err, "C_WrapKey");
    *proved = !rv;
    kf_attributes_free(theirs);
    kf_secret_free(again);
    kf_secret_free(body);
    return rv;
}

/* One that may not leave: a token that digests its CKA_VALUE (SoftHSM does, though
 * C_DigestKey is for secret keys) digests the number, without leading zeros or with. */
static kf_rv compare_digest(struct kf_wrap_format *format, CK_OBJECT_HANDLE object,
                            const struct kf_attributes *ours, bool *proved,
                            struct kf_error *err)
{
    const struct kf_attribute *value = kf_attributes_get(ours, CKA_VALUE);
    uint8_t theirs[KF_MAC_BYTES], digest[KF_CRYPTO_HASH];
    size_t at;

    if (!value || kf_object_digest(format->session, object, theirs))
        return KFR_OK;
    for (at = 0; at < value->len && !*proved; at++) {
        if (!kf_crypto_sha256(value->value + at, value->len - at, digest))
            return kf_fail(err, KFR_CRYPTO, NULL, NULL, "SHA-256 failed");
        *proved = !CRYPTO_memcmp(theirs, digest, sizeof digest);
        if (value->value[at])
            break;
    }
    return *proved ? KFR_OK : other_numbers(err, "C_DigestKey");
}

/* Digests as long as a signature of any key is made of. */
static const struct use {
    CK_KEY_TYPE key_type;
    CK_MECHANISM_TYPE mechanism;
    size_t digest;
} uses[] = {
    {CKK_EC, CKM_ECDSA, 32},
    {CKK_DSA, CKM_DSA, 20},
    {CKK_RSA, CKM_RSA_PKCS, 32},
};

static const struct use *use_of(const struct kf_wrap_item *item)
{
    uint64_t type = kf_attributes_ulong(item->want, CKA_KEY_TYPE, UINT64_MAX);
    size_t i;

    if (!kf_attributes_bool(item->want, CKA_SIGN, false) ||
        kf_attributes_bool(item->want, CKA_ALWAYS_AUTHENTICATE, false))
        return NULL;
    for (i = 0; i < sizeof uses / sizeof uses[0]; i++)
        if (uses[i].key_type == type)
            return &uses[i];
    return NULL;
}

/* Refusals to sign that say nothing of the key; any other is of a key that the token
 * took and cannot work with. */
static kf_rv of_no_use(struct kf_error *err, kf_rv rv)
{
    static const kf_rv codes[] = {
        CKR_MECHANISM_INVALID,     CKR_MECHANISM_PARAM_INVALID,
        CKR_KEY_TYPE_INCONSISTENT, CKR_KEY_FUNCTION_NOT_PERMITTED,
        CKR_KEY_SIZE_RANGE,        CKR_FUNCTION_NOT_SUPPORTED,
        CKR_DATA_LEN_RANGE,        CKR_USER_NOT_LOGGED_IN,
        CKR_OPERATION_ACTIVE,      CKR_DEVICE_REMOVED,
        CKR_SESSION_CLOSED,        CKR_SESSION_HANDLE_INVALID,
        KFR_CLOSED,                KFR_MEMORY,
    };
    char text[64];

    if (KF_AMONG(rv, codes))
        return KFR_OK;
    return kf_fail(err, KFR_NOT_CLONABLE, "C_Sign", NULL,
                   "the clone was undone: the token takes this key and cannot sign with "
                   "it (%s)",
                   kf_name_text(KF_CKR, rv, text, sizeof text));
}

/* The clone signs, and the public half of the original verifies it, in this process. */
static kf_rv compare_use(struct kf_wrap_format *format, const struct kf_wrap_item *item,
                         CK_OBJECT_HANDLE object, const struct kf_attributes *ours,
                         bool *proved, struct kf_error *err)
{
    const struct use *use = use_of(item);
    unsigned char digest[KF_CRYPTO_HASH];
    struct kf_secret *signature = NULL;
    CK_MECHANISM mechanism;
    kf_rv rv;

    if (!use || !kf_crypto_random(digest, sizeof digest))
        return KFR_OK;
    mechanism = (CK_MECHANISM){use->mechanism, NULL, 0};
    rv = kf_object_sign(format->session, object, &mechanism, digest, use->digest,
                        &signature, NULL);
    if (rv)
        return of_no_use(err, rv);
    rv = kf_public_verify(item->want, ours, digest, use->digest, signature->data,
                          signature->len);
    kf_secret_free(signature);
    *proved = *proved || !rv;
    return rv == KFR_DIFFERS
               ? kf_fail(err, rv, "C_Sign", NULL,
                         "the clone was undone: what it signs does not verify with its "
                         "original's public key")
               : KFR_OK;
}

/* Whether the module takes a key for what it was told it is. */
static bool believes(const struct kf_wrap_format *format)
{
    return kf_quirk_has(kf_session_module(format->session), KF_QUIRK_NEEDS_PUBLIC_VALUE);
}

static kf_rv compare_private(struct kf_wrap_format *format,
                             const struct kf_wrap_item *item, CK_OBJECT_HANDLE object,
                             const struct kf_secret *plain, bool *proved,
                             struct kf_error *err)
{
    struct kf_attributes *read = NULL;
    const struct kf_attributes *ours = item->hidden;
    kf_rv rv = KFR_OK;

    if (plain &&
        !kf_material_attributes(item->want, plain->data, plain->len, &read, NULL))
        ours = read;
    if (read)
        rv = compare_rewrapped(format, item, object, read, proved, err);
    if (!rv && ours && !*proved)
        rv = compare_digest(format, object, ours, proved, err);
    if (!rv && ours && (!*proved || believes(format)))
        rv = compare_use(format, item, object, ours, proved, err);
    kf_attributes_free(read);
    return rv;
}

static kf_rv compare_key(struct kf_wrap_format *format, const struct kf_wrap_item *item,
                         CK_OBJECT_HANDLE object, bool *proved, struct kf_error *err)
{
    struct kf_secret *plain = NULL;
    kf_rv rv;

    *proved = false;
    if (!kf_wrap_is_key(item->object_class))
        return KFR_OK;
    rv = plain_body(format, item, &plain, err);
    if (!rv && item->object_class == CKO_PRIVATE_KEY)
        rv = compare_private(format, item, object, plain, proved, err);
    else if (!rv && plain)
        rv = compare_secret(format, item, object, plain, proved, err);
    kf_secret_free(plain);
    return rv;
}

/* A value that travelled hidden and is no key: read and compared. */
static kf_rv compare_value(struct kf_wrap_format *format,
                           const struct kf_wrap_item *item, CK_OBJECT_HANDLE object,
                           struct kf_error *err)
{
    struct kf_attributes *got = NULL;
    const struct kf_attribute *is;
    kf_rv rv = KFR_OK;
    size_t i;

    if (kf_wrap_is_key(item->object_class) || !item->hidden)
        return KFR_OK;
    got = kf_attributes_new(true);
    if (!got)
        return kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for a check");
    for (i = 0; !rv && i < item->hidden->count; i++) {
        const struct kf_attribute *want = &item->hidden->at[i];

        rv = kf_object_read_one(format->session, object, want->type, got, err);
        is = rv ? NULL : kf_attributes_get(got, want->type);
        if (!rv && (!is || !kf_attribute_equal(want, is)))
            rv = differs(err, want->type, "is another");
    }
    kf_attributes_free(got);
    return rv;
}

/* What the module says of a key is not so: nobody sees this one without a login. */
static void judge_private(const struct readback *back, const struct kf_wrap_item *item)
{
    if (kf_wrap_is_key(item->object_class) &&
        !kf_attributes_bool(item->want, CKA_PRIVATE, true) &&
        kf_quirk_has(kf_session_module(back->format->session), KF_QUIRK_KEYS_PRIVATE))
        kf_wrap_lose(back->lost, CKA_PRIVATE);
}

kf_rv kf_wrap_read_back(struct kf_wrap_format *format, const struct kf_wrap_item *item,
                        CK_OBJECT_HANDLE object, enum kf_wrap_aim aim,
                        char lost[KF_LOST_MAX], struct kf_error *err)
{
    struct readback back = {format, object, false, kf_wrap_is_whole(aim), lost};
    struct kf_row rows[KF_ROWS_MAX];
    struct kf_attributes *got = NULL;
    size_t count, i;
    kf_rv rv;

    count = kf_rows(item->object_class,
                    kf_attributes_ulong(item->want, CKA_KEY_TYPE, UINT64_MAX), rows);
    rv = kf_object_read(format->session, object, &got, NULL, NULL, err);
    if (!rv && kf_wrap_is_token(aim) && !kf_attributes_bool(got, CKA_TOKEN, false))
        rv = differs(err, CKA_TOKEN, "is false: it would go with the session");
    if (!rv)
        rv = compare_key(format, item, object, &back.same_key, err);
    if (!rv && !back.same_key)
        rv = compare_length(item, got, err);
    if (!rv)
        rv = compare_value(format, item, object, err);
    for (i = 0; !rv && i < item->want->count; i++) {
        const struct kf_attribute *want = &item->want->at[i];

        rv = judge(&back, want, kf_attributes_get(got, want->type),
                   kf_wrap_roles(rows, count, want->type), err);
    }
    if (!rv)
        judge_private(&back, item);
    kf_attributes_free(got);
    return rv;
}
