/* SPDX-License-Identifier: MIT */
#include "clone/wrap_item.h"

#include "clone/material.h"
#include "clone/public_value.h"
#include "clone/template.h"
#include "pkcs11/quirk.h"

#include <openssl/crypto.h>
#include <string.h>

/* SoftHSM takes no more in C_UnwrapKey; no object of the standard has more to send. */
enum { UNWRAP_ENTRIES_MAX = 28 };

bool kf_wrap_is_key(CK_OBJECT_CLASS object_class)
{
    return object_class == CKO_PRIVATE_KEY || object_class == CKO_SECRET_KEY;
}

/* C_UnwrapKey makes it (else C_CreateObject). */
static bool unwraps(const struct kf_wrap_item *item)
{
    return item->wrapped && !item->create;
}

void kf_wrap_item_clear(struct kf_wrap_format *format, struct kf_wrap_item *item)
{
    if (item->staged != CK_INVALID_HANDLE)
        kf_object_discard(format->session, item->staged);
    kf_attributes_free(item->want);
    kf_attributes_free(item->hidden);
    kf_writer_clear(&item->public_value);
    if (item->wrapped)
        OPENSSL_clear_free(item->wrapped, item->wrapped_len);
    *item = (struct kf_wrap_item){0};
}

/* ---- what the clone is to be ---- */

/* What a key of the class may do; never left to the module's default. */
static const CK_ATTRIBUTE_TYPE secret_uses[] = {
    CKA_ENCRYPT, CKA_DECRYPT, CKA_SIGN, CKA_VERIFY, CKA_WRAP, CKA_UNWRAP, CKA_DERIVE};
static const CK_ATTRIBUTE_TYPE private_uses[] = {
    CKA_DECRYPT, CKA_SIGN, CKA_SIGN_RECOVER, CKA_UNWRAP, CKA_DERIVE};
static const CK_ATTRIBUTE_TYPE public_uses[] = {
    CKA_ENCRYPT, CKA_VERIFY, CKA_VERIFY_RECOVER, CKA_WRAP, CKA_DERIVE};

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
    if (!kf_wrap_is_key(object_class))
        return good;
    return good && set_default(want, CKA_PRIVATE, true) &&
           set_default(want, CKA_SENSITIVE, true) &&
           set_default(want, CKA_EXTRACTABLE, false);
}

static kf_rv check_kind(const struct kf_wrap_item *item, struct kf_error *err)
{
    if (kf_wrap_is_key(item->object_class) && !item->wrapped && !item->hidden)
        return kf_fail(err, KFR_DAMAGED, NULL, NULL, "a sealed key without key bytes");
    if (!kf_wrap_is_key(item->object_class) && item->wrapped)
        return kf_fail(err, KFR_DAMAGED, NULL, NULL, "a sealed body on what is no key");
    return KFR_OK;
}

kf_rv kf_wrap_item_fill(struct kf_wrap_item *item, const struct kf_sealed *sealed,
                        const struct kf_changes *changes, struct kf_error *err)
{
    kf_rv rv = KFR_MEMORY;

    item->object_class = kf_attributes_ulong(sealed->open, CKA_CLASS, UINT64_MAX);
    item->body = sealed->body;
    item->want = kf_attributes_dup(sealed->open);
    if (!item->want || !fill_uses(item->want, item->object_class))
        goto done;
    for (size_t i = 0; i < item->want->count; i++)
        if (item->want->at[i].kind == KF_TEMPLATE)
            kf_template_to_portable(item->want->at[i].value, item->want->at[i].len);
    rv = kf_change_apply(item->want, changes, err);
    if (rv)
        return rv;
    rv = KFR_MEMORY;
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
    return check_kind(item, err);
done:
    return kf_fail(err, rv, NULL, NULL, "no memory for a staged object");
}

/* ---- templates ---- */

/* All, or what a module must take (identity, rights and the numbers of a key), or what
 * every module knows since PKCS#11 v2.1, or that with CKA_SENSITIVE (tokens that keep no
 * other key). */
