/* SPDX-License-Identifier: MIT */
#include "clone/wrap_way.h"

#include "clone/put_key.h"
#include "pkcs11/slot.h"

#include <stdlib.h>
#include <string.h>

const struct kf_wrap_way kf_wrap_ways[KF_WRAP_WAYS] = {
    {KF_CKM_AES_KEY_WRAP_KWP, KF_FORM_RFC5649},
    {CKM_AES_KEY_WRAP_PAD, KF_FORM_RFC5649},
    {CKM_AES_KEY_WRAP, KF_FORM_RFC5649},
    {CKM_AES_KEY_WRAP_PAD, KF_FORM_RFC3394_PKCS7},
    {KF_CKM_AES_KEY_WRAP_KWP, KF_FORM_RFC3394_PKCS7},
    {CKM_AES_KEY_WRAP, KF_FORM_RFC3394},
    {CKM_AES_KEY_WRAP_PAD, KF_FORM_RFC3394},
    {KF_CKM_AES_KEY_WRAP_KWP, KF_FORM_RFC3394},
    {CKM_AES_CBC_PAD, KF_FORM_CBC_PAD},
};

/* ---- which are open ---- */

/* A module that gives no list is taken to have them all: the proof tells. */
static void read_list(struct kf_wrap_format *format)
{
    CK_MECHANISM_TYPE *types = NULL;
    size_t count = 0, i, j;
    bool unknown;

    if (format->has_list)
        return;
    unknown =
        kf_slot_mechanisms(kf_session_module(format->session),
                           kf_session_slot(format->session), &types, &count, NULL);
    for (i = 0; i < KF_WRAP_WAYS; i++) {
        format->listed[i] = unknown;
        for (j = 0; !unknown && j < count; j++)
            if (types[j] == kf_wrap_ways[i].mechanism)
                format->listed[i] = true;
    }
    format->has_list = true;
    free(types);
}

bool kf_way_is_open(struct kf_wrap_format *format, size_t way)
{
    read_list(format);
    return format->listed[way] && (kf_domain_is_host(format->domain) ||
                                   kf_wrap_ways[way].form == KF_FORM_RFC5649);
}

/* ---- the wrapping key ---- */

/* A key for this session alone: what is wrapped under it never leaves this process. */
static kf_rv make_transport(struct kf_wrap_format *format, struct kf_error *err)
{
    struct kf_attributes *set = NULL;
    struct kf_secret *key = NULL;
    kf_rv rv = KFR_MEMORY;

    if (format->transport)
        return KFR_OK;
    set = kf_attributes_new(true);
    key = kf_secret_new(KF_CRYPTO_KEY);
    if (key && !kf_crypto_random(key->data, key->len))
        rv = KFR_CRYPTO;
    else if (set && key && kf_attributes_set_ulong(set, CKA_CLASS, CKO_SECRET_KEY) &&
             kf_attributes_set_ulong(set, CKA_KEY_TYPE, CKK_AES) &&
             kf_attributes_set_bool(set, CKA_TOKEN, false) &&
             kf_attributes_set_bool(set, CKA_PRIVATE, true) &&
             kf_attributes_set_bool(set, CKA_SENSITIVE, true) &&
             kf_attributes_set_bool(set, CKA_EXTRACTABLE, false) &&
             kf_attributes_set_bool(set, CKA_WRAP, true) &&
             kf_attributes_set_bool(set, CKA_UNWRAP, true) &&
             kf_attributes_set(set, CKA_VALUE, KF_BYTES, key->data, key->len))
        rv = kf_put_key(format->session, set, &format->transport_key, err);
    if (rv == KFR_MEMORY || rv == KFR_CRYPTO)
        kf_fail(err, rv, NULL, NULL, "no transport key could be made");
    if (!rv) {
        format->transport = key;
        key = NULL;
    }
    kf_secret_free(key);
    kf_attributes_free(set);
    return rv;
}

