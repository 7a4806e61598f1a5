/* SPDX-License-Identifier: MIT */
#include "clone/wrap_plant.h"

#include "clone/crypto.h"
#include "clone/curve.h"
#include "clone/material.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

/* PKCS#11 v3.0; p11-kit 0.24 has no name for it. Every object has its own. */
#define KF_CKA_UNIQUE_ID 0x4UL

/* SoftHSM takes no more in C_UnwrapKey; no object of the standard has more to send. */
enum { UNWRAP_ENTRIES_MAX = 28, PROBE_ID = 16 };

struct kf_wrap_item {
    struct kf_attributes *want;   /* what the clone is to be, without key bytes */
    struct kf_attributes *hidden; /* key bytes or a private value; NULL: none */
    unsigned char *wrapped;       /* the body; NULL: none */
    size_t wrapped_len;
    enum kf_body body;
    CK_OBJECT_CLASS object_class;
    bool direct;                  /* made on the token at once, not by a copy */
    bool create;                  /* C_UnwrapKey will not: from `hidden`, by C_CreateObject */
    CK_OBJECT_HANDLE staged;      /* the session object */
};

static struct kf_session *session_of(const struct kf_wrap_plant *plant)
{
    return plant->format->session;
}

static bool is_key_class(CK_OBJECT_CLASS object_class)
{
    return object_class == CKO_PRIVATE_KEY || object_class == CKO_SECRET_KEY;
}

static bool unwraps(const struct kf_wrap_item *item)
{
    return item->wrapped && !item->create;
}

static void destroy(const struct kf_wrap_plant *plant, CK_OBJECT_HANDLE *object)
{
    if (*object != CK_INVALID_HANDLE)
        kf_object_destroy(session_of(plant), *object, NULL);
    *object = CK_INVALID_HANDLE;
}

static void item_clear(const struct kf_wrap_plant *plant, struct kf_wrap_item *item)
{
    destroy(plant, &item->staged);
    kf_attributes_free(item->want);
    kf_attributes_free(item->hidden);
    if (item->wrapped)
        OPENSSL_clear_free(item->wrapped, item->wrapped_len);
    *item = (struct kf_wrap_item){0};
}

void kf_wrap_abort(struct kf_wrap_plant *plant)
{
    size_t i;

    for (i = 0; i < plant->count; i++)
        item_clear(plant, &plant->items[i]);
    plant->count = 0;
}

void kf_wrap_plant_close(struct kf_wrap_plant *plant)
{
    kf_wrap_abort(plant);
    free(plant->items);
    free(plant->there);
    plant->items = NULL;
    plant->there = NULL;
    plant->cap = plant->there_count = plant->there_cap = 0;
}

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

/* ---- what the clone is to be ---- */

/* What a key of the class may do; never left to the module's default. */
static const CK_ATTRIBUTE_TYPE secret_uses[] = {CKA_ENCRYPT, CKA_DECRYPT, CKA_SIGN,
                                                CKA_VERIFY,  CKA_WRAP,    CKA_UNWRAP,
                                                CKA_DERIVE};
static const CK_ATTRIBUTE_TYPE private_uses[] = {CKA_DECRYPT, CKA_SIGN, CKA_SIGN_RECOVER,
                                                 CKA_UNWRAP, CKA_DERIVE};
static const CK_ATTRIBUTE_TYPE public_uses[] = {CKA_ENCRYPT, CKA_VERIFY, CKA_VERIFY_RECOVER,
                                                CKA_WRAP, CKA_DERIVE};

#define USES(list) list, sizeof list / sizeof list[0]
static const struct uses {
    CK_OBJECT_CLASS object_class;
    const CK_ATTRIBUTE_TYPE *at;
    size_t count;
} uses[] = {
    {CKO_SECRET_KEY, USES(secret_uses)},
    {CKO_PRIVATE_KEY, USES(private_uses)},
    {CKO_PUBLIC_KEY, USES(public_uses)},
};

static bool set_default(struct kf_attributes *want, uint64_t type, bool value)
{
    return kf_attributes_get(want, type) || kf_attributes_set_bool(want, type, value);
}

static bool fill_uses(struct kf_attributes *want, CK_OBJECT_CLASS object_class)
{
    bool good = true;
    size_t i, j;

    for (i = 0; i < sizeof uses / sizeof uses[0]; i++)
        for (j = 0; uses[i].object_class == object_class && j < uses[i].count; j++)
            good = good && set_default(want, uses[i].at[j], false);
    if (!is_key_class(object_class))
        return good;
    return good && set_default(want, CKA_PRIVATE, true) &&
           set_default(want, CKA_SENSITIVE, true) &&
           set_default(want, CKA_EXTRACTABLE, false);
}

/* The ways in which nobody's policy makes a clone: PKCS#11 lets C_CopyObject change
 * these in the other direction only (v2.40, 5.7 and the footnotes of 4.8, 4.9). */
static const struct {
    uint64_t type;
    bool from;
} one_way[] = {
    {CKA_SENSITIVE, true},
    {CKA_EXTRACTABLE, false},
    {CKA_WRAP_WITH_TRUSTED, true},
};

static kf_rv refuse_widening(const struct kf_attributes *open,
                             const struct kf_attributes *changes, struct kf_error *err)
{
    char text[64];
    size_t i;

    for (i = 0; i < sizeof one_way / sizeof one_way[0]; i++) {
        bool from = one_way[i].from;

        if (kf_attributes_bool(open, one_way[i].type, !from) == from &&
            kf_attributes_bool(changes, one_way[i].type, from) != from)
            return kf_fail(err, KFR_REFUSED, NULL, "leave it as it is on the original",
                           "a clone may not be less protected than its original: %s",
                           kf_name_text(KF_CKA, one_way[i].type, text, sizeof text));
    }
    return KFR_OK;
}

