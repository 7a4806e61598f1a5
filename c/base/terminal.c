/* SPDX-License-Identifier: MIT */
#include "base/terminal.h"

#include "base/terminal_keys.h"

#include <stdbool.h>
#include <string.h>
#include <wchar.h>

/* -- The line ---------------------------------------------------------------------- */

struct line {
    struct kf_keys *keys;
    const char *prompt;
    enum kf_echo echo;
    struct kf_secret *text; /* cap: KF_TERMINAL_MAX and the byte just read */
    size_t shown;           /* columns */
    bool too_long;
};

static void put(const struct line *line, const char *bytes, size_t n)
{
    kf_keys_put(line->keys, bytes, n);
}

static bool continues(unsigned char byte)
{
    return (byte & 0xC0) == 0x80; /* RFC 3629, section 3 */
}

/* The columns of one character at `at`, whose length goes into *n. */
static size_t width(const struct line *line, size_t at, size_t *n)
{
    const unsigned char *data = line->text->data;
    mbstate_t state = { 0 };
    wchar_t wide = 0;
    int columns = 1;

    for (*n = 1; at + *n < line->text->len && continues(data[at + *n]);)
        ++*n;
    if (line->echo == KF_ECHO_PLAIN &&
        mbrtowc(&wide, (const char *)data + at, *n, &state) == *n)
        columns = wcwidth(wide);
    return columns < 0 ? 1 : (size_t)columns;
}

static size_t columns(const struct line *line)
{
    size_t sum = 0;

    for (size_t at = 0, n; at < line->text->len; at += n)
        sum += width(line, at, &n);
    return sum;
}

/* Makes the screen agree with a line that became longer or shorter at its end. */
static void show(struct line *line)
{
    size_t wanted = columns(line);

    for (; line->shown > wanted; line->shown--)
        put(line, "\b \b", 3);
    for (; line->echo == KF_ECHO_ASTERISKS && line->shown < wanted; line->shown++)
        put(line, "*", 1);
    line->shown = wanted;
}

static void take_back(struct line *line)
{
    size_t len = line->text->len;

    while (len && continues(line->text->data[len - 1]))
        len--;
    kf_secret_cut(line->text, len ? len - 1 : 0);
    line->too_long = line->too_long && line->text->len;
    show(line);
}

static void take_back_all(struct line *line)
{
    kf_secret_cut(line->text, 0);
    line->too_long = false;
    show(line);
}

/* The byte lies behind the text already. A line cut short silently would be a wrong
 * PIN, so one too long stays so until all of it is taken back. */
static void add(struct line *line)
{
    if (line->text->len == KF_TERMINAL_MAX) {
        line->too_long = true;
        put(line, "\a", 1);
        return;
    }
    if (line->echo == KF_ECHO_PLAIN)
        put(line, (const char *)line->text->data + line->text->len, 1);
    line->text->len++;
    show(line);
}

static kf_rv too_long(struct kf_error *err)
{
    return kf_fail(err, KFR_LIMIT, NULL, NULL, "the line is longer than %d bytes",
                   KF_TERMINAL_MAX);
}

/* -- Keys -------------------------------------------------------------------------- */

/* True when the line is over, then *rv says how. */
static bool press(struct line *line, kf_rv *rv, struct kf_error *err)
{
    unsigned char byte = line->text->data[line->text->len];

    switch (byte) {
    case '\r':
    case '\n':
        *rv = line->too_long ? too_long(err) : KFR_OK;
        return true;
    case KF_CTRL_C:
        *rv = kf_keys_interrupted(err);
        return true;
    case KF_CTRL_D:
        if (line->text->len)
            return false;
        *rv = kf_keys_nothing(err);
        return true;
    case KF_BACKSPACE:
    case KF_DELETE:
        take_back(line);
        return false;
    case KF_CTRL_U:
    case KF_CTRL_W:
        take_back_all(line);
        return false;
    case KF_ESCAPE:
        kf_keys_skip_escape(line->keys, line->text->data + line->text->len);
        return false;
    default:
        if (byte >= ' ')
            add(line);
        return false;
    }
}

static void show_again(struct line *line)
{
    put(line, line->prompt, strlen(line->prompt));
    if (line->echo == KF_ECHO_PLAIN)
        put(line, (const char *)line->text->data, line->text->len);
    line->shown = line->echo == KF_ECHO_PLAIN ? columns(line) : 0;
    show(line);
}

/* What is read goes into the byte behind the text, where nobody else sees it. */
static kf_rv edit(struct line *line, struct kf_error *err)
{
    kf_rv rv = KFR_OK;
    bool over = false, paused = false;

    while (!over) {
        rv = kf_keys_next(line->keys, line->text->data + line->text->len, &paused, err);
        if (rv)
            return rv;
        if (paused)
            show_again(line);
        else
            over = press(line, &rv, err);
    }
    return rv;
}

kf_rv kf_keys_line(struct kf_keys *keys, const char *prompt, enum kf_echo echo,
                   unsigned char first, struct kf_secret **out, struct kf_error *err)
{
    struct line line = { .keys = keys, .prompt = prompt, .echo = echo };
    kf_rv rv = KFR_MEMORY;

    *out = NULL;
    line.text = kf_secret_new(KF_TERMINAL_MAX + 1);
    if (!line.text) {
        kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for a line of input");
        goto done;
    }
    kf_secret_cut(line.text, 0);
    kf_keys_say(keys, prompt);
    if (first) {
        line.text->data[0] = first;
        add(&line);
    }
    rv = edit(&line, err);
    kf_keys_say(keys, "\n");
    if (rv)
        goto done;
    line.text->data[line.text->len] = 0; /* the Enter key */
    *out = line.text;
    line.text = NULL;
done:
    kf_secret_free(line.text);
    return rv;
}

kf_rv kf_terminal_ask(const char *prompt, enum kf_echo echo, struct kf_secret **out,
                      struct kf_error *err)
{
    struct kf_keys keys = { .fd = -1 };
    kf_rv rv = kf_keys_open(&keys, err);

    *out = NULL;
    if (!rv)
        rv = kf_keys_line(&keys, prompt, echo, 0, out, err);
    kf_keys_close(&keys);
    return rv;
}
