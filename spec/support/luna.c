/* SPDX-License-Identifier: MIT
 * luna: a PKCS#11 module that stands in for the library of a network HSM with
 * CA_CloneObject. A private copy of SoftHSM does the work of PKCS#11. Made from the
 * vendor's public documentation; nobody has laid it beside the hardware.
 *
 * LUNA_STATE is a folder, looked for in C_Initialize (support/luna.lua makes one):
 *   softhsm2.conf, tokens/      SoftHSM's
 *   slots                       a line a slot: "net 0 FOLDER SERIAL" (a partition),
 *                               "admin ...", "ha ...", "empty 5" (no token there).
 *                               FOLDER: of SoftHSM's token, below tokens/
 *   log                         gets "C_Login 0 0x0": the slots, then the answer; of
 *                               CA_CloneObject the target's slot first. No argument
 *   next.FUNCTION               answers of the next calls, a line each; 0: the truth
 *   mismatch                    what two domains give (0x8000000B)
 *   SERIAL/pin                  the PIN of SoftHSM's token
 *   SERIAL/domain               a partition without that file has no domain
 *   SERIAL/limit, SERIAL/full   how many objects it keeps; what the next one gives
 *                               (0x8000002C)
 *   SERIAL/label                instead of the token's; SERIAL/free: the bytes that are
 *                               free (nobody counts them)
 *   SERIAL/crypto-user          PIN of the Crypto User, who may look and not clone
 *   SERIAL/user.tries, so.tries wrong logins in a row that lock a role out (10, 3);
 *                               user.wrong and so.wrong count them
 *   SERIAL/ped/                 there: a protected authentication path, played as pad.h
 *                               tells; keys are black (Crypto Officer) and blue (SO)
 *
 * Inferred, and nowhere documented: CKA_OUID stays the same through CA_CloneObject (it
 * is documented of a newer call); a clone keeps every attribute, CKA_LOCAL,
 * CKA_ALWAYS_SENSITIVE and CKA_NEVER_EXTRACTABLE included; the Crypto User and the SO
 * get 0x8000001A; a session object has no clone (CKR_OBJECT_HANDLE_INVALID); a
 * partition without a domain gives 0x80000009; no flag tells of wrong logins; the order
 * in which refusals are looked at; a search by CKA_OUID is refused; so are C_InitToken
 * and C_InitPIN (0x80000030), since what they do there is not known. One thread at a
 * time.
 */
#include "luna.h"

#include "image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fill(CK_UTF8CHAR *field, size_t size, const char *text)
{
    memset(field, ' ', size);
    memcpy(field, text, strlen(text) < size ? strlen(text) : size);
}
#define FILL(field, text) fill(field, sizeof(field), text)

static CK_RV initialize(void *args)
{
    char conf[PATH_MAX + 32], *before = getenv("SOFTHSM2_CONF");
    CK_RV rv;

    luna_look_around();
    before = before ? strdup(before) : NULL;
    snprintf(conf, sizeof conf, "%s/softhsm2.conf", luna.state);
    setenv("SOFTHSM2_CONF", conf, 1);
    rv = luna.real->C_Initialize(args);
    if (before)
        setenv("SOFTHSM2_CONF", before, 1);
    else
        unsetenv("SOFTHSM2_CONF");
    free(before);
    if (rv == CKR_OK)
        luna_match_slots();
    return rv;
}

static CK_RV finalize(void *reserved)
{
    CK_RV rv = luna.real->C_Finalize(reserved);

    if (rv == CKR_OK)
        luna_forget();
    return rv;
}

static CK_RV get_info(CK_INFO *info)
{
    CK_RV rv = luna.real->C_GetInfo(info);

    if (rv == CKR_OK) {
        FILL(info->manufacturerID, "Safenet, Inc.");
        FILL(info->libraryDescription, "stand-in for tests");
    }
    return rv;
}

static CK_RV slot_list(CK_BBOOL present, CK_SLOT_ID *list, CK_ULONG *count)
{
    CK_ULONG n = 0, room;

    if (!count)
        return CKR_ARGUMENTS_BAD;
    if (!luna.count)
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    room = *count;
    for (size_t i = 0; i < luna.count; i++) {
        if (present && luna.slots[i].kind == LUNA_EMPTY)
            continue;
        if (list && n < room)
            list[n] = luna.slots[i].id;
        n++;
    }
    *count = n;
    return list && n > room ? CKR_BUFFER_TOO_SMALL : CKR_OK;
}

