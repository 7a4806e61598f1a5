/* SPDX-License-Identifier: MIT
 * terminal_share: shares (share.h) shown and typed at the controlling terminal.
 */
#ifndef KF_BASE_TERMINAL_SHARE_H
#define KF_BASE_TERMINAL_SHARE_H

#include "base/error.h"
#include "base/secret.h"
#include "base/share.h"

#include <stdbool.h>
#include <stddef.h>

/* Shows title and numbered words on a screen of their own, and asks whether they are
 * written down; then they are gone. KFR_REFUSED: no terminal, or one that cannot forget
 * what it shows. */
kf_rv kf_terminal_show_share(const struct kf_share *share, const char *title,
                             bool *written, struct kf_error *err);

/* Asks for a share, word by word; `length` is how many are expected (0: not known, and
 * Enter alone says that it was the last). A word is seen while it is typed, and whole as
 * soon as its letters tell it; a blank or Enter takes it. One that is none is said with
 * its number and typed again. At the end the word that is mistyped (or the two that are
 * swapped) is asked for again; KFR_SHARE when it is not just that. Backspace goes back.
 *
 * What begins with '/', '.' or '~' is a path: then *share is NULL, and *path is owned by
 * the caller. */
kf_rv kf_terminal_ask_share(const char *prompt, size_t length, struct kf_share **share,
                            struct kf_secret **path, struct kf_error *err);

#endif
