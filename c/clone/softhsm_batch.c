/* SPDX-License-Identifier: MIT */
#include "clone/softhsm_batch.h"

#include "base/file.h"
#include "clone/crypto.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    WRITER_WAIT_MS = 3000,
    GENERATION_WAIT_MS = 3000,
    GENERATION_BYTES = 8,
    FSYNC_EACH_MAX = 16,  /* up to here fsync each file; beyond, syncfs is cheaper */
    SETTLE_MS = 20, /* ten are enough where programs start one after the other */
    SETTLE_ROUNDS = 3,
    LOCK_ROUNDS = 16,
    UUID_CHARS = 36,
    JOURNAL_MAX = 256 * 1024 * 1024,
    TMP_NAME = 64
};

static const char LOCK_FILE[] = "keyferry.lock";
static const char JOURNAL[] = "keyferry.journal";
static const char JOURNAL_TMP[] = "keyferry.journal.tmp"; /* kf_file_write's */
static const char JOURNAL_HEAD[] =
    "keyferry journal 1: remove these files, then this one";
static const char TMP_PREFIX[] = "keyferry-";
static const char GENERATION[] = "generation";

struct kf_batch {
    struct kf_store *store;
    int writer; /* keyferry.lock, held; -1: not */
    char (*names)[KF_STORE_NAME];
    size_t count;
    size_t cap;
    bool published;
    bool journal;
    bool bumped; /* and not settled yet */
    uint64_t generation;
    struct timespec bumped_at;
};

struct kf_batch *kf_batch_new(struct kf_store *store)
{
    struct kf_batch *batch = calloc(1, sizeof *batch);

    if (batch) {
        batch->store = store;
        batch->writer = -1;
    }
    return batch;
}

static int folder_of(const struct kf_batch *batch)
{
    return kf_store_folder(batch->store);
}

static kf_rv failed(const struct kf_batch *batch, struct kf_error *err,
                    const char *call, const char *name)
{
    return kf_fail_errno(err, call, "%s/%s", kf_store_path(batch->store), name);
}

static void tmp_name(const char *name, char out[TMP_NAME])
{
    snprintf(out, TMP_NAME, "%s%.*s.tmp", TMP_PREFIX, UUID_CHARS, name);
}

static void lock_name(const char *name, char out[TMP_NAME])
{
    snprintf(out, TMP_NAME, "%.*s.lock", UUID_CHARS, name);
}

/* A new file that is the token's as token.object is: a file that the application cannot
 * open is no object to it. -1 with errno. */
static int create(const struct kf_batch *batch, const char *name, int flags)
{
    const struct stat *owner = kf_store_owner(batch->store);
    mode_t mode = owner->st_mode & 0666;
    int fd = openat(folder_of(batch), name,
                    O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | flags, 0600);
    struct stat st;
    int sys;

    if (fd < 0)
        return -1;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)
        && (((st.st_uid == owner->st_uid && st.st_gid == owner->st_gid)
             || fchown(fd, owner->st_uid, owner->st_gid) == 0 || geteuid() != 0)
            && ((st.st_mode & 0777) == mode || fchmod(fd, mode) == 0)))
        return fd;
    sys = errno;
    close(fd);
    errno = sys;
    return -1;
}

/* Every step is tried; the first failure is told. ENOENT is none. */
static int drop(const struct kf_batch *batch, const char *name)
{
    char lock[TMP_NAME];
    int sys = 0;

    if (unlinkat(folder_of(batch), name, 0) && errno != ENOENT)
        return errno;
    if (!kf_store_is_uuid_name(name))
        snprintf(lock, sizeof lock, "%.*s.lock", (int)strcspn(name, "."), name);
    else
        lock_name(name, lock);
    if (unlinkat(folder_of(batch), lock, 0) && errno != ENOENT)
        sys = errno;
    return sys;
}

static kf_rv sync_folder(const struct kf_batch *batch, struct kf_error *err)
{
    if (fsync(folder_of(batch)) && errno != EINVAL)
        return failed(batch, err, "fsync", "");
    return KFR_OK;
}

/* ---------------------------------------- generation */

/* Adds one to what stands in fd, which is locked. An empty file, and one of 1 to 7
 * bytes (which no SoftHSM can repair), begin anew. */
