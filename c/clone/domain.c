/* SPDX-License-Identifier: MIT */
#include "clone/domain.h"

#include "clone/crypto.h"
#include "clone/put_key.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { PURPOSES = 3, ID_BYTES = 26, ID_VERSION = 8, ID_PURPOSE = 9, ID_CHECK = 10 };
enum { DOMAIN_VERSION = 1 };

static const char LABEL[] = "keyferry domain";
static const char ID_MAGIC[] = "keyferry";
static const char SALT[] = "keyferry domain 1";
static const char CHECK_TEXT[] = "keyferry domain check 1";

/* Everything that differs from one purpose to the next. A flag not named is false. */
static const struct {
    const char *info;
    unsigned char letter;
    CK_KEY_TYPE key_type;
    CK_ATTRIBUTE_TYPE uses[2];
} purposes[PURPOSES] = {
    [KF_DOMAIN_WRAP] = { "keyferry 1 wrap", 'W', CKK_AES, { CKA_WRAP, CKA_UNWRAP } },
    [KF_DOMAIN_ENCRYPT] = { "keyferry 1 encrypt", 'E', CKK_AES,
                            { CKA_ENCRYPT, CKA_DECRYPT } },
    [KF_DOMAIN_MAC] = { "keyferry 1 mac", 'M', CKK_GENERIC_SECRET,
                        { CKA_SIGN, CKA_VERIFY } },
};

static const CK_ATTRIBUTE_TYPE usage_flags[] = {
    CKA_ENCRYPT, CKA_DECRYPT, CKA_WRAP, CKA_UNWRAP, CKA_SIGN, CKA_VERIFY, CKA_DERIVE,
};

/* A wrapping key that a host domain made in a session. Known by module and handle, not
 * by the session's address, which may be somebody else's by the next call. */
struct attached {
    struct kf_module *module;
    CK_SESSION_HANDLE session;
    CK_OBJECT_HANDLE key;
    struct attached *next;
};

struct kf_domain {
    atomic_uint refs;
    uint8_t check[KF_CHECK_BYTES];
    struct kf_secret *keys[PURPOSES]; /* host: all; token: none */
    struct kf_module *module;         /* token */
    CK_SESSION_HANDLE session;
    CK_OBJECT_HANDLE handles[PURPOSES];
    pthread_mutex_t lock; /* of attached */
    struct attached *attached;
};

static kf_rv no_memory(struct kf_error *err)
{
    return kf_fail(err, KFR_MEMORY, "", "", "no memory for the cloning domain");
}

static kf_rv crypto_failed(struct kf_error *err, const char *call)
{
    return kf_fail(err, KFR_CRYPTO, call, "",
                   "OpenSSL refused an operation of the domain");
}

/* Session objects */

/* Whether the handle still is the wrapping key that was made under it: modules may give
 * handles anew once a logout or close has taken the objects away. */
static bool still_ours(const struct kf_domain *domain, const struct attached *at)
{
    CK_BBOOL token = CK_TRUE;
    unsigned char id[ID_BYTES];
    CK_ATTRIBUTE look[] = {
        { CKA_TOKEN, &token, sizeof token },
        { CKA_ID, id, sizeof id },
    };

    return KF_CALL(at->module, C_GetAttributeValue, at->session, at->key, look, 2) ==
               CKR_OK &&
           look[1].ulValueLen == sizeof id && token == CK_FALSE &&
           memcmp(id, ID_MAGIC, ID_VERSION) == 0 &&
           id[ID_PURPOSE] == purposes[KF_DOMAIN_WRAP].letter &&
           memcmp(id + ID_CHECK, domain->check, KF_CHECK_BYTES) == 0;
}

static void attached_free(const struct kf_domain *domain, struct attached *at)
{
    if (still_ours(domain, at))
        KF_CALL(at->module, C_DestroyObject, at->session, at->key);
    kf_module_unref(at->module);
    free(at);
}

/* Life */

static struct kf_domain *domain_new(void)
{
    struct kf_domain *domain = calloc(1, sizeof *domain);

    if (!domain)
        return NULL;
    if (pthread_mutex_init(&domain->lock, NULL) != 0) {
        free(domain);
        return NULL;
    }
    atomic_init(&domain->refs, 1);
    return domain;
}

struct kf_domain *kf_domain_ref(struct kf_domain *domain)
{
    atomic_fetch_add(&domain->refs, 1);
    return domain;
}

