/* SPDX-License-Identifier: MIT
 * Logging in to a partition of luna: by password, on the protected path, by challenge.
 */
#include "luna.h"

#include "pad.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool luna_is_protected(const struct luna_slot *slot)
{
    char path[PATH_MAX + 160];

    snprintf(path, sizeof path, "%s/%s/ped", luna.state, slot->serial);
    return !access(path, F_OK);
}

struct path {
    struct kf_pad pad;
    char dir[PATH_MAX + NAME_MAX_LEN + 8];
};

static void begin(struct path *path, const struct luna_slot *slot, CK_USER_TYPE user)
{
    bool ped = luna_is_protected(slot), so = user == CKU_SO;

    snprintf(path->dir, sizeof path->dir, "%s/%s%s", luna.state, slot->serial,
             ped ? "/ped" : "");
    path->pad = (struct kf_pad){
        path->dir, so ? "so" : "user", CKR_FUNCTION_CANCELED,
        so ? LUNA_SO_THRESHOLD : LUNA_USER_LOCKED_OUT, LUNA_CHALLENGE_INCORRECT,
        so ? 3 : 10,
    };
    if (ped)
        path->pad.name = so ? "blue" : "black";
}

static CK_RV login_crypto_user(struct luna_session *session, const CK_BYTE *pin,
                               CK_ULONG len)
{
    char room[256];
    CK_RV rv = CKR_PIN_INCORRECT;

    if (!luna_text(session->slot, "crypto-user", room, sizeof room))
        return CKR_USER_PIN_NOT_INITIALIZED;
    if (!pin || len != strlen(room) || memcmp(pin, room, len) != 0)
        return rv;
    if (!luna_text(session->slot, "pin", room, sizeof room))
        return CKR_DEVICE_ERROR;
    rv = luna.real->C_Login(session->handle, CKU_USER, (CK_BYTE *)room, strlen(room));
    session->slot->crypto_user = rv == CKR_OK;
    return rv;
}

CK_RV luna_login(CK_SESSION_HANDLE handle, CK_USER_TYPE user, CK_BYTE *pin,
                 CK_ULONG len)
{
    struct luna_session *session = luna_session(handle);
    char room[KF_PAD_ROOM];
    struct path path;
    CK_RV rv = CKR_OK;

    if (!session)
        return CKR_SESSION_HANDLE_INVALID;
    if (user == CKU_CRYPTO_USER)
        return login_crypto_user(session, pin, len);
    begin(&path, session->slot, user);
    if (kf_pad_is_locked(&path.pad))
        return path.pad.locked;
    if (luna_is_protected(session->slot))
        rv = kf_pad_ask(&path.pad, &pin, &len, room);
    if (rv == CKR_OK)
        rv = luna.real->C_Login(handle, user, pin, len);
    return kf_pad_judge(&path.pad, rv);
}

CK_RV luna_logout(CK_SESSION_HANDLE handle)
{
    struct luna_session *session = luna_session(handle);

    if (session)
        session->slot->crypto_user = false;
    return luna.real->C_Logout(handle);
}

CK_RV luna_set_pin(CK_SESSION_HANDLE handle, CK_BYTE *old, CK_ULONG old_len,
                   CK_BYTE *new, CK_ULONG new_len)
{
    const struct luna_session *session = luna_session(handle);
    char pin[256];
    CK_RV rv;

    if (!session || luna_is_protected(session->slot) || new_len >= sizeof pin)
        return LUNA_NOT_ALLOWED;
    rv = luna.real->C_SetPIN(handle, old, old_len, new, new_len);
    if (rv == CKR_OK) {
        snprintf(pin, sizeof pin, "%.*s", (int)new_len, (const char *)new);
        luna_put(session->slot, "pin", pin);
    }
    return rv;
}
