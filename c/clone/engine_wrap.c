/* SPDX-License-Identifier: MIT
 * engine_wrap: any module, by C_WrapKey and C_UnwrapKey under the domain's key, and by
 * attributes for what is no key.
 */
#include "clone/crypto.h"
#include "clone/engine.h"
#include "clone/material.h"
#include "clone/wrap_check.h"
#include "clone/wrap_foresee.h"
#include "clone/wrap_format.h"
#include "clone/wrap_plant.h"
#include "pkcs11/quirk.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char UNTRUE[] =
    "nothing of it was written; the module wraps no such key right, so leave it out";

struct wrap_end {
    struct kf_wrap_format format;
    struct kf_wrap_plant plant;
    struct kf_wrap_rehearsal rehearsal;
};

/* ---- probe, open, close ---- */

/* Whatever a module lacks is a matter of single objects: without any mechanism that wraps
 * keys there still are those that may be read, and what is no key. */
static kf_rv probe(struct kf_session *session, struct kf_error *err)
{
    return kf_session_check_open(session, "C_GetSessionInfo", err);
}

static kf_rv open_end(struct kf_session *session, struct kf_domain *domain,
                      void **state, struct kf_error *err)
{
    struct wrap_end *end = calloc(1, sizeof *end);

    *state = NULL;
    if (!end)
        return kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for the engine wrap");
    end->format.session = session;
    end->format.domain = kf_domain_ref(domain);
    end->plant.format = &end->format;
    *state = end;
    return KFR_OK;
}

static void close_end(void *state)
{
    struct wrap_end *end = state;

    if (!end)
        return;
    kf_wrap_plant_close(&end->plant);
    kf_wrap_rehearsal_close(&end->rehearsal);
    kf_wrap_format_clear(&end->format);
    kf_domain_detach(end->format.domain, end->format.session);
    kf_domain_unref(end->format.domain);
    free(end);
}

/* ---- the body of a key ---- */

/* A key on its way out: the wrapped body, and the body itself where the domain's keys
 * are at hand. */
struct body {
    struct kf_secret *wrapped;
    struct kf_secret *plain; /* NULL: token domain */
};

static void body_clear(struct body *body)
{
    kf_secret_free(body->wrapped);
    kf_secret_free(body->plain);
    *body = (struct body){0};
}

/* Types whose keys are whole blocks, so that no padding can hide in their bodies. */
static bool is_whole_blocks(CK_KEY_TYPE type)
{
    return type == CKK_AES || type == CKK_DES || type == CKK_DES2 || type == CKK_DES3;
}

static kf_rv refuse_length(struct kf_error *err, const char *why)
{
    return kf_fail(err, KFR_NOT_CLONABLE, "C_WrapKey",
                   "the engine softhsm can clone it, or a domain given as text", "%s",
                   why);
}

/* Cuts the padding that a module put before RFC 5649, and wraps what is the key. */
static kf_rv cut_body(struct wrap_end *end, struct body *body, size_t len,
                      struct kf_error *err)
{
    struct kf_writer again = {0};
    kf_rv rv;

    kf_secret_cut(body->plain, len);
    rv = kf_domain_wrap_bytes(end->format.domain, body->plain->data, len, &again, err);
    if (!rv) {
        kf_secret_free(body->wrapped);
        body->wrapped = kf_secret_from(again.data, again.len);
        if (!body->wrapped)
            rv = kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for a wrapped key");
    }
    kf_writer_clear(&again);
    return rv;
}

static size_t zeros_at_end(const struct kf_secret *plain)
{
    size_t n = 0;

    while (n < 7 && n + 1 < plain->len && !plain->data[plain->len - 1 - n])
        n++;
    return n;
}

/* The length of a key that the token does not tell: asked by digest, with each length
 * that the zeros at the end allow. */
static kf_rv length_by_digest(struct wrap_end *end, CK_OBJECT_HANDLE object,
                              const struct body *body, size_t *len,
                              struct kf_error *err)
{
    uint8_t theirs[KF_MAC_BYTES], ours[KF_CRYPTO_HASH];
    size_t zeros = zeros_at_end(body->plain), cut;

