/* SPDX-License-Identifier: MIT */
#include "clone/challenge.h"

#include "clone/crypto.h"
#include "clone/wrap_format.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#define KF_CKK_EC_MONTGOMERY 0x41UL /* PKCS#11 v3.0 */

enum { NONCE = 32, NAMED_MAX = 160 };

struct side {
    struct kf_session *session;
    CK_OBJECT_HANDLE key;
    const struct kf_attributes *known;
};

struct pair {
    struct side a, b;
    unsigned char nonce[NONCE]; /* what is signed or encrypted; no secret */
    char missing[NAMED_MAX];    /* flags that would have let us tell */
};

/* A way to tell. KFR_NOT_FOUND: not this way. */
typedef kf_rv (*way)(struct pair *pair, CK_MECHANISM_TYPE type, struct kf_error *err);

/* ---- what the two keys allow ---- */

static void miss(struct pair *pair, uint64_t flag)
{
    char text[64];
    const char *name = kf_name_text(KF_CKA, flag, text, sizeof text);
    size_t used = strlen(pair->missing), len = strlen(name);

    if (strstr(pair->missing, name) || used + len + 3 > sizeof pair->missing)
        return;
    if (used) {
        memcpy(pair->missing + used, ", ", 2);
        used += 2;
    }
    memcpy(pair->missing + used, name, len + 1);
}

static bool side_allows(const struct side *side, uint64_t flag, CK_MECHANISM_TYPE type)
{
    const struct kf_attribute *list;
    size_t i, j;

    if (!kf_attributes_bool(side->known, flag, false))
        return false;
    list = kf_attributes_get(side->known, CKA_ALLOWED_MECHANISMS);
    if (!list || !list->len)
        return true;
    for (i = 0; i + 8 <= list->len; i += 8) {
        uint64_t value = 0;

        for (j = 0; j < 8; j++)
            value = value << 8 | list->value[i + j];
        if (value == type)
            return true;
    }
    return false;
}

static bool both_allow(struct pair *pair, uint64_t flag, CK_MECHANISM_TYPE type)
{
    bool yes = side_allows(&pair->a, flag, type) && side_allows(&pair->b, flag, type);

    if (!yes)
        miss(pair, flag);
    return yes;
}

/* A module without that mechanism, or that keeps it from this key: another way may do.
 */
static bool is_not_here(kf_rv rv)
{
    static const kf_rv codes[] = {
        CKR_MECHANISM_INVALID,      CKR_MECHANISM_PARAM_INVALID,
        CKR_FUNCTION_NOT_SUPPORTED, CKR_KEY_FUNCTION_NOT_PERMITTED,
        CKR_KEY_TYPE_INCONSISTENT,  CKR_KEY_SIZE_RANGE,
        CKR_KEY_INDIGESTIBLE,       CKR_KEY_NOT_WRAPPABLE,
        CKR_ATTRIBUTE_SENSITIVE,    CKR_ATTRIBUTE_TYPE_INVALID,
        CKR_DOMAIN_PARAMS_INVALID,  CKR_CURVE_NOT_SUPPORTED,
    };

    return KF_AMONG(rv, codes);
}

/* The answer of a way that failed: not this way where the module simply has it not. */
static kf_rv passed_over(kf_rv rv)
{
    return is_not_here(rv) ? KFR_NOT_FOUND : rv;
}

static kf_rv another_key(struct kf_error *err, const char *how)
{
    return kf_fail(err, KFR_DIFFERS, NULL, "do not rely on this clone",
                   "the clone is not the same key: %s", how);
}

static void destroy(const struct side *side, CK_OBJECT_HANDLE object)
{
    kf_object_discard(side->session, object);
}

/* ---- one operation on both ---- */

typedef kf_rv (*operation)(struct kf_session *session, CK_OBJECT_HANDLE key,
                           CK_MECHANISM *mechanism, const void *data, size_t len,
                           struct kf_secret **out, struct kf_error *err);

/* A deterministic operation on the same bytes gives the same with the same key. */
static kf_rv compare(struct pair *pair, operation run, CK_MECHANISM_TYPE type,
                     size_t len, struct kf_error *err)
{
    CK_MECHANISM mechanism = {type, NULL, 0};
    struct kf_secret *ours = NULL, *theirs = NULL;
    kf_rv rv;

    rv = passed_over(
        run(pair->a.session, pair->a.key, &mechanism, pair->nonce, len, &ours, err));
    if (!rv)
        rv = passed_over(run(pair->b.session, pair->b.key, &mechanism, pair->nonce, len,
                             &theirs, err));
    if (!rv && (!ours->len || !kf_secret_equal(ours, theirs)))
        rv = another_key(err, "one operation on both keys gave two results");
    kf_secret_free(ours);
    kf_secret_free(theirs);
    return rv;
}