void kf_domain_unref(struct kf_domain *domain)
{
    struct attached *at, *next;

    if (!domain || atomic_fetch_sub(&domain->refs, 1) != 1)
        return;
    for (at = domain->attached; at; at = next) {
        next = at->next;
        attached_free(domain, at);
    }
    for (int i = 0; i < PURPOSES; i++)
        kf_secret_free(domain->keys[i]);
    kf_module_unref(domain->module);
    pthread_mutex_destroy(&domain->lock);
    free(domain);
}

bool kf_domain_is_host(const struct kf_domain *domain)
{
    return domain->keys[KF_DOMAIN_MAC] != NULL;
}

const uint8_t *kf_domain_check(const struct kf_domain *domain)
{
    return domain->check;
}

/* The check value, by whichever hand holds the mac key. */
static kf_rv compute_check(const struct kf_domain *domain,
                           uint8_t check[KF_CHECK_BYTES], struct kf_error *err)
{
    const struct kf_slice text = { CHECK_TEXT, sizeof CHECK_TEXT - 1 };
    uint8_t mac[KF_MAC_BYTES];
    kf_rv rv = kf_domain_mac(domain, &text, 1, mac, err);

    if (!rv)
        memcpy(check, mac, KF_CHECK_BYTES);
    return rv;
}

/* From text */

static kf_rv derive_keys(const struct kf_secret *text, struct kf_domain *domain,
                         struct kf_error *err)
{
    struct kf_secret *root = kf_secret_new(KF_CRYPTO_KEY);
    kf_rv rv = KFR_CRYPTO;

    if (!root) {
        rv = no_memory(err);
        goto done;
    }
    if (!kf_crypto_scrypt(text->data, text->len, SALT, root->data)) {
        rv = kf_fail(err, KFR_CRYPTO, "scrypt", "it needs 128 MB for a moment",
                     "the domain could not be derived from its text");
        goto done;
    }
    for (int i = 0; i < PURPOSES; i++) {
        domain->keys[i] = kf_secret_new(KF_DOMAIN_KEY_BYTES);
        if (!domain->keys[i]) {
            rv = no_memory(err);
            goto done;
        }
        if (!kf_crypto_hkdf(root->data, purposes[i].info, domain->keys[i]->data)) {
            rv = crypto_failed(err, "HKDF");
            goto done;
        }
    }
    rv = compute_check(domain, domain->check, err);
done:
    kf_secret_free(root);
    return rv;
}

kf_rv kf_domain_from_text(const struct kf_secret *text, struct kf_domain **out,
                          struct kf_error *err)
{
    struct kf_domain *domain = NULL;
    kf_rv rv = KFR_ARGUMENT;

    *out = NULL;
    if (text->len == 0)
        return kf_fail(err, KFR_ARGUMENT, "", "", "the text of a domain is empty");
    domain = domain_new();
    rv = domain ? derive_keys(text, domain, err) : no_memory(err);
    if (!rv) {
        *out = domain;
        domain = NULL;
    }
    kf_domain_unref(domain);
    return rv;
}

kf_rv kf_domain_from_keys(const struct kf_secret *wrap, const struct kf_secret *encrypt,
                          const struct kf_secret *mac, struct kf_domain **out,
                          struct kf_error *err)
{
    const struct kf_secret *keys[PURPOSES] = { [KF_DOMAIN_WRAP] = wrap,
                                               [KF_DOMAIN_ENCRYPT] = encrypt,
                                               [KF_DOMAIN_MAC] = mac };
    struct kf_domain *domain = NULL;
    kf_rv rv = KFR_MEMORY;

    *out = NULL;
    for (int i = 0; i < PURPOSES; i++)
        if (keys[i]->len != KF_DOMAIN_KEY_BYTES)
            return kf_fail(err, KFR_DAMAGED, "", "",
                           "a domain key has %zu bytes, not %d", keys[i]->len,
                           KF_DOMAIN_KEY_BYTES);
    domain = domain_new();
    if (!domain) {
        rv = no_memory(err);
        goto done;
    }
    for (int i = 0; i < PURPOSES; i++) {
        domain->keys[i] = kf_secret_dup(keys[i]);
        if (!domain->keys[i]) {
            rv = no_memory(err);
            goto done;
        }
    }
    rv = compute_check(domain, domain->check, err);
    if (!rv) {
        *out = domain;
        domain = NULL;
    }
done:
    kf_domain_unref(domain);
    return rv;
}

/* What its keys look like */

struct kf_attributes *kf_domain_key_attributes(const uint8_t check[KF_CHECK_BYTES],
                                               enum kf_domain_purpose purpose)
{
    struct kf_attributes *set = kf_attributes_new(false);
    unsigned char id[ID_BYTES];
    bool ok = set != NULL;

