/* SPDX-License-Identifier: MIT
 *
 * SoftHSM's own boundary is its process and its store, so this engine works where the
 * firmware of an HSM would: with the PIN it reads and writes the token's store. It
 * clones keys that may not leave a token by C_WrapKey, and every attribute exactly.
 *
 * A source is only read. A target gets its objects through softhsm_batch; that they are
 * there and are what they should be is then seen through PKCS#11, in the end's session.
 */
#include "clone/engine.h"

#include "clone/crypto.h"
#include "clone/material.h"
#include "clone/softhsm_batch.h"
#include "clone/softhsm_index.h"
#include "clone/softhsm_plan.h"
#include "clone/softhsm_vault.h"
#include "clone/template.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FOUND_ROUNDS = 8, FOUND_PAUSE_MS = 25, PROVED_MAX = 64 };

struct staged {
    char name[KF_STORE_NAME];
    struct kf_softhsm_kind kind;
    uint8_t view[KF_VIEW_BYTES];
    uint8_t rest[KF_VIEW_BYTES];
    CK_OBJECT_HANDLE handle; /* 0: not seen in the token yet */
};

struct handles {
    CK_OBJECT_HANDLE *at;
    size_t count;
};

/* The kinds of objects of which one was read both ways, and whether that agreed. */
struct proved {
    struct kf_softhsm_kind kinds[PROVED_MAX];
    bool agreed[PROVED_MAX];
    size_t count;
};

struct softhsm_end {
    struct kf_session *session;
    struct kf_domain *domain;
    struct kf_vault *vault;
    struct kf_index *index;
    struct kf_batch *batch;
    /* The object that was sealed last, and its digest, which is often asked for next: its
     * file need not be read again. */
    CK_OBJECT_HANDLE sealed;
    uint8_t sealed_digest[KF_MAC_BYTES];
    struct staged *staged;
    size_t count;
    size_t cap;
    struct kf_writer scratch;        /* a view being made */
    struct kf_writer secret;         /* and the rest of it */
    uint8_t rest_key[KF_VIEW_BYTES]; /* of this end, random */
    struct kf_writer file;           /* an object file being made */
    struct proved read;              /* by end_read */
    struct proved written;           /* by a commit */
    struct handles there;            /* at the last commit, ascending; none: not yet */
};

static kf_rv no_memory(struct kf_error *err)
{
    return kf_fail(err, KFR_MEMORY, "", "", "no memory for the engine softhsm");
}

/* ---------------------------------------- probe */

static bool padded_equal(const CK_UTF8CHAR *field, size_t size, const char *text)
{
    size_t len = strlen(text);

    if (memcmp(field, text, len) != 0)
        return false;
    while (len < size && (field[len] == ' ' || field[len] == '\0'))
        len++;
    return len == size;
}

static kf_rv probe(struct kf_session *session, struct kf_error *err)
{
    const CK_INFO *info = kf_module_info(kf_session_module(session));
    struct kf_store *store = NULL;
    kf_rv rv;

    if (!padded_equal(info->manufacturerID, sizeof info->manufacturerID, "SoftHSM"))
        return kf_fail(err, KFR_NO_ENGINE, "", "", "the module is not SoftHSM");
    if (kf_session_token(session)->flags & CKF_PROTECTED_AUTHENTICATION_PATH)
        return kf_fail(err, KFR_NO_ENGINE, "", "",
                       "the token's store opens with its PIN, and a token with a protected "
                       "authentication path takes none from a program");
    rv = kf_vault_find_store(session, &store, err);
    kf_store_free(store);
    if (rv && err)
        err->rv = KFR_NO_ENGINE;
    return rv ? KFR_NO_ENGINE : KFR_OK;
}

/* ---------------------------------------- the token's own domain */

/* A run that was killed while it made the partition leaves one like this, too. */
static const char REMAKE[] =
    "delete the partition (keyferry partition delete) and make it anew";

enum { PURPOSES = 3 };

struct domain_keys {
    struct kf_secret *keys[PURPOSES];
    uint8_t check[KF_CHECK_BYTES];
    size_t count;
    bool others; /* domain keys that are none of this version were there */
};

static bool is_number(const struct kf_attributes *set, uint64_t type, uint64_t value)
{
    return kf_attributes_ulong(set, type, ~value) == value;
}

/* What can be told without decrypting: most objects are out after one look. */
static bool may_be_domain_key(const struct kf_attributes *stored)
{
    return is_number(stored, CKA_CLASS, CKO_SECRET_KEY)
           && kf_attributes_bool(stored, CKA_PRIVATE, false)
           && kf_attributes_bool(stored, CKA_SENSITIVE, false)
           && !kf_attributes_bool(stored, CKA_EXTRACTABLE, true);
}

