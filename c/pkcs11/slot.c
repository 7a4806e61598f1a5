/* SPDX-License-Identifier: MIT */
#include "pkcs11/slot.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

enum { LABEL = 32, LEAST_MEMORY = 256, LIST_MAX = 65536, LIST_TRIES = 5 };

/* ---- text ---- */

/* Length of the UTF-8 character at text (RFC 3629), 0 where there is none. */
static size_t utf8_length(const unsigned char *text, size_t left)
{
    static const struct {
        unsigned char low, high; /* of the first byte */
        unsigned char second_low, second_high;
        size_t len;
    } rows[] = {
        {0x00, 0x7F, 0, 0, 1},       {0xC2, 0xDF, 0x80, 0xBF, 2},
        {0xE0, 0xE0, 0xA0, 0xBF, 3}, {0xE1, 0xEC, 0x80, 0xBF, 3},
        {0xED, 0xED, 0x80, 0x9F, 3}, {0xEE, 0xEF, 0x80, 0xBF, 3},
        {0xF0, 0xF0, 0x90, 0xBF, 4}, {0xF1, 0xF3, 0x80, 0xBF, 4},
        {0xF4, 0xF4, 0x80, 0x8F, 4},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t len = rows[i].len;

        if (text[0] < rows[i].low || text[0] > rows[i].high)
            continue;
        if (len > left || (len > 1 && (text[1] < rows[i].second_low ||
                                       text[1] > rows[i].second_high)))
            return 0;
        for (size_t k = 2; k < len; k++)
            if ((text[k] & 0xC0) != 0x80)
                return 0;
        return len;
    }
    return 0;
}

/* Controls: C0, DEL, and C1 (which UTF-8 begins with C2). */
static bool is_control(const unsigned char *text, size_t len)
{
    return (len == 1 && (text[0] < 0x20 || text[0] == 0x7F)) ||
           (len == 2 && text[0] == 0xC2 && text[1] < 0xA0);
}

/* Some modules pad with NUL. */
void kf_slot_text(char *to, const unsigned char *field, size_t size)
{
    size_t len = size;
    size_t at = 0;

    while (len > 0 && (field[len - 1] == ' ' || field[len - 1] == '\0'))
        len--;
    while (at < len) {
        size_t n = utf8_length(field + at, len - at);
        bool shown = n > 0 && !is_control(field + at, n);

        if (shown)
            memcpy(to + at, field + at, n);
        else
            memset(to + at, '?', n > 0 ? n : 1);
        at += n > 0 ? n : 1;
    }
    to[len] = '\0';
}

static bool is_label(const char *label)
{
    const unsigned char *text = (const unsigned char *)label;
    size_t left = strlen(label);

    if (left > LABEL)
        return false;
    while (left > 0) {
        size_t n = utf8_length(text, left);

        if (n == 0)
            return false;
        text += n;
        left -= n;
    }
    return true;
}

/* ---- slots and tokens ---- */

static bool is_absent(CK_RV rv)
{
    return rv == CKR_TOKEN_NOT_PRESENT || rv == CKR_TOKEN_NOT_RECOGNIZED ||
           rv == CKR_DEVICE_REMOVED;
}

/* Modules that cannot tell write a number here that is none (NSS: 1). */
static void check_memory(unsigned long *left, unsigned long *total)
{
    if (*total < LEAST_MEMORY && *left <= *total)
        *left = *total = CK_UNAVAILABLE_INFORMATION;
}

static void take_token(struct kf_token *out, const CK_TOKEN_INFO *info)
{
    out->present = true;
    kf_slot_text(out->label, info->label, sizeof info->label);
    kf_slot_text(out->manufacturer, info->manufacturerID, sizeof info->manufacturerID);
    kf_slot_text(out->model, info->model, sizeof info->model);
    kf_slot_text(out->serial, info->serialNumber, sizeof info->serialNumber);
    out->flags = info->flags;
    out->min_pin = info->ulMinPinLen;
    out->max_pin = info->ulMaxPinLen;
    out->free_private = info->ulFreePrivateMemory;
    out->total_private = info->ulTotalPrivateMemory;
    out->free_public = info->ulFreePublicMemory;
    out->total_public = info->ulTotalPublicMemory;
    check_memory(&out->free_private, &out->total_private);
    check_memory(&out->free_public, &out->total_public);
}

