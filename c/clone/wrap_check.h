/* SPDX-License-Identifier: MIT
 * wrap_check: reads a clone back. Modules answer OK and store something else.
 */
#ifndef KF_CLONE_WRAP_CHECK_H
#define KF_CLONE_WRAP_CHECK_H

#include "clone/engine.h"
#include "clone/wrap_item.h"

/* Compares an object with what it was to be: key material as far as the module
 * lets it be seen, and every attribute. What differs is corrected, or named in lost, or
 * is KFR_DIFFERS: other key material, or more rights than the original has. `aim` is
 * what the object was made for. */
kf_rv kf_wrap_read_back(struct kf_wrap_format *format, const struct kf_wrap_item *item,
                        CK_OBJECT_HANDLE object, enum kf_wrap_aim aim,
                        char lost[KF_LOST_MAX], struct kf_error *err);

/* Adds the name of an attribute to a list of what was lost, once. */
void kf_wrap_lose(char lost[KF_LOST_MAX], uint64_t type);
/* Big integers come with or without leading zeros (PKCS#11 v2.40, 2: unsigned, most
 * significant byte first): compared without. */
bool kf_wrap_same_number(const struct kf_attribute *a, const struct kf_attribute *b);

#endif
