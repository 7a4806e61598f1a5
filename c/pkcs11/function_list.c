/* SPDX-License-Identifier: MIT */
#include "pkcs11/function_list.h"

#include "pkcs11/module.h"

#include <dlfcn.h>
#include <link.h>
#include <stddef.h>
#include <string.h>

/* PKCS#11 v3.0, 3.1; p11-kit 0.24 does not have it. */
struct interface {
    char *name;
    void *functions;
    CK_FLAGS flags;
};
typedef CK_RV (*get_interface)(unsigned char *name, CK_VERSION *version,
                               struct interface **out, CK_FLAGS flags);
typedef CK_RV (*get_list)(CK_FUNCTION_LIST **out);

/* Functions that somebody asks for. */
#define ROW(name) {#name, offsetof(CK_FUNCTION_LIST, name)}
static const struct {
    const char *name;
    size_t offset;
} rows[] = {
    ROW(C_Initialize), ROW(C_Finalize), ROW(C_GetInfo), ROW(C_GetSlotList),
    ROW(C_GetSlotInfo), ROW(C_GetTokenInfo), ROW(C_GetMechanismList),
    ROW(C_GetMechanismInfo), ROW(C_InitToken), ROW(C_InitPIN), ROW(C_OpenSession),
    ROW(C_CloseSession), ROW(C_GetSessionInfo), ROW(C_Login), ROW(C_Logout),
    ROW(C_CreateObject), ROW(C_CopyObject), ROW(C_DestroyObject), ROW(C_GetObjectSize),
    ROW(C_GetAttributeValue), ROW(C_SetAttributeValue), ROW(C_FindObjectsInit),
    ROW(C_FindObjects), ROW(C_FindObjectsFinal), ROW(C_EncryptInit), ROW(C_Encrypt),
    ROW(C_DecryptInit), ROW(C_Decrypt), ROW(C_DigestInit), ROW(C_Digest),
    ROW(C_DigestKey), ROW(C_DigestFinal), ROW(C_SignInit), ROW(C_Sign),
    ROW(C_VerifyInit), ROW(C_Verify), ROW(C_GenerateKey), ROW(C_GenerateKeyPair),
    ROW(C_WrapKey), ROW(C_UnwrapKey), ROW(C_DeriveKey), ROW(C_GenerateRandom),
};
#undef ROW

/* Its answer in *out may be NULL, or what nobody knows. */
static kf_rv from_list(void *symbol, const char *path, const char *call,
                       CK_FUNCTION_LIST **out, struct kf_error *err)
{
    get_list get;
    CK_RV rv;

    memcpy(&get, &symbol, sizeof get);
    rv = get(out);
    return rv == CKR_OK ? 0 : kf_module_fail(err, rv, call, "module %s", path);
}

static kf_rv from_interface(void *symbol, const char *path, CK_FUNCTION_LIST **out,
                            struct kf_error *err)
{
    unsigned char name[] = "PKCS 11";
    struct interface *found = NULL;
    get_interface get;
    CK_RV rv;

    memcpy(&get, &symbol, sizeof get);
    rv = get(name, NULL, &found, 0);
    if (rv != CKR_OK)
        return kf_module_fail(err, rv, "C_GetInterface", "module %s", path);
    *out = found ? found->functions : NULL;
    return 0;
}

static bool is_known(const CK_FUNCTION_LIST *list)
{
    return list && list->version.major >= 2 && list->version.major <= 3 &&
           list->C_Initialize;
}

static kf_rv no_symbol(const char *path, const char *symbol, struct kf_error *err)
{
    if (symbol)
        return kf_fail(err, KFR_MODULE, "dlsym",
                       "correct `functions` in the configuration",
                       "%s has no symbol %s to give its functions", path, symbol);
    return kf_fail(err, KFR_MODULE, "dlsym", "give the path of a PKCS#11 library",
                   "%s is a library, but no PKCS#11 module (no C_GetFunctionList, no "
                   "C_GetInterface)",
                   path);
}

kf_rv kf_function_list_take(void *image, const char *path, const char *symbol,
                            CK_FUNCTION_LIST **out, struct kf_error *err)
{
    const char *call = symbol ? symbol : "C_GetFunctionList";
    void *list = dlsym(image, call);
    void *interface = symbol ? NULL : dlsym(image, "C_GetInterface");
    CK_FUNCTION_LIST *found = NULL;
    kf_rv rv;

    if (!list && !interface)
        return no_symbol(path, symbol, err);
    rv = list ? from_list(list, path, call, &found, err) : KFR_MODULE;
    if (interface && (rv != 0 || !is_known(found))) {
        found = NULL;
        call = "C_GetInterface";
        rv = from_interface(interface, path, &found, err);
    }
    if (rv != 0)
        return rv;
    if (!is_known(found))
        return kf_fail(err, KFR_MODULE, call, "use a module for PKCS#11 2 or 3",
                       "%s gives no function list that this program knows", path);
    *out = found;
    return 0;
}

bool kf_function_list_has(const CK_FUNCTION_LIST *list, const char *name)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        void (*function)(void);

        if (strcmp(rows[i].name, name) != 0)
            continue;
        memcpy(&function, (const char *)list + rows[i].offset, sizeof function);
        return function != NULL;
    }
    return false;
}

void *kf_function_list_symbol(void *image, const char *name)
{
    struct link_map *ours = NULL;
    void *theirs = NULL; /* a link_map, too */
    void *symbol = dlsym(image, name);
    Dl_info info;

    if (!symbol || dlinfo(image, RTLD_DI_LINKMAP, &ours) != 0 ||
        !dladdr1(symbol, &info, &theirs, RTLD_DL_LINKMAP) || theirs != ours)
        return NULL;
    return symbol;
}
