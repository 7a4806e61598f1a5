/* SPDX-License-Identifier: MIT */
#include "clone/softhsm_end.h"

#include "clone/crypto.h"

#include <openssl/crypto.h>
#include <stdlib.h>

kf_rv kf_softhsm_no_memory(struct kf_error *err)
{
    return kf_fail(err, KFR_MEMORY, "", "", "no memory for the engine softhsm");
}

static void forget_staged(struct kf_softhsm_end *end)
{
    free(end->staged);
    end->staged = NULL;
    end->count = 0;
    end->cap = 0;
}

void kf_softhsm_end_abort(void *state)
{
    struct kf_softhsm_end *end = state;

    kf_batch_discard(end->batch, 0);
    forget_staged(end);
}

void kf_softhsm_end_close(void *state)
{
    struct kf_softhsm_end *end = state;

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

kf_rv kf_softhsm_end_open(struct kf_session *session, struct kf_domain *domain,
                          void **state, struct kf_error *err)
{
    struct kf_softhsm_end *end = calloc(1, sizeof *end);
    kf_rv rv = KFR_MEMORY;

    if (!end) {
        kf_softhsm_no_memory(err);
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
        rv = kf_softhsm_no_memory(err);
        goto done;
    }
    *state = end;
    end = NULL;
done:
    kf_softhsm_end_close(end);
    return rv;
}

const bool *kf_proved_agreed(const struct kf_proved *proved,
                             struct kf_softhsm_kind kind)
{
    for (size_t i = 0; i < proved->count; i++)
        if (proved->kinds[i].object_class == kind.object_class
            && proved->kinds[i].key_type == kind.key_type)
            return &proved->agreed[i];
    return NULL;
}

void kf_proved_note(struct kf_proved *proved, struct kf_softhsm_kind kind, bool agrees)
{
    if (proved->count == KF_PROVED_MAX)
        return;
    proved->kinds[proved->count] = kind;
    proved->agreed[proved->count++] = agrees;
}
