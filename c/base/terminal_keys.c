/* SPDX-License-Identifier: MIT */
#include "base/terminal_keys.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A key that sends more than one byte sends them at once; the user is never so fast. */
enum { ESCAPE_MS = 50, PASTE_MS = 150, LOOK_MS = 500 };

/* -- Signals ----------------------------------------------------------------------- */

/* Those that would stop or end us with the echo off, and the one that says that
 * something (a shell's job control) may have changed the terminal meanwhile. */
static const int caught_signals[KF_CAUGHT] = { SIGINT,  SIGTERM, SIGHUP,
                                               SIGQUIT, SIGTSTP, SIGCONT };

static volatile sig_atomic_t caught;

static void note(int number)
{
    if (!caught || caught == SIGCONT)
        caught = number;
}

/* They are blocked but for the wait for a key, so none slips in unseen. */
static void signals_catch(struct kf_keys *keys)
{
    struct sigaction action = { .sa_handler = note };
    sigset_t mask;

    caught = 0;
    sigemptyset(&action.sa_mask);
    sigemptyset(&mask);
    for (size_t i = 0; i < KF_CAUGHT; i++)
        sigaddset(&mask, caught_signals[i]);
    sigprocmask(SIG_BLOCK, &mask, &keys->mask_before);
    for (size_t i = 0; i < KF_CAUGHT; i++) {
        sigaction(caught_signals[i], NULL, &keys->before[i]);
        if (keys->before[i].sa_handler != SIG_IGN)
            sigaction(caught_signals[i], &action, NULL);
    }
}

static void signals_release(const struct kf_keys *keys)
{
    for (size_t i = 0; i < KF_CAUGHT; i++)
        sigaction(caught_signals[i], &keys->before[i], NULL);
    sigprocmask(SIG_SETMASK, &keys->mask_before, NULL);
}

/* -- The terminal -------------------------------------------------------------------- */

void kf_keys_put(const struct kf_keys *keys, const char *bytes, size_t n)
{
    kf_file_write_full(keys->fd, bytes, n);
}

void kf_keys_say(const struct kf_keys *keys, const char *text)
{
    kf_keys_put(keys, text, strlen(text));
}

/* Every key comes as a byte; output stays as it was, so "\n" starts a line. */
static bool raw(struct kf_keys *keys, int when)
{
    struct termios mode = keys->usual;

    mode.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    mode.c_iflag &= ~(tcflag_t)(IXON | ISTRIP);
    mode.c_cc[VMIN] = 1;
    mode.c_cc[VTIME] = 0;
    return tcsetattr(keys->fd, when, &mode) == 0;
}

static void usual(const struct kf_keys *keys)
{
    if (keys->leave)
        keys->leave(keys->of);
    tcsetattr(keys->fd, TCSADRAIN, &keys->usual);
}

kf_rv kf_keys_open(struct kf_keys *keys, struct kf_error *err)
{
    keys->raw = false;
    keys->fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (keys->fd < 0)
        return kf_fail(err, KFR_REFUSED, "open", NULL, "there is no terminal to ask at");
    if (tcgetattr(keys->fd, &keys->usual) != 0)
        return kf_fail_errno(err, "tcgetattr", "/dev/tty");
    signals_catch(keys);
    if (raw(keys, TCSAFLUSH)) {
        keys->raw = true;
        return KFR_OK;
    }
    kf_fail_errno(err, "tcsetattr", "/dev/tty");
    signals_release(keys);
    return KFR_SYSTEM;
}

void kf_keys_close(struct kf_keys *keys)
{
    if (keys->raw) {
        int number = caught;

        usual(keys);
        signals_release(keys);
        caught = 0;
        if (number && number != SIGCONT)
            raise(number); /* while what nobody wanted was skipped */
    }
    if (keys->fd >= 0)
        close(keys->fd);
    keys->raw = false;
    keys->fd = -1;
}

/* -- Keys -------------------------------------------------------------------------- */

/* 1: a byte may be read; 0: none within ms; -1: a signal or an error. */
static int wait_for_key(const struct kf_keys *keys, int ms)
{
    struct pollfd poll_fd = { .fd = keys->fd, .events = POLLIN };
    const struct timespec wait = { ms / 1000, (ms % 1000) * 1000000L };
    int n = ppoll(&poll_fd, 1, &wait, &keys->mask_before);

    return caught ? -1 : n;
}

static bool read_byte(const struct kf_keys *keys, unsigned char *byte)
{
    ssize_t n;

    do
        n = read(keys->fd, byte, 1);
    while (n < 0 && errno == EINTR);
    return n == 1;
}

static unsigned char take_byte(const struct kf_keys *keys, unsigned char *byte)
{
    return wait_for_key(keys, ESCAPE_MS) == 1 && read_byte(keys, byte) ? *byte : 0;
}

/* What follows ESC: an arrow key, the marks around a paste. ECMA-48, section 5.4: CSI
 * ends with a byte from 0x40 to 0x7E; the Linux console's "CSI [" has one more. */
void kf_keys_skip_escape(struct kf_keys *keys, unsigned char *byte)
{
    unsigned char taken = take_byte(keys, byte);

    if (taken == 'O' || taken != '[') {
        if (taken == 'O')
            take_byte(keys, byte);
        return;
    }
    taken = take_byte(keys, byte);
    if (taken == '[')
        take_byte(keys, byte);
    else
        while (taken && (taken < 0x40 || taken > 0x7E))
            taken = take_byte(keys, byte);
}

void kf_keys_skip_all(struct kf_keys *keys, unsigned char *byte)
{
    while (wait_for_key(keys, PASTE_MS) == 1 && read_byte(keys, byte))
        ;
}

kf_rv kf_keys_interrupted(struct kf_error *err)
{
    return kf_fail(err, KFR_INTERRUPTED, NULL, NULL, "interrupted");
}

kf_rv kf_keys_nothing(struct kf_error *err)
{
    return kf_fail(err, KFR_REFUSED, NULL, NULL, "nothing was entered");
}

/* Lets the signal do what it would have done, with the terminal as it was. True: that
 * was a pause only, and all goes on. */
static bool deliver(struct kf_keys *keys)
{
    int number = caught;

    if (number != SIGCONT) {
        usual(keys);
        signals_release(keys);
        raise(number);
        signals_catch(keys);
    }
    caught = 0;
    if (number != SIGCONT && number != SIGTSTP)
        return false;
    raw(keys, TCSADRAIN);
    if (keys->again)
        keys->again(keys->of);
    return true;
}

kf_rv kf_keys_next(struct kf_keys *keys, unsigned char *byte, bool *paused,
                   struct kf_error *err)
{
    *paused = false;
    for (;;) {
        int n = wait_for_key(keys, LOOK_MS);

        if (caught) {
            *paused = deliver(keys);
            return *paused ? KFR_OK : kf_keys_interrupted(err);
        }
        if (n < 0 && errno != EINTR)
            return kf_fail_errno(err, "ppoll", "/dev/tty");
        if (n <= 0)
            continue;
        if (read_byte(keys, byte))
            return KFR_OK;
        return kf_fail(err, KFR_REFUSED, "read", NULL, "the terminal went away");
    }
}
