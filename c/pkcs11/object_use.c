/* SPDX-License-Identifier: MIT */
#include "pkcs11/object.h"

#include <openssl/evp.h>
#include <string.h>

enum {
    FIRST_BYTES = 8192, /* a NULL query makes SoftHSM do the whole work twice */
    RESULT_MAX = 80 * 1024 * 1024,
    SPARE = 64, /* NSS names a length that is too small for what follows */
    TRIES = 4,
    RANDOM_MAX = 1024 * 1024
};

/* A call that gives bytes into a buffer. Encrypt, decrypt, sign and digest are alike in
 * PKCS#11 (v2.40, 5.2); wrapping has other arguments. */
typedef CK_RV (*one_part)(CK_SESSION_HANDLE, CK_BYTE *, CK_ULONG, CK_BYTE *,
                          CK_ULONG *);

struct step {
    const char *call;
    struct kf_session *session;
    one_part function; /* NULL: wrap */
    CK_BYTE *data;
    CK_ULONG len;
    CK_MECHANISM *mechanism; /* from here on for wrapping */
    CK_OBJECT_HANDLE wrapping, key;
};

static CK_RV take_step(const struct step *step, CK_BYTE *out, CK_ULONG *len)
{
    CK_SESSION_HANDLE handle = kf_session_handle(step->session);

    if (step->function)
        return step->function(handle, step->data, step->len, out, len);
    return KF_CALL(kf_session_module(step->session), C_WrapKey, handle, step->mechanism,
                   step->wrapping, step->key, out, len);
}

/* How much room to try next, from what a NULL query says; never less than twice. */
static size_t next_room(const struct step *step, size_t room)
{
    CK_ULONG len = 0;
    size_t next = 2 * room;

    if (take_step(step, NULL, &len) == CKR_OK && len <= RESULT_MAX &&
        len + SPARE > next)
        next = len + SPARE;
    return next;
}

static kf_rv produce(const struct step *step, size_t room, struct kf_secret **out,
                     struct kf_error *err)
{
    struct kf_secret *result = NULL;
    CK_RV answer = CKR_BUFFER_TOO_SMALL;
    CK_ULONG len = 0;
    kf_rv rv = KFR_MEMORY;

    for (int i = 0; i < TRIES && answer == CKR_BUFFER_TOO_SMALL && room <= RESULT_MAX;
         i++) {
        if (i > 0)
            room = next_room(step, room);
        kf_secret_free(result);
        result = kf_secret_new(room);
        if (!result) {
            kf_fail(err, rv, step->call, NULL, "no memory for the result");
            goto done;
        }
        len = room;
        answer = take_step(step, result->data, &len);
    }
    if (answer != CKR_OK) {
        rv = kf_module_fail(err, answer, step->call, "token %s",
                            kf_session_token(step->session)->label);
        goto done;
    }
    if (len > room) {
        rv = kf_fail(err, KFR_MODULE, step->call, NULL,
                     "the module says that it wrote past the end of the buffer");
        goto done;
    }
    kf_secret_cut(result, len);
    *out = result;
    result = NULL;
    rv = 0;
done:
    kf_secret_free(result);
    return rv;
}

/* The kinds of single part operation: how it begins and how it goes on. */
enum operation { SIGN, ENCRYPT, DECRYPT, DIGEST };

struct plan {
    const char *init_call, *call;
};

static const struct plan plans[] = {
    [SIGN] = {"C_SignInit", "C_Sign"},
    [ENCRYPT] = {"C_EncryptInit", "C_Encrypt"},
    [DECRYPT] = {"C_DecryptInit", "C_Decrypt"},
    [DIGEST] = {"C_DigestInit", "C_Digest"},
};

static CK_RV begin(struct kf_session *session, enum operation operation,
                   CK_OBJECT_HANDLE key, CK_MECHANISM *mechanism, one_part *function)
{
    CK_FUNCTION_LIST *list = kf_module_functions(kf_session_module(session));
    CK_SESSION_HANDLE handle = kf_session_handle(session);
    CK_RV (*init)(CK_SESSION_HANDLE, CK_MECHANISM *, CK_OBJECT_HANDLE) = NULL;

    switch (operation) {
    case SIGN:
        init = list->C_SignInit;
        *function = list->C_Sign;
        break;
    case ENCRYPT:
        init = list->C_EncryptInit;
        *function = list->C_Encrypt;
        break;
    case DECRYPT:
        init = list->C_DecryptInit;
        *function = list->C_Decrypt;
        break;
    case DIGEST:
        *function = list->C_Digest;
        return list->C_DigestInit && list->C_Digest
                   ? list->C_DigestInit(handle, mechanism)
                   : CKR_FUNCTION_NOT_SUPPORTED;
    }
    return init && *function ? init(handle, mechanism, key)
                             : CKR_FUNCTION_NOT_SUPPORTED;
}

static kf_rv operate(struct kf_session *session, enum operation operation,
                     CK_OBJECT_HANDLE key, CK_MECHANISM *mechanism, const void *data,
                     size_t len, struct kf_secret **out, struct kf_error *err)
{
    const struct plan *plan = &plans[operation];
    struct step step = {.call = plan->call, .session = session, .len = len};
    kf_rv rv = kf_session_check_open(session, plan->init_call, err);
    CK_RV answer;

    if (rv != 0)
        return rv;
    if (len > RESULT_MAX / 2)
        return kf_fail(err, KFR_LIMIT, plan->call, NULL,
                       "too much for a single operation");
    step.data = data ? (CK_BYTE *)data : (CK_BYTE *)""; /* NSS takes no NULL */
    answer = begin(session, operation, key, mechanism, &step.function);
    if (answer != CKR_OK)
        return kf_module_fail(err, answer, plan->init_call, "key %lu on token %s", key,
                              kf_session_token(session)->label);
    return produce(&step, len + FIRST_BYTES, out, err);
}

