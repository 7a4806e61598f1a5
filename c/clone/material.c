/* SPDX-License-Identifier: MIT */
#include "clone/material.h"

#include "clone/curve.h"
#include "clone/der.h"
#include "clone/rsa.h"

#include <string.h>

#define KF_CKK_EC_EDWARDS 0x40UL   /* PKCS#11 v3.0; the header of p11-kit ends before */
#define KF_CKK_EC_MONTGOMERY 0x41UL

/* Bytes after a body: a block of AES less one, however it was wrapped. */
enum { BLOCK = 8, TRAILING_MAX = 15 };

static kf_rv no_memory(struct kf_error *err)
{
    return kf_fail(err, KFR_MEMORY, "", "", "no memory for a key");
}

static kf_rv damaged(struct kf_error *err, const char *what)
{
    return kf_fail(err, KFR_DAMAGED, "", "", "the body of the key is damaged: %s",
                   what);
}

/* A value that says something, from the key set or the open one. */
static const struct kf_attribute *value_of(const struct kf_attributes *open,
                                           const struct kf_attributes *key,
                                           uint64_t type)
{
    const struct kf_attribute *found = key ? kf_attributes_get(key, type) : NULL;

    if (!found || found->len == 0)
        found = kf_attributes_get(open, type);
    return found && found->len > 0 && found->kind == KF_BYTES ? found : NULL;
}

static kf_rv missing(struct kf_error *err, uint64_t type)
{
    char name[48];

    return kf_fail(err, KFR_NOT_CLONABLE, "", "", "the key has no %s",
                   kf_name_text(KF_CKA, type, name, sizeof name));
}

/* Private keys: shapes. An algorithm has an identifier, parameters and the key itself,
 * and each of the last two is made of numbers or has a hand of its own. */

struct key_type;
struct encoding {
    const struct key_type *type;
    const struct kf_attributes *open, *key;
    struct kf_writer *out;
    struct kf_error *err;
};
struct decoding {
    const struct key_type *type;
    const struct kf_attributes *open;
    struct kf_attributes *set;
    struct kf_error *err;
};

enum { NUMBERS_MAX = 8 };

struct key_type {
    uint64_t key_type;
    const char *oid; /* NULL: the curve's */
    size_t oid_len;
    /* INTEGERs in order, up to the first 0. */
    uint64_t parameters[NUMBERS_MAX + 1];
    uint64_t numbers[NUMBERS_MAX + 1];
    kf_rv (*write_parameters)(const struct encoding *encoding);
    kf_rv (*write_key)(const struct encoding *encoding);
    kf_rv (*read_parameters)(const struct decoding *decoding, struct kf_reader *in);
    kf_rv (*read_key)(const struct decoding *decoding, struct kf_reader *in);
};

static kf_rv write_numbers(const struct encoding *encoding, const uint64_t *types)
{
    for (; *types; types++) {
        const struct kf_attribute *number =
            value_of(encoding->open, encoding->key, *types);

        if (!number)
            return missing(encoding->err, *types);
        kf_der_write_number(encoding->out, number->value, number->len);
    }
    return KFR_OK;
}

/* Sets a number that the body has, unless the object says that it is another. */
static kf_rv set_number(const struct decoding *decoding, uint64_t type,
                        const struct kf_reader *number)
{
    const struct kf_attribute *said = value_of(decoding->open, NULL, type);
    const unsigned char *at = said ? said->value : NULL;
    size_t len = said ? said->len : 0;

    while (len && *at == 0) {
        at++;
        len--;
    }
    if (len && (len != number->left || memcmp(at, number->at, len) != 0))
        return damaged(decoding->err, "it is another key than the object says");
    if (!kf_attributes_set(decoding->set, type, KF_BYTES, number->at, number->left))
        return no_memory(decoding->err);
    return KFR_OK;
}

static kf_rv read_numbers(const struct decoding *decoding, const uint64_t *types,
                          struct kf_reader *in)
{
    kf_rv rv = KFR_OK;

