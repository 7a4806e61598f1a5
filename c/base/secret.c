/* SPDX-License-Identifier: MIT */
#include "base/secret.h"

#include <openssl/crypto.h>
#include <stdint.h>
#include <string.h>

/* Enough for some thousand keys at once; what a run holds at one time is far less. */
enum { HEAP_BYTES = 4 * 1024 * 1024, HEAP_SMALLEST = 32, FIRST_CAPACITY = 64 };

bool kf_secret_heap(void)
{
    if (CRYPTO_secure_malloc_initialized())
        return true;
    /* 2 means set up but not locked (RLIMIT_MEMLOCK): still wiped and never dumped. */
    return CRYPTO_secure_malloc_init(HEAP_BYTES, HEAP_SMALLEST) != 0;
}

void *kf_secret_alloc(size_t n)
{
    size_t size = n ? n : 1;
    void *memory = NULL;

    if (size <= KF_SECRET_LOCKED_MAX && kf_secret_heap())
        memory = OPENSSL_secure_zalloc(size);
    else if (size > KF_SECRET_LOCKED_MAX)
        memory = OPENSSL_zalloc(size);
    return memory;
}

void kf_secret_release(void *memory, size_t n)
{
    size_t size = n ? n : 1;

    if (!memory)
        return;
    if (CRYPTO_secure_allocated(memory))
        OPENSSL_secure_clear_free(memory, size);
    else
        OPENSSL_clear_free(memory, size);
}

struct kf_secret *kf_secret_new(size_t len)
{
    struct kf_secret *secret = OPENSSL_zalloc(sizeof *secret);

    if (!secret)
        return NULL;
    secret->data = kf_secret_alloc(len);
    if (!secret->data) {
        OPENSSL_free(secret);
        return NULL;
    }
    secret->len = len;
    secret->cap = len;
    return secret;
}

struct kf_secret *kf_secret_from(const void *bytes, size_t len)
{
    struct kf_secret *secret = kf_secret_new(len);

    if (secret && len)
        memcpy(secret->data, bytes, len);
    return secret;
}

struct kf_secret *kf_secret_dup(const struct kf_secret *secret)
{
    return kf_secret_from(secret->data, secret->len);
}

void kf_secret_free(struct kf_secret *secret)
{
    if (!secret)
        return;
    kf_secret_release(secret->data, secret->cap);
    OPENSSL_free(secret);
}

static bool grow(struct kf_secret *secret, size_t wanted)
{
    size_t cap = secret->cap < FIRST_CAPACITY ? FIRST_CAPACITY : secret->cap;
    unsigned char *data;

    while (cap < wanted) {
        if (cap > SIZE_MAX / 2)
            return false;
        cap *= 2;
    }
    data = kf_secret_alloc(cap);
    if (!data)
        return false;
    memcpy(data, secret->data, secret->len);
    kf_secret_release(secret->data, secret->cap);
    secret->data = data;
    secret->cap = cap;
    return true;
}

bool kf_secret_append(struct kf_secret *secret, const void *bytes, size_t n)
{
    if (n > SIZE_MAX - secret->len)
        return false;
    if (secret->len + n > secret->cap && !grow(secret, secret->len + n))
        return false;
    if (n)
        memcpy(secret->data + secret->len, bytes, n);
    secret->len += n;
    return true;
}

void kf_secret_cut(struct kf_secret *secret, size_t len)
{
    if (len >= secret->len)
        return;
    OPENSSL_cleanse(secret->data + len, secret->len - len);
    secret->len = len;
}

bool kf_secret_equal(const struct kf_secret *a, const struct kf_secret *b)
{
    return a->len == b->len && CRYPTO_memcmp(a->data, b->data, a->len) == 0;
}