static kf_rv by_signing(struct pair *pair, CK_MECHANISM_TYPE type, struct kf_error *err)
{
    if (!both_allow(pair, CKA_SIGN, type))
        return KFR_NOT_FOUND;
    return compare(pair, kf_object_sign, type, NONCE, err);
}

static size_t block_of(CK_MECHANISM_TYPE type)
{
    return type == CKM_AES_ECB ? 16 : 8;
}

static kf_rv by_encrypting(struct pair *pair, CK_MECHANISM_TYPE type,
                           struct kf_error *err)
{
    if (!both_allow(pair, CKA_ENCRYPT, type))
        return KFR_NOT_FOUND;
    return compare(pair, kf_object_encrypt, type, block_of(type), err);
}

static kf_rv by_decrypting(struct pair *pair, CK_MECHANISM_TYPE type,
                           struct kf_error *err)
{
    if (!both_allow(pair, CKA_DECRYPT, type))
        return KFR_NOT_FOUND;
    return compare(pair, kf_object_decrypt, type, block_of(type), err);
}

/* ---- session objects ---- */

static struct kf_attributes *session_set(CK_OBJECT_CLASS object_class, CK_KEY_TYPE type,
                                         bool private_object)
{
    struct kf_attributes *set = kf_attributes_new(true);

    if (set && kf_attributes_set_ulong(set, CKA_CLASS, object_class) &&
        kf_attributes_set_ulong(set, CKA_KEY_TYPE, type) &&
        kf_attributes_set_bool(set, CKA_TOKEN, false) &&
        kf_attributes_set_bool(set, CKA_PRIVATE, private_object))
        return set;
    kf_attributes_free(set);
    return NULL;
}

/* For a secret that is nothing but an answer: it can be read or used. */
static struct kf_attributes *answer_set(size_t len)
{
    struct kf_attributes *set = session_set(CKO_SECRET_KEY, CKK_GENERIC_SECRET, true);

    if (set && kf_attributes_set_bool(set, CKA_SENSITIVE, false) &&
        kf_attributes_set_bool(set, CKA_EXTRACTABLE, true) &&
        kf_attributes_set_bool(set, CKA_SIGN, true) &&
        (!len || kf_attributes_set_ulong(set, CKA_VALUE_LEN, len)))
        return set;
    kf_attributes_free(set);
    return NULL;
}

/* Two answers that lie in the tokens as secret keys. */
static kf_rv compare_answers(struct pair *pair, CK_OBJECT_HANDLE a, CK_OBJECT_HANDLE b,
                             struct kf_error *err)
{
    struct pair answers = *pair;
    uint8_t ours[KF_MAC_BYTES], theirs[KF_MAC_BYTES];

    if (!kf_object_digest(pair->a.session, a, ours) &&
        !kf_object_digest(pair->b.session, b, theirs))
        return memcmp(ours, theirs, sizeof ours)
                   ? another_key(err, "both derive, and not the same secret")
                   : KFR_OK;
    answers.a.key = a;
    answers.b.key = b;
    return compare(&answers, kf_object_sign, CKM_SHA256_HMAC, NONCE, err);
}

/* ---- wrapping: for keys that may do nothing else ---- */

static kf_rv wrap_nonce(const struct pair *pair, const struct side *side,
                        CK_MECHANISM_TYPE type, struct kf_secret **out,
                        struct kf_error *err)
{
    struct kf_attributes *set = answer_set(0);
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    CK_MECHANISM mechanism = {type, NULL, 0};
    kf_rv rv = KFR_MEMORY;

    if (set && kf_attributes_set(set, CKA_VALUE, KF_BYTES, pair->nonce, 16))
        rv = kf_object_create(side->session, set, &key, err);
    if (!rv)
        rv = kf_object_wrap(side->session, side->key, &mechanism, key, out, err);
    destroy(side, key);
    kf_attributes_free(set);
    return passed_over(rv);
}

static kf_rv by_wrapping(struct pair *pair, CK_MECHANISM_TYPE type,
                         struct kf_error *err)
{
    struct kf_secret *ours = NULL, *theirs = NULL;
    kf_rv rv;

    if (!both_allow(pair, CKA_WRAP, type))
        return KFR_NOT_FOUND;
    rv = wrap_nonce(pair, &pair->a, type, &ours, err);
    if (!rv)
        rv = wrap_nonce(pair, &pair->b, type, &theirs, err);
    if (!rv && !kf_secret_equal(ours, theirs))
        rv = another_key(err, "both wrap a key, and not to the same bytes");
    kf_secret_free(ours);
    kf_secret_free(theirs);
    return rv;
}

