/* SPDX-License-Identifier: MIT */
#include "clone/softhsm_index.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    RESCAN_MS = 200, /* not more often than that, however many objects are missed */
    LOOKS = 5        /* at a handle, while other programs open files too */
};

struct entry {
    uint8_t view[KF_VIEW_BYTES];
    char *name;
    struct kf_store_mark mark;
    CK_OBJECT_HANDLE handle; /* 0: not known yet */
    bool seen; /* by the scan that is going on */
};

/* Which file SoftHSM was seen to open for a handle. */
struct sighting {
    CK_OBJECT_HANDLE handle;
    char name[KF_STORE_NAME];
};

struct kf_index {
    struct kf_vault *vault;
    struct kf_session *session;
    struct entry *entries; /* by view, then name */
    size_t count;
    size_t cap;
    bool scanned;
    bool unsorted;
    struct timespec scanned_at;
    struct timespec folder_at; /* when the folder had changed last */
    struct kf_writer scratch;
    struct kf_store_watch *watch;
    bool no_watch;
    char opened[NAME_MAX + 1];  /* kf_index_file's answer */
    struct sighting *sightings; /* by handle */
    size_t sighting_count;
    size_t sighting_cap;
    size_t untold; /* objects that were read and have no sighting */
};

struct kf_index *kf_index_new(struct kf_vault *vault, struct kf_session *session)
{
    struct kf_index *index = calloc(1, sizeof *index);

    if (index) {
        index->vault = vault;
        index->session = session;
    }
    return index;
}

void kf_index_free(struct kf_index *index)
{
    if (!index)
        return;
    for (size_t i = 0; i < index->count; i++)
        free(index->entries[i].name);
    free(index->entries);
    free(index->sightings);
    kf_writer_clear(&index->scratch);
    kf_store_watch_free(index->watch);
    free(index);
}

static kf_rv no_memory(struct kf_error *err)
{
    return kf_fail(err, KFR_MEMORY, "", "",
                   "no memory for the objects of a token store");
}

/* ---------------------------------------- entries */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static int by_view(const void *a, const void *b)
{
    int order = memcmp(((const struct entry *)a)->view, ((const struct entry *)b)->view,
                       KF_VIEW_BYTES);

    return order ? order : by_name(a, b);
}

static void sort(struct kf_index *index, int (*order)(const void *, const void *))
{
    if (index->count)
        qsort(index->entries, index->count, sizeof *index->entries, order);
}

static struct entry *push(struct kf_index *index, const char *name)
{
    struct entry *new;
    size_t more = index->cap ? index->cap * 2 : 256;

    if (index->count == index->cap) {
        struct entry *grown = realloc(index->entries, more * sizeof *grown);

        if (!grown)
            return NULL;
        index->entries = grown;
        index->cap = more;
    }
    new = &index->entries[index->count];
    memset(new, 0, sizeof *new);
    new->name = strdup(name);
    if (!new->name)
        return NULL;
    index->count++;
    return new;
}

static void drop_unseen(struct kf_index *index)
{
    size_t kept = 0;

    for (size_t i = 0; i < index->count; i++) {
        if (index->entries[i].seen)
            index->entries[kept++] = index->entries[i];
        else
            free(index->entries[i].name);
    }
    index->count = kept;
}

/* ---------------------------------------- scanning */

/* A file from which no object can be read is passed over, as SoftHSM does: no handle is
 * it. A failure of the system or of memory is one. */
static kf_rv scan_file(struct kf_index *index, struct entry *entry,
                       struct kf_error *err)
{
    struct kf_vault_object object;
    kf_rv rv;

    object.mark = (struct kf_store_mark){ 0 };
    rv = kf_vault_read(index->vault, entry->name, &object, err);

    entry->handle = 0;
    entry->mark = object.mark;
    memset(entry->view, 0, sizeof entry->view); /* the view of nothing */
    if (!rv && !kf_softhsm_view(&object.set, &index->scratch, entry->view))
        rv = no_memory(err);
    kf_vault_forget(index->vault);
    return rv == KFR_MEMORY || rv == KFR_CRYPTO ? rv : KFR_OK;
}

/* Those that are new or changed since the last time; entries are in order of names. */
static kf_rv scan_names(struct kf_index *index, char **names, size_t count,
                        struct kf_error *err)
{
    struct kf_store *store = kf_vault_store(index->vault);
    size_t old = index->count;
    size_t at = 0;
    kf_rv rv = KFR_OK;