static bool overlay(struct kf_attributes *want, const struct kf_attributes *changes)
{
    size_t i;

    for (i = 0; changes && i < changes->count; i++)
        if (!kf_attributes_set(want, changes->at[i].type, changes->at[i].kind,
                               changes->at[i].value, changes->at[i].len))
            return false;
    return true;
}

static kf_rv item_fill(struct kf_wrap_item *item, const struct kf_sealed *sealed,
                       const struct kf_attributes *changes, struct kf_error *err)
{
    kf_rv rv = changes ? refuse_widening(sealed->open, changes, err) : KFR_OK;

    if (rv)
        return rv;
    rv = KFR_MEMORY;
    item->object_class = kf_attributes_ulong(sealed->open, CKA_CLASS, UINT64_MAX);
    item->body = sealed->body;
    item->want = kf_attributes_dup(sealed->open);
    if (!item->want || !overlay(item->want, changes) ||
        !fill_uses(item->want, item->object_class))
        goto done;
    if (sealed->hidden) {
        item->hidden = kf_attributes_dup(sealed->hidden);
        if (!item->hidden)
            goto done;
    }
    if (sealed->wrapped_len) {
        item->wrapped = OPENSSL_memdup(sealed->wrapped, sealed->wrapped_len);
        if (!item->wrapped)
            goto done;
        item->wrapped_len = sealed->wrapped_len;
    }
    rv = KFR_OK;
done:
    return rv ? kf_fail(err, rv, NULL, NULL, "no memory for a staged object") : rv;
}

/* ---- templates ---- */

/* FULL, or what a module must take: identity, rights and the numbers of a key. */
enum level { LEVEL_FULL, LEVEL_NEEDED, LEVELS };

static unsigned roles_of(const struct kf_row *rows, size_t count, uint64_t type)
{
    size_t i;

    for (i = 0; i < count; i++)
        if (rows[i].type == type)
            return rows[i].roles;
    return 0;
}

/* Attributes whose default (PKCS#11 v2.40, 4.1.2) is true: sent when false only, and
 * only to the final object (SoftHSM copies none that has them so). */
static bool is_true_by_default(uint64_t type)
{
    return type == CKA_MODIFIABLE || type == CKA_COPYABLE || type == CKA_DESTROYABLE;
}

