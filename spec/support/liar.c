/* SPDX-License-Identifier: MIT
 * liar: a PKCS#11 module that is SoftHSM until told to lie.
 *
 * LIAR_MODULE  the real library (default: where distributions put SoftHSM); each liar
 *              has its own private copy of it, which reads SOFTHSM2_CONF as always
 * LIAR_SCRIPT  the lies, read again whenever the file changes; counts then start anew
 * Both are looked at in C_GetFunctionList and in C_Initialize. One thread at a time.
 *
 * One lie a line; '#' begins a comment. A line that is not understood aborts the
 * process; a script that is not there is an empty one.
 *
 *   FUNCTION WHEN CKR       answers CKR, without calling the real one
 *   FUNCTION WHEN did CKR   answers CKR after the real one has done its work.
 *                           WHEN: N (the Nth call), *, or after N (every later one);
 *                           FUNCTION may be *: then all calls are counted together
 *   delay FUNCTION MS       every call takes that much longer
 *   crash FUNCTION N        the Nth call kills the process (SIGKILL) before it is made
 *   null FUNCTION           the function list, when it is asked for, has NULL there
 *   call-log FILE           appends "C_Login CKR_OK" for each call; never an argument
 *   pap DIR                 protected authentication path: a PIN of NULL is taken from
 *                           DIR/user.pin or DIR/so.pin (C_SetPIN: the new one from
 *                           DIR/new.pin); no file: CKR_FUNCTION_CANCELED. A PIN given
 *                           as text is refused with CKR_ARGUMENTS_BAD. All else that an
 *                           operator does is told in pad.h; DIR/LABEL/ instead of DIR
 *                           for the token of that label, when it is there
 *   C_GetTokenInfo flags +USER_PIN_LOCKED|-LOGIN_REQUIRED
 *   C_GetTokenInfo label TEXT           the rest of the line, blank padded
 *   C_GetTokenInfo serial TEXT
 *   C_GetTokenInfo free N               bytes of memory, all of them free
 *   C_GetObjectSize size N
 *   C_GetMechanismList drop CKM
 *   C_FindObjects loop                  the search never ends
 *   C_FindObjects fail-after N CKR      N handles, then CKR
 *   C_GetAttributeValue len CKA N       a lying length (-1: unavailable), which may be
 *                                       more than the caller has room for
 *   C_GetAttributeValue value CKA HEX   a lying value
 *   C_GetAttributeValue refuse CKA CKR  that attribute is refused
 *   TEMPLATED attr-drop CKA             what is stored lacks that attribute
 *   TEMPLATED attr-set CKA HEX          what is stored has another value ("-": empty).
 *                                       TEMPLATED: C_CreateObject C_CopyObject
 *                                       C_UnwrapKey C_GenerateKey C_SetAttributeValue
 *   C_UnwrapKey ok-but-other            another key is stored: a secret key of 32 bytes
 *                                       0x5A; of private keys the one unwrapped before
 *   C_UnwrapKey ok-but-other-after N    the same, but the first N calls are honest
 *   C_WrapKey flip                      the last bit of what is wrapped is wrong
 *   C_WrapKey mechanism FROM TO         FROM is another format than the caller thinks
 *   C_UnwrapKey mechanism FROM TO
 *   list CKR                the function list, when it is asked for, is NULL with that
 *   list-version 0x020B     major and minor of it
 *   FUNCTION says N         the length or count that comes back (-1 is the greatest);
 *                           C_GetSlotList, C_GetMechanismList, C_FindObjects, C_WrapKey
 *                           and what gives bytes in one part
 *   FUNCTION fill BYTE      those bytes, or the whole structure that comes back
 *   FUNCTION flip           the last bit of those bytes is wrong
 *   FUNCTION handle N       what is made or opened (C_OpenSession) has that handle;
 *                           for sessions it means the one opened last
 *   * rotate N              after N calls each handle found means the object found next
 *   C_FindObjects twice     one of the handles comes twice
 *   C_FindObjects also 1 N  that handle comes, too
 *   C_FindObjects endless   after the last one, others for ever
 *   C_GetSlotList more N    so many more slots without a token
 *   C_GetSlotList grow      one more slot at each call
 *   C_GetMechanismList add CKM, C_GetMechanismList grow
 *   C_GetTokenInfo pad BYTE instead of blanks
 *   C_GetTokenInfo pin N N  shortest and longest PIN
 *   C_GetAttributeValue own CKA         OK, and the value is elsewhere
 * CKR, CKA, CKM and flags: the names of liar_script.c, or a number (0x...).
 */#include "image.h"
