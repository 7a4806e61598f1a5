/* SPDX-License-Identifier: MIT */
#include "clone/sealed.h"

#include "clone/material.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

/* c/README.md has the format. What holds for every version: magic, version and total
 * length in front, the digest at the very end. */
enum {
    MAGIC = 8,
    VERSION_AT = 8,
    TOTAL_AT = 10,
    CHECK_AT = 14,
    ENGINE_AT = CHECK_AT + KF_CHECK_BYTES + 4, /* after the flags */
    ALL_VERSIONS_MIN = 14 + KF_CRYPTO_HASH,
    /* check, flags, two empty names, two lengths, body kind and length, mac, digest */
    VERSION_1_MIN =
        CHECK_AT + KF_CHECK_BYTES + 4 + 2 + 8 + 5 + KF_MAC_BYTES + KF_CRYPTO_HASH,
    FORMAT_VERSION = KF_SEALED_VERSION,
    FLAGS_KNOWN = KF_SEALED_EXACT
};

static const unsigned char magic[MAGIC] = { 'K', 'F', 'S', 'E', 'A', 'L', 'E', 'D' };
static const char MAC_PREFIX[] = "keyferry sealed 1"; /* its NUL is part of it */

static kf_rv damaged(struct kf_error *err, const char *what)
{
    return kf_fail(err, KFR_DAMAGED, "", "take another copy of it",
                   "the sealed object is damaged: %s", what);
}

static kf_rv no_memory(struct kf_error *err)
{
    return kf_fail(err, KFR_MEMORY, "", "", "no memory for a sealed object");
}

bool kf_sealed_is_reference(const void *bytes, size_t len)
{
    static const char luna[] = "\4luna"; /* the only engine that makes such */
    enum { TEXT = sizeof luna - 1 };

    return len > ENGINE_AT + TEXT &&
           memcmp((const char *)bytes + ENGINE_AT, luna, TEXT) == 0;
}

kf_rv kf_sealed_check_bytes(const void *bytes, size_t len, struct kf_error *err)
{
    if (!kf_sealed_is_reference(bytes, len))
        return KFR_OK;
    return kf_fail(err, KFR_REFUSED, "", "use the engine wrap",
                   "what the engine luna seals holds no key but says where it is, and is "
                   "good in this process alone");
}

void kf_sealed_clear(struct kf_sealed *sealed)
{
    kf_attributes_free(sealed->open);
    kf_attributes_free(sealed->hidden);
    if (sealed->wrapped)
        OPENSSL_clear_free(sealed->wrapped, sealed->wrapped_len);
    *sealed = (struct kf_sealed){ 0 };
}

static bool share_a_type(const struct kf_attributes *a, const struct kf_attributes *b)
{
    if (!b)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (kf_attributes_get(b, a->at[i].type))
            return true;
    return false;
}

static bool body_fits(unsigned body, size_t wrapped_len)
{
    if (body == KF_BODY_NONE)
        return wrapped_len == 0;
    return (body == KF_BODY_SECRET || body == KF_BODY_PKCS8) && wrapped_len >= 16 &&
           wrapped_len % 8 == 0;
}

/* Encoding */

static kf_rv write_hidden(const struct kf_attributes *hidden,
                          const struct kf_domain *domain, struct kf_writer *out,
                          struct kf_error *err)
{
    struct kf_writer plain = kf_writer_secret();
    size_t length_at = out->len;
    kf_rv rv = KFR_OK;

    kf_write_u32(out, 0);
    if (hidden) {
        kf_attributes_write(&plain, hidden);
        rv = plain.bad ? no_memory(err)
                       : kf_domain_encrypt(domain, plain.data, plain.len, out, err);
        if (!rv)
            kf_write_u32_at(out, length_at, (uint32_t)(out->len - length_at - 4));
    }
    kf_writer_clear(&plain);
    return rv;
}

static kf_rv mac_of(const unsigned char *bytes, size_t len,
                    const struct kf_domain *domain, uint8_t mac[KF_MAC_BYTES],
                    struct kf_error *err)
{
    const struct kf_slice slices[] = { { MAC_PREFIX, sizeof MAC_PREFIX },
                                       { bytes, len } };

    return kf_domain_mac(domain, slices, 2, mac, err);
}

