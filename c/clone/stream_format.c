/* SPDX-License-Identifier: MIT */
#include "clone/stream_format.h"

#include <openssl/crypto.h>
#include <string.h>

static const unsigned char magic[KF_STREAM_MAGIC] = { 'K', 'F', 'S', 'T',
                                                      'R', 'E', 'A', 'M' };
static const char HEAD_PREFIX[] = "keyferry stream head 1"; /* with its NUL */
static const char FRAME_PREFIX[] = "keyferry stream 1";     /* with its NUL */

enum {
    VERSION_AT = 8,
    LENGTH_AT = 10,
    ALL_VERSIONS_MIN = KF_STREAM_OPENING + KF_CRYPTO_HASH,
    /* domain, id, two numbers, five empty texts, mac */
    VERSION_1_MIN = ALL_VERSIONS_MIN + KF_CHECK_BYTES + KF_STREAM_ID_BYTES + 16 + 5 +
                    KF_MAC_BYTES
};

kf_rv kf_stream_no_crypto(struct kf_error *err)
{
    return kf_fail(err, KFR_CRYPTO, "SHA-256", "", "OpenSSL gives no digest");
}

kf_rv kf_stream_no_memory(struct kf_error *err)
{
    return kf_fail(err, KFR_MEMORY, "", "", "no memory for a sealed stream");
}

kf_rv kf_stream_damaged(struct kf_error *err, const char *name, const char *what)
{
    return kf_fail(err, KFR_DAMAGED, "", "take another copy of it",
                   "the sealed stream in %.200s is damaged: %s", name, what);
}

/* ---- frames ---- */

bool kf_frame_check(const unsigned char *chain_and_checked,
                    unsigned char check[KF_STREAM_CHECK])
{
    uint8_t digest[KF_CRYPTO_HASH];

    if (!kf_crypto_sha256(chain_and_checked, KF_CRYPTO_HASH + KF_FRAME_CHECKED, digest))
        return false;
    memcpy(check, digest, KF_STREAM_CHECK);
    return true;
}

bool kf_frame_digest(const unsigned char *chain_and_frame, size_t len,
                     uint8_t digest[KF_CRYPTO_HASH])
{
    return kf_crypto_sha256(chain_and_frame, len, digest);
}

kf_rv kf_frame_mac(const struct kf_domain *domain, const uint8_t digest[KF_CRYPTO_HASH],
                   uint8_t mac[KF_MAC_BYTES], struct kf_error *err)
{
    const struct kf_slice slices[] = { { FRAME_PREFIX, sizeof FRAME_PREFIX },
                                       { digest, KF_CRYPTO_HASH } };

    return kf_domain_mac(domain, slices, 2, mac, err);
}

bool kf_frame_chain(const uint8_t digest[KF_CRYPTO_HASH],
                    const uint8_t mac[KF_MAC_BYTES], uint8_t chain[KF_CRYPTO_HASH])
{
    unsigned char both[KF_CRYPTO_HASH + KF_MAC_BYTES];

    memcpy(both, digest, KF_CRYPTO_HASH);
    memcpy(both + KF_CRYPTO_HASH, mac, KF_MAC_BYTES);
    return kf_crypto_sha256(both, sizeof both, chain);
}

/* ---- the head ---- */

static kf_rv head_mac(const unsigned char *bytes, size_t len,
                      const struct kf_domain *domain, uint8_t mac[KF_MAC_BYTES],
                      struct kf_error *err)
{
    const struct kf_slice slices[] = { { HEAD_PREFIX, sizeof HEAD_PREFIX },
                                       { bytes, len } };

    return kf_domain_mac(domain, slices, 2, mac, err);
}

static void write_fields(const struct kf_stream_head *head, struct kf_writer *out)
{
    kf_write_bytes(out, head->check, sizeof head->check);
    kf_write_bytes(out, head->id, sizeof head->id);
    kf_write_u64(out, head->created);
    kf_write_u64(out, head->expected);
    kf_write_text(out, head->label, sizeof head->label);
    kf_write_text(out, head->serial, sizeof head->serial);
    kf_write_text(out, head->model, sizeof head->model);
    kf_write_text(out, head->manufacturer, sizeof head->manufacturer);
    kf_write_text(out, head->keyferry, sizeof head->keyferry);
}

kf_rv kf_stream_write_head(const struct kf_stream_head *head,
                           const struct kf_domain *domain, struct kf_writer *out,
                           uint8_t chain[KF_CRYPTO_HASH], struct kf_error *err)
{
    uint8_t digest[KF_CRYPTO_HASH], mac[KF_MAC_BYTES];
    kf_rv rv;

    kf_write_bytes(out, magic, sizeof magic);
    kf_write_u16(out, KF_STREAM_VERSION);
    kf_write_u32(out, 0);
    (void)kf_write_room(out, KF_STREAM_CHECK);
    write_fields(head, out);
    if (out->bad)
        return kf_stream_no_memory(err);
    kf_write_u32_at(out, LENGTH_AT,
                    (uint32_t)(out->len + KF_MAC_BYTES + KF_CRYPTO_HASH));
    if (!kf_crypto_sha256(out->data, KF_STREAM_CHECKED, digest))
        return kf_stream_no_crypto(err);
    memcpy(out->data + KF_STREAM_CHECKED, digest, KF_STREAM_CHECK);
    rv = head_mac(out->data, out->len, domain, mac, err);
    if (rv)
        return rv;
    kf_write_bytes(out, mac, sizeof mac);
    if (out->bad)
        return kf_stream_no_memory(err);
    if (!kf_crypto_sha256(out->data, out->len, chain))
        return kf_stream_no_crypto(err);
    kf_write_bytes(out, chain, KF_CRYPTO_HASH);
    return out->bad ? kf_stream_no_memory(err) : KFR_OK;
}