kf_rv kf_object_sign(struct kf_session *session, CK_OBJECT_HANDLE key,
                     CK_MECHANISM *mechanism, const void *data, size_t len,
                     struct kf_secret **out, struct kf_error *err)
{
    return operate(session, SIGN, key, mechanism, data, len, out, err);
}

kf_rv kf_object_encrypt(struct kf_session *session, CK_OBJECT_HANDLE key,
                        CK_MECHANISM *mechanism, const void *data, size_t len,
                        struct kf_secret **out, struct kf_error *err)
{
    return operate(session, ENCRYPT, key, mechanism, data, len, out, err);
}

kf_rv kf_object_decrypt(struct kf_session *session, CK_OBJECT_HANDLE key,
                        CK_MECHANISM *mechanism, const void *data, size_t len,
                        struct kf_secret **out, struct kf_error *err)
{
    return operate(session, DECRYPT, key, mechanism, data, len, out, err);
}

kf_rv kf_session_digest(struct kf_session *session, CK_MECHANISM *mechanism,
                        const void *data, size_t len, struct kf_secret **out,
                        struct kf_error *err)
{
    return operate(session, DIGEST, CK_INVALID_HANDLE, mechanism, data, len, out, err);
}

kf_rv kf_object_digest(struct kf_session *session, CK_OBJECT_HANDLE key,
                       uint8_t out[KF_OBJECT_DIGEST])
{
    struct kf_module *module = kf_session_module(session);
    CK_SESSION_HANDLE handle = kf_session_handle(session);
    CK_MECHANISM mechanism = {CKM_SHA256, NULL, 0};
    uint8_t nothing[KF_OBJECT_DIGEST];
    CK_ULONG len = KF_OBJECT_DIGEST;
    CK_RV rv, end;

    rv = KF_CALL(module, C_DigestInit, handle, &mechanism);
    if (rv)
        return rv;
    rv = KF_CALL(module, C_DigestKey, handle, key);
    /* Also after a refusal: it ends the operation. */
    end = KF_CALL(module, C_DigestFinal, handle, out, &len);
    if (!rv)
        rv = end;
    if (!rv && len != KF_OBJECT_DIGEST)
        rv = CKR_FUNCTION_FAILED;
    if (!rv && !EVP_Digest("", 0, nothing, NULL, EVP_sha256(), NULL))
        rv = KFR_CRYPTO;
    if (!rv && !memcmp(nothing, out, KF_OBJECT_DIGEST))
        rv = CKR_KEY_INDIGESTIBLE;
    return rv;
}

kf_rv kf_object_verify(struct kf_session *session, CK_OBJECT_HANDLE key,
                       CK_MECHANISM *mechanism, const void *data, size_t len,
                       const void *signature, size_t signature_len,
                       struct kf_error *err)
{
    struct kf_module *module = kf_session_module(session);
    CK_SESSION_HANDLE handle = kf_session_handle(session);
    kf_rv rv = kf_session_check_open(session, "C_VerifyInit", err);
    CK_RV answer;

    if (rv != 0)
        return rv;
    answer = KF_CALL(module, C_VerifyInit, handle, mechanism, key);
    if (answer != CKR_OK)
        return kf_module_fail(err, answer, "C_VerifyInit", "key %lu", key);
    answer =
        KF_CALL(module, C_Verify, handle, data ? (CK_BYTE *)data : (CK_BYTE *)"", len,
                signature ? (CK_BYTE *)signature : (CK_BYTE *)"", signature_len);
    return answer == CKR_OK ? 0
                            : kf_module_fail(err, answer, "C_Verify", "key %lu", key);
}

kf_rv kf_session_random(struct kf_session *session, size_t len, struct kf_secret **out,
                        struct kf_error *err)
{
    struct kf_secret *random = NULL;
    kf_rv rv = kf_session_check_open(session, "C_GenerateRandom", err);
    CK_RV answer;

    if (rv != 0)
        return rv;
    if (len > RANDOM_MAX)
        return kf_fail(err, KFR_LIMIT, "C_GenerateRandom", NULL,
                       "too many random bytes");
    random = kf_secret_new(len);
    if (!random)
        return kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for random bytes");
    answer = len ? KF_CALL(kf_session_module(session), C_GenerateRandom,
                           kf_session_handle(session), random->data, len)
                 : CKR_OK;
    if (answer != CKR_OK) {
        kf_secret_free(random);
        return kf_module_fail(err, answer, "C_GenerateRandom", "token %s",
                              kf_session_token(session)->label);
    }
    *out = random;
    return 0;
}

kf_rv kf_object_wrap(struct kf_session *session, CK_OBJECT_HANDLE wrapping,
                     CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key,
                     struct kf_secret **out, struct kf_error *err)
{
    struct step step = {
        .call = "C_WrapKey",
        .session = session,
        .mechanism = mechanism,
        .wrapping = wrapping,
        .key = key,
    };
    kf_rv rv = kf_session_check_open(session, step.call, err);

    return rv == 0 ? produce(&step, FIRST_BYTES, out, err) : rv;
}