    for (size_t i = 0; !rv && i < count; i++) {
        struct entry *entry = NULL;
        struct kf_store_mark now;

        while (at < old && strcmp(index->entries[at].name, names[i]) < 0)
            at++;
        if (at < old && strcmp(index->entries[at].name, names[i]) == 0)
            entry = &index->entries[at];
        if (!entry || !kf_store_mark(store, names[i], &now)
            || !kf_store_mark_equal(&now, &entry->mark)) {
            entry = entry ? entry : push(index, names[i]);
            rv = entry ? scan_file(index, entry, err) : no_memory(err);
        }
        if (entry)
            entry->seen = true;
    }
    return rv;
}

static struct timespec folder_changed(const struct kf_index *index)
{
    struct stat st = { 0 };

    fstat(kf_store_folder(kf_vault_store(index->vault)), &st);
    return st.st_mtim;
}

static kf_rv scan(struct kf_index *index, struct kf_error *err)
{
    char **names = NULL;
    size_t count = 0;
    struct timespec folder = folder_changed(index);
    kf_rv rv = kf_store_names(kf_vault_store(index->vault), &names, &count, err);

    if (rv)
        return rv;
    index->folder_at = folder;
    for (size_t i = 0; i < index->count; i++)
        index->entries[i].seen = false;
    sort(index, by_name);
    rv = scan_names(index, names, count, err);
    kf_store_names_free(names, count);
    if (!rv)
        drop_unseen(index);
    sort(index, by_view);
    index->unsorted = false;
    index->scanned = !rv;
    clock_gettime(CLOCK_MONOTONIC, &index->scanned_at);
    return rv;
}

/* A folder that changed is worth a look at once, files in it only now and then. */
static bool is_worth_a_scan(const struct kf_index *index)
{
    struct timespec folder = folder_changed(index);
    struct timespec now;

    if (folder.tv_sec != index->folder_at.tv_sec
        || folder.tv_nsec != index->folder_at.tv_nsec)
        return true;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - index->scanned_at.tv_sec) * 1000
               + (now.tv_nsec - index->scanned_at.tv_nsec) / 1000000
           >= RESCAN_MS;
}

/* ---------------------------------------- matching */