    memcpy(id, ID_MAGIC, ID_VERSION);
    id[ID_VERSION] = DOMAIN_VERSION;
    id[ID_PURPOSE] = purposes[purpose].letter;
    memcpy(id + ID_CHECK, check, KF_CHECK_BYTES);
    ok = ok && kf_attributes_set_ulong(set, CKA_CLASS, CKO_SECRET_KEY) &&
         kf_attributes_set_ulong(set, CKA_KEY_TYPE, purposes[purpose].key_type) &&
         kf_attributes_set(set, CKA_LABEL, KF_BYTES, LABEL, sizeof LABEL - 1) &&
         kf_attributes_set(set, CKA_ID, KF_BYTES, id, sizeof id) &&
         kf_attributes_set_bool(set, CKA_TOKEN, true) &&
         kf_attributes_set_bool(set, CKA_PRIVATE, true) &&
         kf_attributes_set_bool(set, CKA_SENSITIVE, true) &&
         kf_attributes_set_bool(set, CKA_EXTRACTABLE, false) &&
         kf_attributes_set_bool(set, CKA_MODIFIABLE, false);
    for (size_t i = 0; ok && i < sizeof usage_flags / sizeof *usage_flags; i++)
        ok = kf_attributes_set_bool(set, usage_flags[i],
                                    usage_flags[i] == purposes[purpose].uses[0] ||
                                        usage_flags[i] == purposes[purpose].uses[1]);
    if (!ok) {
        kf_attributes_free(set);
        set = NULL;
    }
    return set;
}

/* The id when the object has our class, label and an id of ours, of any version. */
static const unsigned char *domain_id(const struct kf_attributes *object)
{
    const struct kf_attribute *label = kf_attributes_get(object, CKA_LABEL);
    const struct kf_attribute *id = kf_attributes_get(object, CKA_ID);

    if (kf_attributes_ulong(object, CKA_CLASS, CK_UNAVAILABLE_INFORMATION) !=
            CKO_SECRET_KEY ||
        !label || label->len != sizeof LABEL - 1 ||
        memcmp(label->value, LABEL, label->len) != 0)
        return NULL;
    if (!id || id->len != ID_BYTES || memcmp(id->value, ID_MAGIC, ID_VERSION) != 0)
        return NULL;
    return id->value;
}

bool kf_domain_is_any_key(const struct kf_attributes *object)
{
    return domain_id(object) != NULL;
}

bool kf_domain_key_purpose(const struct kf_attributes *object,
                           enum kf_domain_purpose *purpose)
{
    const unsigned char *id = domain_id(object);

    if (!id || id[ID_VERSION] != DOMAIN_VERSION)
        return false;
    for (int i = 0; i < PURPOSES; i++) {
        if (id[ID_PURPOSE] == purposes[i].letter) {
            *purpose = (enum kf_domain_purpose)i;
            return true;
        }
    }
    return false;
}

bool kf_domain_is_key(const struct kf_attributes *object, uint8_t check[KF_CHECK_BYTES])
{
    enum kf_domain_purpose purpose;

    if (!kf_domain_key_purpose(object, &purpose))
        return false;
    if (check)
        memcpy(check, domain_id(object) + ID_CHECK, KF_CHECK_BYTES);
    return true;
}

/* In a token */

static const char REMAKE[] =
    "the partition's domain cannot be used: delete the partition and make it anew";

/* Files one candidate under its purpose. */
static kf_rv take_key(struct kf_session *session, CK_OBJECT_HANDLE handle,
                      struct kf_domain *domain, bool found[PURPOSES],
                      struct kf_error *err)
{
    struct kf_attributes *object = kf_attributes_new(false);
    const unsigned char *id;
    enum kf_domain_purpose purpose;
    kf_rv rv = KFR_MEMORY;