    for (; *types && !rv; types++) {
        struct kf_reader number = kf_der_take_number(in);

        if (number.bad)
            return damaged(decoding->err, "a number of it cannot be read");
        if (number.left == 0)
            continue; /* 0 is no number of a key: as if it were not there */
        rv = set_number(decoding, *types, &number);
    }
    return rv;
}

/* DSA (RFC 3279, 2.3.2) and DH (PKCS#3): SEQUENCE of numbers, then one INTEGER. */

static kf_rv write_group(const struct encoding *encoding)
{
    size_t start = encoding->out->len;
    kf_rv rv = write_numbers(encoding, encoding->type->parameters);

    kf_der_close(encoding->out, start, KF_DER_SEQUENCE);
    return rv;
}

static kf_rv write_exponent(const struct encoding *encoding)
{
    return write_numbers(encoding, encoding->type->numbers);
}

static kf_rv need_numbers(const struct decoding *decoding, const uint64_t *types)
{
    for (; *types; types++)
        if (!kf_attributes_get(decoding->set, *types))
            return damaged(decoding->err, "a number of it is zero");
    return KFR_OK;
}

static kf_rv read_group(const struct decoding *decoding, struct kf_reader *in)
{
    struct kf_reader group = kf_der_take(in, KF_DER_SEQUENCE);
    kf_rv rv = read_numbers(decoding, decoding->type->parameters, &group);

    /* PKCS#3 allows the length of the private number after prime and base. */
    if (!rv && group.left && decoding->type->key_type == CKK_DH)
        (void)kf_der_take_number(&group);
    if (!rv && !kf_reader_done(&group))
        rv = damaged(decoding->err, "its parameters cannot be read");
    return rv ? rv : need_numbers(decoding, decoding->type->parameters);
}

static kf_rv read_exponent(const struct decoding *decoding, struct kf_reader *in)
{
    kf_rv rv = read_numbers(decoding, decoding->type->numbers, in);

    return rv ? rv : need_numbers(decoding, decoding->type->numbers);
}

/* RSA (RFC 8017, A.1.2): parameters NULL; SEQUENCE of version 0 and eight numbers. */

static kf_rv write_null(const struct encoding *encoding)
{
    kf_write_u16(encoding->out, 0x0500);
    return KFR_OK;
}

static kf_rv read_null(const struct decoding *decoding, struct kf_reader *in)
{
    (void)decoding;
    if (in->left) /* some leave it out */
        (void)kf_read_u16(in);
    return KFR_OK;
}

static kf_rv write_rsa(const struct encoding *encoding)
{
    struct kf_attributes *all = kf_attributes_new(true);
    struct encoding complete = *encoding;
    size_t start = encoding->out->len;
    const uint64_t *type = encoding->type->numbers;
    kf_rv rv = all ? KFR_OK : no_memory(encoding->err);

    for (size_t i = 0; !rv && type[i]; i++) {
        const struct kf_attribute *number =
            value_of(encoding->open, encoding->key, type[i]);

        if (!number && i < 3) /* modulus and both exponents: the others follow */
            rv = missing(encoding->err, type[i]);
        else if (number && !kf_attributes_set(all, type[i], KF_BYTES, number->value,
                                              number->len))
            rv = no_memory(encoding->err);
    }
    if (!rv)
        rv = kf_rsa_complete(all, encoding->err);
    if (!rv) {
        complete.key = all;
        kf_der_write_small(encoding->out, 0);
        rv = write_numbers(&complete, type);
        kf_der_close(encoding->out, start, KF_DER_SEQUENCE);
    }
    kf_attributes_free(all);
    return rv;
}

static kf_rv read_rsa(const struct decoding *decoding, struct kf_reader *in)
{
    static const uint64_t needed[] = { CKA_MODULUS, CKA_PUBLIC_EXPONENT,
                                       CKA_PRIVATE_EXPONENT, 0 };
    struct kf_reader numbers = kf_der_take(in, KF_DER_SEQUENCE);
    kf_rv rv = KFR_DAMAGED;

    if (!kf_der_take_small(&numbers, 0))
        return damaged(decoding->err, "it is no RSA key of two primes");
    rv = read_numbers(decoding, decoding->type->numbers, &numbers);
    if (!rv && !kf_reader_done(&numbers))
        rv = damaged(decoding->err, "there is more in it than an RSA key has");
    if (!rv)
        rv = need_numbers(decoding, needed);
    if (!rv && kf_rsa_complete(decoding->set, decoding->err))
        rv = damaged(decoding->err, "its numbers are not of one RSA key");
    return rv;
}

