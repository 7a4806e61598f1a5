/* SPDX-License-Identifier: MIT */
#include "clone/softhsm_plan.h"

#include "clone/curve.h"
#include "clone/material.h"
#include "clone/template.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <string.h>

enum { CHECK_VALUE_BYTES = 3, DER_OCTET_STRING = 4 };

void kf_plan_clear(struct kf_plan *plan)
{
    kf_attributes_free(plan->material);
    kf_writer_clear(&plan->point);
    for (size_t i = 0; i < KF_PLAN_TEMPLATES; i++)
        kf_writer_clear(&plan->templates[i]);
    plan->material = NULL;
    plan->set = (struct kf_attributes){ 0 };
}

/* ---------------------------------------- the set under way */

static struct kf_attribute *get(struct kf_plan *plan, uint64_t type)
{
    for (size_t i = 0; i < plan->set.count; i++)
        if (plan->at[i].type == type)
            return &plan->at[i];
    return NULL;
}

static bool put(struct kf_plan *plan, const struct kf_attribute *new)
{
    size_t i = plan->set.count;

    while (i && plan->at[i - 1].type > new->type)
        i--;
    if (i && plan->at[i - 1].type == new->type) {
        plan->at[i - 1] = *new;
        return true;
    }
    if (plan->set.count == KF_SEALED_ATTRIBUTES_MAX)
        return false;
    memmove(plan->at + i + 1, plan->at + i, (plan->set.count - i) * sizeof *plan->at);
    plan->at[i] = *new;
    plan->set.count++;
    return true;
}

static void put_bytes(unsigned char *bytes, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(value >> (8 * (7 - i)));
}

/* Eight bytes of the plan's own. */
static unsigned char *own_bytes(struct kf_plan *plan)
{
    return plan->made_count < KF_ROWS_MAX ? plan->made[plan->made_count++] : NULL;
}

static bool put_default(struct kf_plan *plan, const struct kf_softhsm_row *row,
                        uint64_t value)
{
    struct kf_attribute new = { .type = row->type, .kind = row->kind };

    new.value = own_bytes(plan);
    if (!new.value)
        return false;
    put_bytes(new.value, value);
    if (row->kind == KF_ULONG)
        new.len = 8;
    if (row->kind == KF_BOOL) {
        new.value[0] = value != 0;
        new.len = 1;
    }
    return put(plan, &new);
}

static void set_number(struct kf_plan *plan, uint64_t type, uint64_t value)
{
    struct kf_attribute *at = get(plan, type);
    unsigned char *bytes = at && at->kind == KF_ULONG ? own_bytes(plan) : NULL;

    if (!bytes)
        return;
    put_bytes(bytes, value);
    at->value = bytes;
}

static kf_rv too_many(struct kf_error *err)
{
    return kf_fail(err, KFR_LIMIT, "", "", "an object of more than %d attributes",
                   KF_SEALED_ATTRIBUTES_MAX);
}

/* ---------------------------------------- an exact object */

static kf_rv take_exact(struct kf_plan *plan, const struct kf_sealed *sealed,
                        const struct kf_softhsm_row *rows, size_t count,
                        struct kf_error *err)
{
    const struct kf_attributes *parts[] = { sealed->open, sealed->hidden };

    for (size_t p = 0; p < 2; p++)
        for (size_t i = 0; parts[p] && i < parts[p]->count; i++)
            if (!put(plan, &parts[p]->at[i]))
                return too_many(err);
    /* What its own SoftHSM would add at the first look. */
    for (size_t i = 0; i < count; i++)
        if (!get(plan, rows[i].type) && !put_default(plan, &rows[i], rows[i].fallback))
            return too_many(err);
    return KFR_OK;
}

/* ---------------------------------------- an object of another
 * engine */

static bool has_key_bytes(const struct kf_sealed *sealed, uint64_t object_class)
{
    for (size_t i = 0; sealed->hidden && i < sealed->hidden->count; i++)
        if (kf_attribute_is_secret(object_class, sealed->hidden->at[i].type)
            && sealed->hidden->at[i].len)
            return true;
    return false;
}