/* From `start` to here: the mac, then the digest over all of it. */
static kf_rv write_end(struct kf_writer *out, size_t start,
                       const struct kf_domain *domain, struct kf_error *err)
{
    uint8_t mac[KF_MAC_BYTES], digest[KF_CRYPTO_HASH];
    size_t total = out->len - start + KF_MAC_BYTES + KF_CRYPTO_HASH;
    kf_rv rv = KFR_LIMIT;

    if (out->bad)
        return no_memory(err);
    if (total > KF_SEALED_MAX)
        return kf_fail(err, KFR_LIMIT, "", "",
                       "an object of %zu bytes is larger than a sealed object may be",
                       total);
    kf_write_u32_at(out, start + TOTAL_AT, (uint32_t)total);
    rv = mac_of(out->data + start, out->len - start, domain, mac, err);
    if (rv)
        return rv;
    kf_write_bytes(out, mac, sizeof mac);
    if (out->bad)
        return no_memory(err);
    if (!kf_crypto_sha256(out->data + start, out->len - start, digest))
        return kf_fail(err, KFR_CRYPTO, "SHA-256", "", "OpenSSL gives no digest");
    kf_write_bytes(out, digest, sizeof digest);
    return out->bad ? no_memory(err) : KFR_OK;
}

/* What decoding would refuse is not written. */
static kf_rv check_sealable(const struct kf_sealed *sealed, struct kf_error *err)
{
    const struct kf_attributes *hidden = sealed->hidden;

    if (!sealed->open || sealed->flags & ~(unsigned)FLAGS_KNOWN ||
        !body_fits(sealed->body, sealed->wrapped_len) ||
        (sealed->wrapped_len && !sealed->wrapped) || share_a_type(sealed->open, hidden))
        return kf_fail(err, KFR_ARGUMENT, "", "",
                       "what is to be sealed is inconsistent");
    if (sealed->open->count > KF_SEALED_ATTRIBUTES_MAX ||
        (hidden && hidden->count > KF_SEALED_ATTRIBUTES_MAX))
        return kf_fail(err, KFR_LIMIT, "", "", "an object has more than %d attributes",
                       KF_SEALED_ATTRIBUTES_MAX);
    if (sealed->wrapped_len > KF_SEALED_MAX)
        return kf_fail(err, KFR_LIMIT, "", "", "a key of %zu bytes is too large",
                       sealed->wrapped_len);
    return KFR_OK;
}

kf_rv kf_sealed_encode(const struct kf_sealed *sealed, const struct kf_domain *domain,
                       struct kf_writer *out, struct kf_error *err)
{
    size_t start = out->len, open_at;
    kf_rv rv = check_sealable(sealed, err);

    if (rv)
        return rv;
    kf_write_bytes(out, magic, MAGIC);
    kf_write_u16(out, FORMAT_VERSION);
    kf_write_u32(out, 0);
    kf_write_bytes(out, kf_domain_check(domain), KF_CHECK_BYTES);
    kf_write_u32(out, sealed->flags);
    kf_write_text(out, sealed->engine, sizeof sealed->engine);
    kf_write_text(out, sealed->source_serial, sizeof sealed->source_serial);
    open_at = out->len;
    kf_write_u32(out, 0);
    kf_attributes_write(out, sealed->open);
    if (out->len - open_at > KF_SEALED_MAX)
        rv = kf_fail(err, KFR_LIMIT, "", "", "an object is larger than can be sealed");
    if (!rv) {
        kf_write_u32_at(out, open_at, (uint32_t)(out->len - open_at - 4));
        rv = write_hidden(sealed->hidden, domain, out, err);
    }
    if (!rv) {
        kf_write_u8(out, (uint8_t)sealed->body);
        kf_write_u32(out, (uint32_t)sealed->wrapped_len);
        kf_write_bytes(out, sealed->wrapped, sealed->wrapped_len);
        rv = write_end(out, start, domain, err);
    }
    if (rv && !out->bad)
        out->len = start;
    return rv;
}

/* Decoding */

