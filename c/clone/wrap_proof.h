/* SPDX-License-Identifier: MIT
 * wrap_proof: whether a way of wrapping is what it is taken for, by a key that is known.
 */
#ifndef KF_CLONE_WRAP_PROOF_H
#define KF_CLONE_WRAP_PROOF_H

#include "clone/wrap_way.h"

/* 0: it is. Else what the module answered, or KFR_DIFFERS, KFR_DAMAGED: another form. */
kf_rv kf_wrap_prove(struct kf_wrap_format *format, const struct kf_wrap_way *way,
                    bool unwrap);

#endif