static kf_rv unwrap(struct kf_plan *plan, const struct kf_sealed *sealed,
                    const struct kf_domain *domain, struct kf_error *err)
{
    uint64_t class = kf_attributes_ulong(sealed->open, CKA_CLASS, UINT64_MAX);
    bool is_key = class == CKO_PRIVATE_KEY || class == CKO_SECRET_KEY;
    struct kf_secret *body = NULL;
    kf_rv rv;

    if (!is_key || has_key_bytes(sealed, class))
        return KFR_OK;
    if (!sealed->wrapped)
        return kf_fail(err, KFR_NOT_CLONABLE, "", "",
                       "the sealed object does not hold the key's bytes");
    rv = kf_domain_unwrap_bytes(domain, sealed->wrapped, sealed->wrapped_len, &body,
                                err);
    if (!rv)
        rv = kf_material_attributes(sealed->open, body->data, body->len,
                                    &plan->material, err);
    kf_secret_free(body);
    return rv;
}

static const struct kf_attribute *said(const struct kf_plan *plan,
                                       const struct kf_sealed *sealed,
                                       const struct kf_softhsm_row *row)
{
    const struct kf_attributes *parts[] = { plan->material, sealed->hidden,
                                            sealed->open };

    for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
        const struct kf_attribute *at =
            parts[p] ? kf_attributes_get(parts[p], row->type) : NULL;

        if (at && at->kind == row->kind)
            return at;
    }
    return NULL;
}

static bool is_big_number(const struct kf_softhsm_kind kind, uint64_t type)
{
    static const uint64_t NUMBERS[] = {
        CKA_MODULUS,    CKA_PUBLIC_EXPONENT, CKA_PRIVATE_EXPONENT, CKA_PRIME_1,
        CKA_PRIME_2,    CKA_EXPONENT_1,      CKA_EXPONENT_2,       CKA_COEFFICIENT,
        CKA_PRIME,      CKA_SUBPRIME,        CKA_BASE,
    };

    for (size_t i = 0; i < sizeof NUMBERS / sizeof *NUMBERS; i++)
        if (NUMBERS[i] == type)
            return true;
    return type == CKA_VALUE
           && (kind.object_class == CKO_PRIVATE_KEY
               || kind.object_class == CKO_PUBLIC_KEY)
           && (kind.key_type == CKK_EC || kind.key_type == CKK_DSA
               || kind.key_type == CKK_DH);
}

/* SoftHSM keeps numbers without leading zeros. */
static void strip_zeros(struct kf_plan *plan, struct kf_softhsm_kind kind)
{
    for (size_t i = 0; i < plan->set.count; i++) {
        struct kf_attribute *at = &plan->at[i];

        while (is_big_number(kind, at->type) && at->len > 1 && at->value[0] == 0) {
            at->value++;
            at->len--;
        }
    }
}

static uint64_t bits_of(struct kf_plan *plan, uint64_t type)
{
    const struct kf_attribute *at = get(plan, type);
    uint64_t bits;

    if (!at || at->kind != KF_BYTES || !at->len)
        return 0;
    bits = at->len * 8;
    for (unsigned char mask = 0x80; mask && !(at->value[0] & mask); mask >>= 1)
        bits--;
    return bits;
}

/* SoftHSM's rule: AES, the first bytes of a block of zeros encrypted; else of a SHA-1
 * of the value (AESKey.cpp, SymmetricKey.cpp). DES keys stay without. */
static bool check_value(struct kf_softhsm_kind kind, const struct kf_attribute *value,
                        unsigned char out[CHECK_VALUE_BYTES])
{
    static const unsigned char ZEROS[16];
    const EVP_CIPHER *aes = value->len == 16   ? EVP_aes_128_ecb()
                            : value->len == 24 ? EVP_aes_192_ecb()
                                               : EVP_aes_256_ecb();
    unsigned char bytes[EVP_MAX_MD_SIZE];
    EVP_CIPHER_CTX *ctx = NULL;
    int n = 0;
    bool ok;

    if (kind.key_type == CKK_AES) {
        if (value->len != (size_t)EVP_CIPHER_get_key_length(aes))
            return false;
        ctx = EVP_CIPHER_CTX_new();
        ok = ctx && EVP_EncryptInit_ex2(ctx, aes, value->value, NULL, NULL) == 1
             && EVP_EncryptUpdate(ctx, bytes, &n, ZEROS, sizeof ZEROS) == 1
             && n >= CHECK_VALUE_BYTES;
        EVP_CIPHER_CTX_free(ctx);
    } else {
        ok = EVP_Digest(value->value, value->len, bytes, NULL, EVP_sha1(), NULL) == 1;
    }
    if (ok)
        memcpy(out, bytes, CHECK_VALUE_BYTES);
    return ok;
}

