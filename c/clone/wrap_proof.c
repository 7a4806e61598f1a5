/* SPDX-License-Identifier: MIT */
#include "clone/wrap_proof.h"

#include "clone/crypto.h"

#include <openssl/crypto.h>
#include <string.h>

enum { PROOF_AES = 16, PROOF_SHORT = 8 };

/* A session key whose value nobody needs to hide. */
static struct kf_attributes *proof_set(CK_KEY_TYPE type)
{
    struct kf_attributes *set = kf_attributes_new(true);
    bool good;

    if (!set)
        return NULL;
    good = kf_attributes_set_ulong(set, CKA_CLASS, CKO_SECRET_KEY) &&
           kf_attributes_set_ulong(set, CKA_KEY_TYPE, type) &&
           kf_attributes_set_bool(set, CKA_TOKEN, false) &&
           kf_attributes_set_bool(set, CKA_PRIVATE, true) &&
           kf_attributes_set_bool(set, CKA_SENSITIVE, false) &&
           kf_attributes_set_bool(set, CKA_EXTRACTABLE, true);
    if (good)
        return set;
    kf_attributes_free(set);
    return NULL;
}

static kf_rv make_known(struct kf_session *session, CK_KEY_TYPE type,
                        const struct kf_secret *value, CK_OBJECT_HANDLE *out)
{
    struct kf_attributes *set = proof_set(type);
    kf_rv rv = KFR_MEMORY;

    if (set && kf_attributes_set(set, CKA_VALUE, KF_BYTES, value->data, value->len))
        rv = kf_object_create(session, set, out, NULL);
    kf_attributes_free(set);
    return rv;
}

/* For modules that take no secret key in the clear (FIPS): any key of that length. */
static kf_rv make_unknown(struct kf_session *session, CK_OBJECT_HANDLE *out)
{
    CK_MECHANISM mechanism = {CKM_AES_KEY_GEN, NULL, 0};
    struct kf_attributes *set = proof_set(CKK_AES);
    kf_rv rv = KFR_MEMORY;

    if (set && kf_attributes_set_ulong(set, CKA_VALUE_LEN, PROOF_AES) &&
        kf_attributes_set_bool(set, CKA_SENSITIVE, true))
        rv = kf_object_generate(session, &mechanism, set, out, NULL);
    kf_attributes_free(set);
    return rv;
}

/* Where a key may not be read: CKR_ATTRIBUTE_SENSITIVE when there is no digest either. */
static kf_rv has_digest(struct kf_session *session, CK_OBJECT_HANDLE key,
                        const struct kf_secret *value)
{
    uint8_t theirs[KF_MAC_BYTES], ours[KF_CRYPTO_HASH];

    if (kf_object_digest(session, key, theirs))
        return CKR_ATTRIBUTE_SENSITIVE;
    if (!kf_crypto_sha256(value->data, value->len, ours))
        return KFR_CRYPTO;
    return CRYPTO_memcmp(theirs, ours, sizeof ours) ? KFR_DIFFERS : KFR_OK;
}

/* The value of a key of ours is `value`: read, or by digest, or else (where the module
 * keeps it back) unknown, which is CKR_ATTRIBUTE_SENSITIVE. */
static kf_rv has_value(struct kf_session *session, CK_OBJECT_HANDLE key,
                       const struct kf_secret *value)
{
    struct kf_attributes *got = NULL;
    const struct kf_attribute *at;
    kf_rv rv = kf_object_read_key(session, key, &got, NULL);

    if (rv)
        return has_digest(session, key, value);
    at = kf_attributes_get(got, CKA_VALUE);
    if (!at)
        rv = has_digest(session, key, value);
    else if (at->len != value->len || CRYPTO_memcmp(at->value, value->data, at->len))
        rv = KFR_DIFFERS;
    kf_attributes_free(got);
    return rv;
}

static void destroy(struct kf_session *session, CK_OBJECT_HANDLE key)
{
    if (key != CK_INVALID_HANDLE)
        kf_object_discard(session, key);
}

/* ---- with the domain's keys at hand ---- */

/* What was read is the key: known, or (one that the module made, where it takes none in
 * the clear) as long as it and with the digest that the module makes of it, where it does.
 * RFC 5649 and RFC 3394 vouch for themselves by their check block. */
static kf_rv is_value(struct kf_wrap_format *format, const struct kf_wrap_way *way,
                      CK_OBJECT_HANDLE key, const struct kf_secret *known,
                      const struct kf_secret *got)
{
    uint8_t theirs[KF_MAC_BYTES], ours[KF_CRYPTO_HASH];

    if (known)
        return kf_secret_equal(got, known) ? KFR_OK : KFR_DIFFERS;
    if (got->len != PROOF_AES)
        return KFR_DIFFERS;
    if (kf_object_digest(format->session, key, theirs))
        return way->form == KF_FORM_CBC_PAD ? KFR_NOT_FOUND : KFR_OK;
    if (!kf_crypto_sha256(got->data, got->len, ours))
        return KFR_CRYPTO;
    return CRYPTO_memcmp(theirs, ours, sizeof ours) ? KFR_DIFFERS : KFR_OK;
}

