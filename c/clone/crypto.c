/* SPDX-License-Identifier: MIT */
#include "clone/crypto.h"

#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/modes.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <stdint.h>
#include <string.h>

/* RFC 7914 section 2: 128 * N * r bytes for V, and a little for B, T and X. */
enum { SCRYPT_R = 8, SCRYPT_P = 1 };
#define SCRYPT_N (UINT64_C(1) << 17)
#define SCRYPT_MEMORY (SCRYPT_N * 128 * SCRYPT_R + (UINT64_C(1) << 20))

/* Everything that takes an int length in OpenSSL stays far below it. */
enum { LENGTH_MAX = INT_MAX - 64 };

static struct {
    CRYPTO_ONCE once;
    EVP_MAC *hmac;
    EVP_MD *sha256;
    EVP_CIPHER *cbc, *ecb;
} fetched = { .once = CRYPTO_ONCE_STATIC_INIT };

static void fetch(void)
{
    fetched.hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    fetched.sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    fetched.cbc = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    fetched.ecb = EVP_CIPHER_fetch(NULL, "AES-256-ECB", NULL);
}

static bool ready(void)
{
    return CRYPTO_THREAD_run_once(&fetched.once, fetch) && fetched.hmac &&
           fetched.sha256 && fetched.cbc && fetched.ecb;
}

/* What a failure left in OpenSSL's queue would be blamed on the next one who looks. */
static bool settled(bool ok)
{
    if (!ok)
        ERR_clear_error();
    return ok;
}

static bool derive(const char *name, OSSL_PARAM *params, unsigned char *out)
{
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, name, NULL);
    EVP_KDF_CTX *context = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    bool ok = context && EVP_KDF_derive(context, out, KF_CRYPTO_KEY, params) > 0;

    EVP_KDF_CTX_free(context);
    EVP_KDF_free(kdf);
    return settled(ok);
}

bool kf_crypto_scrypt(const void *text, size_t len, const char *salt,
                      unsigned char out[KF_CRYPTO_KEY])
{
    uint64_t n = SCRYPT_N, memory = SCRYPT_MEMORY;
    uint32_t r = SCRYPT_R, p = SCRYPT_P;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PASSWORD, (void *)text, len),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)salt,
                                          strlen(salt)),
        OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_N, &n),
        OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_R, &r),
        OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_P, &p),
        OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_MAXMEM, &memory),
        OSSL_PARAM_construct_end(),
    };

    return derive("SCRYPT", params, out);
}

bool kf_crypto_hkdf(const unsigned char key[KF_CRYPTO_KEY], const char *info,
                    unsigned char out[KF_CRYPTO_KEY])
{
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)key,
                                          KF_CRYPTO_KEY),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)info,
                                          strlen(info)),
        OSSL_PARAM_construct_end(),
    };

    return derive("HKDF", params, out);
}

bool kf_crypto_hmac(const unsigned char key[KF_CRYPTO_KEY],
                    const struct kf_slice *slices, size_t count,
                    unsigned char out[KF_CRYPTO_HASH])
{
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    EVP_MAC_CTX *context = ready() ? EVP_MAC_CTX_new(fetched.hmac) : NULL;
    size_t len = 0;
    bool ok = context && EVP_MAC_init(context, key, KF_CRYPTO_KEY, params) > 0;

    for (size_t i = 0; ok && i < count; i++)
        ok = EVP_MAC_update(context, slices[i].bytes, slices[i].len) > 0;
    ok = ok && EVP_MAC_final(context, out, &len, KF_CRYPTO_HASH) > 0 &&
         len == KF_CRYPTO_HASH;
    EVP_MAC_CTX_free(context);
    return settled(ok);
}

bool kf_crypto_sha256(const void *bytes, size_t len, unsigned char out[KF_CRYPTO_HASH])
{
    return settled(ready() &&
                   EVP_Digest(bytes, len, out, NULL, fetched.sha256, NULL) > 0);
}

