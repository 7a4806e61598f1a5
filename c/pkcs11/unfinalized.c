/* SPDX-License-Identifier: MIT */
#include "pkcs11/unfinalized.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS_MAX = 4096 };

struct kf_unfinalized {
    struct kf_unfinalized *next;
    bool in_use;
    char settings[]; /* path, functions and init_args, a line each */
};

static struct kf_unfinalized *all;

static const char *or_nothing(const char *text)
{
    return text ? text : "";
}

static struct kf_unfinalized *make(const char *path,
                                   const struct kf_module_options *options)
{
    const char *functions = or_nothing(options->functions);
    const char *init_args = or_nothing(options->init_args);
    size_t size = strlen(path) + strlen(functions) + strlen(init_args) + sizeof "\n\n";
    struct kf_unfinalized *one = calloc(1, sizeof *one + size);

    if (one)
        snprintf(one->settings, size, "%s\n%s\n%s", path, functions, init_args);
    return one;
}

struct kf_unfinalized *kf_unfinalized_take(const char *path,
                                           const struct kf_module_options *options)
{
    struct kf_unfinalized *wanted = make(path, options), *at = all;

    while (wanted && at && strcmp(at->settings, wanted->settings) != 0)
        at = at->next;
    if (!wanted || (at && at->in_use))
        at = NULL;
    free(wanted);
    if (at)
        at->in_use = true;
    return at;
}

struct kf_unfinalized *kf_unfinalized_new(const char *path,
                                          const struct kf_module_options *options)
{
    struct kf_unfinalized *one = make(path, options);

    if (one) {
        one->in_use = true;
        one->next = all;
        all = one;
    }
    return one;
}

static void end_sessions(CK_FUNCTION_LIST *functions)
{
    CK_ULONG count = 0, got, i;
    CK_SLOT_ID *slots;

    if (!functions->C_GetSlotList || !functions->C_CloseAllSessions ||
        functions->C_GetSlotList(CK_TRUE, NULL, &count) || !count || count > SLOTS_MAX)
        return;
    slots = calloc(count, sizeof *slots);
    got = count;
    if (slots && !functions->C_GetSlotList(CK_TRUE, slots, &got))
        for (i = 0; i < got && i < count; i++)
            functions->C_CloseAllSessions(slots[i]);
    free(slots);
}

void kf_unfinalized_leave(struct kf_unfinalized *left, CK_FUNCTION_LIST *functions)
{
    end_sessions(functions);
    if (left)
        left->in_use = false;
}
