/* SPDX-License-Identifier: MIT */
#include "base/terminal.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

enum key {
    CTRL_C = 0x03,
    CTRL_D = 0x04,
    BACKSPACE = 0x08,
    CTRL_U = 0x15,
    CTRL_W = 0x17,
    ESCAPE = 0x1B,
    DELETE = 0x7F
};

/* A key that sends more than one byte sends them at once; the user is never so fast. */
enum { ESCAPE_MS = 50, LOOK_MS = 500 };

/* -- Signals ----------------------------------------------------------------------- */

/* Those that would stop or end us with the echo off, and the one that says that
 * something (a shell's job control) may have changed the terminal meanwhile. */
static const int caught_signals[] = { SIGINT,  SIGTERM, SIGHUP,
                                      SIGQUIT, SIGTSTP, SIGCONT };
enum { CAUGHT = sizeof caught_signals / sizeof *caught_signals };

static volatile sig_atomic_t caught;

static void note(int number)
{
    if (!caught || caught == SIGCONT)
        caught = number;
}

struct signals {
    struct sigaction before[CAUGHT];
    sigset_t mask_before;
};

/* They are blocked but for the wait for a key, so none slips in unseen. */
static void signals_catch(struct signals *signals)
{
    struct sigaction action = { .sa_handler = note };
    sigset_t mask;

    caught = 0;
    sigemptyset(&action.sa_mask);
    sigemptyset(&mask);
    for (size_t i = 0; i < CAUGHT; i++)
        sigaddset(&mask, caught_signals[i]);
    sigprocmask(SIG_BLOCK, &mask, &signals->mask_before);
    for (size_t i = 0; i < CAUGHT; i++) {
        sigaction(caught_signals[i], NULL, &signals->before[i]);
        if (signals->before[i].sa_handler != SIG_IGN)
            sigaction(caught_signals[i], &action, NULL);
    }
}

static void signals_release(const struct signals *signals)
{
    for (size_t i = 0; i < CAUGHT; i++)
        sigaction(caught_signals[i], &signals->before[i], NULL);
    sigprocmask(SIG_SETMASK, &signals->mask_before, NULL);
}

/* -- The line ---------------------------------------------------------------------- */

struct line {
    int fd;
    struct termios usual;
    struct signals signals;
    const char *prompt;
    enum kf_echo echo;
    struct kf_secret *text; /* cap: KF_TERMINAL_MAX and the byte just read */
    size_t shown;           /* columns */
    bool too_long;
};

static void put(const struct line *line, const char *bytes, size_t n)
{
    kf_file_write_full(line->fd, bytes, n);
}

/* Every key comes as a byte; output stays as it was, so "\n" starts a line. */
static bool raw(const struct line *line, int when)
{
    struct termios mode = line->usual;

    mode.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    mode.c_iflag &= ~(tcflag_t)(IXON | ISTRIP);
    mode.c_cc[VMIN] = 1;
    mode.c_cc[VTIME] = 0;
    return tcsetattr(line->fd, when, &mode) == 0;
}