/* C_UnwrapKey takes these from the body, and refuses them. */
static bool is_number(uint64_t type)
{
    static const uint64_t numbers[] = {
        CKA_MODULUS, CKA_PUBLIC_EXPONENT, CKA_PRIME, CKA_SUBPRIME, CKA_BASE,
        CKA_EC_PARAMS, CKA_EC_POINT, CKA_VALUE,
    };
    size_t i;

    for (i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (numbers[i] == type)
            return true;
    return false;
}

static bool is_label(uint64_t type)
{
    return type == CKA_CLASS || type == CKA_KEY_TYPE || type == CKA_CERTIFICATE_TYPE ||
           type == CKA_LABEL || type == CKA_ID || type == CKA_SUBJECT ||
           type == CKA_APPLICATION || type == CKA_OBJECT_ID;
}

static bool is_sent(const struct kf_wrap_item *item, const struct kf_attribute *attribute,
                    unsigned roles, enum level level, bool token)
{
    uint64_t type = attribute->type;

    if (type == CKA_TOKEN || type >= CKA_VENDOR_DEFINED || (roles & KF_ROLE_COMPUTED))
        return false;
    if (is_true_by_default(type))
        return token && attribute->len == 1 && !attribute->value[0];
    if (type == CKA_TRUSTED && attribute->len == 1 && attribute->value[0])
        return false; /* only the SO may say so */
    if (unwraps(item) && (is_number(type) || (roles & KF_ROLE_KEY)))
        return false;
    if (!attribute->len)
        return attribute->kind == KF_BYTES && level == LEVEL_FULL &&
               item->object_class == CKO_CERTIFICATE && is_label(type);
    return level == LEVEL_FULL || is_label(type) || is_number(type) ||
           (roles & (KF_ROLE_RIGHT | KF_ROLE_IDENTITY)) ||
           item->object_class == CKO_CERTIFICATE;
}

/* Drops what is least needed until C_UnwrapKey takes the number; the read-back puts it
 * in by C_SetAttributeValue, or names it. */
static void shorten(struct kf_attributes *set, const struct kf_row *rows, size_t count)
{
    size_t i = set->count;

    while (i-- && set->count > UNWRAP_ENTRIES_MAX) {
        uint64_t type = set->at[i].type;

        if (!is_label(type) && type != CKA_TOKEN &&
            !(roles_of(rows, count, type) & KF_ROLE_RIGHT))
            kf_attributes_remove(set, type);
    }
}

static kf_rv build_set(const struct kf_wrap_item *item, enum level level, bool token,
                       struct kf_attributes **out)
{
    struct kf_row rows[KF_ROWS_MAX];
    size_t count, i;
    struct kf_attributes *set = kf_attributes_new(true);
    bool good = set && kf_attributes_set_bool(set, CKA_TOKEN, token);

    count = kf_rows(item->object_class,
                    kf_attributes_ulong(item->want, CKA_KEY_TYPE, UINT64_MAX), rows);
    for (i = 0; good && i < item->want->count; i++) {
        const struct kf_attribute *at = &item->want->at[i];

        if (is_sent(item, at, roles_of(rows, count, at->type), level, token))
            good = kf_attributes_set(set, at->type, at->kind, at->value, at->len);
    }
    for (i = 0; good && item->hidden && !unwraps(item) && i < item->hidden->count; i++) {
        const struct kf_attribute *at = &item->hidden->at[i];

        good = kf_attributes_set(set, at->type, at->kind, at->value, at->len);
    }
    if (good && unwraps(item))
        shorten(set, rows, count);
    if (!good) {
        kf_attributes_free(set);
        set = NULL;
    }
    *out = set;
    return good ? KFR_OK : KFR_MEMORY;
}

/* Refusals of something in a template, after which another template may do. */
static bool is_about_template(kf_rv rv)
{
    return rv == CKR_ATTRIBUTE_READ_ONLY || rv == CKR_ATTRIBUTE_TYPE_INVALID ||
           rv == CKR_ATTRIBUTE_VALUE_INVALID || rv == CKR_TEMPLATE_INCONSISTENT ||
           rv == CKR_GENERAL_ERROR || rv == CKR_FUNCTION_FAILED;
}

static kf_rv make_at(const struct kf_wrap_plant *plant, const struct kf_wrap_item *item,
                     enum level level, bool token, CK_OBJECT_HANDLE *out,
                     struct kf_error *err)
{
    struct kf_attributes *set = NULL;
    kf_rv rv = build_set(item, level, token, &set);

    *out = CK_INVALID_HANDLE;
    if (rv)
        return kf_fail(err, rv, NULL, NULL, "no memory for a template");
    rv = unwraps(item)
             ? kf_wrap_in(plant->format, item->wrapped, item->wrapped_len, set, out, err)
             : kf_object_create(session_of(plant), set, out, err);
    kf_attributes_free(set);
    return rv;
}

/* The key bytes out of the body, where the domain's keys are at hand: for types that a
 * module has and yet does not unwrap (Ed25519 on SoftHSM). */
static bool open_body(const struct kf_wrap_plant *plant, struct kf_wrap_item *item)
{
    struct kf_attributes *key = NULL;
    struct kf_secret *plain = NULL;

    if (!item->hidden &&
        !kf_domain_unwrap_bytes(plant->format->domain, item->wrapped, item->wrapped_len,
                                &plain, NULL) &&
        !kf_material_attributes(item->want, plain->data, plain->len, &key, NULL))
        item->hidden = key;
    kf_secret_free(plain);
    item->create = item->hidden != NULL;
    return item->create;
}

/* With everything in the template, else with what is needed, else by the other call. The
 * first refusal is the one that is told. */
static kf_rv make(const struct kf_wrap_plant *plant, struct kf_wrap_item *item, bool token,
                  CK_OBJECT_HANDLE *out, struct kf_error *err)
{
    kf_rv first = make_at(plant, item, LEVEL_FULL, token, out, err), rv = first;
    bool again = is_about_template(first) || first == CKR_KEY_TYPE_INCONSISTENT;

    if (again)
        rv = make_at(plant, item, LEVEL_NEEDED, token, out, NULL);
    if (rv && again && unwraps(item) && open_body(plant, item)) {
        rv = make_at(plant, item, LEVEL_FULL, token, out, NULL);
        if (is_about_template(rv))
            rv = make_at(plant, item, LEVEL_NEEDED, token, out, NULL);
        item->create = !rv;
    }
    return rv ? first : KFR_OK;
}

/* ---- staging ---- */

static bool room_for_one(struct kf_wrap_plant *plant)
{
    size_t cap = plant->cap ? plant->cap * 2 : 16;
    struct kf_wrap_item *items;

    if (plant->count < plant->cap)
        return true;
    if (cap > SIZE_MAX / sizeof *items)
        return false;
    items = realloc(plant->items, cap * sizeof *items);
    if (!items)
        return false;
    plant->items = items;
    plant->cap = cap;
    return true;
}

static kf_rv check_kind(const struct kf_wrap_item *item, struct kf_error *err)
{
    if (is_key_class(item->object_class) && !item->wrapped && !item->hidden)
        return kf_fail(err, KFR_DAMAGED, NULL, NULL, "a sealed key without key bytes");
    if (!is_key_class(item->object_class) && item->wrapped)
        return kf_fail(err, KFR_DAMAGED, NULL, NULL, "a sealed body on what is no key");
    return KFR_OK;
}

kf_rv kf_wrap_stage(struct kf_wrap_plant *plant, const struct kf_sealed *sealed,
                    const struct kf_attributes *changes, struct kf_error *err)
{
    struct kf_wrap_item item = {0};
    kf_rv rv;

    if (!kf_session_is_writable(session_of(plant)))
        return kf_fail(err, CKR_SESSION_READ_ONLY, NULL, NULL,
                       "the target's session is read-only");
    if (!room_for_one(plant))
        return kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for a staged object");
    rv = item_fill(&item, sealed, changes, err);
    if (!rv)
        rv = check_kind(&item, err);
    if (!rv && item.wrapped)
        rv = kf_wrap_in_ready(plant->format, err);
    if (rv)
        goto done;
    item.direct = !kf_attributes_bool(item.want, CKA_COPYABLE, true);
    rv = make(plant, &item, false, &item.staged, err);
    if (!rv) {
        plant->takes_session_objects = true;
    } else if (!plant->takes_session_objects && is_about_template(rv)) {
        /* Perhaps it has no session objects of this kind: the commit will tell. */
        item.direct = true;
        rv = KFR_OK;
    }
    if (!rv) {
        plant->items[plant->count++] = item;
        item = (struct kf_wrap_item){0};
    }
done:
    item_clear(plant, &item);
    return rv;
}

/* ---- reading back ---- */

/* What restricts when it is true; every other boolean of KF_ROLE_RIGHT permits. */
static bool restricts(uint64_t type)
{
    return type == CKA_PRIVATE || type == CKA_SENSITIVE || type == CKA_WRAP_WITH_TRUSTED ||
           type == CKA_ALWAYS_AUTHENTICATE;
}

static bool has_mechanism(const struct kf_attribute *set, const unsigned char *mechanism)
{
    size_t i;

    for (i = 0; i + 8 <= set->len; i += 8)
        if (!memcmp(set->value + i, mechanism, 8))
            return true;
    return false;
}

/* Nothing wanted: anything goes, says an empty list of mechanisms or template. */
static bool more_in_list(const struct kf_attribute *want, const struct kf_attribute *got)
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
    has = got ? got->len && got->value[0] : is_true_by_default(want->type);
    return restricts(want->type) ? wanted && !has : has && !wanted;
}

