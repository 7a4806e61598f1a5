/* SPDX-License-Identifier: MIT
 * The one call of luna that is not PKCS#11's.
 */
#include "luna.h"

#include <stdio.h>
#include <string.h>

/* Read/write, and the Crypto Officer logged in. */
static CK_RV may_clone(const struct luna_session *session)
{
    CK_SESSION_INFO info;
    CK_RV rv;

    if (!session)
        return CKR_SESSION_HANDLE_INVALID;
    rv = luna.real->C_GetSessionInfo(session->handle, &info);
    if (rv != CKR_OK)
        return rv;
    if (!(info.flags & CKF_RW_SESSION))
        return CKR_SESSION_READ_ONLY;
    if (info.state == CKS_RW_PUBLIC_SESSION)
        return CKR_USER_NOT_LOGGED_IN;
    if (info.state != CKS_RW_USER_FUNCTIONS || session->slot->crypto_user)
        return LUNA_NOT_AUTHORIZED;
    return session->slot->kind == LUNA_NET ? CKR_OK : LUNA_NOT_ALLOWED;
}

/* The partitions' domains are compared when an object comes, not before. */
static CK_RV one_domain(const struct luna_slot *a, const struct luna_slot *b)
{
    char first[256], second[256];

    if (!luna_text(a, "domain", first, sizeof first) ||
        !luna_text(b, "domain", second, sizeof second))
        return LUNA_PARAMETER_MISSING;
    return !strcmp(first, second) ? CKR_OK
                                  : luna_number(NULL, "mismatch", LUNA_DATA_INVALID);
}

static CK_RV has_room(const struct luna_slot *slot)
{
    unsigned long limit = luna_number(slot, "limit", ULONG_MAX);

    return limit == ULONG_MAX || luna_kept(slot) < limit
               ? CKR_OK
               : luna_number(slot, "full", LUNA_STORAGE_FULL);
}

static CK_RV kept(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE real)
{
    CK_BBOOL is = CK_FALSE;
    CK_ATTRIBUTE at = {CKA_TOKEN, &is, sizeof is};

    if (!real || luna.real->C_GetAttributeValue(session, real, &at, 1) != CKR_OK || !is)
        return CKR_OBJECT_HANDLE_INVALID;
    return CKR_OK;
}

static CK_RV do_clone(struct luna_session *target, struct luna_session *source,
                      CK_OBJECT_HANDLE object, CK_OBJECT_HANDLE *clone)
{
    CK_OBJECT_HANDLE real = luna_real(source->handle, object);
    unsigned char ouid[OUID];
    CK_RV rv = kept(source->handle, real);

    if (rv == CKR_OK && !luna_ouid(source->handle, real, ouid))
        rv = CKR_OBJECT_HANDLE_INVALID;
    if (rv == CKR_OK)
        rv = one_domain(target->slot, source->slot);
    if (rv == CKR_OK && luna_find(target->slot, ouid))
        rv = LUNA_ALREADY_EXISTS;
    if (rv == CKR_OK)
        rv = has_room(target->slot);
    if (rv != CKR_OK)
        return rv;
    if (!luna_move(source->slot, target->slot, ouid))
        return CKR_DEVICE_ERROR;
    real = luna_find(target->slot, ouid);
    if (!real)
        return CKR_DEVICE_ERROR;
    *clone = luna_own(target->slot, ouid, real, object);
    return CKR_OK;
}

static CK_RV clone_object(CK_SESSION_HANDLE target, CK_SESSION_HANDLE source,
                          CK_ULONG type, CK_OBJECT_HANDLE object,
                          CK_OBJECT_HANDLE *clone)
{
    CK_RV rv = luna_scripted("CA_CloneObject");

    if (rv == CKR_OK && !clone)
        rv = CKR_ARGUMENTS_BAD;
    if (rv == CKR_OK)
        rv = may_clone(luna_session(target));
    if (rv == CKR_OK)
        rv = may_clone(luna_session(source));
    if (rv == CKR_OK && type != 0)
        rv = LUNA_TYPE_INVALID;
    if (rv == CKR_OK)
        rv = do_clone(luna_session(target), luna_session(source), object, clone);
    return rv;
}

/* The target's session comes first. */
__attribute__((visibility("default"))) CK_RV
CA_CloneObject(CK_SESSION_HANDLE target, CK_SESSION_HANDLE source, CK_ULONG type,
               CK_OBJECT_HANDLE object, CK_OBJECT_HANDLE *clone)
{
    const struct luna_session *to = luna_session(target), *from = luna_session(source);
    char where[64];
    CK_RV rv = clone_object(target, source, type, object, clone);

    snprintf(where, sizeof where, " %ld %ld", to ? (long)to->slot->id : -1L,
             from ? (long)from->slot->id : -1L);
    luna_log("CA_CloneObject", where, rv);
    return rv;
}
