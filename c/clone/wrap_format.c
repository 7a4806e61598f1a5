/* SPDX-License-Identifier: MIT */
#include "clone/wrap_format.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

enum { PROOF_AES = 16, PROOF_SHORT = 8 };

static const CK_MECHANISM_TYPE candidates[] = {
    KF_CKM_AES_KEY_WRAP_KWP,
    CKM_AES_KEY_WRAP_PAD,
};
enum { CANDIDATES = sizeof candidates / sizeof candidates[0] };

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

/* The value of a key of ours is `value`: read, or else (where the module keeps it back)
 * unknown, which is CKR_ATTRIBUTE_SENSITIVE. */
static kf_rv has_value(struct kf_session *session, CK_OBJECT_HANDLE key,
                       const struct kf_secret *value)
{
    struct kf_attributes *got = NULL;
    const struct kf_attribute *at;
    kf_rv rv = kf_object_read_key(session, key, &got, NULL);

    if (rv)
        return CKR_ATTRIBUTE_SENSITIVE;
    at = kf_attributes_get(got, CKA_VALUE);
    if (!at)
        rv = CKR_ATTRIBUTE_SENSITIVE;
    else if (at->len != value->len || CRYPTO_memcmp(at->value, value->data, at->len))
        rv = KFR_DIFFERS;
    kf_attributes_free(got);
    return rv;
}

static kf_rv wrap_by(struct kf_wrap_format *format, CK_MECHANISM_TYPE type,
                     CK_OBJECT_HANDLE key, struct kf_secret **out, struct kf_error *err)
{
    CK_MECHANISM mechanism = {type, NULL, 0};
    CK_OBJECT_HANDLE wrapping;
    kf_rv rv = kf_domain_wrapping_key(format->domain, format->session, &wrapping, err);

    return rv ? rv
              : kf_object_wrap(format->session, wrapping, &mechanism, key, out, err);
}

static kf_rv unwrap_by(struct kf_wrap_format *format, CK_MECHANISM_TYPE type,
                       const void *wrapped, size_t len, const struct kf_attributes *set,
                       CK_OBJECT_HANDLE *out, struct kf_error *err)
{
    CK_MECHANISM mechanism = {type, NULL, 0};
    CK_OBJECT_HANDLE wrapping;
    kf_rv rv = kf_domain_wrapping_key(format->domain, format->session, &wrapping, err);

    return rv ? rv
              : kf_object_unwrap(format->session, wrapping, &mechanism, wrapped, len,
                                 set, out, err);
}

static void destroy(struct kf_session *session, CK_OBJECT_HANDLE key)
{
    if (key != CK_INVALID_HANDLE)
        kf_object_destroy(session, key, NULL);
}

/* With the domain's keys at hand: what the module wrapped is unwrapped here. RFC 5649
 * is authenticated by its own check block, so no other format passes. */
static kf_rv prove_wrap_host(struct kf_wrap_format *format, CK_MECHANISM_TYPE type)
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
        rv = wrap_by(format, type, key, &blob, NULL);
    if (!rv)
        rv = kf_domain_unwrap_bytes(format->domain, blob->data, blob->len, &back, NULL);
    if (!rv && (back->len != PROOF_AES || (known && !kf_secret_equal(back, value))))
        rv = KFR_DIFFERS;
done:
    destroy(format->session, key);
    kf_secret_free(value);
    kf_secret_free(blob);
    kf_secret_free(back);
    return rv;
}

/* Without them: 8 bytes become 16 under RFC 5649 only (section 4.1: one block, which
 * RFC 3394 cannot be, and which PKCS#7 padding makes 24); and the way back gives them.
 */
