/* SPDX-License-Identifier: MIT */
#include "clone/softhsm_lock.h"

#include "clone/softhsm_batch.h"
#include "clone/softhsm_vault.h"
#include "pkcs11/slot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_MS = 5000, PAUSE_MS = 20 };
enum { UUID_CHARS = 36, LABEL_CHARS = 32 };

#define OS_TOKEN_LABEL 0x80005349UL /* of token.object: OSAttributes.h of SoftHSM */

struct kf_softhsm_lock {
    int fd;
    struct kf_store *store; /* of a token; NULL for the folder of all */
};

/* Where the file system has no such locks, the run goes without. */
static bool take(int fd)
{
    const struct timespec pause = { .tv_nsec = PAUSE_MS * 1000000L };

    for (int waited = 0; waited < WAIT_MS; waited += PAUSE_MS) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0
            || (errno != EWOULDBLOCK && errno != EINTR))
            return true;
        nanosleep(&pause, NULL);
    }
    return false;
}

static kf_rv lock_folder(const char *path, struct kf_softhsm_lock **out,
                         struct kf_error *err)
{
    struct kf_softhsm_lock *lock = calloc(1, sizeof *lock);
    kf_rv rv = KFR_MEMORY;

    if (!lock) {
        kf_fail(err, rv, "", "", "no memory for a lock");
        goto done;
    }
    lock->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock->fd < 0) {
        rv = kf_fail_errno(err, "open", "%s", path);
        goto done;
    }
    if (!take(lock->fd)) {
        rv = kf_fail(err, KFR_REFUSED, "", "wait until it has finished, then run again",
                     "another keyferry is at work in %s", path);
        goto done;
    }
    *out = lock;
    lock = NULL;
    rv = KFR_OK;
done:
    kf_softhsm_lock_free(lock);
    return rv;
}

void kf_softhsm_lock_free(struct kf_softhsm_lock *lock)
{
    if (!lock)
        return;
    if (lock->fd >= 0)
        close(lock->fd);
    kf_store_free(lock->store);
    free(lock);
}

kf_rv kf_softhsm_lock_tokens(const struct kf_softhsm_conf *conf,
                             struct kf_softhsm_lock **out, struct kf_error *err)
{
    *out = NULL;
    return lock_folder(conf->tokendir, out, err);
}

static kf_rv recover(struct kf_store *store, struct kf_error *err)
{
    struct kf_batch *batch = kf_batch_new(store);
    kf_rv rv = KFR_OK;

    if (!batch)
        return kf_fail(err, KFR_MEMORY, "", "", "no memory for a batch");
    if (kf_batch_is_pending(batch))
        rv = kf_batch_begin(batch, err);
    kf_batch_free(batch);
    return rv;
}

kf_rv kf_softhsm_lock_token(struct kf_session *session, struct kf_softhsm_lock **out,
                            struct kf_error *err)
{
    struct kf_softhsm_lock *lock = NULL;
    struct kf_store *store = NULL;
    kf_rv rv = kf_vault_find_store(session, &store, err);

    *out = NULL;
    if (!rv)
        rv = lock_folder(kf_store_path(store), &lock, err);
    if (!rv)
        rv = recover(store, err);
    if (!rv) {
        lock->store = store;
        store = NULL;
        *out = lock;
        lock = NULL;
    }
    kf_softhsm_lock_free(lock);
    kf_store_free(store);
    return rv;
}

bool kf_softhsm_lock_is_pending(const struct kf_softhsm_lock *lock)
{
    struct kf_batch *batch = lock->store ? kf_batch_new(lock->store) : NULL;
    bool pending = batch && kf_batch_is_pending(batch);

    kf_batch_free(batch);
    return pending;
}

/* ---------------------------------------- labels */

static bool label_is(const struct kf_attribute *at, const char *label)
{
    size_t len = strlen(label);

    if (!at || at->kind != KF_BYTES || at->len < len
        || memcmp(at->value, label, len) != 0)
        return false;
    while (len < at->len && len < LABEL_CHARS && at->value[len] == ' ')
        len++;
    return len == at->len || len == LABEL_CHARS;
}

/* The serial number of a token is made of the name of its folder. */
static struct kf_attributes *read_token(const struct kf_softhsm_conf *conf,
                                        const char *folder, char serial[17])
{
    struct kf_store *store = NULL;
    struct kf_attributes *token = NULL;

    memcpy(serial, folder + 19, 4);
    memcpy(serial + 4, folder + 24, 12);
    serial[16] = '\0';
    if (kf_store_open(conf, serial, &store, NULL) == KFR_OK)
        (void)kf_store_read(store, "token.object", &token, NULL);
    kf_store_free(store);
    return token;
}

static bool has_this_label(const struct kf_softhsm_conf *conf, const char *folder,
                           const char *label)
{
    char serial[17];
    struct kf_attributes *token = read_token(conf, folder, serial);
    bool same = token && label_is(kf_attributes_get(token, OS_TOKEN_LABEL), label);

    kf_attributes_free(token);
    return same;
}

kf_rv kf_softhsm_has_label(const struct kf_softhsm_conf *conf, const char *label,
                           bool *has, struct kf_error *err)
{
    const struct dirent *entry;
    DIR *folder = opendir(conf->tokendir);

    *has = false;
    if (!folder)
        return kf_fail_errno(err, "opendir", "%s", conf->tokendir);
    while (!*has && (entry = readdir(folder)))
        if (strlen(entry->d_name) == UUID_CHARS)
            *has = has_this_label(conf, entry->d_name, label);
    closedir(folder);
    return KFR_OK;
}

static bool describe(const struct kf_softhsm_conf *conf, const char *folder,
                     struct kf_softhsm_token *out)
{
    struct kf_attributes *token = read_token(conf, folder, out->serial);
    const struct kf_attribute *at =
        token ? kf_attributes_get(token, OS_TOKEN_LABEL) : NULL;
    bool known = at && at->kind == KF_BYTES;

    if (known)
        kf_slot_text(out->label, at->value, at->len < LABEL_CHARS ? at->len : LABEL_CHARS);
    kf_attributes_free(token);
    return known;
}

kf_rv kf_softhsm_tokens(const struct kf_softhsm_conf *conf, struct kf_softhsm_token **out,
                        size_t *count, struct kf_error *err)
{
    const struct dirent *entry;
    struct kf_softhsm_token *list = NULL;
    struct kf_softhsm_token *more;
    size_t have = 0;
    kf_rv rv = KFR_OK;
    DIR *folder = opendir(conf->tokendir);

    if (!folder)
        return kf_fail_errno(err, "opendir", "%s", conf->tokendir);
    while (!rv && (entry = readdir(folder))) {
        if (strlen(entry->d_name) != UUID_CHARS)
            continue;
        more = reallocarray(list, have + 1, sizeof *list);
        if (!more) {
            rv = KFR_MEMORY;
            kf_fail(err, rv, "", "", "no memory for the list of tokens");
            continue;
        }
        list = more;
        have += describe(conf, entry->d_name, &list[have]);
    }
    closedir(folder);
    if (rv) {
        free(list);
        list = NULL;
        have = 0;
    }
    *out = list;
    *count = have;
    return rv;
}
