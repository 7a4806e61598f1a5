/* SPDX-License-Identifier: MIT */
#include "clone/softhsm_survey.h"

#include "base/secret.h"
#include "clone/softhsm_store.h"
#include "clone/softhsm_vault.h"
#include "pkcs11/attribute.h"

#include <stdlib.h>
#include <time.h>

enum { LOOKS = 10, PAUSE_NS = 50 * 1000 * 1000 };

static const char HINT[] = "restore the file from a backup, or remove it when its "
                           "object is not missed";

struct reader {
    struct kf_store *store;
    struct kf_secret *bytes;
    struct kf_attribute at[KF_STORE_RECORDS_MAX];
};

/* CKA_MODIFIABLE: every object of SoftHSM 2 has one, and types ascend in the file, so
 * what was torn off an object has nearly always taken it along. */
static kf_rv look(struct reader *reader, const char *name, struct kf_error *err)
{
    struct kf_attributes set = { .at = reader->at, .secret = true };
    kf_rv rv = kf_store_load(reader->store, name, reader->bytes, reader->at, &set.count,
                             NULL, err);

    if (rv)
        return rv;
    if (kf_attributes_get(&set, CKA_CLASS) && kf_attributes_get(&set, CKA_MODIFIABLE))
        return KFR_OK;
    return kf_fail(err, KFR_DAMAGED, "", HINT,
                   "%s has lost part of its object: attributes are missing", name);
}

/* As look; an object without all its attributes may be in the making. */
static kf_rv look_again(struct reader *reader, const char *name, struct kf_error *err)
{
    const struct timespec pause = { 0, PAUSE_NS };
    kf_rv rv = look(reader, name, err);

    for (int i = 1; rv == KFR_DAMAGED && i < LOOKS; i++) {
        nanosleep(&pause, NULL);
        rv = look(reader, name, err);
    }
    return rv;
}

static bool push(struct kf_error **list, size_t *count, const struct kf_error *err)
{
    struct kf_error *more = realloc(*list, (*count + 1) * sizeof *more);

    if (!more)
        return false;
    *list = more;
    more[(*count)++] = *err;
    return true;
}

static kf_rv survey(struct reader *reader, char **names, size_t n_names,
                    struct kf_error **out, size_t *count, struct kf_error *err)
{
    struct kf_error one = { 0 };

    for (size_t i = 0; i < n_names; i++) {
        kf_rv rv = look_again(reader, names[i], &one);

        if (rv == KFR_STORE || rv == KFR_DAMAGED) {
            if (!push(out, count, &one))
                return kf_fail(err, KFR_MEMORY, "", "", "no memory for the survey");
        } else if (rv && rv != KFR_VANISHED) {
            *err = one;
            return rv;
        }
    }
    return KFR_OK;
}

kf_rv kf_softhsm_survey(struct kf_session *session, struct kf_error **out,
                        size_t *count, struct kf_error *err)
{
    kf_rv rv = KFR_MEMORY;
    struct reader *reader = calloc(1, sizeof *reader);
    struct kf_error *list = NULL;
    struct kf_error failed = { 0 };
    char **names = NULL;
    size_t n_names = 0;
    size_t n = 0;

    if (!reader || !(reader->bytes = kf_secret_new(0))) {
        kf_fail(&failed, rv, "", "", "no memory for the survey");
        goto done;
    }
    rv = kf_vault_find_store(session, &reader->store, &failed);
    if (!rv)
        rv = kf_store_names(reader->store, &names, &n_names, &failed);
    if (!rv)
        rv = survey(reader, names, n_names, &list, &n, &failed);
    if (rv)
        goto done;
    *out = list;
    *count = n;
    list = NULL;
done:
    if (rv && err)
        *err = failed;
    free(list);
    kf_store_names_free(names, n_names);
    if (reader) {
        kf_store_free(reader->store);
        kf_secret_free(reader->bytes);
    }
    free(reader);
    return rv;
}
