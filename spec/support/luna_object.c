/* SPDX-License-Identifier: MIT
 * Objects of luna: their numbers, their OUID, and the label they are thought to have.
 */
#include "luna.h"

#include <stdlib.h>
#include <string.h>

const unsigned char luna_magic[4] = {0x02, 'O', 'U', 0x03};

bool luna_header(const unsigned char *label, size_t len, unsigned char *ouid)
{
    if (len < LUNA_HEADER || memcmp(label, luna_magic, sizeof luna_magic) != 0)
        return false;
    memcpy(ouid, label + sizeof luna_magic, OUID);
    return true;
}

CK_OBJECT_HANDLE luna_real(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE own)
{
    struct luna_session *in = luna_session(session);

    for (size_t i = 0; in && i < in->slot->count; i++)
        if (in->slot->objects[i].own == own)
            return in->slot->objects[i].real;
    return CK_INVALID_HANDLE;
}

CK_OBJECT_HANDLE luna_own(struct luna_slot *slot, const unsigned char *ouid,
                          CK_OBJECT_HANDLE real, CK_OBJECT_HANDLE not)
{
    struct luna_object *objects;

    for (size_t i = 0; i < slot->count; i++)
        if (!memcmp(slot->objects[i].ouid, ouid, OUID) && slot->objects[i].own != not) {
            slot->objects[i].real = real;
            return slot->objects[i].own;
        }
    objects = realloc(slot->objects, (slot->count + 1) * sizeof *objects);
    if (!objects)
        abort();
    slot->objects = objects;
    objects += slot->count++;
    memcpy(objects->ouid, ouid, OUID);
    slot->last++;
    if (slot->last == not)
        slot->last++;
    objects->own = slot->last;
    objects->real = real;
    return objects->own;
}

/* The label as SoftHSM has it, to be freed. NULL: the object has none of ours. */
static unsigned char *stored_label(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE real,
                                   CK_ULONG *len)
{
    CK_ATTRIBUTE at = {CKA_LABEL, NULL, 0};
    unsigned char ouid[OUID];

    if (luna.real->C_GetAttributeValue(session, real, &at, 1) != CKR_OK ||
        at.ulValueLen < LUNA_HEADER || at.ulValueLen == CK_UNAVAILABLE_INFORMATION)
        return NULL;
    at.pValue = malloc(at.ulValueLen);
    if (!at.pValue)
        return NULL;
    if (luna.real->C_GetAttributeValue(session, real, &at, 1) != CKR_OK ||
        !luna_header(at.pValue, at.ulValueLen, ouid)) {
        free(at.pValue);
        return NULL;
    }
    *len = at.ulValueLen;
    return at.pValue;
}

bool luna_ouid(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE real, unsigned char *ouid)
{
    CK_ULONG len = 0;
    unsigned char *label = stored_label(session, real, &len);
    bool has = label && luna_header(label, len, ouid);

    free(label);
    return has;
}

/* Our label: the OUID, then `text`. */
static bool put_label(struct luna_tagged *to, const unsigned char *text, CK_ULONG len,
                      CK_ULONG at)
{
    to->label = malloc(LUNA_HEADER + len);
    if (!to->label)
        return false;
    memcpy(to->label, luna_magic, sizeof luna_magic);
    memcpy(to->label + sizeof luna_magic, to->ouid, OUID);
    if (len)
        memcpy(to->label + LUNA_HEADER, text, len);
    to->at[at] = (CK_ATTRIBUTE){CKA_LABEL, to->label, LUNA_HEADER + len};
    return true;
}

CK_RV luna_tag(CK_SESSION_HANDLE session, const CK_ATTRIBUTE *template, CK_ULONG count,
               CK_OBJECT_HANDLE like, bool keep, struct luna_tagged *to)
{
    const unsigned char *text;
    unsigned char *before = NULL;
    CK_ULONG len = 0, at = count;
    CK_RV rv;

    memset(to, 0, sizeof *to);
    rv = luna.real->C_GenerateRandom(session, to->ouid, OUID);
    to->at = calloc(count + 1, sizeof *to->at);
    if (rv != CKR_OK || !to->at)
        return rv != CKR_OK ? rv : CKR_HOST_MEMORY;
    to->count = count;
    if (count)
        memcpy(to->at, template, count * sizeof *template);
    for (CK_ULONG i = 0; i < count; i++) {
        if (template[i].type == CKA_LUNA_OUID)
            return CKR_ATTRIBUTE_READ_ONLY;
        if (template[i].type == CKA_LABEL)
            at = i;
    }
    if (like)
        before = stored_label(session, like, &len);
    if (before && keep)
        luna_header(before, len, to->ouid);
    text = before ? before + LUNA_HEADER : NULL;
    len -= before ? LUNA_HEADER : 0;
    if (at < count) {
        text = to->at[at].pValue;
        len = to->at[at].ulValueLen;
    }
    if (at < count || !keep)
        rv = put_label(to, text, len, at) ? CKR_OK : CKR_HOST_MEMORY;
    to->count += at == count && !keep;
    free(before);
    return rv;
}

void luna_untag(struct luna_tagged *tagged)
{
    free(tagged->label);
    free(tagged->at);
}

static CK_RV give(CK_ATTRIBUTE *at, const unsigned char *value, CK_ULONG len)
{
    CK_ULONG room = at->ulValueLen;

    at->ulValueLen = value ? len : CK_UNAVAILABLE_INFORMATION;
    if (!value)
        return CKR_ATTRIBUTE_TYPE_INVALID;
    if (at->pValue && room < len) {
        at->ulValueLen = CK_UNAVAILABLE_INFORMATION;
        return CKR_BUFFER_TOO_SMALL;
    }
    if (at->pValue && len)
        memcpy(at->pValue, value, len);
    return CKR_OK;
}