#include "liar.h"
#include "liar_path.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MECHANISMS_MAX = 1024 };

/* Around every call. */

static const struct rule *failure(int function)
{
    const struct rule *rule = NULL;
    unsigned long n = liar.calls[function];

    while ((rule = liar_next(rule, LIE_FAIL, function)))
        if (rule->every || (rule->later ? n > rule->n : n == rule->n))
            return rule;
    return NULL;
}

static void record(int function, CK_RV rv)
{
    const struct rule *log = liar_first(LIE_LOG, 0);
    char line[120];
    const char *name = liar_result_name(rv);
    int fd, n;

    if (!log)
        return;
    if (name)
        n = snprintf(line, sizeof line, "%s %s\n", liar_functions[function], name);
    else
        n = snprintf(line, sizeof line, "%s 0x%lX\n", liar_functions[function], rv);
    fd = open(log->text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, line, (size_t)n) != n)
        liar_bad(log->text);
    close(fd);
}

/* What this call fails with; NULL: nothing. */
static const struct rule *before(int function)
{
    const struct rule *rule;
    struct timespec pause;

    liar_refresh();
    liar.calls[function]++;
    liar.calls[N_ANY]++;
    if ((rule = liar_first(LIE_DELAY, function))) {
        pause.tv_sec = (time_t)(rule->n / 1000);
        pause.tv_nsec = (long)(rule->n % 1000) * 1000000;
        nanosleep(&pause, NULL);
    }
    if ((rule = liar_first(LIE_CRASH, function)) && rule->n == liar.calls[function])
        kill(getpid(), SIGKILL);
    rule = failure(function);
    return rule ? rule : failure(N_ANY);
}

/* The lies of single functions. */

static CK_RV initialize(void *args)
{
    liar_look_around();
    return liar.real->C_Initialize(args);
}

static CK_RV get_info(CK_INFO *info)
{
    return liar_fixed(N_C_GetInfo, liar.real->C_GetInfo(info), info, sizeof *info);
}

static CK_RV slot_list(CK_BBOOL present, CK_SLOT_ID *list, CK_ULONG *count)
{
    CK_ULONG room = *count;
    CK_RV rv = liar.real->C_GetSlotList(present, list, count);

    return liar_slots(rv, list, room, count);
}

static CK_RV slot_info(CK_SLOT_ID slot, CK_SLOT_INFO *info)
{
    if (liar_made_up(slot)) {
        memset(info, 0, sizeof *info);
        return CKR_OK;
    }
    return liar_fixed(N_C_GetSlotInfo, liar.real->C_GetSlotInfo(slot, info), info,
                      sizeof *info);
}

static void pad(CK_BYTE *field, size_t size, const struct rule *rule)
{
    const struct rule *with = liar_first(LIE_PAD, N_C_GetTokenInfo);
    size_t n = size;

    while (!rule && with && n && field[n - 1] == ' ')
        field[--n] = (CK_BYTE)with->n;
    if (!rule)
        return;
    n = strlen(rule->text);
    memset(field, with ? (int)with->n : ' ', size);
    memcpy(field, rule->text, n < size ? n : size);
}
static CK_RV token_info(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    CK_RV rv = liar.real->C_GetTokenInfo(slot, info);
    const struct rule *rule = NULL;

    if (rv != CKR_OK)
        return rv;
    liar_fixed(N_C_GetTokenInfo, rv, info, sizeof *info);
    if ((rule = liar_first(LIE_PIN, N_C_GetTokenInfo))) {
        info->ulMinPinLen = rule->n;
        info->ulMaxPinLen = rule->m;
    }
    pad(info->label, sizeof info->label, liar_first(LIE_LABEL, N_C_GetTokenInfo));
    pad(info->serialNumber, sizeof info->serialNumber,
        liar_first(LIE_SERIAL, N_C_GetTokenInfo));
    if ((rule = liar_first(LIE_FREE, N_C_GetTokenInfo)))
        info->ulTotalPublicMemory = info->ulFreePublicMemory =
            info->ulTotalPrivateMemory = info->ulFreePrivateMemory = rule->n;
    rule = NULL;
    if (liar_first(LIE_PAP, 0))
        info->flags |= CKF_PROTECTED_AUTHENTICATION_PATH;
    while ((rule = liar_next(rule, LIE_FLAGS, N_C_GetTokenInfo)))
        liar_change_flags(rule->text, &info->flags);
    return rv;
}

