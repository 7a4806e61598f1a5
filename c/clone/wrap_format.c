/* SPDX-License-Identifier: MIT */
#include "clone/wrap_format.h"

#include "clone/wrap_proof.h"
#include "clone/wrap_way.h"

#include <stdio.h>
#include <string.h>

/* ---- proofs ---- */

static bool proved(struct kf_wrap_format *format, size_t way, bool unwrap)
{
    enum kf_wrap_proof *proof = unwrap ? &format->unwrap[way] : &format->wrap[way];
    kf_rv rv;

    if (*proof == KF_PROOF_NONE && kf_way_is_open(format, way)) {
        rv = kf_wrap_prove(format, &kf_wrap_ways[way], unwrap);
        format->why[way] = rv;
        /* A module that went away has proved nothing. */
        if (!rv || kf_session_is_open(format->session))
            *proof = rv ? KF_DISPROVED : KF_PROVED;
        return !rv;
    }
    return *proof == KF_PROVED;
}

/* What was tried, and why it does not serve: "CKM_AES_KEY_WRAP (CKR_...)". */
static void list_tried(const struct kf_wrap_format *format, char *text, size_t size)
{
    char mechanism[64], reason[64];
    size_t used = 0, i;

    text[0] = '\0';
    for (i = 0; i < KF_WRAP_WAYS && used < size; i++) {
        const struct kf_wrap_way *way = &kf_wrap_ways[i];

        if (!format->why[i])
            continue;
        used += (size_t)snprintf(
            text + used, size - used, "%s%s (%s)", used ? ", " : "",
            kf_name_text(KF_CKM, way->mechanism, mechanism, sizeof mechanism),
            kf_name_text(KF_CKR, format->why[i], reason, sizeof reason));
    }
}

static kf_rv no_way(struct kf_wrap_format *format, const char *call,
                    struct kf_error *err)
{
    bool host = kf_domain_is_host(format->domain);
    char tried[240];

    list_tried(format, tried, sizeof tried);
    return kf_fail(
        err, KFR_NO_ENGINE, call,
        host ? "keys cannot travel through this module but by their attributes; objects "
               "that are no keys can"
             : "give the domain with -domain: then other forms may do",
        "no way of wrapping keys that this token lists proved to be %s here%s%s",
        host ? "one that is known" : "RFC 5649", *tried ? ": " : "", tried);
}

void kf_wrap_way_text(struct kf_wrap_format *format, bool unwrap, char *text,
                      size_t size)
{
    char mechanism[64];
    size_t i = 0;

    text[0] = '\0';
    while (i < KF_WRAP_WAYS && !proved(format, i, unwrap))
        i++;
    if (i < KF_WRAP_WAYS)
        snprintf(text, size, "%s as %s",
                 kf_name_text(KF_CKM, kf_wrap_ways[i].mechanism, mechanism,
                              sizeof mechanism),
                 kf_form_text(kf_wrap_ways[i].form));
}

/* ---- use ---- */

/* Refusals of this key by this way: another way may take it. */
static bool is_about_way(kf_rv rv)
{
    static const kf_rv codes[] = {
        CKR_DATA_INVALID,          CKR_DATA_LEN_RANGE,
        CKR_KEY_SIZE_RANGE,        CKR_KEY_NOT_WRAPPABLE,
        CKR_MECHANISM_INVALID,     CKR_MECHANISM_PARAM_INVALID,
        CKR_WRAPPED_KEY_INVALID,   CKR_WRAPPED_KEY_LEN_RANGE,
        CKR_WRAPPING_KEY_SIZE_RANGE, CKR_WRAPPING_KEY_TYPE_INCONSISTENT,
        CKR_UNWRAPPING_KEY_SIZE_RANGE, CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT,
        CKR_FUNCTION_NOT_SUPPORTED, KFR_ARGUMENT,
    };

    return KF_AMONG(rv, codes);
}

/* CBC vouches for nothing: a second time, with another IV, has to give the same. */
static kf_rv wrap_again(struct kf_wrap_format *format, const struct kf_wrap_way *way,
                        CK_OBJECT_HANDLE key, const struct kf_secret *plain,
                        struct kf_error *err)
{
    struct kf_secret *blob = NULL, *again = NULL;
    kf_rv rv = kf_way_wrap(format, way, key, &blob, &again, err);

