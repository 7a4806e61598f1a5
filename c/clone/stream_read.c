/* SPDX-License-Identifier: MIT */
#include "clone/stream.h"

#include "clone/stream_format.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

struct kf_stream_reader {
    struct kf_channel *channel;
    const char *name;
    struct kf_stream_head head;
    unsigned char head_bytes[KF_STREAM_HEAD_MAX];
    size_t head_len;
    uint8_t chain[KF_CRYPTO_HASH];
    uint64_t objects;
    struct kf_writer frame; /* the chain before it, then the frame */
    bool opened, ended;
    struct kf_stream_end end;
    struct kf_error failure; /* rv is not 0: nothing is given any more */
};

void kf_stream_reader_free(struct kf_stream_reader *reader)
{
    if (!reader)
        return;
    kf_channel_free(reader->channel);
    kf_writer_clear(&reader->frame);
    free(reader);
}

static kf_rv truncated(const struct kf_stream_reader *reader, struct kf_error *err)
{
    static const char hint[] =
        "have it sent again: only its end tells that it is whole";

    if (reader->head.version == 0)
        return kf_fail(err, KFR_TRUNCATED, "", hint,
                       "the sealed stream in %.200s ends in its head, before any "
                       "object", reader->name);
    return kf_fail(err, KFR_TRUNCATED, "", hint,
                   "the sealed stream in %.200s ends too early, after %" PRIu64
                   " object%s", reader->name, reader->objects,
                   reader->objects == 1 ? "" : "s");
}

static kf_rv damaged(const struct kf_stream_reader *reader, struct kf_error *err,
                     const char *what)
{
    return kf_fail(err, KFR_DAMAGED, "", "take another copy of it",
                   "the sealed stream in %.200s is damaged after %" PRIu64
                   " object%s: %s", reader->name, reader->objects,
                   reader->objects == 1 ? "" : "s", what);
}

/* ---- the head ---- */

static kf_rv read_opening(struct kf_stream_reader *reader, struct kf_error *err)
{
    size_t got = 0;
    kf_rv rv = kf_channel_read(reader->channel, reader->head_bytes, KF_STREAM_OPENING,
                               &got, err);

    if (rv)
        return rv;
    if (got == 0)
        return kf_fail(err, KFR_ARGUMENT, "", "", "%.200s is no sealed stream: it is "
                       "empty", reader->name);
    if (got < KF_STREAM_OPENING &&
        (got < KF_STREAM_MAGIC || !kf_stream_begins(reader->head_bytes)))
        return kf_fail(err, KFR_ARGUMENT, "", "", "%.200s is no sealed stream",
                       reader->name);
    if (got < KF_STREAM_OPENING)
        return truncated(reader, err);
    return kf_stream_check_opening(reader->head_bytes, reader->name, &reader->head_len,
                                   err);
}

static kf_rv read_head(struct kf_stream_reader *reader, struct kf_error *err)
{
    size_t rest, got = 0;
    kf_rv rv = read_opening(reader, err);

    if (rv)
        return rv;
    rest = reader->head_len - KF_STREAM_OPENING;
    rv = kf_channel_read(reader->channel, reader->head_bytes + KF_STREAM_OPENING, rest,
                         &got, err);
    if (!rv && got < rest)
        rv = truncated(reader, err);
    if (!rv)
        rv = kf_stream_read_head(reader->head_bytes, reader->head_len, reader->name,
                                 &reader->head, reader->chain, err);
    return rv;
}

kf_rv kf_stream_open(struct kf_channel *channel, struct kf_stream_reader **out,
                     struct kf_error *err)
{
    struct kf_stream_reader *reader = calloc(1, sizeof *reader);
    kf_rv rv;

    *out = NULL;
    if (!reader) {
        kf_channel_free(channel);
        return kf_stream_no_memory(err);
    }
    reader->channel = channel;
    reader->name = kf_channel_name(channel);
    rv = read_head(reader, err);
    if (rv)
        kf_stream_reader_free(reader);
    else
        *out = reader;
    return rv;
}

const struct kf_stream_head *kf_stream_head(const struct kf_stream_reader *reader)
{
    return &reader->head;
}

