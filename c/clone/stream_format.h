/* SPDX-License-Identifier: MIT
 * stream_format: where what is in a stream (c/README.md), for its writer and reader.
 */
#ifndef KF_CLONE_STREAM_FORMAT_H
#define KF_CLONE_STREAM_FORMAT_H

#include "base/wire.h"
#include "clone/crypto.h"
#include "clone/sealed.h"
#include "clone/stream.h"

enum {
    KF_STREAM_MAGIC = 8,
    KF_STREAM_CHECK = 16, /* the part of a digest that vouches for a length */
    KF_STREAM_CHECKED = KF_STREAM_MAGIC + 2 + 4, /* magic, version, length */
    KF_STREAM_OPENING = KF_STREAM_CHECKED + KF_STREAM_CHECK,
    KF_STREAM_HEAD_MAX = 4096,

    KF_FRAME_CHECKED = 1 + 8 + 4, /* kind, number, length of what it holds */
    KF_FRAME_OPENING = KF_FRAME_CHECKED + KF_STREAM_CHECK,
    KF_FRAME_CLOSING = KF_MAC_BYTES + KF_CRYPTO_HASH,
    KF_FRAME_MAX = 1 + KF_MAC_BYTES + KF_SEALED_MAX,

    KF_FRAME_OBJECT = 1,
    KF_FRAME_END = 2
};

/* A head from its first byte to its last; *chain is the digest it ends with. */
kf_rv kf_stream_write_head(const struct kf_stream_head *head,
                           const struct kf_domain *domain, struct kf_writer *out,
                           uint8_t chain[KF_CRYPTO_HASH], struct kf_error *err);
bool kf_stream_begins(const unsigned char opening[KF_STREAM_MAGIC]);
/* Whether the opening is one, and how long the head is: KFR_ARGUMENT, KFR_DAMAGED. */
kf_rv kf_stream_check_opening(const unsigned char opening[KF_STREAM_OPENING],
                              const char *name, size_t *head_len, struct kf_error *err);
/* A whole head: KFR_DAMAGED, KFR_NEWER_VERSION. */
kf_rv kf_stream_read_head(const unsigned char *bytes, size_t len, const char *name,
                          struct kf_stream_head *out, uint8_t chain[KF_CRYPTO_HASH],
                          struct kf_error *err);
/* Its mac. */
kf_rv kf_stream_authenticate_head(const unsigned char *bytes, size_t len,
                                  const struct kf_domain *domain, const char *name,
                                  struct kf_error *err);

/* The check after the first bytes of a frame; both begin with the chain so far. */
bool kf_frame_check(const unsigned char *chain_and_checked,
                    unsigned char check[KF_STREAM_CHECK]);
/* The digest of chain, opening and payload, which the mac vouches for; then the chain
 * after the frame, from it and the mac. */
bool kf_frame_digest(const unsigned char *chain_and_frame, size_t len,
                     uint8_t digest[KF_CRYPTO_HASH]);
kf_rv kf_frame_mac(const struct kf_domain *domain, const uint8_t digest[KF_CRYPTO_HASH],
                   uint8_t mac[KF_MAC_BYTES], struct kf_error *err);
bool kf_frame_chain(const uint8_t digest[KF_CRYPTO_HASH],
                    const uint8_t mac[KF_MAC_BYTES], uint8_t chain[KF_CRYPTO_HASH]);

kf_rv kf_stream_no_crypto(struct kf_error *err);
kf_rv kf_stream_no_memory(struct kf_error *err);
kf_rv kf_stream_damaged(struct kf_error *err, const char *name, const char *what);

#endif