static kf_rv prove_wrap_token(struct kf_wrap_format *format, CK_MECHANISM_TYPE type)
{
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE, again = CK_INVALID_HANDLE;
    struct kf_secret *value = NULL, *blob = NULL;
    struct kf_attributes *set = NULL;
    kf_rv rv;

    rv = kf_session_random(format->session, PROOF_SHORT, &value, NULL);
    if (!rv)
        rv = make_known(format->session, CKK_GENERIC_SECRET, value, &key);
    if (!rv)
        rv = wrap_by(format, type, key, &blob, NULL);
    if (!rv && blob->len != 2 * PROOF_SHORT)
        rv = KFR_DIFFERS;
    if (rv)
        goto done;
    rv = KFR_MEMORY;
    set = proof_set(CKK_GENERIC_SECRET);
    if (set)
        rv = unwrap_by(format, type, blob->data, blob->len, set, &again, NULL);
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

static kf_rv prove_wrap_one(struct kf_wrap_format *format, CK_MECHANISM_TYPE type)
{
    return kf_domain_is_host(format->domain) ? prove_wrap_host(format, type)
                                             : prove_wrap_token(format, type);
}

/* The key as C_WrapKey gives it is the blob it came from (RFC 5649 has no random part).
 */
static kf_rv wraps_to(struct kf_wrap_format *format, CK_OBJECT_HANDLE key,
                      const struct kf_writer *blob)
{
    struct kf_secret *again = NULL;
    kf_rv rv = kf_wrap_out(format, key, &again, NULL);

    if (!rv && (again->len != blob->len || memcmp(again->data, blob->data, blob->len)))
        rv = KFR_DIFFERS;
    kf_secret_free(again);
    return rv;
}

static kf_rv prove_unwrap_host(struct kf_wrap_format *format, CK_MECHANISM_TYPE type)
{
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    struct kf_attributes *set = NULL;
    struct kf_secret *value = NULL;
    struct kf_writer blob = {0};
    kf_rv rv;

    rv = kf_session_random(format->session, PROOF_AES, &value, NULL);
    if (!rv)
        rv = kf_domain_wrap_bytes(format->domain, value->data, value->len, &blob, NULL);
    if (rv)
        goto done;
    rv = KFR_MEMORY;
    set = proof_set(CKK_AES);
    if (set)
        rv = unwrap_by(format, type, blob.data, blob.len, set, &key, NULL);
    if (rv && set && kf_attributes_set_bool(set, CKA_SENSITIVE, true))
        rv = unwrap_by(format, type, blob.data, blob.len, set, &key, NULL);
    if (rv)
        goto done;
    rv = has_value(format->session, key, value);
    if (rv == CKR_ATTRIBUTE_SENSITIVE)
        rv = wraps_to(format, key, &blob);
done:
    destroy(format->session, key);
    kf_attributes_free(set);
    kf_secret_free(value);
    kf_writer_clear(&blob);
    return rv;
}

typedef kf_rv (*prover)(struct kf_wrap_format *format, CK_MECHANISM_TYPE type);

static kf_rv prove(struct kf_wrap_format *format, struct kf_wrap_proof *proof,
                   prover by, const char *call, struct kf_error *err)
{
    char reason[64];
    kf_rv rv = KFR_NO_ENGINE;
    size_t i;

    if (!proof->tried) {
        for (i = 0; i < CANDIDATES && rv; i++) {
            rv = by(format, candidates[i]);
            proof->mechanism = candidates[i];
        }
        proof->rv = rv ? KFR_NO_ENGINE : KFR_OK;
        if (rv)
            kf_fail(
                &proof->err, KFR_NO_ENGINE, call,
                "keys cannot travel through this module; objects that are no keys can",
                "neither CKM_AES_KEY_WRAP_KWP nor CKM_AES_KEY_WRAP_PAD proved to be "
                "RFC 5649 here (%s)",
                kf_name_text(KF_CKR, rv, reason, sizeof reason));
        /* A module that went away has proved nothing. */
        proof->tried = kf_session_is_open(format->session);
    }
    if (proof->rv && err)
        *err = proof->err;
    return proof->rv;
}

static kf_rv prove_wrap(struct kf_wrap_format *format, struct kf_error *err)
{
    return prove(format, &format->wrap, prove_wrap_one, "C_WrapKey", err);
}

kf_rv kf_wrap_in_ready(struct kf_wrap_format *format, struct kf_error *err)
{
    kf_rv rv;

    if (kf_domain_is_host(format->domain))
        return prove(format, &format->unwrap, prove_unwrap_host, "C_UnwrapKey", err);
    rv = prove_wrap(format, err); /* went there and back */
    format->unwrap.mechanism = format->wrap.mechanism;
    return rv;
}

kf_rv kf_wrap_out(struct kf_wrap_format *format, CK_OBJECT_HANDLE key,
                  struct kf_secret **out, struct kf_error *err)
{
    kf_rv rv = prove_wrap(format, err);

    *out = NULL;
    return rv ? rv : wrap_by(format, format->wrap.mechanism, key, out, err);
}

kf_rv kf_wrap_in(struct kf_wrap_format *format, const void *wrapped, size_t len,
                 const struct kf_attributes *set, CK_OBJECT_HANDLE *out,
                 struct kf_error *err)
{
    kf_rv rv = kf_wrap_in_ready(format, err);

    *out = CK_INVALID_HANDLE;
    return rv ? rv
              : unwrap_by(format, format->unwrap.mechanism, wrapped, len, set, out,
                          err);
}

kf_rv kf_wrap_token_digest(struct kf_session *session, CK_OBJECT_HANDLE key,
                           uint8_t out[KF_MAC_BYTES])
{
    struct kf_module *module = kf_session_module(session);
    CK_SESSION_HANDLE handle = kf_session_handle(session);
    CK_MECHANISM mechanism = {CKM_SHA256, NULL, 0};
    uint8_t nothing[KF_MAC_BYTES];
    CK_ULONG len = KF_MAC_BYTES;
    CK_RV rv, end;

    rv = KF_CALL(module, C_DigestInit, handle, &mechanism);
    if (rv)
        return rv;
    rv = KF_CALL(module, C_DigestKey, handle, key);
    /* Also after a refusal: it ends the operation. */
    end = KF_CALL(module, C_DigestFinal, handle, out, &len);
    if (!rv)
        rv = end;
    if (!rv && len != KF_MAC_BYTES)
        rv = CKR_FUNCTION_FAILED;
    if (!rv && !EVP_Digest("", 0, nothing, NULL, EVP_sha256(), NULL))
        rv = KFR_CRYPTO;
    if (!rv && !memcmp(nothing, out, KF_MAC_BYTES))
        rv = CKR_KEY_INDIGESTIBLE;
    return rv;
}
