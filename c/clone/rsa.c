/* SPDX-License-Identifier: MIT */
#include "clone/rsa.h"

#include "base/secret.h"

#include <openssl/bn.h>
#include <openssl/err.h>

enum { TRIES = 64, PUBLIC_BYTES_MAX = 2048 };

struct rsa {
    BN_CTX *context;
    BIGNUM *n, *e, *d, *p, *q, *dp, *dq, *inverse;
};

static BIGNUM *number(const struct kf_attributes *set, uint64_t type)
{
    const struct kf_attribute *attribute = kf_attributes_get(set, type);
    BIGNUM *result = BN_secure_new();

    if (result && attribute && attribute->len <= PUBLIC_BYTES_MAX &&
        !BN_bin2bn(attribute->value, (int)attribute->len, result)) {
        BN_clear_free(result);
        result = NULL;
    }
    if (result)
        BN_set_flags(result, BN_FLG_CONSTTIME);
    return result;
}

static bool load(struct rsa *rsa, const struct kf_attributes *set)
{
    rsa->context = BN_CTX_secure_new();
    rsa->n = number(set, CKA_MODULUS);
    rsa->e = number(set, CKA_PUBLIC_EXPONENT);
    rsa->d = number(set, CKA_PRIVATE_EXPONENT);
    rsa->p = number(set, CKA_PRIME_1);
    rsa->q = number(set, CKA_PRIME_2);
    rsa->dp = number(set, CKA_EXPONENT_1);
    rsa->dq = number(set, CKA_EXPONENT_2);
    rsa->inverse = number(set, CKA_COEFFICIENT);
    return rsa->context && rsa->n && rsa->e && rsa->d && rsa->p && rsa->q && rsa->dp &&
           rsa->dq && rsa->inverse;
}

static void unload(struct rsa *rsa)
{
    BN_clear_free(rsa->n);
    BN_clear_free(rsa->e);
    BN_clear_free(rsa->d);
    BN_clear_free(rsa->p);
    BN_clear_free(rsa->q);
    BN_clear_free(rsa->dp);
    BN_clear_free(rsa->dq);
    BN_clear_free(rsa->inverse);
    BN_CTX_free(rsa->context);
}

/* One round of NIST SP 800-56B, appendix C.1, with a random base: y runs through the
 * square roots below g^(odd * 2^twos) = 1; the gcd of n and y - 1 for a root of 1 that
 * is not 1 or -1 is a factor. 1: rsa->p is set; 0: another base; -1: failed. */
static int try_base(struct rsa *rsa, const BIGNUM *odd, int twos, BIGNUM *x, BIGNUM *y,
                    BIGNUM *n_less_1)
{
    if (!BN_priv_rand_range(x, n_less_1) ||
        !BN_mod_exp(y, x, odd, rsa->n, rsa->context))
        return -1;
    if (BN_is_zero(y) || BN_is_one(y) || BN_cmp(y, n_less_1) == 0)
        return 0;
    for (int i = 0; i < twos; i++) {
        if (!BN_mod_sqr(x, y, rsa->n, rsa->context))
            return -1;
        if (BN_is_one(x))
            return BN_sub_word(y, 1) && BN_gcd(rsa->p, y, rsa->n, rsa->context) ? 1
                                                                                : -1;
        if (BN_cmp(x, n_less_1) == 0)
            return 0;
        if (!BN_copy(y, x))
            return -1;
    }
    return -1; /* d * e is not 1 in that group: no key */
}

static bool factor(struct rsa *rsa)
{
    BIGNUM *odd = BN_secure_new(), *x = BN_secure_new(), *y = BN_secure_new();
    BIGNUM *n_less_1 = BN_dup(rsa->n);
    int twos = 0, found = -1;
    bool ok = odd && x && y && n_less_1 && BN_sub_word(n_less_1, 1) &&
              BN_mul(odd, rsa->d, rsa->e, rsa->context) && BN_sub_word(odd, 1) &&
              !BN_is_zero(odd) && !BN_is_odd(odd) && BN_is_odd(rsa->n);

    while (ok && !BN_is_odd(odd)) {
        ok = BN_rshift1(odd, odd) == 1;
        twos++;
    }
    if (ok)
        BN_set_flags(odd, BN_FLG_CONSTTIME);
    for (int i = 0; ok && i < TRIES && found <= 0; i++) {
        found = try_base(rsa, odd, twos, x, y, n_less_1);
        ok = found >= 0;
    }
    BN_clear_free(odd);
    BN_clear_free(x);
    BN_clear_free(y);
    BN_free(n_less_1);
    return ok && found == 1;
}

