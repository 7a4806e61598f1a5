/* SPDX-License-Identifier: MIT
 * session: an open session, and who is logged in.
 *
 * The only holder of a CK_SESSION_HANDLE. A session keeps the user PIN it logged in
 * with, in the secure heap, until logout or close: the engine softhsm opens the token
 * store with it.
 */
#ifndef KF_PKCS11_SESSION_H
#define KF_PKCS11_SESSION_H

#include "base/error.h"
#include "base/secret.h"
#include "pkcs11/module.h"
#include "pkcs11/slot.h"

struct kf_session;

kf_rv kf_session_open(struct kf_module *module, CK_SLOT_ID slot, bool writable,
                      struct kf_session **out, struct kf_error *err);
/* Closes (idempotent) but keeps the struct, so that late callers hear KFR_CLOSED. */
void kf_session_close(struct kf_session *session);
/* Closes and frees; NULL is fine. */
void kf_session_free(struct kf_session *session);

/* C_Login. user is CKU_USER or CKU_SO. pin NULL: protected authentication path. Looks
 * at the token flags first and refuses a locked PIN without trying it; a PIN that was
 * refused on this module and slot is remembered (as a digest) and not tried again.
 * err->hint says when a last try is left. CKR_USER_ALREADY_LOGGED_IN is success. */
kf_rv kf_session_login(struct kf_session *session, CK_USER_TYPE user,
                       const struct kf_secret *pin, struct kf_error *err);
kf_rv kf_session_logout(struct kf_session *session, struct kf_error *err);
/* C_InitPIN in a session logged in as SO. */
kf_rv kf_session_init_pin(struct kf_session *session, const struct kf_secret *pin,
                          struct kf_error *err);

bool kf_session_is_open(const struct kf_session *session);
/* 0, or KFR_CLOSED with the sentence for a call that is not made then. */
kf_rv kf_session_check_open(const struct kf_session *session, const char *call,
                            struct kf_error *err);
bool kf_session_is_writable(const struct kf_session *session);
/* Who is logged in (C_GetSessionInfo, PKCS#11 v2.40 section 5.6): CKU_USER, CKU_SO, or
 * CK_UNAVAILABLE_INFORMATION for nobody. All sessions with a token share it. */
kf_rv kf_session_user(const struct kf_session *session, CK_USER_TYPE *out,
                      struct kf_error *err);
CK_SESSION_HANDLE kf_session_handle(const struct kf_session *session);
CK_SLOT_ID kf_session_slot(const struct kf_session *session);
struct kf_module *kf_session_module(const struct kf_session *session);
/* The token as it was when the session was opened (label, serial, flags, PIN limits).
 */
const struct kf_token *kf_session_token(const struct kf_session *session);
/* The user PIN logged in with; NULL when none (not logged in, protected path). */
const struct kf_secret *kf_session_pin(const struct kf_session *session);

/* Room for what the reader of objects learns of a token during the session: one
 * pointer, given to release when the session is freed. */
void *kf_session_memo(const struct kf_session *session);
void kf_session_set_memo(struct kf_session *session, void *memo,
                         void (*release)(void *));

#endif