enum level { LEVEL_FULL, LEVEL_NEEDED, LEVEL_LEAST, LEVEL_SENSITIVE, LEVELS };

unsigned kf_wrap_roles(const struct kf_row *rows, size_t count, uint64_t type)
{
    size_t i;

    for (i = 0; i < count; i++)
        if (rows[i].type == type)
            return rows[i].roles;
    return 0;
}

/* Attributes whose default (PKCS#11 v2.40, 4.1.2) is true: sent when false only, and
 * only to the final object (SoftHSM copies none that has them so). */
bool kf_wrap_true_by_default(uint64_t type)
{
    return type == CKA_MODIFIABLE || type == CKA_COPYABLE || type == CKA_DESTROYABLE;
}

/* C_UnwrapKey takes these from the body, and refuses them. */
bool kf_wrap_is_number(uint64_t type)
{
    static const uint64_t numbers[] = {
        CKA_MODULUS, CKA_PUBLIC_EXPONENT, CKA_PRIME,    CKA_SUBPRIME,
        CKA_BASE,    CKA_EC_PARAMS,       CKA_EC_POINT, CKA_VALUE,
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

static bool is_least(uint64_t type)
{
    static const uint64_t known[] = {
        CKA_PRIVATE,      CKA_SENSITIVE,      CKA_EXTRACTABLE, CKA_ENCRYPT,
        CKA_DECRYPT,      CKA_SIGN,           CKA_VERIFY,      CKA_SIGN_RECOVER,
        CKA_VERIFY_RECOVER, CKA_WRAP,         CKA_UNWRAP,      CKA_DERIVE,
        CKA_ISSUER,       CKA_SERIAL_NUMBER,
    };
    size_t i;

    for (i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i] == type)
            return true;
    return is_label(type) || kf_wrap_is_number(type);
}

bool kf_wrap_is_token(enum kf_wrap_aim aim)
{
    return aim == KF_WRAP_TRIAL || aim == KF_WRAP_FINAL;
}

bool kf_wrap_is_whole(enum kf_wrap_aim aim)
{
    return aim == KF_WRAP_FINAL || aim == KF_WRAP_REHEARSAL;
}

static bool is_sent(const struct kf_wrap_item *item,
                    const struct kf_attribute *attribute, unsigned roles,
                    enum level level, enum kf_wrap_aim aim)
{
    uint64_t type = attribute->type;

    if (type == CKA_TOKEN || type >= CKA_VENDOR_DEFINED || (roles & KF_ROLE_COMPUTED))
        return false;
    if (level >= LEVEL_LEAST && !is_least(type))
        return false;
    if (kf_wrap_true_by_default(type))
        return kf_wrap_is_whole(aim) && attribute->len == 1 && !attribute->value[0];
    if (type == CKA_TRUSTED && attribute->len == 1 && attribute->value[0])
        return false; /* only the SO may say so */
    if (unwraps(item) && (kf_wrap_is_number(type) || (roles & KF_ROLE_KEY)))
        return false;
    if (!attribute->len)
        return attribute->kind == KF_BYTES && level == LEVEL_FULL &&
               item->object_class == CKO_CERTIFICATE && is_label(type);
    return level == LEVEL_FULL || is_label(type) || kf_wrap_is_number(type) ||
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
            !(kf_wrap_roles(rows, count, type) & KF_ROLE_RIGHT))
            kf_attributes_remove(set, type);
    }
}

static kf_rv build_set(const struct kf_wrap_item *item, enum level level,
                       enum kf_wrap_aim aim, struct kf_attributes **out)
{
    struct kf_row rows[KF_ROWS_MAX];
    size_t count, i;
    struct kf_attributes *set = kf_attributes_new(true);
    bool good = set && kf_attributes_set_bool(set, CKA_TOKEN, kf_wrap_is_token(aim));

