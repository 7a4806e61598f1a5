/* SPDX-License-Identifier: MIT */
#include "liar_path.h"

#include "liar.h"
#include "pad.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct path {
    struct kf_pad pad;
    char dir[PATH_MAX];
};

/* The folder of the token with that label (32 bytes), when there is one. */
static void of_label(struct path *path, const CK_UTF8CHAR *label)
{
    char own[PATH_MAX + 64];
    int n = 32;

    while (n && label[n - 1] == ' ')
        n--;
    snprintf(own, sizeof own, "%s/%.*s", path->dir, n, (const char *)label);
    if (n && strlen(own) < sizeof path->dir && !access(own, X_OK))
        memcpy(path->dir, own, strlen(own) + 1);
}

static void of_session(struct path *path, CK_SESSION_HANDLE session)
{
    CK_SESSION_INFO info;
    CK_TOKEN_INFO token;

    if (liar.real->C_GetSessionInfo(session, &info) == CKR_OK &&
        liar.real->C_GetTokenInfo(info.slotID, &token) == CKR_OK)
        of_label(path, token.label);
}

/* False: there is no protected path, and what the caller gave counts. */
static bool begin(struct path *path, const char *name)
{
    const struct rule *pap = liar_first(LIE_PAP, 0);

    if (!pap)
        return false;
    snprintf(path->dir, sizeof path->dir, "%s", pap->text);
    path->pad = (struct kf_pad){path->dir, name, CKR_FUNCTION_CANCELED, CKR_PIN_LOCKED,
                                CKR_PIN_INCORRECT, 0};
    return true;
}

CK_RV liar_init_token(CK_SLOT_ID slot, CK_BYTE *pin, CK_ULONG len, CK_BYTE *label)
{
    struct path path;
    char room[KF_PAD_ROOM];
    CK_RV rv;

    if (!begin(&path, "so"))
        return liar.real->C_InitToken(slot, pin, len, label);
    of_label(&path, label);
    rv = kf_pad_ask(&path.pad, &pin, &len, room);
    if (rv == CKR_OK)
        rv = liar.real->C_InitToken(slot, pin, len, label);
    return kf_pad_judge(&path.pad, rv);
}

CK_RV liar_init_pin(CK_SESSION_HANDLE session, CK_BYTE *pin, CK_ULONG len)
{
    struct path path;
    char room[KF_PAD_ROOM];
    CK_RV rv;

    if (!begin(&path, "user"))
        return liar.real->C_InitPIN(session, pin, len);
    of_session(&path, session);
    rv = kf_pad_ask(&path.pad, &pin, &len, room);
    return rv == CKR_OK ? liar.real->C_InitPIN(session, pin, len) : rv;
}

CK_RV liar_set_pin(CK_SESSION_HANDLE session, CK_BYTE *old, CK_ULONG old_len,
                   CK_BYTE *new, CK_ULONG new_len)
{
    struct path path, changed;
    char old_room[KF_PAD_ROOM], new_room[KF_PAD_ROOM];
    CK_RV rv;

    if (!begin(&path, "user") || !begin(&changed, "new"))
        return liar.real->C_SetPIN(session, old, old_len, new, new_len);
    of_session(&path, session);
    of_session(&changed, session);
    rv = kf_pad_ask(&path.pad, &old, &old_len, old_room);
    if (rv == CKR_OK)
        rv = kf_pad_ask(&changed.pad, &new, &new_len, new_room);
    if (rv == CKR_OK)
        rv = liar.real->C_SetPIN(session, old, old_len, new, new_len);
    return kf_pad_judge(&path.pad, rv);
}

CK_RV liar_login(CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_BYTE *pin,
                 CK_ULONG len)
{
    struct path path;
    char room[KF_PAD_ROOM];
    CK_RV rv;

    if (!begin(&path, user == CKU_SO ? "so" : "user"))
        return liar.real->C_Login(session, user, pin, len);
    of_session(&path, session);
    rv = kf_pad_ask(&path.pad, &pin, &len, room);
    if (rv == CKR_OK)
        rv = liar.real->C_Login(session, user, pin, len);
    return kf_pad_judge(&path.pad, rv);
}
