/* SPDX-License-Identifier: MIT
 * not_pkcs11: a library that loads and is no PKCS#11 module (no C_GetFunctionList).
 */
__attribute__((visibility("default"))) int not_pkcs11(void);

int not_pkcs11(void)
{
    return 11;
}