static CK_RV slot_info(CK_SLOT_ID id, CK_SLOT_INFO *info)
{
    static const char *const descriptions[] = {
        "Net Token Slot", "Admin Token Slot", "HA Virtual Card Slot", "Net Token Slot"};
    const struct luna_slot *slot = luna_slot(id);

    if (!slot)
        return CKR_SLOT_ID_INVALID;
    memset(info, 0, sizeof *info);
    FILL(info->slotDescription, descriptions[slot->kind]);
    FILL(info->manufacturerID, "Safenet, Inc.");
    info->flags = CKF_HW_SLOT | CKF_REMOVABLE_DEVICE;
    if (slot->kind != LUNA_EMPTY)
        info->flags |= CKF_TOKEN_PRESENT;
    return CKR_OK;
}

/* SoftHSM's slot for one of ours that has a token. */
static CK_RV present(CK_SLOT_ID id, CK_SLOT_ID *real)
{
    const struct luna_slot *slot = luna_slot(id);

    if (!slot)
        return CKR_SLOT_ID_INVALID;
    *real = slot->real;
    return slot->kind == LUNA_EMPTY ? CKR_TOKEN_NOT_PRESENT : CKR_OK;
}

static CK_RV token_info(CK_SLOT_ID id, CK_TOKEN_INFO *info)
{
    const struct luna_slot *slot = luna_slot(id);
    char label[NAME_MAX_LEN];
    CK_ULONG room;
    CK_SLOT_ID real;
    CK_RV rv = present(id, &real);

    if (rv == CKR_OK)
        rv = luna.real->C_GetTokenInfo(real, info);
    if (rv != CKR_OK)
        return rv;
    FILL(info->manufacturerID, "Safenet, Inc.");
    FILL(info->model, "stand-in");
    FILL(info->serialNumber, slot->serial);
    if (luna_text(slot, "label", label, sizeof label))
        FILL(info->label, label);
    room = luna_number(slot, "free", info->ulFreePrivateMemory);
    info->ulFreePrivateMemory = info->ulFreePublicMemory = room;
    info->flags &= ~(CK_FLAGS)(CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY);
    if (luna_is_protected(slot))
        info->flags |= CKF_PROTECTED_AUTHENTICATION_PATH;
    return rv;
}

static CK_RV mechanism_list(CK_SLOT_ID id, CK_MECHANISM_TYPE *list, CK_ULONG *count)
{
    CK_SLOT_ID real;
    CK_RV rv = present(id, &real);

    return rv == CKR_OK ? luna.real->C_GetMechanismList(real, list, count) : rv;
}

static CK_RV mechanism_info(CK_SLOT_ID id, CK_MECHANISM_TYPE type,
                            CK_MECHANISM_INFO *info)
{
    CK_SLOT_ID real;
    CK_RV rv = present(id, &real);

    return rv == CKR_OK ? luna.real->C_GetMechanismInfo(real, type, info) : rv;
}

static CK_RV init_token(CK_SLOT_ID id, CK_BYTE *pin, CK_ULONG len, CK_BYTE *label)
{
    CK_SLOT_ID real;
    CK_RV rv = present(id, &real);

    (void)pin, (void)len, (void)label;
    return rv == CKR_OK ? LUNA_NOT_ALLOWED : rv;
}

static CK_RV init_pin(CK_SESSION_HANDLE session, CK_BYTE *pin, CK_ULONG len)
{
    (void)session, (void)pin, (void)len;
    return LUNA_NOT_ALLOWED;
}

/* Sessions. */

