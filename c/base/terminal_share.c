/* SPDX-License-Identifier: MIT */
#include "base/terminal_share.h"

#include "base/share_words.h"
#include "base/terminal_keys.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

/* A screen of its own (xterm's private mode 1049) and back; the screen emptied (ECMA-48,
 * section 8.3.39: ED); a line of it (8.3.21 and 8.3.41: CUP, EL). */
#define ENTER_SCREEN "\033[?1049h"
#define LEAVE_SCREEN "\033[?1049l"
#define CLEAR_SCREEN "\033[H\033[2J"
#define CLEAR_ROW "\033[%u;1H\033[2K"
#define CLEAR_LINE "\r\033[K"

enum { CELL = 14, AROUND_WORDS = 6, USUAL_ROWS = 24, USUAL_COLUMNS = 80, SHORT = 12 };
enum { LETTERS = 16, STARS = 40, NUMBER_TEXT = 64, KEY_WORDS = 33 };

static struct winsize size_of(const struct kf_keys *keys)
{
    struct winsize size = { 0 };

    if (ioctl(keys->fd, TIOCGWINSZ, &size) != 0 || !size.ws_row || !size.ws_col)
        size = (struct winsize){ .ws_row = USUAL_ROWS, .ws_col = USUAL_COLUMNS };
    return size;
}

/* -- Showing ----------------------------------------------------------------------- */

struct sheet {
    struct kf_keys *keys;
    const char *title;
    uint16_t *words;
    size_t count;
    size_t from, rows, columns; /* of the page that is shown */
    bool shown;
};

/* Row by row: what has no screen of its own for us (GNU screen as it comes, a tmux told so)
 * keeps a screen that is cleared at once for its user to scroll back to. */
static void wipe(const struct sheet *sheet)
{
    unsigned rows = size_of(sheet->keys).ws_row;

    for (unsigned row = 1; row <= rows; row++) {
        char text[NUMBER_TEXT];

        snprintf(text, sizeof text, CLEAR_ROW, row);
        kf_keys_say(sheet->keys, text);
    }
}

static void leave_page(void *of)
{
    struct sheet *sheet = of;

    if (sheet->shown)
        wipe(sheet);
    kf_keys_say(sheet->keys, CLEAR_SCREEN LEAVE_SCREEN);
    sheet->shown = false;
}

static void show_page(void *of)
{
    struct sheet *sheet = of;
    size_t here = sheet->rows * sheet->columns;

    if (sheet->shown)
        wipe(sheet);
    kf_keys_say(sheet->keys, ENTER_SCREEN CLEAR_SCREEN);
    sheet->shown = true;
    kf_keys_say(sheet->keys, sheet->title);
    kf_keys_say(sheet->keys, "\n\n");
    for (size_t i = 0; i < here; i++) {
        size_t row = i / sheet->columns, column = i % sheet->columns;
        size_t at = sheet->from + column * sheet->rows + row;

        if (at < sheet->count) {
            const char *word = kf_share_word(sheet->words[at]);
            char number[NUMBER_TEXT];

            snprintf(number, sizeof number, "%4zu ", at + 1);
            kf_keys_say(sheet->keys, number);
            kf_keys_say(sheet->keys, word);
            kf_keys_put(sheet->keys, "         ", CELL - 5 - strlen(word));
        }
        if (column + 1 == sheet->columns)
            kf_keys_say(sheet->keys, "\n");
    }
    kf_keys_say(sheet->keys, "\n");
}

/* As few columns as will do for what is left, so that one reads downwards. */
static void fit_page(struct sheet *sheet)
{
    struct winsize size = size_of(sheet->keys);
    size_t left = sheet->count - sheet->from, rows, columns;

    rows = size.ws_row > AROUND_WORDS ? size.ws_row - AROUND_WORDS : 1;
    columns = size.ws_col > CELL ? size.ws_col / CELL : 1;
    rows = rows > SHORT ? rows / SHORT * SHORT : rows;
    sheet->columns = (left + rows - 1) / rows;
    if (sheet->columns > columns)
        sheet->columns = columns;
    sheet->rows = (left + sheet->columns - 1) / sheet->columns;
    if (sheet->rows > rows)
        sheet->rows = rows;
}

