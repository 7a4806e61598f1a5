/* SPDX-License-Identifier: MIT */
#include "clone/softhsm_unlisted.h"

#include "clone/softhsm_end.h"

#include <stdlib.h>

static const char HINT[] = "run again; where it stays so, the module cannot be relied on: "
                           "use the SoftHSM that made the token";

/* Whether the file is a whole object of the token, and none of the domain's keys, which
 * are read from the store anyway. A survey tells of the others (softhsm_survey). */
static kf_rv is_missed(struct kf_softhsm_end *end, const char *name, bool *missed,
                       struct kf_error *err)
{
    struct kf_vault_object object;
    kf_rv rv = kf_vault_load(end->vault, name, &object, err);

    *missed = !rv && kf_attributes_get(&object.set, CKA_CLASS) &&
              kf_attributes_get(&object.set, CKA_MODIFIABLE) &&
              kf_attributes_bool(&object.set, CKA_TOKEN, false);
    if (*missed && !kf_vault_decrypt(end->vault, &object, NULL))
        *missed = !kf_domain_is_any_key(&object.set);
    kf_vault_forget(end->vault);
    return rv == KFR_STORE || rv == KFR_DAMAGED || rv == KFR_VANISHED ? KFR_OK : rv;
}

/* Brings those to the front. */
static kf_rv keep_missed(struct kf_softhsm_end *end, char **names, size_t *count,
                         struct kf_error *err)
{
    size_t kept = 0;
    bool missed = false;
    kf_rv rv = KFR_OK;

    for (size_t i = 0; !rv && i < *count; i++) {
        rv = is_missed(end, names[i], &missed, err);
        if (!rv && missed) {
            char *name = names[i];

            names[i] = names[kept];
            names[kept++] = name;
        }
    }
    *count = kept;
    return rv;
}

static void tell_unseen(const struct kf_index_tally *tally, char **names,
                        struct kf_error *list, size_t *count)
{
    size_t n = tally->spare ? 1 : tally->unseen;

    for (size_t i = 0; i < n && tally->spare; i++)
        kf_fail(&list[(*count)++], KFR_MODULE, "C_FindObjects", HINT,
                "the token has %zu objects that the module does not list",
                tally->unseen - tally->spare);
    for (size_t i = 0; i < n && !tally->spare; i++)
        kf_fail(&list[(*count)++], KFR_MODULE, "C_FindObjects", HINT,
                "%s is an object of the token, and the module does not list it",
                names[i]);
}

/* Where it cannot be told which the unseen are, one error for all of them. */
static kf_rv tell(const struct kf_index_tally *tally, char **names,
                  struct kf_error **out, size_t *count, struct kf_error *err)
{
    *out = calloc(tally->unseen + 1, sizeof **out);
    if (!*out)
        return kf_softhsm_no_memory(err);
    if (tally->doubles)
        kf_fail(&(*out)[(*count)++], KFR_CONFLICT, "C_FindObjects", HINT,
                "the module numbers its objects anew while they are read");
    if (tally->unseen > tally->spare)
        tell_unseen(tally, names, *out, count);
    return KFR_OK;
}

kf_rv kf_softhsm_unlisted(void *state, struct kf_error **out, size_t *count,
                          struct kf_error *err)
{
    struct kf_softhsm_end *end = state;
    struct kf_index_tally tally = { 0 };
    char **names = NULL;
    size_t n = 0;
    kf_rv rv = kf_store_names(kf_vault_store(end->vault), &names, &n, err);

    *out = NULL;
    *count = 0;
    if (!rv && !kf_index_tally(end->index, names, n, &tally))
        rv = kf_softhsm_no_memory(err);
    if (!rv && tally.unseen > tally.spare)
        rv = keep_missed(end, names, &tally.unseen, err);
    if (!rv && (tally.unseen > tally.spare || tally.doubles))
        rv = tell(&tally, names, out, count, err);
    if (!rv && *count)
        kf_index_unsee(end->index);
    kf_store_names_free(names, n);
    return rv;
}