/* EC (RFC 5915): SEQUENCE of version 1 and the number, as long as the order. */

static kf_rv write_curve(const struct encoding *encoding)
{
    const struct kf_attribute *params =
        value_of(encoding->open, encoding->key, CKA_EC_PARAMS);
    const struct kf_curve *curve =
        params ? kf_curve_of(params->value, params->len) : NULL;

    if (!params)
        return missing(encoding->err, CKA_EC_PARAMS);
    if (curve && curve->modern)
        return kf_fail(encoding->err, KFR_NOT_CLONABLE, "", "",
                       "the key type CKK_EC has no curve %s", curve->name);
    if (curve) /* by identifier: PrivateKeyInfo knows no names */
        kf_write_bytes(encoding->out, curve->oid, curve->oid_len);
    else
        kf_write_bytes(encoding->out, params->value, params->len);
    return KFR_OK;
}

static kf_rv write_ec(const struct encoding *encoding)
{
    const struct kf_attribute *params =
        value_of(encoding->open, encoding->key, CKA_EC_PARAMS);
    const struct kf_attribute *number =
        value_of(encoding->open, encoding->key, CKA_VALUE);
    size_t bytes, len, start = encoding->out->len, octets;
    const unsigned char *at;

    if (!params || !number)
        return missing(encoding->err, params ? CKA_VALUE : CKA_EC_PARAMS);
    bytes = kf_curve_bytes(params->value, params->len);
    at = number->value;
    len = number->len;
    for (; len && *at == 0; len--)
        at++;
    if (bytes == 0 || len == 0 || len > bytes)
        return kf_fail(encoding->err, KFR_NOT_CLONABLE, "", "",
                       "the private number of the key does not fit its curve");
    kf_der_write_small(encoding->out, 1);
    octets = encoding->out->len;
    for (size_t i = len; i < bytes; i++)
        kf_write_u8(encoding->out, 0);
    kf_write_bytes(encoding->out, at, len);
    kf_der_close(encoding->out, octets, KF_DER_OCTETS);
    kf_der_close(encoding->out, start, KF_DER_SEQUENCE);
    return KFR_OK;
}

/* The curve as the object writes it when it is the same one. */
static kf_rv set_curve(const struct decoding *decoding, const void *params, size_t len)
{
    const struct kf_attribute *said = value_of(decoding->open, NULL, CKA_EC_PARAMS);

    if (said && !kf_curve_same(said->value, said->len, params, len))
        return damaged(decoding->err, "it is on another curve than the object says");
    if (!kf_attributes_set(decoding->set, CKA_EC_PARAMS, KF_BYTES,
                           said ? said->value : params, said ? said->len : len))
        return no_memory(decoding->err);
    return KFR_OK;
}

static kf_rv read_curve(const struct decoding *decoding, struct kf_reader *in)
{
    const unsigned char *params = in->at;
    size_t len = in->left;

    if (len == 0)
        return damaged(decoding->err, "it has no curve");
    (void)kf_read_bytes(in, len);
    return set_curve(decoding, params, len);
}

static kf_rv read_ec(const struct decoding *decoding, struct kf_reader *in)
{
    const struct kf_attribute *params = kf_attributes_get(decoding->set, CKA_EC_PARAMS);
    struct kf_reader key = kf_der_take(in, KF_DER_SEQUENCE), octets;
    bool is_version_1 = kf_der_take_small(&key, 1);

    octets = kf_der_take(&key, KF_DER_OCTETS);
    while (octets.left && *octets.at == 0)
        (void)kf_read_u8(&octets);
    /* Parameters and public point may follow; both are known already. */
    if (!is_version_1 || octets.bad || octets.left == 0 ||
        octets.left > kf_curve_bytes(params->value, params->len))
        return damaged(decoding->err, "its private number cannot be read");
    return set_number(decoding, CKA_VALUE, &octets);
}

