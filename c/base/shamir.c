/* SPDX-License-Identifier: MIT */
#include "base/shamir.h"

#include "base/secret.h"
#include "base/share_cipher.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <string.h>

enum { AT_DIGEST = 254, AT_SECRET = 255, DIGEST = 4 };

/* -- GF(256) --------------------------------------------------------------------- */

/* Modulo x^8 + x^4 + x^3 + x + 1, by masks. */
static uint8_t multiply(uint8_t a, uint8_t b)
{
    unsigned product = 0, power = a;

    for (unsigned bit = 0; bit < 8; bit++) {
        product ^= power & (0U - ((unsigned)b >> bit & 1U));
        power = (power << 1) ^ (0x11BU & (0U - (power >> 7)));
    }
    return (uint8_t)product;
}

/* a to the power of 254, the order of the group being 255. */
static uint8_t invert(uint8_t a)
{
    uint8_t result = 1;

    for (unsigned i = 0; i < 254; i++)
        result = multiply(result, a);
    return result;
}

/* What the value of point i counts at x (Lagrange). Places are no secret. */
static uint8_t weight(const struct kf_point *points, size_t count, size_t i, uint8_t x)
{
    uint8_t above = 1, below = 1;

    for (size_t j = 0; j < count; j++) {
        if (j == i)
            continue;
        above = multiply(above, (uint8_t)(x ^ points[j].x));
        below = multiply(below, (uint8_t)(points[i].x ^ points[j].x));
    }
    return multiply(above, invert(below));
}

void kf_shamir_interpolate(const struct kf_point *points, size_t count, uint8_t x,
                           size_t len, unsigned char *out)
{
    memset(out, 0, len);
    for (size_t i = 0; i < count; i++) {
        uint8_t factor = weight(points, count, i, x);

        for (size_t k = 0; k < len; k++)
            out[k] ^= multiply(factor, points[i].y[k]);
    }
}

/* -- Sharing --------------------------------------------------------------------- */

static bool random_bytes(unsigned char *out, size_t len)
{
    bool ok = RAND_priv_bytes(out, (int)len) > 0;

    if (!ok)
        ERR_clear_error();
    return ok;
}

/* The first bytes of an HMAC of the secret, whose key is the random rest of `digest`. */
static bool mark(const unsigned char *secret, const unsigned char *digest, size_t len,
                 unsigned char out[KF_SHARE_HMAC])
{
    return kf_share_hmac(digest + DIGEST, len - DIGEST, secret, len, out);
}

static bool make_digest(const unsigned char *secret, size_t len, unsigned char *digest)
{
    unsigned char mac[KF_SHARE_HMAC];
    bool ok = random_bytes(digest + DIGEST, len - DIGEST) &&
              mark(secret, digest, len, mac);

    if (ok)
        memcpy(digest, mac, DIGEST);
    OPENSSL_cleanse(mac, sizeof mac);
    return ok;
}

static void repeat(const unsigned char *secret, size_t len, size_t n,
                   unsigned char *values)
{
    for (size_t i = 0; i < n; i++)
        memcpy(values + i * len, secret, len);
}

static bool known_sizes(size_t len, size_t m, size_t n)
{
    return len >= KF_SHAMIR_MIN_BYTES && len <= KF_SHAMIR_MAX_BYTES && m >= 1 &&
           m <= n && n <= KF_SHAMIR_MAX;
}

bool kf_shamir_split(const unsigned char *secret, size_t len, size_t m, size_t n,
                     unsigned char *values)
{
    struct kf_point points[KF_SHAMIR_MAX];
    unsigned char *digest = NULL;
    bool ok = false;

    if (!known_sizes(len, m, n))
        return false;
    if (m == 1) {
        repeat(secret, len, n, values);
        return true;
    }
    digest = kf_secret_alloc(len);
    if (!digest || !make_digest(secret, len, digest) ||
        !random_bytes(values, (m - 2) * len))
        goto done;
    for (size_t i = 0; i < m - 2; i++)
        points[i] = (struct kf_point){ (uint8_t)i, values + i * len };
    points[m - 2] = (struct kf_point){ AT_DIGEST, digest };
    points[m - 1] = (struct kf_point){ AT_SECRET, secret };
    for (size_t i = m - 2; i < n; i++)
        kf_shamir_interpolate(points, m, (uint8_t)i, len, values + i * len);
    ok = true;
done:
    kf_secret_release(digest, len);
    return ok;
}

bool kf_shamir_recover(const struct kf_point *points, size_t m, size_t len,
                       unsigned char *out, bool *fits)
{
    unsigned char mac[KF_SHARE_HMAC], *digest = NULL;
    bool ok = false;

    *fits = false;
    if (!known_sizes(len, m, m))
        return false;
    if (m == 1) {
        memcpy(out, points[0].y, len);
        *fits = true;
        return true;
    }
    digest = kf_secret_alloc(len);
    if (!digest)
        return false;
    kf_shamir_interpolate(points, m, AT_SECRET, len, out);
    kf_shamir_interpolate(points, m, AT_DIGEST, len, digest);
    ok = mark(out, digest, len, mac);
    *fits = ok && CRYPTO_memcmp(mac, digest, DIGEST) == 0;
    if (!*fits)
        OPENSSL_cleanse(out, len);
    OPENSSL_cleanse(mac, sizeof mac);
    kf_secret_release(digest, len);
    return ok;
}