static kf_rv take_domain_key(struct domain_keys *keys,
                             const struct kf_attributes *object, struct kf_error *err)
{
    const struct kf_attribute *value = kf_attributes_get(object, CKA_VALUE);
    enum kf_domain_purpose purpose;
    uint8_t check[KF_CHECK_BYTES];

    if (!kf_domain_is_key(object, check) || !kf_domain_key_purpose(object, &purpose)) {
        keys->others = keys->others || kf_domain_is_any_key(object);
        return KFR_OK;
    }
    if (keys->keys[purpose]
        || (keys->count && memcmp(check, keys->check, sizeof check) != 0))
        return kf_fail(err, KFR_AMBIGUOUS, "", REMAKE,
                       "the partition has more than one cloning domain");
    if (!value || value->kind != KF_BYTES || !value->len)
        return kf_fail(err, KFR_DAMAGED, "", REMAKE,
                       "a key of the partition's cloning domain is empty");
    keys->keys[purpose] = kf_secret_from(value->value, value->len);
    if (!keys->keys[purpose])
        return no_memory(err);
    memcpy(keys->check, check, sizeof check);
    keys->count++;
    return KFR_OK;
}

static kf_rv collect_domain_keys(struct kf_vault *vault, struct domain_keys *keys,
                                 struct kf_error *err)
{
    struct kf_vault_object object;
    char **names = NULL;
    size_t count = 0;
    kf_rv rv = kf_store_names(kf_vault_store(vault), &names, &count, err);

    for (size_t i = 0; !rv && i < count; i++) {
        rv = kf_vault_load(vault, names[i], &object, err);
        if (!rv && may_be_domain_key(&object.set)) {
            rv = kf_vault_decrypt(vault, &object, err);
            if (!rv)
                rv = take_domain_key(keys, &object.set, err);
        }
        if (rv == KFR_STORE || rv == KFR_VANISHED)
            rv = KFR_OK; /* no object, and so no key of ours */
    }
    kf_vault_forget(vault);
    kf_store_names_free(names, count);
    return rv;
}

static kf_rv domain_of_keys(const struct domain_keys *keys, struct kf_domain **out,
                            struct kf_error *err)
{
    struct kf_domain *domain = NULL;
    kf_rv rv;

    if (keys->count != PURPOSES)
        return kf_fail(err, KFR_DAMAGED, "", REMAKE,
                       "the partition has %zu of the %d keys of its cloning domain",
                       keys->count, PURPOSES);
    rv = kf_domain_from_keys(keys->keys[KF_DOMAIN_WRAP], keys->keys[KF_DOMAIN_ENCRYPT],
                             keys->keys[KF_DOMAIN_MAC], &domain, err);
    if (!rv && memcmp(kf_domain_check(domain), keys->check, KF_CHECK_BYTES) != 0)
        rv = kf_fail(err, KFR_DAMAGED, "", REMAKE,
                     "the keys of the partition's domain do not give its check value");
    if (!rv) {
        *out = domain;
        domain = NULL;
    }
    kf_domain_unref(domain);
    return rv;
}

static kf_rv find_domain(struct kf_session *session, struct kf_domain **out,
                         struct kf_error *err)
{
    struct domain_keys keys = { .count = 0 };
    struct kf_vault *vault = NULL;
    kf_rv rv = kf_vault_open(session, &vault, err);

    *out = NULL;
    if (!rv)
        rv = collect_domain_keys(vault, &keys, err);
    if (!rv && keys.count)
        rv = domain_of_keys(&keys, out, err);
    else if (!rv && keys.others) /* says what is wrong with them */
        rv = kf_domain_find(session, out, err);
    else if (!rv)
        rv = kf_fail(err, KFR_NOT_FOUND, "", "", "the partition has no cloning domain");
    for (size_t i = 0; i < PURPOSES; i++)
        kf_secret_free(keys.keys[i]);
    kf_vault_free(vault);
    return rv;
}

/* ---------------------------------------- open and close */

static void forget_staged(struct softhsm_end *end)
{
    free(end->staged);
    end->staged = NULL;
    end->count = 0;
    end->cap = 0;
}

static void end_abort(void *state)
{
    struct softhsm_end *end = state;

    kf_batch_discard(end->batch, 0);
    forget_staged(end);
}

static void end_close(void *state)
{
    struct softhsm_end *end = state;

    if (!end)
        return;
    forget_staged(end);
    free(end->there.at);
    kf_batch_free(end->batch);
    kf_index_free(end->index);
    kf_vault_free(end->vault);
    kf_domain_unref(end->domain);
    kf_writer_clear(&end->scratch);
    kf_writer_clear(&end->secret);
    OPENSSL_cleanse(end->rest_key, sizeof end->rest_key);
    kf_writer_clear(&end->file);
    free(end);
}