    if (!object || !kf_attributes_set_ulong(object, CKA_CLASS, CKO_SECRET_KEY) ||
        !kf_attributes_set(object, CKA_LABEL, KF_BYTES, LABEL, sizeof LABEL - 1)) {
        rv = no_memory(err);
        goto done;
    }
    rv = kf_object_read_one(session, handle, CKA_ID, object, err);
    id = rv ? NULL : domain_id(object);
    if (!id)
        goto done; /* somebody else's key of the same label */
    if (id[ID_VERSION] > DOMAIN_VERSION) {
        rv = kf_fail(err, KFR_NEWER_VERSION, "", "use the keyferry that made it",
                     "the partition's domain is of version %d", id[ID_VERSION]);
        goto done;
    }
    if (!kf_domain_key_purpose(object, &purpose)) {
        rv = kf_fail(err, KFR_DAMAGED, "", REMAKE,
                     "the partition has a domain key of no known purpose");
        goto done;
    }
    if (found[purpose]) {
        rv = kf_fail(err, KFR_AMBIGUOUS, "", REMAKE,
                     "the partition has more than one cloning domain");
        goto done;
    }
    for (int i = 0; i < PURPOSES; i++) {
        if (found[i] && memcmp(domain->check, id + ID_CHECK, KF_CHECK_BYTES) != 0) {
            rv = kf_fail(err, KFR_AMBIGUOUS, "", REMAKE,
                         "the partition has keys of different cloning domains");
            goto done;
        }
    }
    memcpy(domain->check, id + ID_CHECK, KF_CHECK_BYTES);
    domain->handles[purpose] = handle;
    found[purpose] = true;
done:
    kf_attributes_free(object);
    return rv;
}

static kf_rv collect_keys(struct kf_session *session, struct kf_domain *domain,
                          bool found[PURPOSES], struct kf_error *err)
{
    struct kf_attributes *filter = kf_attributes_new(false);
    CK_OBJECT_HANDLE *handles = NULL;
    size_t count = 0;
    kf_rv rv = KFR_MEMORY;

    if (!filter || !kf_attributes_set_ulong(filter, CKA_CLASS, CKO_SECRET_KEY) ||
        !kf_attributes_set_bool(filter, CKA_TOKEN, true) ||
        !kf_attributes_set(filter, CKA_LABEL, KF_BYTES, LABEL, sizeof LABEL - 1)) {
        rv = no_memory(err);
        goto done;
    }
    rv = kf_objects_find(session, filter, &handles, &count, err);
    for (size_t i = 0; !rv && i < count; i++)
        rv = take_key(session, handles[i], domain, found, err);
done:
    free(handles);
    kf_attributes_free(filter);
    return rv;
}

/* All three are there, and the mac key is the one that the ids speak of. */
static kf_rv prove(const struct kf_domain *domain, const bool found[PURPOSES],
                   struct kf_error *err)
{
    uint8_t check[KF_CHECK_BYTES];
    int count = 0;
    kf_rv rv = KFR_NOT_FOUND;

    for (int i = 0; i < PURPOSES; i++)
        count += found[i];
    if (count == 0)
        return kf_fail(err, KFR_NOT_FOUND, "",
                       "log in, or give the domain with -domain",
                       "the partition has no cloning domain");
    if (count != PURPOSES)
        return kf_fail(err, KFR_DAMAGED, "", REMAKE,
                       "the partition has %d of the %d keys of its cloning domain",
                       count, PURPOSES);
    rv = compute_check(domain, check, err);
    if (!rv && CRYPTO_memcmp(check, domain->check, sizeof check) != 0)
        rv = kf_fail(err, KFR_DAMAGED, "", REMAKE,
                     "the keys of the partition's domain name another check value");
    return rv;
}

kf_rv kf_domain_find(struct kf_session *session, struct kf_domain **out,
                     struct kf_error *err)
{
    struct kf_domain *domain = domain_new();
    bool found[PURPOSES] = { false };
    kf_rv rv = KFR_MEMORY;

    *out = NULL;
    if (!domain) {
        rv = no_memory(err);
        goto done;
    }
    if (!kf_session_is_open(session)) {
        rv = kf_fail(err, KFR_CLOSED, "", "", "the session has been closed");
        goto done;
    }
    domain->module = kf_module_ref(kf_session_module(session));
    domain->session = kf_session_handle(session);
    rv = collect_keys(session, domain, found, err);
    if (!rv)
        rv = prove(domain, found, err);
    if (!rv) {
        *out = domain;
        domain = NULL;
    }
done:
    kf_domain_unref(domain);
    return rv;
}

/* CKA_MODIFIABLE false is asked for, and done without where the token refuses it; a token
 * that takes no key in the clear would refuse both, so that comes last. */