static kf_rv add_one(struct kf_batch *batch, int fd, struct kf_error *err)
{
    unsigned char bytes[GENERATION_BYTES] = { 0 };
    uint64_t value = 0;

    if (pread(fd, bytes, sizeof bytes, 0) < 0)
        return failed(batch, err, "read", GENERATION);
    for (size_t i = 0; i < sizeof bytes; i++)
        value = value << 8 | bytes[i];
    value = value + 1 ? value + 1 : 1;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(value >> (8 * (sizeof bytes - 1 - i)));
    if (pwrite(fd, bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return failed(batch, err, "write", GENERATION);
    batch->generation = value;
    return KFR_OK;
}

kf_rv kf_batch_bump(struct kf_batch *batch, struct kf_error *err)
{
    kf_rv rv = KFR_SYSTEM;
    int fd = create(batch, GENERATION, 0);

    if (fd < 0) {
        failed(batch, err, "open", GENERATION);
        goto done;
    }
    rv = kf_file_lock(fd, true, GENERATION_WAIT_MS, err);
    if (rv)
        goto done;
    rv = add_one(batch, fd, err);
    clock_gettime(CLOCK_MONOTONIC, &batch->bumped_at);
    batch->bumped = true;
done:
    if (fd >= 0)
        close(fd);
    return rv;
}

static bool generation_is_ours(const struct kf_batch *batch)
{
    unsigned char bytes[GENERATION_BYTES] = { 0 };
    uint64_t value = 0;
    int fd = openat(folder_of(batch), GENERATION, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    bool read_all;

    if (fd < 0)
        return true;
    read_all = kf_file_lock(fd, false, GENERATION_WAIT_MS, NULL) == KFR_OK
               && pread(fd, bytes, sizeof bytes, 0) == (ssize_t)sizeof bytes;
    close(fd);
    for (size_t i = 0; i < sizeof bytes; i++)
        value = value << 8 | bytes[i];
    return read_all && value == batch->generation;
}

static void wait_since(const struct timespec *then, long ms)
{
    struct timespec until = *then;

    until.tv_nsec += ms * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        continue;
}

void kf_batch_settle(struct kf_batch *batch)
{
    if (!batch->bumped)
        return;
    wait_since(&batch->bumped_at, SETTLE_MS);
    kf_batch_bump(batch, NULL);
    for (int round = 1; round < SETTLE_ROUNDS; round++) {
        wait_since(&batch->bumped_at, SETTLE_MS);
        if (generation_is_ours(batch))
            break;
        kf_batch_bump(batch, NULL);
    }
    batch->bumped = false;
}

/* ---------------------------------------- journal */

static kf_rv write_journal(struct kf_batch *batch, const char *const *names,
                           size_t count, struct kf_error *err)
{
    kf_rv rv = KFR_MEMORY;
    char path[PATH_MAX + sizeof JOURNAL + 1];
    struct kf_writer text = { 0 };

    snprintf(path, sizeof path, "%s/%s", kf_store_path(batch->store), JOURNAL);
    kf_write_bytes(&text, JOURNAL_HEAD, strlen(JOURNAL_HEAD));
    for (size_t i = 0; i < count; i++) {
        kf_write_u8(&text, '\n');
        kf_write_bytes(&text, names[i], strlen(names[i]));
    }
    kf_write_bytes(&text, "\nend\n", 5);
    if (text.bad) {
        kf_fail(err, rv, "", "", "no memory for a journal");
        goto done;
    }
    rv = kf_file_write(path, text.data, text.len, 0600, err);
    batch->journal = batch->journal || !rv;
done:
    kf_writer_clear(&text);
    return rv;
}

/* Only what is below this folder and called like an object is ever removed. */
static bool may_remove(const char *name)
{
    size_t len = strlen(name);

    return len > 7 && len <= NAME_MAX && !strchr(name, '/') && name[0] != '.'
           && strcmp(name + len - 7, ".object") == 0
           && strcmp(name, "token.object") != 0;
}

static kf_rv obey_journal(struct kf_batch *batch, char *text, struct kf_error *err)
{
    char *rest = NULL;
    char *line = strtok_r(text, "\n", &rest);
    int sys = 0;

    if (!line || strcmp(line, JOURNAL_HEAD) != 0)
        return kf_fail(err, KFR_STORE, "", "look at it, then remove it by hand",
                       "%s/%s is no journal of this version",
                       kf_store_path(batch->store), JOURNAL);
    while ((line = strtok_r(NULL, "\n", &rest)) && strcmp(line, "end") != 0) {
        int failure = may_remove(line) ? drop(batch, line) : 0;

        sys = sys ? sys : failure;
    }
    errno = sys;
    return sys ? failed(batch, err, "unlink", "an object of an interrupted run")
               : KFR_OK;
}

static kf_rv forget_journal(struct kf_batch *batch, struct kf_error *err)
{
    kf_rv rv = KFR_OK;

    if (unlinkat(folder_of(batch), JOURNAL, 0) && errno != ENOENT)
        return failed(batch, err, "unlink", JOURNAL);
    rv = sync_folder(batch, err);
    batch->journal = batch->journal && rv;
    return rv;
}

/* Files of a run that ended before they had a name. Only called by the one writer. */
static void drop_orphans(struct kf_batch *batch)
{
    const struct dirent *entry;
    size_t prefix = strlen(TMP_PREFIX);
    int fd = openat(folder_of(batch), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;

    while (folder && (entry = readdir(folder))) {
        const char *uuid = entry->d_name + prefix;
        char object[KF_STORE_NAME];

        if (strncmp(entry->d_name, TMP_PREFIX, prefix) != 0
            || strlen(uuid) != UUID_CHARS + 4 || strcmp(uuid + UUID_CHARS, ".tmp") != 0)
            continue;
        snprintf(object, sizeof object, "%.*s.object", UUID_CHARS, uuid);
        if (kf_store_is_uuid_name(object)
            && faccessat(folder_of(batch), object, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
            drop(batch, object);
        unlinkat(folder_of(batch), entry->d_name, 0);
    }
    if (folder)
        closedir(folder);
    else if (fd >= 0)
        close(fd);
}

static kf_rv recover(struct kf_batch *batch, struct kf_error *err)
{
    kf_rv rv = KFR_OK;
    char path[PATH_MAX + sizeof JOURNAL + 1];
    struct kf_secret *text = NULL;
    struct stat st;

    drop_orphans(batch);
    unlinkat(folder_of(batch), JOURNAL_TMP, 0);
    if (fstatat(folder_of(batch), JOURNAL, &st, AT_SYMLINK_NOFOLLOW))
        goto done;
    snprintf(path, sizeof path, "%s/%s", kf_store_path(batch->store), JOURNAL);
    rv = kf_file_read(path, JOURNAL_MAX, &text, err);
    if (rv)
        goto done;
    if (!kf_secret_append(text, "", 1)) {
        rv = kf_fail(err, KFR_MEMORY, "", "", "no memory for a journal");
        goto done;
    }
    rv = obey_journal(batch, (char *)text->data, err);
    if (!rv)
        rv = sync_folder(batch, err);
    if (!rv)
        rv = forget_journal(batch, err);
    if (!rv)
        rv = kf_batch_bump(batch, err);
done:
    kf_secret_free(text);
    return rv;
}

/* ---------------------------------------- the one writer */

static kf_rv lock_refused(const struct kf_batch *batch, struct kf_error *err)
{
    if (err && err->sys != EAGAIN && err->sys != EACCES)
        return err->rv;
    return kf_fail(err, KFR_REFUSED, "", "wait until it has finished, then run again",
                   "another keyferry is writing into the token in %s",
                   kf_store_path(batch->store));
}

/* Whoever ends removes the lock file, so a lock counts only on the file that still has
 * the name. */
static bool still_named(const struct kf_batch *batch, int fd)
{
    struct stat mine;
    struct stat named;

    return fstat(fd, &mine) == 0
           && fstatat(folder_of(batch), LOCK_FILE, &named, AT_SYMLINK_NOFOLLOW) == 0
           && mine.st_ino == named.st_ino && mine.st_dev == named.st_dev;
}

static kf_rv take_writer(struct kf_batch *batch, struct kf_error *err)
{
    for (int round = 0; round < LOCK_ROUNDS; round++) {
        struct kf_error why = { 0 };
        int fd = create(batch, LOCK_FILE, 0);
        kf_rv rv;

        if (fd < 0) {
            failed(batch, err, "open", LOCK_FILE);
            if (err)
                snprintf(err->hint, sizeof err->hint,
                         "objects can only be put into a token store that is writable");
            return KFR_SYSTEM;
        }
        rv = kf_file_lock(fd, true, WRITER_WAIT_MS, &why);
        if (!rv && still_named(batch, fd)) {
            batch->writer = fd;
            return KFR_OK;
        }
        close(fd);
        if (rv) {
            if (err)
                *err = why;
            return lock_refused(batch, err);
        }
    }
    return kf_fail(err, KFR_REFUSED, "", "run again", "%s changes all the time",
                   LOCK_FILE);
}

static void leave_writer(struct kf_batch *batch)
{
    if (batch->writer < 0)
        return;
    unlinkat(folder_of(batch), LOCK_FILE, 0);
    close(batch->writer);
    batch->writer = -1;
}

static void end(struct kf_batch *batch)
{
    free(batch->names);
    batch->names = NULL;
    batch->count = 0;
    batch->cap = 0;
    batch->published = false;
    leave_writer(batch);
}

bool kf_batch_is_pending(const struct kf_batch *batch)
{
    struct stat st;

    return fstatat(folder_of(batch), JOURNAL, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

kf_rv kf_batch_begin(struct kf_batch *batch, struct kf_error *err)
{
    kf_rv rv;

    if (batch->writer >= 0)
        return KFR_OK;
    rv = take_writer(batch, err);
    if (rv)
        return rv;
    rv = recover(batch, err);
    if (rv)
        leave_writer(batch);
    return rv;
}

/* ---------------------------------------- staging */

static bool new_name(char name[KF_STORE_NAME])
{
    unsigned char r[16];

    if (!kf_crypto_random(r, sizeof r))
        return false;
    snprintf(
        name, KF_STORE_NAME,
        "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x.object",
        r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9], r[10], r[11], r[12],
        r[13], r[14], r[15]);
    return true;
}

static bool make_room(struct kf_batch *batch)
{
    size_t more = batch->cap ? batch->cap * 2 : 64;
    char(*grown)[KF_STORE_NAME];

    if (batch->count < batch->cap)
        return true;
    grown = realloc(batch->names, more * sizeof *grown);
    if (!grown)
        return false;
    batch->names = grown;
    batch->cap = more;
    return true;
}

static kf_rv write_tmp(struct kf_batch *batch, const char *tmp, const void *bytes,
                       size_t len, struct kf_error *err)
{
    kf_rv rv = KFR_SYSTEM;
    int fd = create(batch, tmp, O_EXCL);

    if (fd < 0) {
        failed(batch, err, "open", tmp);
        goto done;
    }
    if (kf_file_write_full(fd, bytes, len) != (ssize_t)len) {
        failed(batch, err, "write", tmp);
        goto done;
    }
    rv = KFR_OK;
done:
    if (fd >= 0 && close(fd) && !rv)
        rv = failed(batch, err, "close", tmp);
    if (fd >= 0 && rv)
        unlinkat(folder_of(batch), tmp, 0);
    return rv;
}

kf_rv kf_batch_stage(struct kf_batch *batch, const void *bytes, size_t len,
                     char name[KF_STORE_NAME], struct kf_error *err)
{
    kf_rv rv;
    char tmp[TMP_NAME];

    if (batch->published)
        return kf_fail(err, KFR_ARGUMENT, "", "", "the batch before is not concluded");
    rv = kf_batch_begin(batch, err);
    if (rv)
        return rv;
    if (!make_room(batch))
        return kf_fail(err, KFR_MEMORY, "", "", "no memory for a batch");
    if (!new_name(name))
        return kf_fail(err, KFR_CRYPTO, "RAND_bytes", "", "no random name");
    tmp_name(name, tmp);
    rv = write_tmp(batch, tmp, bytes, len, err);
    if (!rv)
        memcpy(batch->names[batch->count++], name, KF_STORE_NAME);
    return rv;
}

void kf_batch_discard(struct kf_batch *batch, size_t from)
{
    while (!batch->published && batch->count > from) {
        char tmp[TMP_NAME];

        tmp_name(batch->names[--batch->count], tmp);
        unlinkat(folder_of(batch), tmp, 0);
    }
    if (!batch->published && batch->count == 0)
        end(batch);
}

/* ---------------------------------------- publishing */

static kf_rv sync_one(struct kf_batch *batch, const char *name, struct kf_error *err)
{
    char tmp[TMP_NAME];
    int fd;
    int sys = 0;

    tmp_name(name, tmp);
    fd = openat(folder_of(batch), tmp, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fsync(fd))
        sys = errno;
    if (fd >= 0)
        close(fd);
    errno = sys;
    return sys ? failed(batch, err, "fsync", tmp) : KFR_OK;
}

/* On ext4 an fsync costs about 0.3 ms a file, a syncfs 13 us a file for many. */
static kf_rv sync_staged(struct kf_batch *batch, struct kf_error *err)
{
    kf_rv rv = KFR_OK;

    if (batch->count > FSYNC_EACH_MAX && syncfs(folder_of(batch)) == 0)
        return KFR_OK;
    for (size_t i = 0; !rv && i < batch->count; i++)
        rv = sync_one(batch, batch->names[i], err);
    return rv;
}

/* The .lock file is there before the object is: without it SoftHSM cannot destroy the
 * object properly. */
static kf_rv give_name(struct kf_batch *batch, const char *name, struct kf_error *err)
{
    int folder = folder_of(batch);
    char tmp[TMP_NAME];
    char lock[TMP_NAME];
    int fd;

    tmp_name(name, tmp);
    lock_name(name, lock);
    fd = create(batch, lock, O_EXCL);
    if (fd < 0)
        return failed(batch, err, "open", lock);
    close(fd);
    if (renameat2(folder, tmp, folder, name, RENAME_NOREPLACE) == 0)
        return KFR_OK;
    /* A file system without RENAME_NOREPLACE: a link does not replace either. */
    if (errno == EINVAL && linkat(folder, tmp, folder, name, 0) == 0
        && unlinkat(folder, tmp, 0) == 0)
        return KFR_OK;
    return failed(batch, err, "rename", name);
}

static void drop_all(struct kf_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++) {
        char tmp[TMP_NAME];

        tmp_name(batch->names[i], tmp);
        unlinkat(folder_of(batch), tmp, 0);
        drop(batch, batch->names[i]);
    }
}

static kf_rv journal_of_new(struct kf_batch *batch, struct kf_error *err)
{
    const char **names = calloc(batch->count ? batch->count : 1, sizeof *names);
    kf_rv rv;

    if (!names)
        return kf_fail(err, KFR_MEMORY, "", "", "no memory for a journal");
    for (size_t i = 0; i < batch->count; i++)
        names[i] = batch->names[i];
    rv = write_journal(batch, names, batch->count, err);
    free(names);
    return rv;
}

kf_rv kf_batch_publish(struct kf_batch *batch, bool tentative, struct kf_error *err)
{
    kf_rv rv = kf_batch_begin(batch, err);

    if (rv)
        return rv;
    rv = sync_staged(batch, err);
    if (!rv && tentative && batch->count)
        rv = journal_of_new(batch, err);
    for (size_t i = 0; !rv && i < batch->count; i++)
        rv = give_name(batch, batch->names[i], err);
    if (!rv)
        rv = sync_folder(batch, err);
    batch->published = true;
    if (!rv && batch->count)
        rv = kf_batch_bump(batch, err);
    if (rv)
        kf_batch_undo(batch, NULL, 0, NULL);
    return rv;
}

bool kf_batch_is_published(const struct kf_batch *batch)
{
    return batch->published;
}

kf_rv kf_batch_conclude(struct kf_batch *batch, const char *const *names, size_t count,
                        struct kf_error *err)
{
    kf_rv rv = kf_batch_begin(batch, err);
    int sys = 0;

    if (rv)
        return rv;
    if (count)
        rv = write_journal(batch, names, count, err);
    if (rv)
        return rv; /* nothing is decided: the caller may undo */
    for (size_t i = 0; i < count; i++) {
        int failure = may_remove(names[i]) ? drop(batch, names[i]) : EINVAL;

        sys = sys ? sys : failure;
    }
    errno = sys;
    if (sys)
        rv = failed(batch, err, "unlink", "an old object");
    if (!rv && count)
        rv = sync_folder(batch, err);
    if (!rv && batch->journal)
        rv = forget_journal(batch, err);
    if (count)
        kf_batch_bump(batch, NULL);
    end(batch);
    return rv;
}

kf_rv kf_batch_undo(struct kf_batch *batch, const char *const *names, size_t count,
                    struct kf_error *err)
{
    kf_rv rv = KFR_OK;
    int sys = 0;

    for (size_t i = 0; names && i < count; i++) {
        int failure = drop(batch, names[i]);

        sys = sys ? sys : failure;
    }
    if (!names)
        drop_all(batch);
    errno = sys;
    if (sys)
        rv = failed(batch, err, "unlink", "an object that was just made");
    if (!rv)
        rv = sync_folder(batch, err);
    if (!rv && !names && batch->journal)
        rv = forget_journal(batch, err);
    kf_batch_bump(batch, NULL);
    if (!names)
        end(batch);
    return rv;
}

void kf_batch_free(struct kf_batch *batch)
{
    if (!batch)
        return;
    if (batch->published)
        kf_batch_undo(batch, NULL, 0, NULL);
    else
        kf_batch_discard(batch, 0);
    kf_batch_settle(batch);
    end(batch);
    free(batch);
}