static CK_RV object_size(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                         CK_ULONG *size)
{
    CK_RV rv = liar.real->C_GetObjectSize(session, object, size);
    const struct rule *rule = liar_first(LIE_SIZE, N_C_GetObjectSize);

    if (rv == CKR_OK && rule)
        *size = rule->n;
    return rv;
}

static CK_RV mechanism_list(CK_SLOT_ID slot, CK_MECHANISM_TYPE *list, CK_ULONG *count)
{
    CK_MECHANISM_TYPE all[MECHANISMS_MAX];
    CK_ULONG room = *count, got = MECHANISMS_MAX;
    CK_RV rv = liar.real->C_GetMechanismList(slot, list ? all : NULL, &got);

    if (rv == CKR_OK && list)
        memcpy(list, all, (got < room ? got : room) * sizeof *list);
    *count = got < room || !list ? got : room;
    return liar_mechanisms(rv, list, room, count);
}

static CK_RV mechanism_info(CK_SLOT_ID slot, CK_MECHANISM_TYPE type,
                            CK_MECHANISM_INFO *info)
{
    CK_RV rv = liar.real->C_GetMechanismInfo(slot, type, info);
    const struct rule *rule = NULL;

    while (rv != CKR_OK && (rule = liar_next(rule, LIE_ADD, N_C_GetMechanismList)))
        if (rule->n == type)
            rv = CKR_OK;
    return liar_fixed(N_C_GetMechanismInfo, rv, info, sizeof *info);
}

static CK_RV open_session(CK_SLOT_ID slot, CK_FLAGS how, void *context,
                          CK_NOTIFY notify, CK_SESSION_HANDLE *session)
{
    CK_RV rv = liar.real->C_OpenSession(slot, how, context, notify, session);

    return liar_open(rv, session);
}

static CK_RV session_info(CK_SESSION_HANDLE session, CK_SESSION_INFO *info)
{
    return liar_fixed(N_C_GetSessionInfo, liar.real->C_GetSessionInfo(session, info),
                      info, sizeof *info);
}

static CK_RV random_bytes(CK_SESSION_HANDLE session, CK_BYTE *to, CK_ULONG len)
{
    return liar_fixed(N_C_GenerateRandom, liar.real->C_GenerateRandom(session, to, len),
                      to, len);
}

static CK_RV find_start(CK_SESSION_HANDLE session, CK_ATTRIBUTE *template,
                        CK_ULONG count)
{
    liar.found = 0;
    liar.last = 1;
    liar_search_begins();
    return liar.real->C_FindObjectsInit(session, template, count);
}

static CK_RV find(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE *objects, CK_ULONG max,
                  CK_ULONG *count)
{
    const struct rule *fail = liar_first(LIE_FAIL_AFTER, N_C_FindObjects);
    CK_RV rv;

    if (fail && liar.found >= fail->n)
        return fail->m;
    if (fail && max > fail->n - liar.found)
        max = fail->n - liar.found;
    rv = liar.real->C_FindObjects(session, objects, max, count);
    if (rv != CKR_OK)
        return rv;
    if (!*count && max && liar_first(LIE_LOOP, N_C_FindObjects)) {
        objects[0] = liar.last;
        *count = 1;
    }
    liar.found += *count;
    if (*count)
        liar.last = objects[*count - 1];
    return liar_found(rv, objects, max, count);
}

static CK_RV lie_about(CK_ATTRIBUTE *at, CK_ULONG room, CK_RV rv)
{
    static CK_BYTE own[16] = "of the module's ";
    const struct rule *rule = NULL;

    while ((rule = liar_next(rule, LIE_VALUE, N_C_GetAttributeValue)))
        if (rule->n == at->type) {
            if (at->pValue && room >= rule->n_text)
                memcpy(at->pValue, rule->text, rule->n_text);
            at->ulValueLen = rule->n_text;
        }
    while ((rule = liar_next(rule, LIE_LEN, N_C_GetAttributeValue)))
        if (rule->n == at->type)
            at->ulValueLen = rule->m;
    while ((rule = liar_next(rule, LIE_REFUSE, N_C_GetAttributeValue)))
        if (rule->n == at->type) {
            at->ulValueLen = CK_UNAVAILABLE_INFORMATION;
            rv = rule->m;
        }
    while ((rule = liar_next(rule, LIE_OWN, N_C_GetAttributeValue)))
        if (rule->n == at->type && at->pValue) {
            at->pValue = own;
            at->ulValueLen = room < sizeof own ? room : sizeof own;
        }
    return rv;
}