static bool same(const struct kf_attribute *want, const struct kf_attribute *got)
{
    if (!got)
        return !want->len;
    if (kf_attribute_equal(want, got))
        return true;
    if (want->kind != got->kind)
        return !want->len && !got->len;
    if (want->type == CKA_EC_PARAMS)
        return kf_curve_same(want->value, want->len, got->value, got->len);
    return want->kind == KF_BYTES && want->type != CKA_VALUE && is_number(want->type) &&
           kf_wrap_same_number(want, got);
}

static kf_rv differs(struct kf_error *err, uint64_t type, const char *how)
{
    char text[64];

    return kf_fail(err, KFR_DIFFERS, NULL, NULL, "the clone was undone: its %s %s",
                   kf_name_text(KF_CKA, type, text, sizeof text), how);
}

/* One attempt by C_SetAttributeValue. */
static bool correct(const struct kf_wrap_plant *plant, CK_OBJECT_HANDLE object,
                    const struct kf_attribute *want)
{
    struct kf_attributes *set = kf_attributes_new(false), *got = kf_attributes_new(false);
    const struct kf_attribute *now = NULL;
    bool good;

    good = set && got &&
           kf_attributes_set(set, want->type, want->kind, want->value, want->len) &&
           !kf_object_change(session_of(plant), object, set, NULL) &&
           !kf_object_read_one(session_of(plant), object, want->type, got, NULL);
    if (good)
        now = kf_attributes_get(got, want->type);
    good = good && now && same(want, now);
    kf_attributes_free(set);
    kf_attributes_free(got);
    return good;
}

struct readback {
    const struct kf_wrap_plant *plant;
    CK_OBJECT_HANDLE object;
    bool same_key; /* proved by a digest: a check value need not agree */
    bool trial;    /* made without MODIFIABLE and DESTROYABLE false */
    char *lost;
};

static kf_rv judge(const struct readback *back, const struct kf_attribute *want,
                   const struct kf_attribute *got, unsigned roles, struct kf_error *err)
{
    bool both = got && got->len && want->len;

    if (same(want, got) || want->type == KF_CKA_UNIQUE_ID || want->type == CKA_TOKEN ||
        (back->trial && is_true_by_default(want->type)))
        return KFR_OK;
    if (want->type == CKA_CLASS || want->type == CKA_KEY_TYPE ||
        (want->type == CKA_EC_PARAMS && both))
        return differs(err, want->type, "is another");
    if ((roles & KF_ROLE_IDENTITY) && both && !back->same_key)
        return differs(err, want->type, "is another: it is not the same key or value");
    if (!(roles & (KF_ROLE_COMPUTED | KF_ROLE_IDENTITY)) &&
        want->type < CKA_VENDOR_DEFINED && !is_true_by_default(want->type) &&
        want->len && correct(back->plant, back->object, want))
        return KFR_OK;
    if ((roles & KF_ROLE_RIGHT) && has_more(want, got))
        return differs(err, want->type, "would give it more rights than the original has");
    kf_wrap_lose(back->lost, want->type);
    return KFR_OK;
}

/* VALUE_LEN is 0 on keys that SoftHSM unwrapped: then it tells nothing. */
static kf_rv compare_length(const struct kf_wrap_item *item, const struct kf_attributes *got,
                            struct kf_error *err)
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
static kf_rv plain_body(const struct kf_wrap_plant *plant, const struct kf_wrap_item *item,
                        struct kf_secret **out, struct kf_error *err)
{
    const struct kf_attribute *value = NULL;

    *out = NULL;
    if (item->wrapped && kf_domain_is_host(plant->format->domain))
        return kf_domain_unwrap_bytes(plant->format->domain, item->wrapped,
                                      item->wrapped_len, out, err);
    if (!item->wrapped && item->hidden && item->object_class == CKO_SECRET_KEY)
        value = kf_attributes_get(item->hidden, CKA_VALUE);
    if (!value)
        return KFR_OK;
    *out = kf_secret_from(value->value, value->len);
    return *out ? KFR_OK : kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for a check");
}

static kf_rv compare_secret(const struct kf_wrap_plant *plant, CK_OBJECT_HANDLE object,
                            const struct kf_secret *plain, bool *proved,
                            struct kf_error *err)
{
    uint8_t theirs[KF_MAC_BYTES], ours[KF_CRYPTO_HASH];

    if (kf_wrap_token_digest(session_of(plant), object, theirs))
        return KFR_OK; /* the module does not say */
    if (!kf_crypto_sha256(plain->data, plain->len, ours))
        return kf_fail(err, KFR_CRYPTO, NULL, NULL, "SHA-256 failed");
    *proved = !CRYPTO_memcmp(theirs, ours, sizeof ours);
    return *proved ? KFR_OK
                   : kf_fail(err, KFR_DIFFERS, "C_DigestKey", NULL,
                             "the clone was undone: its key bytes are not the original's");
}