    if (kf_object_digest(end->format.session, object, theirs))
        return refuse_length(err,
                             "the token tells neither length nor digest of this key, "
                             "so padding cannot be told from key bytes");
    for (cut = 0; cut <= zeros; cut++) {
        *len = body->plain->len - cut;
        if (!kf_crypto_sha256(body->plain->data, *len, ours))
            return kf_fail(err, KFR_CRYPTO, NULL, NULL, "SHA-256 failed");
        if (!CRYPTO_memcmp(ours, theirs, sizeof ours))
            return KFR_OK;
    }
    return kf_fail(err, KFR_DIFFERS, "C_WrapKey", UNTRUE,
                   "what the token wrapped is not this key");
}

/* A program is still making it, or died doing so. */
static kf_rv not_whole(struct kf_error *err)
{
    return kf_fail(err, KFR_NOT_CLONABLE, NULL,
                   "run again when it is whole, or remove it",
                   "the object is not whole: its key bytes are not there");
}

/* SoftHSM pads a secret key with zeros to 8 bytes before it wraps, so the length that
 * RFC 5649 keeps is wrong. Makes the body exactly as long as the key. */
static kf_rv fit_plain(struct wrap_end *end, CK_OBJECT_HANDLE object,
                       const struct kf_attributes *known, struct body *body,
                       struct kf_error *err)
{
    uint64_t told = kf_attributes_ulong(known, CKA_VALUE_LEN, 0);
    size_t len = body->plain->len, want = len;
    kf_rv rv = KFR_OK;

    if (!len)
        return not_whole(err);
    if (told && told != CK_UNAVAILABLE_INFORMATION) {
        want = (size_t)told;
        if (want > len || len - want > zeros_at_end(body->plain))
            return kf_fail(err, KFR_DIFFERS, "C_WrapKey", UNTRUE,
                           "the token wrapped %zu bytes for a key of %zu", len, want);
    } else if (len % 8 == 0 && zeros_at_end(body->plain) &&
               !is_whole_blocks(kf_attributes_ulong(known, CKA_KEY_TYPE, 0))) {
        rv = length_by_digest(end, object, body, &want, err);
    }
    return rv || want == len ? rv : cut_body(end, body, want, err);
}

/* The same question where the domain's keys stay in the token: what was wrapped is
 * unwrapped there again, and both keys digested. */
static kf_rv same_after_unwrap(struct wrap_end *end, CK_OBJECT_HANDLE object,
                               const struct body *body, struct kf_error *err)
{
    struct kf_attributes *set = kf_attributes_new(false);
    struct kf_session *session = end->format.session;
    uint8_t theirs[KF_MAC_BYTES], again[KF_MAC_BYTES];
    CK_OBJECT_HANDLE copy = CK_INVALID_HANDLE;
    kf_rv rv = KFR_MEMORY;

    if (set && kf_attributes_set_ulong(set, CKA_CLASS, CKO_SECRET_KEY) &&
        kf_attributes_set_ulong(set, CKA_KEY_TYPE, CKK_GENERIC_SECRET) &&
        kf_attributes_set_bool(set, CKA_TOKEN, false) &&
        kf_attributes_set_bool(set, CKA_PRIVATE, true) &&
        kf_attributes_set_bool(set, CKA_SENSITIVE, true) &&
        kf_attributes_set_bool(set, CKA_EXTRACTABLE, false))
        rv = kf_wrap_in(&end->format, body->wrapped->data, body->wrapped->len, set,
                        &copy, err);
    else
        kf_fail(err, rv, NULL, NULL, "no memory to check a wrapped key");
    kf_attributes_free(set);
    if (rv)
        return rv;
    rv = kf_object_digest(session, object, theirs);
    if (!rv)
        rv = kf_object_digest(session, copy, again);
    kf_object_discard(session, copy);
    if (rv)
        return refuse_length(err, "the token tells too little to be sure that it wraps "
                                  "this key without padding");
    return memcmp(theirs, again, sizeof theirs)
               ? refuse_length(err,
                               "the token pads this key when it wraps it (its length "
                               "is no multiple of 8)")
               : KFR_OK;
}