/* Ed25519, X25519 and the like (RFC 8410): no parameters; OCTET STRING of the seed. */

static kf_rv write_nothing(const struct encoding *encoding)
{
    (void)encoding;
    return KFR_OK;
}

static kf_rv write_seed(const struct encoding *encoding)
{
    const struct kf_attribute *params =
        value_of(encoding->open, encoding->key, CKA_EC_PARAMS);
    const struct kf_attribute *seed =
        value_of(encoding->open, encoding->key, CKA_VALUE);
    size_t start = encoding->out->len;

    if (!params || !seed)
        return missing(encoding->err, params ? CKA_VALUE : CKA_EC_PARAMS);
    if (seed->len != kf_curve_bytes(params->value, params->len))
        return kf_fail(encoding->err, KFR_NOT_CLONABLE, "", "",
                       "the seed of the key does not fit its curve");
    kf_write_bytes(encoding->out, seed->value, seed->len);
    kf_der_close(encoding->out, start, KF_DER_OCTETS);
    return KFR_OK;
}

static kf_rv read_nothing(const struct decoding *decoding, struct kf_reader *in)
{
    return in->left ? damaged(decoding->err, "its curve has parameters") : KFR_OK;
}

static kf_rv read_seed(const struct decoding *decoding, struct kf_reader *in)
{
    const struct kf_attribute *params = kf_attributes_get(decoding->set, CKA_EC_PARAMS);
    struct kf_reader seed = kf_der_take(in, KF_DER_OCTETS);

    if (seed.bad || !params || seed.left != kf_curve_bytes(params->value, params->len))
        return damaged(decoding->err, "its seed cannot be read");
    if (!kf_attributes_set(decoding->set, CKA_VALUE, KF_BYTES, seed.at, seed.left))
        return no_memory(decoding->err);
    return KFR_OK;
}

#define OID(text) .oid = text, .oid_len = sizeof text - 1
#define MODERN                                                                      \
    .write_parameters = write_nothing, .write_key = write_seed,                     \
    .read_parameters = read_nothing, .read_key = read_seed

static const struct key_type key_types[] = {
    { .key_type = CKK_RSA,
      OID("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01"), /* rsaEncryption */
      .numbers = { CKA_MODULUS, CKA_PUBLIC_EXPONENT, CKA_PRIVATE_EXPONENT, CKA_PRIME_1,
                   CKA_PRIME_2, CKA_EXPONENT_1, CKA_EXPONENT_2, CKA_COEFFICIENT },
      .write_parameters = write_null, .write_key = write_rsa,
      .read_parameters = read_null, .read_key = read_rsa },
    { .key_type = CKK_DSA,
      OID("\x06\x07\x2a\x86\x48\xce\x38\x04\x01"), /* id-dsa */
      .parameters = { CKA_PRIME, CKA_SUBPRIME, CKA_BASE }, .numbers = { CKA_VALUE },
      .write_parameters = write_group, .write_key = write_exponent,
      .read_parameters = read_group, .read_key = read_exponent },
    { .key_type = CKK_DH,
      OID("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x03\x01"), /* dhKeyAgreement */
      .parameters = { CKA_PRIME, CKA_BASE }, .numbers = { CKA_VALUE },
      .write_parameters = write_group, .write_key = write_exponent,
      .read_parameters = read_group, .read_key = read_exponent },
    { .key_type = CKK_EC,
      OID("\x06\x07\x2a\x86\x48\xce\x3d\x02\x01"), /* id-ecPublicKey */
      .write_parameters = write_curve, .write_key = write_ec,
      .read_parameters = read_curve, .read_key = read_ec },
    { .key_type = KF_CKK_EC_EDWARDS, MODERN },
    { .key_type = KF_CKK_EC_MONTGOMERY, MODERN },
};

static const struct key_type *type_of(const struct kf_attributes *open)
{
    uint64_t key_type =
        kf_attributes_ulong(open, CKA_KEY_TYPE, CK_UNAVAILABLE_INFORMATION);

    for (size_t i = 0; i < sizeof key_types / sizeof *key_types; i++)
        if (key_types[i].key_type == key_type)
            return &key_types[i];
    return NULL;
}

