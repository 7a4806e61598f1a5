/* SPDX-License-Identifier: MIT
 * softhsm_plan: what an arriving object will be in a SoftHSM token, attribute by
 * attribute, in the clear.
 *
 * A sealed object that holds everything (KF_SEALED_EXACT) is taken as it is. From one
 * of another engine the object is made as SoftHSM would have made it; where it does not
 * say, the clone gets no right. Changes may take rights away and never add any.
 */
#ifndef KF_CLONE_SOFTHSM_PLAN_H
#define KF_CLONE_SOFTHSM_PLAN_H

#include "base/error.h"
#include "clone/change.h"
#include "clone/domain.h"
#include "clone/sealed.h"
#include "clone/softhsm_class.h"
#include "pkcs11/attribute.h"

enum { KF_PLAN_TEMPLATES = 3 }; /* for wrapping, unwrapping, deriving */

struct kf_plan {
    struct kf_attribute at[KF_SEALED_ATTRIBUTES_MAX];
    struct kf_attributes set; /* set.at is at; values are the sealed object's, or: */
    struct kf_attributes *material;
    unsigned char made[KF_ROWS_MAX][8];
    size_t made_count;
    struct kf_writer point; /* an EC point in its OCTET STRING */
    struct kf_writer templates[KF_PLAN_TEMPLATES]; /* as SoftHSM would have them */
    size_t template_count;
};

/* KFR_NOT_CLONABLE, KFR_REFUSED (a change that gives more), KFR_DAMAGED. Sealed object
 * and changes outlive the plan. Clear it on failure, too. */
kf_rv kf_plan_make(struct kf_plan *plan, const struct kf_sealed *sealed,
                   const struct kf_changes *changes, const struct kf_domain *domain,
                   struct kf_error *err);
void kf_plan_clear(struct kf_plan *plan);

#endif