    count = kf_rows(item->object_class,
                    kf_attributes_ulong(item->want, CKA_KEY_TYPE, UINT64_MAX), rows);
    for (i = 0; good && i < item->want->count; i++) {
        const struct kf_attribute *at = &item->want->at[i];

        if (is_sent(item, at, kf_wrap_roles(rows, count, at->type), level, aim))
            good = kf_attributes_set(set, at->type, at->kind, at->value, at->len);
    }
    for (i = 0;
         good && item->hidden && !unwraps(item) && i < item->hidden->count;
         i++) {
        const struct kf_attribute *at = &item->hidden->at[i];

        good = kf_attributes_set(set, at->type, at->kind, at->value, at->len);
    }
    if (good && unwraps(item))
        shorten(set, rows, count);
    if (good && level == LEVEL_SENSITIVE && kf_wrap_is_key(item->object_class))
        good = kf_attributes_set_bool(set, CKA_SENSITIVE, true);
    if (good && item->public_value.len)
        good = kf_attributes_set(set, KF_CKA_NSS_DB, KF_BYTES, item->public_value.data,
                                 item->public_value.len);
    if (!good) {
        kf_attributes_free(set);
        set = NULL;
    }
    *out = set;
    return good ? KFR_OK : KFR_MEMORY;
}

bool kf_wrap_is_about_template(kf_rv rv)
{
    return rv == CKR_ATTRIBUTE_READ_ONLY || rv == CKR_ATTRIBUTE_TYPE_INVALID ||
           rv == CKR_ATTRIBUTE_VALUE_INVALID || rv == CKR_TEMPLATE_INCONSISTENT ||
           rv == CKR_GENERAL_ERROR || rv == CKR_FUNCTION_FAILED;
}

static kf_rv make_at(struct kf_wrap_format *format, const struct kf_wrap_item *item,
                     enum level level, enum kf_wrap_aim aim, CK_OBJECT_HANDLE *out,
                     struct kf_error *err)
{
    struct kf_attributes *set = NULL;
    kf_rv rv = build_set(item, level, aim, &set);

    *out = CK_INVALID_HANDLE;
    if (rv)
        return kf_fail(err, rv, NULL, NULL, "no memory for a template");
    rv = unwraps(item)
             ? kf_wrap_in(format, item->wrapped, item->wrapped_len, set, out, err)
             : kf_object_create(format->session, set, out, err);
    kf_attributes_free(set);
    return rv;
}

/* ---- the key itself ---- */

/* The key bytes out of the body, where the domain's keys are at hand; the caller frees
 * them. NULL: they are not. */
static struct kf_attributes *read_body(struct kf_wrap_format *format,
                                       const struct kf_wrap_item *item)
{
    struct kf_attributes *key = NULL;
    struct kf_secret *plain = NULL;

    if (item->wrapped &&
        !kf_domain_unwrap_bytes(format->domain, item->wrapped, item->wrapped_len,
                                &plain, NULL) &&
        kf_material_attributes(item->want, plain->data, plain->len, &key, NULL))
        key = NULL;
    kf_secret_free(plain);
    return key;
}

/* For types that a module has and yet does not unwrap (Ed25519 on SoftHSM). */
static bool open_body(struct kf_wrap_format *format, struct kf_wrap_item *item)
{
    if (!item->hidden)
        item->hidden = read_body(format, item);
    item->create = item->hidden != NULL;
    return item->create;
}

static bool wants_public_value(const struct kf_wrap_format *format,
                               const struct kf_wrap_item *item)
{
    uint64_t type = kf_attributes_ulong(item->want, CKA_KEY_TYPE, UINT64_MAX);

    return item->object_class == CKO_PRIVATE_KEY && !item->public_value.len &&
           (type == CKK_EC || type == CKK_DSA || type == CKK_DH) &&
           kf_quirk_has(kf_session_module(format->session),
                        KF_QUIRK_NEEDS_PUBLIC_VALUE);
}

/* The module believes whatever it is told, so it is told what follows from the key. */
static kf_rv add_public_value(struct kf_wrap_format *format, struct kf_wrap_item *item,
                              struct kf_error *err)
{
    struct kf_attributes *key = NULL;
    kf_rv rv;

