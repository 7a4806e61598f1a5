/* SPDX-License-Identifier: MIT */
#include "clone/public_value.h"

#include "clone/curve.h"

#include <limits.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/dsa.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>

static const struct kf_attribute *value_of(const struct kf_attributes *open,
                                           const struct kf_attributes *key,
                                           uint64_t type)
{
    const struct kf_attribute *at = key ? kf_attributes_get(key, type) : NULL;

    if (!at || !at->len)
        at = kf_attributes_get(open, type);
    return at && at->len && at->len <= INT_MAX ? at : NULL;
}

/* The caller frees it with BN_clear_free; NULL: not there. */
static BIGNUM *number_of(const struct kf_attributes *open,
                         const struct kf_attributes *key, uint64_t type)
{
    const struct kf_attribute *at = value_of(open, key, type);
    BIGNUM *number = at ? BN_secure_new() : NULL;

    if (number && !BN_bin2bn(at->value, (int)at->len, number)) {
        BN_clear_free(number);
        number = NULL;
    }
    if (number)
        BN_set_flags(number, BN_FLG_CONSTTIME);
    return number;
}

static EC_GROUP *group_of(const struct kf_attributes *open,
                          const struct kf_attributes *key)
{
    const struct kf_attribute *params = value_of(open, key, CKA_EC_PARAMS);
    const struct kf_curve *curve =
        params ? kf_curve_of(params->value, params->len) : NULL;
    const unsigned char *at = NULL;
    size_t len = 0;

    if (!params || (curve && curve->modern))
        return NULL;
    at = curve ? (const unsigned char *)curve->oid : params->value;
    len = curve ? curve->oid_len : params->len;
    return d2i_ECPKParameters(NULL, &at, (long)len);
}

/* ---- computing ---- */

static kf_rv point(const struct kf_attributes *open, const struct kf_attributes *key,
                   struct kf_writer *out)
{
    EC_GROUP *group = group_of(open, key);
    BIGNUM *number = number_of(open, key, CKA_VALUE);
    EC_POINT *at = group ? EC_POINT_new(group) : NULL;
    unsigned char *room = NULL;
    size_t len = 0;
    kf_rv rv = KFR_NOT_FOUND;

    if (!at || !number)
        goto done;
    rv = KFR_DAMAGED;
    if (BN_is_zero(number) || BN_cmp(number, EC_GROUP_get0_order(group)) >= 0 ||
        !EC_POINT_mul(group, at, number, NULL, NULL, NULL))
        goto done;
    len = EC_POINT_point2oct(group, at, POINT_CONVERSION_UNCOMPRESSED, NULL, 0, NULL);
    room = len ? kf_write_room(out, len) : NULL;
    rv = KFR_MEMORY;
    if (room && EC_POINT_point2oct(group, at, POINT_CONVERSION_UNCOMPRESSED, room, len,
                                   NULL) == len)
        rv = KFR_OK;
done:
    EC_POINT_free(at);
    EC_GROUP_free(group);
    BN_clear_free(number);
    return rv;
}

/* y = g^x mod p */
static kf_rv power(const struct kf_attributes *open, const struct kf_attributes *key,
                   struct kf_writer *out)
{
    BIGNUM *p = number_of(open, key, CKA_PRIME), *g = number_of(open, key, CKA_BASE),
           *x = number_of(open, key, CKA_VALUE), *y = BN_new();
    BN_CTX *context = BN_CTX_secure_new();
    unsigned char *room = NULL;
    kf_rv rv = KFR_NOT_FOUND;

    if (!p || !g || !x || !y || !context)
        goto done;
    rv = KFR_DAMAGED;
    if (!BN_is_odd(p) || !BN_mod_exp_mont_consttime(y, g, x, p, context, NULL) ||
        BN_num_bytes(y) <= 0)
        goto done;
    room = kf_write_room(out, (size_t)BN_num_bytes(y));
    rv = room && BN_bn2bin(y, room) == BN_num_bytes(y) ? KFR_OK : KFR_MEMORY;
done:
    BN_CTX_free(context);
    BN_clear_free(p);
    BN_clear_free(g);
    BN_clear_free(x);
    BN_free(y);
    return rv;
}

kf_rv kf_public_value(const struct kf_attributes *open, const struct kf_attributes *key,
                      struct kf_writer *out, struct kf_error *err)
{
    uint64_t type = kf_attributes_ulong(open, CKA_KEY_TYPE, UINT64_MAX);
    kf_rv rv = KFR_NOT_FOUND;

    if (type == CKK_EC)
        rv = point(open, key, out);
    else if (type == CKK_DSA || type == CKK_DH)
        rv = power(open, key, out);
    ERR_clear_error();
    return rv ? kf_fail(err, rv, NULL, NULL,
                        "the public value of the key cannot be computed from its numbers")
              : KFR_OK;
}

/* ---- verifying ---- */

static bool push(OSSL_PARAM_BLD *build, const char *name, BIGNUM *number)
{
    return number && OSSL_PARAM_BLD_push_BN(build, name, number);
}

/* Numbers in the parameters have to live until these are made: `numbers` keeps them. */
enum { NUMBERS = 4 };

