/* SPDX-License-Identifier: MIT */
#include "pkcs11/object.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(CK_ULONG) == 8, "CK_ULONG has eight bytes");

enum {
    BATCH = 1024,
    HANDLES_MAX = 4000000,
    NESTED_MAX = 64,
    NUMBER_BYTES = 8,
    ALIGN = 8
};

/* ---- templates ---- */

/* The public face first: a pointer to it is a pointer to this. */
struct arena {
    struct kf_template template;
    unsigned char *bytes;
    size_t size, used;
};

static size_t aligned(size_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

/* Enough for the native form: a record of a template has 14 bytes and its value, the
 * native one a CK_ATTRIBUTE of 24 and the value. */
static size_t native_bound(const struct kf_attribute *attribute)
{
    return aligned(attribute->kind == KF_TEMPLATE ? 4 * attribute->len
                                                  : attribute->len) +
           2 * ALIGN;
}

static void *arena_take(struct arena *arena, size_t n)
{
    size_t size = aligned(n ? n : 1);
    void *taken = NULL;

    if (size <= arena->size - arena->used) {
        taken = arena->bytes + arena->used;
        arena->used += size;
    }
    return taken;
}

static CK_ULONG number_at(const unsigned char *bytes)
{
    CK_ULONG number = 0;

    for (int i = 0; i < NUMBER_BYTES; i++)
        number = number << 8 | bytes[i];
    return number;
}

/* A value other than a template, natively. */
static bool put_flat(struct arena *arena, const struct kf_attribute *from,
                     CK_ATTRIBUTE *to)
{
    unsigned char *value = arena_take(arena, from->len);

    if (!value)
        return false;
    *to = (CK_ATTRIBUTE){from->type, value, from->len};
    if (from->kind == KF_ULONG || from->kind == KF_MECHANISMS)
        for (size_t at = 0; at + NUMBER_BYTES <= from->len; at += NUMBER_BYTES) {
            CK_ULONG number = number_at(from->value + at);

            memcpy(value + at, &number, sizeof number);
        }
    else if (from->len)
        memcpy(value, from->value, from->len);
    return true;
}

static bool put_template(struct arena *arena, const struct kf_attribute *from,
                         CK_ATTRIBUTE *to)
{
    struct kf_reader reader = kf_reader_over(from->value, from->len);
    struct kf_attributes *nested = kf_attributes_read(&reader, NESTED_MAX, false);
    CK_ATTRIBUTE *array = NULL;
    bool good = nested && kf_reader_done(&reader);

    if (good)
        array = arena_take(arena, nested->count * sizeof *array);
    good = good && array;
    for (size_t i = 0; good && i < nested->count; i++)
        good = nested->at[i].kind != KF_TEMPLATE &&
               put_flat(arena, &nested->at[i], &array[i]);
    if (good)
        *to = (CK_ATTRIBUTE){from->type, array, nested->count * sizeof *array};
    kf_attributes_free(nested);
    return good;
}

static bool put_native(struct arena *arena, const struct kf_attribute *from)
{
    CK_ATTRIBUTE *to = &arena->template.at[arena->template.count++];

    return from->kind == KF_TEMPLATE ? put_template(arena, from, to)
                                     : put_flat(arena, from, to);
}

/* When two sets have the same attribute, the later one counts. */
static bool is_overridden(const struct kf_attributes *const *sets, size_t set_count,
                          size_t set, uint64_t type)
{
    for (size_t i = set + 1; i < set_count; i++)
        if (sets[i] && kf_attributes_get(sets[i], type))
            return true;
    return false;
}

static bool is_last(const struct kf_attribute *attribute)
{
    return attribute->type == CKA_MODIFIABLE && attribute->kind == KF_BOOL &&
           attribute->value[0] == 0;
}

static bool arena_fill(struct arena *arena, const struct kf_attributes *const *sets,
                       size_t set_count)
{
    const struct kf_attribute *last = NULL;
    bool good = true;

    for (size_t i = 0; i < set_count; i++)
        for (size_t k = 0; good && sets[i] && k < sets[i]->count; k++) {
            const struct kf_attribute *from = &sets[i]->at[k];

            if (is_overridden(sets, set_count, i, from->type))
                continue;
            if (is_last(from))
                last = from;
            else
                good = put_native(arena, from);
        }
    return good && (!last || put_native(arena, last));
}

kf_rv kf_template_new(const struct kf_attributes *const *sets, size_t set_count,
                      struct kf_template **out, struct kf_error *err)
{
    struct arena *arena = OPENSSL_zalloc(sizeof *arena);
    bool secret = false;
    size_t count = 0;
    kf_rv rv = KFR_MEMORY;

    for (size_t i = 0; i < set_count && arena; i++)
        for (size_t k = 0; sets[i] && k < sets[i]->count; k++) {
            secret = secret || sets[i]->secret;
            arena->size += native_bound(&sets[i]->at[k]);
            count++;
        }
    if (arena) {
        arena->template.at = OPENSSL_zalloc((count + 1) * sizeof *arena->template.at);
        arena->bytes =
            secret ? kf_secret_alloc(arena->size) : OPENSSL_zalloc(arena->size + 1);
    }
    if (!arena || !arena->template.at || !arena->bytes) {
        kf_fail(err, rv, NULL, NULL, "no memory for a template");
        goto done;
    }
    if (!arena_fill(arena, sets, set_count)) {
        rv = kf_fail(err, KFR_ARGUMENT, NULL, NULL,
                     "an attribute is not what a template can hold");
        goto done;
    }
    *out = &arena->template;
    arena = NULL;
    rv = 0;
done:
    kf_template_free(arena ? &arena->template : NULL);
    return rv;
}

void kf_template_free(struct kf_template *template)
{
    struct arena *arena = (struct arena *)template;

    if (!arena)
        return;
    kf_secret_release(arena->bytes, arena->size);
    OPENSSL_free(arena->template.at);
    OPENSSL_free(arena);
}

/* The template of one set, which may be NULL. */
static kf_rv template_of(const struct kf_attributes *set, struct kf_template **out,
                         struct kf_error *err)
{
    return kf_template_new(&set, 1, out, err);
}

/* What comes before every call that takes one template. */
static kf_rv prepare(const struct kf_session *session, const char *call,
                     const struct kf_attributes *set, struct kf_template **template,
                     struct kf_error *err)
{
    kf_rv rv = kf_session_check_open(session, call, err);

    return rv == 0 ? template_of(set, template, err) : rv;
}

/* ---- failures ---- */

static kf_rv object_failed(struct kf_error *err, CK_RV answer, const char *call,
                           CK_OBJECT_HANDLE object)
{
    if (answer == CKR_OBJECT_HANDLE_INVALID)
        return kf_fail(err, KFR_VANISHED, call,
                       "it was removed meanwhile, or the login has ended",
                       "object %lu is no longer there", object);
    return kf_module_fail(err, answer, call, "object %lu", object);
}

#define CALL(session, function, ...)                                          \
    KF_CALL(kf_session_module(session), function, kf_session_handle(session), \
            __VA_ARGS__)

/* ---- finding ---- */

struct handles {
    CK_OBJECT_HANDLE *at;
    size_t count, cap;
};

static bool handles_room(struct handles *handles)
{
    size_t cap = handles->cap ? handles->cap * 2 : BATCH;
    CK_OBJECT_HANDLE *at;

    if (handles->cap - handles->count >= BATCH)
        return true;
    at = realloc(handles->at, cap * sizeof *at);
    if (!at)
        return false;
    handles->at = at;
    handles->cap = cap;
    return true;
}

static kf_rv named_twice(const struct kf_session *session, struct kf_error *err)
{
    return kf_fail(err, KFR_MODULE, "C_FindObjects",
                   "its search cannot be trusted: report that to its maker",
                   "the module names an object of token %s twice",
                   kf_session_token(session)->label);
}

/* A search that begins anew or stands still would go on for ever. */
static bool is_repeated(const struct handles *handles, size_t got)
{
    const CK_OBJECT_HANDLE *new = handles->at + handles->count;

    for (size_t i = 0; handles->count && i < got; i++)
        if (new[i] == handles->at[0] || new[i] == new[-1])
            return true;
    return false;
}

static kf_rv collect(struct kf_session *session, struct handles *handles,
                     struct kf_error *err)
{
    for (;;) {
        CK_ULONG got = 0;
        CK_RV answer;

        if (!handles_room(handles))
            return kf_fail(err, KFR_MEMORY, "realloc", NULL,
                           "no memory for the handles");
        answer =
            CALL(session, C_FindObjects, handles->at + handles->count, BATCH, &got);
        if (answer != CKR_OK)
            return kf_module_fail(err, answer, "C_FindObjects", "token %s",
                                  kf_session_token(session)->label);
        if (got > BATCH)
            return kf_fail(
                err, KFR_MODULE, "C_FindObjects", NULL,
                "the module says that it wrote more handles than it was asked "
                "for");
        if (got == 0)
            return 0;
        if (is_repeated(handles, got))
            return named_twice(session, err);
        handles->count += got;
        if (handles->count > HANDLES_MAX)
            return kf_fail(err, KFR_LIMIT, "C_FindObjects",
                           "select a part of them by class or label",
                           "token %s says that it has more than %d objects",
                           kf_session_token(session)->label, HANDLES_MAX);
    }
}

int kf_handle_order(const void *a, const void *b)
{
    CK_OBJECT_HANDLE left = *(const CK_OBJECT_HANDLE *)a;
    CK_OBJECT_HANDLE right = *(const CK_OBJECT_HANDLE *)b;

    return left < right ? -1 : left > right;
}

/* An object that is named twice would be cloned twice, and none has handle 0. */
static kf_rv check_handles(const struct kf_session *session,
                           const struct handles *handles, struct kf_error *err)
{
    size_t size = handles->count * sizeof *handles->at;
    CK_OBJECT_HANDLE *sorted = size ? malloc(size) : NULL;
    kf_rv rv = size && !sorted ? kf_fail(err, KFR_MEMORY, "malloc", NULL,
                                         "no memory for the handles")
                               : 0;

    if (!sorted)
        return rv;
    memcpy(sorted, handles->at, size);
    qsort(sorted, handles->count, sizeof *sorted, kf_handle_order);
    if (sorted[0] == CK_INVALID_HANDLE)
        rv = kf_fail(err, KFR_MODULE, "C_FindObjects",
                     "its search cannot be trusted: report that to its maker",
                     "the module names an object of token %s that has no handle",
                     kf_session_token(session)->label);
    for (size_t i = 1; rv == 0 && i < handles->count; i++)
        if (sorted[i] == sorted[i - 1])
            rv = named_twice(session, err);
    free(sorted);
    return rv;
}

kf_rv kf_objects_find(struct kf_session *session, const struct kf_attributes *filter,
                      CK_OBJECT_HANDLE **out, size_t *count, struct kf_error *err)
{
    struct kf_template *template = NULL;
    struct handles handles = {0};
    kf_rv rv = prepare(session, "C_FindObjectsInit", filter, &template, err);
    CK_RV answer;

    if (rv != 0)
        goto done;
    answer = CALL(session, C_FindObjectsInit, template->at, template->count);
    if (answer != CKR_OK) {
        rv = kf_module_fail(err, answer, "C_FindObjectsInit", "token %s",
                            kf_session_token(session)->label);
        goto done;
    }
    rv = collect(session, &handles, err);
    if (rv == 0)
        rv = check_handles(session, &handles, err);
    answer = KF_CALL(kf_session_module(session), C_FindObjectsFinal,
                     kf_session_handle(session));
    if (rv == 0 && answer != CKR_OK)
        rv = kf_module_fail(err, answer, "C_FindObjectsFinal", "token %s",
                            kf_session_token(session)->label);
    if (rv != 0)
        goto done;
    *out = handles.at;
    *count = handles.count;
    handles.at = NULL;
done:
    free(handles.at);
    kf_template_free(template);
    return rv;
}

bool kf_object_is_named(struct kf_session *session, CK_OBJECT_HANDLE object)
{
    CK_OBJECT_HANDLE *handles = NULL;
    size_t count = 0;
    bool named = false;

    if (kf_objects_find(session, NULL, &handles, &count, NULL) == 0)
        for (size_t i = 0; i < count; i++)
            named = named || handles[i] == object;
    free(handles);
    return named;
}

static kf_rv ask_size(struct kf_session *session, CK_OBJECT_HANDLE object,
                      CK_ULONG *size, struct kf_error *err)
{
    kf_rv rv = kf_session_check_open(session, "C_GetObjectSize", err);
    CK_RV answer;

    if (rv != 0)
        return rv;
    answer = CALL(session, C_GetObjectSize, object, size);
    return answer == CKR_OK ? 0 : object_failed(err, answer, "C_GetObjectSize", object);
}

kf_rv kf_object_touch(struct kf_session *session, CK_OBJECT_HANDLE object,
                      struct kf_error *err)
{
    CK_ULONG size;

    return ask_size(session, object, &size, err);
}

kf_rv kf_object_size(struct kf_session *session, CK_OBJECT_HANDLE object,
                     uint64_t *out, struct kf_error *err)
{
    CK_ULONG size = CK_UNAVAILABLE_INFORMATION;
    kf_rv rv = ask_size(session, object, &size, err);

    *out = 0;
    if (rv == CKR_FUNCTION_NOT_SUPPORTED || (!rv && size == CK_UNAVAILABLE_INFORMATION))
        return kf_fail(err, KFR_NOT_FOUND, "C_GetObjectSize", NULL,
                       "the token does not say how large its objects are");
    if (!rv)
        *out = size;
    return rv;
}

/* ---- making and changing ---- */

/* What a call that makes an object has answered. */
static kf_rv check_made(CK_RV answer, CK_OBJECT_HANDLE made, const char *call,
                        struct kf_error *err)
{
    if (answer == CKR_OK && made == CK_INVALID_HANDLE)
        return kf_module_fail(err, KFR_MODULE, call,
                              "the module says that it made an object, and gives no "
                              "handle of it");
    return 0;
}

kf_rv kf_object_create(struct kf_session *session, const struct kf_attributes *set,
                       CK_OBJECT_HANDLE *out, struct kf_error *err)
{
    struct kf_template *template = NULL;
    kf_rv rv = prepare(session, "C_CreateObject", set, &template, err);
    CK_RV answer;

    if (rv != 0)
        goto done;
    *out = CK_INVALID_HANDLE;
    answer = CALL(session, C_CreateObject, template->at, template->count, out);
    if (answer != CKR_OK)
        rv = kf_module_fail(err, answer, "C_CreateObject", "token %s",
                            kf_session_token(session)->label);
    else
        rv = check_made(answer, *out, "C_CreateObject", err);
done:
    kf_template_free(template);
    return rv;
}

kf_rv kf_object_copy(struct kf_session *session, CK_OBJECT_HANDLE object,
                     const struct kf_attributes *changes, CK_OBJECT_HANDLE *out,
                     struct kf_error *err)
{
    struct kf_template *template = NULL;
    kf_rv rv = prepare(session, "C_CopyObject", changes, &template, err);
    CK_RV answer;

    if (rv != 0)
        goto done;
    *out = CK_INVALID_HANDLE;
    answer = CALL(session, C_CopyObject, object, template->at, template->count, out);
    if (answer != CKR_OK)
        rv = object_failed(err, answer, "C_CopyObject", object);
    else
        rv = check_made(answer, *out, "C_CopyObject", err);
done:
    kf_template_free(template);
    return rv;
}

kf_rv kf_object_change(struct kf_session *session, CK_OBJECT_HANDLE object,
                       const struct kf_attributes *changes, struct kf_error *err)
{
    struct kf_template *template = NULL;
    kf_rv rv = prepare(session, "C_SetAttributeValue", changes, &template, err);
    CK_RV answer;

    if (rv != 0)
        goto done;
    answer = CALL(session, C_SetAttributeValue, object, template->at, template->count);
    if (answer != CKR_OK)
        rv = object_failed(err, answer, "C_SetAttributeValue", object);
done:
    kf_template_free(template);
    return rv;
}

kf_rv kf_object_destroy(struct kf_session *session, CK_OBJECT_HANDLE object,
                        struct kf_error *err)
{
    kf_rv rv = kf_session_check_open(session, "C_DestroyObject", err);
    CK_RV answer;

    if (rv != 0)
        return rv;
    answer = CALL(session, C_DestroyObject, object);
    return answer == CKR_OK ? 0 : object_failed(err, answer, "C_DestroyObject", object);
}

bool kf_object_discard(struct kf_session *session, CK_OBJECT_HANDLE object)
{
    struct kf_attributes *set = kf_attributes_new(false);
    bool gone;

    gone = object != CK_INVALID_HANDLE && set &&
           kf_object_read_one(session, object, CKA_TOKEN, set, NULL) == 0 &&
           !kf_attributes_bool(set, CKA_TOKEN, true) &&
           kf_object_destroy(session, object, NULL) == 0;
    kf_attributes_free(set);
    return gone;
}

kf_rv kf_object_generate(struct kf_session *session, CK_MECHANISM *mechanism,
                         const struct kf_attributes *set, CK_OBJECT_HANDLE *out,
                         struct kf_error *err)
{
    struct kf_template *template = NULL;
    kf_rv rv = prepare(session, "C_GenerateKey", set, &template, err);
    CK_RV answer;

    if (rv != 0)
        goto done;
    *out = CK_INVALID_HANDLE;
    answer =
        CALL(session, C_GenerateKey, mechanism, template->at, template->count, out);
    if (answer != CKR_OK)
        rv = kf_module_fail(err, answer, "C_GenerateKey", "a key on token %s",
                            kf_session_token(session)->label);
    else
        rv = check_made(answer, *out, "C_GenerateKey", err);
done:
    kf_template_free(template);
    return rv;
}

kf_rv kf_object_generate_pair(struct kf_session *session, CK_MECHANISM *mechanism,
                              const struct kf_attributes *public_set,
                              const struct kf_attributes *private_set,
                              CK_OBJECT_HANDLE *public_out,
                              CK_OBJECT_HANDLE *private_out, struct kf_error *err)
{
    struct kf_template *public = NULL;
    struct kf_template *private = NULL;
    kf_rv rv = kf_session_check_open(session, "C_GenerateKeyPair", err);
    CK_RV answer;

    if (rv == 0)
        rv = template_of(public_set, &public, err);
    if (rv == 0)
        rv = template_of(private_set, &private, err);
    if (rv != 0)
        goto done;
    *public_out = *private_out = CK_INVALID_HANDLE;
    answer = CALL(session, C_GenerateKeyPair, mechanism, public->at, public->count,
                  private->at, private->count, public_out, private_out);
    if (answer != CKR_OK)
        rv = kf_module_fail(err, answer, "C_GenerateKeyPair", "a key pair on token %s",
                            kf_session_token(session)->label);
    else if (*public_out == CK_INVALID_HANDLE)
        rv = check_made(answer, *public_out, "C_GenerateKeyPair", err);
    else
        rv = check_made(answer, *private_out, "C_GenerateKeyPair", err);
done:
    kf_template_free(private);
    kf_template_free(public);
    return rv;
}

kf_rv kf_object_derive(struct kf_session *session, CK_OBJECT_HANDLE key,
                       CK_MECHANISM *mechanism, const struct kf_attributes *set,
                       CK_OBJECT_HANDLE *out, struct kf_error *err)
{
    struct kf_template *template = NULL;
    kf_rv rv = prepare(session, "C_DeriveKey", set, &template, err);
    CK_RV answer;

    if (rv != 0)
        goto done;
    *out = CK_INVALID_HANDLE;
    answer =
        CALL(session, C_DeriveKey, mechanism, key, template->at, template->count, out);
    if (answer != CKR_OK)
        rv = kf_module_fail(err, answer, "C_DeriveKey", "with key %lu", key);
    else
        rv = check_made(answer, *out, "C_DeriveKey", err);
done:
    kf_template_free(template);
    return rv;
}

kf_rv kf_object_unwrap(struct kf_session *session, CK_OBJECT_HANDLE unwrapping,
                       CK_MECHANISM *mechanism, const void *wrapped, size_t len,
                       const struct kf_attributes *set, CK_OBJECT_HANDLE *out,
                       struct kf_error *err)
{
    struct kf_template *template = NULL;
    kf_rv rv = prepare(session, "C_UnwrapKey", set, &template, err);
    CK_RV answer;

    if (rv != 0)
        goto done;
    *out = CK_INVALID_HANDLE;
    answer = CALL(session, C_UnwrapKey, mechanism, unwrapping, (CK_BYTE *)wrapped, len,
                  template->at, template->count, out);
    if (answer != CKR_OK)
        rv = kf_module_fail(err, answer, "C_UnwrapKey", "a key on token %s",
                            kf_session_token(session)->label);
    else
        rv = check_made(answer, *out, "C_UnwrapKey", err);
done:
    kf_template_free(template);
    return rv;
}
