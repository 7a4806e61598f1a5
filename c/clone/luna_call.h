/* SPDX-License-Identifier: MIT
 * luna_call: the one call of Luna's vendor that the engine luna uses, and the numbers
 * that go with it.
 *
 * The documented prototype, found by its name in the module's image. Tested against a
 * stand-in; not run on Luna hardware.
 */
#ifndef KF_CLONE_LUNA_CALL_H
#define KF_CLONE_LUNA_CALL_H

#include "pkcs11/module.h"
#include "pkcs11/session.h"

/* CA_CloneObject: target session first. Both sessions are read/write ones of the same
 * module, in two slots, logged in as CKU_USER; `object` is a handle of the source,
 * `*clone` becomes one of the target. */
typedef CK_RV (*kf_luna_clone)(CK_SESSION_HANDLE target, CK_SESSION_HANDLE source,
                               CK_ULONG type, CK_OBJECT_HANDLE object,
                               CK_OBJECT_HANDLE *clone);

/* The type of PKCS#11 objects; every other is KF_LUNA_OBJECT_TYPE_INVALID. */
#define KF_LUNA_TYPE_OBJECT 0UL

/* The identity of an object, which its clones keep. */
#define KF_CKA_OUID 0x80000005UL
enum { KF_OUID_BYTES = 12 };

#define KF_LUNA_OBJECT_ALREADY_EXISTS 0x8000006FUL
#define KF_LUNA_BUSY 0x80001604UL

/* NULL: the module's own image has no such call. */
kf_luna_clone kf_luna_call(const struct kf_module *module);

/* KFR_NO_ENGINE with the reason: from or to a slot of that kind nothing is cloned. A
 * virtual slot of several HSMs is no partition; one of an HSM's Security Officer holds
 * nobody's keys. */
kf_rv kf_luna_check_slot(const struct kf_session *session, bool source,
                         struct kf_error *err);

#endif
