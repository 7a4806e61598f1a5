/* SPDX-License-Identifier: MIT
 * pad: the operator of a protected authentication path, played by files in a folder.
 * Roles have names, such as user and so.
 *
 *   NAME.pin          the key at hand: its text is the PIN. No file: nobody is there
 *   NAME.keys/        instead of it: a folder of key files. NAME.needs (1) of them must
 *                     be there within the one call, and of one key, that is, alike
 *   NAME.challenge    the role is activated: the caller must give this text as the PIN
 *                     (which no role takes otherwise), and no key is asked for
 *   NAME.tries        wrong ones in a row that lock the role; NAME.wrong counts them
 *   takes             milliseconds that the operator needs at least
 *   patience          milliseconds that the device waits for keys (0)
 *   absent, locked, incorrect
 *                     the CKR, a number: nobody is there, the role is locked, a wrong
 *                     challenge
 *   acts              gets a line for each dialogue, "user 2 of 3": the keys that were
 *                     there, and those needed
 */
#ifndef KF_SPEC_SUPPORT_PAD_H
#define KF_SPEC_SUPPORT_PAD_H

#include <p11-kit/pkcs11.h>

#include <stdbool.h>

enum { KF_PAD_ROOM = 256 };

struct kf_pad {
    const char *dir, *name;
    /* What holds without the files; tries 0: the role is never locked. */
    CK_RV absent, locked, incorrect;
    unsigned long tries;
};

bool kf_pad_is_locked(const struct kf_pad *pad);
/* The PIN for the real module in `room`. `*pin` is what the caller gave. */
CK_RV kf_pad_ask(const struct kf_pad *pad, CK_BYTE **pin, CK_ULONG *len,
                 char room[KF_PAD_ROOM]);
/* Counts what came of it, which is what it returns. */
CK_RV kf_pad_judge(const struct kf_pad *pad, CK_RV rv);

#endif
