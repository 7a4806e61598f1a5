/* SPDX-License-Identifier: MIT */
#include "pkcs11/quirk.h"

#include "pkcs11/slot.h"

#include <string.h>

/* NSS softoken. Measured with 3.87; taken to be so in every 3, since what one does not do
 * is harmless here: a value too many, a refusal too many. */
#define NSS_LIBRARY "Mozilla Foundation", {3, 0}, {3, 255}
#define NSS NSS_LIBRARY, NULL
#define NSS_FIPS NSS_LIBRARY, "FC_GetFunctionList"

static const struct kf_quirk_row rows[] = {
    {KF_QUIRK_NEEDS_PUBLIC_VALUE, "needs_public_value", NSS,
     "C_UnwrapKey of an EC or DSA private key answers CKR_TEMPLATE_INCOMPLETE without the "
     "public value in CKA_NSS_DB, and believes whatever is in it"},
    {KF_QUIRK_SAME_ID_OVERWRITES, "same_id_overwrites", NSS,
     "a new token key of the class and CKA_ID of an old one overwrites it, with CKR_OK "
     "and the old handle"},
    {KF_QUIRK_KEYS_PRIVATE, "keys_private", NSS,
     "secret and private keys are private, whatever CKA_PRIVATE says of them"},
    {KF_QUIRK_NO_TOKEN_DATA, "no_token_data", NSS,
     "a data object on the token is refused with CKR_ATTRIBUTE_VALUE_INVALID"},
    {KF_QUIRK_SO_PIN_EMPTY, "so_pin_empty", NSS,
     "there is no security officer: C_Login takes CKU_SO with an empty PIN, and only "
     "before the user has one"},
    {KF_QUIRK_LABEL_FIXED, "label_fixed", NSS,
     "C_InitToken ignores the label: dbTokenDescription in the argument of C_Initialize "
     "is the label"},
    {KF_QUIRK_SERIAL_SHARED, "serial_shared", NSS,
     "the serial number of every token is 0000000000000000"},
    {KF_QUIRK_NOT_FINALIZED, "not_finalized", NSS_FIPS,
     "C_Finalize writes into memory that it has given back, when a session has made a key"},
};

static unsigned number(CK_VERSION version)
{
    return (unsigned)version.major << 8 | version.minor;
}

static bool is_about(const struct kf_quirk_row *row, const CK_INFO *info)
{
    char manufacturer[sizeof info->manufacturerID + 1];
    unsigned version = number(info->libraryVersion);

    kf_slot_text(manufacturer, info->manufacturerID, sizeof info->manufacturerID);
    return !strcmp(manufacturer, row->manufacturer) && number(row->first) <= version &&
           version <= number(row->last);
}

static bool is_used_so(const struct kf_quirk_row *row, const struct kf_module *module)
{
    const char *from = kf_module_functions_from(module);

    return !row->functions || (from && !strcmp(from, row->functions));
}

const struct kf_quirk_row *kf_quirk_next(const struct kf_module *module, size_t *at)
{
    while (*at < sizeof rows / sizeof rows[0]) {
        const struct kf_quirk_row *row = &rows[(*at)++];

        if (is_about(row, kf_module_info(module)) && is_used_so(row, module))
            return row;
    }
    return NULL;
}

bool kf_quirk_has(const struct kf_module *module, enum kf_quirk what)
{
    const struct kf_quirk_row *row;
    size_t at = 0;

    while ((row = kf_quirk_next(module, &at)))
        if (row->what == what)
            return true;
    return false;
}