/* ---- RSA: to the public half and back ---- */

/* a's public half as a session object of a's session, for what the flag says. */
static kf_rv rsa_public(const struct side *side, uint64_t flag, CK_OBJECT_HANDLE *out,
                        struct kf_error *err)
{
    const struct kf_attribute *n = kf_attributes_get(side->known, CKA_MODULUS);
    const struct kf_attribute *e = kf_attributes_get(side->known, CKA_PUBLIC_EXPONENT);
    struct kf_attributes *set;
    kf_rv rv = KFR_MEMORY;

    if (!n || !e || !n->len || !e->len)
        return KFR_NOT_FOUND;
    set = session_set(CKO_PUBLIC_KEY, CKK_RSA, false);
    if (set && kf_attributes_set_bool(set, flag, true) &&
        kf_attributes_set(set, CKA_MODULUS, KF_BYTES, n->value, n->len) &&
        kf_attributes_set(set, CKA_PUBLIC_EXPONENT, KF_BYTES, e->value, e->len))
        rv = kf_object_create(side->session, set, out, err);
    kf_attributes_free(set);
    return rv;
}

static kf_rv rsa_cipher(struct pair *pair, CK_MECHANISM *mechanism,
                        struct kf_secret **out, struct kf_error *err)
{
    CK_OBJECT_HANDLE half = CK_INVALID_HANDLE;
    kf_rv rv = rsa_public(&pair->a, CKA_ENCRYPT, &half, err);

    if (!rv)
        rv = passed_over(kf_object_encrypt(pair->a.session, half, mechanism,
                                           pair->nonce, 16, out, err));
    destroy(&pair->a, half);
    return rv;
}

static bool is_one(const struct pair *pair)
{
    return pair->a.session == pair->b.session && pair->a.key == pair->b.key;
}

/* A key that is compared with itself gives one result twice, wrong as it may be: its
 * public half judges. */
static kf_rv by_rsa_signing(struct pair *pair, CK_MECHANISM_TYPE type,
                            struct kf_error *err)
{
    CK_MECHANISM mechanism = {type, NULL, 0};
    CK_OBJECT_HANDLE half = CK_INVALID_HANDLE;
    struct kf_secret *signature = NULL;
    kf_rv rv;

    if (!is_one(pair))
        return by_signing(pair, type, err);
    if (!both_allow(pair, CKA_SIGN, type))
        return KFR_NOT_FOUND;
    rv = rsa_public(&pair->a, CKA_VERIFY, &half, err);
    if (!rv)
        rv = passed_over(kf_object_sign(pair->a.session, pair->a.key, &mechanism,
                                        pair->nonce, NONCE, &signature, err));
    if (!rv)
        rv = passed_over(kf_object_verify(pair->a.session, half, &mechanism,
                                          pair->nonce, NONCE, signature->data,
                                          signature->len, err));
    if (rv == CKR_SIGNATURE_INVALID || rv == CKR_SIGNATURE_LEN_RANGE)
        rv = another_key(err, "its public half takes no signature of it");
    destroy(&pair->a, half);
    kf_secret_free(signature);
    return rv;
}

static bool is_nonce(const struct pair *pair, const void *bytes, size_t len)
{
    return len == 16 && !memcmp(bytes, pair->nonce, 16);
}

static kf_rv by_rsa_decrypting(struct pair *pair, CK_MECHANISM_TYPE type,
                               struct kf_error *err)
{
    CK_MECHANISM mechanism = {type, NULL, 0};
    struct kf_secret *cipher = NULL, *back = NULL;
    kf_rv rv;

    if (!side_allows(&pair->b, CKA_DECRYPT, type)) {
        miss(pair, CKA_DECRYPT);
        return KFR_NOT_FOUND;
    }
    rv = rsa_cipher(pair, &mechanism, &cipher, err);
    if (rv)
        goto done;
    rv = kf_object_decrypt(pair->b.session, pair->b.key, &mechanism, cipher->data,
                           cipher->len, &back, err);
    /* Padding that does not come out right is what another key looks like. */
    if (rv == CKR_ENCRYPTED_DATA_INVALID || rv == CKR_ENCRYPTED_DATA_LEN_RANGE ||
        rv == CKR_GENERAL_ERROR || (!rv && !is_nonce(pair, back->data, back->len)))
        rv = another_key(err, "it does not decrypt what is meant for the original");
    rv = passed_over(rv);
done:
    kf_secret_free(cipher);
    kf_secret_free(back);
    return rv;
}

