/* SPDX-License-Identifier: MIT */
#include "clone/softhsm_vault.h"

#include "clone/crypto.h"
#include "clone/softhsm_pin.h"

#include <stdlib.h>
#include <string.h>

struct kf_vault {
    struct kf_store *store;
    struct kf_softhsm_cipher *cipher;
    struct kf_secret *bytes; /* the file that was read last */
    struct kf_secret *plain; /* its values in the clear */
    struct kf_writer sealed; /* values being encrypted, one after another */
};

/* ---------------------------------------- opening */

kf_rv kf_vault_find_store(struct kf_session *session, struct kf_store **out,
                          struct kf_error *err)
{
    const char *env = kf_module_env(kf_session_module(session), "SOFTHSM2_CONF");
    struct kf_softhsm_conf conf;
    kf_rv rv = kf_softhsm_conf_read(env, &conf, err);

    if (rv)
        return rv;
    if (!conf.is_file_backend)
        return kf_fail(err, KFR_NO_ENGINE, "", "use the engine wrap",
                       "%s keeps tokens in a database (objectstore.backend)",
                       conf.path);
    return kf_store_open(&conf, kf_session_token(session)->serial, out, err);
}

static kf_rv open_cipher(struct kf_vault *vault, const struct kf_secret *pin,
                         struct kf_error *err)
{
    struct kf_secret *blob = NULL;
    struct kf_secret *key = NULL;
    kf_rv rv = kf_store_user_blob(vault->store, &blob, err);

    if (!rv)
        rv = kf_softhsm_token_key(blob->data, blob->len, pin, &key, err);
    if (!rv)
        rv = kf_softhsm_cipher_new(key, &vault->cipher, err);
    kf_secret_free(key);
    kf_secret_free(blob);
    return rv;
}

kf_rv kf_vault_open(struct kf_session *session, struct kf_vault **out,
                    struct kf_error *err)
{
    kf_rv rv = CKR_USER_NOT_LOGGED_IN;
    const struct kf_secret *pin = kf_session_pin(session);
    struct kf_vault *vault = NULL;

    if (!pin) {
        kf_fail(err, rv, "", "log in with a PIN (a protected authentication path gives "
                             "none), or use the engine wrap",
                "a token store is opened with the user's PIN, and there is none");
        goto done;
    }
    rv = KFR_MEMORY;
    vault = calloc(1, sizeof *vault);
    if (vault) {
        vault->bytes = kf_secret_new(0);
        vault->plain = kf_secret_new(0);
    }
    if (!vault || !vault->bytes || !vault->plain) {
        kf_fail(err, rv, "", "", "no memory for a token store");
        goto done;
    }
    rv = kf_vault_find_store(session, &vault->store, err);
    if (!rv)
        rv = open_cipher(vault, pin, err);
    if (rv)
        goto done;
    *out = vault;
    vault = NULL;
done:
    kf_vault_free(vault);
    return rv;
}

void kf_vault_free(struct kf_vault *vault)
{
    if (!vault)
        return;
    kf_secret_free(vault->bytes);
    kf_secret_free(vault->plain);
    kf_writer_clear(&vault->sealed);
    kf_softhsm_cipher_free(vault->cipher);
    kf_store_free(vault->store);
    free(vault);
}

struct kf_store *kf_vault_store(struct kf_vault *vault)
{
    return vault->store;
}

void kf_vault_forget(struct kf_vault *vault)
{
    kf_secret_cut(vault->bytes, 0);
    kf_secret_cut(vault->plain, 0);
}

/* ---------------------------------------- reading */

static bool is_date(uint64_t type)
{
    return type == CKA_START_DATE || type == CKA_END_DATE;
}

/* Shorter than any ciphertext: lies in the clear, whatever CKA_PRIVATE says. */
static bool is_clear_date(const struct kf_attribute *at)
{
    return is_date(at->type) && at->len < 2 * KF_SOFTHSM_BLOCK;
}

static bool room_for(struct kf_secret *plain, size_t len)
{
    unsigned char *data;

    kf_secret_cut(plain, 0);
    if (len > plain->cap) {
        data = kf_secret_alloc(len);
        if (!data)
            return false;
        kf_secret_release(plain->data, plain->cap);
        plain->data = data;
        plain->cap = len;
    }
    plain->len = len;
    return true;
}

kf_rv kf_vault_load(struct kf_vault *vault, const char *name,
                    struct kf_vault_object *out, struct kf_error *err)
{
    kf_rv rv;

