/* SPDX-License-Identifier: MIT
 * softhsm_length: length words of a token store that SoftHSM would die of.
 *
 * SoftHSM takes the memory that a length word asks for before it looks at what is left
 * of the file, and calls exit(5) when there is none (ObjectFile.cpp, File.cpp of 2.6.1),
 * in C_Initialize or in a search, whichever token was wanted. To be looked for before
 * the module is started.
 */
#ifndef KF_CLONE_SOFTHSM_LENGTH_H
#define KF_CLONE_SOFTHSM_LENGTH_H

#include "base/error.h"
#include "clone/softhsm_store.h"

/* KFR_STORE, naming the file, when an object file of any token has such a word. What
 * cannot be read is passed over: it does not kill. Takes no lock and writes nothing. */
kf_rv kf_softhsm_check_lengths(const struct kf_softhsm_conf *conf,
                               struct kf_error *err);

#endif
