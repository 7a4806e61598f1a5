/* SPDX-License-Identifier: MIT */
#include "clone/softhsm_length.h"

#include "base/names.h"

#include <dirent.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <string.h>
#include <unistd.h>

enum { WORD = 8, WINDOW = 16 * 1024 };

/* A file, seen through a window: values are skipped, not read. */
struct view {
    int fd;
    uint64_t at; /* of the file, where the window begins */
    size_t len;
    unsigned char bytes[WINDOW];
};

/* False: the file ends before. */
static bool word_at(struct view *view, uint64_t at, uint64_t *out)
{
    ssize_t got;

    if (at < view->at || at + WORD > view->at + view->len) {
        got = pread(view->fd, view->bytes, sizeof view->bytes, (off_t)at);
        view->at = at;
        view->len = got > 0 ? (size_t)got : 0;
    }
    if (view->len < WORD || at - view->at > view->len - WORD)
        return false;
    *out = 0;
    for (size_t i = 0; i < WORD; i++)
        *out = *out << 8 | view->bytes[at - view->at + i];
    return true;
}

/* A template's content is records like those around it, and is walked as such. Ends
 * where SoftHSM's own reading would: at an unknown kind or the end of the file. */
static bool is_deadly(struct view *view)
{
    uint64_t at = WORD;
    uint64_t kind;
    uint64_t n;

    while (word_at(view, at + WORD, &kind)) {
        at += 2 * WORD;
        n = kind == KF_BOOL ? 1 : WORD;
        if (kind == KF_BOOL || kind == KF_ULONG) {
            at += n;
            continue;
        }
        if (kind < KF_BYTES || kind > KF_MECHANISMS || !word_at(view, at, &n))
            return false;
        at += WORD;
        if (kind == KF_BYTES && n > KF_STORE_FILE_MAX)
            return true;
        if (kind == KF_MECHANISMS && n > KF_STORE_FILE_MAX / WORD)
            return false; /* read one by one, and so only to the end of the file */
        at += kind == KF_BYTES ? n : kind == KF_MECHANISMS ? n * WORD : 0;
    }
    return false;
}

static bool is_object(const char *name)
{
    static const char suffix[] = ".object";
    size_t len = strlen(name);

    return len >= sizeof suffix && strcmp(name + len + 1 - sizeof suffix, suffix) == 0;
}

static kf_rv check_file(int folder, const char *token, const char *name,
                        struct view *view, struct kf_error *err)
{
    kf_rv rv = KFR_OK;

    view->at = 0;
    view->len = 0;
    view->fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (view->fd < 0)
        return KFR_OK;
    if (is_deadly(view))
        rv = kf_fail(err, KFR_STORE, "",
                     "restore the file from a backup, or move it out of the token's folder",
                     "%s/%s has a length in it that SoftHSM would die of", token, name);
    close(view->fd);
    return rv;
}

static kf_rv check_token(int tokens, const char *token, struct view *view,
                         struct kf_error *err)
{
    int fd = openat(tokens, token, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;
    kf_rv rv = KFR_OK;

    while (!rv && folder && (entry = readdir(folder)))
        if (is_object(entry->d_name))
            rv = check_file(fd, token, entry->d_name, view, err);
    if (folder)
        closedir(folder);
    else if (fd >= 0)
        close(fd);
    return rv;
}

kf_rv kf_softhsm_check_lengths(const struct kf_softhsm_conf *conf, struct kf_error *err)
{
    DIR *tokens = conf->is_file_backend ? opendir(conf->tokendir) : NULL;
    const struct dirent *entry;
    struct view view;
    kf_rv rv = KFR_OK;

    while (!rv && tokens && (entry = readdir(tokens)))
        if (entry->d_name[0] != '.')
            rv = check_token(dirfd(tokens), entry->d_name, &view, err);
    if (tokens)
        closedir(tokens);
    OPENSSL_cleanse(view.bytes, sizeof view.bytes); /* public objects lie in the clear */
    return rv;
}