static kf_rv no_such_body(const struct kf_attributes *open, struct kf_error *err)
{
    char name[48];
    uint64_t type = kf_attributes_ulong(open, CKA_KEY_TYPE, CK_UNAVAILABLE_INFORMATION);

    return kf_fail(err, KFR_NOT_CLONABLE, "", "",
                   "private keys of type %s have no wrapped form that is known here",
                   kf_name_text(KF_CKK, type, name, sizeof name));
}

/* PrivateKeyInfo (RFC 5208, 5): version 0, algorithm, OCTET STRING of the key. */

static kf_rv write_algorithm(const struct encoding *encoding)
{
    size_t start = encoding->out->len;
    const struct kf_attribute *params =
        value_of(encoding->open, encoding->key, CKA_EC_PARAMS);
    const struct kf_curve *curve =
        params ? kf_curve_of(params->value, params->len) : NULL;
    kf_rv rv = KFR_OK;

    if (encoding->type->oid)
        kf_write_bytes(encoding->out, encoding->type->oid, encoding->type->oid_len);
    else if (curve && curve->modern)
        kf_write_bytes(encoding->out, curve->oid, curve->oid_len);
    else
        return kf_fail(encoding->err, KFR_NOT_CLONABLE, "", "",
                       "the curve of the key is not known here");
    rv = encoding->type->write_parameters(encoding);
    kf_der_close(encoding->out, start, KF_DER_SEQUENCE);
    return rv;
}

static kf_rv write_private(const struct encoding *encoding)
{
    size_t start = encoding->out->len, octets;
    kf_rv rv = KFR_OK;

    kf_der_write_small(encoding->out, 0);
    rv = write_algorithm(encoding);
    if (rv)
        return rv;
    octets = encoding->out->len;
    rv = encoding->type->write_key(encoding);
    kf_der_close(encoding->out, octets, KF_DER_OCTETS);
    kf_der_close(encoding->out, start, KF_DER_SEQUENCE);
    return rv;
}

static kf_rv private_body(const struct kf_attributes *open,
                          const struct kf_attributes *key, struct kf_secret **out,
                          struct kf_error *err)
{
    struct kf_writer writer = kf_writer_secret();
    struct encoding encoding = { type_of(open), open, key, &writer, err };
    kf_rv rv = KFR_NOT_CLONABLE;

    rv = encoding.type ? write_private(&encoding) : no_such_body(open, err);
    if (!rv) {
        *out = writer.bad ? NULL : kf_secret_from(writer.data, writer.len);
        rv = *out ? KFR_OK : no_memory(err);
    }
    kf_writer_clear(&writer);
    return rv;
}

kf_rv kf_material_body(const struct kf_attributes *open,
                       const struct kf_attributes *key, struct kf_secret **out,
                       struct kf_error *err)
{
    uint64_t class = kf_attributes_ulong(open, CKA_CLASS, CK_UNAVAILABLE_INFORMATION);
    const struct kf_attribute *value = value_of(open, key, CKA_VALUE);

    *out = NULL;
    if (class == CKO_PRIVATE_KEY)
        return private_body(open, key, out, err);
    if (class != CKO_SECRET_KEY)
        return kf_fail(err, KFR_NOT_CLONABLE, "", "", "only keys have a wrapped form");
    if (!value)
        return missing(err, CKA_VALUE);
    *out = kf_secret_from(value->value, value->len);
    return *out ? KFR_OK : no_memory(err);
}

/* Back */

static kf_rv read_algorithm(const struct decoding *decoding, struct kf_reader *in)
{
    struct kf_reader algorithm = kf_der_take(in, KF_DER_SEQUENCE), copy = algorithm;
    const unsigned char *oid = algorithm.at;
    size_t len;
    kf_rv rv = KFR_OK;

    (void)kf_der_take(&algorithm, KF_DER_OID);
    if (algorithm.bad)
        return damaged(decoding->err, "its algorithm cannot be read");
    len = copy.left - algorithm.left;
    if (decoding->type->oid) {
        if (len != decoding->type->oid_len ||
            memcmp(oid, decoding->type->oid, len) != 0)
            return damaged(decoding->err, "it is a key of another type");
    } else {
        const struct kf_curve *curve = kf_curve_of(oid, len);

        if (!curve || !curve->modern)
            return damaged(decoding->err, "it is a key of another type");
        rv = set_curve(decoding, oid, len);
    }
    if (!rv)
        rv = decoding->type->read_parameters(decoding, &algorithm);
    if (!rv && !kf_reader_done(&algorithm))
        rv = damaged(decoding->err, "its algorithm cannot be read");
    return rv;
}