kf_rv kf_stream_opens(const struct kf_stream_reader *reader,
                      const struct kf_domain *domain, struct kf_error *err)
{
    return kf_stream_authenticate_head(reader->head_bytes, reader->head_len, domain,
                                       reader->name, err);
}

/* ---- frames ---- */

/* n more bytes of the frame. */
static kf_rv take(struct kf_stream_reader *reader, size_t n, struct kf_error *err)
{
    unsigned char *room = kf_write_room(&reader->frame, n);
    size_t got = 0;
    kf_rv rv;

    if (!room)
        return kf_stream_no_memory(err);
    rv = kf_channel_read(reader->channel, room, n, &got, err);
    if (!rv && got < n)
        rv = truncated(reader, err);
    return rv;
}

/* The first bytes of the next frame: what they say is believed because of their check,
 * so that a flipped bit in the length does not pass for a stream that was cut. */
static kf_rv take_opening(struct kf_stream_reader *reader, unsigned *kind, size_t *len,
                          struct kf_error *err)
{
    struct kf_writer *frame = &reader->frame;
    unsigned char check[KF_STREAM_CHECK];
    struct kf_reader in;
    kf_rv rv;

    frame->len = 0;
    kf_write_bytes(frame, reader->chain, sizeof reader->chain);
    rv = take(reader, KF_FRAME_OPENING, err);
    if (rv)
        return rv;
    if (!kf_frame_check(frame->data, check))
        return kf_stream_no_crypto(err);
    in = kf_reader_over(frame->data + KF_CRYPTO_HASH, KF_FRAME_OPENING);
    *kind = kf_read_u8(&in);
    if (kf_read_u64(&in) != reader->objects + 1)
        return damaged(reader, err, "what comes next is not what was written there");
    *len = kf_read_u32(&in);
    if (memcmp(check, kf_read_bytes(&in, sizeof check), sizeof check) != 0)
        return damaged(reader, err, "what comes next is not what was written there");
    if (*len > KF_FRAME_MAX)
        return damaged(reader, err, "what comes next is larger than an object may be");
    return KFR_OK;
}

/* The rest of the frame, checked and, with a domain, authenticated. */
static kf_rv take_rest(struct kf_stream_reader *reader, size_t len,
                       const struct kf_domain *domain, struct kf_error *err)
{
    uint8_t digest[KF_CRYPTO_HASH], mac[KF_MAC_BYTES], chain[KF_CRYPTO_HASH];
    const unsigned char *closing;
    kf_rv rv = take(reader, len + KF_FRAME_CLOSING, err);

    if (rv)
        return rv;
    closing = reader->frame.data + reader->frame.len - KF_FRAME_CLOSING;
    if (!kf_frame_digest(reader->frame.data, reader->frame.len - KF_FRAME_CLOSING,
                         digest) ||
        !kf_frame_chain(digest, closing, chain))
        return kf_stream_no_crypto(err);
    if (memcmp(chain, closing + KF_MAC_BYTES, sizeof chain) != 0)
        return damaged(reader, err, "what comes next is not what was written there");
    if (domain) {
        rv = kf_frame_mac(domain, digest, mac, err);
        if (!rv && CRYPTO_memcmp(mac, closing, sizeof mac) != 0)
            rv = damaged(reader, err,
                         "what comes next was not written under this domain");
    }
    memcpy(reader->chain, chain, sizeof chain);
    return rv;
}

static struct kf_reader payload_of(const struct kf_stream_reader *reader, size_t len)
{
    return kf_reader_over(reader->frame.data + KF_CRYPTO_HASH + KF_FRAME_OPENING, len);
}

static kf_rv read_object(struct kf_stream_reader *reader, size_t len,
                         struct kf_stream_object *object, struct kf_error *err)
{
    struct kf_reader in = payload_of(reader, len);
    uint8_t check[KF_CHECK_BYTES];
    unsigned has_digest = kf_read_u8(&in);
    const unsigned char *digest =
        has_digest == 1 ? kf_read_bytes(&in, KF_MAC_BYTES) : NULL;
    kf_rv rv;