static void usual(const struct line *line)
{
    tcsetattr(line->fd, TCSADRAIN, &line->usual);
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

/* -- Keys -------------------------------------------------------------------------- */

/* 1: a byte may be read; 0: none within ms; -1: a signal or an error. */
static int wait_for_key(const struct line *line, int ms)
{
    struct pollfd poll_fd = { .fd = line->fd, .events = POLLIN };
    const struct timespec wait = { ms / 1000, (ms % 1000) * 1000000L };
    int n = ppoll(&poll_fd, 1, &wait, &line->signals.mask_before);

    return caught ? -1 : n;
}

/* Reads into the byte behind the text, where nobody else sees it. */
static bool read_byte(const struct line *line)
{
    ssize_t n;

    do
        n = read(line->fd, line->text->data + line->text->len, 1);
    while (n < 0 && errno == EINTR);
    return n == 1;
}

static unsigned char take_byte(const struct line *line)
{
    return wait_for_key(line, ESCAPE_MS) == 1 && read_byte(line)
               ? line->text->data[line->text->len]
               : 0;
}

/* What follows ESC: an arrow key, the marks around a paste. ECMA-48, section 5.4: CSI
 * ends with a byte from 0x40 to 0x7E; the Linux console's "CSI [" has one more. */
static void skip_escape(const struct line *line)
{
    unsigned char byte = take_byte(line);

    if (byte == 'O' || byte != '[') {
        if (byte == 'O')
            take_byte(line);
        return;
    }
    byte = take_byte(line);
    if (byte == '[')
        take_byte(line);
    else
        while (byte && (byte < 0x40 || byte > 0x7E))
            byte = take_byte(line);
}

static kf_rv interrupted(struct kf_error *err)
{
    return kf_fail(err, KFR_INTERRUPTED, NULL, NULL, "interrupted");
}

static kf_rv too_long(struct kf_error *err)
{
    return kf_fail(err, KFR_LIMIT, NULL, NULL, "the line is longer than %d bytes",
                   KF_TERMINAL_MAX);
}

/* True when the line is over, then *rv says how. */
static bool press(struct line *line, kf_rv *rv, struct kf_error *err)
{
    unsigned char byte = line->text->data[line->text->len];

    switch (byte) {
    case '\r':
    case '\n':
        *rv = line->too_long ? too_long(err) : KFR_OK;
        return true;
    case CTRL_C:
        *rv = interrupted(err);
        return true;
    case CTRL_D:
        if (line->text->len)
            return false;
        *rv = kf_fail(err, KFR_REFUSED, NULL, NULL, "nothing was entered");
        return true;
    case BACKSPACE:
    case DELETE:
        take_back(line);
        return false;
    case CTRL_U:
    case CTRL_W:
        take_back_all(line);
        return false;
    case ESCAPE:
        skip_escape(line);
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

/* Lets the signal do what it would have done, with the terminal as it was. True: that
 * was a pause only, and the line goes on. */
static bool deliver(struct line *line)
{
    int number = caught;

    if (number != SIGCONT) {
        usual(line);
        signals_release(&line->signals);
        raise(number);
        signals_catch(&line->signals);
    }
    caught = 0;
    if (number != SIGCONT && number != SIGTSTP)
        return false;
    raw(line, TCSADRAIN);
    show_again(line);
    return true;
}

static kf_rv edit(struct line *line, struct kf_error *err)
{
    kf_rv rv = KFR_SYSTEM;
    bool over = false;

    while (!over) {
        int n = wait_for_key(line, LOOK_MS);

        if (caught) {
            if (!deliver(line))
                return interrupted(err);
            continue;
        }
        if (n < 0 && errno != EINTR)
            return kf_fail_errno(err, "ppoll", "/dev/tty");
        if (n <= 0)
            continue;
        if (!read_byte(line))
            return kf_fail(err, KFR_REFUSED, "read", NULL, "the terminal went away");
        over = press(line, &rv, err);
    }
    return rv;
}

static kf_rv ask(struct line *line, struct kf_error *err)
{
    kf_rv rv = KFR_SYSTEM;

    if (tcgetattr(line->fd, &line->usual) != 0)
        return kf_fail_errno(err, "tcgetattr", "/dev/tty");
    signals_catch(&line->signals);
    if (raw(line, TCSAFLUSH)) {
        put(line, line->prompt, strlen(line->prompt));
        rv = edit(line, err);
        put(line, "\n", 1);
        usual(line);
    } else {
        rv = kf_fail_errno(err, "tcsetattr", "/dev/tty");
    }
    signals_release(&line->signals);
    return rv;
}

kf_rv kf_terminal_ask(const char *prompt, enum kf_echo echo, struct kf_secret **out,
                      struct kf_error *err)
{
    struct line line = { .fd = -1, .prompt = prompt, .echo = echo };
    kf_rv rv = KFR_SYSTEM;

    *out = NULL;
    line.fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (line.fd < 0) {
        rv = kf_fail(err, KFR_REFUSED, "open", NULL, "there is no terminal to ask at");
        goto done;
    }
    line.text = kf_secret_new(KF_TERMINAL_MAX + 1);
    if (!line.text) {
        rv = kf_fail(err, KFR_MEMORY, NULL, NULL, "no memory for a line of input");
        goto done;
    }
    kf_secret_cut(line.text, 0);
    rv = ask(&line, err);
    if (rv != KFR_OK)
        goto done;
    line.text->data[line.text->len] = 0; /* the Enter key */
    *out = line.text;
    line.text = NULL;
done:
    kf_secret_free(line.text);
    if (line.fd >= 0)
        close(line.fd);
    return rv;
}