static kf_rv create_key(struct kf_session *session, const struct kf_domain *domain,
                        enum kf_domain_purpose purpose, bool token,
                        CK_OBJECT_HANDLE *out, struct kf_error *err)
{
    struct kf_attributes *look = kf_domain_key_attributes(domain->check, purpose);
    struct kf_attributes *set = kf_attributes_new(true);
    const struct kf_secret *key = domain->keys[purpose];
    bool ok = look && set;
    kf_rv rv = KFR_MEMORY;

    for (size_t i = 0; ok && i < look->count; i++)
        ok = kf_attributes_set(set, look->at[i].type, look->at[i].kind,
                               look->at[i].value, look->at[i].len);
    if (!ok || !kf_attributes_set(set, CKA_VALUE, KF_BYTES, key->data, key->len) ||
        !kf_attributes_set_bool(set, CKA_TOKEN, token)) {
        rv = no_memory(err);
        goto done;
    }
    rv = kf_object_create(session, set, out, err);
    if (rv == CKR_ATTRIBUTE_READ_ONLY || rv == CKR_ATTRIBUTE_TYPE_INVALID ||
        rv == CKR_ATTRIBUTE_VALUE_INVALID || rv == CKR_TEMPLATE_INCONSISTENT) {
        kf_attributes_remove(set, CKA_MODIFIABLE);
        rv = kf_put_key(session, set, out, err);
    }
done:
    kf_attributes_free(set);
    kf_attributes_free(look);
    return rv;
}

/* KFR_EXISTS when the token has a domain, what is wrong with it when it is none. */
static kf_rv refuse_second(struct kf_session *session, struct kf_error *err)
{
    struct kf_domain *present = NULL;
    kf_rv rv = kf_domain_find(session, &present, err);

    kf_domain_unref(present);
    if (rv == KFR_NOT_FOUND)
        return KFR_OK;
    if (!rv)
        return kf_fail(err, KFR_EXISTS, "", "",
                       "the partition has a cloning domain already");
    return rv;
}

/* The token's domain is the host's: same check value, so the same mac key, and what the
 * token encrypts the host decrypts. (The wrap key is proved with the format of
 * C_WrapKey, which not every module shares.) */
static kf_rv compare(struct kf_session *session, const struct kf_domain *domain,
                     struct kf_error *err)
{
    struct kf_domain *back = NULL;
    struct kf_writer sent = { 0 };
    struct kf_secret *got = NULL;
    kf_rv rv = kf_domain_find(session, &back, err);

    if (!rv)
        rv = kf_domain_encrypt(back, CHECK_TEXT, sizeof CHECK_TEXT, &sent, err);
    if (!rv && (CRYPTO_memcmp(back->check, domain->check, KF_CHECK_BYTES) != 0 ||
                kf_domain_decrypt(domain, sent.data, sent.len, &got, NULL) ||
                got->len != sizeof CHECK_TEXT ||
                memcmp(got->data, CHECK_TEXT, got->len) != 0))
        rv = kf_fail(err, KFR_DIFFERS, "", "no domain was left in it: use another HSM",
                     "the token keeps other domain keys than it was given");
    kf_secret_free(got);
    kf_writer_clear(&sent);
    kf_domain_unref(back);
    return rv;
}

static bool is_installed(struct kf_session *session, CK_OBJECT_HANDLE object,
                         const struct kf_attributes *look)
{
    const struct kf_attribute *id = kf_attributes_get(look, CKA_ID);
    struct kf_attributes *set = kf_attributes_new(false);
    bool same = set && !kf_object_read_one(session, object, CKA_ID, set, NULL) &&
                kf_attributes_get(set, CKA_ID) &&
                kf_attribute_equal(kf_attributes_get(set, CKA_ID), id);

    kf_attributes_free(set);
    return same;
}

/* Removes the keys of a domain that the token had not before. They are looked for: a
 * module may have given the handle of another object for one that it made, or none. */
static void uninstall(struct kf_session *session, const struct kf_domain *domain)
{
    static const uint64_t marks[] = { CKA_CLASS, CKA_TOKEN, CKA_LABEL, CKA_ID };

    for (int purpose = 0; purpose < PURPOSES; purpose++) {
        struct kf_attributes *look =
            kf_domain_key_attributes(domain->check, (enum kf_domain_purpose)purpose);
        struct kf_attributes *filter = kf_attributes_new(false);
        CK_OBJECT_HANDLE *found = NULL;
        size_t count = 0;
        bool ok = look && filter;

        for (size_t i = 0; ok && i < sizeof marks / sizeof *marks; i++) {
            const struct kf_attribute *at = kf_attributes_get(look, marks[i]);

            ok = kf_attributes_set(filter, at->type, at->kind, at->value, at->len);
        }
        if (ok && !kf_objects_find(session, filter, &found, &count, NULL))
            for (size_t i = 0; i < count; i++)
                if (is_installed(session, found[i], look))
                    (void)kf_object_destroy(session, found[i], NULL);
        free(found);
        kf_attributes_free(filter);
        kf_attributes_free(look);
    }
}

kf_rv kf_domain_install(struct kf_session *session, const struct kf_domain *domain,
                        struct kf_error *err)
{
    CK_OBJECT_HANDLE made;
    kf_rv rv = KFR_NO_ENGINE;