static size_t lower_bound(const struct kf_index *index, const uint8_t *view)
{
    size_t low = 0;
    size_t high = index->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (memcmp(index->entries[middle].view, view, KF_VIEW_BYTES) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Uses the handle under the watch. False: there is no watch, or no such object. */
static bool touch(struct kf_index *index, CK_OBJECT_HANDLE handle)
{
    if (!index->watch && !index->no_watch)
        index->watch = kf_store_watch_new(kf_vault_store(index->vault));
    index->no_watch = !index->watch;
    if (!index->watch)
        return false;
    kf_store_watch_start(index->watch);
    return kf_object_touch(index->session, handle, NULL) == KFR_OK;
}

size_t kf_index_which(struct kf_index *index, CK_OBJECT_HANDLE handle,
                      const char *const *names, size_t count)
{
    size_t found = count;

    for (int look = 0; found == count && look < LOOKS && touch(index, handle); look++)
        found = kf_store_watch_which(index->watch, names, count);
    return found;
}

const char *kf_index_file(struct kf_index *index, CK_OBJECT_HANDLE handle)
{
    for (int look = 0; look < LOOKS && touch(index, handle); look++)
        if (kf_store_watch_opened(index->watch, index->opened))
            return index->opened;
    return NULL;
}

/* ---------------------------------------- sightings */

/* Where the handle is, or belongs. */
static size_t sighting_at(const struct kf_index *index, CK_OBJECT_HANDLE handle)
{
    size_t low = 0;
    size_t high = index->sighting_count;

    if (high && index->sightings[high - 1].handle < handle)
        return high;
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (index->sightings[middle].handle < handle)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static const char *sighted(const struct kf_index *index, CK_OBJECT_HANDLE handle)
{
    size_t at = sighting_at(index, handle);

    return at < index->sighting_count && index->sightings[at].handle == handle
               ? index->sightings[at].name
               : NULL;
}

/* One that is not remembered (false) is looked for when it is needed. */
static bool remember(struct kf_index *index, CK_OBJECT_HANDLE handle, const char *name)
{
    size_t at = sighting_at(index, handle);
    size_t more = index->sighting_cap ? index->sighting_cap * 2 : 256;
    struct sighting *all = index->sightings;

    if (!kf_store_is_uuid_name(name))
        return false;
    if (at == index->sighting_count || all[at].handle != handle) {
        if (index->sighting_count == index->sighting_cap) {
            all = realloc(all, more * sizeof *all);
            if (!all)
                return false;
            index->sightings = all;
            index->sighting_cap = more;
        }
        memmove(all + at + 1, all + at, (index->sighting_count - at) * sizeof *all);
        index->sighting_count++;
    }
    all[at].handle = handle;
    memcpy(all[at].name, name, KF_STORE_NAME);
    return true;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

bool kf_index_tally(struct kf_index *index, char **names, size_t count,
                    struct kf_index_tally *out)
{
    size_t n = index->sighting_count, at = 0;
    const char **seen = calloc(n + 1, sizeof *seen);

    *out = (struct kf_index_tally){ .spare = index->untold };
    if (!seen)
        return false;
    for (size_t i = 0; i < n; i++)
        seen[i] = index->sightings[i].name;
    qsort(seen, n, sizeof *seen, by_text);
    for (size_t i = 1; i < n; i++)
        out->doubles += strcmp(seen[i - 1], seen[i]) == 0;
    for (size_t i = 0; i < count; i++) {
        while (at < n && strcmp(seen[at], names[i]) < 0)
            at++;
        if (at == n || strcmp(seen[at], names[i]) != 0) {
            char *name = names[i];

            names[i] = names[out->unseen];
            names[out->unseen++] = name;
        }
    }
    free(seen);
    return true;
}

void kf_index_untold(struct kf_index *index)
{
    index->untold++;
}

void kf_index_unsee(struct kf_index *index)
{
    index->sighting_count = 0;
    index->untold = 0;
}

kf_rv kf_index_read(struct kf_index *index, CK_OBJECT_HANDLE handle,
                    struct kf_vault_object *out, struct kf_error *err)
{
    const char *name = kf_index_file(index, handle);
    kf_rv rv;

    if (!name)
        return kf_fail(err, KFR_NOT_FOUND, "", "",
                       "it cannot be told which file object %lu is", handle);
    rv = kf_vault_read(index->vault, name, out, err);
    if (!rv && !remember(index, handle, name))
        kf_index_untold(index);
    return rv;
}

/* Without a watch: the first that is nobody's yet. Each handle still gets a file of its
 * own, so that what is cloned is the right lot of objects. */
static size_t first_free(const struct entry *entries, size_t count)
{
    size_t i = 0;

    while (i < count && entries[i].handle)
        i++;
    return i;
}

/* Of the `count` entries from `first` on, which all look like it. */
static struct entry *which_of(struct kf_index *index, CK_OBJECT_HANDLE handle,
                              size_t first, size_t count)
{
    struct entry *entries = index->entries + first;
    const char **names;
    size_t found;

    for (size_t i = 0; i < count; i++)
        if (entries[i].handle == handle)
            return &entries[i];
    if (count == 1 && !entries[0].handle)
        return entries;
    names = calloc(count, sizeof *names);
    if (!names)
        return NULL;
    for (size_t i = 0; i < count; i++)
        names[i] = entries[i].name;
    found = kf_index_which(index, handle, names, count);
    free(names);
    if (found == count && index->no_watch)
        found = first_free(entries, count);
    return found < count ? &entries[found] : NULL;
}

/* The entry of that view and handle; NULL with KFR_VANISHED or KFR_CONFLICT. */
static kf_rv match(struct kf_index *index, CK_OBJECT_HANDLE handle, const uint8_t *view,
                   struct entry **out, struct kf_error *err)
{
    size_t first;
    size_t count = 0;

    if (index->unsorted)
        sort(index, by_view);
    index->unsorted = false;
    first = lower_bound(index, view);
    while (first + count < index->count
           && memcmp(index->entries[first + count].view, view, KF_VIEW_BYTES) == 0)
        count++;
    *out = count ? which_of(index, handle, first, count) : NULL;
    if (*out) {
        (*out)->handle = handle;
        return KFR_OK;
    }
    if (count)
        return kf_fail(
            err, KFR_CONFLICT, "", "give the objects different labels or ids",
            "%zu objects look the same, and which of them is which cannot be told",
            count);
    return kf_fail(err, KFR_VANISHED, "",
                   "run again when no other program changes the token",
                   "no file of the token store %s holds this object as it was read",
                   kf_store_path(kf_vault_store(index->vault)));
}

static kf_rv find(struct kf_index *index, CK_OBJECT_HANDLE handle, const uint8_t *view,
                  struct entry **out, struct kf_error *err)
{
    kf_rv rv = index->scanned ? KFR_OK : scan(index, err);

    if (!rv)
        rv = match(index, handle, view, out, err);
    if ((rv == KFR_VANISHED || rv == KFR_CONFLICT) && is_worth_a_scan(index)) {
        rv = scan(index, err);
        if (!rv)
            rv = match(index, handle, view, out, err);
    }
    return rv;
}

static kf_rv view_of(struct kf_index *index, const struct kf_attributes *known,
                     uint8_t *view, struct kf_error *err)
{
    if (!kf_attributes_bool(known, CKA_TOKEN, true))
        return kf_fail(err, KFR_NOT_CLONABLE, "", "",
                       "it is a session object: it lies in no store");
    return kf_softhsm_view(known, &index->scratch, view) ? KFR_OK : no_memory(err);
}

kf_rv kf_index_name(struct kf_index *index, CK_OBJECT_HANDLE handle,
                    const struct kf_attributes *known, const char **name,
                    struct kf_error *err)
{
    uint8_t view[KF_VIEW_BYTES];
    struct entry *entry = NULL;
    kf_rv rv = view_of(index, known, view, err);

    if (!rv)
        rv = find(index, handle, view, &entry, err);
    if (!rv)
        *name = entry->name;
    return rv;
}

/* Between scan and now the file may have become another's, or be gone. */
static kf_rv open_named(struct kf_index *index, const char *name,
                        const struct kf_attributes *known, struct kf_vault_object *out,
                        struct kf_error *err)
{
    const char *unfinished;
    kf_rv rv = kf_vault_read(index->vault, name, out, err);

    if (rv)
        return rv;
    unfinished = kf_softhsm_unfinished(&out->set);
    if (unfinished)
        return kf_fail(err, KFR_NOT_CLONABLE, "",
                       "run again when it is whole, or remove it",
                       "the object is not whole: %s", unfinished);
    if (!kf_softhsm_looks_same(&out->set, known))
        return kf_fail(err, KFR_VANISHED, "", "run again",
                       "the object was just changed");
    return KFR_OK;
}

static kf_rv open_matching(struct kf_index *index, CK_OBJECT_HANDLE handle,
                           const struct kf_attributes *known, const char **name,
                           struct kf_vault_object *out, struct kf_error *err)
{
    uint8_t view[KF_VIEW_BYTES];
    struct entry *entry = NULL;
    kf_rv rv = view_of(index, known, view, err);

    if (!rv)
        rv = find(index, handle, view, &entry, err);
    if (!rv)
        rv = open_named(index, entry->name, known, out, err);
    if (rv == KFR_VANISHED && entry) {
        rv = scan(index, err);
        if (!rv)
            rv = match(index, handle, view, &entry, err);
        if (!rv)
            rv = open_named(index, entry->name, known, out, err);
    }
    if (!rv)
        *name = entry->name;
    return rv;
}

kf_rv kf_index_open(struct kf_index *index, CK_OBJECT_HANDLE handle,
                    const struct kf_attributes *known, const char **name,
                    struct kf_vault_object *out, struct kf_error *err)
{
    *name = sighted(index, handle);
    if (*name && open_named(index, *name, known, out, NULL) == KFR_OK)
        return KFR_OK;
    return open_matching(index, handle, known, name, out, err);
}

/* ---------------------------------------- own changes */

bool kf_index_add(struct kf_index *index, const char *name,
                  const uint8_t view[KF_VIEW_BYTES], CK_OBJECT_HANDLE handle)
{
    struct entry *entry;

    remember(index, handle, name);
    if (!index->scanned)
        return true;
    entry = push(index, name);
    if (!entry)
        return false;
    memcpy(entry->view, view, KF_VIEW_BYTES);
    entry->handle = handle;
    kf_store_mark(kf_vault_store(index->vault), name, &entry->mark);
    index->unsorted = true;
    return true;
}

void kf_index_stale(struct kf_index *index)
{
    index->scanned = false;
}