static CK_RV open_session(CK_SLOT_ID id, CK_FLAGS flags, void *context,
                          CK_NOTIFY notify, CK_SESSION_HANDLE *session)
{
    struct luna_session *free_one = NULL;
    CK_SLOT_ID real;
    CK_RV rv = present(id, &real);

    for (size_t i = 0; i < SESSIONS_MAX && !free_one; i++)
        if (!luna.sessions[i].slot)
            free_one = &luna.sessions[i];
    if (rv == CKR_OK && !free_one)
        rv = CKR_SESSION_COUNT;
    if (rv == CKR_OK)
        rv = luna.real->C_OpenSession(real, flags, context, notify, session);
    if (rv != CKR_OK)
        return rv;
    free_one->handle = *session;
    free_one->slot = luna_slot(id);
    free_one->searching = false;
    return rv;
}

static void forget(struct luna_session *session)
{
    struct luna_slot *slot = session->slot;
    bool last = true;

    free(session->found);
    memset(session, 0, sizeof *session);
    for (size_t i = 0; i < SESSIONS_MAX; i++)
        last = last && luna.sessions[i].slot != slot;
    if (last)
        slot->crypto_user = false;
}

static CK_RV close_session(CK_SESSION_HANDLE handle)
{
    struct luna_session *session = luna_session(handle);
    CK_RV rv = luna.real->C_CloseSession(handle);

    if (rv == CKR_OK && session)
        forget(session);
    return rv;
}

static CK_RV close_all(CK_SLOT_ID id)
{
    CK_SLOT_ID real;
    CK_RV rv = present(id, &real);

    if (rv == CKR_OK)
        rv = luna.real->C_CloseAllSessions(real);
    for (size_t i = 0; rv == CKR_OK && i < SESSIONS_MAX; i++)
        if (luna.sessions[i].slot == luna_slot(id))
            forget(&luna.sessions[i]);
    return rv;
}

static CK_RV session_info(CK_SESSION_HANDLE handle, CK_SESSION_INFO *info)
{
    const struct luna_session *session = luna_session(handle);
    CK_RV rv = luna.real->C_GetSessionInfo(handle, info);

    if (rv == CKR_OK && session)
        info->slotID = session->slot->id;
    return rv;
}

/* Objects. */

static struct luna_slot *slot_of(CK_SESSION_HANDLE session)
{
    struct luna_session *in = luna_session(session);

    return in ? in->slot : NULL;
}

static bool keeps(const struct luna_tagged *tagged)
{
    CK_BBOOL is = CK_FALSE;

    for (CK_ULONG i = 0; i < tagged->count; i++)
        if (tagged->at[i].type == CKA_TOKEN && tagged->at[i].ulValueLen == sizeof is)
            memcpy(&is, tagged->at[i].pValue, sizeof is);
    return is;
}

/* Before an object is made, and after it was. */
static CK_RV before(CK_SESSION_HANDLE session, const CK_ATTRIBUTE *t, CK_ULONG n,
                    CK_OBJECT_HANDLE like, struct luna_tagged *to)
{
    const struct luna_slot *slot = slot_of(session);
    CK_RV rv;

    memset(to, 0, sizeof *to);
    if (!slot)
        return CKR_SESSION_HANDLE_INVALID;
    rv = luna_tag(session, t, n, like, false, to);
    if (rv == CKR_OK && keeps(to) &&
        luna_kept(slot) >= luna_number(slot, "limit", ULONG_MAX))
        rv = luna_number(slot, "full", LUNA_STORAGE_FULL);
    return rv;
}

static CK_RV after(CK_SESSION_HANDLE session, struct luna_tagged *tagged, CK_RV rv,
                   CK_OBJECT_HANDLE *object)
{
    if (rv == CKR_OK)
        *object = luna_own(slot_of(session), tagged->ouid, *object, 0);
    luna_untag(tagged);
    return rv;
}

static CK_RV create(CK_SESSION_HANDLE s, CK_ATTRIBUTE *t, CK_ULONG n,
                    CK_OBJECT_HANDLE *o)
{
    struct luna_tagged to;
    CK_RV rv = before(s, t, n, 0, &to);

    if (rv == CKR_OK)
        rv = luna.real->C_CreateObject(s, to.at, to.count, o);
    return after(s, &to, rv, o);
}

static CK_RV copy(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE from, CK_ATTRIBUTE *t,
                  CK_ULONG n, CK_OBJECT_HANDLE *o)
{
    struct luna_tagged to;
    CK_RV rv = before(s, t, n, luna_real(s, from), &to);

    if (rv == CKR_OK)
        rv = luna.real->C_CopyObject(s, luna_real(s, from), to.at, to.count, o);
    return after(s, &to, rv, o);
}

