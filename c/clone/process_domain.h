/* SPDX-License-Identifier: MIT
 * process_domain: domains whose keys are random and never leave this process.
 *
 * One is new each time, for what is sealed or compared within one run. The other stands
 * for the domain that an HSM keeps itself (Luna): no program knows its keys, and it
 * tells no check value, so which domain a partition has shows only when the HSM clones.
 * What is sealed under it is a reference, good in this process.
 */
#ifndef KF_CLONE_PROCESS_DOMAIN_H
#define KF_CLONE_PROCESS_DOMAIN_H

#include "clone/domain.h"

kf_rv kf_domain_random(struct kf_domain **out, struct kf_error *err);

/* The same one for all partitions whose HSM keeps their domains. */
kf_rv kf_domain_of_hardware(struct kf_domain **out, struct kf_error *err);
bool kf_domain_in_hardware(const struct kf_domain *domain);

#endif