/* What every version promises: these are the bytes that were sealed. */
static kf_rv check_whole(const unsigned char *bytes, size_t len, struct kf_error *err)
{
    struct kf_reader reader = kf_reader_over(bytes, len);
    unsigned char digest[KF_CRYPTO_HASH];

    if (len > KF_SEALED_MAX)
        return kf_fail(err, KFR_LIMIT, "", "",
                       "a sealed object of %zu bytes is too large", len);
    if (len < ALL_VERSIONS_MIN || memcmp(bytes, magic, MAGIC) != 0)
        return damaged(err, "it does not begin like one");
    (void)kf_read_bytes(&reader, TOTAL_AT);
    if (kf_read_u32(&reader) != len)
        return damaged(err, "it is not as long as it says");
    if (!kf_crypto_sha256(bytes, len - KF_CRYPTO_HASH, digest))
        return kf_fail(err, KFR_CRYPTO, "SHA-256", "", "OpenSSL gives no digest");
    if (CRYPTO_memcmp(digest, bytes + len - KF_CRYPTO_HASH, KF_CRYPTO_HASH) != 0)
        return damaged(err, "its digest is another");
    return KFR_OK;
}

static kf_rv check_version(const unsigned char *bytes, size_t len, struct kf_error *err)
{
    unsigned version = (unsigned)bytes[VERSION_AT] << 8 | bytes[VERSION_AT + 1];

    if (version > FORMAT_VERSION)
        return kf_fail(err, KFR_NEWER_VERSION, "",
                       "open it with the keyferry that sealed it",
                       "the sealed object is of version %u, this program knows %d",
                       version, FORMAT_VERSION);
    if (version < FORMAT_VERSION)
        return damaged(err, "it is of version 0, which never was");
    if (len < VERSION_1_MIN)
        return damaged(err, "it is too short");
    return KFR_OK;
}

kf_rv kf_sealed_peek(const void *bytes, size_t len, uint8_t check[KF_CHECK_BYTES],
                     struct kf_error *err)
{
    kf_rv rv = check_whole(bytes, len, err);

    if (!rv)
        rv = check_version(bytes, len, err);
    if (!rv)
        memcpy(check, (const unsigned char *)bytes + CHECK_AT, KF_CHECK_BYTES);
    return rv;
}

static kf_rv authenticate(const unsigned char *bytes, size_t len,
                          const struct kf_domain *domain, struct kf_error *err)
{
    size_t covered = len - KF_MAC_BYTES - KF_CRYPTO_HASH;
    uint8_t check[KF_CHECK_BYTES], mac[KF_MAC_BYTES];
    kf_rv rv = kf_sealed_peek(bytes, len, check, err);

    if (rv)
        return rv;
    if (CRYPTO_memcmp(check, kf_domain_check(domain), KF_CHECK_BYTES) != 0)
        return kf_fail(err, KFR_DOMAIN_MISMATCH, "",
                       "use the domain it was sealed under",
                       "the object was sealed under another cloning domain");
    rv = mac_of(bytes, covered, domain, mac, err);
    if (!rv && CRYPTO_memcmp(mac, bytes + covered, KF_MAC_BYTES) != 0)
        rv = damaged(err, "it was not sealed under this domain");
    return rv;
}

/* A set that fills exactly those bytes. */
static struct kf_attributes *read_set(const void *bytes, size_t len, bool secret)
{
    struct kf_reader reader = kf_reader_over(bytes, len);
    struct kf_attributes *set =
        kf_attributes_read(&reader, KF_SEALED_ATTRIBUTES_MAX, secret);

    if (set && !kf_reader_done(&reader)) {
        kf_attributes_free(set);
        set = NULL;
    }
    return set;
}

static kf_rv read_hidden(struct kf_reader *reader, const struct kf_domain *domain,
                         struct kf_attributes **out, struct kf_error *err)
{
    size_t len = kf_read_u32(reader);
    const unsigned char *bytes = kf_read_bytes(reader, len);
    struct kf_secret *plain = NULL;
    kf_rv rv = KFR_DAMAGED;

    if (!bytes)
        return damaged(err, "its hidden part is cut short");
    if (len == 0)
        return KFR_OK;
    rv = kf_domain_decrypt(domain, bytes, len, &plain, err);
    if (!rv) {
        *out = read_set(plain->data, plain->len, true);
        if (!*out)
            rv = damaged(err, "its hidden attributes cannot be read");
    }
    kf_secret_free(plain);
    return rv;
}

static kf_rv read_open(struct kf_reader *reader, struct kf_sealed *out,
                       struct kf_error *err)
{
    size_t len;
    const unsigned char *bytes;

