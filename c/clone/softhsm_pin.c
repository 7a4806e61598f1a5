/* SPDX-License-Identifier: MIT */
#include "clone/softhsm_pin.h"

#include "clone/crypto.h"

#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <p11-kit/pkcs11.h>
#include <string.h>

enum {
    SALT_BYTES = 8,
    ITERATIONS = 1500, /* RFC4880.h, PBE_ITERATION_BASE_COUNT */
    PIN_MAX = 255,     /* SoftHSM's MAX_PIN_LEN */
    MAGIC_BYTES = 3,
    VALUE_MAX = INT_MAX - 64
};

static const unsigned char MAGIC[MAGIC_BYTES] = { 'R', 'J', 'R' };

static kf_rv crypto_failed(struct kf_error *err, const char *call)
{
    return kf_fail(err, KFR_CRYPTO, call, "", "OpenSSL refused AES-256-CBC");
}

struct kf_softhsm_cipher {
    EVP_CIPHER_CTX *encrypt;
    EVP_CIPHER_CTX *decrypt;
};

void kf_softhsm_cipher_free(struct kf_softhsm_cipher *cipher)
{
    if (!cipher)
        return;
    EVP_CIPHER_CTX_free(cipher->encrypt);
    EVP_CIPHER_CTX_free(cipher->decrypt);
    OPENSSL_free(cipher);
}

static bool cipher_start(struct kf_softhsm_cipher *cipher, const unsigned char *key)
{
    EVP_CIPHER *aes = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    bool ok;

    cipher->encrypt = EVP_CIPHER_CTX_new();
    cipher->decrypt = EVP_CIPHER_CTX_new();
    ok = aes && cipher->encrypt && cipher->decrypt
         && EVP_EncryptInit_ex2(cipher->encrypt, aes, key, NULL, NULL) == 1
         && EVP_DecryptInit_ex2(cipher->decrypt, aes, key, NULL, NULL) == 1;
    EVP_CIPHER_free(aes); /* the contexts hold it */
    return ok;
}

kf_rv kf_softhsm_cipher_new(const struct kf_secret *token_key,
                            struct kf_softhsm_cipher **out, struct kf_error *err)
{
    kf_rv rv = KFR_CRYPTO;
    struct kf_softhsm_cipher *cipher = NULL;

    if (token_key->len != KF_SOFTHSM_TOKEN_KEY_BYTES) {
        rv =
            kf_fail(err, KFR_STORE, "", "", "a token key of %zu bytes", token_key->len);
        goto done;
    }
    cipher = OPENSSL_zalloc(sizeof *cipher);
    if (!cipher || !cipher_start(cipher, token_key->data)) {
        rv = crypto_failed(err, "EVP_CipherInit");
        goto done;
    }
    *out = cipher;
    cipher = NULL;
    rv = KFR_OK;
done:
    kf_softhsm_cipher_free(cipher);
    return rv;
}

size_t kf_softhsm_sealed_len(size_t len)
{
    return KF_SOFTHSM_BLOCK + (len / KF_SOFTHSM_BLOCK + 1) * KF_SOFTHSM_BLOCK;
}

kf_rv kf_softhsm_encrypt(struct kf_softhsm_cipher *cipher,
                         const unsigned char iv[KF_SOFTHSM_BLOCK], const void *plain,
                         size_t len, unsigned char *out, struct kf_error *err)
{
    EVP_CIPHER_CTX *ctx = cipher->encrypt;
    unsigned char *body = out + KF_SOFTHSM_BLOCK;
    int first = 0;
    int last = 0;

    if (len > VALUE_MAX)
        return kf_fail(err, KFR_LIMIT, "", "", "a value of %zu bytes", len);
    memcpy(out, iv, KF_SOFTHSM_BLOCK);
    if (EVP_EncryptInit_ex2(ctx, NULL, NULL, iv, NULL) != 1
        || EVP_EncryptUpdate(ctx, body, &first, plain, (int)len) != 1
        || EVP_EncryptFinal_ex(ctx, body + first, &last) != 1
        || (size_t)(first + last) + KF_SOFTHSM_BLOCK != kf_softhsm_sealed_len(len))
        return crypto_failed(err, "EVP_EncryptFinal");
    return KFR_OK;
}

kf_rv kf_softhsm_decrypt(struct kf_softhsm_cipher *cipher, const void *bytes,
                         size_t len, unsigned char *out, size_t *out_len,
                         struct kf_error *err)
{
    EVP_CIPHER_CTX *ctx = cipher->decrypt;
    const unsigned char *iv = bytes;
    int first = 0;
    int last = 0;

