/* SPDX-License-Identifier: MIT */
#include "clone/stream.h"

#include "clone/stream_format.h"

#include <stdlib.h>
#include <string.h>

struct kf_stream_writer {
    struct kf_channel *channel;
    struct kf_domain *domain;
    uint8_t chain[KF_CRYPTO_HASH];
    uint64_t objects;
    struct kf_writer frame;  /* the chain so far, then the frame */
    struct kf_error failure; /* rv is not 0: a part of it may be missing */
};

void kf_stream_writer_free(struct kf_stream_writer *writer)
{
    if (!writer)
        return;
    kf_channel_free(writer->channel);
    kf_domain_unref(writer->domain);
    kf_writer_clear(&writer->frame);
    free(writer);
}

/* What was not written whole has no next frame and no end. */
static kf_rv write_out(struct kf_stream_writer *writer, size_t from,
                       struct kf_error *err)
{
    struct kf_writer *frame = &writer->frame;

    if (frame->bad)
        return kf_stream_no_memory(err);
    writer->failure.rv = kf_channel_write(writer->channel, frame->data + from,
                                          frame->len - from, &writer->failure);
    if (writer->failure.rv && err)
        *err = writer->failure;
    return writer->failure.rv;
}

static kf_rv check_whole(const struct kf_stream_writer *writer, struct kf_error *err)
{
    if (writer->failure.rv && err)
        *err = writer->failure;
    return writer->failure.rv;
}

kf_rv kf_stream_create(struct kf_channel *channel, struct kf_domain *domain,
                       const struct kf_stream_head *head, struct kf_stream_writer **out,
                       struct kf_error *err)
{
    struct kf_stream_writer *writer = calloc(1, sizeof *writer);
    struct kf_stream_head full = *head;
    kf_rv rv;

    *out = NULL;
    if (!writer) {
        kf_channel_free(channel);
        return kf_stream_no_memory(err);
    }
    writer->channel = channel;
    writer->domain = kf_domain_ref(domain);
    memcpy(full.check, kf_domain_check(domain), sizeof full.check);
    if (kf_crypto_random(full.id, sizeof full.id))
        rv = kf_stream_write_head(&full, domain, &writer->frame, writer->chain, err);
    else
        rv = kf_fail(err, KFR_CRYPTO, "RAND_bytes", "",
                     "OpenSSL gives no random bytes");
    if (!rv)
        rv = write_out(writer, 0, err);
    if (!rv)
        rv = kf_channel_flush(channel, err);
    if (rv)
        kf_stream_writer_free(writer);
    else
        *out = writer;
    return rv;
}

/* The chain and the first bytes of a frame that will hold `len` bytes. */
static void begin_frame(struct kf_stream_writer *writer, uint8_t kind, size_t len)
{
    struct kf_writer *frame = &writer->frame;
    unsigned char *check;

    frame->len = 0;
    kf_write_bytes(frame, writer->chain, sizeof writer->chain);
    kf_write_u8(frame, kind);
    kf_write_u64(frame, writer->objects + 1);
    kf_write_u32(frame, (uint32_t)len);
    check = kf_write_room(frame, KF_STREAM_CHECK);
    if (check && !kf_frame_check(frame->data, check))
        frame->bad = true;
}

/* Mac and chain behind what the frame holds, and all of it out. */
static kf_rv end_frame(struct kf_stream_writer *writer, struct kf_error *err)
{
    struct kf_writer *frame = &writer->frame;
    uint8_t digest[KF_CRYPTO_HASH], mac[KF_MAC_BYTES], chain[KF_CRYPTO_HASH];
    kf_rv rv;

    if (frame->bad)
        return kf_stream_no_memory(err);
    if (!kf_frame_digest(frame->data, frame->len, digest))
        return kf_stream_no_crypto(err);
    rv = kf_frame_mac(writer->domain, digest, mac, err);
    if (rv)
        return rv;
    if (!kf_frame_chain(digest, mac, chain))
        return kf_stream_no_crypto(err);
    kf_write_bytes(frame, mac, sizeof mac);
    kf_write_bytes(frame, chain, sizeof chain);
    rv = write_out(writer, KF_CRYPTO_HASH, err);
    if (!rv)
        memcpy(writer->chain, chain, sizeof chain);
    return rv;
}

kf_rv kf_stream_add(struct kf_stream_writer *writer, const void *sealed, size_t len,
                    const uint8_t digest[KF_MAC_BYTES], struct kf_error *err)
{
    uint8_t check[KF_CHECK_BYTES];
    kf_rv rv = check_whole(writer, err);

    if (!rv)
        rv = kf_sealed_check_bytes(sealed, len, err);
    if (!rv)
        rv = kf_sealed_peek(sealed, len, check, err);
    if (rv)
        return rv;
    if (memcmp(check, kf_domain_check(writer->domain), sizeof check) != 0)
        return kf_fail(err, KFR_DOMAIN_MISMATCH, "", "",
                       "the object was sealed under another cloning domain than the "
                       "stream's");
    begin_frame(writer, KF_FRAME_OBJECT, len + (digest ? 1 + KF_MAC_BYTES : 1));
    kf_write_u8(&writer->frame, digest != NULL);
    if (digest)
        kf_write_bytes(&writer->frame, digest, KF_MAC_BYTES);
    kf_write_bytes(&writer->frame, sealed, len);
    rv = end_frame(writer, err);
    if (!rv)
        writer->objects++;
    return rv;
}

kf_rv kf_stream_finish(struct kf_stream_writer *writer, uint64_t failed,
                       uint64_t skipped, struct kf_error *err)
{
    kf_rv rv = check_whole(writer, err);

    if (rv)
        return rv;
    begin_frame(writer, KF_FRAME_END, 3 * sizeof(uint64_t));
    kf_write_u64(&writer->frame, writer->objects);
    kf_write_u64(&writer->frame, failed);
    kf_write_u64(&writer->frame, skipped);
    rv = end_frame(writer, err);
    return rv ? rv : kf_channel_finish(writer->channel, err);
}