static kf_rv answer_is_nonce(const struct pair *pair, CK_OBJECT_HANDLE answer,
                             struct kf_error *err)
{
    struct kf_attributes *got = NULL;
    const struct kf_attribute *value = NULL;
    kf_rv rv = passed_over(kf_object_read_key(pair->b.session, answer, &got, err));

    if (!rv)
        value = kf_attributes_get(got, CKA_VALUE);
    if (!rv && !value)
        rv = KFR_NOT_FOUND;
    if (!rv && !is_nonce(pair, value->value, value->len))
        rv = another_key(err, "it does not unwrap what is meant for the original");
    kf_attributes_free(got);
    return rv;
}

static kf_rv by_rsa_unwrapping(struct pair *pair, CK_MECHANISM_TYPE type,
                               struct kf_error *err)
{
    CK_MECHANISM mechanism = {type, NULL, 0};
    CK_OBJECT_HANDLE answer = CK_INVALID_HANDLE;
    struct kf_attributes *set = NULL;
    struct kf_secret *cipher = NULL;
    kf_rv rv;

    if (!side_allows(&pair->b, CKA_UNWRAP, type)) {
        miss(pair, CKA_UNWRAP);
        return KFR_NOT_FOUND;
    }
    rv = rsa_cipher(pair, &mechanism, &cipher, err);
    if (rv)
        goto done;
    set = answer_set(0);
    rv = set ? kf_object_unwrap(pair->b.session, pair->b.key, &mechanism, cipher->data,
                                cipher->len, set, &answer, err)
             : KFR_MEMORY;
    if (rv == CKR_WRAPPED_KEY_INVALID || rv == CKR_WRAPPED_KEY_LEN_RANGE ||
        rv == CKR_GENERAL_ERROR)
        rv = another_key(err, "it does not unwrap what is meant for the original");
    rv = rv ? passed_over(rv) : answer_is_nonce(pair, answer, err);
    destroy(&pair->b, answer);
done:
    kf_attributes_free(set);
    kf_secret_free(cipher);
    return rv;
}

/* ---- signatures with a random part: verified with the public half ---- */

struct signatures {
    CK_MECHANISM mechanism;
    size_t len; /* of the nonce that is signed */
    struct kf_secret *a, *b;
};

static kf_rv find_halves(const struct side *where, const struct side *of,
                         CK_OBJECT_HANDLE **out, size_t *count, struct kf_error *err)
{
    const struct kf_attribute *id = kf_attributes_get(of->known, CKA_ID);
    uint64_t type = kf_attributes_ulong(of->known, CKA_KEY_TYPE, 0);
    struct kf_attributes *filter = kf_attributes_new(false);
    kf_rv rv = KFR_MEMORY;

    *out = NULL;
    *count = 0;
    if (filter && kf_attributes_set_ulong(filter, CKA_CLASS, CKO_PUBLIC_KEY) &&
        kf_attributes_set_ulong(filter, CKA_KEY_TYPE, type) &&
        (!id || kf_attributes_set(filter, CKA_ID, KF_BYTES, id->value, id->len)))
        rv = kf_objects_find(where->session, filter, out, count, err);
    kf_attributes_free(filter);
    return rv;
}

/* Ids repeat, so a public key counts as a's half only when it verifies a's signature.
 */
static kf_rv verify_with(const struct pair *pair, const struct side *where,
                         CK_OBJECT_HANDLE half, struct signatures *signs,
                         struct kf_error *err)
{
    kf_rv rv = kf_object_verify(where->session, half, &signs->mechanism, pair->nonce,
                                signs->len, signs->a->data, signs->a->len, NULL);

    if (rv)
        return KFR_NOT_FOUND;
    rv = kf_object_verify(where->session, half, &signs->mechanism, pair->nonce,
                          signs->len, signs->b->data, signs->b->len, err);
    return rv == CKR_SIGNATURE_INVALID || rv == CKR_SIGNATURE_LEN_RANGE
               ? another_key(err,
                             "the original's public key does not verify its signature")
               : rv;
}

static kf_rv verify_at(const struct pair *pair, const struct side *where,
                       struct signatures *signs, struct kf_error *err)
{
    CK_OBJECT_HANDLE *halves = NULL;
    size_t count = 0, i;
    kf_rv rv = find_halves(where, &pair->a, &halves, &count, err);

    if (!rv)
        rv = KFR_NOT_FOUND;
    for (i = 0; i < count && rv == KFR_NOT_FOUND; i++)
        rv = verify_with(pair, where, halves[i], signs, err);
    free(halves);
    return rv;
}

