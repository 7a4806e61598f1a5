/* SPDX-License-Identifier: MIT */
#include "clone/softhsm_departure.h"

#include "clone/material.h"
#include "clone/softhsm_end.h"
#include "clone/template.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

/* ---------------------------------------- read */

static bool is_date(uint64_t type)
{
    return type == CKA_START_DATE || type == CKA_END_DATE;
}

static bool agree(const struct kf_attributes *a, const struct kf_attributes *b)
{
    bool same = a->count == b->count;

    for (size_t i = 0; same && i < a->count; i++)
        same = kf_attribute_equal(&a->at[i], &b->at[i]);
    return same;
}

/* SoftHSM cannot give the dates of private objects: what it decrypts them to is no date
 * to it. */
static bool is_unreadable(const struct kf_attributes *object,
                          const struct kf_attribute *at)
{
    return is_date(at->type) && (at->len || at->form == KF_FORM_ENCRYPTED)
           && kf_attributes_bool(object, CKA_PRIVATE, true);
}

/* What kf_object_read would give of an object of the store. NULL: no memory, or not a
 * kind of object that is known here. */
static struct kf_attributes *known_of(const struct kf_attributes *object,
                                      uint64_t *unread, size_t *unread_count)
{
    const struct kf_softhsm_row *rows;
    size_t count = kf_softhsm_shown(object, &rows);
    struct kf_attributes *known = count ? kf_attributes_new(false) : NULL;
    bool good = known;

    for (size_t i = 0; good && i < count; i++) {
        const struct kf_attribute *at = kf_attributes_get(object, rows[i].type);

        if (at && is_unreadable(object, at))
            unread[(*unread_count)++] = at->type;
        else if (at)
            good = at->kind == rows[i].kind
                   && kf_attributes_set(known, at->type, at->kind, at->value, at->len);
        else if (rows[i].kind == KF_BOOL)
            good = kf_attributes_set_bool(known, rows[i].type, rows[i].fallback);
        else if (rows[i].kind == KF_ULONG)
            good = kf_attributes_set_ulong(known, rows[i].type, rows[i].fallback);
        else
            good = kf_attributes_set(known, rows[i].type, rows[i].kind, "", 0);
    }
    for (size_t i = 0; good && i < known->count; i++)
        if (known->at[i].kind == KF_TEMPLATE)
            kf_template_to_portable(known->at[i].value, known->at[i].len);
    if (!good)
        kf_attributes_free(known);
    return good ? known : NULL;
}

/* One that is not whole has no more attributes than its file: at the first look through
 * PKCS#11 SoftHSM would make up the others, and write them. */
static kf_rv read_unfinished(const struct kf_attributes *object, const char *why,
                             struct kf_attributes **out, uint64_t *unread,
                             size_t *unread_count, struct kf_error *err)
{
    *out = known_of(object, unread, unread_count);
    return *out ? KFR_OK
                : kf_fail(err, KFR_DAMAGED, "", "", "the object is not whole: %s", why);
}

/* The attributes of an object from its file, where one of the same kind has shown that
 * they are what PKCS#11 gives. SoftHSM only says which file it is: asking it for all of
 * them takes three times as long. */
kf_rv kf_softhsm_read(void *state, CK_OBJECT_HANDLE handle, struct kf_attributes **out,
                      uint64_t *unread, size_t *unread_count, struct kf_error *err)
{
    struct kf_softhsm_end *end = state;
    struct kf_vault_object object;
    struct kf_softhsm_kind kind = { 0 };
    struct kf_attributes *ours = NULL;
    const bool *proof = NULL;
    const char *why;
    kf_rv rv = kf_index_read(end->index, handle, &object, NULL);
    bool is_told = !rv;

    *unread_count = 0;
    why = rv ? NULL : kf_softhsm_unfinished(&object.set);
    if (why) {
        rv = read_unfinished(&object.set, why, out, unread, unread_count, err);
        kf_vault_forget(end->vault);
        return rv;
    }
    if (!rv) {
        kind = kf_softhsm_kind_of(&object.set);
        proof = kf_proved_agreed(&end->read, kind);
        ours = proof && !*proof ? NULL : known_of(&object.set, unread, unread_count);
    }
    kf_vault_forget(end->vault);
    if (proof && ours) {
        *out = ours;
        return KFR_OK;
    }
    rv = kf_object_read(end->session, handle, out, unread, unread_count, err);
    if (!rv && !is_told)
        kf_index_untold(end->index);
    if (!rv && ours && !proof)
        kf_proved_note(&end->read, kind, agree(ours, *out));
    kf_attributes_free(ours);
    return rv;
}

/* ---------------------------------------- seal */

/* An object in two parts that share the values of the whole. */
struct parts {
    struct kf_attribute open_at[KF_STORE_RECORDS_MAX];
    struct kf_attribute hidden_at[KF_STORE_RECORDS_MAX];
    struct kf_attributes open;
    struct kf_attributes hidden;
};

/* Besides key bytes, of a private object its CKA_VALUE, and bytes unknown to us. */
static bool is_hidden(uint64_t object_class, bool is_private,
                      const struct kf_attribute *at)
{
    if (kf_attribute_is_secret(object_class, at->type))
        return true;
    return is_private && at->kind == KF_BYTES
           && (at->type == CKA_VALUE || !kf_name_of(KF_CKA, at->type));
}

static void split(const struct kf_attributes *object, bool is_private,
                  struct parts *out)
{
    uint64_t class = kf_attributes_ulong(object, CKA_CLASS, UINT64_MAX);