static kf_rv fit_wrapped(struct wrap_end *end, CK_OBJECT_HANDLE object,
                         const struct kf_attributes *known, const struct body *body,
                         struct kf_error *err)
{
    uint64_t told = kf_attributes_ulong(known, CKA_VALUE_LEN, 0);
    bool whole = is_whole_blocks(kf_attributes_ulong(known, CKA_KEY_TYPE, 0));

    if (told == CK_UNAVAILABLE_INFORMATION)
        told = 0;
    if (told && body->wrapped->len != (size_t)((told + 7) / 8 * 8 + 8))
        return kf_fail(err, KFR_DIFFERS, "C_WrapKey", UNTRUE,
                       "the token wrapped %zu bytes for a key of %lu",
                       body->wrapped->len, (unsigned long)told);
    if (told ? told % 8 == 0 : whole)
        return KFR_OK;
    return same_after_unwrap(end, object, body, err);
}

/* A private key's body is one of its type, and has the modulus that the token shows. */
static kf_rv check_private(const struct kf_attributes *known, const struct body *body,
                           struct kf_error *err)
{
    const struct kf_attribute *ours, *theirs;
    struct kf_attributes *got = NULL;
    kf_rv rv;

    rv = kf_material_attributes(known, body->plain->data, body->plain->len, &got, err);
    if (rv)
        return rv == KFR_NOT_CLONABLE ? KFR_OK : rv; /* a type nobody here can read */
    ours = kf_attributes_get(got, CKA_MODULUS);
    theirs = kf_attributes_get(known, CKA_MODULUS);
    if (ours && theirs && !kf_wrap_same_number(ours, theirs))
        rv = kf_fail(err, KFR_DIFFERS, "C_WrapKey", UNTRUE,
                     "what the token wrapped is not this key");
    kf_attributes_free(got);
    return rv;
}

static kf_rv take_body(struct wrap_end *end, CK_OBJECT_HANDLE object,
                       const struct kf_attributes *known, struct body *out,
                       struct kf_error *err)
{
    bool secret = kf_attributes_ulong(known, CKA_CLASS, 0) != CKO_PRIVATE_KEY;
    kf_rv rv = kf_wrap_out(&end->format, object, &out->wrapped, err);

    if (!rv && kf_domain_is_host(end->format.domain)) {
        rv = kf_domain_unwrap_bytes(end->format.domain, out->wrapped->data,
                                    out->wrapped->len, &out->plain, err);
        if (!rv)
            rv = secret ? fit_plain(end, object, known, out, err)
                        : check_private(known, out, err);
    } else if (!rv && secret) {
        rv = fit_wrapped(end, object, known, out, err);
    }
    if (rv)
        body_clear(out);
    return rv;
}

/* ---- sealing ---- */

/* What else could clone a key that is not wrapped. */
static const char *another_way(struct kf_session *session)
{
    return kf_engine_softhsm.probe(session, NULL) == KFR_OK
               ? "the engine softhsm can clone it"
               : "it stays there, unless its HSM clones keys itself";
}

static bool may_leave(const struct kf_attributes *known)
{
    return kf_attributes_bool(known, CKA_EXTRACTABLE, false) &&
           !kf_attributes_bool(known, CKA_WRAP_WITH_TRUSTED, false);
}

/* Why a key may not leave. */
static kf_rv stays(struct kf_session *session, const struct kf_attributes *known,
                   struct kf_error *err)
{
    const char *way = another_way(session);

    if (!kf_attributes_bool(known, CKA_EXTRACTABLE, false))
        return kf_fail(err, KFR_NOT_CLONABLE, NULL, way,
                       "CKA_EXTRACTABLE is false: this key may not leave its token by "
                       "C_WrapKey; %s",
                       way);
    return kf_fail(
        err, KFR_NOT_CLONABLE, NULL, way,
        "CKA_WRAP_WITH_TRUSTED is true: this key may leave its token only under a "
        "key that the SO has marked as trusted, which a cloning domain is not");
}

/* Why a key that may leave did not; the module's own code stays in the sentence. */
static kf_rv not_wrapped(struct kf_session *session, struct kf_error *err, kf_rv rv)
{
    char text[64];

    if (rv != CKR_KEY_NOT_WRAPPABLE && rv != CKR_KEY_UNEXTRACTABLE &&
        rv != CKR_KEY_SIZE_RANGE)
        return rv;
    return kf_fail(
        err, KFR_NOT_CLONABLE, "C_WrapKey", another_way(session),
        "the token does not wrap this key (%s), and as CKA_SENSITIVE is true "
        "it cannot be read either",
        kf_name_text(KF_CKR, rv, text, sizeof text));
}