/* Without a public half anywhere: both sign, so both can be used, and the token says by
 * a digest of their values that they are equal. It proves equality only: of unequal
 * digests the encoding may be the reason. (C_DigestKey is for secret keys; SoftHSM
 * takes any that has a CKA_VALUE.) */
static kf_rv equal_by_digest(const struct pair *pair)
{
    uint8_t ours[KF_MAC_BYTES], theirs[KF_MAC_BYTES];

    if (kf_object_digest(pair->a.session, pair->a.key, ours) ||
        kf_object_digest(pair->b.session, pair->b.key, theirs) ||
        memcmp(ours, theirs, sizeof ours))
        return KFR_NOT_FOUND;
    return KFR_OK;
}

static kf_rv by_verifying(struct pair *pair, CK_MECHANISM_TYPE type,
                          struct kf_error *err)
{
    struct signatures signs = {{type, NULL, 0}, NONCE, NULL, NULL};
    kf_rv rv;

    if (!both_allow(pair, CKA_SIGN, type))
        return KFR_NOT_FOUND;
    if (type == CKM_DSA)
        signs.len = 20; /* as long as the smallest subprime (FIPS 186-4, 4.2) */
    rv = passed_over(kf_object_sign(pair->a.session, pair->a.key, &signs.mechanism,
                                    pair->nonce, signs.len, &signs.a, err));
    if (!rv)
        rv = passed_over(kf_object_sign(pair->b.session, pair->b.key, &signs.mechanism,
                                        pair->nonce, signs.len, &signs.b, err));
    if (!rv) {
        rv = verify_at(pair, &pair->a, &signs, err);
        if (rv == KFR_NOT_FOUND)
            rv = verify_at(pair, &pair->b, &signs, err);
        if (rv == KFR_NOT_FOUND)
            rv = equal_by_digest(pair);
        if (rv == KFR_NOT_FOUND)
            miss(pair, CKA_VERIFY);
    }
    kf_secret_free(signs.a);
    kf_secret_free(signs.b);
    return rv;
}

/* ---- key agreement: with one random peer ---- */

/* The types of which a peer is made, and where its public value is found. */
static const struct peer {
    CK_KEY_TYPE key_type;
    CK_MECHANISM_TYPE generate;
    CK_ATTRIBUTE_TYPE public_value;
    CK_ATTRIBUTE_TYPE parameters[2];
} peers[] = {
    {CKK_EC, CKM_EC_KEY_PAIR_GEN, CKA_EC_POINT, {CKA_EC_PARAMS, CKA_EC_PARAMS}},
    {CKK_EC_EDWARDS,
     CKM_EC_EDWARDS_KEY_PAIR_GEN,
     CKA_EC_POINT,
     {CKA_EC_PARAMS, CKA_EC_PARAMS}},
    {KF_CKK_EC_MONTGOMERY,
     0x1056UL /* CKM_EC_MONTGOMERY_KEY_PAIR_GEN */,
     CKA_EC_POINT,
     {CKA_EC_PARAMS, CKA_EC_PARAMS}},
    {CKK_DH, CKM_DH_PKCS_KEY_PAIR_GEN, CKA_VALUE, {CKA_PRIME, CKA_BASE}},
};

static bool copy_parameters(const struct side *side, const struct peer *peer,
                            struct kf_attributes *set)
{
    const struct kf_attribute *at;
    size_t i;

    for (i = 0; i < 2; i++) {
        at = kf_attributes_get(side->known, peer->parameters[i]);
        if (!at || !at->len ||
            !kf_attributes_set(set, at->type, at->kind, at->value, at->len))
            return false;
    }
    return true;
}

/* Its private half is a session object of nobody's, and gone before this returns. */
static kf_rv make_peer(const struct side *side, const struct peer *peer,
                       struct kf_attributes *out, struct kf_error *err)
{
    CK_MECHANISM mechanism = {peer->generate, NULL, 0};
    CK_OBJECT_HANDLE public_half = CK_INVALID_HANDLE, private_half = CK_INVALID_HANDLE;
    struct kf_attributes *public_set =
        session_set(CKO_PUBLIC_KEY, peer->key_type, false);
    struct kf_attributes *private_set =
        session_set(CKO_PRIVATE_KEY, peer->key_type, true);
    kf_rv rv = KFR_MEMORY;

