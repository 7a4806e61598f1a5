/* SPDX-License-Identifier: MIT
 * interface: a module of PKCS#11 3.0 that has no C_GetFunctionList, only C_GetInterface; it
 * gives the functions of the module that INTERFACE_MODULE names, in a list of version 3.0.
 */
#include <p11-kit/pkcs11.h>

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

struct interface {
    char *name;
    void *functions;
    CK_FLAGS flags;
};

__attribute__((visibility("default"))) CK_RV C_GetInterface(unsigned char *name,
                                                            CK_VERSION *version,
                                                            struct interface **out,
                                                            CK_FLAGS flags);

static char standard[] = "PKCS 11";
static CK_FUNCTION_LIST list;
static struct interface only = {standard, &list, 0};

CK_RV C_GetInterface(unsigned char *name, CK_VERSION *version, struct interface **out,
                     CK_FLAGS flags)
{
    const char *path = getenv("INTERFACE_MODULE");
    void *image = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    void *symbol = image ? dlsym(image, "C_GetFunctionList") : NULL;
    CK_C_GetFunctionList get;
    CK_FUNCTION_LIST *real = NULL;

    memcpy(&get, &symbol, sizeof get);
    if (!get || get(&real) != CKR_OK)
        return CKR_GENERAL_ERROR;
    if (!name || strcmp((const char *)name, standard) != 0 || version || flags)
        return CKR_FUNCTION_FAILED;
    list = *real;
    list.version.major = 3;
    list.version.minor = 0;
    *out = &only;
    return CKR_OK;
}