static void fill_secret_key(struct kf_plan *plan, struct kf_softhsm_kind kind)
{
    const struct kf_attribute *value = get(plan, CKA_VALUE);
    struct kf_attribute *check = get(plan, CKA_CHECK_VALUE);
    bool has_rule = get(plan, CKA_VALUE_LEN) != NULL;
    unsigned char *bytes;

    if (!value || !has_rule)
        return;
    set_number(plan, CKA_VALUE_LEN, value->len);
    bytes = check && !check->len ? own_bytes(plan) : NULL;
    if (bytes && check_value(kind, value, bytes)) {
        check->value = bytes;
        check->len = CHECK_VALUE_BYTES;
    }
}

/* Whether the bytes are one DER OCTET STRING, whole (X.690, 8.1.3: short and long
 * form). */
static bool is_octet_string(const unsigned char *bytes, size_t len)
{
    if (len < 2 || bytes[0] != DER_OCTET_STRING)
        return false;
    if (bytes[1] < 0x80)
        return len == 2U + bytes[1];
    return bytes[1] == 0x81 && len >= 3 && bytes[2] >= 0x80 && len == 3U + bytes[2];
}

/* One bare point in 256 looks like an OCTET STRING, too (0x04 means uncompressed there):
 * the length that a listed curve asks for settles it, as in kf_material_digest. */
static bool is_wrapped(struct kf_plan *plan, const struct kf_attribute *point)
{
    const struct kf_attribute *params = get(plan, CKA_EC_PARAMS);
    const struct kf_curve *curve =
        params ? kf_curve_of(params->value, params->len) : NULL;
    size_t inner;

    if (!is_octet_string(point->value, point->len))
        return false;
    inner = point->len - (point->value[1] < 0x80 ? 2 : 3);
    return !curve || inner == curve->bytes || inner == curve->bytes + 1 ||
           inner == 2 * curve->bytes + 1;
}

/* PKCS#11 wants the point in an OCTET STRING; some tokens give it bare. */
static kf_rv fill_point(struct kf_plan *plan, struct kf_error *err)
{
    struct kf_attribute *point = get(plan, CKA_EC_POINT);

    if (!point || !point->len || is_wrapped(plan, point))
        return KFR_OK;
    if (point->len > 0xFF)
        return kf_fail(err, KFR_NOT_CLONABLE, "", "", "CKA_EC_POINT is no point");
    kf_write_u8(&plan->point, DER_OCTET_STRING);
    if (point->len >= 0x80)
        kf_write_u8(&plan->point, 0x81);
    kf_write_u8(&plan->point, (uint8_t)point->len);
    kf_write_bytes(&plan->point, point->value, point->len);
    if (plan->point.bad)
        return kf_fail(err, KFR_MEMORY, "", "", "no memory for an EC point");
    point->value = plan->point.data;
    point->len = plan->point.len;
    return KFR_OK;
}

/* What a token computes: SoftHSM has it from its own computation when it makes a
 * key. */
static kf_rv fill_computed(struct kf_plan *plan, struct kf_softhsm_kind kind,
                           struct kf_error *err)
{
    static const uint64_t BITS[][2] = {
        { CKA_MODULUS_BITS, CKA_MODULUS },
        { CKA_PRIME_BITS, CKA_PRIME },
        { CKA_VALUE_BITS, CKA_VALUE },
    };

    strip_zeros(plan, kind);
    for (size_t i = 0; i < sizeof BITS / sizeof *BITS; i++)
        set_number(plan, BITS[i][0], bits_of(plan, BITS[i][1]));
    if (kind.object_class == CKO_SECRET_KEY)
        fill_secret_key(plan, kind);
    return fill_point(plan, err);
}

static kf_rv own_template(struct kf_plan *plan, struct kf_attribute *template,
                          struct kf_error *err)
{
    struct kf_writer *own;

    if (template->kind != KF_TEMPLATE || !template->len)
        return KFR_OK;
    if (plan->template_count == KF_PLAN_TEMPLATES)
        return too_many(err);
    own = &plan->templates[plan->template_count++];
    kf_write_bytes(own, template->value, template->len);
    if (own->bad)
        return kf_fail(err, KFR_MEMORY, "", "", "no memory for a template");
    kf_template_to_softhsm(own->data, own->len);
    template->value = own->data;
    return KFR_OK;
}