    if (len < 2 * KF_SOFTHSM_BLOCK || len % KF_SOFTHSM_BLOCK || len > VALUE_MAX)
        return kf_fail(err, KFR_STORE, "", "", "an encrypted value of %zu bytes", len);
    if (EVP_DecryptInit_ex2(ctx, NULL, NULL, iv, NULL) != 1)
        return crypto_failed(err, "EVP_DecryptInit");
    if (EVP_DecryptUpdate(ctx, out, &first, iv + KF_SOFTHSM_BLOCK,
                          (int)(len - KF_SOFTHSM_BLOCK)) != 1
        || EVP_DecryptFinal_ex(ctx, out + first, &last) != 1) {
        OPENSSL_cleanse(out, len);
        return kf_fail(err, KFR_STORE, "", "",
                       "a value is not encrypted under the token's key");
    }
    *out_len = (size_t)(first + last);
    return KFR_OK;
}

/* K = SHA-256 applied 1500 + salt[7] times, first to salt || PIN. */
static bool derive(const unsigned char *salt, const struct kf_secret *pin,
                   struct kf_secret *key)
{
    EVP_MD *sha = EVP_MD_fetch(NULL, "SHA256", NULL);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    unsigned rounds = ITERATIONS + salt[SALT_BYTES - 1];
    bool ok = sha && ctx && EVP_DigestInit_ex2(ctx, sha, NULL) == 1
              && EVP_DigestUpdate(ctx, salt, SALT_BYTES) == 1
              && EVP_DigestUpdate(ctx, pin->data, pin->len) == 1
              && EVP_DigestFinal_ex(ctx, key->data, NULL) == 1;

    for (unsigned i = 1; ok && i < rounds; i++)
        ok = EVP_DigestInit_ex2(ctx, NULL, NULL) == 1
             && EVP_DigestUpdate(ctx, key->data, key->len) == 1
             && EVP_DigestFinal_ex(ctx, key->data, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    EVP_MD_free(sha);
    return ok;
}

static kf_rv pin_incorrect(struct kf_error *err)
{
    return kf_fail(err, CKR_PIN_INCORRECT, "",
                   "the PIN was changed by another program: log in again",
                   "the PIN does not open the token store");
}

/* The plain blob is "RJR" and the token key; a wrong PIN shows as bad padding or, one
 * time in 256, as bad magic. */
static kf_rv open_blob(const unsigned char *blob, size_t len,
                       const struct kf_secret *key, struct kf_secret **out,
                       struct kf_error *err)
{
    kf_rv rv = KFR_MEMORY;
    struct kf_softhsm_cipher *cipher = NULL;
    struct kf_secret *plain = kf_secret_new(len);
    size_t n = 0;

    if (!plain) {
        kf_fail(err, rv, "", "", "no memory for a token key");
        goto done;
    }
    rv = kf_softhsm_cipher_new(key, &cipher, err);
    if (rv)
        goto done;
    rv = kf_softhsm_decrypt(cipher, blob, len, plain->data, &n, err);
    if (rv) {
        rv = rv == KFR_STORE ? pin_incorrect(err) : rv;
        goto done;
    }
    if (n != MAGIC_BYTES + KF_SOFTHSM_TOKEN_KEY_BYTES
        || CRYPTO_memcmp(plain->data, MAGIC, MAGIC_BYTES) != 0) {
        rv = pin_incorrect(err);
        goto done;
    }
    *out = kf_secret_from(plain->data + MAGIC_BYTES, KF_SOFTHSM_TOKEN_KEY_BYTES);
    rv = *out ? KFR_OK : kf_fail(err, KFR_MEMORY, "", "", "no memory for a token key");
done:
    kf_softhsm_cipher_free(cipher);
    kf_secret_free(plain);
    return rv;
}

kf_rv kf_softhsm_token_key(const void *blob, size_t len, const struct kf_secret *pin,
                           struct kf_secret **out, struct kf_error *err)
{
    kf_rv rv = KFR_STORE;
    const unsigned char *bytes = blob;
    struct kf_secret *key = NULL;
    size_t whole = SALT_BYTES
                   + kf_softhsm_sealed_len(MAGIC_BYTES + KF_SOFTHSM_TOKEN_KEY_BYTES);

    if (len != whole) {
        kf_fail(err, rv, "", "", "the token's PIN record has %zu bytes, not %zu", len,
                whole);
        goto done;
    }
    if (pin->len > PIN_MAX) {
        rv = pin_incorrect(err);
        goto done;
    }
    key = kf_secret_new(KF_SOFTHSM_TOKEN_KEY_BYTES);
    if (!key || !derive(bytes, pin, key)) {
        rv = kf_fail(err, KFR_CRYPTO, "EVP_Digest", "", "no key from the PIN");
        goto done;
    }
    rv = open_blob(bytes + SALT_BYTES, len - SALT_BYTES, key, out, err);
done:
    kf_secret_free(key);
    return rv;
}
