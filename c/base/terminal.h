/* SPDX-License-Identifier: MIT
 * terminal: one line from the user at the controlling terminal.
 *
 * What is typed goes byte by byte into secret memory. The terminal is as it was before
 * whenever this returns and whenever a signal stops or ends the process.
 */
#ifndef KF_BASE_TERMINAL_H
#define KF_BASE_TERMINAL_H

#include "base/error.h"
#include "base/secret.h"

enum { KF_TERMINAL_MAX = 1024 };

enum kf_echo { KF_ECHO_PLAIN, KF_ECHO_ASTERISKS };

/* Writes prompt to /dev/tty and reads a line there, at most KF_TERMINAL_MAX bytes
 * (KFR_LIMIT). What was typed before the prompt stood there is dropped. Backspace takes
 * back a character, Ctrl-U and Ctrl-W all. Ctrl-C is KFR_INTERRUPTED, Ctrl-D on an
 * empty line and a process without a terminal KFR_REFUSED. The caller frees *out. */
kf_rv kf_terminal_ask(const char *prompt, enum kf_echo echo, struct kf_secret **out,
                      struct kf_error *err);

#endif
