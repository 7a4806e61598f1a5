/* SPDX-License-Identifier: MIT
 * slot: where tokens are, what they say of themselves, and how they are initialised.
 */
#ifndef KF_PKCS11_SLOT_H
#define KF_PKCS11_SLOT_H

#include "base/error.h"
#include "base/secret.h"
#include "pkcs11/module.h"

#include <stdint.h>

/* A token's description, its blank padded fields (which need not be text) cut and
 * NUL-terminated. */
struct kf_token {
    CK_SLOT_ID slot;
    char slot_description[65];
    CK_FLAGS slot_flags;
    bool present;
    char label[33];
    char manufacturer[33];
    char model[17];
    char serial[17];
    CK_FLAGS flags;
    unsigned long min_pin, max_pin;
    unsigned long free_private, total_private; /* CK_UNAVAILABLE_INFORMATION: unknown */
    unsigned long free_public, total_public;
};

/* All slots, also those without a token (present = false). The caller frees *out with
 * free(). The list is refreshed first (C_GetSlotList with NULL, PKCS#11 5.5). */
kf_rv kf_slots(struct kf_module *module, struct kf_token **out, size_t *count,
               struct kf_error *err);
kf_rv kf_slot_token(struct kf_module *module, CK_SLOT_ID slot, struct kf_token *out,
                    struct kf_error *err);

/* Mechanism types of a slot; the caller frees *out with free(). */
kf_rv kf_slot_mechanisms(struct kf_module *module, CK_SLOT_ID slot,
                         CK_MECHANISM_TYPE **out, size_t *count, struct kf_error *err);
/* The info is zeroed first: SoftHSM ORs flags into it. */
kf_rv kf_slot_mechanism(struct kf_module *module, CK_SLOT_ID slot,
                        CK_MECHANISM_TYPE type, CK_MECHANISM_INFO *out,
                        struct kf_error *err);

/* A blank padded field as text: size + 1 bytes at `to`, '?' for controls and for what is
 * no UTF-8. */
void kf_slot_text(char *to, const unsigned char *field, size_t size);

/* KFR_ARGUMENT when a PIN is outside the token's limits; `whose` is "security officer" or
 * "user". NULL (protected path) is fine. */
kf_rv kf_token_check_pin(const struct kf_token *token, const struct kf_secret *pin,
                         const char *whose, struct kf_error *err);
/* The same for a PIN that is to be set, which has to be UTF-8, too (PKCS#11: it is of
 * CK_UTF8CHAR; one that somebody else set may be anything). */
kf_rv kf_token_check_new_pin(const struct kf_token *token, const struct kf_secret *pin,
                             const char *whose, struct kf_error *err);

/* C_InitToken: erases the token in that slot. so_pin NULL: protected path. */
kf_rv kf_slot_init_token(struct kf_module *module, CK_SLOT_ID slot,
                         const struct kf_secret *so_pin, const char *label,
                         struct kf_error *err);

#endif