void kf_wrap_format_clear(struct kf_wrap_format *format)
{
    if (format->transport)
        kf_object_discard(format->session, format->transport_key);
    kf_secret_free(format->transport);
    format->transport = NULL;
    format->transport_key = CK_INVALID_HANDLE;
}

/* The wrapping key, what the form takes and, for CBC, a new IV and where it is told. */
static kf_rv begin(struct kf_wrap_format *format, const struct kf_wrap_way *way,
                   unsigned char iv[KF_CRYPTO_BLOCK], struct kf_form_key *key,
                   CK_OBJECT_HANDLE *wrapping, CK_MECHANISM *mechanism,
                   struct kf_error *err)
{
    kf_rv rv;

    *mechanism = (CK_MECHANISM){way->mechanism, NULL, 0};
    *key = (struct kf_form_key){.form = way->form, .domain = format->domain, .iv = iv};
    if (way->form != KF_FORM_CBC_PAD)
        return kf_domain_wrapping_key(format->domain, format->session, wrapping, err);
    rv = make_transport(format, err);
    if (rv)
        return rv;
    if (!kf_crypto_random(iv, KF_CRYPTO_BLOCK))
        return kf_fail(err, KFR_CRYPTO, "RAND_bytes", NULL, "no random numbers");
    mechanism->pParameter = iv;
    mechanism->ulParameterLen = KF_CRYPTO_BLOCK;
    key->transport = format->transport;
    *wrapping = format->transport_key;
    return KFR_OK;
}

/* ---- there and back ---- */

kf_rv kf_way_wrap(struct kf_wrap_format *format, const struct kf_wrap_way *way,
                  CK_OBJECT_HANDLE key, struct kf_secret **blob,
                  struct kf_secret **plain, struct kf_error *err)
{
    unsigned char iv[KF_CRYPTO_BLOCK], told[KF_CRYPTO_BLOCK];
    struct kf_form_key form;
    CK_OBJECT_HANDLE wrapping = CK_INVALID_HANDLE;
    CK_MECHANISM mechanism;
    kf_rv rv = begin(format, way, told, &form, &wrapping, &mechanism, err);

    *blob = NULL;
    if (rv)
        return rv;
    memcpy(iv, told, sizeof iv); /* a module may write into its parameter */
    form.iv = iv;
    rv = kf_object_wrap(format->session, wrapping, &mechanism, key, blob, err);
    if (!rv && plain)
        rv = kf_form_decode(&form, (*blob)->data, (*blob)->len, plain, err);
    if (rv) {
        kf_secret_free(*blob);
        *blob = NULL;
    }
    return rv;
}

static kf_rv turn(const struct kf_form_key *form, const void *body, size_t len,
                  struct kf_writer *out, struct kf_error *err)
{
    struct kf_secret *plain = NULL;
    kf_rv rv = kf_domain_unwrap_bytes(form->domain, body, len, &plain, err);

    if (!rv)
        rv = kf_form_encode(form, plain->data, plain->len, out, err);
    kf_secret_free(plain);
    return rv;
}

kf_rv kf_way_unwrap(struct kf_wrap_format *format, const struct kf_wrap_way *way,
                    const void *body, size_t len, const struct kf_attributes *set,
                    CK_OBJECT_HANDLE *out, struct kf_error *err)
{
    unsigned char iv[KF_CRYPTO_BLOCK];
    struct kf_writer turned = {0};
    struct kf_form_key form;
    CK_OBJECT_HANDLE wrapping = CK_INVALID_HANDLE;
    CK_MECHANISM mechanism;
    kf_rv rv = begin(format, way, iv, &form, &wrapping, &mechanism, err);

    *out = CK_INVALID_HANDLE;
    if (!rv && way->form != KF_FORM_RFC5649) {
        rv = turn(&form, body, len, &turned, err);
        body = turned.data;
        len = turned.len;
    }
    if (!rv)
        rv = kf_object_unwrap(format->session, wrapping, &mechanism, body, len, set,
                              out, err);
    kf_writer_clear(&turned);
    return rv;
}