kf_rv kf_slot_token(struct kf_module *module, CK_SLOT_ID slot, struct kf_token *out,
                    struct kf_error *err)
{
    CK_SLOT_INFO slot_info;
    CK_TOKEN_INFO info;
    CK_RV rv;

    memset(&slot_info, 0, sizeof slot_info);
    memset(&info, 0, sizeof info);
    memset(out, 0, sizeof *out);
    out->slot = slot;
    rv = KF_CALL(module, C_GetSlotInfo, slot, &slot_info);
    if (rv != CKR_OK)
        return kf_module_fail(err, rv, "C_GetSlotInfo", "slot %lu", slot);
    kf_slot_text(out->slot_description, slot_info.slotDescription,
                 sizeof slot_info.slotDescription);
    out->slot_flags = slot_info.flags;
    if (!(slot_info.flags & CKF_TOKEN_PRESENT))
        return 0;
    rv = KF_CALL(module, C_GetTokenInfo, slot, &info);
    if (is_absent(rv))
        return 0;
    if (rv != CKR_OK)
        return kf_module_fail(err, rv, "C_GetTokenInfo", "the token in slot %lu", slot);
    take_token(out, &info);
    return 0;
}

/* The list is asked for with NULL first: SoftHSM brings it up to date only then. It may
 * grow between the two calls. */
static kf_rv slot_ids(struct kf_module *module, CK_SLOT_ID **out, CK_ULONG *count,
                      struct kf_error *err)
{
    CK_SLOT_ID *ids = NULL;
    CK_RV rv = CKR_BUFFER_TOO_SMALL;

    for (int i = 0; i < LIST_TRIES && rv == CKR_BUFFER_TOO_SMALL; i++) {
        CK_ULONG room = 0;

        free(ids);
        ids = NULL;
        *count = 0;
        rv = KF_CALL(module, C_GetSlotList, CK_FALSE, NULL, &room);
        if (rv != CKR_OK)
            break;
        if (room > LIST_MAX)
            return kf_fail(err, KFR_LIMIT, "C_GetSlotList",
                           "it is given up: ask the maker of the module",
                           "the module says that it has %lu slots", room);
        ids = calloc(room + 1, sizeof *ids);
        if (!ids)
            return kf_fail(err, KFR_MEMORY, "calloc", NULL, "no memory for the slots");
        *count = room;
        rv = room ? KF_CALL(module, C_GetSlotList, CK_FALSE, ids, count) : CKR_OK;
        if (rv == CKR_OK && *count > room)
            rv = CKR_BUFFER_TOO_SMALL;
    }
    if (rv != CKR_OK) {
        free(ids);
        return kf_module_fail(err, rv, "C_GetSlotList", "%s", kf_module_path(module));
    }
    *out = ids;
    return 0;
}

kf_rv kf_slots(struct kf_module *module, struct kf_token **out, size_t *count,
               struct kf_error *err)
{
    CK_SLOT_ID *ids = NULL;
    CK_ULONG found = 0;
    struct kf_token *tokens = NULL;
    size_t kept = 0;
    kf_rv rv = slot_ids(module, &ids, &found, err);

    if (rv != 0)
        goto done;
    tokens = calloc(found + 1, sizeof *tokens);
    if (!tokens) {
        rv = kf_fail(err, KFR_MEMORY, "calloc", NULL, "no memory for the slots");
        goto done;
    }
    for (CK_ULONG i = 0; i < found; i++) {
        rv = kf_slot_token(module, ids[i], &tokens[kept], err);
        if (rv == CKR_SLOT_ID_INVALID) /* gone since */
            continue;
        if (rv != 0)
            goto done;
        kept++;
    }
    rv = 0;
    *out = tokens;
    *count = kept;
    tokens = NULL;
done:
    free(tokens);
    free(ids);
    return rv;
}

/* ---- mechanisms ---- */