    kf_vault_forget(vault);
    out->set = (struct kf_attributes){ .at = out->at, .secret = true };
    rv = kf_store_load(vault->store, name, vault->bytes, out->at, &out->set.count,
                       &out->mark, err);
    out->set.cap = out->set.count;
    return rv;
}

kf_rv kf_vault_decrypt(struct kf_vault *vault, struct kf_vault_object *object,
                       struct kf_error *err)
{
    kf_rv rv = KFR_OK;
    size_t used = 0;

    if (!kf_attributes_bool(&object->set, CKA_PRIVATE, false))
        return KFR_OK;
    /* No value is longer in the clear, so all of them fit where one file did. */
    if (!room_for(vault->plain, vault->bytes->len))
        return kf_fail(err, KFR_MEMORY, "", "", "no memory for an object");
    for (size_t i = 0; !rv && i < object->set.count; i++) {
        struct kf_attribute *at = &object->at[i];
        size_t len = at->len;

        if (at->kind != KF_BYTES || len == 0 || is_clear_date(at))
            continue;
        rv = kf_softhsm_decrypt(vault->cipher, at->value, len,
                                vault->plain->data + used, &at->len, err);
        at->value = vault->plain->data + used;
        used += len;
        if (at->len == 0 || is_date(at->type))
            at->form = KF_FORM_ENCRYPTED;
    }
    return rv;
}

kf_rv kf_vault_read(struct kf_vault *vault, const char *name,
                    struct kf_vault_object *out, struct kf_error *err)
{
    kf_rv rv = kf_vault_load(vault, name, out, err);

    if (!rv)
        rv = kf_vault_decrypt(vault, out, err);
    return rv;
}

/* ---------------------------------------- writing */

static bool is_to_encrypt(const struct kf_attribute *at)
{
    if (at->kind != KF_BYTES)
        return false;
    return at->form == KF_FORM_ENCRYPTED || (at->len && !is_date(at->type));
}

/* Appends the ciphertexts to vault->sealed; at[].value is meaningless until all are
 * there, for the memory may move: at[].len is final, and place() follows. */
static kf_rv encrypt_all(struct kf_vault *vault, struct kf_attribute *at, size_t count,
                         struct kf_error *err)
{
    kf_rv rv = KFR_OK;
    unsigned char ivs[KF_STORE_RECORDS_MAX][KF_SOFTHSM_BLOCK];

    if (!kf_crypto_random(ivs[0], count * KF_SOFTHSM_BLOCK))
        return kf_fail(err, KFR_CRYPTO, "RAND_bytes", "", "no random bytes");
    for (size_t i = 0; !rv && i < count; i++) {
        size_t len = kf_softhsm_sealed_len(at[i].len);
        unsigned char *room;

        if (!is_to_encrypt(&at[i]))
            continue;
        room = kf_write_room(&vault->sealed, len);
        if (!room)
            return kf_fail(err, KFR_MEMORY, "", "", "no memory for an object");
        rv = kf_softhsm_encrypt(vault->cipher, ivs[i], at[i].value, at[i].len, room,
                                err);
    }
    return rv;
}

static void place(struct kf_vault *vault, struct kf_attribute *at, size_t count)
{
    size_t used = 0;

    for (size_t i = 0; i < count; i++) {
        if (!is_to_encrypt(&at[i]))
            continue;
        at[i].value = vault->sealed.data + used;
        at[i].len = kf_softhsm_sealed_len(at[i].len);
        used += at[i].len;
    }
}

kf_rv kf_vault_write(struct kf_vault *vault, const struct kf_attributes *plain,
                     struct kf_writer *out, struct kf_error *err)
{
    struct kf_attribute at[KF_STORE_RECORDS_MAX];
    struct kf_attributes set = { .at = at, .count = plain->count };
    kf_rv rv;

    if (plain->count > KF_STORE_RECORDS_MAX)
        return kf_fail(err, KFR_LIMIT, "", "", "an object of %zu attributes",
                       plain->count);
    memcpy(at, plain->at, plain->count * sizeof *at);
    vault->sealed.len = 0;
    if (kf_attributes_bool(plain, CKA_PRIVATE, false)) {
        rv = encrypt_all(vault, at, set.count, err);
        if (rv)
            return rv;
        place(vault, at, set.count);
    }
    return kf_store_encode(&set, out, err);
}