    if (!public_set || !private_set ||
        !kf_attributes_set_bool(private_set, CKA_DERIVE, true))
        goto done;
    rv = KFR_NOT_FOUND;
    if (!copy_parameters(side, peer, public_set))
        goto done;
    rv = passed_over(kf_object_generate_pair(side->session, &mechanism, public_set,
                                             private_set, &public_half, &private_half,
                                             err));
    if (!rv)
        rv = passed_over(kf_object_read_one(side->session, public_half,
                                            peer->public_value, out, err));
    destroy(side, public_half);
    destroy(side, private_half);
done:
    kf_attributes_free(public_set);
    kf_attributes_free(private_set);
    return rv;
}

/* The point itself out of its DER OCTET STRING: every token must take that form
 * (PKCS#11 v2.40, current mechanisms 2.3.5). */
static void strip_octet_string(const unsigned char **at, size_t *len)
{
    const unsigned char *p = *at;

    if (*len > 2 && p[0] == 0x04 && p[1] < 0x80 && (size_t)p[1] + 2 == *len) {
        *at += 2;
        *len -= 2;
    } else if (*len > 3 && p[0] == 0x04 && p[1] == 0x81 && (size_t)p[2] + 3 == *len) {
        *at += 3;
        *len -= 3;
    }
}

static kf_rv derive(const struct side *side, CK_MECHANISM_TYPE type,
                    const struct kf_attribute *peer_value, CK_OBJECT_HANDLE *out,
                    struct kf_error *err)
{
    CK_ECDH1_DERIVE_PARAMS agree = {0};
    CK_MECHANISM mechanism = {type, NULL, 0};
    const unsigned char *at = peer_value->value;
    size_t len = peer_value->len;
    struct kf_attributes *set;
    kf_rv rv = KFR_MEMORY;

    if (type == CKM_ECDH1_DERIVE) {
        strip_octet_string(&at, &len);
        agree.kdf = CKD_NULL;
        agree.public_data_len = len;
        agree.public_data = (unsigned char *)(uintptr_t)at;
        mechanism.pParameter = &agree;
        mechanism.ulParameterLen = sizeof agree;
    } else {
        mechanism.pParameter = (void *)(uintptr_t)at;
        mechanism.ulParameterLen = len;
    }
    set = answer_set(16);
    if (set)
        rv = kf_object_derive(side->session, side->key, &mechanism, set, out, err);
    kf_attributes_free(set);
    return passed_over(rv);
}

static kf_rv by_deriving(struct pair *pair, CK_MECHANISM_TYPE type,
                         struct kf_error *err)
{
    uint64_t key_type = kf_attributes_ulong(pair->a.known, CKA_KEY_TYPE, 0);
    CK_OBJECT_HANDLE ours = CK_INVALID_HANDLE, theirs = CK_INVALID_HANDLE;
    struct kf_attributes *value = NULL;
    const struct peer *peer = NULL;
    kf_rv rv = KFR_NOT_FOUND;
    size_t i;

    for (i = 0; i < sizeof peers / sizeof peers[0]; i++)
        if (peers[i].key_type == key_type)
            peer = &peers[i];
    if (!peer || !both_allow(pair, CKA_DERIVE, type))
        return KFR_NOT_FOUND;
    value = kf_attributes_new(false);
    rv = value ? make_peer(&pair->a, peer, value, err) : KFR_MEMORY;
    if (!rv && (!value->count || !value->at[0].len))
        rv = KFR_NOT_FOUND;
    if (!rv)
        rv = derive(&pair->a, type, &value->at[0], &ours, err);
    if (!rv)
        rv = derive(&pair->b, type, &value->at[0], &theirs, err);
    if (!rv)
        rv = compare_answers(pair, ours, theirs, err);
    destroy(&pair->a, ours);
    destroy(&pair->b, theirs);
    kf_attributes_free(value);
    return rv;
}

/* ---- secret keys: their digest ---- */

/* HMAC does not see zeros after a key (RFC 2104: it pads with them), so its own answer
 * is asked after the value's digest. */
static kf_rv by_digest(struct pair *pair, CK_MECHANISM_TYPE type, struct kf_error *err)
{
    uint8_t ours[KF_MAC_BYTES], theirs[KF_MAC_BYTES];

    (void)type;
    if (kf_object_digest(pair->a.session, pair->a.key, ours) ||
        kf_object_digest(pair->b.session, pair->b.key, theirs))
        return KFR_NOT_FOUND;
    return memcmp(ours, theirs, sizeof ours)
               ? another_key(err, "the digests of the two values are not the same")
               : KFR_OK;
}

/* ---- the table ---- */

