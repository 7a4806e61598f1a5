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
    {KFR_CLOSED, "open the module and a session again"},
    {KFR_MODULE, "the module does not follow PKCS#11"},
};

static const char *advice_for(CK_RV rv)
{
    for (size_t i = 0; i < sizeof advices / sizeof advices[0]; i++)
        if (advices[i].rv == rv)
            return advices[i].hint;
    return NULL;
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
