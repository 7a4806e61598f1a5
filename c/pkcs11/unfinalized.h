/* SPDX-License-Identifier: MIT
 * unfinalized: libraries that do not stand C_Finalize (quirk.h). They stay loaded and
 * initialised, for whoever opens them next with the same settings in this process.
 */
#ifndef KF_PKCS11_UNFINALIZED_H
#define KF_PKCS11_UNFINALIZED_H

#include "pkcs11/module.h"

#include <stdbool.h>

struct kf_unfinalized;

/* Takes the one that was left with these settings; NULL: none was, or it is in use. */
struct kf_unfinalized *kf_unfinalized_take(const char *path,
                                           const struct kf_module_options *options);
/* A module that is open now, and will have to be left. NULL: no memory. */
struct kf_unfinalized *kf_unfinalized_new(const char *path,
                                          const struct kf_module_options *options);
/* Leaves it: ends all sessions, and with them the logins. NULL is fine. */
void kf_unfinalized_leave(struct kf_unfinalized *left, CK_FUNCTION_LIST *functions);

#endif
