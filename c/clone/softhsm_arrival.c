/* SPDX-License-Identifier: MIT */
#include "clone/softhsm_arrival.h"

#include "clone/softhsm_end.h"
#include "clone/softhsm_plan.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FOUND_ROUNDS = 8, FOUND_PAUSE_MS = 25 };

struct kf_staged {
    char name[KF_STORE_NAME];
    struct kf_softhsm_kind kind;
    uint8_t view[KF_VIEW_BYTES];
    uint8_t rest[KF_VIEW_BYTES];
    CK_OBJECT_HANDLE handle; /* 0: not seen in the token yet */
};

/* ---------------------------------------- stage */

static struct kf_staged *next_staged(struct kf_softhsm_end *end)
{
    size_t more = end->cap ? end->cap * 2 : 64;
    struct kf_staged *grown;

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

static kf_rv stage_plan(struct kf_softhsm_end *end, const struct kf_attributes *plain,
                        struct kf_error *err)
{
    struct kf_staged *staged = next_staged(end);
    kf_rv rv;

    if (!staged || !kf_softhsm_view(plain, &end->scratch, staged->view)
        || !kf_softhsm_rest(plain, end->rest_key, &end->secret, staged->rest))
        return kf_softhsm_no_memory(err);
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

kf_rv kf_softhsm_stage(void *state, const struct kf_sealed *sealed,
                       const struct kf_changes *changes, struct kf_error *err)
{
    struct kf_softhsm_end *end = state;
    struct kf_plan plan;
    kf_rv rv = kf_plan_make(&plan, sealed, changes, end->domain, err);

    if (!rv)
        rv = stage_plan(end, &plan.set, err);
    kf_plan_clear(&plan);
    return rv;
}

/* ---------------------------------------- foresee */

static kf_rv check_folder(struct kf_softhsm_end *end, struct kf_error *err)
{
    struct kf_store *store = kf_vault_store(end->vault);

    return faccessat(kf_store_folder(store), ".", W_OK | X_OK, AT_EACCESS) == 0
               ? KFR_OK
               : kf_fail_errno(err, "access", "%s", kf_store_path(store));
}

/* The file is made in memory, and goes no further. */
kf_rv kf_softhsm_foresee(void *state, const struct kf_domain *domain,
                         const struct kf_sealed *sealed,
                         const struct kf_changes *changes, char lost[KF_LOST_MAX],
                         struct kf_error *err)
{
    struct kf_softhsm_end *end = state;
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

static kf_rv find_all(struct kf_softhsm_end *end, struct kf_handles *out,
                      struct kf_error *err)
{
    kf_rv rv = kf_objects_find(end->session, NULL, &out->at, &out->count, err);

    if (!rv && out->count)
        qsort(out->at, out->count, sizeof *out->at, kf_handle_order);
    return rv;
}

static bool has_handle(const struct kf_handles *handles, CK_OBJECT_HANDLE handle)
{
    return handles->count
           && bsearch(&handle, handles->at, handles->count, sizeof handle,
                      kf_handle_order);
}

/* The staged ones, in the two orders in which they are looked for. */
struct orders {
    struct kf_staged **by_name;
    struct kf_staged **by_view;
    size_t count;
};

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct kf_staged *const *)a)->name,
                  (*(struct kf_staged *const *)b)->name);
}

static int by_view(const void *a, const void *b)
{
    return memcmp((*(struct kf_staged *const *)a)->view,
                  (*(struct kf_staged *const *)b)->view, KF_VIEW_BYTES);
}

