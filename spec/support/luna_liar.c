/* SPDX-License-Identifier: MIT
 * luna_liar: luna.so (LUNA_HONEST is its path), but its CA_CloneObject lies as LUNA_LIE
 * says when the module is loaded:
 *   nothing    clones nothing, says OK and gives the handle of no object
 *   no-handle  clones, says OK and gives the handle 0
 *   old        clones, says OK and gives a handle of before
 *   late       clones and says CKR_FUNCTION_FAILED
 *   label      clones, and the clone has another label
 */
#include <p11-kit/pkcs11.h>

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef CK_RV (*clone_call)(CK_SESSION_HANDLE, CK_SESSION_HANDLE, CK_ULONG,
                            CK_OBJECT_HANDLE, CK_OBJECT_HANDLE *);

static clone_call honest;
static CK_FUNCTION_LIST *list;
static char lie[32];

CK_RV CA_CloneObject(CK_SESSION_HANDLE target, CK_SESSION_HANDLE source, CK_ULONG type,
                     CK_OBJECT_HANDLE object, CK_OBJECT_HANDLE *clone);

EXPORT CK_RV C_GetFunctionList(CK_FUNCTION_LIST **out)
{
    const char *path = getenv("LUNA_HONEST"), *what = getenv("LUNA_LIE");
    void *image = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    void *symbol = image ? dlsym(image, "CA_CloneObject") : NULL;
    void *get = image ? dlsym(image, "C_GetFunctionList") : NULL;
    CK_C_GetFunctionList functions = NULL;

    if (!symbol || !get)
        return CKR_GENERAL_ERROR;
    memcpy(&honest, &symbol, sizeof honest);
    memcpy(&functions, &get, sizeof functions);
    memset(lie, 0, sizeof lie);
    strncpy(lie, what ? what : "", sizeof lie - 1);
    *out = NULL;
    if (functions(&list) == CKR_OK)
        *out = list;
    return *out ? CKR_OK : CKR_GENERAL_ERROR;
}

static CK_OBJECT_HANDLE first_in(CK_SESSION_HANDLE session)
{
    CK_OBJECT_HANDLE found = 0;
    CK_ULONG count = 0;

    list->C_FindObjectsInit(session, NULL, 0);
    list->C_FindObjects(session, &found, 1, &count);
    list->C_FindObjectsFinal(session);
    return count ? found : 0;
}

EXPORT CK_RV CA_CloneObject(CK_SESSION_HANDLE target, CK_SESSION_HANDLE source,
                            CK_ULONG type, CK_OBJECT_HANDLE object,
                            CK_OBJECT_HANDLE *clone)
{
    static char other[] = "another";
    CK_ATTRIBUTE label = {CKA_LABEL, other, sizeof other - 1};
    CK_OBJECT_HANDLE old = first_in(target);
    CK_RV rv;

    if (!strcmp(lie, "nothing")) {
        *clone = 987654;
        return CKR_OK;
    }
    rv = honest(target, source, type, object, clone);
    if (rv != CKR_OK)
        return rv;
    if (!strcmp(lie, "no-handle"))
        *clone = 0;
    else if (!strcmp(lie, "old"))
        *clone = old;
    else if (!strcmp(lie, "label"))
        rv = list->C_SetAttributeValue(target, *clone, &label, 1);
    else if (!strcmp(lie, "late"))
        rv = CKR_FUNCTION_FAILED;
    return rv;
}