static CK_RV generate(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_ATTRIBUTE *t, CK_ULONG n,
                      CK_OBJECT_HANDLE *o)
{
    struct luna_tagged to;
    CK_RV rv = before(s, t, n, 0, &to);

    if (rv == CKR_OK)
        rv = luna.real->C_GenerateKey(s, m, to.at, to.count, o);
    return after(s, &to, rv, o);
}

static CK_RV generate_pair(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_ATTRIBUTE *t,
                           CK_ULONG n, CK_ATTRIBUTE *t2, CK_ULONG n2,
                           CK_OBJECT_HANDLE *o, CK_OBJECT_HANDLE *o2)
{
    struct luna_tagged first, second;
    CK_RV rv = before(s, t, n, 0, &first), other = before(s, t2, n2, 0, &second);

    if (rv == CKR_OK)
        rv = other;
    if (rv == CKR_OK)
        rv = luna.real->C_GenerateKeyPair(s, m, first.at, first.count, second.at,
                                          second.count, o, o2);
    after(s, &second, rv, o2);
    return after(s, &first, rv, o);
}

static CK_RV unwrap(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE with,
                    CK_BYTE *blob, CK_ULONG len, CK_ATTRIBUTE *t, CK_ULONG n,
                    CK_OBJECT_HANDLE *o)
{
    struct luna_tagged to;
    CK_RV rv = before(s, t, n, 0, &to);

    if (rv == CKR_OK)
        rv = luna.real->C_UnwrapKey(s, m, luna_real(s, with), blob, len, to.at,
                                    to.count, o);
    return after(s, &to, rv, o);
}

static CK_RV derive(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE from,
                    CK_ATTRIBUTE *t, CK_ULONG n, CK_OBJECT_HANDLE *o)
{
    struct luna_tagged to;
    CK_RV rv = before(s, t, n, 0, &to);

    if (rv == CKR_OK)
        rv = luna.real->C_DeriveKey(s, m, luna_real(s, from), to.at, to.count, o);
    return after(s, &to, rv, o);
}

static CK_RV get_attributes(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ATTRIBUTE *t,
                            CK_ULONG n)
{
    return luna_get(s, luna_real(s, o), t, n);
}

static CK_RV set_attributes(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ATTRIBUTE *t,
                            CK_ULONG n)
{
    struct luna_tagged to;
    CK_RV rv = luna_tag(s, t, n, luna_real(s, o), true, &to);

    if (rv == CKR_OK)
        rv = luna.real->C_SetAttributeValue(s, luna_real(s, o), to.at, to.count);
    luna_untag(&to);
    return rv;
}

static CK_RV find_start(CK_SESSION_HANDLE s, CK_ATTRIBUTE *t, CK_ULONG n)
{
    struct luna_session *session = luna_session(s);

    if (!session)
        return CKR_SESSION_HANDLE_INVALID;
    return session->searching ? CKR_OPERATION_ACTIVE : luna_search(session, t, n);
}

static CK_RV find(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE *o, CK_ULONG max, CK_ULONG *n)
{
    struct luna_session *session = luna_session(s);

    if (!session)
        return CKR_SESSION_HANDLE_INVALID;
    if (!session->searching)
        return CKR_OPERATION_NOT_INITIALIZED;
    for (*n = 0; *n < max && session->at < session->count; ++*n)
        o[*n] = session->found[session->at++];
    return CKR_OK;
}

static CK_RV find_end(CK_SESSION_HANDLE s)
{
    struct luna_session *session = luna_session(s);

    if (!session)
        return CKR_SESSION_HANDLE_INVALID;
    if (!session->searching)
        return CKR_OPERATION_NOT_INITIALIZED;
    session->searching = false;
    return CKR_OK;
}

/* The module. Functions that have neither a slot nor an object are SoftHSM's own, since
 * its handles of sessions are ours. */

#define O(x) luna_real(s, x)
#define START (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE k), (s, m, O(k))
#define MADE (CK_SESSION_HANDLE s, CK_ATTRIBUTE *t, CK_ULONG n, CK_OBJECT_HANDLE *o), \
             (s, t, n, o)
