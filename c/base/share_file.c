/* SPDX-License-Identifier: MIT */
#include "base/share_words.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TITLE "keyferry share"

enum { FILE_MAX = 16384, LINE = 64, IN_A_ROW = 8 };
enum { FILE_MODE = 0600 };

/* What the head of the file says, a line each. */
enum field { COLOUR, SET, NUMBER, NEEDED, FIELDS };
static const char *const fields[FIELDS] = { "colour: ", "set: ", "share: ", "needed: " };

static void say(const struct kf_share *share, enum field field, char line[LINE])
{
    const char *colour = kf_colour_name(kf_share_colour(share));

    switch (field) {
    case COLOUR:
        snprintf(line, LINE, "%s", colour);
        break;
    case SET:
        snprintf(line, LINE, "%04x", share->set);
        break;
    case NUMBER:
        if (share->count)
            snprintf(line, LINE, "%d of %d", share->member + 1, share->count);
        else
            snprintf(line, LINE, "%d", share->member + 1);
        break;
    default:
        snprintf(line, LINE, "%d", share->threshold);
    }
}

/* -- Writing --------------------------------------------------------------------- */

static bool add(struct kf_secret *text, const char *bytes)
{
    return kf_secret_append(text, bytes, strlen(bytes));
}

static bool add_head(struct kf_secret *text, const struct kf_share *share)
{
    bool ok = add(text, TITLE "\n");

    for (int i = 0; ok && i < FIELDS; i++) {
        char line[LINE];

        say(share, (enum field)i, line);
        ok = add(text, fields[i]) && add(text, line) && add(text, "\n");
    }
    return ok && add(text, "\n");
}

static bool add_words(struct kf_secret *text, const struct kf_share *share)
{
    size_t count = kf_share_length(share), size = count * sizeof(uint16_t);
    uint16_t *words = kf_secret_alloc(size);
    bool ok = words != NULL;

    if (ok)
        kf_share_to_words(share, words);
    for (size_t i = 0; ok && i < count; i++) {
        bool last = i + 1 == count || (i + 1) % IN_A_ROW == 0;

        ok = add(text, kf_share_word(words[i])) && add(text, last ? "\n" : " ");
    }
    kf_secret_release(words, size);
    return ok;
}

kf_rv kf_share_write(const struct kf_share *share, const char *path,
                     struct kf_error *err)
{
    struct kf_secret *text = kf_secret_new(0);
    kf_rv rv = KFR_MEMORY;

    if (!text || !add_head(text, share) || !add_words(text, share)) {
        kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for a share");
        goto done;
    }
    rv = kf_file_create(path, text->data, text->len, FILE_MODE, false, err);
done:
    kf_secret_free(text);
    return rv;
}

/* -- Reading --------------------------------------------------------------------- */

struct text {
    const char *at, *end;
};

/* The next line without its end; false: there is none. */
static bool next_line(struct text *text, const char **line, size_t *len)
{
    const char *end;

    if (text->at == text->end)
        return false;
    *line = text->at;
    end = memchr(text->at, '\n', (size_t)(text->end - text->at));
    text->at = end ? end + 1 : text->end;
    *len = (size_t)((end ? end : text->end) - *line);
    if (*len && (*line)[*len - 1] == '\r')
        --*len;
    return true;
}

static bool is_titled(const struct text *text)
{
    struct text copy = *text;
    const char *line;
    size_t len;

    return next_line(&copy, &line, &len) && len == strlen(TITLE) &&
           memcmp(line, TITLE, len) == 0;
}

/* Takes the N of "K of N" over when it is one that can be; the caller compares the rest. */
static void take_count(struct kf_share *share, const char *said, size_t len)
{
    static const char between[] = " of ";
    const char *at = memmem(said, len, between, sizeof between - 1);
    char digits[3] = "";
    long count;

    if (!at)
        return;
    at += sizeof between - 1;
    memcpy(digits, at, said + len - at > 2 ? 2 : (size_t)(said + len - at));
    count = strtol(digits, NULL, 10);
    if (count >= share->threshold && count > share->member && count <= KF_SHARE_MAX_COUNT)
        share->count = (uint8_t)count;
}

/* The head is for people; the words are what counts, and the two must agree. */
static kf_rv check_head(struct text head, struct kf_share *share, const char *path,
                        struct kf_error *err)
{
    const char *line;
    size_t len;

    while (next_line(&head, &line, &len)) {
        for (int i = 0; i < FIELDS; i++) {
            size_t n = strlen(fields[i]);
            char wanted[LINE];

            if (len < n || memcmp(line, fields[i], n) != 0)
                continue;
            if (i == NUMBER)
                take_count(share, line + n, len - n);
            say(share, (enum field)i, wanted);
            if (strlen(wanted) != len - n || memcmp(wanted, line + n, len - n) != 0)
                return kf_fail(err, KFR_SHARE, NULL, NULL,
                               "%s: its words are of another share than its head says "
                               "(\"%s%s\" by the words)",
                               path, fields[i], wanted);
        }
    }
    return KFR_OK;
}

/* The refusal, with the file that it is about before it. */
static kf_rv in_file(const char *path, kf_rv rv, struct kf_error *err)
{
    struct kf_error why;

    if (!err || rv != KFR_SHARE)
        return rv;
    why = *err;
    return kf_fail(err, rv, NULL, why.hint, "%s: %s", path, why.what);
}

static kf_rv read_text(struct text text, const char *path, struct kf_share **out,
                       struct kf_error *err)
{
    struct text head = { text.at, text.at };
    bool titled = is_titled(&text);
    kf_rv rv;

    for (const char *line = NULL; titled;) {
        size_t len;

        head.end = text.at;
        if (!next_line(&text, &line, &len) || !len)
            break;
    }
    rv = kf_share_parse(text.at, (size_t)(text.end - text.at), out, err);
    if (rv)
        return in_file(path, rv, err);
    rv = check_head(head, *out, path, err);
    if (rv) {
        kf_share_free(*out);
        *out = NULL;
    }
    return rv;
}

kf_rv kf_share_read(const char *path, struct kf_share **out, struct kf_error *err)
{
    struct kf_secret *file = NULL;
    kf_rv rv = kf_file_read(path, FILE_MAX, &file, err);
    const char *start;

    *out = NULL;
    if (rv)
        return rv;
    start = (const char *)file->data;
    rv = read_text((struct text){ start, start + file->len }, path, out, err);
    kf_secret_free(file);
    return rv;
}
