/* SPDX-License-Identifier: MIT
 * Sealed streams. The first byte of the input chooses how far it is helped:
 *   K...  a whole stream as it is (a .stream file begins with K)
 *   F...  frames, each as its kind (a byte), its length (two) and what it holds; kind
 *         'o' is an object with that label. Head, numbers, digests and macs are put around
 *         them: the decoder gets to see every one of them
 */
#include "fuzz.h"

#include "base/secret.h"
#include "clone/stream.h"
#include "clone/stream_format.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct kf_domain *domain_of(unsigned char byte)
{
    struct kf_secret *key = kf_secret_new(KF_DOMAIN_KEY_BYTES);
    struct kf_domain *domain = NULL;

    FUZZ_PROMISE(key);
    memset(key->data, byte, key->len);
    FUZZ_PROMISE(!kf_domain_from_keys(key, key, key, &domain, NULL));
    kf_secret_free(key);
    return domain;
}

/* ---- writing ---- */

static void seal(const unsigned char *label, size_t len, const struct kf_domain *domain,
                 struct kf_writer *out)
{
    struct kf_sealed sealed = { .engine = "fuzz", .open = kf_attributes_new(false) };

    FUZZ_PROMISE(sealed.open &&
                 kf_attributes_set(sealed.open, CKA_LABEL, KF_BYTES, label, len));
    FUZZ_PROMISE(!kf_sealed_encode(&sealed, domain, out, NULL));
    kf_sealed_clear(&sealed);
}

static void put_frame(struct kf_writer *stream, uint8_t chain[KF_CRYPTO_HASH],
                      const struct kf_domain *domain, unsigned kind, uint64_t number,
                      const struct kf_writer *payload)
{
    struct kf_writer frame = { 0 };
    uint8_t digest[KF_CRYPTO_HASH], mac[KF_MAC_BYTES];
    unsigned char *check;

    kf_write_bytes(&frame, chain, KF_CRYPTO_HASH);
    kf_write_u8(&frame, (uint8_t)kind);
    kf_write_u64(&frame, number);
    kf_write_u32(&frame, (uint32_t)payload->len);
    check = kf_write_room(&frame, KF_STREAM_CHECK);
    FUZZ_PROMISE(check && kf_frame_check(frame.data, check));
    kf_write_bytes(&frame, payload->data, payload->len);
    FUZZ_PROMISE(!frame.bad && kf_frame_digest(frame.data, frame.len, digest));
    FUZZ_PROMISE(!kf_frame_mac(domain, digest, mac, NULL));
    FUZZ_PROMISE(kf_frame_chain(digest, mac, chain));
    kf_write_bytes(stream, frame.data + KF_CRYPTO_HASH, frame.len - KF_CRYPTO_HASH);
    kf_write_bytes(stream, mac, sizeof mac);
    kf_write_bytes(stream, chain, KF_CRYPTO_HASH);
    kf_writer_clear(&frame);
}

static void put_frames(struct kf_writer *stream, const struct kf_domain *domain,
                       struct kf_reader *in)
{
    struct kf_stream_head head = { .label = "fuzz", .expected = KF_STREAM_UNKNOWN };
    struct kf_writer payload = { 0 };
    uint8_t chain[KF_CRYPTO_HASH];

    memcpy(head.check, kf_domain_check(domain), sizeof head.check);
    FUZZ_PROMISE(!kf_stream_write_head(&head, domain, stream, chain, NULL));
    for (uint64_t number = 1; in->left > 0; number++) {
        unsigned kind = kf_read_u8(in);
        size_t len = kf_read_u16(in);
        const unsigned char *bytes;

        len = len > in->left ? in->left : len;
        bytes = kf_read_bytes(in, len);
        if (!bytes)
            break;
        if (kind == 'o') {
            kf_write_u8(&payload, 0);
            seal(bytes, len, domain, &payload);
        } else {
            kf_write_bytes(&payload, bytes, len);
        }
        put_frame(stream, chain, domain, kind == 'o' ? KF_FRAME_OBJECT : kind, number,
                  &payload);
        kf_writer_clear(&payload);
    }
}

/* ---- reading ---- */

/* A reader of these bytes, or NULL. */
static struct kf_stream_reader *open_over(int fd)
{
    struct kf_stream_reader *reader = NULL;
    struct kf_channel *channel = NULL;
    char path[40];

    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    FUZZ_PROMISE(!kf_channel_source(path, NULL, &channel, NULL));
    FUZZ_PROMISE(!kf_stream_open(channel, &reader, NULL) == (reader != NULL));
    return reader;
}

/* Reads to the end or a failure; what it is, and how many objects and bytes. */
static kf_rv drain(struct kf_stream_reader *reader, const struct kf_domain *domain,
                   uint64_t *objects, size_t *bytes)
{
    struct kf_stream_object object;
    struct kf_stream_end end;
    struct kf_error err = { 0 };
    kf_rv rv;

    *objects = *bytes = 0;
    while (!(rv = kf_stream_next(reader, domain, &object, &err)) && object.sealed) {
        FUZZ_PROMISE(object.len > 0);
        ++*objects;
        *bytes += object.len;
    }
    FUZZ_PROMISE(!object.sealed && object.len == 0);
    FUZZ_PROMISE(kf_stream_next(reader, domain, &object, NULL) == rv && !object.sealed);
    FUZZ_PROMISE(kf_stream_ended(reader, &end) == !rv);
    FUZZ_PROMISE(rv || end.objects == *objects);
    FUZZ_PROMISE(!rv || (rv == err.rv && err.what[0]));
    return rv;
}

/* Without the domain at least as much is given as with it, and twice the same. */
static void check(const unsigned char *bytes, size_t len,
                  const struct kf_domain *domain, const struct kf_domain *other)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    uint64_t objects, known, again;
    size_t total, known_total;
    struct kf_stream_reader *reader;
    kf_rv rv, bare;

    FUZZ_PROMISE(fd >= 0 && write(fd, bytes, len) == (ssize_t)len);
    reader = open_over(fd);
    if (reader) {
        bare = drain(reader, NULL, &objects, &total);
        FUZZ_PROMISE(!kf_stream_rewind(reader, NULL));
        rv = drain(reader, domain, &known, &known_total);
        FUZZ_PROMISE(known <= objects && (rv || (!bare && known == objects)));
        FUZZ_PROMISE(!kf_stream_rewind(reader, NULL));
        FUZZ_PROMISE(drain(reader, other, &again, &known_total) && again == 0);
        FUZZ_PROMISE(!kf_stream_rewind(reader, NULL));
        FUZZ_PROMISE(drain(reader, NULL, &again, &known_total) == bare);
        FUZZ_PROMISE(again == objects && known_total == total);
    }
    kf_stream_reader_free(reader);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct kf_domain *domain, *other;
    struct kf_reader in = kf_reader_over(data, size);
    struct kf_writer stream = { 0 };

    if (!domain) {
        domain = domain_of(1);
        other = domain_of(2);
    }
    if (size > 0 && *data == 'F') {
        (void)kf_read_u8(&in);
        put_frames(&stream, domain, &in);
        check(stream.data, stream.len, domain, other);
    } else {
        check(data, size, domain, other);
    }
    kf_writer_clear(&stream);
    return 0;
}
