/* SPDX-License-Identifier: MIT
 * Lies about what comes back from a call. Each takes what the real module answered, and
 * gives what liar answers.
 */
#ifndef KF_SPEC_SUPPORT_LIAR_ANSWERS_H
#define KF_SPEC_SUPPORT_LIAR_ANSWERS_H

#include <p11-kit/pkcs11.h>

#include <stdbool.h>
#include <stddef.h>

/* Bytes of a length, by a call of either shape. */
CK_RV liar_bytes(int function, CK_RV rv, CK_BYTE *out, CK_ULONG *len);
typedef CK_RV pump(CK_SESSION_HANDLE, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG *);
CK_RV liar_pump(int function, pump *real, CK_SESSION_HANDLE session, CK_BYTE *in,
                CK_ULONG in_len, CK_BYTE *out, CK_ULONG *len);
typedef CK_RV give(CK_SESSION_HANDLE, CK_BYTE *, CK_ULONG *);
CK_RV liar_give(int function, give *real, CK_SESSION_HANDLE session, CK_BYTE *out,
                CK_ULONG *len);

/* A structure, or a buffer of a known size. */
CK_RV liar_fixed(int function, CK_RV rv, void *to, size_t size);

/* The handle of what was made. */
CK_RV liar_handle(int function, CK_RV rv, CK_OBJECT_HANDLE *handle);
CK_RV liar_open(CK_RV rv, CK_SESSION_HANDLE *session);

/* What a handle given before means to the real module now. */
CK_SESSION_HANDLE liar_session(CK_SESSION_HANDLE session);
CK_OBJECT_HANDLE liar_object(CK_OBJECT_HANDLE object);

void liar_search_begins(void);
CK_RV liar_found(CK_RV rv, CK_OBJECT_HANDLE *objects, CK_ULONG max, CK_ULONG *count);

/* `room` is what the list has room for. */
CK_RV liar_slots(CK_RV rv, CK_SLOT_ID *list, CK_ULONG room, CK_ULONG *count);
/* Whether that slot is one of those that are not there. */
bool liar_made_up(CK_SLOT_ID slot);
CK_RV liar_mechanisms(CK_RV rv, CK_MECHANISM_TYPE *list, CK_ULONG room,
                      CK_ULONG *count);

#endif