/* *said: whether the answer is one of the two, and which. */
static kf_rv ask_line(struct kf_keys *keys, const char *question, int *said,
                      struct kf_error *err)
{
    struct kf_secret *line = NULL;
    kf_rv rv = kf_keys_line(keys, question, KF_ECHO_PLAIN, 0, &line, err);

    *said = -1;
    if (!rv && line->len == 3 && memcmp(line->data, "yes", 3) == 0)
        *said = 1;
    if (!rv && line->len == 2 && memcmp(line->data, "no", 2) == 0)
        *said = 0;
    kf_secret_free(line);
    return rv;
}

static kf_rv show_all(struct sheet *sheet, bool *written, struct kf_error *err)
{
    kf_rv rv = KFR_OK;
    int said = -1;

    for (sheet->from = 0; !rv; sheet->from += sheet->rows * sheet->columns) {
        fit_page(sheet);
        show_page(sheet);
        if (sheet->from + sheet->rows * sheet->columns >= sheet->count)
            break;
        rv = ask_line(sheet->keys, "Enter shows the rest > ", &said, err);
    }
    for (said = -1; !rv && said < 0;) {
        rv = ask_line(sheet->keys, "Written down? Type 'yes' or 'no' > ", &said, err);
        if (!rv && said < 0)
            show_page(sheet); /* before the words scroll away to where nobody wipes them */
    }
    *written = said == 1;
    return rv;
}

static bool cannot_forget(void)
{
    const char *kind = getenv("TERM");

    return !kind || !*kind || strcmp(kind, "dumb") == 0;
}

kf_rv kf_terminal_show_share(const struct kf_share *share, const char *title,
                             bool *written, struct kf_error *err)
{
    size_t count = kf_share_length(share), size = count * sizeof(uint16_t);
    struct kf_keys keys = { .fd = -1, .leave = leave_page, .again = show_page };
    struct sheet sheet = { .keys = &keys, .title = title, .count = count };
    kf_rv rv = KFR_MEMORY;

    *written = false;
    keys.of = &sheet;
    if (cannot_forget())
        return kf_fail(err, KFR_REFUSED, NULL, "write the share to a file instead",
                       "a terminal that cannot take words off its screen is shown none");
    sheet.words = kf_secret_alloc(size);
    if (!sheet.words)
        return kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for the words of a share");
    kf_share_to_words(share, sheet.words);
    rv = kf_keys_open(&keys, err);
    if (!rv)
        rv = show_all(&sheet, written, err);
    kf_keys_close(&keys);
    kf_secret_release(sheet.words, size);
    return rv;
}

/* -- Asking ------------------------------------------------------------------------ */

/* In secret memory as a whole. */
struct entry {
    struct kf_keys *keys;
    const char *head; /* the last line of the prompt */
    size_t length;    /* as expected; 0: not known */
    size_t at;        /* the word that is typed */
    size_t count;     /* words there are */
    size_t again;     /* of them to be typed again, from `at` on */
    size_t typed;     /* letters of it */
    char letters[LETTERS + 1]; /* a text */
    unsigned char key;
    uint16_t words[KF_SHARE_MAX_WORDS];
};

static void draw_taken(const struct entry *entry, size_t stars)
{
    kf_keys_say(entry->keys, CLEAR_LINE);
    kf_keys_say(entry->keys, entry->head);
    for (size_t i = 0; i < entry->at && i < stars; i++)
        kf_keys_say(entry->keys, "*");
}

/* How many bytes are put; *room is what is left of the line. */
static void put_within(const struct entry *entry, const char *bytes, size_t *room)
{
    size_t n = strlen(bytes) < *room ? strlen(bytes) : *room;

    kf_keys_put(entry->keys, bytes, n);
    *room -= n;
}

/* What is shown of the word: its letters, or all of it once they tell it. Never more than
 * one line: what is on the line above stays on the screen. */
