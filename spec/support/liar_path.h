/* SPDX-License-Identifier: MIT
 * `pap` of liar: a protected authentication path, whose operator is support/pad.h.
 */
#ifndef KF_SPEC_SUPPORT_LIAR_PATH_H
#define KF_SPEC_SUPPORT_LIAR_PATH_H

#include <p11-kit/pkcs11.h>

CK_RV liar_init_token(CK_SLOT_ID slot, CK_BYTE *pin, CK_ULONG len, CK_BYTE *label);
CK_RV liar_init_pin(CK_SESSION_HANDLE session, CK_BYTE *pin, CK_ULONG len);
CK_RV liar_set_pin(CK_SESSION_HANDLE session, CK_BYTE *old, CK_ULONG old_len,
                   CK_BYTE *new, CK_ULONG new_len);
CK_RV liar_login(CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_BYTE *pin,
                 CK_ULONG len);

#endif