static bool has_value(const struct kf_attributes *key, uint64_t type)
{
    const struct kf_attribute *at = kf_attributes_get(key, type);

    return at && at->len;
}

/* A key that may be read travels by its own attributes. */
static kf_rv read_body(struct wrap_end *end, CK_OBJECT_HANDLE object,
                       const struct kf_attributes *known, struct kf_sealed *sealed,
                       struct kf_error *err)
{
    bool rsa = kf_attributes_ulong(known, CKA_CLASS, 0) == CKO_PRIVATE_KEY &&
               kf_attributes_ulong(known, CKA_KEY_TYPE, 0) == CKK_RSA;
    kf_rv rv = kf_object_read_key(end->format.session, object, &sealed->hidden, err);

    if (!rv && !has_value(sealed->hidden, rsa ? CKA_PRIVATE_EXPONENT : CKA_VALUE))
        rv = not_whole(err);
    return rv;
}

static kf_rv seal_key(struct wrap_end *end, CK_OBJECT_HANDLE object,
                      const struct kf_attributes *known, struct kf_sealed *sealed,
                      struct kf_error *err)
{
    struct body body = {0};
    kf_rv rv;

    if (!may_leave(known))
        return stays(end->format.session, known, err);
    rv = take_body(end, object, known, &body, err);
    if (rv && !kf_attributes_bool(known, CKA_SENSITIVE, true))
        return read_body(end, object, known, sealed, err);
    if (rv)
        return not_wrapped(end->format.session, err, rv);
    sealed->wrapped = OPENSSL_memdup(body.wrapped->data, body.wrapped->len);
    if (sealed->wrapped) {
        sealed->wrapped_len = body.wrapped->len;
        sealed->body = kf_attributes_ulong(known, CKA_CLASS, 0) == CKO_PRIVATE_KEY
                           ? KF_BODY_PKCS8
                           : KF_BODY_SECRET;
    } else {
        rv = kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for a wrapped key");
    }
    body_clear(&body);
    return rv;
}

/* A private object's value travels encrypted, whatever it is. */
static kf_rv hide_value(struct wrap_end *end, CK_OBJECT_HANDLE object,
                        struct kf_sealed *sealed, struct kf_error *err)
{
    const struct kf_attribute *value;
    kf_rv rv;

    if (!kf_attributes_bool(sealed->open, CKA_PRIVATE, false))
        return KFR_OK;
    value = kf_attributes_get(sealed->open, CKA_VALUE);
    sealed->hidden = kf_attributes_new(true);
    if (!sealed->hidden)
        return kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for a private value");
    rv = value ? KFR_OK
               : kf_object_read_one(end->format.session, object, CKA_VALUE,
                                    sealed->hidden, err);
    if (value && !kf_attributes_set(sealed->hidden, CKA_VALUE, KF_BYTES, value->value,
                                    value->len))
        rv = kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for a private value");
    if (!rv)
        kf_attributes_remove(sealed->open, CKA_VALUE);
    return rv;
}

static kf_rv show_value(struct wrap_end *end, CK_OBJECT_HANDLE object,
                        struct kf_sealed *sealed, struct kf_error *err)
{
    if (kf_attributes_bool(sealed->open, CKA_PRIVATE, false))
        return hide_value(end, object, sealed, err);
    if (kf_attributes_get(sealed->open, CKA_VALUE))
        return KFR_OK;
    return kf_object_read_one(end->format.session, object, CKA_VALUE, sealed->open,
                              err);
}

static kf_rv seal_open(struct wrap_end *end, CK_OBJECT_HANDLE object,
                       const struct kf_attributes *known, struct kf_sealed *sealed,
                       struct kf_error *err)
{
    (void)end, (void)object, (void)known, (void)sealed, (void)err;
    return KFR_OK;
}

static kf_rv seal_data(struct wrap_end *end, CK_OBJECT_HANDLE object,
                       const struct kf_attributes *known, struct kf_sealed *sealed,
                       struct kf_error *err)
{
    (void)known;
    return show_value(end, object, sealed, err);
}