    if (!kf_domain_is_host(domain))
        return kf_fail(err, KFR_NO_ENGINE, "", "give its text with -domain",
                       "a domain that lives in a token cannot be put into another");
    rv = refuse_second(session, err);
    if (rv)
        return rv;
    for (int i = 0; !rv && i < PURPOSES; i++)
        rv = create_key(session, domain, (enum kf_domain_purpose)i, true, &made, err);
    if (!rv)
        rv = compare(session, domain, err);
    if (rv)
        uninstall(session, domain);
    return rv;
}

/* Wrapping keys of host domains */

static struct attached **attached_to(struct kf_domain *domain,
                                     struct kf_session *session)
{
    struct attached **at = &domain->attached;

    while (*at && ((*at)->module != kf_session_module(session) ||
                   (*at)->session != kf_session_handle(session)))
        at = &(*at)->next;
    return at;
}

/* Under the lock. */
static kf_rv attach(struct kf_domain *domain, struct kf_session *session,
                    CK_OBJECT_HANDLE *out, struct kf_error *err)
{
    struct attached **place = attached_to(domain, session), *at = *place;
    kf_rv rv = KFR_MEMORY;

    if (at && still_ours(domain, at)) {
        *out = at->key;
        return KFR_OK;
    }
    if (at) { /* gone with a logout */
        *place = at->next;
        attached_free(domain, at);
    }
    at = calloc(1, sizeof *at);
    if (!at)
        return no_memory(err);
    rv = create_key(session, domain, KF_DOMAIN_WRAP, false, &at->key, err);
    if (rv) {
        free(at);
        return rv;
    }
    at->module = kf_module_ref(kf_session_module(session));
    at->session = kf_session_handle(session);
    at->next = domain->attached;
    domain->attached = at;
    *out = at->key;
    return KFR_OK;
}

kf_rv kf_domain_wrapping_key(struct kf_domain *domain, struct kf_session *session,
                             CK_OBJECT_HANDLE *out, struct kf_error *err)
{
    kf_rv rv = KFR_CLOSED;

    if (!kf_session_is_open(session))
        return kf_fail(err, KFR_CLOSED, "", "", "the session has been closed");
    if (!kf_domain_is_host(domain)) {
        if (domain->module != kf_session_module(session))
            return kf_fail(err, KFR_ARGUMENT, "", "",
                           "the domain lives in another token than this session's");
        *out = domain->handles[KF_DOMAIN_WRAP];
        return KFR_OK;
    }
    pthread_mutex_lock(&domain->lock);
    rv = attach(domain, session, out, err);
    pthread_mutex_unlock(&domain->lock);
    return rv;
}

void kf_domain_detach(struct kf_domain *domain, struct kf_session *session)
{
    struct attached **place, *at;

    pthread_mutex_lock(&domain->lock);
    place = attached_to(domain, session);
    at = *place;
    if (at)
        *place = at->next;
    pthread_mutex_unlock(&domain->lock);
    if (at)
        attached_free(domain, at);
}

/* Operations in the token. The session may have been closed, and freed, since. */

static kf_rv token_failed(struct kf_error *err, CK_RV rv, const char *call)
{
    if (rv == CKR_SESSION_HANDLE_INVALID || rv == CKR_SESSION_CLOSED ||
        rv == CKR_CRYPTOKI_NOT_INITIALIZED || rv == KFR_CLOSED)
        return kf_fail(err, KFR_CLOSED, call, "",
                       "the session that the domain lives in has been closed");
    return kf_module_fail(err, rv, call,
                          "the partition's domain key could not be used");
}

static kf_rv token_mac(const struct kf_domain *domain, const struct kf_slice *slices,
                       size_t count, uint8_t out[KF_MAC_BYTES], struct kf_error *err)
{
    CK_MECHANISM mechanism = { CKM_SHA256_HMAC, NULL, 0 };
    CK_ULONG len = KF_MAC_BYTES;
    CK_RV rv = KF_CALL(domain->module, C_SignInit, domain->session, &mechanism,
                       domain->handles[KF_DOMAIN_MAC]);

    if (rv)
        return token_failed(err, rv, "C_SignInit");
    for (size_t i = 0; !rv && i < count; i++)
        if (slices[i].len)
            rv = KF_CALL(domain->module, C_SignUpdate, domain->session,
                         (CK_BYTE_PTR)slices[i].bytes, (CK_ULONG)slices[i].len);
    if (rv)
        return token_failed(err, rv, "C_SignUpdate");
    rv = KF_CALL(domain->module, C_SignFinal, domain->session, out, &len);
    if (!rv && len != KF_MAC_BYTES)
        rv = CKR_GENERAL_ERROR;
    return rv ? token_failed(err, rv, "C_SignFinal") : KFR_OK;
}