static struct kf_staged *named(const struct orders *orders, const char *name)
{
    struct kf_staged wanted;
    struct kf_staged *key = &wanted;
    struct kf_staged **found;

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
static struct kf_staged *pick(struct kf_softhsm_end *end,
                              struct kf_staged *const *twins, size_t count,
                              CK_OBJECT_HANDLE handle)
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

static struct kf_staged *seen_as(struct kf_softhsm_end *end,
                                 const struct orders *orders, CK_OBJECT_HANDLE handle,
                                 const uint8_t *view)
{
    size_t first = first_with(orders, view);
    size_t twins = 0;

    while (first + twins < orders->count
           && memcmp(orders->by_view[first + twins]->view, view, KF_VIEW_BYTES) == 0)
        twins++;
    return twins ? pick(end, orders->by_view + first, twins, handle) : NULL;
}

/* Everything that was written is read back from the file under its final name. */
static bool file_is_right(struct kf_softhsm_end *end, const struct kf_staged *staged)
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
static kf_rv token_view(struct kf_softhsm_end *end, CK_OBJECT_HANDLE handle,
                        uint8_t view[KF_VIEW_BYTES], struct kf_error *err)
{
    struct kf_attributes *known = NULL;
    kf_rv rv = kf_object_read(end->session, handle, &known, NULL, NULL, err);

    if (!rv && !kf_softhsm_view(known, &end->scratch, view))
        rv = kf_softhsm_no_memory(err);
    kf_attributes_free(known);
    return rv;
}

/* A handle that is new in the token is given to the staged object that it is: the one
 * whose file SoftHSM opens for it. What is in that file is read back; the first of each
 * kind is read through PKCS#11 too, and so is all where the file cannot be told. One
 * that is nobody's belongs to another program. */
static kf_rv recognise(struct kf_softhsm_end *end, const struct orders *orders,
                       CK_OBJECT_HANDLE handle, size_t *missing, struct kf_error *err)
{
    const char *name = kf_index_file(end->index, handle);
    struct kf_staged *staged = name ? named(orders, name) : NULL;
    bool proved = staged && kf_proved_agreed(&end->written, staged->kind);
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
        kf_proved_note(&end->written, staged->kind, true);
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
static kf_rv find_planted(struct kf_softhsm_end *end, const struct orders *orders,
                          struct kf_error *err)
{
    size_t missing = end->count;
    kf_rv rv = KFR_OK;

    for (int round = 0; !rv && missing && round < FOUND_ROUNDS; round++) {
        struct kf_handles now = { 0 };

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

static struct kf_staged **in_order(struct kf_softhsm_end *end,
                                   int (*order)(const void *, const void *))
{
    struct kf_staged **all = calloc(end->count ? end->count : 1, sizeof *all);

    for (size_t i = 0; all && i < end->count; i++)
        all[i] = &end->staged[i];
    if (all && end->count)
        qsort(all, end->count, sizeof *all, order);
    return all;
}

static kf_rv find_and_check(struct kf_softhsm_end *end, struct kf_error *err)
{
    struct orders orders = { .by_name = in_order(end, by_name),
                             .by_view = in_order(end, by_view),
                             .count = end->count };
    kf_rv rv = orders.by_name && orders.by_view ? KFR_OK : kf_softhsm_no_memory(err);

    if (!rv)
        rv = find_planted(end, &orders, err);
    free(orders.by_name);
    free(orders.by_view);
    return rv;
}

/* The files of the handles to remove; handles that are gone already have none. */
static kf_rv names_to_remove(struct kf_softhsm_end *end, const CK_OBJECT_HANDLE *remove,
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
        rv = names[*name_count] ? KFR_OK : kf_softhsm_no_memory(err);
        *name_count += !rv;
    }
    return rv;
}

/* Fills planted from what was seen; gives how many are not there. */
static size_t tell(struct kf_softhsm_end *end, struct kf_planted *planted)
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

static void tell_undone(struct kf_softhsm_end *end, struct kf_planted *planted,
                        kf_rv rv, const struct kf_error *why)
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

static kf_rv undo_missing(struct kf_softhsm_end *end, struct kf_error *err)
{
    const char **names = calloc(end->count, sizeof *names);
    size_t count = 0;
    kf_rv rv;

    if (!names)
        return kf_softhsm_no_memory(err);
    for (size_t i = 0; i < end->count; i++)
        if (!end->staged[i].handle)
            names[count++] = end->staged[i].name;
    rv = kf_batch_undo(end->batch, names, count, err);
    free(names);
    return rv;
}

static void index_planted(struct kf_softhsm_end *end)
{
    for (size_t i = 0; i < end->count; i++)
        if (end->staged[i].handle)
            kf_index_add(end->index, end->staged[i].name, end->staged[i].view,
                         end->staged[i].handle);
}

/* What is published stays or goes. */
static kf_rv decide(struct kf_softhsm_end *end, enum kf_commit mode, char **names,
                    size_t name_count, struct kf_planted *planted, struct kf_error *err)
{
    size_t missing = tell(end, planted);
    kf_rv rv = KFR_OK;

    if (missing && mode == KF_COMMIT_ALL)
        return kf_fail(err, KFR_DIFFERS, "",
                       "nothing was changed; run again when no other program is at work",
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

static kf_rv publish_and_check(struct kf_softhsm_end *end, enum kf_commit mode,
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

kf_rv kf_softhsm_commit(void *state, enum kf_commit mode,
                        const CK_OBJECT_HANDLE *remove, size_t remove_count,
                        struct kf_planted *planted, struct kf_error *err)
{
    struct kf_softhsm_end *end = state;
    char **names = calloc(remove_count ? remove_count : 1, sizeof *names);
    size_t name_count = 0;
    struct kf_error why = { 0 };
    kf_rv rv = KFR_MEMORY;

    for (size_t i = 0; i < end->count; i++)
        planted[i] = (struct kf_planted){ 0 };
    if (!names) {
        kf_softhsm_no_memory(&why);
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
    kf_softhsm_end_abort(end);
    return rv;
}