static const struct sealer {
    CK_OBJECT_CLASS object_class;
    kf_rv (*seal)(struct wrap_end *end, CK_OBJECT_HANDLE object,
                  const struct kf_attributes *known, struct kf_sealed *sealed,
                  struct kf_error *err);
} sealers[] = {
    {CKO_DATA, seal_data},       {CKO_CERTIFICATE, seal_open},
    {CKO_PUBLIC_KEY, seal_open}, {CKO_PRIVATE_KEY, seal_key},
    {CKO_SECRET_KEY, seal_key},  {CKO_DOMAIN_PARAMETERS, seal_open},
};

static const struct sealer *sealer_of(const struct kf_attributes *known)
{
    uint64_t object_class = kf_attributes_ulong(known, CKA_CLASS, UINT64_MAX);
    size_t i;

    for (i = 0; i < sizeof sealers / sizeof sealers[0]; i++)
        if (sealers[i].object_class == object_class)
            return &sealers[i];
    return NULL;
}

/* What the token has and would not give (private dates on SoftHSM). */
static kf_rv note_unread(struct wrap_end *end, CK_OBJECT_HANDLE object,
                         const struct kf_attributes *known, char lost[KF_LOST_MAX],
                         struct kf_error *err)
{
    struct kf_attributes *now = NULL;
    uint64_t unread[KF_ROWS_MAX];
    size_t count = 0, i;
    kf_rv rv;

    if (kf_object_has_all(end->format.session, known))
        return KFR_OK;
    rv = kf_object_read(end->format.session, object, &now, unread, &count, err);
    for (i = 0; !rv && i < count; i++)
        kf_wrap_lose(lost, unread[i]);
    kf_attributes_free(now);
    return rv;
}

/* What was wrapped last is still what was read first: handles come to mean other objects
 * when those are removed, and modules lie. */
static kf_rv check_unchanged(struct wrap_end *end, CK_OBJECT_HANDLE object,
                             const struct kf_attributes *known, struct kf_error *err)
{
    struct kf_attributes *now = NULL;
    kf_rv rv = kf_object_read(end->format.session, object, &now, NULL, NULL, err);

    for (size_t i = 0; !rv && i < known->count; i++) {
        const struct kf_attribute *is = kf_attributes_get(now, known->at[i].type);

        if (!is || !kf_attribute_equal(&known->at[i], is))
            rv = kf_fail(err, KFR_DIFFERS, NULL, "run the command again",
                         "the object has become another since it was read");
    }
    kf_attributes_free(now);
    return rv;
}

/* A key that was private whatever it says is not to become a public one. */
static kf_rv keep_private(struct wrap_end *end, struct kf_sealed *sealed,
                          char lost[KF_LOST_MAX], struct kf_error *err)
{
    uint64_t object_class = kf_attributes_ulong(sealed->open, CKA_CLASS, UINT64_MAX);

    if ((object_class != CKO_PRIVATE_KEY && object_class != CKO_SECRET_KEY) ||
        kf_attributes_bool(sealed->open, CKA_PRIVATE, true) ||
        !kf_quirk_has(kf_session_module(end->format.session), KF_QUIRK_KEYS_PRIVATE))
        return KFR_OK;
    kf_wrap_lose(lost, CKA_PRIVATE);
    return kf_attributes_set_bool(sealed->open, CKA_PRIVATE, true)
               ? KFR_OK
               : kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for attributes");
}