static kf_rv token_cbc(const struct kf_domain *domain, bool encrypt,
                       const unsigned char iv[KF_CRYPTO_BLOCK], const void *in,
                       size_t len, unsigned char *out, size_t *out_len,
                       struct kf_error *err)
{
    unsigned char parameter[KF_CRYPTO_BLOCK];
    CK_MECHANISM mechanism = { CKM_AES_CBC_PAD, parameter, sizeof parameter };
    CK_OBJECT_HANDLE key = domain->handles[KF_DOMAIN_ENCRYPT];
    CK_ULONG room = kf_crypto_cbc_room(len), got = room;
    CK_RV rv;

    memcpy(parameter, iv, sizeof parameter);
    *out_len = 0;
    rv = encrypt
             ? KF_CALL(domain->module, C_EncryptInit, domain->session, &mechanism, key)
             : KF_CALL(domain->module, C_DecryptInit, domain->session, &mechanism, key);
    if (rv)
        return token_failed(err, rv, encrypt ? "C_EncryptInit" : "C_DecryptInit");
    rv = encrypt ? KF_CALL(domain->module, C_Encrypt, domain->session, (CK_BYTE_PTR)in,
                           (CK_ULONG)len, out, &got)
                 : KF_CALL(domain->module, C_Decrypt, domain->session, (CK_BYTE_PTR)in,
                           (CK_ULONG)len, out, &got);
    if (!rv && got > room)
        rv = CKR_GENERAL_ERROR;
    if (rv)
        return token_failed(err, rv, encrypt ? "C_Encrypt" : "C_Decrypt");
    *out_len = got;
    return KFR_OK;
}

/* One face */

kf_rv kf_domain_mac(const struct kf_domain *domain, const struct kf_slice *slices,
                    size_t count, uint8_t out[KF_MAC_BYTES], struct kf_error *err)
{
    if (!kf_domain_is_host(domain))
        return token_mac(domain, slices, count, out, err);
    if (!kf_crypto_hmac(domain->keys[KF_DOMAIN_MAC]->data, slices, count, out))
        return crypto_failed(err, "HMAC");
    return KFR_OK;
}

static kf_rv cbc(const struct kf_domain *domain, bool encrypt,
                 const unsigned char iv[KF_CRYPTO_BLOCK], const void *in, size_t len,
                 unsigned char *out, size_t *out_len, struct kf_error *err)
{
    if (!kf_domain_is_host(domain))
        return token_cbc(domain, encrypt, iv, in, len, out, out_len, err);
    if (!kf_crypto_cbc(encrypt, domain->keys[KF_DOMAIN_ENCRYPT]->data, iv, in, len, out,
                       out_len))
        return crypto_failed(err, "AES-256-CBC");
    return KFR_OK;
}

/* OpenSSL and modules take no NULL even for nothing. */
static const void *never_null(const void *bytes)
{
    return bytes ? bytes : "";
}

kf_rv kf_domain_encrypt(const struct kf_domain *domain, const void *plain, size_t len,
                        struct kf_writer *out, struct kf_error *err)
{
    size_t before = out->len, got = 0;
    unsigned char *iv = kf_write_room(out, KF_CRYPTO_BLOCK + kf_crypto_cbc_room(len));
    kf_rv rv = KFR_CRYPTO;

    if (!iv)
        return no_memory(err);
    if (!kf_crypto_random(iv, KF_CRYPTO_BLOCK))
        rv = crypto_failed(err, "RAND_bytes");
    else
        rv = cbc(domain, true, iv, never_null(plain), len, iv + KF_CRYPTO_BLOCK, &got,
                 err);
    if (!rv && got != len - len % KF_CRYPTO_BLOCK + KF_CRYPTO_BLOCK)
        rv = kf_fail(err, KFR_CRYPTO, "", "",
                     "the token gave %zu bytes for %zu encrypted", got, len);
    out->len = rv ? before : before + KF_CRYPTO_BLOCK + got;
    return rv;
}

kf_rv kf_domain_decrypt(const struct kf_domain *domain, const void *bytes, size_t len,
                        struct kf_secret **out, struct kf_error *err)
{
    const unsigned char *iv = bytes;
    struct kf_secret *plain = NULL;
    size_t got = 0;
    kf_rv rv = KFR_DAMAGED;

