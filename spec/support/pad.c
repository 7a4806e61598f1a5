/* SPDX-License-Identifier: MIT */
#include "pad.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TICK = 10 };

static void path_of(const struct kf_pad *pad, bool role, const char *name,
                    char path[PATH_MAX])
{
    int n;

    if (role)
        n = snprintf(path, PATH_MAX, "%s/%s.%s", pad->dir, pad->name, name);
    else
        n = snprintf(path, PATH_MAX, "%s/%s", pad->dir, name);
    if (n < 0 || n >= PATH_MAX)
        abort();
}

static bool read_line(const char *path, char to[KF_PAD_ROOM])
{
    FILE *file = fopen(path, "re");
    size_t n;

    if (!file)
        return false;
    n = fread(to, 1, KF_PAD_ROOM - 1, file);
    fclose(file);
    to[n] = '\0';
    to[strcspn(to, "\n")] = '\0';
    return true;
}

static unsigned long number(const struct kf_pad *pad, bool role, const char *name,
                            unsigned long otherwise)
{
    char path[PATH_MAX], text[KF_PAD_ROOM], *end;
    unsigned long n;

    path_of(pad, role, name, path);
    if (!read_line(path, text))
        return otherwise;
    n = strtoul(text, &end, 0);
    if (!*text || *end) {
        fprintf(stderr, "pad: %s is no number\n", path);
        abort();
    }
    return n;
}

static void note(const struct kf_pad *pad, unsigned long taken, unsigned long needed)
{
    char path[PATH_MAX];
    int fd;

    path_of(pad, false, "acts", path);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || dprintf(fd, "%s %lu of %lu\n", pad->name, taken, needed) < 0)
        abort();
    close(fd);
}

bool kf_pad_is_locked(const struct kf_pad *pad)
{
    unsigned long tries = number(pad, true, "tries", pad->tries);

    return tries && number(pad, true, "wrong", 0) >= tries;
}

CK_RV kf_pad_judge(const struct kf_pad *pad, CK_RV rv)
{
    unsigned long before = number(pad, true, "wrong", 0), wrong = before;
    char path[PATH_MAX];
    FILE *file;

    if (rv == CKR_PIN_INCORRECT ||
        rv == number(pad, false, "incorrect", pad->incorrect))
        wrong++;
    else if (rv == CKR_OK)
        wrong = 0;
    if (wrong == before)
        return rv;
    path_of(pad, true, "wrong", path);
    file = fopen(path, "we");
    if (!file || fprintf(file, "%lu\n", wrong) < 0 || fclose(file))
        abort();
    return rv;
}

/* The keys that are there, at most as many as are needed. */
static unsigned long count_keys(const struct kf_pad *pad, unsigned long needed,
                                char room[KF_PAD_ROOM], bool *alike)
{
    char path[PATH_MAX], file[PATH_MAX + NAME_MAX + 2], text[KF_PAD_ROOM];
    struct dirent **names;
    unsigned long n = 0;
    int all;

    *alike = true;
    path_of(pad, true, "pin", path);
    if (read_line(path, room))
        return needed;
    path_of(pad, true, "keys", path);
    all = scandir(path, &names, NULL, alphasort);
    for (int i = 0; i < all; i++) {
        snprintf(file, sizeof file, "%s/%s", path, names[i]->d_name);
        if (names[i]->d_name[0] != '.' && n < needed && read_line(file, text)) {
            *alike = *alike && (!n || !strcmp(text, room));
            memcpy(room, text, sizeof text);
            n++;
        }
        free(names[i]);
    }
    if (all >= 0)
        free(names);
    return n;
}

static void pause_for(unsigned long ms)
{
    struct timespec time = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};

    nanosleep(&time, NULL);
}

/* The one dialogue: all keys, or nobody. */
static CK_RV wait_for_keys(const struct kf_pad *pad, char room[KF_PAD_ROOM])
{
    unsigned long needed = number(pad, true, "needs", 1), taken, waited = 0;
    unsigned long patience = number(pad, false, "patience", 0);
    bool alike;

    pause_for(number(pad, false, "takes", 0));
    for (; (taken = count_keys(pad, needed, room, &alike)) < needed; waited += TICK) {
        if (waited >= patience)
            break;
        pause_for(TICK);
    }
    note(pad, taken, needed);
    if (taken < needed)
        return number(pad, false, "absent", pad->absent);
    return alike ? CKR_OK : CKR_PIN_INCORRECT;
}

CK_RV kf_pad_ask(const struct kf_pad *pad, CK_BYTE **pin, CK_ULONG *len,
                 char room[KF_PAD_ROOM])
{
    char path[PATH_MAX];
    bool alike;
    CK_RV rv = CKR_OK;

    if (kf_pad_is_locked(pad))
        return number(pad, false, "locked", pad->locked);
    path_of(pad, true, "challenge", path);
    if (read_line(path, room)) {
        if (!*pin || *len != strlen(room) || memcmp(*pin, room, *len) != 0)
            return number(pad, false, "incorrect", pad->incorrect);
        if (!count_keys(pad, 1, room, &alike))
            return CKR_DEVICE_ERROR;
    } else if (*pin) {
        rv = CKR_ARGUMENTS_BAD;
    } else {
        rv = wait_for_keys(pad, room);
    }
    *pin = (CK_BYTE *)room;
    *len = strlen(room);
    return rv;
}
