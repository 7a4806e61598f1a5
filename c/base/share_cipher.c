/* SPDX-License-Identifier: MIT */
#include "base/share_cipher.h"

#include "base/shamir.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <string.h>

enum { ROUNDS = 4, ITERATIONS = 10000, SALT_HEAD = 8, HALF = KF_SHAMIR_MAX_BYTES / 2 };
enum { INFO_MAX = 63 };

/* What a failure left in OpenSSL's queue would be blamed on the next one who looks. */
static bool settled(bool ok)
{
    if (!ok)
        ERR_clear_error();
    return ok;
}

bool kf_share_hmac(const void *key, size_t key_len, const void *bytes, size_t len,
                   unsigned char out[KF_SHARE_HMAC])
{
    size_t got = 0;

    return settled(EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, key, key_len, bytes, len,
                             out, KF_SHARE_HMAC, &got) != NULL &&
                   got == KF_SHARE_HMAC);
}

bool kf_share_hkdf(const void *key, size_t key_len, const char *info,
                   unsigned char out[KF_SHARE_HMAC])
{
    static const unsigned char no_salt[KF_SHARE_HMAC];
    unsigned char first[INFO_MAX + 1], extracted[KF_SHARE_HMAC];
    size_t n = strlen(info);
    bool ok = n <= INFO_MAX;

    if (ok) {
        memcpy(first, info, n);
        first[n] = 1; /* RFC 5869, section 2.3: T(1) */
        ok = kf_share_hmac(no_salt, sizeof no_salt, key, key_len, extracted) &&
             kf_share_hmac(extracted, sizeof extracted, first, n + 1, out);
    }
    OPENSSL_cleanse(extracted, sizeof extracted);
    return ok;
}

/* -- The encryption -------------------------------------------------------------- */

/* What one encryption works with, in secret memory as a whole. */
struct work {
    size_t half;
    uint64_t iterations; /* of one round */
    size_t password_len, salt_head;
    unsigned char salt[SALT_HEAD + HALF], mask[HALF];
    unsigned char left[HALF], right[HALF];
    unsigned char *password; /* the number of the round, then the passphrase */
};

/* OpenSSL copies the salt, which is half of the secret here, and wipes its copy only when
 * another takes its place. */
static bool pbkdf2(EVP_KDF_CTX *context, struct work *work)
{
    static unsigned char nothing[SALT_HEAD];
    char digest[] = "SHA256";
    int unchecked = 1; /* SP 800-132's lower bounds are not the standard's */
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_PKCS5, &unchecked),
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PASSWORD, work->password,
                                          work->password_len),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, work->salt,
                                          work->salt_head + work->half),
        OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_ITER, &work->iterations),
        OSSL_PARAM_construct_end(),
    };
    OSSL_PARAM wiped[] = {
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, nothing, sizeof nothing),
        OSSL_PARAM_construct_end(),
    };
    bool ok = EVP_KDF_derive(context, work->mask, work->half, params) > 0;

    return EVP_KDF_CTX_set_params(context, wiped) > 0 && ok;
}

static bool one_round(EVP_KDF_CTX *context, struct work *work, unsigned number)
{
    work->password[0] = (unsigned char)number;
    memcpy(work->salt + work->salt_head, work->right, work->half);
    if (!pbkdf2(context, work))
        return false;
    for (size_t i = 0; i < work->half; i++) {
        unsigned char mixed = work->left[i] ^ work->mask[i];

        work->left[i] = work->right[i];
        work->right[i] = mixed;
    }
    return true;
}

static bool prepare(struct work *work, const struct kf_share_cipher *how,
                    const struct kf_secret *passphrase, size_t len)
{
    static const char head[] = "shamir";

    work->half = len / 2;
    work->iterations = (uint64_t)ITERATIONS / ROUNDS << how->exponent;
    work->password_len = 1 + (passphrase ? passphrase->len : 0);
    work->password = kf_secret_alloc(work->password_len);
    if (!work->password)
        return false;
    if (passphrase)
        memcpy(work->password + 1, passphrase->data, passphrase->len);
    if (!how->extendable) {
        memcpy(work->salt, head, sizeof head - 1);
        work->salt[6] = (unsigned char)(how->set >> 8);
        work->salt[7] = (unsigned char)how->set;
        work->salt_head = SALT_HEAD;
    }
    return true;
}

static bool feistel(const struct kf_share_cipher *how, const struct kf_secret *passphrase,
                    bool encrypt, unsigned char *secret, size_t len)
{
    struct work *work = NULL;
    EVP_KDF *kdf = NULL;
    EVP_KDF_CTX *context = NULL;
    bool ok = false;

    if (len % 2 != 0 || len > KF_SHAMIR_MAX_BYTES || how->exponent > 15)
        return false;
    work = kf_secret_alloc(sizeof *work);
    kdf = EVP_KDF_fetch(NULL, "PBKDF2", NULL);
    context = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    if (!work || !context || !prepare(work, how, passphrase, len))
        goto done;
    memcpy(work->left, secret, work->half);
    memcpy(work->right, secret + work->half, work->half);
    ok = true;
    for (unsigned i = 0; ok && i < ROUNDS; i++)
        ok = one_round(context, work, encrypt ? i : ROUNDS - 1 - i);
    if (ok) {
        memcpy(secret, work->right, work->half);
        memcpy(secret + work->half, work->left, work->half);
    }
done:
    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
    if (work)
        kf_secret_release(work->password, work->password_len);
    kf_secret_release(work, sizeof *work);
    return settled(ok);
}

bool kf_share_encrypt(const struct kf_share_cipher *how,
                      const struct kf_secret *passphrase, unsigned char *secret,
                      size_t len)
{
    return feistel(how, passphrase, true, secret, len);
}

bool kf_share_decrypt(const struct kf_share_cipher *how,
                      const struct kf_secret *passphrase, unsigned char *secret,
                      size_t len)
{
    return feistel(how, passphrase, false, secret, len);
}
