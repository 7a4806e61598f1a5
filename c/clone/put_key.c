/* SPDX-License-Identifier: MIT */
#include "clone/put_key.h"

#include <limits.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>

enum { MODULUS_BITS = 2048 };

/* Best first. SoftHSM 2.6 knows SHA-1 alone; OAEP does not rest on its collisions. */
static const struct hash {
    CK_MECHANISM_TYPE mechanism;
    CK_RSA_PKCS_MGF_TYPE mgf;
    const char *name;
} hashes[] = {
    {CKM_SHA256, CKG_MGF1_SHA256, "SHA256"},
    {CKM_SHA_1, CKG_MGF1_SHA1, "SHA1"},
};

/* ---- the pair ---- */

static kf_rv make_pair(struct kf_session *session, CK_OBJECT_HANDLE *public,
                       CK_OBJECT_HANDLE *private)
{
    static const unsigned char exponent[] = {1, 0, 1};
    CK_MECHANISM mechanism = {CKM_RSA_PKCS_KEY_PAIR_GEN, NULL, 0};
    struct kf_attributes *a = kf_attributes_new(false), *b = kf_attributes_new(false);
    kf_rv rv = KFR_MEMORY;

    if (a && b && kf_attributes_set_bool(a, CKA_TOKEN, false) &&
        kf_attributes_set_ulong(a, CKA_MODULUS_BITS, MODULUS_BITS) &&
        kf_attributes_set(a, CKA_PUBLIC_EXPONENT, KF_BYTES, exponent,
                          sizeof exponent) &&
        kf_attributes_set_bool(a, CKA_ENCRYPT, true) &&
        kf_attributes_set_bool(a, CKA_WRAP, true) &&
        kf_attributes_set_bool(b, CKA_TOKEN, false) &&
        kf_attributes_set_bool(b, CKA_PRIVATE, true) &&
        kf_attributes_set_bool(b, CKA_SENSITIVE, true) &&
        kf_attributes_set_bool(b, CKA_EXTRACTABLE, false) &&
        kf_attributes_set_bool(b, CKA_DECRYPT, true) &&
        kf_attributes_set_bool(b, CKA_UNWRAP, true))
        rv = kf_object_generate_pair(session, &mechanism, a, b, public, private, NULL);
    kf_attributes_free(a);
    kf_attributes_free(b);
    return rv;
}

static BIGNUM *number_of(const struct kf_attributes *set, uint64_t type)
{
    const struct kf_attribute *at = kf_attributes_get(set, type);

    return at && at->len && at->len <= INT_MAX
               ? BN_bin2bn(at->value, (int)at->len, NULL)
               : NULL;
}

/* The public half, in OpenSSL's hands. NULL: it cannot be had. */
static EVP_PKEY *public_key(struct kf_session *session, CK_OBJECT_HANDLE public)
{
    struct kf_attributes *set = kf_attributes_new(false);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    BIGNUM *n = NULL, *e = NULL;
    OSSL_PARAM *params = NULL;
    EVP_PKEY *key = NULL;

    if (!set || !build || !context ||
        kf_object_read_one(session, public, CKA_MODULUS, set, NULL) ||
        kf_object_read_one(session, public, CKA_PUBLIC_EXPONENT, set, NULL))
        goto done;
    n = number_of(set, CKA_MODULUS);
    e = number_of(set, CKA_PUBLIC_EXPONENT);
    if (!n || !e || BN_num_bits(n) < MODULUS_BITS ||
        !OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) ||
        !OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e))
        goto done;
    params = OSSL_PARAM_BLD_to_param(build);
    if (!params || EVP_PKEY_fromdata_init(context) <= 0 ||
        EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, params) <= 0)
        key = NULL;
done:
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    EVP_PKEY_CTX_free(context);
    BN_free(n);
    BN_free(e);
    kf_attributes_free(set);
    ERR_clear_error();
    return key;
}

/* ---- the key ---- */