static kf_rv make_anew(struct kf_plan *plan, const struct kf_sealed *sealed,
                       struct kf_softhsm_kind kind, const struct kf_softhsm_row *rows,
                       size_t count, const struct kf_domain *domain,
                       struct kf_error *err)
{
    kf_rv rv = unwrap(plan, sealed, domain, err);

    for (size_t i = 0; !rv && i < count; i++) {
        const struct kf_attribute *at = said(plan, sealed, &rows[i]);
        struct kf_attribute usual;

        if (!at) {
            rv = put_default(plan, &rows[i], rows[i].safe) ? KFR_OK : too_many(err);
            continue;
        }
        usual = *at;
        usual.form = KF_FORM_USUAL;
        rv = own_template(plan, &usual, err);
        if (!rv && !put(plan, &usual))
            rv = too_many(err);
    }
    if (!rv)
        rv = fill_computed(plan, kind, err);
    return rv;
}

/* ---------------------------------------- changes */

/* A flag that has become untrue. */
static bool deny(struct kf_plan *plan, uint64_t type)
{
    struct kf_attribute *at = get(plan, type);
    unsigned char *no = at ? own_bytes(plan) : NULL;

    if (!at)
        return true;
    if (!no)
        return false;
    no[0] = 0;
    at->value = no;
    at->len = 1;
    at->form = KF_FORM_USUAL;
    return true;
}

static kf_rv apply(struct kf_plan *plan, const struct kf_changes *changes,
                   struct kf_error *err)
{
    const struct kf_attributes *set = changes ? changes->set : NULL;

    for (size_t i = 0; set && i < set->count; i++) {
        struct kf_attribute new = set->at[i];
        struct kf_attribute *old = get(plan, new.type);
        kf_rv rv = kf_change_check(old, &new, changes->more_rights, err);
        char name[40];

        if (!rv && !old)
            rv = kf_fail(err, KFR_ARGUMENT, "", "", "such an object has no %s",
                         kf_name_text(KF_CKA, new.type, name, sizeof name));
        if (rv)
            return rv;
        new.form = KF_FORM_USUAL;
        *old = new;
        if (!deny(plan, kf_change_denies(&new)))
            return too_many(err);
    }
    return KFR_OK;
}

/* ---------------------------------------- all of it */

/* A store holds token objects only, and only whole ones. */
static kf_rv finish(struct kf_plan *plan, struct kf_error *err)
{
    struct kf_attribute *token = get(plan, CKA_TOKEN);
    unsigned char *yes = own_bytes(plan);
    const char *unfinished;

    if (!token || token->kind != KF_BOOL || !yes)
        return kf_fail(err, KFR_DAMAGED, "", "", "the sealed object has no CKA_TOKEN");
    yes[0] = 1;
    token->value = yes;
    unfinished = kf_softhsm_unfinished(&plan->set);
    if (unfinished)
        return kf_fail(err, KFR_NOT_CLONABLE, "", "",
                       "the sealed object is not whole: %s", unfinished);
    return KFR_OK;
}

kf_rv kf_plan_make(struct kf_plan *plan, const struct kf_sealed *sealed,
                   const struct kf_changes *changes, const struct kf_domain *domain,
                   struct kf_error *err)
{
    struct kf_softhsm_kind kind = kf_softhsm_kind_of(sealed->open);
    struct kf_softhsm_row rows[KF_ROWS_MAX];
    size_t count = kf_softhsm_rows(kind, rows);
    bool exact = sealed->flags & KF_SEALED_EXACT;
    kf_rv rv = KFR_NOT_CLONABLE;

    plan->set = (struct kf_attributes){ .at = plan->at, .secret = true };
    plan->material = NULL;
    plan->made_count = 0;
    plan->point = (struct kf_writer){ 0 };
    memset(plan->templates, 0, sizeof plan->templates);
    plan->template_count = 0;
    if (kf_domain_is_key(sealed->open, NULL))
        return kf_fail(err, rv, "", "",
                       "it is a key of a cloning domain: never cloned");
    if (!count && !exact)
        return kf_fail(err, rv, "", "",
                       "SoftHSM has no objects of that class and type");
    rv = exact ? take_exact(plan, sealed, rows, count, err)
               : make_anew(plan, sealed, kind, rows, count, domain, err);
    if (!rv)
        rv = apply(plan, changes, err);
    if (!rv)
        rv = finish(plan, err);
    return rv;
}
