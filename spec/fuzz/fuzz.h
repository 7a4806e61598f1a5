/* SPDX-License-Identifier: MIT
 * fuzz: one entry for libFuzzer and for the replaying main of replay.c.
 */
#ifndef KF_FUZZ_H
#define KF_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* A broken promise of the decoder: not an input that was refused. */
#define FUZZ_PROMISE(condition)                                                     \
    do {                                                                            \
        if (!(condition))                                                           \
            abort();                                                                \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