/* Two factors, the larger first as everybody writes them, when the key has not got
 * them. */
static bool find_primes(struct rsa *rsa)
{
    BIGNUM *rest = BN_secure_new();
    bool ok = rest != NULL;

    if (ok && BN_is_zero(rsa->p) && !BN_is_zero(rsa->q))
        BN_swap(rsa->p, rsa->q);
    if (ok && BN_is_zero(rsa->p))
        ok = factor(rsa);
    ok = ok && !BN_is_one(rsa->p) &&
         BN_div(rsa->q, rest, rsa->n, rsa->p, rsa->context) && BN_is_zero(rest) &&
         !BN_is_one(rsa->q);
    if (ok && BN_cmp(rsa->p, rsa->q) < 0)
        BN_swap(rsa->p, rsa->q);
    BN_clear_free(rest);
    return ok;
}

static bool find_crt(struct rsa *rsa)
{
    BIGNUM *less_1 = BN_secure_new();
    bool ok = less_1 && BN_copy(less_1, rsa->p) && BN_sub_word(less_1, 1) &&
              BN_mod(rsa->dp, rsa->d, less_1, rsa->context) &&
              BN_copy(less_1, rsa->q) && BN_sub_word(less_1, 1) &&
              BN_mod(rsa->dq, rsa->d, less_1, rsa->context) &&
              BN_mod_inverse(rsa->inverse, rsa->q, rsa->p, rsa->context);

    BN_clear_free(less_1);
    return ok;
}

/* That a message raised to e and to d comes back: the three numbers are one key. */
static bool is_a_key(struct rsa *rsa)
{
    BIGNUM *x = BN_secure_new(), *y = BN_secure_new();
    bool ok = x && y && BN_set_word(x, 2) &&
              BN_mod_exp(y, x, rsa->e, rsa->n, rsa->context) &&
              BN_mod_exp(y, y, rsa->d, rsa->n, rsa->context) && BN_cmp(x, y) == 0;

    BN_clear_free(x);
    BN_clear_free(y);
    return ok;
}

static bool put(struct kf_attributes *set, uint64_t type, const BIGNUM *value)
{
    size_t len = (size_t)BN_num_bytes(value);
    unsigned char *bytes = kf_secret_alloc(len);
    bool ok = bytes && BN_bn2bin(value, bytes) == (int)len &&
              kf_attributes_set(set, type, KF_BYTES, bytes, len);

    kf_secret_release(bytes, len);
    return ok;
}

static bool has(const struct kf_attributes *set, uint64_t type)
{
    const struct kf_attribute *attribute = kf_attributes_get(set, type);

    return attribute && attribute->len > 0;
}

kf_rv kf_rsa_complete(struct kf_attributes *set, struct kf_error *err)
{
    struct rsa rsa = { 0 };
    kf_rv rv = KFR_MEMORY;

    if (has(set, CKA_PRIME_1) && has(set, CKA_PRIME_2) && has(set, CKA_EXPONENT_1) &&
        has(set, CKA_EXPONENT_2) && has(set, CKA_COEFFICIENT))
        return KFR_OK;
    if (!load(&rsa, set)) {
        rv =
            kf_fail(err, KFR_MEMORY, "", "", "no memory for the numbers of an RSA key");
        goto done;
    }
    if (BN_num_bits(rsa.n) < 16 || BN_is_zero(rsa.e) || BN_is_zero(rsa.d) ||
        !BN_is_odd(rsa.n) || !is_a_key(&rsa) || !find_primes(&rsa) || !find_crt(&rsa)) {
        ERR_clear_error();
        rv = kf_fail(err, KFR_NOT_CLONABLE, "", "",
                     "the RSA key lacks its primes, and they do not follow from the "
                     "numbers that it has");
        goto done;
    }
    if (put(set, CKA_PRIME_1, rsa.p) && put(set, CKA_PRIME_2, rsa.q) &&
        put(set, CKA_EXPONENT_1, rsa.dp) && put(set, CKA_EXPONENT_2, rsa.dq) &&
        put(set, CKA_COEFFICIENT, rsa.inverse))
        rv = KFR_OK;
    else
        rv =
            kf_fail(err, KFR_MEMORY, "", "", "no memory for the numbers of an RSA key");
done:
    unload(&rsa);
    return rv;
}
