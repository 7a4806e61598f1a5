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

#include "clone/softhsm_arrival.h"
#include "clone/softhsm_departure.h"
#include "clone/softhsm_end.h"
#include "clone/softhsm_unlisted.h"

#include <string.h>

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
        return kf_fail(err, KFR_NO_ENGINE, "", "use the engine wrap",
                       "the module is not SoftHSM");
    if (kf_session_token(session)->flags & CKF_PROTECTED_AUTHENTICATION_PATH)
        return kf_fail(
            err, KFR_NO_ENGINE, "", "use the engine wrap",
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
        return kf_softhsm_no_memory(err);
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

const struct kf_engine kf_engine_softhsm = {
    .name = "softhsm",
    .probe = probe,
    .find_domain = find_domain,
    .open = kf_softhsm_end_open,
    .close = kf_softhsm_end_close,
    .read = kf_softhsm_read,
    .unlisted = kf_softhsm_unlisted,
    .seal = kf_softhsm_seal,
    .digest = kf_softhsm_digest,
    .whole = kf_softhsm_whole,
    .stage = kf_softhsm_stage,
    .commit = kf_softhsm_commit,
    .abort = kf_softhsm_end_abort,
    .foresee = kf_softhsm_foresee,
};