static bool push_rsa(OSSL_PARAM_BLD *build, const struct kf_attributes *open,
                     const struct kf_attributes *key, BIGNUM *numbers[NUMBERS])
{
    numbers[0] = number_of(open, key, CKA_MODULUS);
    numbers[1] = number_of(open, key, CKA_PUBLIC_EXPONENT);
    return push(build, OSSL_PKEY_PARAM_RSA_N, numbers[0]) &&
           push(build, OSSL_PKEY_PARAM_RSA_E, numbers[1]);
}

static bool push_dsa(OSSL_PARAM_BLD *build, const struct kf_attributes *open,
                     const struct kf_attributes *key, struct kf_writer *public,
                     BIGNUM *numbers[NUMBERS])
{
    if (power(open, key, public))
        return false;
    numbers[0] = number_of(open, key, CKA_PRIME);
    numbers[1] = number_of(open, key, CKA_SUBPRIME);
    numbers[2] = number_of(open, key, CKA_BASE);
    numbers[3] = BN_bin2bn(public->data, (int)public->len, NULL);
    return push(build, OSSL_PKEY_PARAM_FFC_P, numbers[0]) &&
           push(build, OSSL_PKEY_PARAM_FFC_Q, numbers[1]) &&
           push(build, OSSL_PKEY_PARAM_FFC_G, numbers[2]) &&
           push(build, OSSL_PKEY_PARAM_PUB_KEY, numbers[3]);
}

static bool push_ec(OSSL_PARAM_BLD *build, const struct kf_attributes *open,
                    const struct kf_attributes *key, struct kf_writer *public)
{
    EC_GROUP *group = group_of(open, key);
    const char *name = group ? OBJ_nid2sn(EC_GROUP_get_curve_name(group)) : NULL;
    bool good = name && !point(open, key, public) &&
                OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, name,
                                                0) &&
                OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY,
                                                 public->data, public->len);

    EC_GROUP_free(group);
    return good;
}

static EVP_PKEY *public_key(const struct kf_attributes *open,
                            const struct kf_attributes *key, uint64_t type)
{
    const char *name = type == CKK_RSA ? "RSA" : type == CKK_DSA ? "DSA" : "EC";
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, name, NULL);
    BIGNUM *numbers[NUMBERS] = {NULL};
    struct kf_writer public = {0};
    OSSL_PARAM *params = NULL;
    EVP_PKEY *made = NULL;
    bool good = false;
    int i;

    if (!build || !context)
        goto done;
    if (type == CKK_RSA)
        good = push_rsa(build, open, key, numbers);
    else if (type == CKK_DSA)
        good = push_dsa(build, open, key, &public, numbers);
    else if (type == CKK_EC)
        good = push_ec(build, open, key, &public);
    params = good ? OSSL_PARAM_BLD_to_param(build) : NULL;
    if (!params || EVP_PKEY_fromdata_init(context) <= 0 ||
        EVP_PKEY_fromdata(context, &made, EVP_PKEY_PUBLIC_KEY, params) <= 0)
        made = NULL;
done:
    for (i = 0; i < NUMBERS; i++)
        BN_clear_free(numbers[i]);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    EVP_PKEY_CTX_free(context);
    kf_writer_clear(&public);
    return made;
}

/* r and s of one length (PKCS#11 v2.40, 2.3.1) as the SEQUENCE that OpenSSL reads; DSA
 * and ECDSA have the same one (RFC 3279, 2.2.2 and 2.2.3). */
static unsigned char *as_sequence(const void *signature, size_t len, int *out_len)
{
    const unsigned char *at = signature;
    unsigned char *out = NULL;
    ECDSA_SIG *both = ECDSA_SIG_new();
    BIGNUM *r = NULL, *s = NULL;

    if (!both || !len || len % 2 || len > INT_MAX)
        goto done;
    r = BN_bin2bn(at, (int)(len / 2), NULL);
    s = BN_bin2bn(at + len / 2, (int)(len / 2), NULL);
    if (!r || !s || !ECDSA_SIG_set0(both, r, s))
        goto done;
    r = s = NULL;
    *out_len = i2d_ECDSA_SIG(both, &out);
    if (*out_len <= 0)
        out = NULL;
done:
    BN_free(r);
    BN_free(s);
    ECDSA_SIG_free(both);
    return out;
}

kf_rv kf_public_verify(const struct kf_attributes *open, const struct kf_attributes *key,
                       const void *digest, size_t digest_len, const void *signature,
                       size_t signature_len)
{
    uint64_t type = kf_attributes_ulong(open, CKA_KEY_TYPE, UINT64_MAX);
    EVP_PKEY *public = public_key(open, key, type);
    EVP_PKEY_CTX *context =
        public ? EVP_PKEY_CTX_new_from_pkey(NULL, public, NULL) : NULL;
    unsigned char *sequence = NULL;
    int len = 0;
    kf_rv rv = KFR_NOT_FOUND;

    if (!context || EVP_PKEY_verify_init(context) <= 0)
        goto done;
    if (type == CKK_RSA && EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) <= 0)
        goto done;
    if (type != CKK_RSA) {
        sequence = as_sequence(signature, signature_len, &len);
        signature = sequence;
        signature_len = (size_t)len;
    }
    rv = signature && EVP_PKEY_verify(context, signature, signature_len, digest,
                                      digest_len) == 1
             ? KFR_OK
             : KFR_DIFFERS;
done:
    OPENSSL_free(sequence);
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(public);
    ERR_clear_error();
    return rv;
}
