/* SPDX-License-Identifier: MIT */
#include "token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SLOTS_MAX = 64 };

void kf_token_check(CK_RV rv, const char *call)
{
    if (rv == CKR_OK)
        return;
    fprintf(stderr, "%s: 0x%lX\n", call, rv);
    exit(1);
}

double kf_token_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void kf_token_read_pin(char pin[256])
{
    if (!fgets(pin, 256, stdin))
        *pin = '\0';
    pin[strcspn(pin, "\n")] = '\0';
}

static int is_wanted(const CK_TOKEN_INFO *info, const char *label)
{
    char padded[33];

    if (!(info->flags & CKF_TOKEN_INITIALIZED))
        return 0;
    snprintf(padded, sizeof padded, "%-32s", label ? label : "");
    return !label || !memcmp(info->label, padded, sizeof info->label);
}

static CK_SLOT_ID find_slot(CK_FUNCTION_LIST *p11, const char *label)
{
    CK_SLOT_ID slots[SLOTS_MAX];
    CK_ULONG count = SLOTS_MAX;
    CK_TOKEN_INFO info;

    kf_token_check(p11->C_GetSlotList(CK_TRUE, slots, &count), "C_GetSlotList");
    for (CK_ULONG i = 0; i < count; i++)
        if (p11->C_GetTokenInfo(slots[i], &info) == CKR_OK && is_wanted(&info, label))
            return slots[i];
    fprintf(stderr, "no token %s\n", label ? label : "");
    exit(1);
}

void kf_token_open(struct token *token, const char *conf, const char *label, char *pin)
{
    CK_SLOT_ID slot;

    token->p11 = kf_image_load(getenv("KEYFERRY_SOFTHSM"));
    if (!token->p11)
        exit(1);
    setenv("SOFTHSM2_CONF", conf, 1);
    kf_token_check(token->p11->C_Initialize(NULL), "C_Initialize");
    slot = find_slot(token->p11, label);
    kf_token_check(token->p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION,
                                             NULL, NULL, &token->session),
                   "C_OpenSession");
    kf_token_check(
        token->p11->C_Login(token->session, CKU_USER, (CK_BYTE *)pin, strlen(pin)),
        "C_Login");
}

void kf_token_close(struct token *token)
{
    kf_token_check(token->p11->C_Finalize(NULL), "C_Finalize");
}