    if (in.bad || has_digest > 1)
        return damaged(reader, err, "an object of it cannot be read");
    /* One of a later version is whoever opens it to judge. */
    rv = kf_sealed_peek(in.at, in.left, check, err);
    if (rv && rv != KFR_NEWER_VERSION)
        return rv == KFR_DAMAGED ? damaged(reader, err, "an object of it is damaged")
                                 : rv;
    if (!rv && memcmp(check, reader->head.check, sizeof check) != 0)
        return damaged(reader, err, "an object of it is of another domain");
    object->sealed = in.at;
    object->len = in.left;
    object->has_digest = digest != NULL;
    if (digest)
        memcpy(object->digest, digest, KF_MAC_BYTES);
    reader->objects++;
    return KFR_OK;
}

static kf_rv read_end(struct kf_stream_reader *reader, size_t len, struct kf_error *err)
{
    struct kf_reader in = payload_of(reader, len);
    struct kf_stream_end end;
    unsigned char more;
    size_t got = 0;
    kf_rv rv;

    end.objects = kf_read_u64(&in);
    end.failed = kf_read_u64(&in);
    end.skipped = kf_read_u64(&in);
    if (!kf_reader_done(&in) || end.objects != reader->objects)
        return damaged(reader, err, "its end does not fit what is before it");
    rv = kf_channel_read(reader->channel, &more, 1, &got, err);
    if (!rv && got > 0)
        rv = damaged(reader, err, "there is something after its end");
    if (!rv) {
        reader->end = end;
        reader->ended = true;
    }
    return rv;
}

static kf_rv read_next(struct kf_stream_reader *reader, const struct kf_domain *domain,
                       struct kf_stream_object *object, struct kf_error *err)
{
    unsigned kind = 0;
    size_t len = 0;
    kf_rv rv = take_opening(reader, &kind, &len, err);

    if (!rv)
        rv = take_rest(reader, len, domain, err);
    if (rv)
        return rv;
    if (kind == KF_FRAME_OBJECT)
        return read_object(reader, len, object, err);
    if (kind == KF_FRAME_END)
        return read_end(reader, len, err);
    return damaged(reader, err, "there is something in it that is no object");
}

/* The mac of the head is looked at once; after that, that of each frame is enough. */
static bool is_opened(const struct kf_stream_reader *reader,
                      const struct kf_domain *domain)
{
    return reader->opened &&
           memcmp(kf_domain_check(domain), reader->head.check, KF_CHECK_BYTES) == 0;
}

kf_rv kf_stream_next(struct kf_stream_reader *reader, const struct kf_domain *domain,
                     struct kf_stream_object *object, struct kf_error *err)
{
    struct kf_error failure = { 0 };
    kf_rv rv = reader->failure.rv;

    *object = (struct kf_stream_object){ 0 };
    /* Nothing was read: another domain may be tried. */
    if (!rv && domain && !is_opened(reader, domain)) {
        rv = kf_stream_opens(reader, domain, err);
        if (rv)
            return rv;
        reader->opened = true;
    }
    if (!rv && !reader->ended) {
        rv = read_next(reader, domain, object, &failure);
        failure.rv = rv;
        if (rv)
            *object = (struct kf_stream_object){ 0 };
        reader->failure = failure;
    }
    if (rv && err)
        *err = reader->failure;
    return rv;
}

bool kf_stream_ended(const struct kf_stream_reader *reader, struct kf_stream_end *end)
{
    *end = reader->end;
    return reader->ended;
}

bool kf_stream_can_rewind(const struct kf_stream_reader *reader)
{
    return kf_channel_can_rewind(reader->channel);
}

kf_rv kf_stream_rewind(struct kf_stream_reader *reader, struct kf_error *err)
{
    unsigned char before[KF_STREAM_HEAD_MAX];
    size_t len = reader->head_len;
    kf_rv rv = kf_channel_rewind(reader->channel, err);

    if (rv)
        return rv;
    memcpy(before, reader->head_bytes, len);
    reader->objects = 0;
    reader->ended = false;
    reader->failure = (struct kf_error){ 0 };
    rv = read_head(reader, err);
    if (!rv &&
        (reader->head_len != len || memcmp(before, reader->head_bytes, len) != 0))
        rv = kf_stream_damaged(err, reader->name, "it is another than before");
    if (rv) {
        if (err)
            reader->failure = *err;
        reader->failure.rv = rv;
    }
    return rv;
}