    if (!wants_public_value(format, item))
        return KFR_OK;
    if (!item->hidden && !kf_domain_is_host(format->domain))
        return kf_fail(err, KFR_NOT_CLONABLE, NULL, "give the domain with -domain",
                       "the target's module makes a private key of this type only with "
                       "its public value, which a domain whose keys stay in the token "
                       "cannot tell");
    if (!item->hidden)
        key = read_body(format, item);
    rv = kf_public_value(item->want, key ? key : item->hidden, &item->public_value, err);
    kf_attributes_free(key);
    return rv == KFR_NOT_FOUND
               ? kf_fail(err, KFR_NOT_CLONABLE, NULL, NULL,
                         "the target's module wants the public value of a private key, "
                         "which cannot be computed on this curve")
               : rv;
}

/* A session object may be had of what the token does not keep: said before. */
static kf_rv check_kept(const struct kf_wrap_format *format,
                        const struct kf_wrap_item *item, struct kf_error *err)
{
    if (item->object_class != CKO_DATA ||
        !kf_quirk_has(kf_session_module(format->session), KF_QUIRK_NO_TOKEN_DATA))
        return KFR_OK;
    return kf_fail(err, KFR_NOT_CLONABLE, NULL, NULL,
                   "the target's module keeps no objects of the class CKO_DATA");
}

/* One level after the other, as long as the refusals are about the template. */
static kf_rv make(struct kf_wrap_format *format, const struct kf_wrap_item *item,
                  enum kf_wrap_aim aim, CK_OBJECT_HANDLE *out, struct kf_error *err)
{
    kf_rv first = make_at(format, item, LEVEL_FULL, aim, out, err), rv = first;
    int level;

    for (level = LEVEL_NEEDED; kf_wrap_is_about_template(rv) && level < LEVELS; level++)
        rv = make_at(format, item, (enum level)level, aim, out, NULL);
    return rv ? first : KFR_OK;
}

/* C_UnwrapKey does not make this key, by none of its ways. */
static bool is_about_unwrapping(kf_rv rv)
{
    static const kf_rv codes[] = {
        CKR_KEY_TYPE_INCONSISTENT, CKR_TEMPLATE_INCOMPLETE,
        CKR_WRAPPED_KEY_INVALID,   CKR_WRAPPED_KEY_LEN_RANGE,
        CKR_DATA_LEN_RANGE,        CKR_KEY_SIZE_RANGE,
        KFR_NO_ENGINE,             KFR_ARGUMENT,
    };

    return KF_AMONG(rv, codes);
}

kf_rv kf_wrap_make(struct kf_wrap_format *format, struct kf_wrap_item *item,
                   enum kf_wrap_aim aim, CK_OBJECT_HANDLE *out, struct kf_error *err)
{
    kf_rv first = check_kept(format, item, err);

    *out = CK_INVALID_HANDLE;
    if (!first)
        first = add_public_value(format, item, err);
    if (first)
        return first;
    first = make(format, item, aim, out, err);
    if ((kf_wrap_is_about_template(first) || is_about_unwrapping(first)) && unwraps(item) && open_body(format, item)) {
        item->create = !make(format, item, aim, out, NULL);
        if (item->create)
            return KFR_OK;
    }
    return first;
}

kf_rv kf_wrap_copy(struct kf_wrap_format *format, const struct kf_wrap_item *item,
                   enum kf_wrap_aim aim, CK_OBJECT_HANDLE *out)
{
    struct kf_attributes *set = kf_attributes_new(false);
    bool whole = kf_wrap_is_whole(aim), good;
    kf_rv rv = KFR_MEMORY;

    good = set && kf_attributes_set_bool(set, CKA_TOKEN, kf_wrap_is_token(aim));
    if (good && whole && !kf_attributes_bool(item->want, CKA_MODIFIABLE, true))
        good = kf_attributes_set_bool(set, CKA_MODIFIABLE, false);
    if (good && whole && !kf_attributes_bool(item->want, CKA_DESTROYABLE, true))
        good = kf_attributes_set_bool(set, CKA_DESTROYABLE, false);
    if (good)
        rv = kf_object_copy(format->session, item->staged, set, out, NULL);
    kf_attributes_free(set);
    if (rv)
        *out = CK_INVALID_HANDLE;
    return rv;
}