static void draw(void *of)
{
    const struct entry *entry = of;
    const char *rest = "";
    char text[NUMBER_TEXT];
    uint16_t word = 0;
    size_t line = size_of(entry->keys).ws_col - 1U, used = strlen(entry->head), stars;
    bool told = entry->typed &&
                kf_share_words_from(entry->letters, entry->typed, &word) == 1;
    bool end = !entry->length && kf_share_can_have(entry->at) && !entry->again &&
               !entry->typed && line >= USUAL_COLUMNS - 1;

    if (told)
        rest = kf_share_word(word) + entry->typed;
    snprintf(text, sizeof text, "%sword %zu%s%s: ", entry->at ? " " : "", entry->at + 1,
             entry->again ? " again" : "", end ? " (Enter: that was the last)" : "");
    used += strlen(text) + LETTERS;
    stars = line > used + STARS ? STARS : line > used ? line - used : 0;
    draw_taken(entry, stars);
    used = strlen(entry->head) + (entry->at < stars ? entry->at : stars);
    line = line > used ? line - used : 0;
    put_within(entry, text, &line);
    put_within(entry, entry->letters, &line);
    put_within(entry, rest, &line);
}

/* No letter stays when a signal stops or ends us in the middle of a word. */
static void leave_word(void *of)
{
    draw_taken(of, 0);
}

static void clear_letters(struct entry *entry)
{
    memset(entry->letters, 0, sizeof entry->letters);
    entry->typed = 0;
}

/* A line of its own, under the words so far. */
static void tell(const struct entry *entry, const char *text)
{
    kf_keys_say(entry->keys, CLEAR_LINE "\a  ");
    kf_keys_say(entry->keys, text);
    kf_keys_say(entry->keys, "\n");
}

static void refuse_word(struct entry *entry, const char *why)
{
    char text[2 * NUMBER_TEXT];

    snprintf(text, sizeof text, "word %zu: %s; type it again", entry->at + 1, why);
    kf_keys_skip_all(entry->keys, &entry->key);
    tell(entry, text);
    clear_letters(entry);
}

static void take_word(struct entry *entry)
{
    uint16_t word = 0;
    size_t meant = kf_share_words_from(entry->letters, entry->typed, &word);

    if (meant == 1 && entry->at < KF_SHARE_MAX_WORDS) {
        entry->words[entry->at++] = word;
        if (entry->at > entry->count)
            entry->count = entry->at;
        if (entry->again && --entry->again == 0)
            entry->at = entry->count;
        clear_letters(entry);
    } else if (entry->at >= KF_SHARE_MAX_WORDS) {
        refuse_word(entry, "no share has so many words");
    } else {
        refuse_word(entry, meant ? "more than one word of the list begins like this"
                                 : "it is none of the words that shares are made of");
    }
}

/* A letter back; when there is none, a word. */
static void take_back(struct entry *entry)
{
    if (entry->typed) {
        entry->letters[--entry->typed] = 0;
        return;
    }
    if (!entry->at)
        return;
    entry->at--;
    if (entry->again) {
        entry->again++;
    } else {
        entry->count = entry->at;
        entry->words[entry->at] = 0;
    }
}

static void take_letter(struct entry *entry)
{
    unsigned char key = entry->key;

    if (key >= 'A' && key <= 'Z')
        key = (unsigned char)(key - 'A' + 'a');
    if (key >= 'a' && key <= 'z' && entry->typed < LETTERS)
        entry->letters[entry->typed++] = (char)key;
}

/* True: the user says that there are no more words, or has no more to say. */
static bool press(struct entry *entry, kf_rv *rv, struct kf_error *err)
{
    switch (entry->key) {
    case '\r':
    case '\n':
    case ' ':
    case '\t':
        if (entry->typed)
            take_word(entry);
        else
            return entry->key != ' ' && entry->key != '\t' && entry->at > 0 &&
                   !entry->again;
        return false;
    case KF_CTRL_C:
        *rv = kf_keys_interrupted(err);
        return true;
    case KF_CTRL_D:
        if (entry->typed || entry->at)
            return false;
        *rv = kf_keys_nothing(err);
        return true;
    case KF_BACKSPACE:
    case KF_DELETE:
        take_back(entry);
        return false;
    case KF_CTRL_U:
    case KF_CTRL_W:
        if (entry->typed)
            clear_letters(entry);
        else
            take_back(entry);
        return false;
    case KF_ESCAPE:
        kf_keys_skip_escape(entry->keys, &entry->key);
        return false;
    default:
        take_letter(entry);
        return false;
    }
}