static kf_rv end_open(struct kf_session *session, struct kf_domain *domain,
                      void **state, struct kf_error *err)
{
    struct softhsm_end *end = calloc(1, sizeof *end);
    kf_rv rv = KFR_MEMORY;

    if (!end) {
        no_memory(err);
        goto done;
    }
    end->session = session;
    end->domain = kf_domain_ref(domain);
    end->secret = kf_writer_secret();
    if (!kf_crypto_random(end->rest_key, sizeof end->rest_key)) {
        rv = kf_fail(err, KFR_CRYPTO, "RAND_bytes", "", "no random bytes");
        goto done;
    }
    rv = kf_vault_open(session, &end->vault, err);
    if (rv)
        goto done;
    end->index = kf_index_new(end->vault, session);
    end->batch = kf_batch_new(kf_vault_store(end->vault));
    if (!end->index || !end->batch) {
        rv = no_memory(err);
        goto done;
    }
    *state = end;
    end = NULL;
done:
    end_close(end);
    return rv;
}

/* ---------------------------------------- read */

/* NULL: not yet. */
static const bool *agreed(const struct proved *proved, struct kf_softhsm_kind kind)
{
    for (size_t i = 0; i < proved->count; i++)
        if (proved->kinds[i].object_class == kind.object_class
            && proved->kinds[i].key_type == kind.key_type)
            return &proved->agreed[i];
    return NULL;
}

/* A kind that is not noted, for want of room, is proved every time. */
static void note(struct proved *proved, struct kf_softhsm_kind kind, bool agrees)
{
    if (proved->count == PROVED_MAX)
        return;
    proved->kinds[proved->count] = kind;
    proved->agreed[proved->count++] = agrees;
}

static bool is_date(uint64_t type)
{
    return type == CKA_START_DATE || type == CKA_END_DATE;
}

static bool agree(const struct kf_attributes *a, const struct kf_attributes *b)
{
    bool same = a->count == b->count;

    for (size_t i = 0; same && i < a->count; i++)
        same = kf_attribute_equal(&a->at[i], &b->at[i]);
    return same;
}

/* SoftHSM cannot give the dates of private objects: what it decrypts them to is no date
 * to it. */
static bool is_unreadable(const struct kf_attributes *object,
                          const struct kf_attribute *at)
{
    return is_date(at->type) && (at->len || at->form == KF_FORM_ENCRYPTED)
           && kf_attributes_bool(object, CKA_PRIVATE, true);
}

/* What kf_object_read would give of an object of the store. NULL: no memory, or not a
 * kind of object that is known here. */
static struct kf_attributes *known_of(const struct kf_attributes *object,
                                      uint64_t *unread, size_t *unread_count)
{
    const struct kf_softhsm_row *rows;
    size_t count = kf_softhsm_shown(object, &rows);
    struct kf_attributes *known = count ? kf_attributes_new(false) : NULL;
    bool good = known;

    for (size_t i = 0; good && i < count; i++) {
        const struct kf_attribute *at = kf_attributes_get(object, rows[i].type);

        if (at && is_unreadable(object, at))
            unread[(*unread_count)++] = at->type;
        else if (at)
            good = at->kind == rows[i].kind
                   && kf_attributes_set(known, at->type, at->kind, at->value, at->len);
        else if (rows[i].kind == KF_BOOL)
            good = kf_attributes_set_bool(known, rows[i].type, rows[i].fallback);
        else if (rows[i].kind == KF_ULONG)
            good = kf_attributes_set_ulong(known, rows[i].type, rows[i].fallback);
        else
            good = kf_attributes_set(known, rows[i].type, rows[i].kind, "", 0);
    }
    for (size_t i = 0; good && i < known->count; i++)
        if (known->at[i].kind == KF_TEMPLATE)
            kf_template_to_portable(known->at[i].value, known->at[i].len);
    if (!good)
        kf_attributes_free(known);
    return good ? known : NULL;
}

/* One that is not whole has no more attributes than its file: at the first look through
 * PKCS#11 SoftHSM would make up the others, and write them. */
static kf_rv read_unfinished(const struct kf_attributes *object, const char *why,
                             struct kf_attributes **out, uint64_t *unread,
                             size_t *unread_count, struct kf_error *err)
{
    *out = known_of(object, unread, unread_count);
    return *out ? KFR_OK
                : kf_fail(err, KFR_DAMAGED, "", "", "the object is not whole: %s", why);
}

/* The attributes of an object from its file, where one of the same kind has shown that
 * they are what PKCS#11 gives. SoftHSM only says which file it is: asking it for all of
 * them takes three times as long. */
