/* SPDX-License-Identifier: MIT
 * template: a mechanism set inside a template, as SoftHSM keeps it and as it travels.
 *
 * SoftHSM 2.6.1 stores it as the byte string it was given, CK_ULONGs of its machine in
 * the caller's order; through C_GetAttributeValue it cannot be told from any other. Both
 * forms are equally long, so a packed template (kf_attributes_write) is changed where it
 * lies.
 */
#ifndef KF_CLONE_TEMPLATE_H
#define KF_CLONE_TEMPLATE_H

#include <stddef.h>

/* Byte strings that are mechanism sets become such, in order. */
void kf_template_to_portable(unsigned char *packed, size_t len);
/* Mechanism sets become byte strings. */
void kf_template_to_softhsm(unsigned char *packed, size_t len);

#endif