static CK_RV get_attributes(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                            CK_ATTRIBUTE *template, CK_ULONG count)
{
    CK_ULONG room[TEMPLATE_MAX];
    CK_RV rv;

    for (CK_ULONG i = 0; i < count && i < TEMPLATE_MAX; i++)
        room[i] = template[i].ulValueLen;
    rv = liar.real->C_GetAttributeValue(session, object, template, count);
    for (CK_ULONG i = 0; i < count && i < TEMPLATE_MAX; i++)
        rv = lie_about(&template[i], room[i], rv);
    return rv;
}

struct edited {
    CK_ATTRIBUTE at[TEMPLATE_MAX];
    CK_ULONG count;
};

static void put(struct edited *to, CK_ATTRIBUTE_TYPE type, void *value, CK_ULONG len)
{
    CK_ULONG i = 0;

    while (i < to->count && to->at[i].type != type)
        i++;
    if (i == TEMPLATE_MAX)
        liar_bad("a template too long");
    if (i == to->count)
        to->count++;
    to->at[i].type = type;
    to->at[i].pValue = value;
    to->at[i].ulValueLen = len;
}

static struct edited edit(int function, CK_ATTRIBUTE *template, CK_ULONG count)
{
    struct edited to = {.count = 0};
    const struct rule *rule = NULL;
    CK_ULONG kept;

    for (CK_ULONG i = 0; i < count; i++)
        put(&to, template[i].type, template[i].pValue, template[i].ulValueLen);
    while ((rule = liar_next(rule, LIE_SET, function)))
        put(&to, rule->n, (void *)(uintptr_t)rule->text, rule->n_text);
    while ((rule = liar_next(rule, LIE_DROP, function))) {
        kept = 0;
        for (CK_ULONG i = 0; i < to.count; i++)
            if (to.at[i].type != rule->n)
                to.at[kept++] = to.at[i];
        to.count = kept;
    }
    return to;
}

static CK_RV create(CK_SESSION_HANDLE session, CK_ATTRIBUTE *template, CK_ULONG count,
                    CK_OBJECT_HANDLE *object)
{
    struct edited to = edit(N_C_CreateObject, template, count);

    return liar_handle(N_C_CreateObject,
                       liar.real->C_CreateObject(session, to.at, to.count, object),
                       object);
}

static CK_RV copy(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE from,
                  CK_ATTRIBUTE *template, CK_ULONG count, CK_OBJECT_HANDLE *object)
{
    struct edited to = edit(N_C_CopyObject, template, count);

    return liar_handle(N_C_CopyObject,
                       liar.real->C_CopyObject(session, from, to.at, to.count, object),
                       object);
}

static CK_RV set_attributes(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                            CK_ATTRIBUTE *template, CK_ULONG count)
{
    struct edited to = edit(N_C_SetAttributeValue, template, count);

    return liar.real->C_SetAttributeValue(session, object, to.at, to.count);
}

static CK_RV generate(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                      CK_ATTRIBUTE *template, CK_ULONG count, CK_OBJECT_HANDLE *object)
{
    struct edited to = edit(N_C_GenerateKey, template, count);
    CK_RV rv = liar.real->C_GenerateKey(session, mechanism, to.at, to.count, object);

    return liar_handle(N_C_GenerateKey, rv, object);
}

static CK_RV generate_pair(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                           CK_ATTRIBUTE *public, CK_ULONG public_count,
                           CK_ATTRIBUTE *private, CK_ULONG private_count,
                           CK_OBJECT_HANDLE *public_key, CK_OBJECT_HANDLE *private_key)
{
    CK_RV rv = liar.real->C_GenerateKeyPair(session, mechanism, public, public_count,
                                            private, private_count, public_key,
                                            private_key);

    return liar_handle(N_C_GenerateKeyPair, rv, private_key);
}

