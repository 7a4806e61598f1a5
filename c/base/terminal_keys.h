/* SPDX-License-Identifier: MIT
 * terminal_keys: the keys pressed at the controlling terminal, one by one, unseen. The
 * ground of what asks there (terminal.h, terminal_share.h).
 *
 * The terminal is as it was before whenever a signal stops or ends the process.
 */
#ifndef KF_BASE_TERMINAL_KEYS_H
#define KF_BASE_TERMINAL_KEYS_H

#include "base/error.h"
#include "base/secret.h"
#include "base/terminal.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <termios.h>

enum kf_key {
    KF_CTRL_C = 0x03,
    KF_CTRL_D = 0x04,
    KF_BACKSPACE = 0x08,
    KF_CTRL_U = 0x15,
    KF_CTRL_W = 0x17,
    KF_ESCAPE = 0x1B,
    KF_DELETE = 0x7F
};

enum { KF_CAUGHT = 6 };

struct kf_keys {
    int fd; /* -1: not open */
    bool raw;
    struct termios usual;
    struct sigaction before[KF_CAUGHT];
    sigset_t mask_before;
    /* May be NULL. Called whenever the terminal is put back as it was; and when it is ours
     * again after a pause. */
    void (*leave)(void *of);
    void (*again)(void *of);
    void *of;
};

/* Opens /dev/tty (KFR_REFUSED: there is none), drops what was typed before, and takes the
 * keys; kf_keys_close gives them back, and is fine after a failure. */
kf_rv kf_keys_open(struct kf_keys *keys, struct kf_error *err);
void kf_keys_close(struct kf_keys *keys);

void kf_keys_put(const struct kf_keys *keys, const char *bytes, size_t n);
void kf_keys_say(const struct kf_keys *keys, const char *text);

/* Waits for a byte, which goes to *byte, in secret memory. *paused: instead of that, the
 * process was stopped and goes on; what is on the screen may be gone. */
kf_rv kf_keys_next(struct kf_keys *keys, unsigned char *byte, bool *paused,
                   struct kf_error *err);
/* Takes the rest of a key whose first byte was ESC, by way of *byte. */
void kf_keys_skip_escape(struct kf_keys *keys, unsigned char *byte);
/* Takes what comes without a pause, by way of *byte: the rest of a paste. */
void kf_keys_skip_all(struct kf_keys *keys, unsigned char *byte);

kf_rv kf_keys_interrupted(struct kf_error *err);
kf_rv kf_keys_nothing(struct kf_error *err);

/* A line, edited as kf_terminal_ask has it. `first`, unless 0, was pressed already. */
kf_rv kf_keys_line(struct kf_keys *keys, const char *prompt, enum kf_echo echo,
                   unsigned char first, struct kf_secret **out, struct kf_error *err);

#endif