static bool all_zero(const unsigned char *at, size_t len)
{
    unsigned char any = 0;

    for (size_t i = 0; i < len; i++)
        any = (unsigned char)(any | at[i]);
    return any == 0;
}

/* Attributes and a public key (RFC 5958) may follow the key; they say nothing that the
 * object does not. Zero bytes may follow the whole: SoftHSM fills up to a block. */
static kf_rv read_private(const struct decoding *decoding, const void *body, size_t len)
{
    struct kf_reader reader = kf_reader_over(body, len);
    struct kf_reader info = kf_der_take(&reader, KF_DER_SEQUENCE), key;
    struct kf_reader version = kf_der_take_number(&info);
    kf_rv rv = KFR_DAMAGED;

    if (info.bad || reader.left > TRAILING_MAX || !all_zero(reader.at, reader.left) ||
        version.left > 1 || (version.left == 1 && *version.at > 1))
        return damaged(decoding->err, "it is no private key");
    rv = read_algorithm(decoding, &info);
    if (rv)
        return rv;
    key = kf_der_take(&info, KF_DER_OCTETS);
    if (key.bad)
        return damaged(decoding->err, "it has no key");
    rv = decoding->type->read_key(decoding, &key);
    if (!rv && !kf_reader_done(&key))
        rv = damaged(decoding->err, "there is something after the key");
    return rv;
}

/* PKCS#11 v2.40, Current Mechanisms: what a secret key of these types may be long. */
static const struct {
    uint64_t key_type;
    size_t lengths[3];
} secret_lengths[] = {
    { CKK_AES, { 16, 24, 32 } },
    { CKK_DES, { 8 } },
    { CKK_DES2, { 16 } },
    { CKK_DES3, { 24 } },
};

static bool is_secret_length(uint64_t key_type, size_t len)
{
    for (size_t i = 0; i < sizeof secret_lengths / sizeof *secret_lengths; i++) {
        const size_t *lengths = secret_lengths[i].lengths;

        if (secret_lengths[i].key_type == key_type)
            return len && (len == lengths[0] || len == lengths[1] || len == lengths[2]);
    }
    return len > 0;
}

static kf_rv read_secret(const struct decoding *decoding, const unsigned char *body,
                         size_t len)
{
    /* SoftHSM says 0 for keys that were unwrapped: as good as nothing. */
    uint64_t said = kf_attributes_ulong(decoding->open, CKA_VALUE_LEN, 0);
    uint64_t key_type =
        kf_attributes_ulong(decoding->open, CKA_KEY_TYPE, CK_UNAVAILABLE_INFORMATION);

    if (said == CK_UNAVAILABLE_INFORMATION)
        said = 0;
    if (said > len || (said && len - said >= BLOCK))
        return damaged(decoding->err, "it is not as long as the object says");
    if (said && !all_zero(body + said, len - (size_t)said))
        return damaged(decoding->err, "it is longer than the object says");
    if (said)
        len = (size_t)said;
    if (!is_secret_length(key_type, len))
        return damaged(decoding->err, "no key of its type has that length");
    if (!kf_attributes_set(decoding->set, CKA_VALUE, KF_BYTES, body, len))
        return no_memory(decoding->err);
    return KFR_OK;
}

kf_rv kf_material_attributes(const struct kf_attributes *open, const void *body,
                             size_t len, struct kf_attributes **out,
                             struct kf_error *err)
{
    uint64_t class = kf_attributes_ulong(open, CKA_CLASS, CK_UNAVAILABLE_INFORMATION);
    struct decoding decoding = { type_of(open), open, NULL, err };
    kf_rv rv = KFR_NOT_CLONABLE;

