/* SPDX-License-Identifier: MIT */
#include "clone/curve.h"

#include "clone/der.h"

#include <limits.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <string.h>

#define OID(text) text, sizeof text - 1

/* The first row of a name is the curve, others are more names of it. SEC 2, RFC 8410;
 * the long identifiers of the 25519 curves are those of GnuPG and cryptlib, which
 * PKCS#11 implementations used before RFC 8410. */
static const struct kf_curve curves[] = {
    { "secp256r1", OID("\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"), 32, false },
    { "secp384r1", OID("\x06\x05\x2b\x81\x04\x00\x22"), 48, false },
    { "secp521r1", OID("\x06\x05\x2b\x81\x04\x00\x23"), 66, false },
    { "secp256k1", OID("\x06\x05\x2b\x81\x04\x00\x0a"), 32, false },
    { "secp224r1", OID("\x06\x05\x2b\x81\x04\x00\x21"), 28, false },
    { "secp192r1", OID("\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x01"), 24, false },
    { "edwards25519", OID("\x06\x03\x2b\x65\x70"), 32, true },
    { "curve25519", OID("\x06\x03\x2b\x65\x6e"), 32, true },
    { "edwards448", OID("\x06\x03\x2b\x65\x71"), 57, true },
    { "curve448", OID("\x06\x03\x2b\x65\x6f"), 56, true },
    { "edwards25519", OID("\x06\x09\x2b\x06\x01\x04\x01\xda\x47\x0f\x01"), 32, true },
    { "curve25519", OID("\x06\x0a\x2b\x06\x01\x04\x01\x97\x55\x01\x05\x01"), 32, true },
};
enum { CURVES = sizeof curves / sizeof *curves };

static const struct kf_curve *by_name(const void *name, size_t len)
{
    for (size_t i = 0; i < CURVES; i++)
        if (strlen(curves[i].name) == len && memcmp(curves[i].name, name, len) == 0)
            return &curves[i];
    return NULL;
}

const struct kf_curve *kf_curve_of(const void *params, size_t len)
{
    struct kf_reader reader = kf_reader_over(params, len), name;

    for (size_t i = 0; i < CURVES; i++)
        if (curves[i].oid_len == len && memcmp(curves[i].oid, params, len) == 0)
            return by_name(curves[i].name, strlen(curves[i].name));
    name = kf_der_take(&reader, KF_DER_TEXT);
    return kf_reader_done(&reader) ? by_name(name.at, name.left) : NULL;
}

bool kf_curve_same(const void *a, size_t a_len, const void *b, size_t b_len)
{
    const struct kf_curve *curve = kf_curve_of(a, a_len);

    if (curve)
        return curve == kf_curve_of(b, b_len);
    return a_len == b_len && memcmp(a, b, a_len) == 0;
}

size_t kf_curve_bytes(const void *params, size_t len)
{
    const struct kf_curve *curve = kf_curve_of(params, len);
    const unsigned char *at = params;
    EC_GROUP *group = NULL;
    size_t bytes = 0;

    if (curve)
        return curve->bytes;
    if (len > LONG_MAX)
        return 0;
    group = d2i_ECPKParameters(NULL, &at, (long)len);
    if (group)
        bytes = ((size_t)EC_GROUP_order_bits(group) + 7) / 8;
    else
        ERR_clear_error();
    EC_GROUP_free(group);
    return bytes;
}