static kf_rv end_read(void *state, CK_OBJECT_HANDLE handle, struct kf_attributes **out,
                      uint64_t *unread, size_t *unread_count, struct kf_error *err)
{
    struct softhsm_end *end = state;
    struct kf_vault_object object;
    struct kf_softhsm_kind kind = { 0 };
    struct kf_attributes *ours = NULL;
    const bool *proof = NULL;
    const char *why;
    kf_rv rv = kf_index_read(end->index, handle, &object, NULL);

    *unread_count = 0;
    why = rv ? NULL : kf_softhsm_unfinished(&object.set);
    if (why) {
        rv = read_unfinished(&object.set, why, out, unread, unread_count, err);
        kf_vault_forget(end->vault);
        return rv;
    }
    if (!rv) {
        kind = kf_softhsm_kind_of(&object.set);
        proof = agreed(&end->read, kind);
        ours = proof && !*proof ? NULL : known_of(&object.set, unread, unread_count);
    }
    kf_vault_forget(end->vault);
    if (proof && ours) {
        *out = ours;
        return KFR_OK;
    }
    rv = kf_object_read(end->session, handle, out, unread, unread_count, err);
    if (!rv && ours && !proof)
        note(&end->read, kind, agree(ours, *out));
    kf_attributes_free(ours);
    return rv;
}

/* ---------------------------------------- seal */

/* An object in two parts that share the values of the whole. */
struct parts {
    struct kf_attribute open_at[KF_STORE_RECORDS_MAX];
    struct kf_attribute hidden_at[KF_STORE_RECORDS_MAX];
    struct kf_attributes open;
    struct kf_attributes hidden;
};

/* Besides key bytes, of a private object its CKA_VALUE, and bytes unknown to us. */
static bool is_hidden(uint64_t object_class, bool is_private,
                      const struct kf_attribute *at)
{
    if (kf_attribute_is_secret(object_class, at->type))
        return true;
    return is_private && at->kind == KF_BYTES
           && (at->type == CKA_VALUE || !kf_name_of(KF_CKA, at->type));
}

static void split(const struct kf_attributes *object, bool is_private,
                  struct parts *out)
{
    uint64_t class = kf_attributes_ulong(object, CKA_CLASS, UINT64_MAX);

    out->open = (struct kf_attributes){ .at = out->open_at };
    out->hidden = (struct kf_attributes){ .at = out->hidden_at, .secret = true };
    for (size_t i = 0; i < object->count; i++) {
        struct kf_attributes *part =
            is_hidden(class, is_private, &object->at[i]) ? &out->hidden : &out->open;

        part->at[part->count++] = object->at[i];
    }
}

/* So that the engine wrap can open it, where such a key has a wrapped form and the
 * domain's keys are at hand; it goes without otherwise. */
static kf_rv wrap_body(struct softhsm_end *end, struct kf_sealed *sealed,
                       struct kf_writer *wrapped, struct kf_error *err)
{
    uint64_t class = kf_attributes_ulong(sealed->open, CKA_CLASS, UINT64_MAX);
    struct kf_secret *body = NULL;
    kf_rv rv = KFR_OK;

    if (!kf_domain_is_host(end->domain)
        || (class != CKO_PRIVATE_KEY && class != CKO_SECRET_KEY))
        goto done;
    rv = kf_material_body(sealed->open, sealed->hidden, &body, err);
    if (rv == KFR_NOT_CLONABLE) {
        rv = KFR_OK;
        goto done;
    }
    if (!rv)
        rv = kf_domain_wrap_bytes(end->domain, body->data, body->len, wrapped, err);
    if (rv)
        goto done;
    sealed->body = class == CKO_PRIVATE_KEY ? KF_BODY_PKCS8 : KF_BODY_SECRET;
    sealed->wrapped = wrapped->data;
    sealed->wrapped_len = wrapped->len;
done:
    kf_secret_free(body);
    return rv;
}

static kf_rv seal_object(struct softhsm_end *end, const struct kf_attributes *object,
                         struct kf_writer *out, struct kf_error *err)
{
    struct parts parts;
    struct kf_writer wrapped = { 0 };
    struct kf_sealed sealed = { .flags = KF_SEALED_EXACT, .engine = "softhsm" };
    kf_rv rv;

    split(object, kf_attributes_bool(object, CKA_PRIVATE, false), &parts);
    snprintf(sealed.source_serial, sizeof sealed.source_serial, "%s",
             kf_session_token(end->session)->serial);
    sealed.open = &parts.open;
    sealed.hidden = parts.hidden.count ? &parts.hidden : NULL;
    rv = sealed.hidden ? wrap_body(end, &sealed, &wrapped, err) : KFR_OK;
    if (!rv)
        rv = kf_sealed_encode(&sealed, end->domain, out, err);
    kf_writer_clear(&wrapped);
    return rv;
}

static kf_rv digest_object(struct softhsm_end *end, const struct kf_attributes *object,
                           uint8_t out[KF_MAC_BYTES], struct kf_error *err)
{
    struct parts parts;

    split(object, false, &parts);
    return kf_material_digest(&parts.open, &parts.hidden, end->domain, out, err);
}

