/* SPDX-License-Identifier: MIT
 * Lies about what comes back from a call: lengths, counts, handles, fixed fields.
 */
#include "liar_answers.h"

#include "liar.h"

#include <string.h>

enum { SESSIONS_MAX = 64, FOUND_MAX = 4096 };

#define MADE_UP (1UL << 40) /* and up: slots and handles that are not there */

static struct {
    CK_SESSION_HANDLE said, is;
} sessions[SESSIONS_MAX];
static size_t session_count;

static CK_OBJECT_HANDLE found[FOUND_MAX]; /* by the last search */
static CK_ULONG found_count, made_up;

/* ---- bytes and structures ---- */

static void say(int function, CK_ULONG *count)
{
    const struct rule *rule = liar_first(LIE_SAYS, function);

    if (rule)
        *count = rule->n;
}

CK_RV liar_bytes(int function, CK_RV rv, CK_BYTE *out, CK_ULONG *len)
{
    const struct rule *fill = liar_first(LIE_FILL, function);

    if (rv != CKR_OK)
        return rv;
    if (fill && out)
        memset(out, (int)fill->n, *len);
    if (out && *len && liar_first(LIE_FLIP, function))
        out[*len - 1] ^= 1;
    say(function, len);
    return rv;
}

CK_RV liar_pump(int function, pump *real, CK_SESSION_HANDLE session, CK_BYTE *in,
                CK_ULONG in_len, CK_BYTE *out, CK_ULONG *len)
{
    CK_RV rv = real(session, in, in_len, out, len);

    return liar_bytes(function, rv, out, len);
}

CK_RV liar_give(int function, give *real, CK_SESSION_HANDLE session, CK_BYTE *out,
                CK_ULONG *len)
{
    CK_RV rv = real(session, out, len);

    return liar_bytes(function, rv, out, len);
}

CK_RV liar_fixed(int function, CK_RV rv, void *to, size_t size)
{
    const struct rule *fill = liar_first(LIE_FILL, function);

    if (rv == CKR_OK && fill)
        memset(to, (int)fill->n, size);
    return rv;
}

/* ---- handles ---- */

CK_RV liar_handle(int function, CK_RV rv, CK_OBJECT_HANDLE *handle)
{
    const struct rule *rule = liar_first(LIE_HANDLE, function);

    if (rv == CKR_OK && rule)
        *handle = rule->n;
    return rv;
}

CK_RV liar_open(CK_RV rv, CK_SESSION_HANDLE *session)
{
    const struct rule *rule = liar_first(LIE_HANDLE, N_C_OpenSession);

    if (rv != CKR_OK || !rule || session_count == SESSIONS_MAX)
        return rv;
    sessions[session_count].said = rule->n;
    sessions[session_count++].is = *session;
    *session = rule->n;
    return rv;
}

CK_SESSION_HANDLE liar_session(CK_SESSION_HANDLE session)
{
    for (size_t i = session_count; i > 0; i--)
        if (sessions[i - 1].said == session)
            return sessions[i - 1].is;
    return session;
}

CK_OBJECT_HANDLE liar_object(CK_OBJECT_HANDLE object)
{
    const struct rule *rule = liar_first(LIE_ROTATE, N_ANY);

    if (!rule || liar.calls[N_ANY] <= rule->n)
        return object;
    for (CK_ULONG i = 0; i < found_count; i++)
        if (found[i] == object)
            return found[(i + 1) % found_count];
    return object;
}

void liar_search_begins(void)
{
    made_up = found_count = 0;
}

/* Once all have been given, and when there is room, the one before the last again. */
static void again(CK_OBJECT_HANDLE *objects, CK_ULONG max, CK_ULONG *count)
{
    const struct rule *rule = liar_first(LIE_TWICE, N_C_FindObjects);

    if (rule && *count >= 2 && *count < max)
        objects[(*count)++] = rule->n ? rule->m : objects[1];
}

CK_RV liar_found(CK_RV rv, CK_OBJECT_HANDLE *objects, CK_ULONG max, CK_ULONG *count)
{
    if (rv != CKR_OK)
        return rv;
    for (CK_ULONG i = 0; i < *count && found_count < FOUND_MAX; i++)
        found[found_count++] = objects[i];
    again(objects, max, count);
    while (liar_first(LIE_ENDLESS, N_C_FindObjects) && *count < max)
        objects[(*count)++] = MADE_UP + made_up++;
    say(N_C_FindObjects, count);
    return rv;
}

/* ---- lists ---- */

CK_RV liar_slots(CK_RV rv, CK_SLOT_ID *list, CK_ULONG room, CK_ULONG *count)
{
    const struct rule *more = liar_first(LIE_MORE, N_C_GetSlotList);
    const struct rule *grow = liar_first(LIE_GROW, N_C_GetSlotList);
    CK_ULONG extra = (more ? more->n : 0) + (grow ? liar.calls[N_C_GetSlotList] : 0);
    CK_ULONG real = *count;

    if (rv != CKR_OK && rv != CKR_BUFFER_TOO_SMALL)
        return rv;
    if (rv == CKR_BUFFER_TOO_SMALL || (list && real + extra > room)) {
        *count = real + extra;
        return CKR_BUFFER_TOO_SMALL;
    }
    for (CK_ULONG i = 0; list && i < extra; i++)
        list[real + i] = MADE_UP + i;
    *count = real + extra;
    say(N_C_GetSlotList, count);
    return CKR_OK;
}

bool liar_made_up(CK_SLOT_ID slot)
{
    return slot >= MADE_UP && (liar_first(LIE_MORE, N_C_GetSlotList) ||
                                   liar_first(LIE_GROW, N_C_GetSlotList));
}

static bool has(const CK_MECHANISM_TYPE *list, CK_ULONG count, CK_MECHANISM_TYPE type)
{
    for (CK_ULONG i = 0; i < count; i++)
        if (list[i] == type)
            return true;
    return false;
}

CK_RV liar_mechanisms(CK_RV rv, CK_MECHANISM_TYPE *list, CK_ULONG room, CK_ULONG *count)
{
    const struct rule *rule = NULL;
    CK_ULONG kept;

    if (rv != CKR_OK)
        return rv;
    while (list && (rule = liar_next(rule, LIE_NO_MECHANISM, N_C_GetMechanismList))) {
        kept = 0;
        for (CK_ULONG i = 0; i < *count; i++)
            if (list[i] != rule->n)
                list[kept++] = list[i];
        *count = kept;
    }
    while ((rule = liar_next(rule, LIE_ADD, N_C_GetMechanismList))) {
        if (!list)
            ++*count;
        else if (*count < room && !has(list, *count, rule->n))
            list[(*count)++] = rule->n;
    }
    if (liar_first(LIE_GROW, N_C_GetMechanismList) && list)
        *count = room + 1;
    say(N_C_GetMechanismList, count);
    return rv;
}