static bool is_ours(CK_ATTRIBUTE_TYPE type)
{
    return type == CKA_LABEL || type == CKA_LUNA_OUID;
}

CK_RV luna_get(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE real, CK_ATTRIBUTE *template,
               CK_ULONG count)
{
    CK_ATTRIBUTE *rest = calloc(count + 1, sizeof *rest);
    CK_ULONG n = 0, len = 0, k = 0;
    unsigned char *label = NULL;
    CK_RV rv = CKR_HOST_MEMORY, one;

    if (!rest)
        return rv;
    for (CK_ULONG i = 0; i < count; i++)
        if (!is_ours(template[i].type))
            rest[n++] = template[i];
    /* With nothing left to ask for: whether the object is there. */
    if (n == 0)
        rest[0] = (CK_ATTRIBUTE){CKA_CLASS, NULL, 0};
    rv = luna.real->C_GetAttributeValue(session, real, rest, n ? n : 1);
    if (rv == CKR_OK || rv == CKR_ATTRIBUTE_SENSITIVE || rv == CKR_BUFFER_TOO_SMALL ||
        rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_GENERAL_ERROR)
        label = stored_label(session, real, &len);
    for (CK_ULONG i = 0; i < count; i++) {
        if (!is_ours(template[i].type)) {
            template[i].ulValueLen = rest[k++].ulValueLen;
            continue;
        }
        if (template[i].type == CKA_LABEL)
            one = give(&template[i], label ? label + LUNA_HEADER : NULL,
                       len - LUNA_HEADER);
        else
            one = give(&template[i], label ? label + sizeof luna_magic : NULL, OUID);
        rv = rv == CKR_OK ? one : rv;
    }
    free(label);
    free(rest);
    return rv;
}

static bool has_label(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE real,
                      const CK_ATTRIBUTE *wanted, unsigned char *ouid)
{
    CK_ULONG len = 0;
    unsigned char *label = stored_label(session, real, &len);
    bool good = label && luna_header(label, len, ouid);

    if (good && wanted)
        good = wanted->ulValueLen == len - LUNA_HEADER &&
               (!wanted->ulValueLen ||
                !memcmp(wanted->pValue, label + LUNA_HEADER, wanted->ulValueLen));
    free(label);
    return good;
}

static CK_RV take_all(struct luna_session *session, const CK_ATTRIBUTE *label)
{
    CK_OBJECT_HANDLE batch[64], *more;
    CK_ULONG got = 0;
    unsigned char ouid[OUID];
    CK_RV rv;

    do {
        rv = luna.real->C_FindObjects(session->handle, batch, 64, &got);
        more = realloc(session->found, (session->count + 64) * sizeof *more);
        if (!more)
            return CKR_HOST_MEMORY;
        session->found = more;
        for (CK_ULONG i = 0; rv == CKR_OK && i < got; i++)
            if (has_label(session->handle, batch[i], label, ouid))
                more[session->count++] = luna_own(session->slot, ouid, batch[i], 0);
    } while (rv == CKR_OK && got);
    return rv;
}

CK_RV luna_search(struct luna_session *session, CK_ATTRIBUTE *template, CK_ULONG count)
{
    CK_ATTRIBUTE *rest = calloc(count + 1, sizeof *rest);
    const CK_ATTRIBUTE *label = NULL;
    CK_ULONG n = 0;
    CK_RV rv = CKR_HOST_MEMORY;

    if (!rest)
        goto done;
    for (CK_ULONG i = 0; i < count; i++) {
        rv = CKR_ATTRIBUTE_TYPE_INVALID;
        if (template[i].type == CKA_LUNA_OUID)
            goto done;
        if (template[i].type == CKA_LABEL)
            label = &template[i];
        else
            rest[n++] = template[i];
    }
    session->count = session->at = 0;
    rv = luna.real->C_FindObjectsInit(session->handle, rest, n);
    if (rv == CKR_OK)
        rv = take_all(session, label);
    if (rv != CKR_OPERATION_ACTIVE)
        luna.real->C_FindObjectsFinal(session->handle);
    session->searching = rv == CKR_OK;
done:
    free(rest);
    return rv;
}

/* Looks through a partition; the handle with `ouid` (NULL: none), and how many there
 * are. */
static CK_OBJECT_HANDLE look(const struct luna_slot *slot, const unsigned char *ouid,
                             CK_ULONG *count)
{
    CK_BBOOL yes = CK_TRUE;
    CK_ATTRIBUTE kept = {CKA_TOKEN, &yes, sizeof yes};
    CK_OBJECT_HANDLE batch[64], found = CK_INVALID_HANDLE;
    CK_SESSION_HANDLE session;
    CK_ULONG got = 0;
    unsigned char its[OUID];

    *count = 0;
    if (luna.real->C_OpenSession(slot->real, CKF_SERIAL_SESSION, NULL, NULL, &session))
        return found;
    if (luna.real->C_FindObjectsInit(session, &kept, 1) == CKR_OK)
        while (luna.real->C_FindObjects(session, batch, 64, &got) == CKR_OK && got)
            for (CK_ULONG i = 0; i < got; i++) {
                ++*count;
                if (ouid && luna_ouid(session, batch[i], its) &&
                    !memcmp(its, ouid, OUID))
                    found = batch[i];
            }
    luna.real->C_FindObjectsFinal(session);
    luna.real->C_CloseSession(session);
    return found;
}

CK_ULONG luna_kept(const struct luna_slot *slot)
{
    CK_ULONG count;

    look(slot, NULL, &count);
    return count;
}

CK_OBJECT_HANDLE luna_find(const struct luna_slot *slot, const unsigned char *ouid)
{
    CK_ULONG count;

    return look(slot, ouid, &count);
}
