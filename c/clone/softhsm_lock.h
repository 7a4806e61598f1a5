/* SPDX-License-Identifier: MIT
 * softhsm_lock: one keyferry at a time.
 *
 * What is on a target is looked at first and changed afterwards; two runs that do so at
 * once would both add, or replace what the other has just put there. SoftHSM itself
 * takes no notice of these locks. They leave no file behind and end with the process.
 */
#ifndef KF_CLONE_SOFTHSM_LOCK_H
#define KF_CLONE_SOFTHSM_LOCK_H

#include "base/error.h"
#include "clone/softhsm_store.h"
#include "pkcs11/session.h"

#include <stdbool.h>

struct kf_softhsm_lock;

/* On the store of the session's token, and what a run that was killed left half done
 * there is undone or finished. KFR_REFUSED: another keyferry kept it for some seconds. */
kf_rv kf_softhsm_lock_token(struct kf_session *session, struct kf_softhsm_lock **out,
                            struct kf_error *err);
/* On the folder of all tokens, for making one. */
kf_rv kf_softhsm_lock_tokens(const struct kf_softhsm_conf *conf,
                             struct kf_softhsm_lock **out, struct kf_error *err);
/* Whether the token has a journal: a replacement that is decided and not yet all done. */
bool kf_softhsm_lock_is_pending(const struct kf_softhsm_lock *lock);
void kf_softhsm_lock_free(struct kf_softhsm_lock *lock); /* NULL is fine */

/* Whether a token of that label is in the store, also one that a module which was opened
 * before, or at the moment of a login elsewhere, does not list. */
kf_rv kf_softhsm_has_label(const struct kf_softhsm_conf *conf, const char *label,
                           bool *has, struct kf_error *err);

/* A token as its own file describes it, the label as the token's information gives it. */
struct kf_softhsm_token {
    char serial[17];
    char label[33];
};

/* The tokens of a store, read without starting SoftHSM, which would look at every object
 * first. What cannot be read is left out. The caller frees *out (plain free). */
kf_rv kf_softhsm_tokens(const struct kf_softhsm_conf *conf, struct kf_softhsm_token **out,
                        size_t *count, struct kf_error *err);

#endif