static const struct line {
    CK_KEY_TYPE key_type;
    way way;
    CK_MECHANISM_TYPE mechanism;
} lines[] = {
    {CKK_RSA, by_rsa_signing, CKM_SHA256_RSA_PKCS},
    {CKK_RSA, by_rsa_signing, CKM_RSA_PKCS},
    {CKK_RSA, by_rsa_signing, CKM_SHA1_RSA_PKCS},
    {CKK_RSA, by_rsa_signing, CKM_SHA384_RSA_PKCS},
    {CKK_RSA, by_rsa_signing, CKM_SHA512_RSA_PKCS},
    {CKK_RSA, by_rsa_decrypting, CKM_RSA_PKCS},
    {CKK_RSA, by_rsa_unwrapping, CKM_RSA_PKCS},
    {CKK_RSA, by_rsa_signing, CKM_RSA_X_509},
    {CKK_EC, by_verifying, CKM_ECDSA},
    {CKK_EC, by_verifying, CKM_ECDSA_SHA256},
    {CKK_EC, by_deriving, CKM_ECDH1_DERIVE},
    {CKK_EC_EDWARDS, by_signing, CKM_EDDSA},
    {CKK_EC_EDWARDS, by_deriving, CKM_ECDH1_DERIVE}, /* SoftHSM: X25519 */
    {KF_CKK_EC_MONTGOMERY, by_deriving, CKM_ECDH1_DERIVE},
    {CKK_DSA, by_verifying, CKM_DSA},
    {CKK_DSA, by_verifying, CKM_DSA_SHA1},
    {CKK_DH, by_deriving, CKM_DH_PKCS_DERIVE},
    {CKK_AES, by_encrypting, CKM_AES_ECB},
    {CKK_AES, by_decrypting, CKM_AES_ECB},
    {CKK_AES, by_signing, CKM_AES_CMAC},
    {CKK_AES, by_wrapping, CKM_AES_KEY_WRAP},
    {CKK_DES, by_encrypting, CKM_DES_ECB},
    {CKK_DES, by_decrypting, CKM_DES_ECB},
    {CKK_DES2, by_encrypting, CKM_DES3_ECB},
    {CKK_DES2, by_decrypting, CKM_DES3_ECB},
    {CKK_DES2, by_signing, CKM_DES3_CMAC},
    {CKK_DES3, by_encrypting, CKM_DES3_ECB},
    {CKK_DES3, by_decrypting, CKM_DES3_ECB},
    {CKK_DES3, by_signing, CKM_DES3_CMAC},
    {CKK_GENERIC_SECRET, by_signing, CKM_SHA256_HMAC},
    {CKK_GENERIC_SECRET, by_signing, CKM_SHA_1_HMAC},
    {CKK_GENERIC_SECRET, by_signing, CKM_SHA384_HMAC},
    {CKK_GENERIC_SECRET, by_signing, CKM_SHA512_HMAC},
    {CKK_MD5_HMAC, by_signing, CKM_MD5_HMAC},
    {CKK_SHA_1_HMAC, by_signing, CKM_SHA_1_HMAC},
    {CKK_SHA224_HMAC, by_signing, CKM_SHA224_HMAC},
    {CKK_SHA256_HMAC, by_signing, CKM_SHA256_HMAC},
    {CKK_SHA384_HMAC, by_signing, CKM_SHA384_HMAC},
    {CKK_SHA512_HMAC, by_signing, CKM_SHA512_HMAC},
};

static kf_rv cannot_tell(const struct pair *pair, struct kf_error *err)
{
    char text[64];
    uint64_t type = kf_attributes_ulong(pair->a.known, CKA_KEY_TYPE, UINT64_MAX);

    if (pair->missing[0])
        return kf_fail(err, KFR_NOT_FOUND, NULL, "compare its attributes instead",
                       "no operation could tell: %s would be needed (true, with a "
                       "mechanism that is allowed) on both keys",
                       pair->missing);
    return kf_fail(err, KFR_NOT_FOUND, NULL, "compare its attributes instead",
                   "no operation with keys of the type %s is known that could tell",
                   kf_name_text(KF_CKK, type, text, sizeof text));
}

