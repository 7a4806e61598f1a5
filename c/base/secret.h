/* SPDX-License-Identifier: MIT
 * secret: bytes that nobody else may see.
 *
 * They live in OpenSSL's secure heap (locked, never dumped), are wiped whenever they
 * move or go, and are compared in constant time. A value larger than
 * KF_SECRET_LOCKED_MAX (a large private data object) does not fit there: it lives in
 * ordinary memory and is wiped all the same.
 */
#ifndef KF_BASE_SECRET_H
#define KF_BASE_SECRET_H

#include <stdbool.h>
#include <stddef.h>

#define KF_SECRET_LOCKED_MAX (256UL * 1024UL)

struct kf_secret {
    unsigned char *data; /* never NULL in a live secret */
    size_t len;
    size_t cap;
};

/* Sets the secure heap up; safe to call again. False where the system gives none. */
bool kf_secret_heap(void);

/* Zeroed secret memory of n bytes (n may be 0), NULL when there is none. Freed with
 * kf_secret_release, which wipes all n bytes. For structs and arrays of secrets. */
void *kf_secret_alloc(size_t n);
void kf_secret_release(void *memory, size_t n);

/* A secret of len zero bytes; of a copy of bytes; of a copy of another. NULL: no memory.
 * The caller owns it and gives it back with kf_secret_free (NULL is fine). */
struct kf_secret *kf_secret_new(size_t len);
struct kf_secret *kf_secret_from(const void *bytes, size_t len);
struct kf_secret *kf_secret_dup(const struct kf_secret *secret);
void kf_secret_free(struct kf_secret *secret);

/* Grows by n bytes; false: no memory, and the secret is as before. */
bool kf_secret_append(struct kf_secret *secret, const void *bytes, size_t n);

/* Shortens to len (no effect when it is shorter); what is cut off is wiped. */
void kf_secret_cut(struct kf_secret *secret, size_t len);

/* Constant time for equal lengths. */
bool kf_secret_equal(const struct kf_secret *a, const struct kf_secret *b);

#endif
