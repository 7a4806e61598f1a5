/* SPDX-License-Identifier: MIT
 * image: a PKCS#11 library loaded as its own private copy, so that SoftHSM (a
 * singleton) can be in a process more than once. Independent of c/pkcs11/module on
 * purpose.
 */
#ifndef KF_SPEC_IMAGE_H
#define KF_SPEC_IMAGE_H

#include <p11-kit/pkcs11.h>

/* path NULL: the places where distributions put SoftHSM. The copy stays loaded until
 * the process ends. NULL: says why on standard error. */
CK_FUNCTION_LIST *kf_image_load(const char *path);

#endif