kf_rv kf_slot_mechanisms(struct kf_module *module, CK_SLOT_ID slot,
                         CK_MECHANISM_TYPE **out, size_t *count, struct kf_error *err)
{
    CK_MECHANISM_TYPE *list = NULL;
    CK_ULONG room = 0;
    CK_ULONG got = 0;
    CK_RV answer;
    kf_rv rv = KFR_MEMORY;

    answer = KF_CALL(module, C_GetMechanismList, slot, NULL, &room);
    if (answer != CKR_OK)
        return kf_module_fail(err, answer, "C_GetMechanismList", "slot %lu", slot);
    if (room > LIST_MAX)
        return kf_fail(err, KFR_LIMIT, "C_GetMechanismList",
                       "it is given up: ask the maker of the module",
                       "slot %lu says that it has %lu mechanisms", slot, room);
    list = calloc(room + 1, sizeof *list);
    if (!list) {
        kf_fail(err, rv, "calloc", NULL, "no memory for the mechanisms");
        goto done;
    }
    got = room;
    answer = room ? KF_CALL(module, C_GetMechanismList, slot, list, &got) : CKR_OK;
    if (answer != CKR_OK) {
        rv = kf_module_fail(err, answer, "C_GetMechanismList", "slot %lu", slot);
        goto done;
    }
    if (got > room) {
        rv = kf_module_fail(err, KFR_MODULE, "C_GetMechanismList",
                            "slot %lu: the module wrote more mechanisms than it was "
                            "asked for",
                            slot);
        goto done;
    }
    *out = list;
    *count = got; /* p11-kit's client drops some between the calls */
    list = NULL;
    rv = 0;
done:
    free(list);
    return rv;
}

kf_rv kf_slot_mechanism(struct kf_module *module, CK_SLOT_ID slot,
                        CK_MECHANISM_TYPE type, CK_MECHANISM_INFO *out,
                        struct kf_error *err)
{
    CK_RV rv;

    memset(out, 0, sizeof *out);
    rv = KF_CALL(module, C_GetMechanismInfo, slot, type, out);
    return rv == CKR_OK ? 0
                        : kf_module_fail(err, rv, "C_GetMechanismInfo",
                                         "mechanism 0x%lX of slot %lu", type, slot);
}

/* ---- initialising ---- */

kf_rv kf_token_check_pin(const struct kf_token *token, const struct kf_secret *pin,
                         const char *whose, struct kf_error *err)
{
    unsigned long max = token->max_pin; /* 0 or unavailable: the token does not say */
    bool has_max = max != 0 && max != CK_UNAVAILABLE_INFORMATION;
    bool has_min = token->min_pin != CK_UNAVAILABLE_INFORMATION;

    if (has_max && has_min && token->min_pin > max) /* nor with such limits */
        has_max = has_min = false;

    if (!pin ||
        ((!has_max || pin->len <= max) && (!has_min || pin->len >= token->min_pin)))
        return 0;
    return kf_fail(err, KFR_ARGUMENT, NULL, "choose a PIN within the token's limits",
                   "the PIN of the %s must have %lu to %lu bytes on this token", whose,
                   has_min ? token->min_pin : 0, has_max ? max : pin->len);
}

kf_rv kf_token_check_new_pin(const struct kf_token *token, const struct kf_secret *pin,
                             const char *whose, struct kf_error *err)
{
    kf_rv rv = kf_token_check_pin(token, pin, whose, err);
    size_t at = 0;

    while (rv == 0 && pin && at < pin->len) {
        size_t n = utf8_length(pin->data + at, pin->len - at);

        if (n == 0)
            rv = kf_fail(err, KFR_ARGUMENT, NULL, "choose one that is UTF-8 text",
                         "the new PIN of the %s is no UTF-8 text", whose);
        at += n;
    }
    return rv;
}

kf_rv kf_slot_init_token(struct kf_module *module, CK_SLOT_ID slot,
                         const struct kf_secret *so_pin, const char *label,
                         struct kf_error *err)
{
    struct kf_token token;
    unsigned char padded[LABEL + 1]; /* p11-kit's client takes its strlen */
    kf_rv rv;
    CK_RV answer;

    if (!is_label(label))
        return kf_fail(err, KFR_ARGUMENT, NULL,
                       "choose a label of at most 32 bytes of UTF-8",
                       "no token takes that label");
    rv = kf_slot_token(module, slot, &token, err);
    if (rv != 0)
        return rv;
    rv = kf_token_check_new_pin(&token, so_pin, "security officer", err);
    if (rv != 0)
        return rv;
    memset(padded, ' ', LABEL);
    memcpy(padded, label, strlen(label));
    padded[LABEL] = '\0';
    answer = KF_CALL(module, C_InitToken, slot, so_pin ? so_pin->data : NULL,
                     so_pin ? so_pin->len : 0, padded);
    if (answer != CKR_OK)
        return kf_module_fail(err, answer, "C_InitToken", "token %s in slot %lu", label,
                              slot);
    kf_module_pin_forget(module, slot, CKU_SO);
    kf_module_pin_forget(module, slot, CKU_USER);
    return 0;
}