static kf_rv end_seal(void *state, CK_OBJECT_HANDLE handle,
                      const struct kf_attributes *known, struct kf_writer *out,
                      char lost[KF_LOST_MAX], struct kf_error *err)
{
    struct softhsm_end *end = state;
    struct kf_vault_object object;
    const char *name;
    kf_rv rv;

    lost[0] = '\0';
    if (kf_domain_is_key(known, NULL))
        return kf_fail(err, KFR_NOT_CLONABLE, "", "",
                       "it is a key of the partition's cloning domain");
    end->sealed = CK_INVALID_HANDLE;
    rv = kf_index_open(end->index, handle, known, &name, &object, err);
    if (!rv)
        rv = seal_object(end, &object.set, out, err);
    if (!rv && kf_domain_is_host(end->domain)
        && !digest_object(end, &object.set, end->sealed_digest, NULL))
        end->sealed = handle;
    kf_vault_forget(end->vault);
    return rv;
}

static kf_rv end_digest(void *state, CK_OBJECT_HANDLE handle,
                        const struct kf_attributes *known, uint8_t out[KF_MAC_BYTES],
                        struct kf_error *err)
{
    struct softhsm_end *end = state;
    struct kf_vault_object object;
    const char *name;
    kf_rv rv;

    if (handle == end->sealed) {
        memcpy(out, end->sealed_digest, KF_MAC_BYTES);
        return KFR_OK;
    }
    rv = kf_index_open(end->index, handle, known, &name, &object, err);
    if (!rv)
        rv = digest_object(end, &object.set, out, err);
    kf_vault_forget(end->vault);
    return rv;
}

/* What a reader sees and what is beside it, key bytes too; the latter under a key of the
 * domain, so that two ends of one domain agree. */
static kf_rv end_whole(void *state, CK_OBJECT_HANDLE handle,
                       const struct kf_attributes *known, uint8_t out[KF_WHOLE_BYTES],
                       struct kf_error *err)
{
    static const char NAME[] = "keyferry whole 1";
    const struct kf_slice name_of_key = { NAME, sizeof NAME };
    struct softhsm_end *end = state;
    struct kf_vault_object object;
    uint8_t key[KF_MAC_BYTES];
    const char *name;
    kf_rv rv = kf_domain_mac(end->domain, &name_of_key, 1, key, err);

    if (!rv)
        rv = kf_index_open(end->index, handle, known, &name, &object, err);
    if (!rv
        && (!kf_softhsm_view(&object.set, &end->scratch, out)
            || !kf_softhsm_rest(&object.set, key, &end->secret, out + KF_VIEW_BYTES)))
        rv = no_memory(err);
    kf_vault_forget(end->vault);
    OPENSSL_cleanse(key, sizeof key);
    return rv;
}

/* ---------------------------------------- stage */

static struct staged *next_staged(struct softhsm_end *end)
{
    size_t more = end->cap ? end->cap * 2 : 64;
    struct staged *grown;

    if (end->count == end->cap) {
        grown = realloc(end->staged, more * sizeof *grown);
        if (!grown)
            return NULL;
        end->staged = grown;
        end->cap = more;
    }
    memset(&end->staged[end->count], 0, sizeof *end->staged);
    return &end->staged[end->count];
}

static kf_rv stage_plan(struct softhsm_end *end, const struct kf_attributes *plain,
                        struct kf_error *err)
{
    struct staged *staged = next_staged(end);
    kf_rv rv;

    if (!staged || !kf_softhsm_view(plain, &end->scratch, staged->view)
        || !kf_softhsm_rest(plain, end->rest_key, &end->secret, staged->rest))
        return no_memory(err);
    staged->kind = kf_softhsm_kind_of(plain);
    end->file.len = 0;
    rv = kf_vault_write(end->vault, plain, &end->file, err);
    if (!rv)
        rv = kf_batch_stage(end->batch, end->file.data, end->file.len, staged->name,
                            err);
    if (!rv)
        end->count++;
    /* A public object's key lies in the clear, here as in the store. */
    OPENSSL_cleanse(end->file.data, end->file.data ? end->file.len : 0);
    return rv;
}

static kf_rv end_stage(void *state, const struct kf_sealed *sealed,
                       const struct kf_changes *changes, struct kf_error *err)
{
    struct softhsm_end *end = state;
    struct kf_plan plan;
    kf_rv rv = kf_plan_make(&plan, sealed, changes, end->domain, err);

    if (!rv)
        rv = stage_plan(end, &plan.set, err);
    kf_plan_clear(&plan);
    return rv;
}

/* ---------------------------------------- foresee */

static kf_rv check_folder(struct softhsm_end *end, struct kf_error *err)
{
    struct kf_store *store = kf_vault_store(end->vault);

    return faccessat(kf_store_folder(store), ".", W_OK | X_OK, AT_EACCESS) == 0
               ? KFR_OK
               : kf_fail_errno(err, "access", "%s", kf_store_path(store));
}