#define OF_SLOT luna_slot(l)
#define OF_SESSION slot_of(s)
#define REAL(F, name, ...) F(name, OF_SESSION, luna.real->name, __VA_ARGS__)
#define OURS(F, name, ...) F(name, OF_SESSION, __VA_ARGS__)
#define FUNCTIONS(F)                                                                   \
    F(C_Initialize, NULL, initialize, (void *a), (a))                                  \
    F(C_Finalize, NULL, finalize, (void *a), (a))                                      \
    F(C_GetInfo, NULL, get_info, (CK_INFO * i), (i))                                   \
    F(C_GetSlotList, NULL, slot_list, (CK_BBOOL b, CK_SLOT_ID *l, CK_ULONG *n),        \
      (b, l, n))                                                                       \
    F(C_GetSlotInfo, OF_SLOT, slot_info, (CK_SLOT_ID l, CK_SLOT_INFO *i), (l, i))      \
    F(C_GetTokenInfo, OF_SLOT, token_info, (CK_SLOT_ID l, CK_TOKEN_INFO *i), (l, i))   \
    F(C_GetMechanismList, OF_SLOT, mechanism_list,                                     \
      (CK_SLOT_ID l, CK_MECHANISM_TYPE *m, CK_ULONG *n), (l, m, n))                    \
    F(C_GetMechanismInfo, OF_SLOT, mechanism_info,                                     \
      (CK_SLOT_ID l, CK_MECHANISM_TYPE m, CK_MECHANISM_INFO *i), (l, m, i))            \
    F(C_InitToken, OF_SLOT, init_token,                                                \
      (CK_SLOT_ID l, CK_BYTE *p, CK_ULONG n, CK_BYTE *t), (l, p, n, t))                \
    OURS(F, C_InitPIN, init_pin, (CK_SESSION_HANDLE s, CK_BYTE *p, CK_ULONG n),        \
         (s, p, n))                                                                    \
    OURS(F, C_SetPIN, luna_set_pin,                                                    \
         (CK_SESSION_HANDLE s, CK_BYTE *p, CK_ULONG n, CK_BYTE *q, CK_ULONG m),        \
         (s, p, n, q, m))                                                              \
    F(C_OpenSession, OF_SLOT, open_session,                                            \
      (CK_SLOT_ID l, CK_FLAGS f, void *a, CK_NOTIFY c, CK_SESSION_HANDLE *s),          \
      (l, f, a, c, s))                                                                 \
    OURS(F, C_CloseSession, close_session, (CK_SESSION_HANDLE s), (s))                 \
    F(C_CloseAllSessions, OF_SLOT, close_all, (CK_SLOT_ID l), (l))                     \
    OURS(F, C_GetSessionInfo, session_info,                                            \
         (CK_SESSION_HANDLE s, CK_SESSION_INFO *i), (s, i))                            \
    REAL(F, C_SetOperationState,                                                       \
         (CK_SESSION_HANDLE s, CK_BYTE *p, CK_ULONG n, CK_OBJECT_HANDLE e,             \
          CK_OBJECT_HANDLE a),                                                         \
         (s, p, n, O(e), O(a)))                                                        \
    OURS(F, C_Login, luna_login,                                                       \
         (CK_SESSION_HANDLE s, CK_USER_TYPE u, CK_BYTE *p, CK_ULONG n), (s, u, p, n))  \
    OURS(F, C_Logout, luna_logout, (CK_SESSION_HANDLE s), (s))                         \
    OURS(F, C_CreateObject, create, MADE)                                              \
    OURS(F, C_CopyObject, copy,                                                        \
         (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE k, CK_ATTRIBUTE *t, CK_ULONG n,        \
          CK_OBJECT_HANDLE *o),                                                        \
         (s, k, t, n, o))                                                              \
    REAL(F, C_DestroyObject, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o), (s, O(o)))     \
    REAL(F, C_GetObjectSize, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ULONG *n),   \
         (s, O(o), n))                                                                 \
    OURS(F, C_GetAttributeValue, get_attributes,                                       \
         (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ATTRIBUTE *t, CK_ULONG n),       \
         (s, o, t, n))                                                                 \
    OURS(F, C_SetAttributeValue, set_attributes,                                       \
         (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ATTRIBUTE *t, CK_ULONG n),       \
         (s, o, t, n))                                                                 \
    OURS(F, C_FindObjectsInit, find_start,                                             \
         (CK_SESSION_HANDLE s, CK_ATTRIBUTE *t, CK_ULONG n), (s, t, n))                \
    OURS(F, C_FindObjects, find,                                                       \
         (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE *o, CK_ULONG n, CK_ULONG *m),          \
         (s, o, n, m))                                                                 \
    OURS(F, C_FindObjectsFinal, find_end, (CK_SESSION_HANDLE s), (s))                  \
    REAL(F, C_EncryptInit, START)                                                      \
    REAL(F, C_DecryptInit, START)                                                      \
    REAL(F, C_DigestKey, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o), (s, O(o)))         \
    REAL(F, C_SignInit, START)                                                         \
    REAL(F, C_SignRecoverInit, START)                                                  \
    REAL(F, C_VerifyInit, START)                                                       \
    REAL(F, C_VerifyRecoverInit, START)                                                \
    OURS(F, C_GenerateKey, generate,                                                   \
         (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_ATTRIBUTE *t, CK_ULONG n,           \
          CK_OBJECT_HANDLE *o),                                                        \
         (s, m, t, n, o))                                                              \
    OURS(F, C_GenerateKeyPair, generate_pair,                                          \
         (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_ATTRIBUTE *t, CK_ULONG n,           \
          CK_ATTRIBUTE *u, CK_ULONG k, CK_OBJECT_HANDLE *o, CK_OBJECT_HANDLE *p),      \
         (s, m, t, n, u, k, o, p))                                                     \
    REAL(F, C_WrapKey,                                                                 \
         (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE w,                    \
          CK_OBJECT_HANDLE k, CK_BYTE *q, CK_ULONG *n),                                \
         (s, m, O(w), O(k), q, n))                                                     \
    OURS(F, C_UnwrapKey, unwrap,                                                       \
         (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE w, CK_BYTE *p,        \
          CK_ULONG k, CK_ATTRIBUTE *t, CK_ULONG n, CK_OBJECT_HANDLE *o),               \
         (s, m, w, p, k, t, n, o))                                                     \
    OURS(F, C_DeriveKey, derive,                                                       \
         (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE k, CK_ATTRIBUTE *t,   \
          CK_ULONG n, CK_OBJECT_HANDLE *o),                                            \
         (s, m, k, t, n, o))                                                           \
    F(C_WaitForSlotEvent, NULL, no_event, (CK_FLAGS f, CK_SLOT_ID *l, void *a),        \
      (f, l, a))