static bool same_key_attributes(const struct kf_attributes *a, const struct kf_attributes *b)
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
    return kf_fail(err, KFR_DIFFERS, call, NULL,
                   "the clone was undone: its numbers are not the original's");
}

/* A private key that may leave goes out again, and is compared number by number. */
static kf_rv compare_rewrapped(const struct kf_wrap_plant *plant,
                               const struct kf_wrap_item *item, CK_OBJECT_HANDLE object,
                               const struct kf_attributes *ours, bool *proved,
                               struct kf_error *err)
{
    struct kf_attributes *theirs = NULL;
    struct kf_secret *again = NULL, *body = NULL;
    kf_rv rv = KFR_OK;

    if (!kf_attributes_bool(item->want, CKA_EXTRACTABLE, false) ||
        kf_attributes_bool(item->want, CKA_WRAP_WITH_TRUSTED, false) ||
        kf_wrap_out(plant->format, object, &again, NULL))
        return KFR_OK; /* not to be had */
    rv = kf_domain_unwrap_bytes(plant->format->domain, again->data, again->len, &body, err);
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
static kf_rv compare_digest(const struct kf_wrap_plant *plant, CK_OBJECT_HANDLE object,
                            const struct kf_attributes *ours, bool *proved,
                            struct kf_error *err)
{
    const struct kf_attribute *value = kf_attributes_get(ours, CKA_VALUE);
    uint8_t theirs[KF_MAC_BYTES], digest[KF_CRYPTO_HASH];
    size_t at;

    if (!value || kf_wrap_token_digest(session_of(plant), object, theirs))
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

static kf_rv compare_private(const struct kf_wrap_plant *plant,
                             const struct kf_wrap_item *item, CK_OBJECT_HANDLE object,
                             const struct kf_secret *plain, bool *proved,
                             struct kf_error *err)
{
    struct kf_attributes *read = NULL;
    const struct kf_attributes *ours = item->hidden;
    kf_rv rv = KFR_OK;

    if (plain && !kf_material_attributes(item->want, plain->data, plain->len, &read, NULL))
        ours = read;
    if (read)
        rv = compare_rewrapped(plant, item, object, read, proved, err);
    if (!rv && ours && !*proved)
        rv = compare_digest(plant, object, ours, proved, err);
    kf_attributes_free(read);
    return rv;
}

static kf_rv compare_key(const struct kf_wrap_plant *plant, const struct kf_wrap_item *item,
                         CK_OBJECT_HANDLE object, bool *proved, struct kf_error *err)
{
    struct kf_secret *plain = NULL;
    kf_rv rv;

    *proved = false;
    if (!is_key_class(item->object_class))
        return KFR_OK;
    rv = plain_body(plant, item, &plain, err);
    if (!rv && item->object_class == CKO_PRIVATE_KEY)
        rv = compare_private(plant, item, object, plain, proved, err);
    else if (!rv && plain)
        rv = compare_secret(plant, object, plain, proved, err);
    kf_secret_free(plain);
    return rv;
}

/* A value that travelled hidden and is no key: read and compared. */
static kf_rv compare_value(const struct kf_wrap_plant *plant,
                           const struct kf_wrap_item *item, CK_OBJECT_HANDLE object,
                           struct kf_error *err)
{
    struct kf_attributes *got = NULL;
    const struct kf_attribute *is;
    kf_rv rv = KFR_OK;
    size_t i;

    if (is_key_class(item->object_class) || !item->hidden)
        return KFR_OK;
    got = kf_attributes_new(true);
    if (!got)
        return kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for a check");
    for (i = 0; !rv && i < item->hidden->count; i++) {
        const struct kf_attribute *want = &item->hidden->at[i];

        rv = kf_object_read_one(session_of(plant), object, want->type, got, err);
        is = rv ? NULL : kf_attributes_get(got, want->type);
        if (!rv && (!is || !kf_attribute_equal(want, is)))
            rv = differs(err, want->type, "is another");
    }
    kf_attributes_free(got);
    return rv;
}

static kf_rv read_back(const struct kf_wrap_plant *plant, const struct kf_wrap_item *item,
                       CK_OBJECT_HANDLE object, bool trial, char lost[KF_LOST_MAX],
                       struct kf_error *err)
{
    struct readback back = {plant, object, false, trial, lost};
    struct kf_row rows[KF_ROWS_MAX];
    struct kf_attributes *got = NULL;
    size_t count, i;
    kf_rv rv;

