/* SPDX-License-Identifier: MIT
 * token: a token of a soft HSM, open and logged in, in its own copy of SoftHSM. Any
 * refusal ends the program: this is for measuring, not for keeping.
 */
#ifndef KF_SPEC_TOKEN_H
#define KF_SPEC_TOKEN_H

#include "support/image.h"

#include <stddef.h>

struct token {
    CK_FUNCTION_LIST *p11;
    CK_SESSION_HANDLE session;
};

/* conf: a softhsm2.conf. NULL label: the first initialised token. */
void kf_token_open(struct token *token, const char *conf, const char *label, char *pin);
void kf_token_close(struct token *token);
void kf_token_check(CK_RV rv, const char *call);
double kf_token_seconds(void); /* of the monotonic clock */
/* One line of standard input without its end, into at most 255 bytes. */
void kf_token_read_pin(char pin[256]);

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

#endif
