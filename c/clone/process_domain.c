/* SPDX-License-Identifier: MIT */
#include "clone/process_domain.h"

#include "clone/crypto.h"

#include <pthread.h>
#include <stddef.h>

enum { KEYS = 3 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct kf_domain *hardware; /* made at the first need, kept to the end */

kf_rv kf_domain_random(struct kf_domain **out, struct kf_error *err)
{
    struct kf_secret *keys[KEYS] = { NULL };
    kf_rv rv = KFR_OK;

    *out = NULL;
    for (size_t i = 0; !rv && i < KEYS; i++) {
        keys[i] = kf_secret_new(KF_DOMAIN_KEY_BYTES);
        if (!keys[i])
            rv = kf_fail(err, KFR_MEMORY, "", "", "no memory for a domain");
        else if (!kf_crypto_random(keys[i]->data, KF_DOMAIN_KEY_BYTES))
            rv = kf_fail(err, KFR_CRYPTO, "RAND_bytes", "", "no random bytes");
    }
    if (!rv)
        rv = kf_domain_from_keys(keys[0], keys[1], keys[2], out, err);
    for (size_t i = 0; i < KEYS; i++)
        kf_secret_free(keys[i]);
    return rv;
}

kf_rv kf_domain_of_hardware(struct kf_domain **out, struct kf_error *err)
{
    kf_rv rv = KFR_OK;

    *out = NULL;
    pthread_mutex_lock(&lock);
    if (!hardware)
        rv = kf_domain_random(&hardware, err);
    if (!rv)
        *out = kf_domain_ref(hardware);
    pthread_mutex_unlock(&lock);
    return rv;
}

bool kf_domain_in_hardware(const struct kf_domain *domain)
{
    bool is;

    pthread_mutex_lock(&lock);
    is = domain && domain == hardware;
    pthread_mutex_unlock(&lock);
    return is;
}
