/* SPDX-License-Identifier: MIT
 * The refusals of tokens in words.
 */
#include "pkcs11/module.h"

#include <stdarg.h>
#include <stdio.h>

enum { WHAT = sizeof(((struct kf_error){0}).what) };

struct advice {
    CK_RV rv;
    const char *hint;
};

#define NO_ROOM "the partition is full: remove objects, or have it made larger"
#define NOBODY "nobody acted at the PED in time: be there, and run the command again"
/* Which of six codes says it is in no public table: the same is said with each. */
#define OTHER_DOMAIN                                                                   \
    "a backup needs one cloning domain (the same red key) in both partitions: see the " \
    "vendor's own tool"

static const struct advice advices[] = {
    {CKR_HOST_MEMORY, "the module is out of memory: close something and try again"},
    {CKR_SLOT_ID_INVALID, "list the slots again: the token went away or moved"},
    {CKR_GENERAL_ERROR, "the module gives no reason; its own log may"},
    {CKR_FUNCTION_FAILED, "the module gives no reason; its own log may"},
    {CKR_ATTRIBUTE_READ_ONLY, "the token does not let this attribute be set"},
    {CKR_ATTRIBUTE_SENSITIVE, "the token never shows this value"},
    {CKR_ATTRIBUTE_VALUE_INVALID, "the token does not take one of the values"},
    {CKR_ATTRIBUTE_TYPE_INVALID, "the token does not know one of the attributes"},
    {CKR_ACTION_PROHIBITED,
     "CKA_COPYABLE, CKA_DESTROYABLE or CKA_MODIFIABLE forbids it"},
    {CKR_DEVICE_ERROR, "check the HSM and its connection"},
    {CKR_DEVICE_MEMORY, "the token is full: remove objects, or use a larger one"},
    {CKR_DEVICE_REMOVED, "the token was removed: attach it and run the command again"},
    {CKR_FUNCTION_CANCELED, "it was cancelled at the token (at the PED or PIN pad)"},
    {CKR_FUNCTION_NOT_SUPPORTED, "this module cannot do that"},
    {CKR_KEY_HANDLE_INVALID, "the key is no longer there, or the login has ended"},
    {CKR_KEY_SIZE_RANGE, "the token does not take a key of this size here"},
    {CKR_KEY_TYPE_INCONSISTENT, "a key of this type cannot be used that way"},
    {CKR_KEY_FUNCTION_NOT_PERMITTED, "the key's usage flags do not allow it"},
    {CKR_KEY_NOT_WRAPPABLE,
     "CKA_WRAP_WITH_TRUSTED is set and the wrapping key is not trusted, or the token "
     "cannot wrap keys of this type"},
    {CKR_KEY_UNEXTRACTABLE, "CKA_EXTRACTABLE is false: this key may not be wrapped"},
    {CKR_MECHANISM_INVALID, "the token, or the key's CKA_ALLOWED_MECHANISMS, lacks it"},
    {CKR_MECHANISM_PARAM_INVALID, "the token does not take these mechanism parameters"},
    {CKR_OBJECT_HANDLE_INVALID,
     "the object is no longer there, or the login has ended"},
    {CKR_OPERATION_ACTIVE, "another operation is still going on in this session"},
    {CKR_PIN_INCORRECT, "check the password; a token locks after several wrong ones"},
    {CKR_PIN_INVALID, "the token does not take a PIN with such characters"},
    {CKR_PIN_LEN_RANGE, "the PIN is too short, too long or too simple for the token"},
    {CKR_PIN_EXPIRED, "set a new PIN with the token's own tool"},
    {CKR_PIN_LOCKED, "the security officer must unlock it by setting a new PIN"},
    {CKR_SESSION_CLOSED, "the session ended: run the command again"},
    {CKR_SESSION_COUNT, "the token has no session left: close other programs"},
    {CKR_SESSION_HANDLE_INVALID, "the session ended: run the command again"},
    {CKR_SESSION_READ_ONLY, "a read-write session is needed"},
    {CKR_SESSION_EXISTS, "close all other sessions on this token first"},
    {CKR_SESSION_READ_ONLY_EXISTS, "close all read-only sessions on this token first"},
    {CKR_TEMPLATE_INCOMPLETE, "the token wants an attribute that was not given"},
    {CKR_TEMPLATE_INCONSISTENT, "the token does not take these attributes together"},
    {CKR_TOKEN_NOT_PRESENT, "there is no token in the slot: attach it"},
    {CKR_TOKEN_NOT_RECOGNIZED, "the token is not initialised, or of another kind"},
    {CKR_TOKEN_WRITE_PROTECTED, "the token is write-protected"},
    {CKR_USER_NOT_LOGGED_IN, "log in first"},
    {CKR_USER_PIN_NOT_INITIALIZED, "the security officer must set the user PIN first; a "
                                   "partition that was left half made is best deleted"},
    {CKR_USER_TYPE_INVALID, "the token has no such role"},
    {CKR_USER_ANOTHER_ALREADY_LOGGED_IN, "another role is logged in: log out first"},
    {CKR_CRYPTOKI_ALREADY_INITIALIZED,
     "something else in this process uses this module: open it as a private copy"},
    {CKR_CRYPTOKI_NOT_INITIALIZED, "the module was shut down by someone else"},
    {CKR_PIN_TOO_WEAK, "choose a stronger PIN"},
    {CKR_ARGUMENTS_BAD, "the module does not take the call as the standard has it"},
    {CKR_FUNCTION_REJECTED, "it was refused at the token (at the PED or PIN pad)"},
    {CKR_DATA_INVALID, "the token does not take these bytes for a key of this kind"},
    {CKR_DATA_LEN_RANGE, "the token does not take so many bytes here"},
    {CKR_ENCRYPTED_DATA_INVALID, "the token cannot decrypt what it was given"},
    {CKR_DOMAIN_PARAMS_INVALID, "the token does not know these domain parameters"},
    {CKR_CURVE_NOT_SUPPORTED, "the token does not know this curve"},
    {CKR_KEY_CHANGED, "the key is another by now: run the command again"},
    {CKR_KEY_INDIGESTIBLE, "the token makes no digest of such a key"},
    {CKR_KEY_NOT_NEEDED, "the module does not take the call as the standard has it"},
    {CKR_OPERATION_NOT_INITIALIZED, "the module lost the operation: run again"},
    {CKR_RANDOM_NO_RNG, "the token has no random numbers to give"},
    {CKR_USER_TOO_MANY_TYPES, "other roles are logged in: log them out first"},
    {CKR_UNWRAPPING_KEY_HANDLE_INVALID, "the login has ended: run the command again"},
    {CKR_UNWRAPPING_KEY_SIZE_RANGE, "the token unwraps with no key of this size"},
    {CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT, "the token unwraps with no key of this type"},
    {CKR_WRAPPED_KEY_INVALID, "the token cannot unwrap a key of this kind"},
    {CKR_WRAPPED_KEY_LEN_RANGE, "the token cannot unwrap a key of this length"},
    {CKR_WRAPPING_KEY_HANDLE_INVALID, "the login has ended: run the command again"},
    {CKR_WRAPPING_KEY_SIZE_RANGE, "the token wraps with no key of this size"},
    {CKR_WRAPPING_KEY_TYPE_INCONSISTENT, "the token wraps with no key of this type"},
    /* Luna, from its public pages; firmware has other codes by the same numbers. */
    {0x80000006UL, "the HSM has no partition left: remove one, or use another HSM"},
    {0x80000007UL, "the role is locked: its Security Officer has to reset it"},
    {0x80000008UL, "the partition has a cloning domain already: see the vendor's own tool"},
    {0x80000009UL, "one of the two partitions has no cloning domain: give it the domain of "
                   "the other with the vendor's own tool"},
    {0x8000000AUL, OTHER_DOMAIN},
    {0x8000000BUL, OTHER_DOMAIN},
    {0x8000000DUL, OTHER_DOMAIN},
    {0x8000000EUL, OTHER_DOMAIN},
    {0x8000000FUL, OTHER_DOMAIN},
    {0x80000014UL, OTHER_DOMAIN},
    {0x8000001AUL, "this role may not do that: log in as the Crypto Officer"},
    {0x8000001BUL, NO_ROOM},
    {0x8000001CUL, "too many failed logins of the Security Officer: see the vendor's own "
                   "tool before anything is tried again"},
    {0x8000001FUL, "check the network and the client's registration with the HSM"},
    {0x80000020UL, "the partition is disabled: its Security Officer has to enable it"},
    {0x80000021UL, NOBODY},
    {0x80000023UL, NOBODY},
    {0x80000024UL, NOBODY},
    {0x8000002AUL, NO_ROOM},
    {0x8000002CUL, NO_ROOM},
    {0x8000002DUL, "start the PED's own service, then run the command again"},
    {0x8000002EUL, "plug the PED in, then run the command again"},
    {0x80000030UL, "a policy of the HSM or of the partition forbids it"},
    {0x80000067UL, "check the challenge (the partition's password); the role locks after "
                   "several wrong ones"},
    {0x8000006EUL, "the HSM is in transport mode: recover it with the vendor's own tool"},
    {0x8000006FUL, "it is on the target already, and was neither doubled nor overwritten"},
    {0x80000076UL, "the HSM has been tampered with: see the vendor's own tool"},
    {0x8000009DUL, "this HSM does not work with that PED"},
    {0x8000009EUL, "look at what the PED says, then run the command again"},
    {0x80000112UL, "this is a mistake of keyferry: please report it"},
    {0x80001604UL, "the HSM is busy: run the command again"},
    {KFR_CLOSED, "open the module and a session again"},
    {KFR_MODULE, "the module does not follow PKCS#11"},
};

static const char *advice_for(CK_RV rv)
{
    for (size_t i = 0; i < sizeof advices / sizeof advices[0]; i++)
        if (advices[i].rv == rv)
            return advices[i].hint;
    return "the module's own documentation may say more about this code";
}

kf_rv kf_module_fail(struct kf_error *err, CK_RV rv, const char *call,
                     const char *format, ...)
{
    bool ours = (rv >> 16) == (KFR_CLOSED >> 16) && rv != KFR_CLOSED;
    kf_rv result = ours || rv == CKR_OK ? KFR_MODULE : rv;
    char what[WHAT];
    va_list args;

    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return kf_fail(err, result, call, advice_for(result), "%s", what);
}