    *out = NULL;
    if (len < 2 * KF_CRYPTO_BLOCK || len % KF_CRYPTO_BLOCK != 0)
        return kf_fail(err, KFR_DAMAGED, "", "", "an encrypted part has %zu bytes",
                       len);
    len -= KF_CRYPTO_BLOCK;
    plain = kf_secret_new(kf_crypto_cbc_room(len));
    if (!plain)
        return no_memory(err);
    rv = cbc(domain, false, iv, iv + KF_CRYPTO_BLOCK, len, plain->data, &got, err);
    if (rv == KFR_CRYPTO) /* the mac vouched for it: it was sealed wrong */
        rv = kf_fail(err, KFR_DAMAGED, "", "", "an encrypted part does not decrypt");
    if (rv) {
        kf_secret_free(plain);
        return rv;
    }
    kf_secret_cut(plain, got);
    *out = plain;
    return KFR_OK;
}

static kf_rv needs_host(const struct kf_domain *domain, struct kf_error *err)
{
    if (kf_domain_is_host(domain))
        return KFR_OK;
    return kf_fail(err, KFR_NO_ENGINE, "", "give the domain with -domain",
                   "the keys of this domain do not leave their token");
}

/* kf_crypto_wrap or kf_crypto_wrap_blocks. */
typedef bool (*wrapper)(bool wrap, const unsigned char key[KF_CRYPTO_KEY],
                        const void *in, size_t len, unsigned char *out,
                        size_t *out_len);

static kf_rv wrap_bytes(const struct kf_domain *domain, wrapper by, const void *plain,
                        size_t len, struct kf_writer *out, struct kf_error *err)
{
    size_t before = out->len, got = 0;
    unsigned char *room = NULL;
    kf_rv rv = needs_host(domain, err);

    if (rv)
        return rv;
    room = kf_write_room(out, kf_crypto_wrap_room(len));
    if (!room)
        return no_memory(err);
    if (!by(true, domain->keys[KF_DOMAIN_WRAP]->data, plain, len, room, &got))
        rv = crypto_failed(err, "AES-256-ECB");
    out->len = rv ? before : before + got;
    return rv;
}

static kf_rv unwrap_bytes(const struct kf_domain *domain, wrapper by, const void *bytes,
                          size_t len, struct kf_secret **out, struct kf_error *err)
{
    struct kf_secret *plain = NULL;
    size_t got = 0;
    kf_rv rv = needs_host(domain, err);

    *out = NULL;
    if (rv)
        return rv;
    if (len < 16 || len % 8 != 0)
        return kf_fail(err, KFR_DAMAGED, "", "", "a wrapped key has %zu bytes", len);
    plain = kf_secret_new(kf_crypto_wrap_room(len));
    if (!plain)
        return no_memory(err);
    if (!by(false, domain->keys[KF_DOMAIN_WRAP]->data, bytes, len, plain->data, &got)) {
        kf_secret_free(plain);
        return kf_fail(err, KFR_DAMAGED, "", "",
                       "a wrapped key does not unwrap under this domain");
    }
    kf_secret_cut(plain, got);
    *out = plain;
    return KFR_OK;
}

kf_rv kf_domain_wrap_bytes(const struct kf_domain *domain, const void *plain,
                           size_t len, struct kf_writer *out, struct kf_error *err)
{
    if (len == 0) /* RFC 5649 wraps one byte and more */
        return kf_fail(err, KFR_ARGUMENT, "", "",
                       "a key without bytes cannot be wrapped");
    return wrap_bytes(domain, kf_crypto_wrap, plain, len, out, err);
}

kf_rv kf_domain_unwrap_bytes(const struct kf_domain *domain, const void *bytes,
                             size_t len, struct kf_secret **out, struct kf_error *err)
{
    return unwrap_bytes(domain, kf_crypto_wrap, bytes, len, out, err);
}

kf_rv kf_domain_wrap_blocks(const struct kf_domain *domain, const void *plain,
                            size_t len, struct kf_writer *out, struct kf_error *err)
{
    if (len < 16 || len % 8)
        return kf_fail(err, KFR_ARGUMENT, "", "",
                       "RFC 3394 wraps whole blocks of 8 bytes, not %zu bytes", len);
    return wrap_bytes(domain, kf_crypto_wrap_blocks, plain, len, out, err);
}

kf_rv kf_domain_unwrap_blocks(const struct kf_domain *domain, const void *bytes,
                              size_t len, struct kf_secret **out, struct kf_error *err)
{
    return unwrap_bytes(domain, kf_crypto_wrap_blocks, bytes, len, out, err);
}