static bool encrypt(EVP_PKEY *key, const struct hash *hash,
                    const struct kf_attribute *value, struct kf_secret **out)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    size_t len = 0;
    bool good;

    good = context && EVP_PKEY_encrypt_init(context) > 0 &&
           EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_OAEP_PADDING) > 0 &&
           EVP_PKEY_CTX_set_rsa_oaep_md_name(context, hash->name, NULL) > 0 &&
           EVP_PKEY_CTX_set_rsa_mgf1_md_name(context, hash->name, NULL) > 0 &&
           EVP_PKEY_encrypt(context, NULL, &len, value->value, value->len) > 0;
    *out = good ? kf_secret_new(len) : NULL;
    good = *out &&
           EVP_PKEY_encrypt(context, (*out)->data, &len, value->value, value->len) > 0;
    if (good)
        kf_secret_cut(*out, len);
    EVP_PKEY_CTX_free(context);
    ERR_clear_error();
    return good;
}

static kf_rv unwrap(struct kf_session *session, CK_OBJECT_HANDLE private, EVP_PKEY *key,
                    const struct kf_attributes *set, const struct kf_attribute *value,
                    CK_OBJECT_HANDLE *out)
{
    kf_rv rv = KFR_CRYPTO;
    size_t i;

    for (i = 0; i < sizeof hashes / sizeof hashes[0] && rv; i++) {
        CK_RSA_PKCS_OAEP_PARAMS params = {hashes[i].mechanism, hashes[i].mgf,
                                          CKZ_DATA_SPECIFIED, NULL, 0};
        CK_MECHANISM mechanism = {CKM_RSA_PKCS_OAEP, &params, sizeof params};
        struct kf_secret *blob = NULL;

        if (encrypt(key, &hashes[i], value, &blob))
            rv = kf_object_unwrap(session, private, &mechanism, blob->data, blob->len,
                                  set, out, NULL);
        kf_secret_free(blob);
    }
    return rv;
}

static kf_rv by_oaep(struct kf_session *session, const struct kf_attributes *set,
                     CK_OBJECT_HANDLE *out)
{
    CK_OBJECT_HANDLE public = CK_INVALID_HANDLE, private = CK_INVALID_HANDLE;
    const struct kf_attribute *value = kf_attributes_get(set, CKA_VALUE);
    struct kf_attributes *rest = NULL;
    EVP_PKEY *key = NULL;
    kf_rv rv = KFR_MEMORY;

    rest = kf_attributes_dup(set);
    if (!rest || !value)
        goto done;
    kf_attributes_remove(rest, CKA_VALUE);
    rv = make_pair(session, &public, &private);
    if (rv)
        goto done;
    key = public_key(session, public);
    rv = key ? unwrap(session, private, key, rest, value, out) : KFR_CRYPTO;
done:
    if (public != CK_INVALID_HANDLE)
        kf_object_discard(session, public);
    if (private != CK_INVALID_HANDLE)
        kf_object_discard(session, private);
    EVP_PKEY_free(key);
    kf_attributes_free(rest);
    return rv;
}

/* Refusals that may be of a value in the clear. */
static bool is_about_clear(kf_rv rv)
{
    static const kf_rv codes[] = {
        CKR_ATTRIBUTE_VALUE_INVALID, CKR_ATTRIBUTE_READ_ONLY,
        CKR_ATTRIBUTE_TYPE_INVALID,  CKR_ATTRIBUTE_SENSITIVE,
        CKR_TEMPLATE_INCONSISTENT,   CKR_TEMPLATE_INCOMPLETE,
        CKR_ACTION_PROHIBITED,       CKR_FUNCTION_NOT_SUPPORTED,
        CKR_FUNCTION_REJECTED,
    };

    return KF_AMONG(rv, codes);
}

kf_rv kf_put_key(struct kf_session *session, const struct kf_attributes *set,
                 CK_OBJECT_HANDLE *out, struct kf_error *err)
{
    kf_rv rv = kf_object_create(session, set, out, err);

    if (is_about_clear(rv) && !by_oaep(session, set, out))
        rv = KFR_OK;
    return rv;
}
