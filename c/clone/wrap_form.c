/* SPDX-License-Identifier: MIT */
#include "clone/wrap_form.h"

#include <string.h>

enum { BLOCK = 8 };

const char *kf_form_text(enum kf_wrap_form form)
{
    static const char *const texts[] = {
        [KF_FORM_RFC5649] = "RFC 5649",
        [KF_FORM_RFC3394] = "RFC 3394",
        [KF_FORM_RFC3394_PKCS7] = "RFC 3394 after PKCS#7 padding",
        [KF_FORM_CBC_PAD] = "AES-CBC after PKCS#7 padding",
    };

    return texts[form];
}

static kf_rv no_memory(struct kf_error *err)
{
    return kf_fail(err, KFR_MEMORY, "", "", "no memory for a wrapped key");
}

/* ---- making ---- */

/* PKCS#7 padding to a whole block. */
static kf_rv encode_padded(const struct kf_form_key *key, const void *plain, size_t len,
                           struct kf_writer *out, struct kf_error *err)
{
    size_t whole = len / BLOCK * BLOCK + BLOCK;
    struct kf_secret *all = kf_secret_new(whole);
    kf_rv rv;

    if (!all)
        return no_memory(err);
    memcpy(all->data, plain, len);
    memset(all->data + len, (int)(whole - len), whole - len);
    rv = kf_domain_wrap_blocks(key->domain, all->data, all->len, out, err);
    kf_secret_free(all);
    return rv;
}

static kf_rv encode_cbc(const struct kf_form_key *key, const void *plain, size_t len,
                        struct kf_writer *out, struct kf_error *err)
{
    size_t got = 0, before = out->len;
    unsigned char *room = kf_write_room(out, kf_crypto_cbc_room(len));

    if (!room)
        return no_memory(err);
    if (!kf_crypto_cbc(true, key->transport->data, key->iv, plain, len, room, &got)) {
        out->len = before;
        return kf_fail(err, KFR_CRYPTO, "AES-256-CBC", "", "OpenSSL refused it");
    }
    out->len = before + got;
    return KFR_OK;
}

kf_rv kf_form_encode(const struct kf_form_key *key, const void *plain, size_t len,
                     struct kf_writer *out, struct kf_error *err)
{
    switch (key->form) {
    case KF_FORM_RFC5649:
        return kf_domain_wrap_bytes(key->domain, plain, len, out, err);
    case KF_FORM_RFC3394:
        return kf_domain_wrap_blocks(key->domain, plain, len, out, err);
    case KF_FORM_RFC3394_PKCS7:
        return encode_padded(key, plain, len, out, err);
    case KF_FORM_CBC_PAD:
        return encode_cbc(key, plain, len, out, err);
    }
    return kf_fail(err, KFR_ARGUMENT, "", "", "there is no such form");
}

/* ---- reading ---- */

static kf_rv not_padded(struct kf_error *err)
{
    return kf_fail(err, KFR_DAMAGED, "", "", "a wrapped key is not padded as it should");
}

static kf_rv cut_pkcs7(struct kf_secret *plain, struct kf_error *err)
{
    size_t n = plain->len ? plain->data[plain->len - 1] : 0, i;
    unsigned char wrong = 0;

    if (!n || n > BLOCK || n >= plain->len)
        return not_padded(err);
    for (i = 0; i < n; i++)
        wrong |= (unsigned char)(plain->data[plain->len - 1 - i] ^ n);
    if (wrong)
        return not_padded(err);
    kf_secret_cut(plain, plain->len - n);
    return KFR_OK;
}

static kf_rv decode_cbc(const struct kf_form_key *key, const void *bytes, size_t len,
                        struct kf_secret **out, struct kf_error *err)
{
    struct kf_secret *plain = NULL;
    size_t got = 0;

    if (!len || len % KF_CRYPTO_BLOCK)
        return kf_fail(err, KFR_DAMAGED, "", "", "a wrapped key has %zu bytes", len);
    plain = kf_secret_new(kf_crypto_cbc_room(len));
    if (!plain)
        return no_memory(err);
    if (!kf_crypto_cbc(false, key->transport->data, key->iv, bytes, len, plain->data,
                       &got)) {
        kf_secret_free(plain);
        return not_padded(err);
    }
    kf_secret_cut(plain, got);
    *out = plain;
    return KFR_OK;
}

kf_rv kf_form_decode(const struct kf_form_key *key, const void *bytes, size_t len,
                     struct kf_secret **out, struct kf_error *err)
{
    kf_rv rv;

    *out = NULL;
    if (key->form == KF_FORM_CBC_PAD)
        return decode_cbc(key, bytes, len, out, err);
    if (key->form == KF_FORM_RFC5649)
        return kf_domain_unwrap_bytes(key->domain, bytes, len, out, err);
    rv = kf_domain_unwrap_blocks(key->domain, bytes, len, out, err);
    if (!rv && key->form == KF_FORM_RFC3394_PKCS7)
        rv = cut_pkcs7(*out, err);
    if (rv) {
        kf_secret_free(*out);
        *out = NULL;
    }
    return rv;
}