    *out = NULL;
    if (class != CKO_PRIVATE_KEY && class != CKO_SECRET_KEY)
        return kf_fail(err, KFR_DAMAGED, "", "", "an object that is no key has a body");
    if (class == CKO_PRIVATE_KEY && !decoding.type)
        return no_such_body(open, err);
    decoding.set = kf_attributes_new(true);
    if (!decoding.set)
        return no_memory(err);
    rv = class == CKO_PRIVATE_KEY ? read_private(&decoding, body, len)
                                  : read_secret(&decoding, body, len);
    if (rv) {
        kf_attributes_free(decoding.set);
        return rv;
    }
    *out = decoding.set;
    return KFR_OK;
}

/* Digest */

enum shape {
    NUMBER = 1, /* unsigned, without leading zeros */
    BYTES,      /* as they are */
    BLOB,       /* the same, and may be empty */
    OPTIONAL,   /* the same, and may be absent, which is as empty */
    CURVE,      /* the first identifier of a listed curve, else the bytes */
    POINT       /* without the OCTET STRING around it */
};

enum { PARTS_MAX = 4 };
#define ANY UINT64_MAX

#define PQG { CKA_PRIME, NUMBER }, { CKA_SUBPRIME, NUMBER }, { CKA_BASE, NUMBER }
#define PG { CKA_PRIME, NUMBER }, { CKA_BASE, NUMBER }
#define ON_CURVE { CKA_EC_PARAMS, CURVE }
#define NE { CKA_MODULUS, NUMBER }, { CKA_PUBLIC_EXPONENT, NUMBER }

/* c/README.md shows this table. Only ever add rows, at the end of those of a class. */
static const struct digest_row {
    uint64_t class, key_type;
    struct {
        uint64_t type;
        enum shape shape;
    } parts[PARTS_MAX + 1];
} digest_rows[] = {
    { CKO_SECRET_KEY, ANY, { { CKA_VALUE, BYTES } } },
    { CKO_PRIVATE_KEY, CKK_RSA, { NE } },
    { CKO_PRIVATE_KEY, CKK_DSA, { PQG, { CKA_VALUE, NUMBER } } },
    { CKO_PRIVATE_KEY, CKK_DH, { PG, { CKA_VALUE, NUMBER } } },
    { CKO_PRIVATE_KEY, CKK_EC, { ON_CURVE, { CKA_VALUE, NUMBER } } },
    { CKO_PRIVATE_KEY, KF_CKK_EC_EDWARDS, { ON_CURVE, { CKA_VALUE, BYTES } } },
    { CKO_PRIVATE_KEY, KF_CKK_EC_MONTGOMERY, { ON_CURVE, { CKA_VALUE, BYTES } } },
    { CKO_PUBLIC_KEY, CKK_RSA, { NE } },
    { CKO_PUBLIC_KEY, CKK_DSA, { PQG, { CKA_VALUE, NUMBER } } },
    { CKO_PUBLIC_KEY, CKK_DH, { PG, { CKA_VALUE, NUMBER } } },
    { CKO_PUBLIC_KEY, CKK_EC, { ON_CURVE, { CKA_EC_POINT, POINT } } },
    { CKO_PUBLIC_KEY, KF_CKK_EC_EDWARDS, { ON_CURVE, { CKA_EC_POINT, POINT } } },
    { CKO_PUBLIC_KEY, KF_CKK_EC_MONTGOMERY, { ON_CURVE, { CKA_EC_POINT, POINT } } },
    { CKO_DOMAIN_PARAMETERS, CKK_DSA, { PQG } },
    { CKO_DOMAIN_PARAMETERS, CKK_DH, { PG } },
    { CKO_CERTIFICATE, ANY, { { CKA_VALUE, BYTES } } },
    { CKO_CERTIFICATE, ANY, { { CKA_URL, BYTES } } }, /* one that is elsewhere */
    { CKO_DATA,
      ANY,
      { { CKA_VALUE, BLOB },
        { CKA_APPLICATION, OPTIONAL },
        { CKA_OBJECT_ID, OPTIONAL } } },
};

static const char DIGEST_PREFIX[] = "keyferry material 1"; /* its NUL is part of it */

