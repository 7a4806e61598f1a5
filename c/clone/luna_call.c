/* SPDX-License-Identifier: MIT */
#include "clone/luna_call.h"

#include <string.h>

kf_luna_clone kf_luna_call(const struct kf_module *module)
{
    void *symbol = kf_module_symbol(module, "CA_CloneObject");
    kf_luna_clone call = NULL;

    if (symbol)
        memcpy(&call, &symbol, sizeof call);
    return call;
}

static const struct {
    const char *description;
    bool as_target; /* also as a target */
    const char *why;
} refused[] = {
    { "HA Virtual Card Slot", true,
      "stands for several HSMs at once: name one of their partitions" },
    { "Admin Token Slot", false,
      "is the HSM's own, of its Security Officer: name a partition" },
};

kf_rv kf_luna_check_slot(const struct kf_session *session, bool source,
                         struct kf_error *err)
{
    const struct kf_token *token = kf_session_token(session);

    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if ((source || refused[i].as_target) &&
            strstr(token->slot_description, refused[i].description))
            return kf_fail(err, KFR_NO_ENGINE, NULL, NULL,
                           "the slot of token \"%s\" (%s) %s", token->label,
                           refused[i].description, refused[i].why);
    return KFR_OK;
}