    if (!rv && !kf_secret_equal(plain, again))
        rv = kf_fail(err, KFR_DIFFERS, "C_WrapKey",
                     "nothing of it was written; run again, and leave it out if it stays so",
                     "the token wrapped one key twice and gave two");
    kf_secret_free(blob);
    kf_secret_free(again);
    return rv;
}

static kf_rv out_by(struct kf_wrap_format *format, const struct kf_wrap_way *way,
                    CK_OBJECT_HANDLE key, struct kf_secret **out, struct kf_error *err)
{
    struct kf_secret *blob = NULL, *plain = NULL;
    struct kf_writer body = {0};
    kf_rv rv;

    if (way->form == KF_FORM_RFC5649)
        return kf_way_wrap(format, way, key, out, NULL, err);
    rv = kf_way_wrap(format, way, key, &blob, &plain, err);
    if (!rv && way->form == KF_FORM_CBC_PAD)
        rv = wrap_again(format, way, key, plain, err);
    if (!rv)
        rv = kf_domain_wrap_bytes(format->domain, plain->data, plain->len, &body, err);
    if (!rv) {
        *out = kf_secret_from(body.data, body.len);
        if (!*out)
            rv = kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for a wrapped key");
    }
    kf_secret_free(blob);
    kf_secret_free(plain);
    kf_writer_clear(&body);
    return rv;
}

/* The refusal of the best way is the one that is told. */
static bool goes_on(kf_rv rv, kf_rv *first, const struct kf_error *one,
                    struct kf_error *err)
{
    if (!*first) {
        *first = rv;
        if (err)
            *err = *one;
    }
    return is_about_way(rv);
}

kf_rv kf_wrap_out(struct kf_wrap_format *format, CK_OBJECT_HANDLE key,
                  struct kf_secret **out, struct kf_error *err)
{
    struct kf_error one = {0};
    kf_rv first = KFR_OK, rv;
    size_t i;

    *out = NULL;
    for (i = 0; i < KF_WRAP_WAYS; i++) {
        if (!proved(format, i, false))
            continue;
        rv = out_by(format, &kf_wrap_ways[i], key, out, &one);
        if (!rv)
            return KFR_OK;
        if (!goes_on(rv, &first, &one, err))
            break;
    }
    return first ? first : no_way(format, "C_WrapKey", err);
}

/* A token that does not take this key in, whatever it calls that. */
static void tell_refused(kf_rv rv, const struct kf_attributes *set, struct kf_error *err)
{
    uint64_t type = kf_attributes_ulong(set, CKA_KEY_TYPE, CK_UNAVAILABLE_INFORMATION);
    char text[64];

    if (err && rv != KFR_ARGUMENT &&
        (is_about_way(rv) || rv == CKR_TEMPLATE_INCOMPLETE ||
         rv == CKR_DOMAIN_PARAMS_INVALID || rv == CKR_CURVE_NOT_SUPPORTED))
        kf_fail(err, rv, "C_UnwrapKey",
                "'keyferry hsm check -login' shows the kinds of keys that an HSM takes",
                "the target's module does not take this key in (%s)",
                kf_name_text(KF_CKK, type, text, sizeof text));
}

kf_rv kf_wrap_in(struct kf_wrap_format *format, const void *wrapped, size_t len,
                 const struct kf_attributes *set, CK_OBJECT_HANDLE *out,
                 struct kf_error *err)
{
    struct kf_error one = {0};
    kf_rv first = KFR_OK, rv;
    size_t i;

    *out = CK_INVALID_HANDLE;
    for (i = 0; i < KF_WRAP_WAYS; i++) {
        if (!proved(format, i, true))
            continue;
        rv = kf_way_unwrap(format, &kf_wrap_ways[i], wrapped, len, set, out, &one);
        if (!rv)
            return KFR_OK;
        if (!goes_on(rv, &first, &one, err))
            break;
    }
    if (!first)
        return no_way(format, "C_UnwrapKey", err);
    tell_refused(first, set, err);
    return first;
}
