/* SPDX-License-Identifier: MIT */
#include "clone/softhsm_store.h"

#include "base/file.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <p11-kit/pkcs11.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

enum {
    CONF_MAX = 256 * 1024,
    NAMES_MAX = 4 * 1000 * 1000,
    LOCK_WAIT_MS = 1000,
    PAUSE_MS = 10,    /* between two looks at a torn file */
    PATIENCE = 20,    /* looks */
    FRESH_MS = 2000,  /* a torn file older than this is nobody's work in progress */
    SETTLE_MS = 30,   /* a whole file younger than this may be about to grow */
    UUID_CHARS = 36,
    SERIAL_CHARS = 16
};

/* OSAttributes.h: CKA_VENDOR_DEFINED + 0x5348 ("SH") and up. */
enum { CKA_OS_SERIAL = 0x534A, CKA_OS_USER_PIN = 0x534D };
#define VENDOR(n) (0x80000000UL + (n))

static const char TOKEN_FILE[] = "token.object";
static const char OBJECT_SUFFIX[] = ".object";

struct kf_store {
    char path[PATH_MAX];
    int folder;
    struct stat owner;
};

/* ---------------------------------------- configuration */

static void copy_text(char *out, size_t size, const char *text)
{
    snprintf(out, size, "%s", text);
}

static void find_conf(const char *conf, char out[PATH_MAX])
{
    const char *env = getenv("SOFTHSM2_CONF");
    const char *home = getenv("HOME");
    const struct passwd *user = home && *home ? NULL : getpwuid(getuid());

    if (conf || env) {
        copy_text(out, PATH_MAX, conf ? conf : env);
        return;
    }
    if (user)
        home = user->pw_dir;
    snprintf(out, PATH_MAX, "%s/.config/softhsm2/softhsm2.conf", home ? home : "");
    if (access(out, R_OK) == 0)
        return;
    copy_text(out, PATH_MAX, "/etc/softhsm/softhsm2.conf");
    if (access(out, F_OK) != 0 && access("/etc/softhsm2.conf", F_OK) == 0)
        copy_text(out, PATH_MAX, "/etc/softhsm2.conf");
}

static char *trim(char *text)
{
    char *end;

    while (isspace((unsigned char)*text))
        text++;
    end = text + strlen(text);
    while (end > text && isspace((unsigned char)end[-1]))
        end--;
    *end = '\0';
    return text;
}

static void take_tokendir(struct kf_softhsm_conf *out, const char *value)
{
    copy_text(out->tokendir, sizeof out->tokendir, value);
    out->names_tokendir = true;
}

/* `name = value`, ended by a comment or a second `=` (SimpleConfigLoader.cpp). */
static void read_conf_line(char *line, struct kf_softhsm_conf *out)
{
    char *value;
    char *name;

    line[strcspn(line, "#\r")] = '\0';
    value = strchr(line, '=');
    if (!value)
        return;
    *value++ = '\0';
    value[strcspn(value, "=")] = '\0';
    name = trim(line);
    value = trim(value);
    if (*value && strcmp(name, "directories.tokendir") == 0)
        take_tokendir(out, value);
    if (*value && strcmp(name, "objectstore.backend") == 0)
        out->is_file_backend = strcmp(value, "file") == 0;
}

kf_rv kf_softhsm_conf_read(const char *conf, struct kf_softhsm_conf *out,
                           struct kf_error *err)
{
    kf_rv rv = KFR_SYSTEM;
    struct kf_secret *text = NULL;
    char *rest = NULL;

    find_conf(conf, out->path);
    copy_text(out->tokendir, sizeof out->tokendir, "/var/lib/softhsm/tokens");
    out->is_file_backend = true;
    out->names_tokendir = false;
    rv = kf_file_read(out->path, CONF_MAX, &text, err);
    if (rv)
        goto done;
    rv = KFR_MEMORY;
    if (!kf_secret_append(text, "", 1)) {
        kf_fail(err, rv, "", "", "no memory for %s", out->path);
        goto done;
    }
    for (char *line = strtok_r((char *)text->data, "\n", &rest); line;
         line = strtok_r(NULL, "\n", &rest))
        read_conf_line(line, out);
    rv = KFR_OK;
done:
    kf_secret_free(text);
    return rv;
}

/* ---------------------------------------- reading one file */

static long age_ms(const struct timespec *then)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec - then->tv_sec > 3600 || now.tv_sec < then->tv_sec)
        return LONG_MAX;
    return (now.tv_sec - then->tv_sec) * 1000 + (now.tv_nsec - then->tv_nsec) / 1000000;
}

