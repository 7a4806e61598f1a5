/* SPDX-License-Identifier: MIT
 * softhsm_unlisted: objects that a token store has, whole, and the module did not list.
 *
 * A listing that ends too soon, or renumbers its objects on the way, looks like one of
 * fewer objects. The files tell.
 */
#ifndef KF_CLONE_SOFTHSM_UNLISTED_H
#define KF_CLONE_SOFTHSM_UNLISTED_H

#include "base/error.h"

#include <stddef.h>

/* As struct kf_engine has it. */
kf_rv kf_softhsm_unlisted(void *state, struct kf_error **out, size_t *count,
                          struct kf_error *err);

#endif
