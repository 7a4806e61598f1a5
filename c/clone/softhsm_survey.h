/* SPDX-License-Identifier: MIT
 * softhsm_survey: objects that a token store has and no listing will ever show.
 *
 * SoftHSM passes over an object file that it cannot parse, without a word. One that was
 * torn between two records is an object to it: at the first look it gives the missing
 * attributes its defaults, and writes them. A backup that follows the listing would
 * call itself whole without the first, and put the second over a good copy.
 */
#ifndef KF_CLONE_SOFTHSM_SURVEY_H
#define KF_CLONE_SOFTHSM_SURVEY_H

#include "base/error.h"
#include "pkcs11/session.h"

#include <stddef.h>

/* One error, which names the file, for each object file of the session's token that is
 * no whole object; *out is freed with free(). To be called before anything looks at an
 * object through PKCS#11. An object that is just being made is waited for. Needs no
 * login, writes nothing. */
kf_rv kf_softhsm_survey(struct kf_session *session, struct kf_error **out,
                        size_t *count, struct kf_error *err);

/* How many object files there are, and how many of them a survey finds or were never more
 * than begun. What nobody sees without a login is among them. */
kf_rv kf_softhsm_count(struct kf_session *session, size_t *files, size_t *wrecks,
                       struct kf_error *err);

/* Removes what a survey finds, and what was never more than begun, and tells how many
 * that were: only where it is known that nobody misses it. Takes the writer's lock. */
kf_rv kf_softhsm_clear_wrecks(struct kf_session *session, size_t *count,
                              struct kf_error *err);

#endif