/* What the module wrapped is read here. */
static kf_rv prove_wrap_host(struct kf_wrap_format *format,
                             const struct kf_wrap_way *way)
{
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    struct kf_secret *value = NULL, *blob = NULL, *back = NULL;
    bool known = true;
    kf_rv rv;

    rv = kf_session_random(format->session, PROOF_AES, &value, NULL);
    if (rv)
        goto done;
    rv = make_known(format->session, CKK_AES, value, &key);
    if (rv) {
        known = false;
        rv = make_unknown(format->session, &key);
    }
    if (!rv)
        rv = kf_way_wrap(format, way, key, &blob, &back, NULL);
    if (!rv)
        rv = is_value(format, way, key, known ? value : NULL, back);
done:
    destroy(format->session, key);
    kf_secret_free(value);
    kf_secret_free(blob);
    kf_secret_free(back);
    return rv;
}

/* The key as C_WrapKey gives it is the one it came from. */
static kf_rv wraps_to(struct kf_wrap_format *format, CK_OBJECT_HANDLE key,
                      const struct kf_writer *body)
{
    struct kf_secret *again = NULL;
    kf_rv rv = kf_wrap_out(format, key, &again, NULL);

    if (!rv && (again->len != body->len || memcmp(again->data, body->data, body->len)))
        rv = KFR_DIFFERS;
    kf_secret_free(again);
    return rv;
}

static kf_rv prove_unwrap_host(struct kf_wrap_format *format,
                               const struct kf_wrap_way *way)
{
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    struct kf_attributes *set = NULL;
    struct kf_secret *value = NULL;
    struct kf_writer body = {0};
    kf_rv rv;

    rv = kf_session_random(format->session, PROOF_AES, &value, NULL);
    if (!rv)
        rv = kf_domain_wrap_bytes(format->domain, value->data, value->len, &body, NULL);
    if (rv)
        goto done;
    rv = KFR_MEMORY;
    set = proof_set(CKK_AES);
    if (set)
        rv = kf_way_unwrap(format, way, body.data, body.len, set, &key, NULL);
    if (rv && set && kf_attributes_set_bool(set, CKA_SENSITIVE, true))
        rv = kf_way_unwrap(format, way, body.data, body.len, set, &key, NULL);
    if (rv)
        goto done;
    rv = has_value(format->session, key, value);
    if (rv == CKR_ATTRIBUTE_SENSITIVE)
        rv = wraps_to(format, key, &body);
done:
    destroy(format->session, key);
    kf_attributes_free(set);
    kf_secret_free(value);
    kf_writer_clear(&body);
    return rv;
}

/* ---- without them ---- */

/* 8 bytes become 16 under RFC 5649 only (section 4.1: one block, which RFC 3394 cannot
 * be, and which PKCS#7 padding makes 24); and the way back gives them. */
static kf_rv prove_token(struct kf_wrap_format *format, const struct kf_wrap_way *way)
{
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE, again = CK_INVALID_HANDLE;
    struct kf_secret *value = NULL, *blob = NULL;
    struct kf_attributes *set = NULL;
    kf_rv rv;

    rv = kf_session_random(format->session, PROOF_SHORT, &value, NULL);
    if (!rv)
        rv = make_known(format->session, CKK_GENERIC_SECRET, value, &key);
    if (!rv)
        rv = kf_way_wrap(format, way, key, &blob, NULL, NULL);
    if (!rv && blob->len != 2 * PROOF_SHORT)
        rv = KFR_DIFFERS;
    if (rv)
        goto done;
    rv = KFR_MEMORY;
    set = proof_set(CKK_GENERIC_SECRET);
    if (set)
        rv = kf_way_unwrap(format, way, blob->data, blob->len, set, &again, NULL);
    if (!rv)
        rv = has_value(format->session, again, value);
done:
    destroy(format->session, key);
    destroy(format->session, again);
    kf_attributes_free(set);
    kf_secret_free(value);
    kf_secret_free(blob);
    return rv;
}

kf_rv kf_wrap_prove(struct kf_wrap_format *format, const struct kf_wrap_way *way,
                    bool unwrap)
{
    if (!kf_domain_is_host(format->domain))
        return prove_token(format, way); /* goes there and back */
    return unwrap ? prove_unwrap_host(format, way) : prove_wrap_host(format, way);
}
