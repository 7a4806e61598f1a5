/* SPDX-License-Identifier: MIT
 * error: what failed, in which call, on what, and what to do about it.
 *
 * Every function that can be refused returns a kf_rv: 0, a CK_RV of PKCS#11
 * (v2.40, section 5.1) or one of the KFR_ values of names.def, which lie where the
 * standard assigns nothing (0x4B46....). The sentence is in the caller's kf_error.
 */
#ifndef KF_BASE_ERROR_H
#define KF_BASE_ERROR_H

#include <stdbool.h>
#include <stddef.h>

typedef unsigned long kf_rv;

#define KFR_OK 0UL
#define KFR_DOMAIN_MISMATCH 0x4B460001UL /* sealed under another cloning domain */
#define KFR_DAMAGED 0x4B460002UL         /* not the bytes that were sealed */
#define KFR_NEWER_VERSION 0x4B460003UL   /* sealed by a keyferry newer than this one */
#define KFR_SYSTEM 0x4B460004UL          /* a system call failed: errno is in err->sys */
#define KFR_MEMORY 0x4B460005UL          /* no memory, or the secure heap is full */
#define KFR_MODULE 0x4B460006UL          /* not loadable, or not a PKCS#11 module */
#define KFR_CLOSED 0x4B460007UL          /* the module or session has been closed */
#define KFR_NO_ENGINE 0x4B460008UL       /* the engine cannot work this end */
#define KFR_STORE 0x4B460009UL           /* a token store is not as it must be */
#define KFR_NOT_CLONABLE 0x4B46000AUL    /* a flag or the type of the object forbids it */
#define KFR_DIFFERS 0x4B46000BUL         /* the clone read back is not the original */
#define KFR_VANISHED 0x4B46000CUL        /* the object went away during the run */
#define KFR_CONFLICT 0x4B46000DUL        /* cannot tell whether it is already there */
#define KFR_INTERRUPTED 0x4B46000EUL     /* the user pressed Ctrl-C */
#define KFR_ARGUMENT 0x4B46000FUL        /* a value that no token would take */
#define KFR_NOT_FOUND 0x4B460010UL       /* no such thing */
#define KFR_AMBIGUOUS 0x4B460011UL       /* more than one such thing */
#define KFR_EXISTS 0x4B460012UL          /* there already */
#define KFR_REFUSED 0x4B460013UL         /* the user, or a rule of ours, said no */
#define KFR_LIMIT 0x4B460014UL           /* larger than this program takes */
#define KFR_CRYPTO 0x4B460015UL          /* OpenSSL refused an operation */
#define KFR_TRUNCATED 0x4B460016UL       /* a stream that ends before its end */
#define KFR_SHARE 0x4B460017UL           /* a share of a secret that does not fit */

struct kf_error {
    kf_rv rv;
    int sys;        /* errno for KFR_SYSTEM, else 0 */
    char call[40];  /* "C_Login", "rename"; may be empty */
    char what[400]; /* what failed, on which object, token or file */
    char hint[400]; /* what to do; may be empty */
};

/* Fills err (which may be NULL) and returns rv, so that a refusal is one line:
 * return kf_fail(err, KFR_STORE, "read", "restore it", "%s is torn", path); */
kf_rv kf_fail(struct kf_error *err, kf_rv rv, const char *call, const char *hint,
              const char *format, ...) __attribute__((format(printf, 5, 6)));

/* The same for a system call: takes errno, appends its text, returns KFR_SYSTEM. */
kf_rv kf_fail_errno(struct kf_error *err, const char *call, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Whether rv is one of an array of codes. */
#define KF_AMONG(rv, codes) kf_among((rv), (codes), sizeof(codes) / sizeof((codes)[0]))
bool kf_among(kf_rv rv, const kf_rv *codes, size_t count);

#endif
