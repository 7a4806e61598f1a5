/* SPDX-License-Identifier: MIT
 * Sealed objects. The first byte of the input chooses how far it is helped:
 *   K...  a whole sealed object as it is (a .sealed file begins with K)
 *   H...  what is between check value and mac; head, mac and digest are put around it
 *   A...  two sets of attribute records, open and hidden, the first as long as the next
 *         two bytes say; everything else is put around them
 */
#include "fuzz.h"

#include "base/secret.h"
#include "clone/domain.h"
#include "clone/sealed.h"

#include <string.h>

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

static void close_blob(struct kf_writer *blob, const struct kf_domain *domain)
{
    static const char prefix[] = "keyferry sealed 1";
    uint8_t mac[KF_MAC_BYTES], digest[KF_CRYPTO_HASH];
    struct kf_slice slices[] = { { prefix, sizeof prefix }, { NULL, 0 } };

    kf_write_u32_at(blob, 10, (uint32_t)(blob->len + sizeof mac + sizeof digest));
    slices[1] = (struct kf_slice){ blob->data, blob->len };
    FUZZ_PROMISE(!kf_domain_mac(domain, slices, 2, mac, NULL));
    kf_write_bytes(blob, mac, sizeof mac);
    FUZZ_PROMISE(kf_crypto_sha256(blob->data, blob->len, digest));
    kf_write_bytes(blob, digest, sizeof digest);
}

static void open_blob(struct kf_writer *blob, const struct kf_domain *domain)
{
    kf_write_bytes(blob, "KFSEALED", 8);
    kf_write_u16(blob, 1);
    kf_write_u32(blob, 0);
    kf_write_bytes(blob, kf_domain_check(domain), KF_CHECK_BYTES);
}

static void write_sets(struct kf_writer *blob, const struct kf_domain *domain,
                       struct kf_reader *in)
{
    size_t len = kf_read_u16(in), at;

    len = len > in->left ? in->left : len;
    kf_write_u32(blob, 0);
    kf_write_u16(blob, 0); /* two empty names */
    kf_write_u32(blob, (uint32_t)len);
    kf_write_bytes(blob, kf_read_bytes(in, len), len);
    at = blob->len;
    kf_write_u32(blob, 0);
    FUZZ_PROMISE(!kf_domain_encrypt(domain, in->at, in->left, blob, NULL));
    kf_write_u32_at(blob, at, (uint32_t)(blob->len - at - 4));
    kf_write_u8(blob, KF_BODY_NONE);
    kf_write_u32(blob, 0);
}

/* What opens can be sealed again, and opens again; under another domain it does not. */
static void check(const void *bytes, size_t len, const struct kf_domain *domain,
                  const struct kf_domain *other)
{
    struct kf_sealed sealed, again;
    struct kf_writer blob = { 0 };
    uint8_t value[KF_CHECK_BYTES];
    kf_rv rv = kf_sealed_decode(bytes, len, domain, &sealed, NULL);

    if (rv) {
        FUZZ_PROMISE(!sealed.open && !sealed.hidden && !sealed.wrapped);
        return;
    }
    FUZZ_PROMISE(!kf_sealed_peek(bytes, len, value, NULL));
    FUZZ_PROMISE(kf_sealed_decode(bytes, len, other, &again, NULL) ==
                 KFR_DOMAIN_MISMATCH);
    FUZZ_PROMISE(!kf_sealed_encode(&sealed, domain, &blob, NULL));
    FUZZ_PROMISE(!kf_sealed_decode(blob.data, blob.len, domain, &again, NULL));
    FUZZ_PROMISE(again.open->count == sealed.open->count);
    FUZZ_PROMISE(!again.hidden == !sealed.hidden &&
                 again.wrapped_len == sealed.wrapped_len);
    kf_sealed_clear(&again);
    kf_sealed_clear(&sealed);
    kf_writer_clear(&blob);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct kf_domain *domain, *other;
    struct kf_reader in = kf_reader_over(data, size);
    struct kf_writer blob = { 0 };

    if (!domain) {
        domain = domain_of(1);
        other = domain_of(2);
    }
    if (size == 0)
        return 0;
    if (*data == 'H' || *data == 'A') {
        open_blob(&blob, domain);
        (void)kf_read_u8(&in);
        if (*data == 'H')
            kf_write_bytes(&blob, in.at, in.left);
        else
            write_sets(&blob, domain, &in);
        close_blob(&blob, domain);
        check(blob.data, blob.len, domain, other);
    } else {
        check(data, size, domain, other);
    }
    kf_writer_clear(&blob);
    return 0;
}