/* Asks again for what alone is wrong. False: it is not just that. */
static bool mend(struct entry *entry, const char *why)
{
    struct kf_share_slip slip = kf_share_slip(entry->words, entry->count);

    if (!slip.count)
        return false;
    kf_keys_skip_all(entry->keys, &entry->key);
    tell(entry, why);
    entry->at = slip.at;
    entry->again = slip.count;
    return true;
}

/* Words that are a share already need nobody to say that they are all; and what has the
 * length of a key and is one but for a slip is no longer share. */
static kf_rv look(struct entry *entry, bool said, struct kf_share **share,
                  struct kf_error *err)
{
    struct kf_error why = { 0 };
    kf_rv rv = kf_share_from_words(entry->words, entry->count, share, &why);
    bool all = said || (entry->length && entry->count >= entry->length);

    if (rv == KFR_SHARE && !all && (entry->length || entry->count != KEY_WORDS))
        return KFR_OK;
    if (rv == KFR_SHARE && entry->count < KF_SHARE_MIN_WORDS) {
        tell(entry, why.what);
        return KFR_OK;
    }
    if (rv == KFR_SHARE && (mend(entry, why.what) || !all))
        return KFR_OK;
    if (rv && err)
        *err = why;
    return rv;
}

static bool is_path(const struct entry *entry)
{
    return !entry->at && !entry->typed &&
           (entry->key == '/' || entry->key == '.' || entry->key == '~');
}

static kf_rv ask_path(struct entry *entry, struct kf_secret **path, struct kf_error *err)
{
    kf_rv rv;

    kf_keys_say(entry->keys, CLEAR_LINE);
    entry->keys->again = NULL;
    entry->keys->leave = NULL;
    rv = kf_keys_line(entry->keys, entry->head, KF_ECHO_PLAIN, entry->key, path, err);
    entry->keys->again = draw;
    entry->keys->leave = leave_word;
    if (!rv && !(*path)->len) {
        kf_secret_free(*path);
        *path = NULL;
    }
    return rv;
}

static kf_rv type_share(struct entry *entry, struct kf_share **share,
                        struct kf_secret **path, struct kf_error *err)
{
    kf_rv rv = KFR_OK;
    bool paused = false, over = false;

    while (!rv && !*share && !*path) {
        size_t count = entry->count;
        bool typing_again = entry->again > 0;

        draw(entry);
        rv = kf_keys_next(entry->keys, &entry->key, &paused, err);
        if (rv || paused)
            continue;
        if (is_path(entry)) {
            rv = ask_path(entry, path, err);
            continue;
        }
        over = press(entry, &rv, err);
        if (!rv && !entry->again &&
            (over || entry->count > count || (typing_again && !entry->again)))
            rv = look(entry, over || typing_again, share, err);
    }
    return rv;
}

kf_rv kf_terminal_ask_share(const char *prompt, size_t length, struct kf_share **share,
                            struct kf_secret **path, struct kf_error *err)
{
    struct kf_keys keys = { .fd = -1, .leave = leave_word, .again = draw };
    const char *last = strrchr(prompt, '\n');
    struct entry *entry = NULL;
    kf_rv rv = KFR_MEMORY;

    *share = NULL;
    *path = NULL;
    entry = kf_secret_alloc(sizeof *entry);
    if (!entry)
        return kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for a share");
    entry->keys = &keys;
    entry->head = last ? last + 1 : prompt;
    entry->length = length;
    keys.of = entry;
    rv = kf_keys_open(&keys, err);
    if (!rv) {
        kf_keys_put(&keys, prompt, (size_t)(entry->head - prompt));
        rv = type_share(entry, share, path, err);
        if (*share || rv == KFR_SHARE)
            kf_keys_skip_all(&keys, &entry->key); /* the rest of what was pasted */
        keys.leave = NULL;
        if (!*path) {
            draw_taken(entry, STARS);
            kf_keys_say(&keys, "\n");
        }
    }
    kf_keys_close(&keys);
    kf_secret_release(entry, sizeof *entry);
    return rv;
}
