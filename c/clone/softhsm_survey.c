/* SPDX-License-Identifier: MIT */
#include "clone/softhsm_survey.h"

#include "base/secret.h"
#include "clone/softhsm_batch.h"
#include "clone/softhsm_store.h"
#include "clone/softhsm_vault.h"
#include "pkcs11/attribute.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LOOKS = 10, PAUSE_NS = 50 * 1000 * 1000 };

static const char HINT[] = "restore the file from a backup, or remove it when its "
                           "object is not missed";

struct reader {
    bool thorough;
    struct kf_store *store;
    struct kf_secret *bytes;
    struct kf_attribute at[KF_STORE_RECORDS_MAX];
};

/* CKA_MODIFIABLE: every object of SoftHSM 2 has one, and types ascend in the file, so
 * what was torn off an object has nearly always taken it along. Until an object that is
 * being made gets its own attributes its file has the defaults, and CKA_TOKEN of those is
 * false: when the program died there it never was an object to anybody. */
static kf_rv look(struct reader *reader, const char *name, struct kf_error *err)
{
    struct kf_attributes set = { .at = reader->at, .secret = true };
    kf_rv rv = kf_store_load(reader->store, name, reader->bytes, reader->at, &set.count,
                             NULL, err);

    if (rv)
        return rv;
    if (kf_attributes_get(&set, CKA_CLASS) && kf_attributes_get(&set, CKA_MODIFIABLE) &&
        (!reader->thorough || kf_attributes_bool(&set, CKA_TOKEN, false)))
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

/* What a survey found: a list of errors, and beside each the name of its file. */
struct wrecks {
    struct kf_error *errors;
    char **names;
    size_t count;
    size_t files; /* that were looked at */
};

static void forget(struct wrecks *wrecks)
{
    for (size_t i = 0; i < wrecks->count; i++)
        free(wrecks->names[i]);
    free(wrecks->names);
    free(wrecks->errors);
}

static bool push(struct wrecks *wrecks, const char *name, const struct kf_error *err)
{
    size_t n = wrecks->count + 1;
    struct kf_error *errors = realloc(wrecks->errors, n * sizeof *errors);
    char **names;

    if (!errors)
        return false;
    wrecks->errors = errors;
    names = realloc(wrecks->names, n * sizeof *names);
    if (!names)
        return false;
    wrecks->names = names;
    names[n - 1] = strdup(name);
    if (!names[n - 1])
        return false;
    errors[n - 1] = *err;
    wrecks->count = n;
    return true;
}

static kf_rv survey(struct reader *reader, char **names, size_t n_names,
                    struct wrecks *wrecks, struct kf_error *err)
{
    struct kf_error one = { 0 };

    for (size_t i = 0; i < n_names; i++) {
        kf_rv rv = look_again(reader, names[i], &one);

        if (rv == KFR_STORE || rv == KFR_DAMAGED) {
            if (!push(wrecks, names[i], &one))
                return kf_fail(err, KFR_MEMORY, "", "", "no memory for the survey");
        } else if (rv && rv != KFR_VANISHED) {
            *err = one;
            return rv;
        }
    }
    return KFR_OK;
}

static void close_reader(struct reader *reader)
{
    if (!reader)
        return;
    kf_store_free(reader->store);
    kf_secret_free(reader->bytes);
    free(reader);
}

/* The reader stays open for what is to be done about the wrecks. */
static kf_rv find_wrecks(struct kf_session *session, bool thorough, struct reader **out,
                         struct wrecks *wrecks, struct kf_error *err)
{
    struct reader *reader = calloc(1, sizeof *reader);
    char **names = NULL;
    size_t n_names = 0;
    kf_rv rv = KFR_MEMORY;

    if (!reader || !(reader->bytes = kf_secret_new(0)))
        kf_fail(err, rv, "", "", "no memory for the survey");
    else
        rv = kf_vault_find_store(session, &reader->store, err);
    if (!rv)
        rv = kf_store_names(reader->store, &names, &n_names, err);
    if (!rv) {
        reader->thorough = thorough;
        wrecks->files = n_names;
        rv = survey(reader, names, n_names, wrecks, err);
    }
    kf_store_names_free(names, n_names);
    *out = reader;
    return rv;
}

kf_rv kf_softhsm_survey(struct kf_session *session, struct kf_error **out,
                        size_t *count, struct kf_error *err)
{
    struct reader *reader = NULL;
    struct wrecks wrecks = { 0 };
    struct kf_error failed = { 0 };
    kf_rv rv = find_wrecks(session, false, &reader, &wrecks, &failed);

    if (rv && err)
        *err = failed;
    if (!rv) {
        *out = wrecks.errors;
        *count = wrecks.count;
        wrecks.errors = NULL;
    }
    forget(&wrecks);
    close_reader(reader);
    return rv;
}

kf_rv kf_softhsm_count(struct kf_session *session, size_t *files, size_t *count,
                       struct kf_error *err)
{
    struct reader *reader = NULL;
    struct wrecks wrecks = { 0 };
    struct kf_error failed = { 0 };
    kf_rv rv = find_wrecks(session, true, &reader, &wrecks, &failed);

    if (rv && err)
        *err = failed;
    *files = wrecks.files;
    *count = wrecks.count;
    forget(&wrecks);
    close_reader(reader);
    return rv;
}

kf_rv kf_softhsm_clear_wrecks(struct kf_session *session, size_t *count,
                              struct kf_error *err)
{
    struct reader *reader = NULL;
    struct wrecks wrecks = { 0 };
    struct kf_batch *batch = NULL;
    struct kf_error failed = { 0 };
    kf_rv rv = find_wrecks(session, true, &reader, &wrecks, &failed);

    if (!rv && wrecks.count) {
        batch = kf_batch_new(reader->store);
        rv = batch ? kf_batch_conclude(batch, (const char *const *)wrecks.names,
                                       wrecks.count, &failed)
                   : kf_fail(&failed, KFR_MEMORY, "", "", "no memory for a batch");
    }
    if (rv && err)
        *err = failed;
    *count = rv ? 0 : wrecks.count;
    kf_batch_free(batch);
    forget(&wrecks);
    close_reader(reader);
    return rv;
}