bool kf_stream_begins(const unsigned char opening[KF_STREAM_MAGIC])
{
    return memcmp(opening, magic, sizeof magic) == 0;
}

/* The check is made with the right magic: so a bit that was flipped in the magic is
 * told from what never was a stream. */
kf_rv kf_stream_check_opening(const unsigned char opening[KF_STREAM_OPENING],
                              const char *name, size_t *head_len, struct kf_error *err)
{
    struct kf_reader reader = kf_reader_over(opening, KF_STREAM_OPENING);
    unsigned char checked[KF_STREAM_CHECKED];
    uint8_t digest[KF_CRYPTO_HASH];
    bool begins_so = kf_stream_begins(opening), vouched;

    memcpy(checked, opening, sizeof checked);
    memcpy(checked, magic, sizeof magic);
    if (!kf_crypto_sha256(checked, sizeof checked, digest))
        return kf_stream_no_crypto(err);
    vouched = memcmp(digest, opening + KF_STREAM_CHECKED, KF_STREAM_CHECK) == 0;
    if (!begins_so && !vouched)
        return kf_fail(err, KFR_ARGUMENT, "", "", "%.200s is no sealed stream", name);
    (void)kf_read_bytes(&reader, LENGTH_AT);
    *head_len = kf_read_u32(&reader);
    if (!begins_so || !vouched || *head_len < ALL_VERSIONS_MIN ||
        *head_len > KF_STREAM_HEAD_MAX)
        return kf_stream_damaged(err, name, "its first bytes are not what was written");
    return KFR_OK;
}

static void read_number(struct kf_reader *reader, uint8_t *number, size_t len)
{
    const unsigned char *bytes = kf_read_bytes(reader, len);

    if (bytes)
        memcpy(number, bytes, len);
}

static bool read_fields(struct kf_reader *reader, struct kf_stream_head *out)
{
    read_number(reader, out->check, sizeof out->check);
    read_number(reader, out->id, sizeof out->id);
    out->created = kf_read_u64(reader);
    out->expected = kf_read_u64(reader);
    kf_read_text(reader, out->label, sizeof out->label);
    kf_read_text(reader, out->serial, sizeof out->serial);
    kf_read_text(reader, out->model, sizeof out->model);
    kf_read_text(reader, out->manufacturer, sizeof out->manufacturer);
    kf_read_text(reader, out->keyferry, sizeof out->keyferry);
    return kf_reader_done(reader);
}

kf_rv kf_stream_read_head(const unsigned char *bytes, size_t len, const char *name,
                          struct kf_stream_head *out, uint8_t chain[KF_CRYPTO_HASH],
                          struct kf_error *err)
{
    size_t covered = len - KF_CRYPTO_HASH;
    struct kf_reader reader;

    *out = (struct kf_stream_head){ 0 };
    if (!kf_crypto_sha256(bytes, covered, chain))
        return kf_stream_no_crypto(err);
    if (memcmp(chain, bytes + covered, KF_CRYPTO_HASH) != 0)
        return kf_stream_damaged(err, name, "its head is not what was written");
    out->version = (unsigned)bytes[VERSION_AT] << 8 | bytes[VERSION_AT + 1];
    if (out->version > KF_STREAM_VERSION)
        return kf_fail(err, KFR_NEWER_VERSION, "",
                       "open it with the keyferry that wrote it",
                       "the sealed stream in %.200s is of version %u, this program "
                       "knows %d", name, out->version, KF_STREAM_VERSION);
    if (out->version < KF_STREAM_VERSION)
        return kf_stream_damaged(err, name, "it is of version 0, which never was");
    if (len < VERSION_1_MIN)
        return kf_stream_damaged(err, name, "its head is too short");
    reader = kf_reader_over(bytes + KF_STREAM_OPENING,
                            covered - KF_MAC_BYTES - KF_STREAM_OPENING);
    if (!read_fields(&reader, out))
        return kf_stream_damaged(err, name, "its head cannot be read");
    return KFR_OK;
}

kf_rv kf_stream_authenticate_head(const unsigned char *bytes, size_t len,
                                  const struct kf_domain *domain, const char *name,
                                  struct kf_error *err)
{
    const size_t covered = len - KF_CRYPTO_HASH - KF_MAC_BYTES;
    uint8_t mac[KF_MAC_BYTES];
    kf_rv rv;

    if (memcmp(bytes + KF_STREAM_OPENING, kf_domain_check(domain), KF_CHECK_BYTES) != 0)
        return kf_fail(err, KFR_DOMAIN_MISMATCH, "",
                       "use the domain it was sealed under",
                       "the sealed stream in %.200s is of another cloning domain",
                       name);
    rv = head_mac(bytes, covered, domain, mac, err);
    if (!rv && CRYPTO_memcmp(mac, bytes + covered, KF_MAC_BYTES) != 0)
        rv = kf_stream_damaged(err, name, "its head was not written under this domain");
    return rv;
}
