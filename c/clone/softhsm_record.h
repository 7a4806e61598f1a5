/* SPDX-License-Identifier: MIT
 * softhsm_record: the bytes of an object file of SoftHSM's "file" store.
 *
 * A u64 generation, then records: type u64, kind u64, value, all big-endian
 * (object_store/ObjectFile.cpp, File.cpp). Values are as they lie there, encrypted or
 * not. SoftHSM reads leniently; here a byte too many or too few is KFR_STORE.
 */
#ifndef KF_CLONE_SOFTHSM_RECORD_H
#define KF_CLONE_SOFTHSM_RECORD_H

#include "base/error.h"
#include "base/wire.h"
#include "pkcs11/attribute.h"

#include <stddef.h>

enum { KF_STORE_RECORDS_MAX = 256, KF_STORE_FILE_MAX = 64 * 1024 * 1024 };

/* Parses in place: `bytes` are rewritten to the form of kf_attribute (booleans 0 or 1,
 * mechanisms sorted, templates as kf_attributes_write has them) and at[].value points
 * into them. `at` has room for KF_STORE_RECORDS_MAX, comes back ascending by type; of
 * records of one type the last counts, as it does for SoftHSM. Allocates nothing. */
kf_rv kf_store_records(unsigned char *bytes, size_t len, struct kf_attribute *at,
                       size_t *count, struct kf_error *err);

/* The same from bytes that stay as they are, into a secret set of its own. */
kf_rv kf_store_parse(const void *bytes, size_t len, struct kf_attributes **out,
                     struct kf_error *err);

/* The bytes of an object file with generation 1. KFR_ARGUMENT: no store could hold
 * it. */
kf_rv kf_store_encode(const struct kf_attributes *set, struct kf_writer *out,
                      struct kf_error *err);

#endif