/* The file is made in memory, and goes no further. */
static kf_rv end_foresee(void *state, const struct kf_domain *domain,
                         const struct kf_sealed *sealed,
                         const struct kf_changes *changes, char lost[KF_LOST_MAX],
                         struct kf_error *err)
{
    struct softhsm_end *end = state;
    struct kf_plan plan;
    kf_rv rv = kf_plan_make(&plan, sealed, changes, domain, err);

    lost[0] = '\0';
    if (!rv && end) {
        end->file.len = 0;
        rv = kf_vault_write(end->vault, &plan.set, &end->file, err);
        OPENSSL_cleanse(end->file.data, end->file.data ? end->file.len : 0);
        if (!rv)
            rv = check_folder(end, err);
    }
    kf_plan_clear(&plan);
    return rv;
}

/* ---------------------------------------- commit */

static int by_handle(const void *a, const void *b)
{
    CK_OBJECT_HANDLE left = *(const CK_OBJECT_HANDLE *)a;
    CK_OBJECT_HANDLE right = *(const CK_OBJECT_HANDLE *)b;

    return (left > right) - (left < right);
}

static kf_rv find_all(struct softhsm_end *end, struct handles *out,
                      struct kf_error *err)
{
    kf_rv rv = kf_objects_find(end->session, NULL, &out->at, &out->count, err);

    if (!rv && out->count)
        qsort(out->at, out->count, sizeof *out->at, by_handle);
    return rv;
}

static bool has_handle(const struct handles *handles, CK_OBJECT_HANDLE handle)
{
    return handles->count
           && bsearch(&handle, handles->at, handles->count, sizeof handle, by_handle);
}

/* The staged ones, in the two orders in which they are looked for. */
struct orders {
    struct staged **by_name;
    struct staged **by_view;
    size_t count;
};

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct staged *const *)a)->name,
                  (*(struct staged *const *)b)->name);
}

static int by_view(const void *a, const void *b)
{
    return memcmp((*(struct staged *const *)a)->view,
                  (*(struct staged *const *)b)->view, KF_VIEW_BYTES);
}

static struct staged *named(const struct orders *orders, const char *name)
{
    struct staged wanted;
    struct staged *key = &wanted;
    struct staged **found;

    if (!kf_store_is_uuid_name(name))
        return NULL;
    memcpy(wanted.name, name, sizeof wanted.name);
    found = bsearch(&key, orders->by_name, orders->count, sizeof *found, by_name);
    return found ? *found : NULL;
}