bool kf_crypto_random(unsigned char *out, size_t len)
{
    return settled(len <= LENGTH_MAX && RAND_bytes(out, (int)len) > 0);
}

size_t kf_crypto_cbc_room(size_t len)
{
    return len - len % KF_CRYPTO_BLOCK + 2 * KF_CRYPTO_BLOCK;
}

bool kf_crypto_cbc(bool encrypt, const unsigned char key[KF_CRYPTO_KEY],
                   const unsigned char iv[KF_CRYPTO_BLOCK], const void *in, size_t len,
                   unsigned char *out, size_t *out_len)
{
    EVP_CIPHER_CTX *context = ready() ? EVP_CIPHER_CTX_new() : NULL;
    int update = 0, final = 0;
    bool ok = context && len <= LENGTH_MAX &&
              EVP_CipherInit_ex2(context, fetched.cbc, key, iv, encrypt, NULL) > 0 &&
              EVP_CipherUpdate(context, out, &update, in, (int)len) > 0 &&
              update >= 0 && EVP_CipherFinal_ex(context, out + update, &final) > 0 &&
              final >= 0;

    *out_len = ok ? (size_t)update + (size_t)final : 0;
    EVP_CIPHER_CTX_free(context);
    return settled(ok);
}

/* Unwrapping needs as much room as its input: OpenSSL wipes that much on failure. */
size_t kf_crypto_wrap_room(size_t len)
{
    return len - len % 8 + 16;
}

struct blocks {
    EVP_CIPHER_CTX *context;
    bool failed;
};

static void block(const unsigned char in[16], unsigned char out[16], const void *key)
{
    struct blocks *blocks = (struct blocks *)key;

    if (EVP_Cipher(blocks->context, out, in, KF_CRYPTO_BLOCK) <= 0)
        blocks->failed = true;
}

/* OpenSSL's RFC 5649 and RFC 3394 over its fast AES. Its own "AES-256-WRAP-PAD" is the
 * same over a portable AES and takes five times as long (an RSA key has 900 blocks). */
static bool wrap_over(bool wrap, bool pad, const unsigned char key[KF_CRYPTO_KEY],
                      const void *in, size_t len, unsigned char *out, size_t *out_len)
{
    struct blocks blocks = { ready() ? EVP_CIPHER_CTX_new() : NULL, false };
    size_t got = 0;

    if (blocks.context && len <= LENGTH_MAX &&
        EVP_CipherInit_ex2(blocks.context, fetched.ecb, key, NULL, wrap, NULL) > 0 &&
        EVP_CIPHER_CTX_set_padding(blocks.context, 0) > 0) {
        if (pad)
            got = wrap ? CRYPTO_128_wrap_pad(&blocks, NULL, out, in, len, block)
                       : CRYPTO_128_unwrap_pad(&blocks, NULL, out, in, len, block);
        else
            got = wrap ? CRYPTO_128_wrap(&blocks, NULL, out, in, len, block)
                       : CRYPTO_128_unwrap(&blocks, NULL, out, in, len, block);
    }
    EVP_CIPHER_CTX_free(blocks.context);
    *out_len = blocks.failed ? 0 : got;
    return settled(*out_len > 0);
}

bool kf_crypto_wrap(bool wrap, const unsigned char key[KF_CRYPTO_KEY], const void *in,
                    size_t len, unsigned char *out, size_t *out_len)
{
    return wrap_over(wrap, true, key, in, len, out, out_len);
}

bool kf_crypto_wrap_blocks(bool wrap, const unsigned char key[KF_CRYPTO_KEY],
                           const void *in, size_t len, unsigned char *out,
                           size_t *out_len)
{
    *out_len = 0;
    return len % 8 == 0 && len >= (wrap ? 16U : 24U) &&
           wrap_over(wrap, false, key, in, len, out, out_len);
}