    out->flags = kf_read_u32(reader);
    kf_read_text(reader, out->engine, sizeof out->engine);
    kf_read_text(reader, out->source_serial, sizeof out->source_serial);
    len = kf_read_u32(reader);
    bytes = kf_read_bytes(reader, len);
    if (reader->bad || !bytes || out->flags & ~(unsigned)FLAGS_KNOWN)
        return damaged(err, "its head cannot be read");
    out->open = read_set(bytes, len, false);
    return out->open ? KFR_OK : damaged(err, "its attributes cannot be read");
}

static kf_rv read_body(struct kf_reader *reader, struct kf_sealed *out,
                       struct kf_error *err)
{
    unsigned body = kf_read_u8(reader);
    size_t len = kf_read_u32(reader);
    const unsigned char *bytes = kf_read_bytes(reader, len);

    if (!bytes || !body_fits(body, len))
        return damaged(err, "its key cannot be read");
    out->body = (enum kf_body)body;
    if (len == 0)
        return KFR_OK;
    out->wrapped = OPENSSL_malloc(len);
    if (!out->wrapped)
        return no_memory(err);
    memcpy(out->wrapped, bytes, len);
    out->wrapped_len = len;
    return KFR_OK;
}

/* Between the check value and the mac of a sealed object that check_version has passed. */
static struct kf_reader content_of(const void *bytes, size_t len)
{
    return kf_reader_over((const unsigned char *)bytes + CHECK_AT + KF_CHECK_BYTES,
                          len - CHECK_AT - KF_CHECK_BYTES - KF_MAC_BYTES -
                              KF_CRYPTO_HASH);
}

kf_rv kf_sealed_look(const void *bytes, size_t len, struct kf_sealed *out,
                     struct kf_error *err)
{
    uint8_t check[KF_CHECK_BYTES];
    struct kf_reader reader;
    kf_rv rv = kf_sealed_peek(bytes, len, check, err);

    *out = (struct kf_sealed){ 0 };
    if (rv)
        return rv;
    reader = content_of(bytes, len);
    rv = read_open(&reader, out, err);
    if (rv)
        kf_sealed_clear(out);
    return rv;
}

kf_rv kf_sealed_decode(const void *bytes, size_t len, const struct kf_domain *domain,
                       struct kf_sealed *out, struct kf_error *err)
{
    struct kf_reader reader;
    kf_rv rv = KFR_DAMAGED;

    *out = (struct kf_sealed){ 0 };
    rv = authenticate(bytes, len, domain, err);
    if (rv)
        goto done;
    reader = content_of(bytes, len);
    rv = read_open(&reader, out, err);
    if (!rv)
        rv = read_hidden(&reader, domain, &out->hidden, err);
    if (!rv)
        rv = read_body(&reader, out, err);
    if (!rv && !kf_reader_done(&reader))
        rv = damaged(err, "there is something after its key");
    if (!rv && share_a_type(out->open, out->hidden))
        rv = damaged(err, "an attribute is in it twice");
done:
    if (rv)
        kf_sealed_clear(out);
    return rv;
}

/* What the body says of the key, as attributes. */
static kf_rv read_key(const struct kf_sealed *sealed, const struct kf_domain *domain,
                      struct kf_attributes **out, struct kf_error *err)
{
    struct kf_secret *body = NULL;
    kf_rv rv = kf_domain_unwrap_bytes(domain, sealed->wrapped, sealed->wrapped_len,
                                      &body, err);

    if (!rv)
        rv = kf_material_attributes(sealed->open, body->data, body->len, out, err);
    kf_secret_free(body);
    return rv;
}

kf_rv kf_sealed_digest(const void *bytes, size_t len, const struct kf_domain *domain,
                       uint8_t out[KF_MAC_BYTES], struct kf_error *err)
{
    struct kf_attributes *key = NULL;
    struct kf_sealed sealed;
    kf_rv rv = kf_sealed_decode(bytes, len, domain, &sealed, err);

    if (rv)
        return rv;
    rv = kf_material_digest(sealed.open, sealed.hidden, domain, out, err);
    if (rv == KFR_NOT_FOUND && sealed.wrapped && kf_domain_is_host(domain)) {
        rv = read_key(&sealed, domain, &key, err);
        if (!rv)
            rv = kf_material_digest(sealed.open, key, domain, out, err);
    }
    kf_attributes_free(key);
    kf_sealed_clear(&sealed);
    return rv;
}
