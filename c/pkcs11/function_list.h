/* SPDX-License-Identifier: MIT
 * function_list: where the functions of a loaded library are.
 *
 * All of PKCS#11 2.x (2.1 to 2.40) has one layout of CK_FUNCTION_LIST, and the list of 3.0
 * begins with it. A 3.0 module may have no C_GetFunctionList: then its C_GetInterface is
 * asked for the interface "PKCS 11" (PKCS#11 v3.0, 5.4).
 */
#ifndef KF_PKCS11_FUNCTION_LIST_H
#define KF_PKCS11_FUNCTION_LIST_H

#include "base/error.h"

#include <p11-kit/pkcs11.h>
#include <stdbool.h>

/* image is dlopen's; path is for the error. symbol: the name of the one function that gives
 * the list, or NULL: C_GetFunctionList, else C_GetInterface. */
kf_rv kf_function_list_take(void *image, const char *path, const char *symbol,
                            CK_FUNCTION_LIST **out, struct kf_error *err);
/* Whether the list has a function, by its name ("C_WrapKey"). */
bool kf_function_list_has(const CK_FUNCTION_LIST *list, const char *name);
/* A symbol of the image itself, not of the libraries that it needs; or NULL. */
void *kf_function_list_symbol(void *image, const char *name);

#endif