static void pause_ms(long ms)
{
    struct timespec pause = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

    nanosleep(&pause, NULL);
}

static void mark_of(const struct stat *st, struct kf_store_mark *out)
{
    out->inode = st->st_ino;
    out->size = st->st_size;
    out->changed = st->st_mtim;
}

bool kf_store_mark_equal(const struct kf_store_mark *a, const struct kf_store_mark *b)
{
    return a->inode == b->inode && a->size == b->size
           && a->changed.tv_sec == b->changed.tv_sec
           && a->changed.tv_nsec == b->changed.tv_nsec;
}

bool kf_store_mark(struct kf_store *store, const char *name, struct kf_store_mark *out)
{
    struct stat st;

    if (fstatat(store->folder, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
        return false;
    mark_of(&st, out);
    return true;
}

static bool fit(struct kf_secret *into, size_t len)
{
    kf_secret_cut(into, 0);
    if (len > into->cap) {
        size_t cap = len < 4096 ? 4096 : len;
        unsigned char *data = kf_secret_alloc(cap);

        if (!data)
            return false;
        kf_secret_release(into->data, into->cap);
        into->data = data;
        into->cap = cap;
    }
    into->len = len;
    return true;
}

/* All of fd, which is locked. A file that grows or shrinks meanwhile reads as torn. */
static kf_rv slurp(int fd, const char *name, struct kf_secret *into, struct stat *st,
                   struct kf_error *err)
{
    ssize_t got;

    if (fstat(fd, st))
        return kf_fail_errno(err, "fstat", "%s", name);
    if (!S_ISREG(st->st_mode))
        return kf_fail(err, KFR_STORE, "", "", "%s is no regular file", name);
    if (st->st_size > KF_STORE_FILE_MAX)
        return kf_fail(err, KFR_LIMIT, "", "", "%s is larger than any object", name);
    if (!fit(into, (size_t)st->st_size))
        return kf_fail(err, KFR_MEMORY, "", "", "no memory for %s", name);
    got = kf_file_read_full(fd, into->data, into->len);
    if (got < 0)
        return kf_fail_errno(err, "read", "%s", name);
    if ((size_t)got != into->len)
        return kf_fail(err, KFR_STORE, "", "", "%s is being written", name);
    return KFR_OK;
}

static kf_rv read_once(int folder, const char *name, struct kf_secret *into,
                       struct stat *st, struct kf_error *err)
{
    kf_rv rv = KFR_SYSTEM;
    int fd =
        openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0) {
        if (errno == ENOENT)
            rv = kf_fail(err, KFR_VANISHED, "open", "", "%s is not there any more",
                         name);
        else
            kf_fail_errno(err, "open", "%s", name);
        goto done;
    }
    rv = kf_file_lock(fd, false, LOCK_WAIT_MS, err);
    if (!rv)
        rv = slurp(fd, name, into, st, err);
done:
    if (fd >= 0)
        close(fd);
    return rv;
}

/* SoftHSM empties and rewrites a file in place, and unlocks it before it writes: what
 * does not parse is looked at again, and so is what was written this very moment unless
 * it is as good as an older one (`fresh`). */
static kf_rv load(int folder, const char *name, bool fresh, struct kf_secret *into,
                  struct kf_attribute *at, size_t *count, struct kf_store_mark *mark,
                  struct kf_error *err)
{
    kf_rv rv = KFR_STORE;
    struct kf_store_mark before = { 0 };
    struct stat st = { 0 };

    for (int look = 0; look < PATIENCE; look++) {
        struct kf_store_mark now;
        bool same;

        rv = read_once(folder, name, into, &st, err);
        if (rv && rv != KFR_STORE)
            return rv;
        mark_of(&st, &now);
        same = look > 0 && kf_store_mark_equal(&before, &now);
        before = now;
        if (!rv)
            rv = kf_store_records(into->data, into->len, at, count, err);
        if (!rv && (fresh || same || age_ms(&st.st_mtim) >= SETTLE_MS))
            break;
        if (rv && rv != KFR_STORE)
            return rv;
        if (rv && age_ms(&st.st_mtim) > FRESH_MS)
            break;
        pause_ms(PAUSE_MS);
    }
    if (mark)
        *mark = before;
    if (rv)
        kf_fail(err, rv, "", "the file was damaged by a crash or by hand",
                "no object can be read from %s", name);
    return rv;
}

kf_rv kf_store_load(struct kf_store *store, const char *name, struct kf_secret *into,
                    struct kf_attribute at[KF_STORE_RECORDS_MAX], size_t *count,
                    struct kf_store_mark *mark, struct kf_error *err)
{
    return load(store->folder, name, false, into, at, count, mark, err);
}

kf_rv kf_store_read(struct kf_store *store, const char *name,
                    struct kf_attributes **out, struct kf_error *err)
{
    kf_rv rv = KFR_MEMORY;
    struct kf_attribute at[KF_STORE_RECORDS_MAX];
    size_t count = 0;
    struct kf_secret *bytes = kf_secret_new(0);
    struct kf_attributes *set = kf_attributes_new(true);

    if (!bytes || !set)
        goto memory;
    rv = load(store->folder, name, false, bytes, at, &count, NULL, err);
    if (rv)
        goto done;
    for (size_t i = 0; i < count; i++)
        if (!kf_attributes_set(set, at[i].type, at[i].kind, at[i].value, at[i].len))
            goto memory;
    *out = set;
    set = NULL;
    goto done;
memory:
    rv = kf_fail(err, KFR_MEMORY, "", "", "no memory for %s", name);
done:
    kf_secret_free(bytes);
    kf_attributes_free(set);
    return rv;
}

/* ---------------------------------------- the token's folder */

static const struct kf_attribute *find(const struct kf_attribute *at, size_t count,
                                       uint64_t type, enum kf_kind kind)
{
    for (size_t i = 0; i < count; i++)
        if (at[i].type == type && at[i].kind == kind)
            return &at[i];
    return NULL;
}

/* *out stays NULL where token.object has no such record. */
static kf_rv token_record(int folder, uint64_t type, struct kf_secret **out,
                          struct kf_error *err)
{
    kf_rv rv = KFR_MEMORY;
    struct kf_attribute at[KF_STORE_RECORDS_MAX];
    const struct kf_attribute *record = NULL;
    size_t count = 0;
    struct kf_secret *bytes = kf_secret_new(0);

    if (!bytes) {
        kf_fail(err, rv, "", "", "no memory for %s", TOKEN_FILE);
        goto done;
    }
    /* Every C_Login writes this file anew, in one piece: what is in it is good. What is
     * not may be about to come. */
    for (int look = 0; !record && look < 2; look++) {
        rv = load(folder, TOKEN_FILE, look == 0, bytes, at, &count, NULL, err);
        if (rv)
            goto done;
        record = find(at, count, type, KF_BYTES);
    }
    if (record) {
        *out = kf_secret_from(record->value, record->len);
        if (!*out)
            rv = kf_fail(err, KFR_MEMORY, "", "", "no memory for %s", TOKEN_FILE);
    }
done:
    kf_secret_free(bytes);
    return rv;
}

kf_rv kf_store_user_blob(struct kf_store *store, struct kf_secret **out,
                         struct kf_error *err)
{
    kf_rv rv = token_record(store->folder, VENDOR(CKA_OS_USER_PIN), out, err);

    if (!rv && !*out)
        rv = kf_fail(err, CKR_USER_PIN_NOT_INITIALIZED, "", "",
                     "the token in %s has no user PIN yet", store->path);
    return rv;
}

static bool serial_matches(int folder, const char *serial, kf_rv *why,
                           struct kf_error *err)
{
    struct kf_secret *text = NULL;
    bool same;

    *why = token_record(folder, VENDOR(CKA_OS_SERIAL), &text, err);
    same = text && text->len == strlen(serial)
           && memcmp(text->data, serial, text->len) == 0;
    kf_secret_free(text);
    return same;
}

/* The folder's name holds the serial: u[19:23] u[24:36] of <uuid> (OSToken.cpp). */
static bool name_has_serial(const char *name, const char *serial)
{
    return strlen(name) == UUID_CHARS && strlen(serial) == SERIAL_CHARS
           && memcmp(name + 19, serial, 4) == 0
           && memcmp(name + 24, serial + 4, 12) == 0;
}

/* Among the folders of tokendir, first those whose name promises it. *found gets the
 * open folder, -1 when none. *why: why the likeliest one could not be read. */
static kf_rv search(DIR *tokens, const char *serial, bool by_name, int *found,
                    char name[NAME_MAX + 1], struct kf_error *why)
{
    struct kf_error ignored;
    const struct dirent *entry;

    rewinddir(tokens);
    while ((entry = readdir(tokens))) {
        kf_rv rv = KFR_OK;
        int folder;

        if (entry->d_name[0] == '.'
            || name_has_serial(entry->d_name, serial) != by_name)
            continue;
        folder = openat(dirfd(tokens), entry->d_name,
                        O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (folder < 0) {
            if (by_name)
                kf_fail_errno(why, "open", "the token's folder %s", entry->d_name);
            continue;
        }
        if (!serial_matches(folder, serial, &rv, by_name ? why : &ignored)) {
            close(folder);
            continue;
        }
        if (*found >= 0) {
            close(folder);
            return kf_fail(why, KFR_AMBIGUOUS, "", "remove the copy",
                           "two folders hold the token %s", serial);
        }
        *found = folder;
        copy_text(name, NAME_MAX + 1, entry->d_name);
    }
    return KFR_OK;
}

static kf_rv find_folder(const struct kf_softhsm_conf *conf, const char *serial,
                         struct kf_store *store, struct kf_error *err)
{
    kf_rv rv = KFR_NOT_FOUND;
    struct kf_error why = { 0 };
    char name[NAME_MAX + 1];
    DIR *tokens = opendir(conf->tokendir);
    int n;

    if (!tokens) {
        rv = kf_fail_errno(err, "opendir", "the token store %s", conf->tokendir);
        goto done;
    }
    rv = search(tokens, serial, true, &store->folder, name, &why);
    if (!rv && store->folder < 0)
        rv = search(tokens, serial, false, &store->folder, name, &why);
    if (!rv && store->folder < 0)
        rv = why.rv ? why.rv : KFR_NOT_FOUND;
    if (rv) {
        if (why.rv && err)
            *err = why;
        else
            kf_fail(err, rv, "", "", "no token with serial number %s in %s", serial,
                    conf->tokendir);
        goto done;
    }
    rv = KFR_LIMIT;
    n = snprintf(store->path, sizeof store->path, "%s/%s", conf->tokendir, name);
    if (n < 0 || (size_t)n >= sizeof store->path) {
        kf_fail(err, rv, "", "", "the path of the token store is too long");
        goto done;
    }
    rv = KFR_OK;
done:
    if (tokens)
        closedir(tokens);
    return rv;
}

kf_rv kf_store_open(const struct kf_softhsm_conf *conf, const char *serial,
                    struct kf_store **out, struct kf_error *err)
{
    kf_rv rv = KFR_MEMORY;
    struct kf_store *store = calloc(1, sizeof *store);

    if (!store) {
        kf_fail(err, rv, "", "", "no memory for a token store");
        goto done;
    }
    store->folder = -1;
    rv = find_folder(conf, serial, store, err);
    if (rv)
        goto done;
    if (fstatat(store->folder, TOKEN_FILE, &store->owner, AT_SYMLINK_NOFOLLOW)) {
        rv = kf_fail_errno(err, "stat", "%s/%s", store->path, TOKEN_FILE);
        goto done;
    }
    *out = store;
    store = NULL;
done:
    kf_store_free(store);
    return rv;
}

void kf_store_free(struct kf_store *store)
{
    if (!store)
        return;
    if (store->folder >= 0)
        close(store->folder);
    free(store);
}

const char *kf_store_path(const struct kf_store *store)
{
    return store->path;
}

int kf_store_folder(const struct kf_store *store)
{
    return store->folder;
}

const struct stat *kf_store_owner(const struct kf_store *store)
{
    return &store->owner;
}

/* ---------------------------------------- names */

bool kf_store_is_uuid_name(const char *name)
{
    if (strlen(name) != UUID_CHARS + sizeof OBJECT_SUFFIX - 1
        || strcmp(name + UUID_CHARS, OBJECT_SUFFIX) != 0)
        return false;
    for (size_t i = 0; i < UUID_CHARS; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;

        if (dash ? name[i] != '-' : !strchr("0123456789abcdef", name[i]))
            return false;
    }
    return true;
}

static bool is_object_name(const char *name)
{
    size_t len = strlen(name);
    size_t tail = sizeof OBJECT_SUFFIX - 1;

    return len > tail && len <= NAME_MAX
           && strcmp(name + len - tail, OBJECT_SUFFIX) == 0
           && strcmp(name, TOKEN_FILE) != 0;
}

static bool is_object_file(int folder, const struct dirent *entry)
{
    struct stat st;

    if (!is_object_name(entry->d_name))
        return false;
    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type == DT_REG;
    return fstatat(folder, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0
           && S_ISREG(st.st_mode);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool push_name(char ***names, size_t *count, size_t *cap, const char *name)
{
    if (*count == *cap) {
        size_t more = *cap ? *cap * 2 : 64;
        char **grown = more <= NAMES_MAX ? realloc(*names, more * sizeof *grown) : NULL;

        if (!grown)
            return false;
        *names = grown;
        *cap = more;
    }
    (*names)[*count] = strdup(name);
    return (*names)[*count] && ++*count;
}

kf_rv kf_store_names(struct kf_store *store, char ***out, size_t *count,
                     struct kf_error *err)
{
    kf_rv rv = KFR_SYSTEM;
    char **names = NULL;
    size_t n = 0;
    size_t cap = 0;
    const struct dirent *entry;
    int fd = openat(store->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;

    if (!folder) {
        kf_fail_errno(err, "opendir", "%s", store->path);
        goto done;
    }
    while (errno = 0, (entry = readdir(folder))) {
        if (is_object_file(fd, entry) && !push_name(&names, &n, &cap, entry->d_name)) {
            rv = kf_fail(err, KFR_MEMORY, "", "", "no memory for the names of %s",
                         store->path);
            goto done;
        }
    }
    if (errno) {
        kf_fail_errno(err, "readdir", "%s", store->path);
        goto done;
    }
    if (n)
        qsort(names, n, sizeof *names, by_text);
    *out = names;
    *count = n;
    names = NULL;
    rv = KFR_OK;
done:
    kf_store_names_free(names, n);
    if (folder)
        closedir(folder);
    else if (fd >= 0)
        close(fd);
    return rv;
}

void kf_store_names_free(char **names, size_t count)
{
    for (size_t i = 0; names && i < count; i++)
        free(names[i]);
    free(names);
}

/* ---------------------------------------- watching */

struct kf_store_watch {
    int fd;
};

struct kf_store_watch *kf_store_watch_new(struct kf_store *store)
{
    struct kf_store_watch *watch = calloc(1, sizeof *watch);

    if (!watch)
        return NULL;
    watch->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (watch->fd >= 0
        && inotify_add_watch(watch->fd, store->path, IN_OPEN | IN_ONLYDIR) >= 0)
        return watch;
    kf_store_watch_free(watch);
    return NULL;
}

void kf_store_watch_free(struct kf_store_watch *watch)
{
    if (!watch)
        return;
    if (watch->fd >= 0)
        close(watch->fd);
    free(watch);
}

enum { EVENT_BYTES = 64 * 1024 };

static size_t next_events(struct kf_store_watch *watch, unsigned char *bytes)
{
    ssize_t got = read(watch->fd, bytes, EVENT_BYTES);

    return got > 0 ? (size_t)got : 0;
}

void kf_store_watch_start(struct kf_store_watch *watch)
{
    unsigned char bytes[EVENT_BYTES] __attribute__((aligned(8)));

    while (next_events(watch, bytes))
        continue;
}

static size_t which(const char *name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return count;
}

size_t kf_store_watch_which(struct kf_store_watch *watch, const char *const *names,
                            size_t count)
{
    unsigned char bytes[EVENT_BYTES] __attribute__((aligned(8)));
    size_t found = count;
    bool several = false;
    size_t len;

    while ((len = next_events(watch, bytes))) {
        for (size_t at = 0; at + sizeof(struct inotify_event) <= len;) {
            const struct inotify_event *event = (const void *)(bytes + at);
            size_t i = event->len ? which(event->name, names, count) : count;

            several = several || (i < count && found < count && i != found);
            found = i < count ? i : found;
            at += sizeof *event + event->len;
        }
    }
    return several ? count : found;
}

bool kf_store_watch_opened(struct kf_store_watch *watch, char name[NAME_MAX + 1])
{
    unsigned char bytes[EVENT_BYTES] __attribute__((aligned(8)));
    bool several = false;
    size_t len;

    name[0] = '\0';
    while ((len = next_events(watch, bytes))) {
        for (size_t at = 0; at + sizeof(struct inotify_event) <= len;) {
            const struct inotify_event *event = (const void *)(bytes + at);

            at += sizeof *event + event->len;
            several = several || event->mask & IN_Q_OVERFLOW;
            if (!event->len || !is_object_name(event->name))
                continue;
            several = several || (name[0] && strcmp(name, event->name) != 0);
            copy_text(name, NAME_MAX + 1, event->name);
        }
    }
    return name[0] && !several;
}

/* ---------------------------------------- deleting a token */

kf_rv kf_store_delete_token(const struct kf_softhsm_conf *conf, const char *serial,
                            struct kf_error *err)
{
    struct kf_store *store = NULL;
    kf_rv rv = kf_store_open(conf, serial, &store, err);

    if (!rv)
        rv = kf_file_remove_tree(store->path, err);
    kf_store_free(store);
    return rv;
}