/* PKCS#11 wants a point inside an OCTET STRING, and modules give it bare. A bare one
 * can look wrapped; the length that the curve asks for settles it. */
static void unwrap_point(const struct kf_attributes *open, struct kf_reader *point)
{
    const struct kf_attribute *params = kf_attributes_get(open, CKA_EC_PARAMS);
    const struct kf_curve *curve =
        params ? kf_curve_of(params->value, params->len) : NULL;
    struct kf_reader copy = *point, inner = kf_der_take(&copy, KF_DER_OCTETS);

    if (!kf_reader_done(&copy))
        return;
    if (!curve || inner.left == curve->bytes || inner.left == curve->bytes + 1 ||
        inner.left == 2 * curve->bytes + 1)
        *point = inner;
}

static const struct kf_attribute *present(const struct kf_attributes *open,
                                          const struct kf_attributes *key,
                                          uint64_t type)
{
    const struct kf_attribute *found = value_of(open, key, type);

    if (!found && key)
        found = kf_attributes_get(key, type);
    return found ? found : kf_attributes_get(open, type);
}

/* False: not there. */
static bool write_part(struct kf_writer *out, const struct kf_attributes *open,
                       const struct kf_attributes *key, uint64_t type, enum shape shape)
{
    const struct kf_attribute *value = present(open, key, type);
    struct kf_reader bytes = kf_reader_over(value ? value->value : (const void *)"",
                                            value ? value->len : 0);
    const struct kf_curve *curve;

    if ((!value && shape != OPTIONAL) ||
        (bytes.left == 0 && shape != BLOB && shape != OPTIONAL))
        return false;
    if (shape == NUMBER)
        while (bytes.left && *bytes.at == 0)
            (void)kf_read_u8(&bytes);
    if (shape == POINT)
        unwrap_point(open, &bytes);
    curve = shape == CURVE ? kf_curve_of(bytes.at, bytes.left) : NULL;
    if (curve)
        bytes = kf_reader_over(curve->oid, curve->oid_len);
    kf_write_u64(out, type);
    kf_write_u32(out, (uint32_t)bytes.left);
    kf_write_bytes(out, bytes.at, bytes.left);
    return true;
}

static bool write_row(struct kf_writer *out, const struct digest_row *row,
                      const struct kf_attributes *open, const struct kf_attributes *key)
{
    kf_writer_clear(out);
    kf_write_bytes(out, DIGEST_PREFIX, sizeof DIGEST_PREFIX);
    kf_write_u64(out, row->class);
    kf_write_u64(out, row->key_type == ANY
                          ? kf_attributes_ulong(open, CKA_KEY_TYPE, ANY)
                          : row->key_type);
    for (size_t i = 0; row->parts[i].shape; i++)
        if (!write_part(out, open, key, row->parts[i].type, row->parts[i].shape))
            return false;
    return true;
}

kf_rv kf_material_digest(const struct kf_attributes *open,
                         const struct kf_attributes *key,
                         const struct kf_domain *domain, uint8_t out[KF_MAC_BYTES],
                         struct kf_error *err)
{
    uint64_t class = kf_attributes_ulong(open, CKA_CLASS, ANY);
    uint64_t key_type = kf_attributes_ulong(open, CKA_KEY_TYPE, ANY);
    struct kf_writer writer = kf_writer_secret();
    struct kf_slice slice;
    bool found = false;
    kf_rv rv = KFR_NOT_FOUND;

    for (size_t i = 0; !found && i < sizeof digest_rows / sizeof *digest_rows; i++) {
        const struct digest_row *row = &digest_rows[i];

        if (row->class == class && (row->key_type == ANY || row->key_type == key_type))
            found = write_row(&writer, row, open, key);
    }
    if (!found) {
        rv = kf_fail(err, KFR_NOT_FOUND, "", "",
                     "the object does not show enough to tell its key from another");
        goto done;
    }
    if (writer.bad) {
        rv = no_memory(err);
        goto done;
    }
    slice = (struct kf_slice){ writer.data, writer.len };
    rv = kf_domain_mac(domain, &slice, 1, out, err);
done:
    kf_writer_clear(&writer);
    return rv;
}