    out->open = (struct kf_attributes){ .at = out->open_at };
    out->hidden = (struct kf_attributes){ .at = out->hidden_at, .secret = true };
    for (size_t i = 0; i < object->count; i++) {
        struct kf_attributes *part =
            is_hidden(class, is_private, &object->at[i]) ? &out->hidden : &out->open;

        part->at[part->count++] = object->at[i];
    }
}

/* So that the engine wrap can open it, where such a key has a wrapped form and the
 * domain's keys are at hand; it goes without otherwise. */
static kf_rv wrap_body(struct kf_softhsm_end *end, struct kf_sealed *sealed,
                       struct kf_writer *wrapped, struct kf_error *err)
{
    uint64_t class = kf_attributes_ulong(sealed->open, CKA_CLASS, UINT64_MAX);
    struct kf_secret *body = NULL;
    kf_rv rv = KFR_OK;

    if (!kf_domain_is_host(end->domain)
        || (class != CKO_PRIVATE_KEY && class != CKO_SECRET_KEY))
        goto done;
    rv = kf_material_body(sealed->open, sealed->hidden, &body, err);
    if (rv == KFR_NOT_CLONABLE) {
        rv = KFR_OK;
        goto done;
    }
    if (!rv)
        rv = kf_domain_wrap_bytes(end->domain, body->data, body->len, wrapped, err);
    if (rv)
        goto done;
    sealed->body = class == CKO_PRIVATE_KEY ? KF_BODY_PKCS8 : KF_BODY_SECRET;
    sealed->wrapped = wrapped->data;
    sealed->wrapped_len = wrapped->len;
done:
    kf_secret_free(body);
    return rv;
}

static kf_rv seal_object(struct kf_softhsm_end *end, const struct kf_attributes *object,
                         struct kf_writer *out, struct kf_error *err)
{
    struct parts parts;
    struct kf_writer wrapped = { 0 };
    struct kf_sealed sealed = { .flags = KF_SEALED_EXACT, .engine = "softhsm" };
    kf_rv rv;

    split(object, kf_attributes_bool(object, CKA_PRIVATE, false), &parts);
    snprintf(sealed.source_serial, sizeof sealed.source_serial, "%s",
             kf_session_token(end->session)->serial);
    sealed.open = &parts.open;
    sealed.hidden = parts.hidden.count ? &parts.hidden : NULL;
    rv = sealed.hidden ? wrap_body(end, &sealed, &wrapped, err) : KFR_OK;
    if (!rv)
        rv = kf_sealed_encode(&sealed, end->domain, out, err);
    kf_writer_clear(&wrapped);
    return rv;
}

static kf_rv digest_object(struct kf_softhsm_end *end,
                           const struct kf_attributes *object,
                           uint8_t out[KF_MAC_BYTES], struct kf_error *err)
{
    struct parts parts;

    split(object, false, &parts);
    return kf_material_digest(&parts.open, &parts.hidden, end->domain, out, err);
}

kf_rv kf_softhsm_seal(void *state, CK_OBJECT_HANDLE handle,
                      const struct kf_attributes *known, struct kf_writer *out,
                      char lost[KF_LOST_MAX], struct kf_error *err)
{
    struct kf_softhsm_end *end = state;
    struct kf_vault_object object;
    const char *name;
    kf_rv rv;

    lost[0] = '\0';
    if (kf_domain_is_key(known, NULL))
        return kf_fail(err, KFR_NOT_CLONABLE, "", "",
                       "it is a key of the partition's cloning domain");
    end->sealed = CK_INVALID_HANDLE;
    rv = kf_index_open(end->index, handle, known, &name, &object, err);
    if (!rv)
        rv = seal_object(end, &object.set, out, err);
    if (!rv && kf_domain_is_host(end->domain)
        && !digest_object(end, &object.set, end->sealed_digest, NULL))
        end->sealed = handle;
    kf_vault_forget(end->vault);
    return rv;
}

kf_rv kf_softhsm_digest(void *state, CK_OBJECT_HANDLE handle,
                        const struct kf_attributes *known, uint8_t out[KF_MAC_BYTES],
                        struct kf_error *err)
{
    struct kf_softhsm_end *end = state;
    struct kf_vault_object object;
    const char *name;
    kf_rv rv;

    if (handle == end->sealed) {
        memcpy(out, end->sealed_digest, KF_MAC_BYTES);
        return KFR_OK;
    }
    rv = kf_index_open(end->index, handle, known, &name, &object, err);
    if (!rv)
        rv = digest_object(end, &object.set, out, err);
    kf_vault_forget(end->vault);
    return rv;
}

/* What a reader sees and what is beside it, key bytes too; the latter under a key of
 * the domain, so that two ends of one domain agree. */
kf_rv kf_softhsm_whole(void *state, CK_OBJECT_HANDLE handle,
                       const struct kf_attributes *known, uint8_t out[KF_WHOLE_BYTES],
                       struct kf_error *err)
{
    static const char NAME[] = "keyferry whole 1";
    const struct kf_slice name_of_key = { NAME, sizeof NAME };
    struct kf_softhsm_end *end = state;
    struct kf_vault_object object;
    uint8_t key[KF_MAC_BYTES];
    const char *name;
    kf_rv rv = kf_domain_mac(end->domain, &name_of_key, 1, key, err);

    if (!rv)
        rv = kf_index_open(end->index, handle, known, &name, &object, err);
    if (!rv
        && (!kf_softhsm_view(&object.set, &end->scratch, out)
            || !kf_softhsm_rest(&object.set, key, &end->secret, out + KF_VIEW_BYTES)))
        rv = kf_softhsm_no_memory(err);
    kf_vault_forget(end->vault);
    OPENSSL_cleanse(key, sizeof key);
    return rv;
}