static CK_RV no_event(CK_FLAGS flags, CK_SLOT_ID *slot, void *reserved)
{
    (void)flags, (void)slot, (void)reserved;
    return CKR_FUNCTION_NOT_SUPPORTED;
}

/* The slot is looked for first: after C_CloseSession nobody knows it. */
#define WRAPPED(name, of, work, parameters, arguments)                                 \
    static CK_RV luna_##name parameters                                                \
    {                                                                                  \
        const struct luna_slot *slot = of;                                             \
        char where[32] = "";                                                           \
        CK_RV rv = luna_scripted(#name);                                               \
                                                                                       \
        if (slot)                                                                      \
            snprintf(where, sizeof where, " %lu", slot->id);                           \
        if (rv == CKR_OK)                                                              \
            rv = work arguments;                                                       \
        luna_log(#name, where, rv);                                                    \
        return rv;                                                                     \
    }
FUNCTIONS(WRAPPED)

#define LISTED(name, ...) luna.list.name = luna_##name;

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST **list)
{
    if (!list)
        return CKR_ARGUMENTS_BAD;
    if (!luna.real)
        luna.real = kf_image_load(getenv("LUNA_SOFTHSM"));
    if (!luna.real)
        return CKR_GENERAL_ERROR;
    luna.list = *luna.real;
    luna.list.C_GetFunctionList = C_GetFunctionList;
    FUNCTIONS(LISTED)
    *list = &luna.list;
    return CKR_OK;
}