    count = kf_rows(item->object_class,
                    kf_attributes_ulong(item->want, CKA_KEY_TYPE, UINT64_MAX), rows);
    rv = kf_object_read(session_of(plant), object, &got, NULL, NULL, err);
    if (!rv && !kf_attributes_bool(got, CKA_TOKEN, false))
        rv = differs(err, CKA_TOKEN, "is false: it would go with the session");
    if (!rv)
        rv = compare_key(plant, item, object, &back.same_key, err);
    if (!rv && !back.same_key)
        rv = compare_length(item, got, err);
    if (!rv)
        rv = compare_value(plant, item, object, err);
    for (i = 0; !rv && i < item->want->count; i++) {
        const struct kf_attribute *want = &item->want->at[i];

        rv = judge(&back, want, kf_attributes_get(got, want->type),
                   roles_of(rows, count, want->type), err);
    }
    kf_attributes_free(got);
    return rv;
}

/* ---- undoing ---- */

/* Removes an object and makes sure of it: SoftHSM answers CKR_FUNCTION_FAILED to the
 * removal of a half-made one, and removes it. */
static bool undo(const struct kf_wrap_plant *plant, CK_OBJECT_HANDLE *object)
{
    struct kf_attributes *spare;
    bool gone = *object == CK_INVALID_HANDLE ||
                !kf_object_destroy(session_of(plant), *object, NULL);

    if (!gone) {
        spare = kf_attributes_new(false);
        gone = spare && kf_object_read_one(session_of(plant), *object, CKA_CLASS, spare,
                                           NULL) == KFR_VANISHED;
        kf_attributes_free(spare);
    }
    *object = CK_INVALID_HANDLE;
    return gone;
}

static void say_left_behind(struct kf_error *err)
{
    size_t used = strlen(err->what);
    static const char text[] = "; WHAT WAS MADE OF IT COULD NOT BE REMOVED";

    if (used + sizeof text <= sizeof err->what)
        memcpy(err->what + used, text, sizeof text);
}

static int by_handle(const void *a, const void *b)
{
    CK_OBJECT_HANDLE x = *(const CK_OBJECT_HANDLE *)a, y = *(const CK_OBJECT_HANDLE *)b;

    return x < y ? -1 : x > y;
}

static bool was_there(const struct kf_wrap_plant *plant, CK_OBJECT_HANDLE object)
{
    return plant->there_count && bsearch(&object, plant->there, plant->there_count,
                                         sizeof object, by_handle);
}

static kf_rv list_there(struct kf_wrap_plant *plant, struct kf_error *err)
{
    struct kf_attributes *filter = NULL;
    kf_rv rv = KFR_MEMORY;

    if (plant->there_known)
        return KFR_OK;
    filter = kf_attributes_new(false);
    if (filter && kf_attributes_set_bool(filter, CKA_TOKEN, true))
        rv = kf_objects_find(session_of(plant), filter, &plant->there, &plant->there_count,
                             err);
    else
        kf_fail(err, rv, NULL, NULL, "no memory for a list of objects");
    kf_attributes_free(filter);
    if (rv)
        return rv;
    plant->there_cap = plant->there_count;
    plant->there_known = true;
    if (plant->there_count)
        qsort(plant->there, plant->there_count, sizeof *plant->there, by_handle);
    return KFR_OK;
}

/* False: no memory, and the list is as before. */
static bool add_there(struct kf_wrap_plant *plant, CK_OBJECT_HANDLE object)
{
    size_t cap = plant->there_cap ? plant->there_cap * 2 : 64, at = plant->there_count;
    CK_OBJECT_HANDLE *there;

    if (plant->there_count == plant->there_cap) {
        there = cap < SIZE_MAX / sizeof *there
                    ? realloc(plant->there, cap * sizeof *there)
                    : NULL;
        if (!there)
            return false;
        plant->there = there;
        plant->there_cap = cap;
    }
    while (at && plant->there[at - 1] > object) {
        plant->there[at] = plant->there[at - 1];
        at--;
    }
    plant->there[at] = object;
    plant->there_count++;
    return true;
}

/* Modules answer with a failure and have made the object all the same. One that was not
 * there before, of this class, label and CKA_ID, is removed. False: it would not go. */
static bool sweep(const struct kf_wrap_plant *plant, const struct kf_wrap_item *item)
{
    static const uint64_t marks[] = {CKA_LABEL, CKA_ID};
    struct kf_attributes *filter = kf_attributes_new(false);
    CK_OBJECT_HANDLE *found = NULL;
    size_t count = 0, i;
    bool good;

    good = filter && kf_attributes_set_bool(filter, CKA_TOKEN, true) &&
           kf_attributes_set_ulong(filter, CKA_CLASS, item->object_class);
    for (i = 0; good && i < sizeof marks / sizeof marks[0]; i++) {
        const struct kf_attribute *mark = kf_attributes_get(item->want, marks[i]);

        if (mark)
            good = kf_attributes_set(filter, mark->type, mark->kind, mark->value, mark->len);
    }
    good = good && !kf_objects_find(session_of(plant), filter, &found, &count, NULL);
    for (i = 0; good && i < count; i++)
        if (!was_there(plant, found[i]))
            good = undo(plant, &found[i]);
    free(found);
    kf_attributes_free(filter);
    return good;
}

/* Codes that say that nothing was done. */
static bool is_clean_refusal(kf_rv rv)
{
    static const kf_rv codes[] = {
        CKR_FUNCTION_NOT_SUPPORTED,  CKR_ATTRIBUTE_READ_ONLY,
        CKR_ATTRIBUTE_TYPE_INVALID,  CKR_ATTRIBUTE_VALUE_INVALID,
        CKR_TEMPLATE_INCONSISTENT,   CKR_TEMPLATE_INCOMPLETE,
        CKR_ACTION_PROHIBITED,       CKR_ARGUMENTS_BAD,
        CKR_SESSION_READ_ONLY,       CKR_MECHANISM_INVALID,
        CKR_KEY_TYPE_INCONSISTENT,   KFR_MEMORY,
        KFR_CLOSED,                  KFR_NO_ENGINE,
    };
    size_t i;

    for (i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (codes[i] == rv)
            return true;
    return false;
}

/* ---- planting ---- */

static bool trial_pair(const struct kf_wrap_plant *plant, CK_OBJECT_HANDLE keys[2])
{
    static const char label[] = "keyferry trial";
    CK_MECHANISM mechanism = {CKM_AES_KEY_GEN, NULL, 0};
    struct kf_attributes *set = kf_attributes_new(false);
    struct kf_secret *id = NULL;
    bool good;

    good = set && !kf_session_random(session_of(plant), PROBE_ID, &id, NULL) &&
           kf_attributes_set_bool(set, CKA_TOKEN, true) &&
           kf_attributes_set_bool(set, CKA_PRIVATE, true) &&
           kf_attributes_set_bool(set, CKA_SENSITIVE, true) &&
           kf_attributes_set_bool(set, CKA_EXTRACTABLE, false) &&
           kf_attributes_set_ulong(set, CKA_VALUE_LEN, 16) &&
           kf_attributes_set(set, CKA_ID, KF_BYTES, id->data, id->len) &&
           kf_attributes_set(set, CKA_LABEL, KF_BYTES, label, sizeof label - 1) &&
           !kf_object_generate(session_of(plant), &mechanism, set, &keys[0], NULL) &&
           !kf_object_generate(session_of(plant), &mechanism, set, &keys[1], NULL);
    kf_attributes_free(set);
    kf_secret_free(id);
    return good;
}

/* Says whether this module lets a new key take the place of an old one of the same class
 * and CKA_ID (NSS does, and answers OK): two keys of our own are the trial. */
static kf_rv learn_overwrites(struct kf_wrap_plant *plant, struct kf_error *err)
{
    CK_OBJECT_HANDLE keys[2] = {CK_INVALID_HANDLE, CK_INVALID_HANDLE};
    bool good = trial_pair(plant, keys), gone;

    plant->overwrites = good && keys[0] != keys[1] ? KF_OVERWRITES_NEVER
                                                   : KF_OVERWRITES_PERHAPS;
    if (keys[1] == keys[0])
        keys[1] = CK_INVALID_HANDLE;
    gone = undo(plant, &keys[0]);
    gone = undo(plant, &keys[1]) && gone;
    return gone ? KFR_OK
                : kf_fail(err, CKR_FUNCTION_FAILED, "C_DestroyObject",
                          "remove it by hand; a token that removes nothing is no target",
                          "the target does not remove what was made on it: a key labelled "
                          "\"keyferry trial\" is left behind");
}

static kf_rv refuse_overwrite(struct kf_wrap_plant *plant, const struct kf_wrap_item *item,
                              struct kf_error *err)
{
    const struct kf_attribute *id = kf_attributes_get(item->want, CKA_ID);
    struct kf_attributes *filter = NULL;
    CK_OBJECT_HANDLE *found = NULL;
    size_t count = 0;
    kf_rv rv = KFR_MEMORY;

    if (!is_key_class(item->object_class) || !id || !id->len)
        return KFR_OK;
    if (plant->overwrites == KF_OVERWRITES_UNKNOWN)
        rv = learn_overwrites(plant, err);
    else
        rv = KFR_OK;
    if (rv || plant->overwrites == KF_OVERWRITES_NEVER)
        return rv;
    rv = KFR_MEMORY;
    filter = kf_attributes_new(false);
    if (filter && kf_attributes_set_bool(filter, CKA_TOKEN, true) &&
        kf_attributes_set_ulong(filter, CKA_CLASS, item->object_class) &&
        kf_attributes_set(filter, CKA_ID, KF_BYTES, id->value, id->len))
        rv = kf_objects_find(session_of(plant), filter, &found, &count, err);
    else
        kf_fail(err, rv, NULL, NULL, "no memory for a search");
    if (!rv && count)
        rv = kf_fail(err, KFR_CONFLICT, NULL, "give the clone another CKA_ID",
                     "the target has a key of this class and CKA_ID, which its module "
                     "might overwrite");
    kf_attributes_free(filter);
    free(found);
    return rv;
}

/* The session object, copied to the token; MODIFIABLE and DESTROYABLE false can be said
 * in the copy's template only. */
static kf_rv copy(const struct kf_wrap_plant *plant, const struct kf_wrap_item *item,
                  bool trial, CK_OBJECT_HANDLE *out)
{
    struct kf_attributes *set = kf_attributes_new(false);
    kf_rv rv = KFR_MEMORY;
    bool good;

    good = set && kf_attributes_set_bool(set, CKA_TOKEN, true);
    if (good && !trial && !kf_attributes_bool(item->want, CKA_MODIFIABLE, true))
        good = kf_attributes_set_bool(set, CKA_MODIFIABLE, false);
    if (good && !trial && !kf_attributes_bool(item->want, CKA_DESTROYABLE, true))
        good = kf_attributes_set_bool(set, CKA_DESTROYABLE, false);
    if (good)
        rv = kf_object_copy(session_of(plant), item->staged, set, out, NULL);
    kf_attributes_free(set);
    if (rv)
        *out = CK_INVALID_HANDLE;
    return rv;
}

/* The object on the token, by copy or at once. After a failure nothing is left of it, or
 * *left says that it may be. */
static kf_rv put_on_token(struct kf_wrap_plant *plant, struct kf_wrap_item *item, bool trial,
                          struct kf_planted *out, bool *left)
{
    kf_rv rv = KFR_NOT_FOUND;

    if (item->staged != CK_INVALID_HANDLE && (trial || !item->direct)) {
        rv = copy(plant, item, trial, &out->handle);
        if (rv && !is_clean_refusal(rv) && !sweep(plant, item))
            *left = true;
    }
    if (!rv || trial || *left)
        return rv;
    rv = make(plant, item, true, &out->handle, &out->err);
    if (rv)
        out->handle = CK_INVALID_HANDLE;
    if (rv && !is_clean_refusal(rv) && !sweep(plant, item))
        *left = true;
    return rv;
}

/* One clone on the token, read back. A trial is the same without the flags that would
 * forbid to undo it. */
static kf_rv plant_one(struct kf_wrap_plant *plant, struct kf_wrap_item *item, bool trial,
                       struct kf_planted *out)
{
    bool left = false;
    kf_rv rv;

    out->handle = CK_INVALID_HANDLE;
    out->lost[0] = '\0';
    rv = list_there(plant, &out->err);
    if (!rv)
        rv = refuse_overwrite(plant, item, &out->err);
    if (rv)
        return rv;
    rv = put_on_token(plant, item, trial, out, &left);
    if (rv && trial && !left)
        return KFR_OK; /* no trial to be had */
    if (rv && !out->err.rv)
        kf_module_fail(&out->err, rv, "C_CopyObject", "the clone was not made");
    if (!rv && was_there(plant, out->handle)) {
        out->handle = CK_INVALID_HANDLE; /* not ours to undo */
        rv = kf_fail(&out->err, KFR_CONFLICT, NULL, "look at the target's old objects",
                     "the module gave the handle of an object that was there before: it "
                     "has overwritten it");
    }
    if (!rv)
        rv = read_back(plant, item, out->handle, trial, out->lost, &out->err);
    if (!rv && !trial && !add_there(plant, out->handle))
        rv = kf_fail(&out->err, KFR_MEMORY, NULL, NULL, "no memory for a list of objects");
    if ((rv || trial) && !undo(plant, &out->handle))
        left = true;
    if (left && !rv)
        rv = kf_fail(&out->err, CKR_FUNCTION_FAILED, "C_DestroyObject", NULL,
                     "a trial of it was made");
    if (left)
        say_left_behind(&out->err);
    if (rv)
        out->lost[0] = '\0';
    return rv;
}

static kf_rv plant_item(struct kf_wrap_plant *plant, struct kf_wrap_item *item,
                        struct kf_planted *out)
{
    bool final = !kf_attributes_bool(item->want, CKA_DESTROYABLE, true);
    kf_rv rv = final ? plant_one(plant, item, true, out) : KFR_OK;

    if (!rv)
        rv = plant_one(plant, item, false, out);
    out->rv = rv;
    if (!rv)
        memset(&out->err, 0, sizeof out->err);
    else if (!out->err.rv)
        out->err.rv = rv;
    destroy(plant, &item->staged);
    return rv;
}

/* ---- commit ---- */

/* Old objects that cannot go are found before anything is made. */
static kf_rv check_removable(const struct kf_wrap_plant *plant,
                             const CK_OBJECT_HANDLE *remove, size_t count,
                             struct kf_error *err)
{
    struct kf_attributes *set = kf_attributes_new(false);
    kf_rv rv = set ? KFR_OK : kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory");
    size_t i;

    for (i = 0; !rv && i < count; i++) {
        kf_attributes_remove(set, CKA_DESTROYABLE);
        if (!kf_object_read_one(session_of(plant), remove[i], CKA_DESTROYABLE, set, NULL) &&
            !kf_attributes_bool(set, CKA_DESTROYABLE, true))
            rv = kf_fail(err, CKR_ACTION_PROHIBITED, "C_DestroyObject",
                         "the engine softhsm can remove it",
                         "the old object %lu cannot be removed: CKA_DESTROYABLE is false",
                         remove[i]);
    }
    kf_attributes_free(set);
    return rv;
}

/* Undoes all that this commit made; every object then answers with the failure. */
static void undo_all(const struct kf_wrap_plant *plant, struct kf_planted *planted,
                     kf_rv rv, const struct kf_error *why)
{
    size_t i;

    for (i = 0; i < plant->count; i++) {
        bool gone = undo(plant, &planted[i].handle);

        planted[i].lost[0] = '\0';
        if (planted[i].rv)
            continue;
        planted[i].rv = rv;
        kf_fail(&planted[i].err, rv, why->call, why->hint,
                "undone, because another object failed: %.300s", why->what);
        if (!gone)
            say_left_behind(&planted[i].err);
    }
}

/* Objects that cannot be undone come last, when nothing else can fail any more. */
static kf_rv plant_all(struct kf_wrap_plant *plant, enum kf_commit mode,
                       struct kf_planted *planted, bool *failed, struct kf_error *err)
{
    struct kf_error why;
    kf_rv rv;
    size_t i;
    int last;

    for (last = 0; last <= 1; last++) {
        for (i = 0; i < plant->count; i++) {
            struct kf_wrap_item *item = &plant->items[i];

            if (kf_attributes_bool(item->want, CKA_DESTROYABLE, true) == (last == 1))
                continue;
            rv = plant_item(plant, item, &planted[i]);
            if (!rv)
                continue;
            *failed = true;
            if (mode == KF_COMMIT_EACH)
                continue;
            why = planted[i].err;
            undo_all(plant, planted, rv, &why);
            if (err)
                *err = why;
            return rv;
        }
    }
    return KFR_OK;
}

static kf_rv remove_old(const struct kf_wrap_plant *plant, const CK_OBJECT_HANDLE *remove,
                        size_t count, struct kf_error *err)
{
    kf_rv rv = KFR_OK, one;
    size_t i;

    for (i = 0; i < count; i++) {
        one = kf_object_destroy(session_of(plant), remove[i], rv ? NULL : err);
        if (one && one != KFR_VANISHED && one != CKR_OBJECT_HANDLE_INVALID && !rv)
            rv = one;
    }
    return rv;
}

kf_rv kf_wrap_commit(struct kf_wrap_plant *plant, enum kf_commit mode,
                     const CK_OBJECT_HANDLE *remove, size_t remove_count,
                     struct kf_planted *planted, struct kf_error *err)
{
    bool failed = false;
    kf_rv rv;

    rv = check_removable(plant, remove, remove_count, err);
    if (!rv)
        rv = plant_all(plant, mode, planted, &failed, err);
    if (!rv && !failed)
        rv = remove_old(plant, remove, remove_count, err);
    kf_wrap_abort(plant);
    return rv;
}