static CK_RV derive(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                    CK_OBJECT_HANDLE key, CK_ATTRIBUTE *template, CK_ULONG count,
                    CK_OBJECT_HANDLE *object)
{
    return liar_handle(N_C_DeriveKey,
                       liar.real->C_DeriveKey(session, mechanism, key, template, count,
                                              object),
                       object);
}

static CK_MECHANISM swapped(int function, const CK_MECHANISM *mechanism)
{
    CK_MECHANISM to = *mechanism;
    const struct rule *rule = NULL;

    while ((rule = liar_next(rule, LIE_MECHANISM, function)))
        if (rule->n == mechanism->mechanism)
            to.mechanism = rule->m;
    return to;
}

static CK_RV wrap(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                  CK_OBJECT_HANDLE with, CK_OBJECT_HANDLE key, CK_BYTE *out,
                  CK_ULONG *len)
{
    CK_MECHANISM used = swapped(N_C_WrapKey, mechanism);
    CK_RV rv = liar.real->C_WrapKey(session, &used, with, key, out, len);

    return liar_bytes(N_C_WrapKey, rv, out, len);
}

static bool is_secret_key(const struct edited *template)
{
    CK_OBJECT_CLASS class = CKO_DATA;

    for (CK_ULONG i = 0; i < template->count; i++)
        if (template->at[i].type == CKA_CLASS &&
            template->at[i].ulValueLen == sizeof class)
            memcpy(&class, template->at[i].pValue, sizeof class);
    return class == CKO_SECRET_KEY;
}

static CK_RV unwrap(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                    CK_OBJECT_HANDLE with, CK_BYTE *wrapped, CK_ULONG len,
                    CK_ATTRIBUTE *template, CK_ULONG count, CK_OBJECT_HANDLE *object)
{
    static CK_BYTE fake[32];
    CK_MECHANISM used = swapped(N_C_UnwrapKey, mechanism);
    struct edited to = edit(N_C_UnwrapKey, template, count);
    const struct rule *rule = liar_first(LIE_OTHER, N_C_UnwrapKey);
    bool other = rule && liar.calls[N_C_UnwrapKey] > rule->n;
    bool secret = is_secret_key(&to);
    CK_RV rv;

    if (other && secret) {
        memset(fake, 0x5A, sizeof fake);
        put(&to, CKA_VALUE, fake, sizeof fake);
        return liar.real->C_CreateObject(session, to.at, to.count, object);
    }
    if (other && liar.blob_len)
        return liar.real->C_UnwrapKey(session, &used, with, liar.blob, liar.blob_len,
                                      to.at, to.count, object);
    rv = liar.real->C_UnwrapKey(session, &used, with, wrapped, len, to.at, to.count,
                                object);
    if (rv == CKR_OK && !secret && len <= sizeof liar.blob) {
        memcpy(liar.blob, wrapped, len);
        liar.blob_len = len;
    }
    return liar_handle(N_C_UnwrapKey, rv, object);
}

/* The module. */

#define WRAPPED(name, work, parameters, arguments)                                     \
    static CK_RV liar_##name parameters                                                \
    {                                                                                  \
        const struct rule *fail = before(N_##name);                                    \
        CK_RV rv = fail && !fail->did ? fail->m : work arguments;                      \
                                                                                       \
        if (fail)                                                                      \
            rv = fail->m;                                                              \
        record(N_##name, rv);                                                          \
        return rv;                                                                     \
    }
FUNCTIONS(WRAPPED)

#define LISTED(name, ...)                                                              \
    if (!liar_first(LIE_NULL, N_##name))                                               \
        liar.list.name = liar_##name;

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST **list)
{
    const struct rule *rule;

    if (!list)
        return CKR_ARGUMENTS_BAD;
    if (!liar.real)
        liar.real = kf_image_load(getenv("LIAR_MODULE"));
    if (!liar.real)
        return CKR_GENERAL_ERROR;
    liar_look_around();
    memset(&liar.list, 0, sizeof liar.list);
    liar.list.version = liar.real->version;
    if ((rule = liar_first(LIE_VERSION, 0))) {
        liar.list.version.major = (CK_BYTE)(rule->n >> 8);
        liar.list.version.minor = (CK_BYTE)rule->n;
    }
    liar.list.C_GetFunctionList = C_GetFunctionList;
    FUNCTIONS(LISTED)
    rule = liar_first(LIE_NO_LIST, 0);
    *list = rule ? NULL : &liar.list;
    return rule ? rule->m : CKR_OK;
}