static kf_rv seal(void *state, CK_OBJECT_HANDLE object,
                  const struct kf_attributes *known, struct kf_writer *out,
                  char lost[KF_LOST_MAX], struct kf_error *err)
{
    const struct sealer *sealer = sealer_of(known);
    struct wrap_end *end = state;
    struct kf_sealed sealed = {.engine = "wrap"};
    char text[64];
    kf_rv rv;

    lost[0] = '\0';
    if (!sealer)
        return kf_fail(err, KFR_NOT_CLONABLE, NULL, NULL,
                       "the engine wrap does not know objects of the class %s",
                       kf_name_text(KF_CKO,
                                    kf_attributes_ulong(known, CKA_CLASS, UINT64_MAX),
                                    text, sizeof text));
    snprintf(sealed.source_serial, sizeof sealed.source_serial, "%s",
             kf_session_token(end->format.session)->serial);
    rv = note_unread(end, object, known, lost, err);
    if (rv)
        goto done;
    sealed.open = kf_attributes_dup(known);
    rv = sealed.open ? sealer->seal(end, object, known, &sealed, err)
                     : kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for attributes");
    if (!rv)
        rv = check_unchanged(end, object, known, err);
    if (!rv)
        rv = keep_private(end, &sealed, lost, err);
    if (!rv)
        rv = kf_sealed_encode(&sealed, end->format.domain, out, err);
done:
    kf_sealed_clear(&sealed);
    return rv;
}

/* ---- digest ---- */

/* The key material of `object` as far as this end may see it; an empty set when that is
 * nothing (public numbers may still be enough). */
static kf_rv read_material(struct wrap_end *end, CK_OBJECT_HANDLE object,
                           const struct kf_attributes *known,
                           struct kf_attributes **out)
{
    uint64_t object_class = kf_attributes_ulong(known, CKA_CLASS, UINT64_MAX);
    struct body body = {0};
    kf_rv rv = KFR_NOT_FOUND;

    if (object_class == CKO_DATA && !kf_attributes_get(known, CKA_VALUE)) {
        *out = kf_attributes_new(true);
        if (!*out)
            return KFR_MEMORY;
        return kf_object_read_one(end->format.session, object, CKA_VALUE, *out, NULL);
    }
    if (object_class != CKO_PRIVATE_KEY && object_class != CKO_SECRET_KEY)
        return KFR_NOT_FOUND;
    if (kf_domain_is_host(end->format.domain) && may_leave(known))
        rv = take_body(end, object, known, &body, NULL);
    if (!rv)
        rv =
            kf_material_attributes(known, body.plain->data, body.plain->len, out, NULL);
    body_clear(&body);
    return rv ? kf_object_read_key(end->format.session, object, out, NULL) : rv;
}

static kf_rv digest(void *state, CK_OBJECT_HANDLE object,
                    const struct kf_attributes *known, uint8_t out[KF_MAC_BYTES],
                    struct kf_error *err)
{
    struct wrap_end *end = state;
    struct kf_attributes *key = NULL;
    kf_rv rv = KFR_MEMORY;

    if (read_material(end, object, known, &key)) {
        kf_attributes_free(key);
        key = NULL;
    }
    if (!key)
        key = kf_attributes_new(true);
    rv = key ? kf_material_digest(known, key, end->format.domain, out, err)
             : kf_fail(err, rv, NULL, NULL, "no memory for a digest");
    kf_attributes_free(key);
    return rv;
}

/* ---- arrival ---- */

static kf_rv stage(void *state, const struct kf_sealed *sealed,
                   const struct kf_changes *changes, struct kf_error *err)
{
    return kf_wrap_stage(&((struct wrap_end *)state)->plant, sealed, changes, err);
}

static kf_rv commit(void *state, enum kf_commit mode, const CK_OBJECT_HANDLE *remove,
                    size_t remove_count, struct kf_planted *planted,
                    struct kf_error *err)
{
    return kf_wrap_commit(&((struct wrap_end *)state)->plant, mode, remove,
                          remove_count, planted, err);
}

static void abort_staged(void *state)
{
    kf_wrap_abort(&((struct wrap_end *)state)->plant);
}

static kf_rv foresee(void *state, const struct kf_domain *domain,
                     const struct kf_sealed *sealed, const struct kf_changes *changes,
                     char lost[KF_LOST_MAX], struct kf_error *err)
{
    struct wrap_end *end = state;

    (void)domain; /* the end's own */
    return kf_wrap_foresee(end ? &end->rehearsal : NULL, end ? &end->format : NULL,
                           sealed, changes, lost, err);
}

const struct kf_engine kf_engine_wrap = {
    .name = "wrap",
    .probe = probe,
    .find_domain = kf_domain_find,
    .open = open_end,
    .close = close_end,
    .seal = seal,
    .digest = digest,
    .stage = stage,
    .commit = commit,
    .abort = abort_staged,
    .foresee = foresee,
};