static kf_rv challenge_key(struct pair *pair, struct kf_error *err)
{
    uint64_t type = kf_attributes_ulong(pair->a.known, CKA_KEY_TYPE, UINT64_MAX);
    bool secret = kf_attributes_ulong(pair->a.known, CKA_CLASS, 0) == CKO_SECRET_KEY;
    kf_rv rv = KFR_NOT_FOUND, digest = KFR_NOT_FOUND;
    size_t i;

    if (type != kf_attributes_ulong(pair->b.known, CKA_KEY_TYPE, UINT64_MAX))
        return another_key(err, "their CKA_KEY_TYPE are not the same");
    if (kf_attributes_bool(pair->a.known, CKA_ALWAYS_AUTHENTICATE, false) ||
        kf_attributes_bool(pair->b.known, CKA_ALWAYS_AUTHENTICATE, false))
        return kf_fail(
            err, KFR_NOT_FOUND, NULL, "compare its attributes instead",
            "CKA_ALWAYS_AUTHENTICATE is true: the PIN would be asked for each "
            "operation");
    if (!kf_crypto_random(pair->nonce, sizeof pair->nonce))
        return kf_fail(err, KFR_CRYPTO, NULL, NULL, "no random bytes");
    pair->nonce[0] &= 0x3f; /* a number below any modulus, for CKM_RSA_X_509 */
    if (secret)
        digest = by_digest(pair, 0, err);
    if (digest == KFR_DIFFERS)
        return digest;
    for (i = 0; rv == KFR_NOT_FOUND && i < sizeof lines / sizeof lines[0]; i++)
        if (lines[i].key_type == type)
            rv = lines[i].way(pair, lines[i].mechanism, err);
    if (rv != KFR_NOT_FOUND)
        return rv;
    return digest ? cannot_tell(pair, err) : KFR_OK;
}

/* ---- what is no key ---- */

static kf_rv value_of(const struct side *side, uint64_t type,
                      struct kf_attributes *spare, const struct kf_attribute **out,
                      struct kf_error *err)
{
    kf_rv rv = KFR_OK;

    *out = kf_attributes_get(side->known, type);
    if (*out)
        return rv;
    rv = kf_object_read_one(side->session, side->key, type, spare, err);
    if (rv == CKR_ATTRIBUTE_TYPE_INVALID)
        return KFR_OK;
    if (!rv)
        *out = kf_attributes_get(spare, type);
    return rv;
}

static kf_rv compare_one(const struct pair *pair, uint64_t type, size_t *compared,
                         struct kf_error *err)
{
    struct kf_attributes *spare_a = kf_attributes_new(true);
    struct kf_attributes *spare_b = kf_attributes_new(true);
    const struct kf_attribute *a = NULL, *b = NULL;
    char text[64];
    kf_rv rv = KFR_MEMORY;

    if (spare_a && spare_b)
        rv = value_of(&pair->a, type, spare_a, &a, err);
    if (!rv)
        rv = value_of(&pair->b, type, spare_b, &b, err);
    if (!rv && ((a && a->len) || (b && b->len))) {
        (*compared)++;
        if (!a || !b || !kf_attribute_equal(a, b))
            rv = kf_fail(err, KFR_DIFFERS, NULL, "do not rely on this clone",
                         "the clone is not the same object: its %s differs",
                         kf_name_text(KF_CKA, type, text, sizeof text));
    }
    kf_attributes_free(spare_a);
    kf_attributes_free(spare_b);
    return rv;
}

/* By the rows that tell one from another; a check value is a token's own computing. */
static kf_rv challenge_value(const struct pair *pair, uint64_t object_class,
                             struct kf_error *err)
{
    struct kf_row rows[KF_ROWS_MAX];
    size_t count, i, compared = 0;
    kf_rv rv = KFR_OK;

    count = kf_rows(object_class,
                    kf_attributes_ulong(pair->a.known, CKA_KEY_TYPE, UINT64_MAX), rows);
    for (i = 0; !rv && i < count; i++)
        if ((rows[i].roles & KF_ROLE_IDENTITY) && !(rows[i].roles & KF_ROLE_COMPUTED))
            rv = compare_one(pair, rows[i].type, &compared, err);
    if (!rv && !compared && object_class != CKO_DATA)
        rv = kf_fail(err, KFR_NOT_FOUND, NULL, NULL,
                     "nothing in these objects could tell them apart");
    return rv;
}

kf_rv kf_challenge(struct kf_session *a_session, CK_OBJECT_HANDLE a,
                   const struct kf_attributes *a_known, struct kf_session *b_session,
                   CK_OBJECT_HANDLE b, const struct kf_attributes *b_known,
                   struct kf_error *err)
{
    struct pair pair = {.a = {a_session, a, a_known}, .b = {b_session, b, b_known}};
    uint64_t object_class = kf_attributes_ulong(a_known, CKA_CLASS, UINT64_MAX);

    if (object_class != kf_attributes_ulong(b_known, CKA_CLASS, UINT64_MAX))
        return another_key(err, "their CKA_CLASS are not the same");
    if (object_class == CKO_PRIVATE_KEY || object_class == CKO_SECRET_KEY)
        return challenge_key(&pair, err);
    return challenge_value(&pair, object_class, err);
}