static size_t first_with(const struct orders *orders, const uint8_t *view)
{
    size_t low = 0;
    size_t high = orders->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (memcmp(orders->by_view[middle]->view, view, KF_VIEW_BYTES) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Of those that look like it: the only one, or the one whose file SoftHSM opens. */
static struct staged *pick(struct softhsm_end *end, struct staged *const *twins,
                           size_t count, CK_OBJECT_HANDLE handle)
{
    const char **names;
    size_t found;

    if (count == 1)
        return twins[0];
    names = calloc(count, sizeof *names);
    if (!names)
        return NULL;
    for (size_t i = 0; i < count; i++)
        names[i] = twins[i]->name;
    found = kf_index_which(end->index, handle, names, count);
    for (size_t i = 0; found == count && i < count; i++)
        if (!twins[i]->handle)
            found = i;
    free(names);
    return found < count ? twins[found] : NULL;
}

static struct staged *seen_as(struct softhsm_end *end, const struct orders *orders,
                              CK_OBJECT_HANDLE handle, const uint8_t *view)
{
    size_t first = first_with(orders, view);
    size_t twins = 0;

    while (first + twins < orders->count
           && memcmp(orders->by_view[first + twins]->view, view, KF_VIEW_BYTES) == 0)
        twins++;
    return twins ? pick(end, orders->by_view + first, twins, handle) : NULL;
}

/* Everything that was written is read back from the file under its final name. */
static bool file_is_right(struct softhsm_end *end, const struct staged *staged)
{
    struct kf_vault_object object;
    uint8_t view[KF_VIEW_BYTES];
    uint8_t rest[KF_VIEW_BYTES];
    bool same = kf_vault_read(end->vault, staged->name, &object, NULL) == KFR_OK
                && kf_softhsm_view(&object.set, &end->scratch, view)
                && memcmp(view, staged->view, sizeof view) == 0
                && kf_softhsm_rest(&object.set, end->rest_key, &end->secret, rest)
                && CRYPTO_memcmp(rest, staged->rest, sizeof rest) == 0;

    kf_vault_forget(end->vault);
    return same;
}

/* The handle's object as the token shows it: its view. */
static kf_rv token_view(struct softhsm_end *end, CK_OBJECT_HANDLE handle,
                        uint8_t view[KF_VIEW_BYTES], struct kf_error *err)
{
    struct kf_attributes *known = NULL;
    kf_rv rv = kf_object_read(end->session, handle, &known, NULL, NULL, err);

    if (!rv && !kf_softhsm_view(known, &end->scratch, view))
        rv = no_memory(err);
    kf_attributes_free(known);
    return rv;
}

/* A handle that is new in the token is given to the staged object that it is: the one
 * whose file SoftHSM opens for it. What is in that file is read back; the first of each
 * kind is read through PKCS#11 too, and so is all where the file cannot be told. One
 * that is nobody's belongs to another program. */
static kf_rv recognise(struct softhsm_end *end, const struct orders *orders,
                       CK_OBJECT_HANDLE handle, size_t *missing, struct kf_error *err)
{
    const char *name = kf_index_file(end->index, handle);
    struct staged *staged = name ? named(orders, name) : NULL;
    bool proved = staged && agreed(&end->written, staged->kind);
    uint8_t view[KF_VIEW_BYTES];
    kf_rv rv = KFR_OK;

    if (name && (!staged || staged->handle))
        return KFR_OK;
    if (!proved) {
        rv = token_view(end, handle, view, err);
        if (!rv && !name)
            staged = seen_as(end, orders, handle, view);
        if (rv || !staged || memcmp(view, staged->view, sizeof view) != 0)
            goto done;
        note(&end->written, staged->kind, true);
    }
    if (!staged->handle && file_is_right(end, staged)) {
        staged->handle = handle;
        --*missing;
    }
done:
    return rv == KFR_MEMORY || rv == KFR_CLOSED ? rv : KFR_OK;
}

static void pause_a_moment(void)
{
    struct timespec pause = { .tv_nsec = FOUND_PAUSE_MS * 1000000L };

    nanosleep(&pause, NULL);
}

/* All that are new since the last commit of this end, or its first: SoftHSM gives no
 * handle twice, so what was there then is none of them. A bump can be undone by another
 * program (hazards H1, H2), so it is made again while something is missing. */
static kf_rv find_planted(struct softhsm_end *end, const struct orders *orders,
                          struct kf_error *err)
{
    size_t missing = end->count;
    kf_rv rv = KFR_OK;

    for (int round = 0; !rv && missing && round < FOUND_ROUNDS; round++) {
        struct handles now = { 0 };

        if (round) {
            pause_a_moment();
            kf_batch_bump(end->batch, NULL);
        }
        rv = find_all(end, &now, err);
        for (size_t i = 0; !rv && missing && i < now.count; i++)
            if (!has_handle(&end->there, now.at[i]))
                rv = recognise(end, orders, now.at[i], &missing, err);
        if (rv || missing) {
            free(now.at);
            continue;
        }
        free(end->there.at);
        end->there = now;
    }
    return rv;
}

static struct staged **in_order(struct softhsm_end *end,
                                int (*order)(const void *, const void *))
{
    struct staged **all = calloc(end->count ? end->count : 1, sizeof *all);

    for (size_t i = 0; all && i < end->count; i++)
        all[i] = &end->staged[i];
    if (all && end->count)
        qsort(all, end->count, sizeof *all, order);
    return all;
}

static kf_rv find_and_check(struct softhsm_end *end, struct kf_error *err)
{
    struct orders orders = { .by_name = in_order(end, by_name),
                             .by_view = in_order(end, by_view),
                             .count = end->count };
    kf_rv rv = orders.by_name && orders.by_view ? KFR_OK : no_memory(err);

    if (!rv)
        rv = find_planted(end, &orders, err);
    free(orders.by_name);
    free(orders.by_view);
    return rv;
}

/* The files of the handles to remove; handles that are gone already have none. */
static kf_rv names_to_remove(struct softhsm_end *end, const CK_OBJECT_HANDLE *remove,
                             size_t count, char **names, size_t *name_count,
                             struct kf_error *err)
{
    kf_rv rv = KFR_OK;

    *name_count = 0;
    for (size_t i = 0; !rv && i < count; i++) {
        struct kf_attributes *known = NULL;
        const char *name = NULL;

        rv = kf_object_read(end->session, remove[i], &known, NULL, NULL, err);
        if (rv == KFR_VANISHED) {
            rv = KFR_OK;
            continue;
        }
        if (!rv)
            rv = kf_index_name(end->index, remove[i], known, &name, err);
        kf_attributes_free(known);
        if (rv)
            break;
        names[*name_count] = strdup(name);
        rv = names[*name_count] ? KFR_OK : no_memory(err);
        *name_count += !rv;
    }
    return rv;
}

/* Fills planted from what was seen; gives how many are not there. */
static size_t tell(struct softhsm_end *end, struct kf_planted *planted)
{
    size_t missing = 0;

    for (size_t i = 0; i < end->count; i++) {
        planted[i] = (struct kf_planted){ .handle = end->staged[i].handle };
        if (planted[i].handle)
            continue;
        missing++;
        planted[i].rv = kf_fail(&planted[i].err, KFR_DIFFERS, "C_FindObjects", "",
                                "the clone does not come back from the token as it "
                                "was written: undone");
    }
    return missing;
}

static void tell_undone(struct softhsm_end *end, struct kf_planted *planted, kf_rv rv,
                        const struct kf_error *why)
{
    for (size_t i = 0; i < end->count; i++) {
        planted[i].handle = 0;
        if (planted[i].rv)
            continue;
        planted[i].rv = rv;
        planted[i].undone = true;
        if (why)
            planted[i].err = *why;
    }
}

static kf_rv undo_missing(struct softhsm_end *end, struct kf_error *err)
{
    const char **names = calloc(end->count, sizeof *names);
    size_t count = 0;
    kf_rv rv;

    if (!names)
        return no_memory(err);
    for (size_t i = 0; i < end->count; i++)
        if (!end->staged[i].handle)
            names[count++] = end->staged[i].name;
    rv = kf_batch_undo(end->batch, names, count, err);
    free(names);
    return rv;
}

static void index_planted(struct softhsm_end *end)
{
    for (size_t i = 0; i < end->count; i++)
        if (end->staged[i].handle)
            kf_index_add(end->index, end->staged[i].name, end->staged[i].view,
                         end->staged[i].handle);
}

/* What is published stays or goes. */
static kf_rv decide(struct softhsm_end *end, enum kf_commit mode, char **names,
                    size_t name_count, struct kf_planted *planted, struct kf_error *err)
{
    size_t missing = tell(end, planted);
    kf_rv rv = KFR_OK;

    if (missing && mode == KF_COMMIT_ALL)
        return kf_fail(err, KFR_DIFFERS, "", "",
                       "%zu of %zu clones do not come back as they were written",
                       missing, end->count);
    if (missing)
        rv = undo_missing(end, err);
    if (!rv)
        rv = kf_batch_conclude(end->batch, (const char *const *)names,
                               missing ? 0 : name_count, err);
    if (!kf_batch_is_published(end->batch)) {
        index_planted(end);
        if (name_count)
            kf_index_stale(end->index);
    }
    return rv;
}

static kf_rv publish_and_check(struct softhsm_end *end, enum kf_commit mode,
                               char **names, size_t name_count,
                               struct kf_planted *planted, struct kf_error *err)
{
    bool tentative = mode == KF_COMMIT_ALL || name_count;
    struct kf_error why = { 0 };
    kf_rv rv = KFR_OK;

    if (end->count && !end->there.at)
        rv = find_all(end, &end->there, &why);
    if (!rv)
        rv = kf_batch_publish(end->batch, tentative, &why);
    if (!rv)
        rv = find_and_check(end, &why);
    if (!rv)
        rv = decide(end, mode, names, name_count, planted, &why);
    if (rv && kf_batch_is_published(end->batch)) {
        kf_batch_undo(end->batch, NULL, 0, NULL);
        tell_undone(end, planted, rv, &why);
    }
    if (rv && err)
        *err = why;
    return rv;
}

static kf_rv end_commit(void *state, enum kf_commit mode,
                        const CK_OBJECT_HANDLE *remove, size_t remove_count,
                        struct kf_planted *planted, struct kf_error *err)
{
    struct softhsm_end *end = state;
    char **names = calloc(remove_count ? remove_count : 1, sizeof *names);
    size_t name_count = 0;
    struct kf_error why = { 0 };
    kf_rv rv = KFR_MEMORY;

    for (size_t i = 0; i < end->count; i++)
        planted[i] = (struct kf_planted){ 0 };
    if (!names) {
        no_memory(&why);
        goto done;
    }
    rv = names_to_remove(end, remove, remove_count, names, &name_count, &why);
    if (!rv && (end->count || name_count))
        rv = publish_and_check(end, mode, names, name_count, planted, &why);
done:
    for (size_t i = 0; rv && i < end->count; i++) {
        if (planted[i].handle || planted[i].rv)
            continue;
        planted[i].rv = rv;
        planted[i].err = why;
    }
    if (rv && err)
        *err = why;
    kf_store_names_free(names, name_count);
    end_abort(end);
    return rv;
}

const struct kf_engine kf_engine_softhsm = {
    .name = "softhsm",
    .probe = probe,
    .find_domain = find_domain,
    .open = end_open,
    .close = end_close,
    .read = end_read,
    .seal = end_seal,
    .digest = end_digest,
    .whole = end_whole,
    .stage = end_stage,
    .commit = end_commit,
    .abort = end_abort,
    .foresee = end_foresee,
};
